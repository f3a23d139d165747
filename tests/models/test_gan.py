"""The generative adversarial network: its losses, and two players who do not touch each other's weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ancestral.configs import DataConfig, DataDescription, GANConfig, TrainingConfig
from ancestral.data.dataset import Dataset, Rows
from ancestral.data.loading import assemble
from ancestral.data.raw import Raw
from ancestral.errors import AncestralError
from ancestral.models import GAN, Batch
from ancestral.models.contract import CanEncode, CanLogProb, CanSample, CanValidate
from ancestral.objectives import discriminator_loss, generator_loss
from ancestral.training import Training

IMAGES = DataDescription((1, 5, 7), "levels", 256)
TABLE = DataDescription((7,), "continuous", 0)


def small(data: DataDescription = IMAGES, **settings: Any) -> GAN:
    torch.manual_seed(0)
    return GAN(GANConfig(latent=3, **{"hidden": (11,), "discriminator_hidden": (5,), "pieces": 2, **settings}), data)


def dataset(n: int = 53) -> Dataset:
    x = np.random.default_rng(1).integers(0, 256, (n, 1, 5, 7), dtype=np.uint8)
    return assemble("images", Raw(Rows(x)), DataConfig())


def test_losses_are_those_of_the_paper_written_with_a_sigmoid() -> None:
    real = torch.linspace(-7, 5, 13, dtype=torch.float64)
    fake = torch.linspace(4, -8, 13, dtype=torch.float64)
    d_real, d_fake = torch.sigmoid(real), torch.sigmoid(fake)
    torch.testing.assert_close(discriminator_loss(real, fake), -torch.log(d_real) - torch.log(1 - d_fake))
    torch.testing.assert_close(generator_loss(fake), -torch.log(d_fake))
    torch.testing.assert_close(generator_loss(fake, "minimax"), torch.log(1 - d_fake))


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_losses_and_their_gradients_are_finite_however_sure_the_discriminator_is(logit: float) -> None:
    for loss in (
        lambda value: discriminator_loss(value, value),
        generator_loss,
        lambda value: generator_loss(value, "minimax"),
    ):
        value = torch.tensor([logit], requires_grad=True)
        found = loss(value).sum()
        found.backward()
        assert math.isfinite(found.item())
        assert value.grad is not None
        assert bool(torch.isfinite(value.grad).all())


def test_both_generator_losses_push_the_same_way() -> None:
    gradients = []
    for kind in ("non-saturating", "minimax"):
        fake = torch.linspace(-5, 5, 11, dtype=torch.float64, requires_grad=True)
        generator_loss(fake, kind).sum().backward()  # type: ignore[arg-type]
        gradients.append(fake.grad)
    assert all(bool((gradient < 0).all()) for gradient in gradients if gradient is not None)


def test_at_the_optimum_the_discriminator_says_one_half_and_loses_two_log_two() -> None:
    zero = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    loss = discriminator_loss(zero, zero)
    torch.testing.assert_close(loss, torch.full((3,), 2 * math.log(2), dtype=torch.float64))
    loss.sum().backward()
    assert zero.grad is not None
    torch.testing.assert_close(zero.grad, torch.zeros(3, dtype=torch.float64))


def test_an_unknown_generator_loss_is_answered_with_the_nearest() -> None:
    with pytest.raises(AncestralError, match="minimax"):
        generator_loss(torch.zeros(1), "minmax")  # type: ignore[arg-type]


def weights(network: torch.nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("mover", ["discriminator", "generator"])
def test_a_players_step_leaves_the_other_bit_identical_and_without_gradient(mover: str) -> None:
    model = small()
    training = Training(model, dataset(), TrainingConfig(optimizer="sgd", learning_rate=0.3, momentum=0.5))
    keep = [mover == player.name for player in training.players]
    training.players = [player for player, kept in zip(training.players, keep, strict=True) if kept]
    training.optimizers = [optimizer for optimizer, kept in zip(training.optimizers, keep, strict=True) if kept]
    other = model.generator if mover == "discriminator" else model.discriminator
    moved = model.generator if mover == "generator" else model.discriminator
    before, start = weights(other), weights(moved)
    for player in training.players:  # without the loop's clearing of gradients
        player.loss(Batch(torch.rand(11, 1, 5, 7)))["loss"].backward()
    if mover == "discriminator":
        assert all(parameter.grad is None for parameter in other.parameters())
    training._step(Batch(torch.rand(11, 1, 5, 7)))
    assert same(before, weights(other))
    assert not same(start, weights(moved))


def test_in_the_game_no_player_leaves_a_gradient_with_the_other() -> None:
    model = small()
    training = Training(model, dataset(), TrainingConfig(optimizer="sgd", learning_rate=0.3))
    seen = []
    for i, optimizer in enumerate(training.optimizers):
        mine = list(training.players[i].parameters)
        others = [p for player in training.players if player is not training.players[i] for p in player.parameters]
        optimizer.register_step_pre_hook(
            lambda *_, mine=mine, others=others: seen.append(
                (all(p.grad is not None for p in mine), all(p.grad is None for p in others))
            )
        )
    for _ in range(3):
        training._step(Batch(torch.rand(11, 1, 5, 7)))
    assert seen == [(True, True)] * 6


def test_the_generator_moves_at_every_third_batch_when_the_discriminator_makes_three_steps() -> None:
    model = small(discriminator_steps=3)
    training = Training(model, dataset(), TrainingConfig(optimizer="sgd", learning_rate=0.3))
    moved = []
    for _ in range(7):
        generator, discriminator = weights(model.generator), weights(model.discriminator)
        training._step(Batch(torch.rand(11, 1, 5, 7)))
        training.progress.step += 1
        assert not same(discriminator, weights(model.discriminator))
        moved.append(not same(generator, weights(model.generator)))
    assert moved == [True, False, False, True, False, False, True]


def test_the_discriminator_has_a_learning_rate_of_its_own() -> None:
    model = small(discriminator_learning_rate=0.05)
    config = TrainingConfig(optimizer="sgd", learning_rate=0.2, schedule="constant")
    training = Training(model, dataset(), config)
    training._step(Batch(torch.rand(11, 1, 5, 7)))
    rates = {p.name: o.param_groups[0]["lr"] for p, o in zip(training.players, training.optimizers, strict=True)}
    assert rates == {"discriminator": 0.05, "generator": 0.2}


def test_pixels_lie_in_their_range_and_tables_are_unbounded() -> None:
    images, table = small(), small(TABLE)
    with torch.no_grad():
        for parameter in [*images.generator.parameters(), *table.generator.parameters()]:
            parameter.mul_(100)
    assert 0 <= images.sample(101).min() <= images.sample(101).max() <= 1
    assert images.sample(11).shape == images.sample(11, mean=True).shape == (11, 1, 5, 7)
    assert table.sample(101).min() < 0
    assert table.sample(101).max() > 1
    assert table.decode(table.noise(5)).shape == (5, 7)
    with pytest.raises(AncestralError, match="at least one sample"):
        table.sample(0)


def test_the_noise_is_uniform_between_minus_one_and_one() -> None:
    noise = small().noise(10_007)
    assert noise.shape == (10_007, 3)
    assert -1 <= noise.min() <= noise.max() <= 1
    torch.testing.assert_close(noise.mean(0), torch.zeros(3), atol=0.03, rtol=0)
    torch.testing.assert_close(noise.var(0), torch.full((3,), 1 / 3), atol=0.03, rtol=0)


@pytest.mark.parametrize("data", [IMAGES, TABLE])
def test_the_generator_starts_at_the_marginals_of_the_data(data: DataDescription) -> None:
    model = small(data)
    x = 0.1 + 0.8 * torch.rand(101, *data.shape)
    model.initialize(x)
    middle = model.decode(torch.zeros(1, 3))[0]  # the ranges of the other weights are small, their biases zero
    torch.testing.assert_close(middle, x.mean(0), atol=1e-4, rtol=0)


def test_a_gan_samples_and_claims_no_density() -> None:
    model = small()
    assert isinstance(model, CanSample)
    assert not isinstance(model, CanLogProb | CanEncode | CanValidate)


def test_dropout_acts_in_training_only() -> None:
    model, x = small(dropout=0.9, input_dropout=0.9), torch.rand(11, 1, 5, 7)
    with torch.no_grad():
        assert not torch.equal(model.discriminator(x), model.discriminator(x))
        model.eval()
        assert torch.equal(model.discriminator(x), model.discriminator(x))
        assert model.discriminator(x).shape == (11,)


def test_networks_without_hidden_layers_are_linear() -> None:
    model = small(hidden=(), discriminator_hidden=(), pieces=5)
    assert model.sample(3).shape == (3, 1, 5, 7)

"""Adversarial losses, from logits: equal to their probabilities' logarithms, and safe where those are not."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from ancestral import AncestralError
from ancestral.objectives import discriminator_loss, generator_loss


def test_from_logits_and_from_probabilities_are_the_same_losses() -> None:
    real, fake = torch.randn(7, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    D_x, D_Gz = torch.sigmoid(real), torch.sigmoid(fake)
    torch.testing.assert_close(discriminator_loss(real, fake), -torch.log(D_x) - torch.log(1 - D_Gz))
    torch.testing.assert_close(generator_loss(fake, "minimax"), torch.log(1 - D_Gz))
    torch.testing.assert_close(generator_loss(fake, "non-saturating"), -torch.log(D_Gz))
    assert torch.equal(generator_loss(fake), generator_loss(fake, "non-saturating"))


def test_minimax_is_a_game_of_one_value() -> None:
    fake = torch.randn(7, dtype=torch.float64)
    indifferent = torch.full((7,), 100.0, dtype=torch.float64)  # real data cost the discriminator nothing
    torch.testing.assert_close(generator_loss(fake, "minimax"), -discriminator_loss(indifferent, fake))


def test_a_discriminator_that_cannot_tell_loses_two_bits() -> None:
    assert discriminator_loss(torch.zeros(1), torch.zeros(1)).item() == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_losses_and_gradients_are_finite_for_extreme_logits(logit: float) -> None:
    for loss in (
        lambda fake: generator_loss(fake, "minimax"),
        lambda fake: generator_loss(fake, "non-saturating"),
        lambda fake: discriminator_loss(-fake, fake),
    ):
        fake = torch.tensor([logit], requires_grad=True)
        value = loss(fake)
        assert value.isfinite().all()
        assert torch.autograd.grad(value.sum(), fake)[0].isfinite().all()


def test_only_the_non_saturating_loss_keeps_a_gradient_where_the_discriminator_wins() -> None:
    gradients: dict[str, float] = {}
    kinds: list[Any] = ["minimax", "non-saturating"]
    for kind in kinds:
        fake = torch.tensor([-20.0], requires_grad=True)
        gradients[kind] = torch.autograd.grad(generator_loss(fake, kind).sum(), fake)[0].item()
    assert gradients["minimax"] == pytest.approx(0.0, abs=1e-6)
    assert gradients["non-saturating"] == pytest.approx(-1.0)


def test_an_unknown_loss_is_answered_with_the_nearest() -> None:
    kind: Any = "non_saturating"
    with pytest.raises(AncestralError, match=r"no generator loss 'non_saturating'. Did you mean 'non-saturating'\?"):
        generator_loss(torch.zeros(1), kind)

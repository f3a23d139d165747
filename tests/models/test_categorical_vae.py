"""The variational autoencoder with discrete latent variables."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ancestral
from ancestral import AncestralError
from ancestral.configs import CategoricalVAEConfig, DataDescription
from ancestral.models import Batch, categorical_variational_autoencoder
from ancestral.models.contract import CAPABILITIES


def small(likelihood: str = "bernoulli", **settings: Any) -> tuple[Any, Tensor]:
    """Three variables of five classes, data of seven bits (or numbers), in double precision."""
    sizes = {"latents": 3, "classes": 5, "encoder_hidden": (11,), "decoder_hidden": (13,), "likelihood": likelihood}
    kind: Any = "binary" if likelihood == "bernoulli" else "continuous"
    torch.manual_seed(0)
    config = CategoricalVAEConfig(**{**sizes, **settings})
    description = DataDescription((7,), kind, 2 if kind == "binary" else 0)
    model = categorical_variational_autoencoder(config, description).double()
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape, dtype=torch.float64))
    x = torch.randn(17, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return model, (x > 0).double() if kind == "binary" else x


def values(classes: int) -> list[Tensor]:
    """Every value of three variables."""
    if classes == 2:
        return list(torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)), dtype=torch.float64))
    return list(F.one_hot(torch.tensor(list(itertools.product(range(classes), repeat=3))), classes).double())


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("prior", ["uniform", "learned"])
def test_the_bound_is_that_of_a_sum_by_hand(classes: int, prior: str) -> None:
    model, x = small(estimator="enumerate", classes=classes, prior=prior)
    logits = model.q.conditionals["z"].network(x)
    prior_logits = model.p.conditionals["z"].logits
    expected, total = torch.zeros(17, dtype=torch.float64), torch.zeros(17, dtype=torch.float64)
    for z in values(classes):
        zs = z.expand(17, *z.shape)

        def log_mass(of: Tensor, zs: Tensor = zs) -> Tensor:
            part = zs * of - F.softplus(of) if classes == 2 else zs * of.log_softmax(-1)
            return part.flatten(1).sum(-1)

        output = model.p.conditionals["x"].network(zs)
        log_q, log_p = log_mass(logits), log_mass(prior_logits) + (x * output - F.softplus(output)).sum(-1)
        expected += log_q.exp() * (log_p - log_q)
        total += log_mass(prior_logits).exp()
    torch.testing.assert_close(total, torch.ones_like(total))
    scalars = model.loss(Batch(x))
    torch.testing.assert_close(scalars["loss"], -expected.mean(), atol=1e-12, rtol=0)
    torch.testing.assert_close(scalars["loss"], scalars["reconstruction"] + scalars["kl"], atol=1e-12, rtol=0)


@pytest.mark.parametrize("classes", [2, 5])
def test_a_uniform_prior_is_no_parameter_and_a_learned_one_is(classes: int) -> None:
    uniform, _ = small(classes=classes)
    learned, _ = small(classes=classes, prior="learned")
    assert "z" not in uniform.p.networks or not list(uniform.p.networks["z"].parameters())
    (logits,) = learned.p.networks["z"].parameters()
    assert logits.numel() == (3 if classes == 2 else 15)
    z = uniform.priors()["z"]
    drawn = z.sample(torch.Size([5])).squeeze(1)
    log_mass = torch.full((5,), -3 * math.log(classes), dtype=torch.float64)
    torch.testing.assert_close(z.log_prob(drawn[:, None]).squeeze(1).double(), log_mass)


def test_the_divergence_is_exact_whatever_is_drawn() -> None:
    for estimator in ("gumbel-softmax", "muprop", "straight-through"):
        model, x = small(estimator=estimator)
        q = model.q.conditionals["z"].network(x).softmax(-1)
        expected = (q * (q * 5).log()).sum((-1, -2)).mean()
        for _ in range(2):
            torch.testing.assert_close(model.loss(Batch(x))["kl"], expected)


def test_two_classes_are_bits() -> None:
    model, x = small(classes=2)
    drawn = model.encode(x, sample=True)
    assert isinstance(drawn, Tensor)
    assert drawn.shape == (17, 3)
    assert set(drawn.flatten().tolist()) == {0.0, 1.0}


def test_layers_and_activations_are_those_of_the_settings() -> None:
    model, _ = small(encoder_hidden=(), decoder_hidden=(11, 19), activation="tanh")
    encoder, decoder = model.q.networks["z"].network.layers, model.p.networks["x"].network.layers
    assert [(m.in_features, m.out_features) for m in encoder] == [(7, 15)]
    assert [m.out_features for m in decoder if isinstance(m, nn.Linear)] == [11, 19, 7]
    assert [isinstance(m, nn.Tanh) for m in decoder if not isinstance(m, nn.Linear)] == [True, True]


@pytest.mark.parametrize("likelihood", ["bernoulli", "normal"])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_model_has_every_capability(likelihood: str, classes: int) -> None:
    model, x = small(likelihood, classes=classes)
    assert all(isinstance(model, capability) for capability in CAPABILITIES.values())
    z = model.encode(x)
    assert isinstance(z, Tensor)
    assert z.shape == ((17, 3) if classes == 2 else (17, 3, 5))
    assert model.decode(z).shape == model.reconstruct(x).shape == x.shape
    assert model.sample(5).shape == model.sample(5, mean=True).shape == (5, 7)
    assert bool(model.log_prob(x, particles=5).isfinite().all())


def test_settings_reach_the_model() -> None:
    model, _ = small(bound="iwae", particles=7)
    assert (model.objective, model.particles, model.analytic_kl) == ("iwae", 7, ())
    model, _ = small(kl_warmup=3.0, particles=2)
    assert (model.objective, model.particles, model.kl_warmup, model.analytic_kl) == ("elbo", 2, 3.0, ("z",))
    assert small(estimator="nvil")[0].analytic_kl == ()  # in closed form it would outweigh a signal that is normalized


def test_a_likelihood_that_was_not_resolved_is_an_error() -> None:
    with pytest.raises(AncestralError, match="resolve"):
        categorical_variational_autoencoder(CategoricalVAEConfig(), DataDescription((7,), "continuous"))


@pytest.mark.parametrize("classes", [2, 3])
def test_a_model_finds_the_groups_of_the_data_is_loaded_and_evaluated(tmp_path: Path, classes: int) -> None:
    """Of two groups of rows, in which bits are on with probability 0.9 or 0.1: their entropy is known."""
    random = np.random.default_rng(3)
    on = np.where(random.integers(0, 2, (401, 1)) == (np.arange(11) < 5), 0.9, 0.1)
    np.save(tmp_path / "x.npy", (random.random((401, 11)) < on).astype(np.uint8))
    run = ancestral.train(
        "categorical-vae", tmp_path / "x.npy", out=tmp_path / "run", latents=3, classes=classes, encoder_hidden=(7,),
        decoder_hidden=(5,), activation="tanh", estimator="enumerate", epochs=7, learning_rate=0.05, batch_size=23,
    )  # fmt: skip
    entropy = math.log(2) - 11 * (0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert [row["validation loss"] for row in run.metrics if "validation loss" in row][-1] == pytest.approx(
        entropy, abs=0.6
    )
    again, trained = (cast("Any", found.model) for found in (ancestral.load(run.path), run))
    torch.manual_seed(1)
    samples = trained.sample(5)
    torch.manual_seed(1)
    assert torch.equal(samples, again.sample(5))
    figures = {figure.name: figure for figure in run.evaluate(particles=3)}
    assert figures["KL(q(z | x) || p(z))"].value == pytest.approx(math.log(2), abs=0.4)
    assert figures["active units of z"].value >= 1
    assert figures["active units of z"].unit == "of 3"

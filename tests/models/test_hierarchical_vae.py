"""Layers of Gaussian latent variables, recognized upwards or down a ladder."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

import ancestral
from ancestral import AncestralError
from ancestral.configs import DataDescription, HierarchicalVAEConfig, LadderVAEConfig
from ancestral.distributions.normal import IndependentNormal
from ancestral.models import Batch, hierarchical_variational_autoencoder, ladder_variational_autoencoder
from ancestral.models.contract import CAPABILITIES
from ancestral.models.ladder_vae import product
from ancestral.models.latent_variable import activity, divergence_per_unit
from ancestral.objectives import elbo_terms
from ancestral.report import write_report

SHAPE = (1, 3, 2)
SMALL: dict[str, Any] = {"likelihood": "bernoulli"}


def hierarchy(**settings: Any) -> Any:
    torch.manual_seed(0)
    config = HierarchicalVAEConfig(**{**SMALL, "layers": (5, 3), "hidden": (11, 7), **settings})
    return moved(hierarchical_variational_autoencoder(config, DataDescription(SHAPE, "binary", 2)))


def ladder(**settings: Any) -> Any:
    torch.manual_seed(0)
    config = LadderVAEConfig(**{**SMALL, "layers": (5, 3, 2), "hidden": (13, 11, 7), **settings})
    return moved(ladder_variational_autoencoder(config, DataDescription(SHAPE, "binary", 2)))


def moved(model: Any) -> Any:
    """In double precision, with weights that matter, as it is used."""
    random = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=random))
    return model.double().eval()


def images() -> Tensor:
    return (torch.rand(17, *SHAPE, generator=torch.Generator().manual_seed(1)) > 0.4).double()


def gaussian(network: Any, *parents: Tensor) -> Normal:
    """A conditional by the output of its network, without the library's distributions."""
    loc, log_scale = network(*parents).chunk(2, -1)
    return Normal(loc, (7 * torch.tanh(log_scale / 7)).exp())


def test_the_graphs() -> None:
    model = hierarchy()
    assert str(model.p) == "p(x, z1, z2) = p(z2) p(z1 | z2) p(x | z1)"
    assert str(model.q) == "p(z2, z1 | x) = p(z1 | x) p(z2 | z1)"
    model = ladder()
    assert str(model.p) == "p(x, z1, z2, z3) = p(z3) p(z2 | z3) p(z1 | z2) p(x | z1)"
    assert str(model.q).endswith("= p(d1 | x) p(d2 | d1) p(d3 | d2) p(z3 | d3) p(z2 | d2, z3) p(z1 | d1, z2)")


def test_the_networks_of_two_layers_are_those_of_the_importance_weighted_autoencoder() -> None:
    config = HierarchicalVAEConfig(likelihood="bernoulli")
    model = hierarchical_variational_autoencoder(config, DataDescription((1, 28, 28), "binary", 2))

    def widths(network: Any) -> list[int]:
        return [layer.out_features for layer in network.modules() if isinstance(layer, torch.nn.Linear)]

    assert [widths(model.q.networks[name]) for name in ("z1", "z2")] == [[200, 200, 200], [100, 100, 100]]
    assert [widths(model.p.networks[name]) for name in ("z1", "x")] == [[100, 100, 200], [200, 200, 784]]


def test_the_bound_is_that_of_the_densities_by_hand() -> None:
    model, x = hierarchy(), images()
    torch.manual_seed(1)
    loss = model.loss(Batch(x))["loss"]
    torch.manual_seed(1)
    of_z1 = gaussian(model.q.conditionals["z1"].network, x)
    z1 = of_z1.mean + of_z1.stddev * torch.randn(17, 5, dtype=torch.float64)
    of_z2 = gaussian(model.q.conditionals["z2"].network, z1)
    z2 = of_z2.mean + of_z2.stddev * torch.randn(17, 3, dtype=torch.float64)
    logits = model.p.conditionals["x"].network(z1)
    likelihood = (x * logits - torch.nn.functional.softplus(logits)).flatten(1).sum(1)
    upper = 0.5 * (of_z2.variance + of_z2.mean**2 - 1 - of_z2.variance.log()).sum(1)
    lower = (of_z1.log_prob(z1) - gaussian(model.p.conditionals["z1"].network, z2).log_prob(z1)).sum(1)
    torch.testing.assert_close(loss, -(likelihood - upper - lower).mean())


def test_the_product_of_two_gaussians_is_theirs_up_to_a_constant() -> None:
    random = torch.Generator().manual_seed(2)
    loc, log_scale, other, other_log_scale, z = torch.randn(5, 7, 3, generator=random, dtype=torch.float64)
    first, second = IndependentNormal(loc, log_scale, 1), IndependentNormal(other, other_log_scale, 1)
    both = product(first, second)
    ratio = [first.log_prob(value) + second.log_prob(value) - both.log_prob(value) for value in (z, 2 * z + 1)]
    torch.testing.assert_close(*ratio)
    certain = product(IndependentNormal(loc, log_scale - 300, 1), second)  # no precision overflows
    torch.testing.assert_close(certain.loc, loc)
    assert bool(certain.log_scale.isfinite().all())


def test_a_ladder_has_a_divergence_in_closed_form_at_every_layer() -> None:
    model, x = ladder(kl_warmup=0.0), images()
    assert model.analytic_kl == ("z1", "z2", "z3")
    torch.manual_seed(1)
    closed = torch.stack(
        [ancestral.elbo(model.p, model.q, {"x": x}, 101, analytic_kl=model.analytic_kl) for _ in range(47)]
    )
    sampled = torch.stack([ancestral.elbo(model.p, model.q, {"x": x}, 101) for _ in range(47)])
    error = ((closed.var(0) + sampled.var(0)) / 47).sqrt()
    assert bool(((closed.mean(0) - sampled.mean(0)).abs() < 4.5 * error).all())
    assert error.max() < 1


def test_a_ladder_at_a_flat_correction_is_the_model_s_own_prior() -> None:
    model, x = ladder(kl_warmup=0.0, normalization="none"), images()
    for parameter in model.p.parameters():
        parameter.data.mul_(0.3)  # scales far below the largest
    for name in ("z1", "z2"):
        parameters = model.q.conditionals[name].parameters_of_data
        for parameter in parameters.parameters():
            parameter.data.zero_()
        parameters.layers[0].bias.data[len(parameters.layers[0].bias) // 2 :] = 1e6  # as unsure as can be
    parts = model.loss(Batch(x))
    assert parts["kl z3"] > 0.01
    assert parts["kl z1"] < 1e-4
    assert parts["kl z2"] < 1e-4


def test_the_parameters_that_q_shares_with_p_are_there_once() -> None:
    model = ladder()
    own = {name for name, _ in model.q.named_parameters()}
    assert not {id(p) for p in model.q.parameters()} & {id(p) for p in model.p.parameters()}
    assert all(name in own or "d" in name or "z" in name for name in own)
    model.train()
    model.loss(Batch(images()))["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("make", [hierarchy, ladder])
@pytest.mark.parametrize("settings", [{}, {"bound": "iwae", "particles": 3, "kl_warmup": 0.0}])
def test_they_have_every_capability_and_a_finite_loss(make: Any, settings: dict[str, Any]) -> None:
    model = make(**settings)
    assert all(isinstance(model, capability) for capability in CAPABILITIES.values())
    assert math.isfinite(model.loss(Batch(images()))["loss"].item())
    more = model.log_prob(images(), particles=101).mean()
    assert more > -model.validation(Batch(images()))["loss"] - 1


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("hierarchical-vae", {"layers": (7, 3), "hidden": (13, 11)}),
        ("ladder-vae", {"layers": (7, 3), "hidden": (13, 11), "kl_warmup": 1.0}),
    ],
)
def test_they_learn_the_digits_are_kept_and_used(tmp_path: Path, name: str, settings: dict[str, Any]) -> None:
    run = ancestral.train(name, "digits", out=tmp_path / "run", epochs=5, batch_size=53, learning_rate=1e-2, **settings)
    validations = [row["validation loss"] for row in run.metrics if "validation loss" in row]
    assert validations[-1] < validations[0]
    again = ancestral.load(tmp_path / "run")
    x = again.data.rows("test", range(3))
    found = {figure.name: figure for figure in again.evaluate(particles=7)}
    assert found["log p(x)"].value > -64 * math.log(2)
    assert "active units of z2" in found
    model: Any = again.model
    assert set(model.encode(x)) == {"z1", "z2"}
    assert model.reconstruct(x).shape == model.sample(3).shape == (3, 1, 8, 8)
    # a lower layer is redrawn below one that is kept
    z2 = torch.zeros(3, 3)
    torch.manual_seed(0)
    first, second = (model.sample(3, mean=True, given={"z2": z2}) for _ in range(2))
    assert not torch.equal(first, second)
    page = write_report(tmp_path / "run", particles=3, limit=17).read_text(encoding="utf-8")
    assert "Map of z2" in page
    assert "likelihood and 7 + 3 latent dimensions" in page
    assert "Each row has one draw of z2, which stays, and each column a new one of z1." in page


@pytest.mark.parametrize("config", [HierarchicalVAEConfig, LadderVAEConfig])
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layers": (5,), "hidden": (7,)}, "layers is .5,., but there are two layers or more.*train vae"),
        ({"layers": (5, 3), "hidden": (7,)}, "one network below each of the 2 latent layers: give 2 sizes"),
        ({"layers": (5, 0), "hidden": (7, 5)}, "layers is .5, 0."),
        ({"layers": (5, 3), "hidden": (7, 0)}, "hidden is .7, 0."),
        ({"particles": 0}, "particles is 0"),
        ({"beta": -0.5}, "beta is -0.5"),
        ({"beta": 0.0, "kl_warmup": 2.0}, "kl_warmup has no effect where beta is 0"),
        ({"bound": "iwae", "beta": 0.5, "kl_warmup": 0.0}, "beta has no effect with the iwae bound"),
        (
            {"bound": "iwae", "gradient": "doubly-reparameterized", "normalization": "batch", "kl_warmup": 0.0},
            "through batch normalization every particle changes all: use --gradient total",
        ),
        ({"normalization": "btach"}, "there is no normalization 'btach'. Did you mean 'batch'"),
        ({"activation": "tahn"}, "there is no activation 'tahn'. Did you mean 'tanh'"),
    ],
)
def test_settings_that_are_wrong_or_without_effect_are_errors(
    config: Any, settings: dict[str, Any], words: str
) -> None:
    usual = {"layers": (5, 3), "hidden": (7, 5)}
    with pytest.raises(AncestralError, match=words):
        config(**{**usual, **settings})
    assert dataclasses.replace(config(**usual), likelihood="normal").likelihood == "normal"


@pytest.mark.parametrize("make", [hierarchy, ladder])
def test_what_the_units_of_a_layer_add_is_the_term_of_the_elbo(make: Any) -> None:
    model, x = make().eval(), images()
    torch.manual_seed(1)
    units = divergence_per_unit(model, x)
    torch.manual_seed(1)
    terms = elbo_terms(model.p, model.q, {"x": x}, analytic_kl=model.analytic_kl).kl
    assert units.keys() == terms.keys()
    assert len(terms) == len(model.latents())
    for name, term in terms.items():
        torch.testing.assert_close(units[name].sum(), term.mean())


def test_units_are_measured_as_after_training_and_measuring_changes_nothing() -> None:
    model, x = hierarchy(normalization="batch"), images()

    def measured() -> list[Tensor]:
        torch.manual_seed(1)
        return [*activity(model, [(x, None)]).values(), *divergence_per_unit(model, x).values()]

    after = measured()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    for during, value in zip(measured(), after, strict=True):
        torch.testing.assert_close(during, value)
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (hierarchical_variational_autoencoder, HierarchicalVAEConfig(likelihood="bernoulli", normalization="batch")),
        (ladder_variational_autoencoder, LadderVAEConfig(likelihood="bernoulli")),
    ],
    ids=["hierarchical", "ladder"],
)
def test_batch_normalization_leaves_the_divergences_small_at_the_start(make: Any, settings: Any) -> None:
    torch.manual_seed(0)
    model = make(settings, DataDescription((1, 28, 28), "binary", 2))
    x = (torch.rand(101, 1, 28, 28) > 0.8).float()
    divergences = elbo_terms(model.p, model.q, {"x": x}, 3).kl
    assert sum(value.mean().item() for value in divergences.values()) < 200  # where scales had any size, millions

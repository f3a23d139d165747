"""The Helmholtz machine: one network, every learning rule, every kind of layer."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ancestral
from ancestral import AncestralError
from ancestral.configs import DataConfig, DataDescription, HelmholtzConfig
from ancestral.distributions import NADE, LinearAutoregressive
from ancestral.models import Batch, helmholtz_machine
from ancestral.models.contract import CAPABILITIES
from ancestral.objectives import reweighted_wake_sleep, wake_sleep

SHAPE = (1, 3, 2)
KINDS = ("sigmoid", "darn", "nade")
RULES: dict[str, dict[str, Any]] = {
    "wake-sleep": {},
    "reweighted-wake-sleep": {"objective": "reweighted-wake-sleep", "particles": 3},
    "nvil": {"objective": "elbo"},
    "vimco": {"objective": "iwae", "particles": 3, "estimator": "vimco"},
}


def machine(**settings: Any) -> Any:
    """A small one, in double precision, with weights that matter."""
    kinds = (settings.get("layer"), settings.get("recognition"))
    sizes = {"layers": (3, 2)} | ({"nade_hidden": 5} if "nade" in kinds else {})
    model = helmholtz_machine(HelmholtzConfig(**{**sizes, **settings}), DataDescription(SHAPE, "binary", 2))
    random = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.data.copy_(0.2 + torch.randn(parameter.shape, generator=random))
    return model.double()


def vectors(size: int) -> Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=size)), dtype=torch.float64)


def images() -> Tensor:
    return vectors(6).reshape(-1, *SHAPE)


def masses(model: Any, x: Tensor) -> Tensor:
    """p(x) as the sum over all values of both layers."""
    total = torch.zeros(len(x), dtype=torch.float64)
    for h1, h2 in itertools.product(vectors(3), vectors(2)):
        top, middle = (value.expand(len(x), -1) for value in (h2, h1))
        conditionals = model.p.conditionals
        total += torch.exp(
            conditionals["h2"]().log_prob(h2)
            + conditionals["h1"](top).log_prob(middle)
            + conditionals["x"](middle).log_prob(x)
        )
    return total


def test_it_is_two_chains_of_layers() -> None:
    model = machine()
    assert str(model.p) == "p(x, h1, h2) = p(h2) p(h1 | h2) p(x | h1)"
    assert str(model.q) == "p(h2, h1 | x) = p(h1 | x) p(h2 | h1)"


@pytest.mark.parametrize(("kind", "distribution"), [("darn", LinearAutoregressive), ("nade", NADE)])
def test_layers_of_p_and_of_q_have_their_kinds(kind: str, distribution: type) -> None:
    model, x = machine(layer=kind), images()
    assert all(isinstance(site.distribution, distribution) for site in model._example().sites.values())
    other = machine(recognition=kind)
    assert not any(isinstance(prior, distribution) for prior in other.priors().values())
    assert isinstance(other.q.conditionals["h1"](x), distribution)


@pytest.mark.parametrize("kind", KINDS)
def test_the_masses_of_all_data_sum_to_one_and_are_what_is_evaluated(kind: str) -> None:
    model, x = machine(layer=kind, recognition=kind), images()
    exact = masses(model, x)
    assert exact.sum().item() == pytest.approx(1)
    for parameter in model.q.parameters():
        parameter.data.mul_(0.1)  # q draws every value now and then
    torch.manual_seed(1)
    estimate = model.log_prob(x[::7], particles=10_007)
    torch.testing.assert_close(estimate, exact[::7].log(), atol=0.1, rtol=0)


def test_the_losses_of_the_two_phases_are_those_of_the_objectives() -> None:
    x = images()
    model = machine()
    torch.manual_seed(1)
    scalars = model.loss(Batch(x))
    torch.manual_seed(1)
    wake, sleep = (phase.mean() for phase in wake_sleep(model.p, model.q, {"x": x}))
    assert scalars == {"loss": wake + sleep, "wake": wake, "sleep": sleep}
    for phase in ("wake", "sleep", "both"):
        model = machine(objective="reweighted-wake-sleep", particles=3, q_phase=phase)
        torch.manual_seed(1)
        scalars = model.loss(Batch(x))
        torch.manual_seed(1)
        wake, of_q = (loss.mean() for loss in reweighted_wake_sleep(model.p, model.q, {"x": x}, 3, phase))
        assert (scalars["loss"], scalars["wake"], scalars["loss of q"]) == (wake + of_q, wake, of_q)
        assert 1 <= scalars["effective sample size"] <= 3


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_teaches_every_parameter_of_every_kind_of_layer(rule: str, kind: str) -> None:
    model, x = machine(layer=kind, recognition=kind, **RULES[rule]), images()
    torch.manual_seed(1)
    model.loss(Batch(x))["loss"].backward()
    for name, parameter in model.named_parameters():
        if not (name.endswith("weight") and parameter.shape[0] == 1):  # a single bit has none before it
            assert parameter.grad is not None, name
            assert bool(parameter.grad.abs().sum() > 0), name


@pytest.mark.parametrize("rule", ["wake-sleep", "reweighted-wake-sleep"])
def test_validation_is_by_a_bound_whatever_is_trained(rule: str) -> None:
    model, x = machine(**RULES[rule]), images()
    torch.manual_seed(1)
    scalars = model.validation(Batch(x))
    torch.manual_seed(1)
    assert scalars["loss"] == -model.log_prob(x, particles=model.particles).mean()
    chosen = machine(**RULES[rule], validation_particles=13)
    torch.manual_seed(1)
    loss = chosen.validation(Batch(x))["loss"]
    torch.manual_seed(1)
    assert loss == -model.log_prob(x, particles=13).mean()


def test_a_machine_has_every_capability() -> None:
    assert all(isinstance(machine(), capability) for capability in CAPABILITIES.values())


@pytest.mark.parametrize("rule", RULES)
def test_a_machine_learns_the_digits_is_kept_and_evaluated(tmp_path: Path, rule: str) -> None:
    before = math.inf
    run = ancestral.train(
        "helmholtz", "digits", out=tmp_path / "run", layers=(11, 5), epochs=7, batch_size=53, learning_rate=1e-2,
        **RULES[rule],
    )  # fmt: skip
    validations = [row["validation loss"] for row in run.metrics if "validation loss" in row]
    assert validations[-1] < validations[0] < before
    again = ancestral.load(tmp_path / "run")
    figure = again.evaluate(particles=7)[0]
    assert (figure.name, figure.kind) == ("log p(x)", "lower bound")
    assert figure.value > -64 * math.log(2)  # better than a guess
    assert again.model.sample(3).shape == (3, 1, 8, 8)


def test_layers_drawn_bit_by_bit_are_reconstructed_by_draws(tmp_path: Path) -> None:
    model, x = machine(recognition="nade", layer="nade"), images()
    with pytest.raises(AncestralError, match=r"the mean of 'h1', a NADE, is not known in closed form.*--draws"):
        model.reconstruct(x)
    assert set(model.reconstruct(x, sample=True).unique().tolist()) == {0.0, 1.0}


def test_real_numbers_are_refused() -> None:
    with pytest.raises(AncestralError, match="zeros and ones"):
        HelmholtzConfig().resolve(DataConfig(), DataDescription((7,), "continuous"), "none")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layers": ()}, "layers is empty"),
        ({"layers": (5, 0)}, "layers is .5, 0."),
        ({"hidden": (0,)}, "hidden"),
        ({"nade_hidden": 0, "layer": "nade"}, "nade_hidden is 0"),
        ({"nade_hidden": 5}, "nade_hidden has no effect.*--layer nade"),
        ({"layer": "drn"}, "there is no layer 'drn'. Did you mean 'darn'"),
        ({"recognition": "naed"}, "there is no recognition 'naed'. Did you mean 'nade'"),
        ({"units": "nothing"}, "units"),
        ({"objective": "wakesleep"}, "there is no objective 'wakesleep'. Did you mean 'wake-sleep'"),
        ({"q_phase": "dream", "objective": "reweighted-wake-sleep", "particles": 2}, "there is no q_phase 'dream'"),
        ({"q_phase": "both"}, "q_phase is both, which has no effect with wake-sleep"),
        ({"particles": 3}, "particles is 3, but wake-sleep has one.*reweighted"),
        ({"objective": "reweighted-wake-sleep", "particles": 1}, "particles is 1.*--particles 2 or more"),
        ({"estimator": "muprop"}, "estimator is muprop, which has no effect with wake-sleep"),
        ({"estimator": "reinforce", "normalize": True}, "has no effect with wake-sleep"),
        ({"validation_particles": -1}, "validation_particles is -1"),
        ({"objective": "elbo", "estimator": "gumbel-softmax", "recognition": "darn"}, "recognition is darn.*nvil"),
        ({"objective": "iwae", "estimator": "muprop", "particles": 3}, "muprop is for a plain expectation"),
        ({"objective": "iwae", "particles": 3}, "nvil divides its signal .* use --estimator vimco"),
    ],
)
def test_settings_that_are_wrong_or_without_effect_are_errors(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(AncestralError, match=words):
        HelmholtzConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "particles"),
    [
        ({}, 1),
        ({"objective": "elbo"}, 1),
        ({"objective": "reweighted-wake-sleep"}, 10),
        ({"objective": "iwae", "estimator": "vimco"}, 5),
        ({"objective": "iwae", "estimator": "vimco", "particles": 3}, 3),
    ],
)
def test_a_rule_has_its_usual_particles_where_none_are_asked_for(settings: Any, particles: int) -> None:
    assert HelmholtzConfig(**settings).particles == machine(**settings).particles == particles


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"objective": "wake-sleep", "particles": 2}, "particles is 2, but wake-sleep has one"),
        ({"objective": "wake-sleep", "estimators": ancestral.nvil(torch.nn.Identity())}, "estimators have no effect"),
        ({"objective": "wake-sleep", "beta": 0.5}, "beta.*no effect with objective='wake-sleep'"),
        ({"objective": "elbo", "q_phase": "sleep"}, "q_phase has no effect with objective='elbo'"),
    ],
)
def test_an_own_model_is_told_so_too(settings: dict[str, Any], words: str) -> None:
    model = machine()
    with pytest.raises(AncestralError, match=words):
        ancestral.LatentVariableModel(model.p, model.q, **settings)

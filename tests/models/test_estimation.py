"""Estimators by name: what is made of the settings, and that each teaches q."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from ancestral import AncestralError, Joint, bernoulli, linear, one_hot_bias
from ancestral.configs import CategoricalVAEConfig, DataDescription, SBNConfig
from ancestral.configs.estimation import ESTIMATORS, EstimatorName, EstimatorSettings, as_word, from_word
from ancestral.estimators import (
    DARN,
    REBAR,
    RELAX,
    DisARM,
    Enumerate,
    GumbelSoftmax,
    Half,
    InputDependent,
    LeaveOneOut,
    LikelihoodRatio,
    MovingAverage,
    MuProp,
    StraightThrough,
)
from ancestral.estimators.schedules import estimators_at
from ancestral.models import Batch, make_estimator, sigmoid_belief_net
from ancestral.models.estimation import MAKERS
from ancestral.objectives import elbo

NAMES: tuple[str, ...] = get_args(EstimatorName)
KINDS: dict[str, type] = {
    "reinforce": LikelihoodRatio, "rloo": LikelihoodRatio, "vimco": LikelihoodRatio, "nvil": LikelihoodRatio,
    "muprop": MuProp, "darn": DARN, "half": Half, "straight-through": StraightThrough,
    "gumbel-softmax": GumbelSoftmax, "straight-through-gumbel-softmax": GumbelSoftmax, "rebar": REBAR, "relax": RELAX,
    "disarm": DisARM, "enumerate": Enumerate,
}  # fmt: skip
DATA = DataDescription((5,), "binary", 2)


def suited(name: str) -> dict[str, Any]:
    """What an estimator needs of the other settings."""
    particles = {"rloo": 2, "vimco": 2}.get(name, 1)
    return {"estimator": name, "particles": particles, "bound": "iwae" if name == "vimco" else "elbo"}


def made(name: str, **settings: Any) -> Any:
    config = SBNConfig(**{**suited(name), **settings})
    return make_estimator(config, [(1, 4, 3)], (7,))


def rows(n: int = 13, features: int = 5) -> Tensor:
    """Rows that tell of the units above them: in each, the bits of one of two halves are mostly on."""
    random = torch.Generator().manual_seed(2)
    first = torch.rand(n, 1, generator=random) < 0.5
    half = (torch.arange(features) < 2) == first
    return (torch.rand(n, features, generator=random) < torch.where(half, 0.9, 0.15)).float()


def test_every_name_has_a_maker_a_line_and_a_kind() -> None:
    assert tuple(MAKERS) == tuple(ESTIMATORS) == tuple(KINDS) == NAMES
    for name in NAMES:
        assert type(made(name)) is KINDS[name]


def test_a_name_that_is_none_is_answered_with_the_nearest() -> None:
    config = SBNConfig()
    object.__setattr__(config, "estimator", "mupro")
    with pytest.raises(AncestralError, match="Did you mean 'muprop'"):
        make_estimator(config, [(5,)], (3,))


@pytest.mark.parametrize("name", ["reinforce", "muprop"])
def test_baselines_and_normalization_are_those_of_the_settings(name: str) -> None:
    assert made(name).baselines.chosen == []
    assert not made(name).baselines.normalize
    several = made(name, baseline=("moving-average", "network"), normalize=True).baselines
    assert [type(one) for one in several.chosen] == [MovingAverage, InputDependent]
    assert several.normalize


def test_the_particles_are_compared_by_rloo_and_vimco_alone() -> None:
    for name in ("rloo", "vimco"):
        assert [type(one) for one in made(name).baselines.chosen] == [LeaveOneOut]
    assert [type(one) for one in made("nvil").baselines.chosen] == [MovingAverage, InputDependent]
    assert made("nvil").baselines.normalize


def test_the_networks_of_nvil_and_relax_fit_the_parents_and_the_variable() -> None:
    network = made("nvil").baselines.chosen[1].network
    assert network(torch.zeros(11, 1, 4, 3)).shape == (11, 1)
    assert sum(isinstance(layer, nn.Tanh) for layer in network.layers) == 1
    assert network.layers[0].out_features == 100
    assert made("relax").network(torch.zeros(11, 7)).shape == (11, 1)
    two: Any = make_estimator(SBNConfig(estimator="nvil"), [(3,), (5,)], (7,))
    assert two.baselines.chosen[1].network(torch.zeros(11, 3), torch.zeros(11, 5)).shape == (11, 1)


def test_a_baseline_that_is_a_network_sees_an_image_and_a_label_together() -> None:
    p = Joint({"y": one_hot_bias(3), "h | y": bernoulli(linear(3, 2)), "x | h": bernoulli(linear(2, (1, 5, 7)), 3)})
    both = Joint({"h | x, y": bernoulli(Image(), 1)})
    estimator = make_estimator(EstimatorSettings(estimator="nvil"), [(1, 5, 7), (3,)], (2,))
    x, y = torch.ones(11, 1, 5, 7), torch.eye(3)[torch.arange(11) % 3]
    elbo(p, both, {"x": x, "y": y}, particles=2, estimators=estimator).sum().backward()  # type: ignore[no-untyped-call]
    assert isinstance(estimator, nn.Module)
    first = next(iter(estimator.parameters()))
    assert first.shape[-1] == 35 + 3
    assert first.grad is not None
    assert first.grad.abs().sum(0).count_nonzero() == 35 + 3


class Image(nn.Module):
    """A linear function of an image and a label."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.label = linear((1, 5, 7), 2), linear(3, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        output: Tensor = self.image(x) + self.label(y)
        return output


@pytest.mark.parametrize("name", ["gumbel-softmax", "straight-through-gumbel-softmax"])
def test_the_temperature_is_fixed_falls_or_is_learned(name: str) -> None:
    assert made(name, temperature=0.7).temperature == 0.7
    assert made(name).hard == (name != "gumbel-softmax")
    falling = made(name, temperature=0.9, temperature_rate=0.1, temperature_end=0.6)
    assert [falling.at(epoch).temperature for epoch in (0.0, 2.0, 50.0)] == pytest.approx([0.9, 0.7368577, 0.6])
    learned = made(name, temperature=0.7, learn_temperature=True)
    assert learned.log_temperature.exp().item() == pytest.approx(0.7)
    assert learned.at(50.0) is learned


def test_the_slope_is_fixed_or_rises() -> None:
    assert made("straight-through", slope=1.5).slope == 1.5
    rising = made("straight-through", slope=1.5, slope_rate=0.1, slope_end=2.0)
    assert [rising.at(epoch).slope for epoch in (0.0, 2.0, 50.0)] == pytest.approx([1.5, 1.8321041, 2.0])


@pytest.mark.parametrize("name", ["rebar", "relax"])
def test_the_temperature_of_rebar_is_where_it_starts(name: str) -> None:
    estimator = made(name, temperature=0.7)
    assert estimator.log_temperature.exp().item() == pytest.approx(0.7)
    assert estimator.log_temperature.requires_grad


def test_annealing_reaches_the_estimators_of_a_model() -> None:
    torch.manual_seed(0)
    settings: Any = {"temperature": 0.9, "temperature_rate": 0.5, "temperature_end": 0.2, "estimator": "gumbel-softmax"}
    model = sigmoid_belief_net(SBNConfig(layers=(3, 2), **settings), DATA)
    now = estimators_at(model.estimators, 1.0)
    assert isinstance(now, dict)
    assert [now[name].temperature for name in ("h1", "h2")] == pytest.approx([0.5458776, 0.5458776])


def tiny(name: str) -> tuple[Any, Tensor]:
    """A net whose p is known and far from uniform, and whose q has to learn."""
    model = sigmoid_belief_net(SBNConfig(layers=(3, 2), **suited(name)), DATA).double()
    random = torch.Generator().manual_seed(5)
    for parameter in [*model.p.parameters(), *model.q.parameters()]:
        parameter.data.copy_(2.0 * torch.randn(parameter.shape, generator=random))
    return model, rows().double()


def bound_after_learning(name: str, steps: int) -> float:
    """The bound, summed over all values, after so many updates of q alone."""
    torch.manual_seed(0)
    model, x = tiny(name)
    learned = [*model.q.parameters(), *model.own_estimators.parameters()]
    optimizer = torch.optim.Adam(learned, 0.1)
    for step in range(steps):
        optimizer.zero_grad()
        model.loss(Batch(x.repeat(5, 1), epoch=step / 10))["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        return elbo(model.p, model.q, {"x": x}, estimators=Enumerate()).mean().item()


@pytest.fixture(scope="module")
def possible() -> tuple[float, float]:
    """The bound before q has learned, and what the exact gradient makes of it."""
    return bound_after_learning("enumerate", 0), bound_after_learning("enumerate", 50)


@pytest.mark.parametrize("name", NAMES)
def test_every_estimator_teaches_q(name: str, possible: tuple[float, float]) -> None:
    before, best = possible
    assert best > before + 3.0
    assert bound_after_learning(name, 50) > before + 0.7 * (best - before)


@pytest.mark.parametrize("name", ["nvil", "relax", "rebar"])
def test_what_an_estimator_learns_belongs_to_one_variable_and_is_trained_with_the_model(name: str) -> None:
    model, x = tiny(name)
    first, second = (list(model.own_estimators[layer].parameters()) for layer in ("h1", "h2"))
    owned = {id(parameter) for parameter in model.players()[0].parameters}
    assert first
    assert not {id(p) for p in first} & {id(p) for p in second}
    assert {id(p) for p in [*first, *second]} <= owned
    model.loss(Batch(x))["loss"].backward()
    assert any(parameter.grad is not None and bool(parameter.grad.any()) for parameter in first)


def test_the_estimator_of_a_model_of_one_hot_vectors_takes_their_shape() -> None:
    config = CategoricalVAEConfig(estimator="relax", latents=3, classes=5)
    estimator: Any = make_estimator(config, [(7,)], (3, 5))
    assert estimator.network(torch.zeros(11, 3, 5)).shape == (11, 1)


# ---- settings in one word


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("darn", EstimatorSettings("darn")),
        ("gumbel-softmax:temperature=0.1", EstimatorSettings("gumbel-softmax", temperature=0.1)),
        ("muprop:baseline=network", EstimatorSettings("muprop", baseline=("network",))),
        (
            "reinforce:baseline=moving-average,network:normalize",
            EstimatorSettings("reinforce", baseline=("moving-average", "network"), normalize=True),
        ),
        (
            "gumbel-softmax:temperature=3:temperature-rate=0.03:temperature-end=0.1",
            EstimatorSettings("gumbel-softmax", temperature=3.0, temperature_rate=0.03, temperature_end=0.1),
        ),
        (
            "straight-through-gumbel-softmax:temperature=0.7:learn-temperature",
            EstimatorSettings("straight-through-gumbel-softmax", temperature=0.7, learn_temperature=True),
        ),
    ],
)
def test_settings_are_read_from_a_word_and_written_as_it(word: str, expected: EstimatorSettings) -> None:
    assert from_word(word) == expected
    assert as_word(expected) == word
    name, *settings = word.split(":")
    assert from_word(":".join([name, *(setting.replace("e-", "e_") for setting in settings)])) == expected


def test_the_word_of_a_models_settings_has_those_of_its_estimator_alone() -> None:
    assert as_word(SBNConfig(estimator="rloo", particles=3, layers=(5,))) == "rloo"
    assert as_word(SBNConfig(estimator="rebar", temperature=0.2)) == "rebar:temperature=0.2"


@pytest.mark.parametrize(
    ("word", "seen"),
    [
        ("gumbel:temperature=1", "there is no estimator 'gumbel'. Did you mean 'gumbel-softmax'"),
        ("", "there is no estimator ''"),
        ("gumbel-softmax:temprature=1", "no setting 'temprature' of gumbel-softmax. Did you mean 'temperature'"),
        ("gumbel-softmax:", "no setting '' of gumbel-softmax"),
        ("muprop:particles=3", "no setting 'particles' of muprop. Known: baseline, normalize"),
        ("darn:foo=1", "no setting 'foo' of darn. darn has none"),
        ("muprop:temperature=0.5", "temperature is 0.5, which has no effect with the estimator muprop"),
        ("rebar:learn-temperature", "learn_temperature is set, which has no effect with the estimator rebar"),
        ("rebar:temperature=1:temperature=2", "sets temperature twice"),
        ("rebar:temperature", "write temperature=VALUE for 'temperature'"),
        ("rebar:temperature=", "write temperature=VALUE for 'temperature='"),
        ("rebar:temperature=hot", "'hot' is no number. Give one for temperature"),
        ("rebar:temperature=nan", "temperature is nan, but it must be a positive number"),
        ("muprop:normalize=yes", "write normalize for 'normalize=yes'"),
        ("muprop:normalize=", "write normalize for 'normalize='"),
        ("muprop:baseline=movng-average", "there is no baseline 'movng-average'. Did you mean 'moving-average'"),
        ("muprop:baseline=network,network", "baseline names network 2 times"),
    ],
)
def test_a_word_that_is_wrong_is_answered_with_the_cure(word: str, seen: str) -> None:
    with pytest.raises(AncestralError, match=seen):
        from_word(word)

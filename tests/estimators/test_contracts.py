"""What an estimator is not for is an error that names the variable and the cure; settings are checked."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from exact import Layers, data
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    Normal,
    Poisson,
    TransformedDistribution,
)

from ancestral import AncestralSampling, Enumerate, Estimator, EstimatorError, Joint, Trace, elbo, expectation, iwae
from ancestral.distributions import OneHot
from ancestral.estimators import (
    DARN,
    REBAR,
    RELAX,
    DisARM,
    GumbelSoftmax,
    Half,
    LikelihoodRatio,
    MuProp,
    StraightThrough,
    exponential,
)
from ancestral.estimators.schedules import estimators_at

LOGITS = torch.tensor([0.3, -1.2, 0.7])


def of(distribution: Distribution) -> tuple[Joint, dict[str, Tensor]]:
    return Joint({"h | x": lambda x: distribution}), {"x": torch.zeros(7, 5)}


def run(distribution: Distribution, estimator: Any, particles: int = 2) -> Tensor:
    q, given = of(distribution)
    return expectation(
        lambda t: t["h"].float().sum(-1) if t["h"].dim() > 2 else t["h"].float(), q, given, particles, {"h": estimator}
    )


INDEX, NORMAL, COUNT = Categorical(logits=LOGITS), Independent(Normal(LOGITS, 1.0), 1), Poisson(torch.tensor(2.0))
CLASS, BITS = OneHot(LOGITS), Independent(Bernoulli(logits=LOGITS), 1)


@pytest.mark.parametrize(
    "estimator", [DARN(), Half(), StraightThrough(), GumbelSoftmax(), REBAR(), RELAX(nn.Linear(3, 1))]
)
@pytest.mark.parametrize(
    ("distribution", "name", "cure"),
    [
        (INDEX, "Categorical", r"LikelihoodRatio\(\), or make it a one-hot vector"),
        (NORMAL, "Normal", r"Reparameterized\(\)"),
        (COUNT, "Poisson", r"LikelihoodRatio\(\)"),
    ],
)
def test_what_has_no_logits_is_an_error_with_the_cure(
    estimator: Any, distribution: Distribution, name: str, cure: str
) -> None:
    wanted = "Bernoulli variables and one-hot vectors"
    with pytest.raises(
        EstimatorError,
        match=rf"'h' is a {name}, but {type(estimator).__name__} is for {wanted}\. "
        rf'Choose another estimator: estimators=\{{"h": \.\.\.\}} with {cure}',
    ):
        run(distribution, estimator)


@pytest.mark.parametrize("distribution", [CLASS, INDEX, NORMAL, COUNT])
def test_two_antithetic_draws_are_for_bits(distribution: Distribution) -> None:
    with pytest.raises(EstimatorError, match=r"'h' is a .*, but DisARM is for Bernoulli variables\."):
        run(distribution, DisARM())


@pytest.mark.parametrize("distribution", [INDEX, COUNT])
def test_muprop_is_for_variables_between_whose_values_the_cost_has_a_slope(distribution: Distribution) -> None:
    with pytest.raises(EstimatorError, match="but MuProp is for Bernoulli variables and one-hot vectors and variables"):
        run(distribution, MuProp())


def test_muprop_expands_the_cost_at_a_mean_that_is_known() -> None:
    flow = TransformedDistribution(Normal(0.0, 1.0), [torch.distributions.SigmoidTransform()])
    with pytest.raises(
        EstimatorError, match=r"'h' is a TransformedDistribution, whose mean is not known in closed form"
    ):
        run(flow, MuProp())


@pytest.mark.parametrize("estimator", [Enumerate(), MuProp(), REBAR(), RELAX(nn.Linear(3, 1)), DisARM()])
def test_estimators_of_a_plain_expectation_refuse_the_importance_weighted_bound(estimator: Any) -> None:
    m = Layers("binary", 1)
    for grad in (True, False):
        with (
            torch.set_grad_enabled(grad),
            pytest.raises(
                EstimatorError,
                match=rf"{type(estimator).__name__}, the estimator of 'h1', is for a plain expectation such as elbo.*"
                r'estimators=\{"h1": \.\.\.\} with LikelihoodRatio\(\).*VIMCO',
            ),
        ):
            iwae(m.p, m.q, data(7), 2, estimator)


def test_an_enumerated_layer_above_leaves_the_importance_weighted_bound_no_meaning() -> None:
    m = Layers("binary", 2)
    with pytest.raises(EstimatorError, match="Enumerate, the estimator of 'h2'"):
        iwae(m.p, m.q, data(7), 2, {"h1": LikelihoodRatio(), "h2": Enumerate()})


def test_several_enumerated_variables_together_are_not_too_many() -> None:
    m = Layers("binary", 2)
    elbo(m.p, m.q, data(7), estimators=Enumerate(32))
    with pytest.raises(
        EstimatorError,
        match=r"'h2' has 4 values, and 'h1' has 8: together 32 are enumerated, more than 31. Enumerate fewer "
        r'variables, and draw the others: estimators=\{"h2": LikelihoodRatio\(\)',
    ):
        elbo(m.p, m.q, data(7), estimators=Enumerate(31))


def test_ancestral_sampling_passes_no_gradient() -> None:
    m = Layers("binary", 1)
    with pytest.raises(EstimatorError, match="'h1' was drawn by AncestralSampling, which passes no gradient"):
        elbo(m.p, m.q, data(7), estimators=AncestralSampling())


def test_what_is_downstream_of_a_relaxed_variable_must_relax_too() -> None:
    q = Joint({"h | x": lambda x: CLASS, "n | h": lambda h: Poisson(1 + h.sum(-1))})
    estimators: dict[str, Estimator] = {"h": REBAR(), "n": LikelihoodRatio(None)}
    with pytest.raises(EstimatorError, match="'n' is a Poisson, but GumbelSoftmax is for"):
        expectation(lambda t: t["n"], q, {"x": torch.zeros(7, 5)}, 1, estimators)


def test_the_network_of_relax_gives_one_number() -> None:
    with pytest.raises(EstimatorError, match=r"RELAX gives shape \(2, 7, 2\), but a control variate is one number"):
        run(CLASS, RELAX(nn.Linear(3, 2)))


# settings


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_is_positive(temperature: float) -> None:
    for make in (
        GumbelSoftmax,
        REBAR,
        lambda t: RELAX(nn.Linear(3, 1), t),
        lambda t: GumbelSoftmax("learned", start=t),
    ):
        with pytest.raises(EstimatorError, match=r"the temperature is .*, but it must be positive"):
            make(temperature)


def test_a_temperature_that_is_no_number_is_an_error() -> None:
    with pytest.raises(
        EstimatorError, match="the temperature is 'low': give a number, a function of the epoch, 'learned'"
    ):
        GumbelSoftmax("low")  # type: ignore[arg-type]
    with pytest.raises(EstimatorError, match="the temperature is -1, but it must be positive"):
        GumbelSoftmax(lambda epoch: epoch - 1)


@pytest.mark.parametrize("slope", [0.0, -2.0, math.nan])
def test_a_slope_is_positive(slope: float) -> None:
    with pytest.raises(EstimatorError, match=r"the slope is .*, but it must be positive"):
        StraightThrough(slope)


@pytest.mark.parametrize("make", [lambda s: GumbelSoftmax(s), lambda s: StraightThrough(s)])
def test_a_schedule_that_leaves_its_range_is_an_error_that_says_when(make: Any) -> None:
    estimator = make(lambda epoch: 1 - epoch)
    with pytest.raises(EstimatorError, match=r"the (temperature|slope) is -2 at epoch 3, but it must be positive"):
        estimators_at(estimator, 3.0)


@pytest.mark.parametrize(
    ("start", "rate", "end"),
    [(1.0, 0.1, 2.0), (1.0, -0.1, 0.5), (0.0, 0.1, 0.5), (1.0, 0.1, 0.0), (1.0, math.nan, 0.5), (1.0, 0.0, 0.5)],
)
def test_a_schedule_that_never_arrives_is_an_error(start: float, rate: float, end: float) -> None:
    with pytest.raises(EstimatorError, match=r"never arrives: both ends must be positive"):
        exponential(start, rate, end)


def test_a_schedule_falls_or_rises_to_its_end_and_stays_there() -> None:
    falling, rising = exponential(1.0, 0.3, 0.5), exponential(1.0, -0.3, 5.0)
    for epoch in (0.0, 0.7, 1.3):
        assert falling(epoch) == pytest.approx(math.exp(-0.3 * epoch))
        assert rising(epoch) == pytest.approx(math.exp(0.3 * epoch))
    assert (falling(100.0), rising(100.0)) == (0.5, 5.0)
    assert exponential(0.5, 0.0, 0.5)(3.0) == 0.5


def test_an_estimator_at_an_epoch_has_the_setting_of_then_and_is_itself_unchanged() -> None:
    soft, steep = GumbelSoftmax(exponential(1.0, 0.3, 0.1)), StraightThrough(exponential(1.0, -0.3, 3.0))
    now = estimators_at({"h1": soft, "h2": steep, "h3": LikelihoodRatio()}, 2.0)
    assert isinstance(now, dict)
    assert now["h1"].temperature == pytest.approx(math.exp(-0.6))
    assert now["h2"].slope == pytest.approx(math.exp(0.6))
    assert callable(soft.temperature)
    assert callable(steep.slope)
    fixed = GumbelSoftmax(0.5)
    assert estimators_at(fixed, 2.0) is fixed
    assert estimators_at(None, 2.0) is None


@pytest.mark.parametrize(
    ("scheduled", "fixed"),
    [
        (StraightThrough(lambda epoch: 2.0 + epoch), StraightThrough(2.0)),
        (GumbelSoftmax(lambda epoch: 0.7 + epoch), GumbelSoftmax(0.7)),
        (GumbelSoftmax("learned", start=0.7), GumbelSoftmax(0.7)),
    ],
)
def test_a_schedule_begins_at_epoch_zero(scheduled: Any, fixed: Any) -> None:
    m = Layers("binary", 1)
    found = []
    for estimator in (scheduled, fixed):
        torch.manual_seed(0)
        value = elbo(m.p, m.q, data(7), estimators=estimator)
        found.append(torch.autograd.grad(value.sum(), m.weights["q h1"])[0])
    torch.testing.assert_close(*found, atol=1e-6, rtol=1e-6)


def test_a_learned_temperature_learns() -> None:
    torch.manual_seed(0)
    m, estimator = Layers("binary", 1), GumbelSoftmax("learned", start=2.0)
    optimizer = torch.optim.Adam(estimator.parameters(), lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        (-elbo(m.p, m.q, data(1), 101, estimator).mean()).backward()
        optimizer.step()
    assert abs(estimator.log_temperature.item() - math.log(2.0)) > 0.2


def test_estimators_say_what_they_are() -> None:
    assert "temperature=0.5, hard=True" in repr(GumbelSoftmax(hard=True))


def test_a_site_is_drawn_by_the_estimator_that_was_chosen_for_it() -> None:
    m = Layers("binary", 2)
    one, other = LikelihoodRatio(None), MuProp()
    trace = Trace((1, 7), data(7), {"h1": one, "h2": other})
    m.q(trace)
    assert trace.sites["h1"].estimator is one
    assert trace.sites["h2"].estimator is other

"""What an estimator is not for is an error that names the variable and the cure; settings are checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from exact import Layers, data
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Binomial,
    Categorical,
    Cauchy,
    Distribution,
    HalfCauchy,
    Independent,
    Normal,
    Poisson,
    StudentT,
    TransformedDistribution,
)

from ancestral import AncestralSampling, Enumerate, Estimator, EstimatorError, Joint, Trace, elbo, expectation, iwae
from ancestral.distributions import OneHot, base_of
from ancestral.estimators import (
    DARN,
    REBAR,
    RELAX,
    Constant,
    DisARM,
    GumbelSoftmax,
    Half,
    InputDependent,
    LikelihoodRatio,
    MovingAverage,
    MuProp,
    Reparameterized,
    StraightThrough,
    exponential,
    nvil,
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


FLOW = TransformedDistribution(Normal(0.0, 1.0), [torch.distributions.SigmoidTransform()])


@pytest.mark.parametrize(
    "distribution",
    [
        FLOW,
        Cauchy(0.0, 1.0),
        HalfCauchy(1.0),
        Independent(StudentT(torch.tensor([3.0, 0.9, 5.0])), 1),
    ],
    ids=["not known", "none", "infinite", "none of one component"],
)
def test_muprop_expands_the_cost_at_a_mean_that_exists_and_is_known(distribution: Distribution) -> None:
    name = type(base_of(distribution)[0]).__name__
    with pytest.raises(EstimatorError, match=rf"'h' is a {name}, which has no mean, or none that is known in closed"):
        run(distribution, MuProp())


def test_a_variable_without_a_mean_is_drawn_where_muprop_takes_the_means_of_others() -> None:
    torch.manual_seed(0)
    logits, weight = LOGITS.clone().requires_grad_(), torch.tensor(0.7, requires_grad=True)
    q = Joint(
        {
            "c | x": lambda x: Cauchy(weight * torch.ones(len(x)), 1.0),
            "h | c": lambda c: Bernoulli(logits=c + logits[0]),
        }
    )
    value = expectation(
        lambda t: torch.tanh(t["c"]) * t["h"], q, {"x": torch.zeros(7, 5)}, 2, {"c": Reparameterized(), "h": MuProp()}
    )
    for slope in torch.autograd.grad(value.sum(), [logits, weight]):
        assert slope.isfinite().all()
        assert slope.abs().max() > 0


def test_a_parameter_that_is_not_a_number_is_not_taken_for_a_missing_mean() -> None:
    """A run that diverges is told so by whoever watches its loss."""
    broken = Normal(torch.full((7,), math.nan), 1.0, validate_args=False)
    assert run(broken, MuProp()).isnan().all()


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


def test_counts_up_to_a_bound_are_enumerated() -> None:
    probs = torch.tensor([0.3, 0.6], dtype=torch.float64, requires_grad=True)
    q, given = of(Independent(Binomial(4, probs), 1))
    value = expectation(lambda t: t["h"].prod(-1), q, given, estimators=Enumerate())
    torch.testing.assert_close(value, (16 * probs.prod()).expand(7))
    torch.testing.assert_close(torch.autograd.grad(value[0], probs)[0], 16 * probs.detach().flip(0))


def test_counts_whose_bounds_differ_are_not_enumerated() -> None:
    q, given = of(Binomial(torch.tensor([4.0, 5, 4, 4, 4, 4, 4]), torch.full((7,), 0.3)))
    with pytest.raises(EstimatorError, match=r"values of this Binomial are not as many in every row.*LikelihoodRatio"):
        expectation(lambda t: t["h"], q, given, estimators=Enumerate())


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


def test_a_temperature_that_is_no_number_is_an_error() -> None:
    with pytest.raises(
        EstimatorError, match="the temperature is 'low': give a number, a function of the epoch, or 'learned'"
    ):
        GumbelSoftmax("low")  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [GumbelSoftmax, StraightThrough])
def test_a_schedule_that_begins_out_of_its_range_is_an_error_at_once(make: Any) -> None:
    with pytest.raises(EstimatorError, match=r"the \w+ is -1 at epoch 0, but it must be a positive number"):
        make(lambda epoch: epoch - 1)


def test_a_start_of_what_is_not_learned_is_an_error() -> None:
    with pytest.raises(
        EstimatorError, match="start is 2, but it is where a learned temperature starts: give temperature"
    ):
        GumbelSoftmax(start=2.0)


NO_NUMBERS: list[Any] = [math.nan, math.inf, -math.inf, True, "0.5", None, torch.tensor(1.5), 1j, [], MovingAverage]
ANYTHING_ELSE: list[Any] = [*NO_NUMBERS, 0, -1.5, 2]
SETTINGS: dict[str, tuple[Callable[[Any], Any], list[Any], str]] = {
    "constant": (Constant, NO_NUMBERS, "the baseline is"),
    "decay": (MovingAverage, [*NO_NUMBERS, 1, -0.5], "the decay of a moving average is"),
    "temperature of REBAR": (REBAR, [*NO_NUMBERS, 0, -1.5], "the temperature is"),
    "scale of REBAR": (lambda value: REBAR(scale=value), NO_NUMBERS, "the scale is"),
    "learned": (lambda value: REBAR(learned=value), ANYTHING_ELSE[4:], "learned is"),
    "temperature of RELAX": (lambda value: RELAX(nn.Linear(3, 1), value), [*NO_NUMBERS, 0, -1.5], "the temperature is"),
    "scale of RELAX": (lambda value: RELAX(nn.Linear(3, 1), scale=value), NO_NUMBERS, "the scale is"),
    "network of RELAX": (RELAX, ANYTHING_ELSE, "the network of RELAX is"),
    "network of a baseline": (InputDependent, ANYTHING_ELSE, "the network of an input-dependent baseline is"),
    "network of NVIL": (nvil, ANYTHING_ELSE, "the network of an input-dependent baseline is"),
    "maximum": (Enumerate, [*NO_NUMBERS, 0, -1, 1.5], "the maximum is"),
    "slope": (StraightThrough, [*NO_NUMBERS, 0, -1.5], "the slope is"),
    "scheduled slope": (lambda value: StraightThrough(lambda epoch: value), [*NO_NUMBERS, 0], "the slope is"),
    "temperature": (
        GumbelSoftmax,
        [value for value in (*NO_NUMBERS, 0, -1.5) if not isinstance(value, str)],
        "the temperature is",
    ),
    "hard": (lambda value: GumbelSoftmax(hard=value), ANYTHING_ELSE[4:], "hard is"),
    "start": (lambda value: GumbelSoftmax("learned", start=value), [*NO_NUMBERS, 0, -1.5], "the start of a learned"),
    "normalize": (lambda value: LikelihoodRatio(normalize=value), ANYTHING_ELSE[4:], "normalize is"),
    "normalize of MuProp": (lambda value: MuProp(normalize=value), ANYTHING_ELSE[4:], "normalize is"),
    "start of a schedule": (lambda value: exponential(value, 0.1, 0.5), NO_NUMBERS, "the start of the schedule is"),
    "rate of a schedule": (lambda value: exponential(1.0, value, 0.5), NO_NUMBERS, "the rate of the schedule is"),
    "end of a schedule": (lambda value: exponential(1.0, 0.1, value), NO_NUMBERS, "the end of the schedule is"),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_that_is_out_of_range_is_an_error_that_shows_it(setting: str) -> None:
    make, values, words = SETTINGS[setting]
    for value in values:
        with pytest.raises(EstimatorError, match=words):
            make(value)


@pytest.mark.parametrize("make", [lambda s: GumbelSoftmax(s), lambda s: StraightThrough(s)])
def test_a_schedule_that_leaves_its_range_is_an_error_that_says_when(make: Any) -> None:
    estimator = make(lambda epoch: 1 - epoch)
    with pytest.raises(
        EstimatorError, match=r"the (temperature|slope) is -2 at epoch 3, but it must be a positive number"
    ):
        estimators_at(estimator, 3.0)


@pytest.mark.parametrize(
    ("start", "rate", "end"),
    [(1.0, 0.1, 2.0), (1.0, -0.1, 0.5), (0.0, 0.1, 0.5), (1.0, 0.1, 0.0), (1.0, 0.0, 0.5)],
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

"""Unbiased estimators without their variance: every draw in turn, weighted by q, sums to the enumerated gradient."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from exact import Forced, Kind, Layers, assert_same_gradients, data, exact, forced, gradients
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Poisson

from ancestral import Cost, Enumerate, Estimator, Joint, Site, Trace, elbo, expectation
from ancestral.errors import EstimatorError
from ancestral.estimators import (
    DARN,
    GumbelSoftmax,
    InputDependent,
    LeaveOneOut,
    LikelihoodRatio,
    MovingAverage,
    MuProp,
    StraightThrough,
)


class Predictor(nn.Module):
    """For a baseline: one number from any parents."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, *parents: Tensor) -> Tensor:
        rows = parents[0].dim() - 1 if parents[0].dim() <= 2 else 2
        flat = [parent.flatten(rows) for parent in parents]
        return self.scale * torch.cat(flat, -1).sum(-1, keepdim=True) - 1.3


def moving_average(seen: float = -3.1) -> MovingAverage:
    """One that has seen a cost before."""
    average = MovingAverage()
    average.note(torch.tensor(seen))
    average.advance()
    return average


Make = Callable[[], Any]
BASELINES: dict[str, Make] = {
    "none": lambda: None,
    "constant": lambda: 1.7,
    "moving average": moving_average,
    "input-dependent": lambda: InputDependent(Predictor()),
    "both": lambda: [moving_average(), InputDependent(Predictor())],
}
CASES: dict[str, Make] = {
    f"{name}, {baseline}": partial(lambda estimator, make: estimator(make()), estimator, make)
    for name, estimator in (("likelihood ratio", LikelihoodRatio), ("MuProp", MuProp))
    for baseline, make in BASELINES.items()
}
PAIRS: dict[str, Make] = {
    "leave-one-out": LikelihoodRatio,
    "MuProp with leave-one-out": lambda: MuProp(LeaveOneOut()),
    "MuProp": MuProp,
    "none": lambda: LikelihoodRatio(None),
}
both_kinds = pytest.mark.parametrize("kind", ["binary", "one-hot"])
both_depths = pytest.mark.parametrize("layers", [1, 2])


@both_kinds
@both_depths
@pytest.mark.parametrize("case", CASES)
def test_it_sums_to_the_enumerated_gradient(case: str, layers: int, kind: Kind) -> None:
    m, given = Layers(kind, layers), data(2)
    value = forced(m.p, m.q, given, {name: CASES[case]() for name in m.names})
    wanted = exact(m.p, m.q, given)
    torch.testing.assert_close(value, wanted, atol=1e-10, rtol=1e-10)
    assert_same_gradients(value, wanted, m)


@both_kinds
@both_depths
@pytest.mark.parametrize("case", ["likelihood ratio, both", "MuProp, both"])
def test_it_does_where_the_latents_are_drawn_from_p_itself(case: str, layers: int, kind: Kind) -> None:
    m, given = Layers(kind, layers), data(2)
    value = forced(m.p, m.p, given, {name: CASES[case]() for name in m.names})
    assert_same_gradients(value, exact(m.p, m.p, given), m)


@both_kinds
@pytest.mark.parametrize("pair", list(itertools.product(PAIRS, PAIRS)), ids=" and ".join)
def test_estimators_mix_over_layers_and_compare_two_particles(pair: tuple[str, str], kind: Kind) -> None:
    m, given = Layers(kind, 2), data(1)
    estimators = {name: PAIRS[one]() for name, one in zip(m.names, pair, strict=True)}
    value = forced(m.p, m.q, given, estimators, particles=2)
    torch.testing.assert_close(value, exact(m.p, m.q, given), atol=1e-10, rtol=1e-10)
    assert_same_gradients(value, exact(m.p, m.q, given), m)


@both_kinds
@both_depths
@pytest.mark.parametrize("case", ["leave-one-out", *[f"likelihood ratio, {name}" for name in BASELINES]])
def test_under_the_importance_weighted_bound_it_sums_to_the_gradient_of_that(
    case: str, layers: int, kind: Kind
) -> None:
    m, given = Layers(kind, layers), data(1)
    make = {**CASES, **PAIRS}[case]
    value = forced(m.p, m.q, given, {name: make() for name in m.names}, "iwae", particles=2)
    wanted = exact(m.p, m.q, given, "iwae", particles=2)
    torch.testing.assert_close(value, wanted, atol=1e-10, rtol=1e-10)
    assert (wanted > exact(m.p, m.q, given) + 0.01).all()
    assert_same_gradients(value, wanted, m)


def test_three_particles_are_compared_too() -> None:
    m, given = Layers("one-hot", 1), data(1)
    for objective in ("elbo", "iwae"):
        value = forced(m.p, m.q, given, {"h1": LikelihoodRatio()}, objective, particles=3)
        assert_same_gradients(value, exact(m.p, m.q, given, objective, particles=3), m)


def test_a_structured_prediction_under_the_importance_weighted_bound_is_exact() -> None:
    m, given = Layers("binary", 2), data(1)
    estimators = {name: LikelihoodRatio() for name in m.names}
    value = forced(m.p, m.p, given, estimators, "iwae", particles=2)
    assert_same_gradients(value, exact(m.p, m.p, given, "iwae", particles=2), m)


@pytest.mark.parametrize("make", [lambda: LikelihoodRatio(None), MuProp])
def test_the_weight_of_the_divergences_enters_the_signal(make: Make) -> None:
    m, given = Layers("binary", 2), data(2)
    value = forced(m.p, m.q, given, {name: make() for name in m.names}, beta=0.3)
    assert_same_gradients(value, exact(m.p, m.q, given, beta=0.3), m)


@pytest.mark.parametrize("make", [lambda: LikelihoodRatio(None), MuProp])
def test_a_divergence_in_closed_form_stays_in_the_signal_of_what_it_depends_on(make: Make) -> None:
    m, given = Layers("binary", 2), data(2)
    value = forced(m.p, m.q, given, {name: make() for name in m.names}, analytic_kl=["h2"])
    assert_same_gradients(value, exact(m.p, m.q, given), m)


@pytest.mark.parametrize("make", [lambda: LikelihoodRatio(None), MuProp])
def test_a_divergence_in_closed_form_depends_on_the_parents_that_only_p_has(make: Make) -> None:
    m, given = Layers("binary", 2), data(2)
    above = nn.Parameter(torch.tensor([[0.3, -0.9]] * 4, dtype=torch.float64))
    q = Joint(
        {"h2 | x": lambda x: Independent(bit(x @ above), 1), "h1 | x": m.q.conditionals["h1"]},
    )
    assert q.variables == ("h2", "h1")
    value = forced(m.p, q, given, {name: make() for name in m.names}, analytic_kl=["h1"])
    wanted = exact(m.p, q, given)
    slopes = [torch.autograd.grad(each.sum(), above, retain_graph=True)[0] for each in (value, wanted)]
    torch.testing.assert_close(*slopes, atol=1e-10, rtol=1e-10)
    assert_same_gradients(value, wanted, m)


@pytest.mark.parametrize("make", [lambda: LikelihoodRatio(None), MuProp])
def test_two_layers_are_those_summed_by_hand(two_layers: Any, make: Make) -> None:
    given = {"x": data(2)["x"]}
    value = forced(two_layers.p, two_layers.q, given, {"h1": make(), "h2": make()})
    assert_same_gradients(value, two_layers.by_hand(given["x"])[1], two_layers)


@pytest.mark.parametrize("particles", [1, 2])
@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_a_class_index_is_one_variable_more(mixture: Any, objective: Any, particles: int) -> None:
    given = {"x": data(2)["x"]}
    estimator = LikelihoodRatio(None) if particles == 1 else LikelihoodRatio()
    value = forced(mixture.p, mixture.q, given, {"y": estimator}, objective, particles)
    assert_same_gradients(value, exact(mixture.p, mixture.q, given, objective, particles), mixture)


# models with a state: any callable


def stateful(joint: Joint) -> Callable[[Trace], Trace]:
    """The same model, as a function that hides its graph."""
    return lambda trace: joint(trace)


@pytest.mark.parametrize("which", ["p", "q", "both"])
@pytest.mark.parametrize("make", [lambda: LikelihoodRatio(None), lambda: LikelihoodRatio(moving_average()), MuProp])
def test_a_model_whose_graph_is_unknown_has_the_same_gradient(make: Make, which: str) -> None:
    m, given = Layers("binary", 2), data(2)
    p = m.p if which == "q" else stateful(m.p)
    q = m.q if which == "p" else stateful(m.q)
    value = forced(p, q, given, {name: make() for name in m.names})
    assert_same_gradients(value, exact(m.p, m.q, given), m)


@pytest.mark.parametrize("make", [lambda: LikelihoodRatio(InputDependent(Predictor())), MuProp])
def test_a_deterministic_variable_between_two_latents_passes_the_gradient(make: Make) -> None:
    m, given = Layers("binary", 2), data(2)
    q = Joint(
        {"h1 | x": m.q.conditionals["h1"], "d | h1": lambda h1: torch.sin(3 * h1), "h2 | d": m.q.conditionals["h2"]}
    )
    p = Joint(
        {"h2 | c": m.p.conditionals["h2"], "e | h2": lambda h2: h2**2 - 0.4 * h2, "h1 | e": m.p.conditionals["h1"]}
        | {"x | h1": m.p.conditionals["x"]}
    )
    value = forced(p, q, given, {name: make() for name in m.names})
    assert_same_gradients(value, exact(p, q, given), m)


# beside enumerated variables


class Bits(nn.Module):
    """h1 and h2 are one bit each: small enough to set h2 for each value of an enumerated h1."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(7)
        self.w = nn.Parameter(torch.randn(11, generator=random, dtype=torch.float64))
        w = self.w
        self.p = Joint(
            {
                "h2": lambda: bit(w[0]),
                "h1 | h2": lambda h2: bit(w[1] + 2 * w[2] * h2),
                "x | h1, h2": lambda h1, h2: bit(w[3] + w[4] * h1 - 2 * w[5] * h2 + 3 * w[6] * h1 * h2),
            }
        )
        self.q = Joint(
            {
                "h1 | x": lambda x: bit(w[7] + w[8] * x),
                "h2 | h1, x": lambda h1, x: bit(w[9] + w[10] * h1 * (1 + x)),
            }
        )


def bit(logits: Tensor) -> Distribution:
    return torch.distributions.Bernoulli(logits=logits)


@pytest.mark.parametrize("particles", [1, 2])
@pytest.mark.parametrize("make", [lambda: LikelihoodRatio(None), LikelihoodRatio, MuProp])
def test_a_variable_drawn_after_an_enumerated_one_is_exact(make: Make, particles: int) -> None:
    if make is LikelihoodRatio and particles == 1:
        return
    m = Bits()
    # h2 is drawn anew for each value of h1 and each particle: every function from these to bits
    table = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2 * particles)), dtype=torch.float64)
    value = table.T.reshape(2, particles, -1)
    x = torch.ones(value.shape[-1], dtype=torch.float64)
    h1 = torch.tensor([0.0, 1.0], dtype=torch.float64)[:, None, None].expand_as(value)
    q_h2 = m.q.conditionals["h2"](h1, x)
    assert isinstance(q_h2, Distribution)
    mass = q_h2.log_prob(value).sum((0, 1)).exp().detach()
    estimators: dict[str, Estimator] = {"h1": Enumerate(), "h2": Forced(make(), value)}
    weighted = mass * elbo(m.p, m.q, {"x": x}, particles, estimators)
    wanted = exact(m.p, m.q, {"x": x[:1]})
    torch.testing.assert_close(weighted.sum(), wanted.sum(), atol=1e-10, rtol=1e-10)
    assert_same_gradients(weighted.sum(0, keepdim=True), wanted, m)


@pytest.mark.parametrize("particles", [1, 2])
@pytest.mark.parametrize("make", [lambda: LikelihoodRatio(None), LikelihoodRatio, MuProp])
def test_a_variable_drawn_before_an_enumerated_one_is_exact(make: Make, particles: int) -> None:
    if make is LikelihoodRatio and particles == 1:
        return
    m = Bits()
    value = torch.tensor(list(itertools.product([0.0, 1.0], repeat=particles)), dtype=torch.float64).T
    x = torch.ones(value.shape[-1], dtype=torch.float64)
    q_h1 = m.q.conditionals["h1"](x)
    assert isinstance(q_h1, Distribution)
    mass = q_h1.log_prob(value).sum(0).exp().detach()
    weighted = mass * elbo(m.p, m.q, {"x": x}, particles, {"h1": Forced(make(), value), "h2": Enumerate()})
    wanted = exact(m.p, m.q, {"x": x[:1]})
    torch.testing.assert_close(weighted.sum(), wanted.sum(), atol=1e-10, rtol=1e-10)
    assert_same_gradients(weighted.sum(0, keepdim=True), wanted, m)


# estimators with a state: one draw at a time, each met in the state that the others left behind


def one_at_a_time(make: Make, m: Layers, shared: bool, warm: int) -> Tensor:
    """Each draw is a batch of one, met by an estimator that has seen ``warm`` others before."""
    given = data(1)
    apart = {name: make() for name in m.names}
    one = make()
    estimators = {name: one if shared else apart[name] for name in m.names}
    torch.manual_seed(0)
    for _ in range(warm):
        elbo(m.p, m.q, given, estimators=estimators)
    total = torch.zeros(1, dtype=torch.float64)
    every_value = itertools.product(*(itertools.product([0.0, 1.0], repeat=m.shapes[name][0]) for name in m.names))
    for values in every_value:
        fresh = copy.deepcopy(estimators)
        value = {n: torch.tensor(v, dtype=torch.float64)[None, None] for n, v in zip(m.names, values, strict=True)}
        trace = Trace((1, 1), {**given, **value})
        m.q(trace)
        mass = trace.log_prob(m.names).exp().detach().squeeze()
        total = total + mass * elbo(m.p, m.q, given, estimators={n: Forced(fresh[n], value[n]) for n in m.names})
    return total


@pytest.mark.parametrize("warm", [0, 3])
@pytest.mark.parametrize("shared", [False, True], ids=["one for each variable", "one for all variables"])
@pytest.mark.parametrize("make", [lambda: LikelihoodRatio(MovingAverage()), lambda: MuProp(MovingAverage())])
def test_a_moving_average_holds_nothing_of_the_draw_that_it_is_subtracted_from(
    make: Make, shared: bool, warm: int
) -> None:
    m = Layers("binary", 2)
    assert_same_gradients(one_at_a_time(make, m, shared, warm), exact(m.p, m.q, data(1)), m)


@pytest.mark.parametrize("shared", [False, True], ids=["one for each variable", "one for all variables"])
def test_a_normalized_signal_is_shorter_by_the_deviation_of_earlier_signals(shared: bool) -> None:
    m, given = Layers("binary", 2), data(1)
    deviation = 2.3

    def make() -> LikelihoodRatio:
        estimator = LikelihoodRatio(None, normalize=True)
        estimator.baselines.variance.note(torch.tensor(deviation**2, dtype=torch.float64))
        return estimator

    short = gradients(one_at_a_time(make, m, shared, 0), m)
    whole = gradients(exact(m.p, m.q, given), m)
    for name, a, b in zip(m.weights, short, whole, strict=True):
        torch.testing.assert_close(a, b / deviation if name.startswith("q") else b, atol=1e-10, rtol=1e-10)


def test_signals_below_one_are_not_made_longer() -> None:
    m, given = Layers("binary", 1), data(1)
    estimator = LikelihoodRatio(None, normalize=True)
    estimator.baselines.variance.note(torch.tensor(0.01, dtype=torch.float64))
    assert_same_gradients(forced(m.p, m.q, given, {"h1": estimator}), exact(m.p, m.q, given), m)


@pytest.mark.parametrize("make", [LikelihoodRatio, MuProp])
def test_a_divergence_in_closed_form_would_outweigh_a_normalized_signal_and_is_refused(make: Make) -> None:
    m, given = Layers("binary", 1), data(2)
    with pytest.raises(EstimatorError, match=r"of 'h1' divides its signal .* leave 'h1' out of analytic_kl"):
        elbo(m.p, m.q, given, 1, {"h1": make(None, normalize=True)}, analytic_kl=["h1"])


def test_normalized_muprop_shortens_one_of_its_two_parts_so_its_direction_is_another() -> None:
    m, given = Layers("binary", 1), data(1)
    estimator = MuProp(normalize=True)
    estimator.baselines.variance.note(torch.tensor(1e4, dtype=torch.float64))
    mine = gradients(forced(m.p, m.q, given, {"h1": estimator}), m)
    whole = gradients(exact(m.p, m.q, given), m)
    a, b = (torch.cat([g.flatten() for n, g in zip(m.weights, gs, strict=True) if n[0] == "q"]) for gs in (mine, whole))
    assert 0.5 < torch.cosine_similarity(a, b, 0) < 0.999


# biased in general, but not here


class Cost2(nn.Module):
    """A cost of three bits whose logits are parameters: linear, quadratic in each bit, or of higher degree."""

    def __init__(self, degree: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.4, -1.1, 0.9], dtype=torch.float64))
        self.degree = degree
        self.q = Joint({"h | x": lambda x: Independent(bit(self.logits.expand(len(x), 3)), 1)})

    def cost(self, trace: Trace) -> Tensor:
        a, b, c = trace["h"].unbind(-1)
        linear = 1.3 * a - 0.7 * b + 2.1 * c
        quadratic = a * b - 1.9 * b * c + 0.8 * a * b * c + 1.1 * a**2  # of each bit for itself
        return linear + (quadratic if self.degree > 1 else 0) + (2 * a**3 - b**4 if self.degree > 2 else 0)

    def summed(self, estimator: Any) -> tuple[Tensor, Tensor]:
        """The gradient of the estimator summed over every draw, and that of the sum."""
        value = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)), dtype=torch.float64)
        x = torch.zeros(8, 1)
        mass = torch.exp((value * self.logits - nn.functional.softplus(self.logits)).sum(-1))
        trace = Trace((8,), {"h": value, "x": x})
        wanted = (mass * self.cost(trace)).sum()
        mine = mass.detach() @ expectation(self.cost, self.q, {"x": x}, 1, {"h": Forced(estimator, value[None])})
        torch.testing.assert_close(mine, wanted)
        return torch.autograd.grad(mine, self.logits)[0], torch.autograd.grad(wanted, self.logits)[0]


def test_straight_through_is_exact_where_the_cost_is_linear() -> None:
    mine, wanted = Cost2(1).summed(StraightThrough())
    torch.testing.assert_close(mine, wanted, atol=1e-10, rtol=1e-10)
    mine, wanted = Cost2(2).summed(StraightThrough())
    assert ((mine - wanted).abs() > 1e-2).any()


def test_darn_is_exact_where_the_cost_is_quadratic_in_each_bit() -> None:
    for degree in (1, 2):
        mine, wanted = Cost2(degree).summed(DARN())
        torch.testing.assert_close(mine, wanted, atol=1e-10, rtol=1e-10)
    mine, wanted = Cost2(3).summed(DARN())
    assert ((mine - wanted).abs() > 1e-2).any()


def test_muprop_has_no_variance_where_the_cost_is_linear() -> None:
    m = Cost2(1)
    found = []
    for value in itertools.product([0.0, 1.0], repeat=3):
        drawn = torch.tensor(value, dtype=torch.float64)[None, None]
        cost = expectation(m.cost, m.q, {"x": torch.zeros(1, 1)}, 1, {"h": Forced(MuProp(), drawn)})
        found.append(torch.autograd.grad(cost.sum(), m.logits)[0])
    torch.testing.assert_close(torch.stack(found), found[0].expand(8, 3), atol=1e-12, rtol=0)


def test_a_baseline_of_muprop_sees_what_the_tangent_leaves() -> None:
    m, found = Cost2(1), []
    for values in itertools.product([0.0, 1.0], repeat=6):
        drawn = torch.tensor(values, dtype=torch.float64).reshape(2, 1, 3)
        cost = expectation(m.cost, m.q, {"x": torch.zeros(1, 1)}, 2, {"h": Forced(MuProp(LeaveOneOut()), drawn)})
        found.append(torch.autograd.grad(cost.sum(), m.logits)[0])
    torch.testing.assert_close(torch.stack(found), found[0].expand(64, 3), atol=1e-12, rtol=0)


def test_a_count_is_drawn_with_the_likelihood_ratio() -> None:
    log_rate = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    counts = torch.arange(40.0, dtype=torch.float64)
    q = Joint({"n | x": lambda x: Poisson(log_rate.exp().expand(len(x)))})

    def cost(trace: Trace) -> Tensor:
        return torch.sin(trace["n"]) + 0.3 * trace["n"]

    mass = Poisson(log_rate.exp()).log_prob(counts).exp()
    (wanted,) = torch.autograd.grad((mass * (torch.sin(counts) + 0.3 * counts)).sum(), log_rate)
    forced_draw = Forced(LikelihoodRatio(2.0), counts[None])
    value = expectation(cost, q, {"x": torch.zeros(40, 1)}, 1, forced_draw)
    mass = Poisson(log_rate.exp()).log_prob(counts).exp().detach()
    torch.testing.assert_close(torch.autograd.grad(mass @ value, log_rate)[0], wanted, atol=1e-10, rtol=1e-10)


def test_an_estimator_of_the_user_has_what_the_library_s_have() -> None:
    """A term written by hand, from what a cost offers."""

    class Mine:
        def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
            return distribution.sample(torch.Size(trace.missing_shape(distribution)))

        def term(self, site: Site, cost: Cost) -> Tensor:
            return (cost.value - cost.particles.mean()) * site.log_prob

    m, given = Layers("one-hot", 2), data(1)
    assert_same_gradients(forced(m.p, m.q, given, {name: Mine() for name in m.names}), exact(m.p, m.q, given), m)


@pytest.mark.parametrize("above", [StraightThrough, lambda: GumbelSoftmax(0.5)])
@pytest.mark.parametrize("make", [LikelihoodRatio, MuProp])
def test_below_a_variable_that_carries_a_gradient_a_normalized_signal_is_refused(make: Make, above: Make) -> None:
    m, given = Layers("binary", 2), data(2)
    with pytest.raises(EstimatorError, match=r"of 'h2' divides .* but 'h1', which it depends on, carries a gradient"):
        elbo(m.p, m.q, given, 1, {"h1": above(), "h2": make(None, normalize=True)})
    loss = elbo(m.p, m.q, given, 1, {"h2": above(), "h1": make(None, normalize=True)})  # the other way it is right
    assert loss.requires_grad

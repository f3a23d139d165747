"""Baselines: what they subtract, that what is fitted fits, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from exact import Forced, Layers, data, exact, exact_gradient, forced, gradients, samples, z_scores
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent

from ancestral import EstimatorError, Joint, Trace, elbo, expectation, iwae
from ancestral.estimators import (
    Constant,
    InputDependent,
    LeaveOneOut,
    LikelihoodRatio,
    MovingAverage,
    MuProp,
    nvil,
)
from ancestral.estimators.baselines import leave_one_out


def test_the_signal_is_the_bound_less_the_bound_without_the_particle() -> None:
    """VIMCO's rule: each particle's cost is replaced by the mean of the others."""
    costs = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for k in range(5):
        others = torch.cat([costs[:k], costs[k + 1 :]]).mean(0)
        torch.testing.assert_close(leave_one_out(costs, "mean")[k], others)
        replaced = costs.clone()
        replaced[k] = others
        by_hand = replaced.exp().mean(0).log()
        torch.testing.assert_close(leave_one_out(costs, "log-mean-exp")[k], by_hand)


@pytest.mark.parametrize("offset", [-1e4, 1e4])
def test_far_away_costs_do_not_overflow(offset: float) -> None:
    costs = offset + torch.randn(5, 7, dtype=torch.float64)
    near = leave_one_out(costs - offset, "log-mean-exp")
    torch.testing.assert_close(leave_one_out(costs, "log-mean-exp"), offset + near)


@pytest.mark.parametrize("bound", [elbo, iwae])
def test_one_particle_has_no_others_to_be_compared_with(bound: Any) -> None:
    m = Layers("binary", 1)
    with pytest.raises(EstimatorError, match=r"there is only one. Use particles=2 or more, or another baseline"):
        bound(m.p, m.q, data(7), 1, LikelihoodRatio())


def test_a_moving_average_is_the_weighted_mean_of_earlier_costs() -> None:
    average = MovingAverage(0.7)
    costs = [3.0, -1.0, 4.5, 2.0]
    for n in range(len(costs)):
        weights = [0.7 ** (n - 1 - i) for i in range(n)]
        by_hand = sum(w * c for w, c in zip(weights, costs[:n], strict=True)) / max(sum(weights), 1e-9)
        assert average.average.item() == pytest.approx(by_hand)
        average.note(torch.tensor([costs[n] - 1, costs[n] + 1]))
        assert average.average.item() == pytest.approx(by_hand)  # not before a new run begins
        average.advance()
    average.advance()
    assert average.average.item() == pytest.approx(
        sum(0.7 ** (3 - i) * c for i, c in enumerate(costs)) / sum(0.7**i for i in range(4))
    )


def test_variables_that_share_a_moving_average_count_as_one_cost() -> None:
    average = MovingAverage()
    average.note(torch.tensor(2.0))
    average.note(torch.tensor(6.0))
    average.advance()
    assert average.average.item() == pytest.approx(4.0)
    assert average.weight.item() == 1


def test_beside_a_network_the_moving_average_is_of_what_the_network_leaves() -> None:
    torch.manual_seed(0)
    network = nn.Linear(4, 1).double()
    average = MovingAverage()
    m = Layers("binary", 1)
    estimator = LikelihoodRatio([average, InputDependent(network)])
    for _ in range(2):
        elbo(m.p, m.q, data(7), 2, estimator)
    torch.manual_seed(1)
    bound = elbo(m.p, m.q, data(7), 2, estimator)
    before = average.average
    average.advance()
    left = (bound - network(data(7)["x"]).squeeze(-1)).mean().item()
    assert average.average.item() == pytest.approx((0.9 * 1.9 * before.item() + left) / (0.9 * 1.9 + 1), abs=1e-9)


def test_the_state_of_a_moving_average_is_kept_with_the_model() -> None:
    m = Layers("binary", 1)
    one, other = (LikelihoodRatio(MovingAverage(), normalize=True) for _ in range(2))
    elbo(m.p, m.q, data(7), estimators=one)
    other.load_state_dict(one.state_dict())
    for estimator in (one, other):
        torch.manual_seed(0)
        found = gradients(elbo(m.p, m.q, data(7), estimators=estimator), m)
        if estimator is one:
            wanted = found
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def toy(rows: int) -> tuple[Joint, Tensor, dict[str, Tensor]]:
    logits = torch.zeros(rows, 2, dtype=torch.float64, requires_grad=True)
    x = torch.randn(rows, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return Joint({"h | x": lambda x: Independent(Bernoulli(logits=logits), 1)}), logits, {"x": x}


def cost(trace: Trace) -> Tensor:
    return 5 * trace["x"].sum(-1) + 7 + trace["h"].sum(-1)


@pytest.mark.parametrize("sign", [1, -1], ids=["the expectation is lowered", "it is raised"])
@pytest.mark.parametrize("make", [lambda n: LikelihoodRatio(InputDependent(n)), nvil])
def test_an_input_dependent_baseline_fits_the_cost_and_the_variance_falls(make: Any, sign: int) -> None:
    torch.manual_seed(0)
    q, logits, given = toy(211)
    network = nn.Linear(3, 1).double()
    estimator = make(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.2)

    def gradient() -> Tensor:
        optimizer.zero_grad()
        value = expectation(cost, q, given, 1, {"h": estimator})
        logits.grad = None
        (sign * value.mean()).backward()
        assert logits.grad is not None
        return logits.grad

    first = gradient().var()
    for _ in range(300):
        gradient()
        optimizer.step()
    torch.testing.assert_close(network.weight, torch.full((1, 3), 5.0, dtype=torch.float64), atol=0.2, rtol=0)
    if not estimator.baselines.normalize:  # else the moving average has its share of it
        torch.testing.assert_close(network.bias, torch.full((1,), 8.0, dtype=torch.float64), atol=0.2, rtol=0)
    assert gradient().var() < 0.05 * first


def test_the_gradient_of_the_network_is_that_of_half_the_squared_error() -> None:
    q, _, given = toy(7)
    network = nn.Linear(3, 1).double()
    torch.manual_seed(0)
    value = expectation(cost, q, given, 2, {"h": LikelihoodRatio(InputDependent(network))})
    mine = torch.autograd.grad(value.sum(), list(network.parameters()))
    torch.manual_seed(0)
    costs: list[Tensor] = []
    expectation(lambda t: costs.append(cost(t)) or costs[0], q, given, 2, {"h": LikelihoodRatio(None)})  # type: ignore[func-returns-value]
    error = 0.5 * (costs[0].detach() - network(given["x"]).squeeze(-1)) ** 2
    for a, b in zip(mine, torch.autograd.grad(error.mean(0).sum(), list(network.parameters())), strict=True):
        torch.testing.assert_close(a, b)


def test_fitting_a_baseline_leaves_no_gradient_in_what_it_reads() -> None:
    """The baseline of h2 reads h1, which may be a function of parameters."""
    m = Layers("binary", 2)
    network = nn.Linear(3, 1).double()
    estimators = {"h1": LikelihoodRatio(None), "h2": LikelihoodRatio(InputDependent(network))}
    q = Joint(
        {
            "d | x": lambda x: torch.tanh(m.affine("q h1", x)),
            "h1 | x": m.q.conditionals["h1"],
            "h2 | d": m.q.conditionals["h2"],
        }
    )
    value = forced(m.p, q, data(1), estimators)
    for a, b in zip(gradients(value, m), gradients(exact(m.p, q, data(1)), m), strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("baseline", [3.0, MovingAverage(), Constant(3.0)])
def test_a_good_baseline_lowers_the_variance(baseline: Any) -> None:
    torch.manual_seed(0)
    m = Layers("binary", 1)
    value, wanted = exact_gradient(m)
    if isinstance(baseline, float):
        baseline = value.item()
    elif isinstance(baseline, Constant):
        baseline = Constant(value.item())
    estimator = LikelihoodRatio(baseline)
    samples(m, estimator, 101)  # a moving average has nothing to subtract at first
    _, with_baseline = samples(m, estimator, 20_011)
    _, without = samples(m, LikelihoodRatio(None), 20_011)
    assert z_scores(with_baseline, wanted).abs().max() < 4.5
    assert with_baseline.var(0).sum() < 0.3 * without.var(0).sum()


def test_two_particles_compared_have_a_lower_variance_than_two_alone() -> None:
    torch.manual_seed(0)
    m = Layers("one-hot", 2)
    for objective in ("elbo", "iwae"):
        _, wanted = exact_gradient(m, objective, 2)
        _, compared = samples(m, LikelihoodRatio(), 20_011, objective, 2)
        _, alone = samples(m, LikelihoodRatio(None), 20_011, objective, 2)
        for drawn in (compared, alone):
            assert z_scores(drawn, wanted).abs().max() < 4.5
        assert compared.var(0).sum() < 0.7 * alone.var(0).sum()


def test_muprop_has_a_lower_variance_than_the_likelihood_ratio() -> None:
    torch.manual_seed(0)
    m = Layers("binary", 2)
    (_, a), (_, b) = (samples(m, estimator, 20_011) for estimator in (MuProp(), LikelihoodRatio(None)))
    assert a.var(0).sum() < 0.5 * b.var(0).sum()


def test_a_baseline_of_the_user_is_a_function() -> None:
    m = Layers("binary", 1)
    value = forced(m.p, m.q, data(1), {"h1": LikelihoodRatio(lambda particles, cost: 0 * particles + 4.1)})
    for a, b in zip(gradients(value, m), gradients(exact(m.p, m.q, data(1)), m), strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


# what is refused


@pytest.mark.parametrize("estimator", [LikelihoodRatio, MuProp])
@pytest.mark.parametrize(
    ("baseline", "seen"),
    [
        ("leave-one-out", "'leave-one-out'"),
        (MovingAverage, "<class .*MovingAverage'>"),
        ([MovingAverage(), "x"], "'x'"),
        ([1.0, None], "None"),
        (torch.tensor(1.0), r"tensor\(1\.\)"),
        (True, "True"),
        (False, "False"),
    ],
)
def test_what_is_no_baseline_is_an_error(estimator: Any, baseline: Any, seen: str) -> None:
    with pytest.raises(EstimatorError, match=rf"the baseline is {seen}: give LeaveOneOut\(\), MovingAverage\(\)"):
        estimator(baseline)


def test_a_number_among_baselines_is_added_to_them() -> None:
    m = Layers("binary", 1)
    torch.manual_seed(0)
    one = gradients(elbo(m.p, m.q, data(7), estimators=LikelihoodRatio([1.5, Constant(0.5)])), m)
    torch.manual_seed(0)
    other = gradients(elbo(m.p, m.q, data(7), estimators=LikelihoodRatio(2)), m)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("others", [[MovingAverage()], [Constant(1.0), MovingAverage()], [LeaveOneOut()]])
def test_leave_one_out_leaves_other_baselines_nothing_to_do(others: list[Any]) -> None:
    with pytest.raises(EstimatorError, match=r"LeaveOneOut\(\) already subtracts the mean of the other particles"):
        LikelihoodRatio([LeaveOneOut(), *others])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_constant_is_a_number(value: float) -> None:
    with pytest.raises(EstimatorError, match="but it must be a number"):
        LikelihoodRatio(value)


@pytest.mark.parametrize("decay", [1.0, -0.1, 1.5])
def test_a_decay_lies_between_zero_and_one(decay: float) -> None:
    with pytest.raises(EstimatorError, match=r"the decay of a moving average is .*, but it lies in \[0, 1\)"):
        MovingAverage(decay)


def test_a_network_predicts_one_number() -> None:
    m = Layers("binary", 1)
    with pytest.raises(EstimatorError, match=r"gives shape \(7, 2\), but it predicts one number for each datapoint"):
        elbo(m.p, m.q, data(7), estimators=LikelihoodRatio(InputDependent(nn.Linear(4, 2).double())))


def test_a_forced_draw_is_met_with_the_state_before_it() -> None:
    """A run begins when something is drawn, so a second value of the same run sees the same average."""
    m = Layers("binary", 1)
    estimator = LikelihoodRatio(MovingAverage())
    average = estimator.baselines.chosen[0]
    assert isinstance(average, MovingAverage)
    value = torch.ones(1, 1, 3, dtype=torch.float64)
    for runs in range(3):
        elbo(m.p, m.q, data(1), estimators={"h1": Forced(estimator, value)})
        assert average.weight.item() == pytest.approx(sum(0.9**i for i in range(runs)))


def test_a_distribution_that_is_wider_than_the_batch_is_averaged_over_particles() -> None:
    """One draw per particle of a variable that depends on no data: the term is one for each datapoint."""
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)

    def latent(x: Tensor) -> Distribution:
        return Independent(Bernoulli(logits=logits), 1)

    torch.manual_seed(0)
    q = Joint({"h | x": latent})
    value = expectation(lambda t: t["h"].sum(-1), q, {"x": torch.zeros(20_011, 1)}, 2, {"h": LikelihoodRatio()})
    (slope,) = torch.autograd.grad(value.mean(), logits)
    torch.testing.assert_close(slope, torch.full((3,), 0.25, dtype=torch.float64), atol=0.02, rtol=0)

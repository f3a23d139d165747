"""Annealed importance sampling against models whose log p(x) is known."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Gamma, Independent, MultivariateNormal, Normal

from ancestral import Joint, Trace, bernoulli, bernoulli_bias, linear
from ancestral.errors import AncestralError, GraphError, ShapeError
from ancestral.evaluation import Annealed, annealed_importance_sampling, bidirectional
from ancestral.evaluation.ais import relative_variance, schedule
from ancestral.objectives import memory


def mean_weight(annealed: Annealed, log_p: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of w / p(x), or of p(x) / w, over chains, and its standard error, ``[batch]``."""
    ratio = torch.exp(annealed.log_weights + (log_p if annealed.reversed else -log_p))
    return ratio.mean(0), ratio.std(0) / math.sqrt(len(ratio))


def test_the_schedule_goes_from_0_to_1_and_is_closer_at_both_ends() -> None:
    inverse = schedule(53)
    assert len(inverse) == 54
    assert inverse[0] == 0
    assert inverse[-1] == 1
    widths = [b - a for a, b in itertools.pairwise(inverse)]
    assert min(widths) > 0
    assert max(widths) == widths[26] > 5 * widths[0]
    assert widths == pytest.approx(widths[::-1])
    sigmoid = [1 / (1 + math.exp(-value)) for value in (-4, 4 * (2 * 7 / 53 - 1), 4)]
    assert inverse[7] == pytest.approx((sigmoid[1] - sigmoid[0]) / (sigmoid[2] - sigmoid[0]))


@pytest.mark.parametrize("start", ["prior", "posterior"])
@pytest.mark.parametrize("temperatures", [2, 5, 23])
def test_the_weights_have_the_mean_p_of_x_whatever_the_temperatures(
    linear_gaussian: Any, start: str, temperatures: int
) -> None:
    """Where the chains are still far from the posterior, too; so the steps must not depend on what is weighed."""
    m = linear_gaussian
    torch.manual_seed(0)
    x = m.b + m.W @ m.m + torch.tensor([[0.3, -0.2, 0.4, 0.1, -0.5], [-0.4, 0.2, 0.1, 0.6, 0.2]]).double()
    q = Joint({"z | x": m.rough_posterior})
    found = annealed_importance_sampling(m.p, {"x": x}, 4001, temperatures, 3, q=q if start == "posterior" else None)
    mean, error = mean_weight(found, m.log_prob(x))
    assert (error < 0.35).all()
    assert ((mean - 1).abs() < 4 * error).all()


@pytest.mark.parametrize("temperatures", [1, 2, 5])
def test_the_weights_of_the_way_back_have_the_mean_1_over_p_of_x(temperatures: int) -> None:
    """z ~ N(0, 1), x | z ~ N(z, 2²), where they have a variance even with a single temperature."""
    torch.manual_seed(1)
    rows = 40_009
    p = Joint(
        {
            "z": lambda: Independent(Normal(torch.zeros(1).double(), 1.0), 1),
            "x | z": lambda z: Independent(Normal(z, 2.0), 1),
        }
    )
    z = torch.randn(rows, 1, dtype=torch.float64)
    x = z + 2 * torch.randn_like(z)
    log_p = Normal(0.0, 5**0.5).log_prob(x[:, 0])  # type: ignore[no-untyped-call]
    found = annealed_importance_sampling(p, {"x": x}, 2, temperatures, 2, exact={"z": z})
    ratio = torch.exp(found.log_weights + log_p).mean(0)  # one exact draw for each: rows are independent
    error = ratio.std().item() / math.sqrt(rows)
    assert error < 0.005
    assert abs(ratio.mean().item() - 1) < 4 * error
    # from a place that is no draw of the posterior, they have another
    wrong = annealed_importance_sampling(p, {"x": x}, 2, temperatures, 2, exact={"z": x / 5})
    ratio = torch.exp(wrong.log_weights + log_p).mean(0)
    assert abs(ratio.mean().item() - 1) > 4 * ratio.std().item() / math.sqrt(rows)


def test_the_estimates_from_both_sides_bracket_the_truth_and_close_in_on_it(linear_gaussian: Any) -> None:
    m = linear_gaussian
    torch.manual_seed(2)
    given = {"x": m.x.repeat(40, 1)}
    gaps = []
    for temperatures in (10, 100):
        found = bidirectional(m.p, given, 2, temperatures, 3)
        truth = m.log_prob(found.given["x"])
        below, above = truth - found.lower.log_prob, found.upper.log_prob - truth
        for side in (below, above):
            assert side.mean() > 2 * side.std() / math.sqrt(280)
        torch.testing.assert_close(found.gap, below + above)
        assert abs(found.upper.acceptance.mean() - found.lower.acceptance.mean()) < 0.05  # each place has its step size
        gaps.append(found.gap.mean().item())
    assert 0 < gaps[1] < gaps[0] / 4
    assert gaps[1] < 0.8


def test_at_the_exact_posterior_every_weight_is_p_of_x(linear_gaussian: Any) -> None:
    m = linear_gaussian
    torch.manual_seed(3)
    found = annealed_importance_sampling(m.p, {"x": m.x}, 5, 7, 3, q=Joint({"z | x": m.posterior}))
    torch.testing.assert_close(found.log_weights, m.log_prob(m.x).expand(5, 7), atol=1e-9, rtol=0)
    torch.testing.assert_close(found.effective_sample_size, torch.full((7,), 5.0).double())
    torch.testing.assert_close(found.variance, torch.zeros(7).double(), atol=1e-15, rtol=0)


class Scaled(nn.Module):
    """A precision τ ~ Gamma(a, rate b), a mean μ | τ ~ N(m, 1 / (k τ)), x | μ, τ ~ N(μ, 1/τ): all in closed form."""

    a, b, m, k = 2.3, 1.7, 0.4, 0.6

    def forward(self, trace: Trace) -> None:
        tau = trace.sample("tau", Gamma(torch.tensor(self.a).double(), torch.tensor(self.b).double()))
        mu = trace.sample("mu", Normal(self.m, (self.k * tau).rsqrt()))
        trace.sample("x", Independent(Normal(mu[..., None].expand(*mu.shape, 5), tau.rsqrt()[..., None]), 1))

    def log_prob(self, x: Tensor) -> Tensor:
        """The normal-gamma model's evidence."""
        n, mean = x.shape[-1], x.mean(-1)
        a, k = self.a + n / 2, self.k + n
        scatter = (x - mean[..., None]).square().sum(-1) + self.k * n * (mean - self.m) ** 2 / k
        return (
            math.lgamma(a) - math.lgamma(self.a) + self.a * math.log(self.b) - a * torch.log(self.b + scatter / 2)
            + 0.5 * math.log(self.k / k) - n / 2 * math.log(2 * math.pi)
        )  # fmt: skip


@pytest.mark.parametrize("start", ["prior", "posterior"])
def test_several_variables_one_of_them_positive_of_a_model_with_state(start: str) -> None:
    torch.manual_seed(4)
    p = Scaled()
    x = torch.randn(3, 5, dtype=torch.float64) * 1.4 + 0.9
    q = Joint(
        {
            "tau | x": lambda x: Gamma(torch.full((len(x),), 3.1).double(), 2.9),
            "mu | tau, x": lambda tau, x: Normal(x.mean(-1).expand(tau.shape), 0.6),
        }
    )
    found = annealed_importance_sampling(p, {"x": x}, 601, 50, 5, q=q if start == "posterior" else None)
    mean, error = mean_weight(found, p.log_prob(x))
    assert (error < 0.05).all()
    assert ((mean - 1).abs() < 4 * error).all()


def test_steps_are_accepted_as_often_as_asked_for(linear_gaussian: Any) -> None:
    torch.manual_seed(5)
    m = linear_gaussian
    for target in (0.5, 0.9):
        found = annealed_importance_sampling(m.p, {"x": m.x}, 16, 300, 3, target=target)
        assert ((found.acceptance - target).abs() < 0.12).all()


def test_chains_that_do_not_fit_into_memory_go_one_after_the_other(
    linear_gaussian: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = linear_gaussian
    seen: list[int] = []

    def decoder(z: Tensor) -> Any:
        seen.append(len(z))
        return m.decoder(z)

    p = Joint({"z": m.prior, "x | z": decoder})
    annealed_importance_sampling(p, {"x": m.x}, 11, 20, 2)
    assert max(seen) == 11
    seen.clear()
    one = memory.bytes_made(lambda: m.decoder(torch.zeros(1, 7, 3).double()).log_prob(m.x))
    assert one > 7 * 5 * 8
    monkeypatch.setattr(memory, "free_memory", lambda device: 4 * 5 * one)
    torch.manual_seed(6)
    found = annealed_importance_sampling(p, {"x": m.x}, 11, 20, 2)
    assert 1 <= max(seen) < 11
    assert found.log_weights.shape == (11, 7)
    assert len(found.log_weights.unique()) == 77  # type: ignore[no-untyped-call]
    assert (found.acceptance < 1).all()


def test_the_variance_of_the_estimate_is_what_repetitions_show() -> None:
    torch.manual_seed(7)
    log_weights = 0.3 * torch.randn(50, 4_001, dtype=torch.float64)
    log_weights[:, 0] = 1.7
    estimate = torch.logsumexp(log_weights[:, 1:], 0)
    said = relative_variance(log_weights)
    assert said[0].item() == pytest.approx(0, abs=1e-20)
    assert said[1:].mean().item() == pytest.approx(estimate.var().item(), rel=0.1)
    assert relative_variance(log_weights[:1]).isnan().all()


def test_two_modes_of_which_q_knows_one_are_found_from_the_prior() -> None:
    """x = |z| + noise: from q, which sits on one side, half of the mass is never seen."""
    torch.manual_seed(8)
    p = Joint(
        {
            "z": lambda: Independent(Normal(torch.zeros(1).double(), 1.0), 1),
            "x | z": lambda z: Independent(Normal(z.abs(), 0.1), 1),
        }
    )
    q = Joint({"z | x": lambda x: Independent(Normal(x, 0.1), 1)})
    x = torch.tensor([[1.5]]).double()
    grid = torch.linspace(-6, 6, 20_001).double()
    log_p = torch.logsumexp(Normal(0.0, 1.0).log_prob(grid) + Normal(grid.abs(), 0.1).log_prob(x[0]), 0) + math.log(  # type: ignore[no-untyped-call]
        12 / 20_000
    )
    from_prior = annealed_importance_sampling(p, {"x": x}, 64, 100, 5)
    from_q = annealed_importance_sampling(p, {"x": x}, 64, 100, 5, q=q)
    for found, expected in ((from_prior, log_p), (from_q, log_p - math.log(2))):
        assert found.variance.sqrt() < 0.1
        assert (found.log_prob - expected).abs() < 4 * found.variance.sqrt()


def test_what_can_not_be_annealed_is_an_error(linear_gaussian: Any) -> None:
    m = linear_gaussian
    given = {"x": m.x}
    for name in ("chains", "temperatures", "steps"):
        with pytest.raises(AncestralError, match=f"{name} is 0"):
            annealed_importance_sampling(m.p, given, **{name: 0})  # type: ignore[arg-type]
    with pytest.raises(AncestralError, match="target acceptance is 0"):
        annealed_importance_sampling(m.p, given, target=0.0)
    with pytest.raises(GraphError, match="does not draw 'z'"):
        annealed_importance_sampling(m.p, given, q=Joint({"w | x": m.posterior}))
    discrete = Joint({"h": bernoulli_bias(3), "x | h": bernoulli(linear(3, 5))})
    with pytest.raises(AncestralError, match="'h', a Bernoulli, is discrete"):
        annealed_importance_sampling(discrete, {"x": torch.zeros(2, 5)})


class Dropped(nn.Module):
    """z ~ N(0, 1) in 3 dimensions, x | z ~ N(f(z), 0.5²) with dropout in f; and a q that runs f too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(linear(3, 7), nn.Dropout(), linear(7, 3)).double()

    def forward(self, trace: Trace) -> None:
        z = trace.sample("z", Independent(Normal(torch.zeros(3).double(), 1.0), 1))
        trace.sample("x", Independent(Normal(self.network(z), 0.5), 1))

    def q(self, trace: Trace) -> None:
        trace.sample("z", Independent(Normal(self.network(trace["x"]), 1.0), 1))


@pytest.mark.parametrize("start", ["prior", "posterior"])
def test_data_and_chains_of_a_model_in_training_are_those_after_training(start: str) -> None:
    p = Dropped()
    found = []
    for training in (False, True):
        torch.manual_seed(1)
        q = p.q if start == "posterior" else None
        found.append(bidirectional(p.train(training), {"x": torch.ones(11, 3).double()}, 3, 7, 2, q=q))
        assert all(module.training == training for module in p.modules())
    for name in ("given", "lower", "upper"):
        after, during = (getattr(one, name) for one in found)
        if name == "given":
            torch.testing.assert_close(during, after)
        else:
            torch.testing.assert_close(during.log_weights, after.log_weights)


def test_a_single_temperature_has_no_transition_whose_acceptance_is_known(linear_gaussian: Any) -> None:
    given = {"x": linear_gaussian.x}
    assert annealed_importance_sampling(linear_gaussian.p, given, 3, 1).acceptance.isnan().all()
    assert annealed_importance_sampling(linear_gaussian.p, given, 3, 2).acceptance.isfinite().all()


def test_an_exact_draw_has_the_names_and_shapes_of_the_latent_variables(linear_gaussian: Any) -> None:
    m, z = linear_gaussian, torch.zeros(7, 3).double()
    for exact, error, words in (
        ({}, GraphError, "there are no draws"),
        ({"zz": z}, GraphError, "no value is given for 'z'"),
        ({"z": z, "zz": z}, GraphError, "draws of 'zz', which p does not draw"),
        ({"z": z, "x": m.x}, GraphError, "draws of 'x', which is given too"),
        ({"z": z[:5]}, ShapeError, r"shape \(1, 5, 3\), but .* takes \(chains, batch, \*event\) = \(1, 7, 3\)"),
        ({"z": z[:, :2]}, ShapeError, r"shape \(1, 7, 2\)"),
    ):
        with pytest.raises(error, match=words):
            annealed_importance_sampling(m.p, {"x": m.x}, 2, 3, 1, exact=exact)


def test_no_rows_and_names_that_nothing_knows_are_errors(linear_gaussian: Any) -> None:
    m, q = linear_gaussian, Joint({"z | x, y": lambda x, y: m.rough_posterior(x + y)})
    with pytest.raises(ShapeError, match="the batch is empty: the given x has no rows"):
        annealed_importance_sampling(m.p, {"x": m.x[:0]})
    given = {"x": m.x, "y": torch.zeros(7, 5).double()}
    with pytest.raises(GraphError, match="a value is given for 'y', which the model neither samples"):
        annealed_importance_sampling(m.p, given, 2, 3, 1)
    annealed_importance_sampling(m.p, given, 2, 3, 1, q=q)
    with pytest.raises(GraphError, match="a value is given for 'w', which neither model samples"):
        annealed_importance_sampling(m.p, {**given, "w": m.x}, 2, 3, 1, q=q)


def test_what_p_is_conditioned_on_stays_when_data_are_drawn_anew() -> None:
    torch.manual_seed(9)
    weight = torch.randn(2, 3, dtype=torch.float64)
    p = Joint(
        {
            "z": lambda: Independent(Normal(torch.zeros(3).double(), 1.0), 1),
            "x | z, y": lambda z, y: Independent(Normal(z + y @ weight, 0.7), 1),
        }
    )
    y = 30 * torch.eye(2, dtype=torch.float64).repeat(11, 1)
    found = bidirectional(p, {"x": torch.zeros(22, 3).double(), "y": y}, 4, 60, 3)
    assert found.gap.mean() < 0.5
    evidence = MultivariateNormal(torch.zeros(3).double(), (1 + 0.49) * torch.eye(3).double()).entropy()  # type: ignore[no-untyped-call]
    assert abs(found.lower.log_prob.mean() + evidence) < 4 * found.lower.log_prob.std() / math.sqrt(22) + 0.25

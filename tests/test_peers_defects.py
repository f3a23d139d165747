"""Defects found in other libraries, each made impossible here: a test is named after what it prevents."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from ancestral import (
    Enumerate,
    EstimatorError,
    GraphError,
    Joint,
    LatentVariableModel,
    Trace,
    bernoulli,
    bernoulli_bias,
    elbo,
    expectation,
    iwae,
    linear,
    normal,
    one_hot,
    run,
    standard_normal,
)
from ancestral.distributions import OneHot
from ancestral.estimators import (
    DARN,
    GumbelSoftmax,
    LikelihoodRatio,
    MovingAverage,
    MuProp,
    StraightThrough,
    exponential,
)
from ancestral.estimators.relaxation import discrete_logits, hard, perturbed_given
from ancestral.models.contract import Batch
from ancestral.objectives import elbo_terms, log_weight


class Replayed:
    """Noise that was drawn before, so that two objectives see the same draws."""

    def __init__(self, noise: Tensor) -> None:
        self.noise = noise

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        assert isinstance(distribution, Independent)
        base = distribution.base_dist
        assert isinstance(base, Normal)
        return base.loc + base.scale * self.noise

    def term(self, site: Any, cost: Any) -> None:
        return None


@pytest.fixture
def pair() -> tuple[Joint, Joint]:
    torch.manual_seed(0)
    p = Joint({"z": standard_normal(3), "x | z": normal(linear(3, 5), scale=0.7)}).double()
    return p, Joint({"z | x": normal(linear(5, 6))}).double()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(7, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gradient(value: Tensor, module: nn.Module) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(module.parameters()), retain_graph=True)])


# 1


def test_a_bernoulli_posterior_never_loses_its_gradient_silently() -> None:
    torch.manual_seed(0)
    p = Joint({"h": bernoulli_bias(1), "x | h": bernoulli(linear(1, 5))})
    logit = nn.Parameter(torch.tensor(0.4))
    q = Joint({"h | x": lambda x: Independent(Bernoulli(logits=logit.expand(len(x), 1)), 1)})
    x = torch.tensor([[1.0, 0.0, 1.0, 1.0, 0.0]])
    with pytest.raises(EstimatorError, match="'h' is a Bernoulli, which can't be reparameterized"):
        elbo(p, q, {"x": x})

    def bound(at: Tensor) -> Tensor:
        cost = [run(p, {"x": x, "h": torch.full((1, 1), h)}, (1,)).log_prob().sum() for h in (0.0, 1.0)]
        on = torch.sigmoid(at)
        return (1 - on) * (cost[0] - torch.log(1 - on)) + on * (cost[1] - torch.log(on))

    (exact,) = torch.autograd.grad(bound(logit), logit)
    (mine,) = torch.autograd.grad(elbo(p, q, {"x": x}, estimators=Enumerate()).sum(), logit)
    assert abs(exact) > 0.01
    torch.testing.assert_close(mine, exact)


class OneBit(nn.Module):
    """h is one bit and x given it five: the bound is a sum of two terms."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.p = Joint({"h": bernoulli_bias(1), "x | h": bernoulli(linear(1, 5))}).double()
        self.logit = nn.Parameter(torch.tensor(0.4, dtype=torch.float64))
        self.q = Joint({"h | x": lambda x: Independent(Bernoulli(logits=self.logit.expand(len(x), 1)), 1)})
        self.x = torch.tensor([[1.0, 0.0, 1.0, 1.0, 0.0]], dtype=torch.float64)

    def exact(self) -> Tensor:
        bits = torch.tensor([0.0, 1.0], dtype=torch.float64)
        log_p = torch.stack([run(self.p, {"x": self.x, "h": h.expand(1, 1)}, (1,)).log_prob().sum() for h in bits])
        log_q = Bernoulli(logits=self.logit).log_prob(bits)
        (gradient,) = torch.autograd.grad((log_q.exp() * (log_p - log_q)).sum(), self.logit)
        return gradient

    def summed(self, estimator: Any, earlier: int = 0) -> Tensor:
        """The gradient for both values in turn, weighted by q; the state of the estimator is that after other draws."""
        total = torch.zeros((), dtype=torch.float64)
        for h in (0.0, 1.0):
            mine = copy.deepcopy(estimator)
            torch.manual_seed(1)
            for _ in range(earlier):
                elbo(self.p, self.q, {"x": self.x}, estimators=mine)
            distribution = self.q.conditionals["h"](self.x)
            distribution.sample = lambda shape, h=h: torch.full((1, 1, 1), h, dtype=torch.float64)  # type: ignore
            q = Joint({"h | x": lambda x, distribution=distribution: distribution})
            value = elbo(self.p, q, {"x": self.x}, estimators=mine)
            (gradient,) = torch.autograd.grad(value.sum(), self.logit)
            total = total + torch.sigmoid(self.logit if h else -self.logit).detach() * gradient
        return total


@pytest.mark.parametrize("make", [lambda: LikelihoodRatio(None), MuProp])
def test_an_estimator_that_draws_a_bernoulli_posterior_has_its_whole_gradient(make: Any) -> None:
    m = OneBit()
    assert abs(m.exact()) > 0.01
    torch.testing.assert_close(m.summed(make()), m.exact(), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("make", [StraightThrough, DARN, GumbelSoftmax])
def test_a_biased_gradient_is_not_small(make: Any) -> None:
    m = OneBit()
    torch.manual_seed(0)
    value = elbo(m.p, m.q, {"x": m.x}, 20_011, make())
    (gradient,) = torch.autograd.grad(value.sum(), m.logit)
    assert 0.5 < (gradient / m.exact()) < 1.5


# 2


def test_the_likelihood_ratio_of_a_normal_is_not_taken_through_the_draw_itself() -> None:
    torch.manual_seed(0)
    draws, log_scale = 200_003, 0.5 * math.log(1.245)
    each = torch.full((draws, 1), log_scale, dtype=torch.float64, requires_grad=True)
    p = Joint({"z": standard_normal(1).double(), "x | z": lambda z: Independent(Normal(z, 1.0), 1)})
    q = Joint({"z | x": lambda x: Independent(Normal(0.5, each.exp()), 1)})
    terms = elbo_terms(p, q, {"x": torch.full((draws, 1), 1.3, dtype=torch.float64)}, 2, LikelihoodRatio())
    assert not terms.q["z"].requires_grad
    (sampled,) = torch.autograd.grad(terms.elbo.sum(), each)
    exact = 1 - 2 * math.exp(2 * log_scale)
    assert abs(sampled.mean() - exact) / (sampled.std() / math.sqrt(draws)) < 4


@pytest.mark.parametrize("analytic_kl", [[], ["z"]])
def test_a_reparameterized_log_scale_has_its_exact_gradient_and_sign(analytic_kl: list[str]) -> None:
    torch.manual_seed(0)
    draws, log_scale = 200_003, 0.5 * math.log(1.245)
    each = torch.full((draws, 1), log_scale, dtype=torch.float64, requires_grad=True)
    p = Joint({"z": standard_normal(1).double(), "x | z": lambda z: Independent(Normal(z, 1.0), 1)})
    q = Joint({"z | x": lambda x: Independent(Normal(0.5, each.exp()), 1)})
    bound = elbo(p, q, {"x": torch.full((draws, 1), 1.3, dtype=torch.float64)}, analytic_kl=analytic_kl)
    (sampled,) = torch.autograd.grad(bound.sum(), each)
    exact = 1 - 2 * math.exp(2 * log_scale)  # entropy, prior and likelihood: 1 - s² - s²
    assert exact == pytest.approx(-1.49)
    assert abs(sampled.mean() - exact) / (sampled.std() / math.sqrt(draws)) < 4


# 3


def test_dreaming_leaves_no_gradient_in_the_generative_model(pair: tuple[Joint, Joint]) -> None:
    p, q = pair
    dream = run(p, shape=(11,))
    loss = -run(q, dream.values, (11,)).log_prob().mean()
    loss.backward()
    assert all(w.grad is None for w in p.parameters())
    assert all(w.grad is not None and w.grad.any() for w in q.parameters())


def test_dreaming_of_discrete_variables_leaves_no_gradient_in_the_generative_model(two_layers: Any) -> None:
    dream = run(two_layers.p, shape=(11,))
    (-run(two_layers.q, dream.values, (11,)).log_prob().mean()).backward()
    assert all(w.grad is None for w in two_layers.p.parameters())
    assert all(w.grad is not None for w in two_layers.q.parameters())


# 4


def test_the_same_tensor_is_evaluated_anew_after_the_network_has_changed(pair: tuple[Joint, Joint], x: Tensor) -> None:
    p, q = pair
    values = []
    for _ in range(2):
        torch.manual_seed(3)
        values.append(elbo(p, q, {"x": x}).detach())
        with torch.no_grad():
            for w in [*p.parameters(), *q.parameters()]:
                w.add_(0.1)
    assert (values[0] != values[1]).all()
    torch.manual_seed(3)
    fresh = elbo(p, q, {"x": x.clone()})
    torch.manual_seed(3)
    assert torch.equal(elbo(p, q, {"x": x}), fresh)


def test_the_same_tensor_can_be_trained_on_again_and_again(pair: tuple[Joint, Joint], x: Tensor) -> None:
    p, q = pair
    optimizer = torch.optim.SGD([*p.parameters(), *q.parameters()], lr=1e-3)
    for bound in (elbo, iwae, elbo):
        optimizer.zero_grad()
        (-bound(p, q, {"x": x}, 2).mean()).backward()
        optimizer.step()


# 5


def test_a_mean_is_a_mean_and_no_variance() -> None:
    here = nn.Identity()
    one, log_three = torch.tensor([[1.0, 1.0]]), 7 * math.atanh(math.log(3.0) / 7)
    fixed = normal(here, scale=3.0)(one)
    learned = normal(here)(torch.tensor([[1.0, 1.0, log_three, log_three]]))
    for distribution in (fixed, learned):
        torch.testing.assert_close(distribution.mean, one)
        torch.testing.assert_close(distribution.variance, 9 * one)
        draws = distribution.sample(torch.Size((50_021,)))
        torch.testing.assert_close(draws.mean(0), one, atol=0.06, rtol=0)
        torch.testing.assert_close(draws.var(0), 9 * one, atol=0.3, rtol=0)
    torch.testing.assert_close(bernoulli(here)(torch.tensor([2.0])).mean, torch.sigmoid(torch.tensor([2.0])))
    torch.testing.assert_close(one_hot(here)(torch.tensor([2.0, 0.0])).mean, torch.tensor([2.0, 0.0]).softmax(-1))


# 6


def test_the_divergence_enters_the_bound_with_a_minus(pair: tuple[Joint, Joint], x: Tensor) -> None:
    p, q = pair
    for analytic_kl in ([], ["z"]):
        terms = elbo_terms(p, q, {"x": x}, 101, analytic_kl=analytic_kl)
        assert (terms.kl["z"] > 0).all()
        torch.testing.assert_close(terms.elbo, terms.log_likelihood - terms.kl["z"])
        heavier = elbo_terms(p, q, {"x": x}, 101, analytic_kl=analytic_kl, beta=2.0)
        torch.testing.assert_close(heavier.elbo, heavier.log_likelihood - 2 * heavier.kl["z"])


def test_raising_the_bound_raises_log_p_of_x(mixture: Any) -> None:
    x = torch.tensor([[0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
    optimizer = torch.optim.SGD(mixture.parameters(), lr=0.3, maximize=True)
    before = mixture.log_joint(x).logsumexp(-1).mean()
    bounds = []
    for _ in range(50):
        optimizer.zero_grad()
        bound = elbo(mixture.p, mixture.q, {"x": x}, estimators=Enumerate()).mean()
        bound.backward()
        optimizer.step()
        bounds.append(bound.item())
    after = mixture.log_joint(x).logsumexp(-1).mean()
    assert after > before + 0.5
    assert bounds == sorted(bounds)
    assert bounds[-1] < after


# 8


@pytest.mark.parametrize("earlier", [0, 1, 7])
@pytest.mark.parametrize("make", [lambda: LikelihoodRatio(MovingAverage()), lambda: MuProp(MovingAverage())])
def test_a_moving_average_that_is_used_before_it_is_updated_leaves_the_gradient_as_long_as_it_is(
    make: Any, earlier: int
) -> None:
    m = OneBit()
    torch.testing.assert_close(m.summed(make(), earlier), m.exact(), atol=1e-12, rtol=1e-12)


# 9


@pytest.mark.parametrize(
    "distribution",
    [Bernoulli(logits=torch.linspace(-9, 9, 19)), OneHot(torch.linspace(-9, 9, 7))],
    ids=["bits", "classes"],
)
def test_noise_given_an_outcome_leads_to_that_outcome_every_time(distribution: Distribution) -> None:
    torch.manual_seed(0)
    value = distribution.sample(torch.Size((50_021,)))
    logits = discrete_logits(distribution).expand_as(value)
    assert (hard(perturbed_given(value, logits, distribution), distribution) == value).all()


# 10


def test_importance_weights_are_those_of_each_datapoint(pair: tuple[Joint, Joint], x: Tensor) -> None:
    p, q = pair
    noise = torch.randn(11, 7, 3, dtype=torch.float64)
    whole = iwae(p, q, {"x": x}, 11, Replayed(noise))
    alone = [iwae(p, q, {"x": x[i : i + 1]}, 11, Replayed(noise[:, i : i + 1])) for i in range(7)]
    torch.testing.assert_close(whole, torch.cat(alone), atol=1e-12, rtol=1e-12)
    separate = sum(gradient(value.sum(), nn.ModuleList(pair)) for value in alone)
    torch.testing.assert_close(gradient(whole.sum(), nn.ModuleList(pair)), separate, atol=1e-10, rtol=1e-10)


# 11


def test_missing_observations_are_an_error_that_names_them(pair: tuple[Joint, Joint], x: Tensor) -> None:
    p, q = pair
    for bound in (elbo, iwae):
        with pytest.raises(
            GraphError, match=r"p\(z \| x\) = p\(z \| x\): the variable 'x', a parent of 'z', is neither"
        ):
            bound(p, q, {"y": x}, 2)
    with pytest.raises(GraphError, match="'x', a parent of 'z', is neither given nor drawn"):
        run(q, shape=(7,))


def test_a_forgotten_target_is_an_error_and_not_drawn(pair: tuple[Joint, Joint], x: Tensor) -> None:
    p, _ = pair
    q = Joint({"z | y": normal(linear(5, 6))}).double()
    for bound in (elbo, iwae):
        with pytest.raises(GraphError, match="p has the latent variable 'x', which is neither given nor drawn by q"):
            bound(p, q, {"y": x}, 2)


# 12


def test_a_misspelled_latent_of_q_is_an_error_with_the_nearest_name(x: Tensor) -> None:
    p = Joint({"style": standard_normal(3), "x | style": normal(linear(3, 10))}).double()
    q = Joint({"styl | x": normal(linear(5, 6))}).double()
    for bound in (elbo, iwae):
        with pytest.raises(GraphError, match=r"q draws 'styl', which p does not have.*Did you mean 'style'\?"):
            bound(p, q, {"x": x}, 2)


def test_a_latent_that_q_forgets_is_an_error(x: Tensor) -> None:
    p = Joint({"z": standard_normal(3), "w": standard_normal(2), "x | z, w": normal(linear(5, 10))}).double()
    q = Joint({"z | x": normal(linear(5, 6))}).double()
    for bound in (elbo, iwae):
        with pytest.raises(GraphError, match="p has the latent variable 'w', which is neither given nor drawn by q"):
            bound(p, q, {"x": x}, 2)


def test_a_latent_that_only_q_has_is_an_error(pair: tuple[Joint, Joint], x: Tensor) -> None:
    p, _ = pair
    q = Joint({"u | x": normal(linear(5, 4)), "z | u": normal(linear(2, 6))}).double()
    for bound in (elbo, iwae):
        with pytest.raises(GraphError, match="q draws 'u', which p does not have, so the bound would not bound"):
            bound(p, q, {"x": x}, 2)


def test_a_q_that_draws_nothing_is_an_error(pair: tuple[Joint, Joint], x: Tensor) -> None:
    p, _ = pair
    with pytest.raises(GraphError, match=r"latent variable 'z'.*q draws nothing"):
        elbo(p, lambda trace: None, {"x": x})


# 13


def test_the_importance_weighted_gradient_follows_the_best_particles(pair: tuple[Joint, Joint], x: Tensor) -> None:
    p, q = pair
    modules = nn.ModuleList(pair)
    noise = torch.randn(11, 7, 3, dtype=torch.float64)
    mine = gradient(iwae(p, q, {"x": x}, 11, Replayed(noise)).sum(), modules)

    captured: list[Trace] = []

    def cost(trace: Trace) -> Tensor:
        captured.append(trace)
        return log_weight(p, q, trace)

    expectation(cost, q, {"x": x}, 11, Replayed(noise))
    log_weights = log_weight(p, q, captured[0])
    weights = log_weights.softmax(0).detach()
    by_hand = gradient((weights * log_weights).sum(), modules)
    torch.testing.assert_close(mine, by_hand, atol=1e-10, rtol=1e-10)

    seen = log_weights.detach()
    assert (weights.argmax(0) == seen.argmax(0)).all()
    for i in range(7):
        assert torch.corrcoef(torch.stack([weights[:, i], seen[:, i]]))[0, 1] > 0.3


# 14


@pytest.mark.parametrize("particles", [1, 250])
@pytest.mark.parametrize("bound", [elbo, iwae])
def test_the_particles_asked_for_are_the_particles_drawn(bound: Any, particles: int, x: Tensor) -> None:
    drawn: list[int] = []

    class Counting(Normal):
        def rsample(self, sample_shape: Any = ()) -> Tensor:
            value = super().rsample(sample_shape)
            drawn.append(value.numel())
            return value

        def expand(self, batch_shape: Any, _instance: Any = None) -> Counting:
            return Counting(self.loc.expand(batch_shape), self.scale.expand(batch_shape))

    p = Joint(
        {
            "z": lambda: Normal(0.0, 1.0),
            "x | z": lambda z: Independent(Normal(z[..., None].expand(*z.shape, 5), 1.0), 1),
        }
    )
    q = Joint({"z | x": lambda x: Counting(x.mean(-1), torch.ones(7, dtype=x.dtype))})
    bound(p, q, {"x": x}, particles)
    assert drawn == [particles * 7]


def test_the_importance_weighted_bound_is_the_bound_and_not_the_weighted_sum(
    pair: tuple[Joint, Joint], x: Tensor
) -> None:
    p, q = pair
    noise = torch.randn(11, 7, 3, dtype=torch.float64)
    log_weights: list[Tensor] = []

    def cost(trace: Trace) -> Tensor:
        log_weights.append(log_weight(p, q, trace))
        return log_weights[0]

    average = expectation(cost, q, {"x": x}, 11, Replayed(noise))
    bound = iwae(p, q, {"x": x}, 11, Replayed(noise))
    torch.testing.assert_close(bound, log_weights[0].exp().mean(0).log())
    weighted_sum = (log_weights[0].softmax(0) * log_weights[0]).sum(0)
    assert (bound > average).all()
    assert ((bound - weighted_sum).abs() > 1e-3).all()


# 16


def test_a_temperature_anneals_over_the_epochs_of_training() -> None:
    torch.manual_seed(0)
    p = Joint({"y": lambda: OneHot(torch.zeros(3)), "x | y": bernoulli(linear(3, 5))})
    q = Joint({"y | x": one_hot(linear(5, 3))})
    x = torch.rand(7, 5).round()
    annealed = LatentVariableModel(p, q, estimators=GumbelSoftmax(exponential(1.0, 0.3, 0.1)))
    found = []
    for epoch in (0.0, 2.0, 100.0):
        gradients = []
        fixed = LatentVariableModel(p, q, estimators={"y": GumbelSoftmax(max(0.1, math.exp(-0.3 * epoch)))})
        for model in (annealed, fixed):
            torch.manual_seed(1)
            loss = model.loss(Batch(x, epoch=epoch))["loss"]
            gradients.append(torch.autograd.grad(loss, list(q.parameters()))[0])
        torch.testing.assert_close(*gradients)
        found.append(gradients[0])
    assert all((a - b).abs().max() > 1e-3 for a, b in itertools.pairwise(found))


def test_a_slope_anneals_over_the_epochs_of_training() -> None:
    torch.manual_seed(0)
    p = Joint({"h": bernoulli_bias(3), "x | h": bernoulli(linear(3, 5))})
    q = Joint({"h | x": bernoulli(linear(5, 3))})
    model = LatentVariableModel(p, q, estimators={"h": StraightThrough(exponential(1.0, -0.3, 5.0))})
    gradients = []
    for epoch in (0.0, 2.0):
        torch.manual_seed(1)
        loss = model.loss(Batch(torch.rand(7, 5).round(), epoch=epoch))["loss"]
        gradients.append(torch.autograd.grad(loss, list(q.parameters()))[0])
    assert (gradients[0] - gradients[1]).abs().max() > 1e-3

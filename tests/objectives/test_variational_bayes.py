"""Variational Bayes over the weights, against linear regression, whose evidence is known in closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal

from ancestral import (
    AncestralError,
    EstimatorError,
    GraphError,
    Joint,
    ShapeError,
    Trace,
    bernoulli,
    elbo,
    linear,
    log_likelihood,
    normal,
    standard_normal,
    variational_bayes,
)
from ancestral.objectives import NormalWeights, with_weights


class Regression:
    """w ~ N(0, 0.8² I) in 3 dimensions, y | x, w ~ N(wᵀx, 0.6²), 21 datapoints."""

    rows = 21

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(7)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=random, dtype=torch.float64)

        self.x = draw(21, 3)
        self.y = self.x @ torch.tensor([0.7, -1.1, 0.3], dtype=torch.float64) + 0.6 * draw(21)
        eye = torch.eye(3, dtype=torch.float64)
        self.prior = MultivariateNormal(torch.zeros(3, dtype=torch.float64), 0.8**2 * eye)
        precision = self.x.T @ self.x / 0.6**2 + eye / 0.8**2
        covariance = torch.linalg.inv(precision)
        self.posterior = MultivariateNormal(covariance @ self.x.T @ self.y / 0.6**2, covariance)
        together = 0.8**2 * self.x @ self.x.T + 0.6**2 * torch.eye(21, dtype=torch.float64)
        self.evidence = MultivariateNormal(torch.zeros(21, dtype=torch.float64), together).log_prob(self.y)
        self.p = Joint({"w": lambda: self.prior})
        self.q = Joint({"w": lambda: self.posterior})

    def bound(self, q: Any, indices: Any = slice(None), particles: int = 1, rows: int = 21) -> Tensor:
        x, y = self.x[indices], self.y[indices]
        return variational_bayes(lambda w: Normal(x @ w["w"], 0.6).log_prob(y), self.p, q, rows, particles)


@pytest.mark.parametrize("particles", [1, 3])
def test_at_the_exact_posterior_every_draw_has_the_log_evidence(particles: int) -> None:
    m = Regression()
    for _ in range(3):
        value = m.bound(m.q, particles=particles)
        assert value.shape == (21,)
        torch.testing.assert_close(value.sum(), m.evidence, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_the_mean_over_minibatches_of_one_draw_is_the_log_evidence_whatever_their_size(size: int) -> None:
    m, parts = Regression(), []
    for indices in torch.randperm(21).split(size):
        torch.manual_seed(3)  # one draw of the weights for all
        parts.append(21 * m.bound(m.q, indices).mean())
    torch.testing.assert_close(torch.stack(parts).mean(), m.evidence, atol=1e-10, rtol=1e-10)
    assert torch.stack(parts).std() > 0.1


def test_a_minibatch_with_draws_of_its_own_has_it_in_expectation() -> None:
    torch.manual_seed(0)
    m, draws = Regression(), []
    for _ in range(2_003):
        draws.append(21 * m.bound(m.q, torch.randint(21, (5,))).mean())
    drawn = torch.stack(draws)
    assert abs(drawn.mean() - m.evidence) / (drawn.std() / math.sqrt(len(drawn))) < 4


def test_any_other_posterior_lies_below_by_its_divergence() -> None:
    torch.manual_seed(0)
    m = Regression()
    rough = MultivariateNormal(m.posterior.mean + 0.1, 1.7 * m.posterior.covariance_matrix)
    value = m.bound(Joint({"w": lambda: rough}), particles=4_001).sum()
    gap = torch.distributions.kl_divergence(rough, m.posterior)
    assert gap > 0.3
    assert value.item() == pytest.approx((m.evidence - gap).item(), abs=0.15)


def test_its_gradient_leads_to_the_exact_posterior() -> None:
    """Where the posterior is exact, the bound is at its maximum: the mean gradient is 0."""
    torch.manual_seed(0)
    m = Regression()
    mean = m.posterior.mean.clone().requires_grad_()
    for shift in (0.0, 0.1):
        q = Joint({"w": lambda shift=shift: MultivariateNormal(mean + shift, m.posterior.covariance_matrix)})
        (gradient,) = torch.autograd.grad(m.bound(q, particles=2_003).sum(), mean)
        wanted = -shift * m.posterior.precision_matrix.sum(1)
        error = m.posterior.precision_matrix.diagonal().sqrt() / math.sqrt(2_003)
        assert ((gradient - wanted).abs() / error).max() < 4.5


def test_a_network_is_run_with_the_weights_that_were_drawn() -> None:
    """One weight without a bias is a conjugate model too: its normal posterior is exact."""
    m = Regression()
    x, y = m.x[:, :1], m.y[:, None]
    network = Joint({"y | x": normal(nn.Linear(1, 1, bias=False).double(), scale=0.6)})
    variance = 1 / (x.square().sum() / 0.6**2 + 1 / 0.8**2)
    with torch.no_grad():
        next(network.parameters()).fill_(variance * (x * y).sum() / 0.6**2)
    p, q = NormalWeights(network, 0.8), NormalWeights(network, variance.sqrt().item(), learned=True)

    def likelihood(w: Any) -> Tensor:
        return log_likelihood(with_weights(network, w), {"x": x, "y": y})

    together = 0.8**2 * x @ x.T + 0.6**2 * torch.eye(21, dtype=torch.float64)
    evidence = MultivariateNormal(torch.zeros(21, dtype=torch.float64), together).log_prob(y[:, 0])
    torch.testing.assert_close(variational_bayes(likelihood, p, q, 21, 3).sum(), evidence, atol=1e-6, rtol=1e-6)
    own = next(network.parameters()).detach().clone()
    variational_bayes(likelihood, p, q, 21).sum().backward()
    assert all(w.grad is not None for w in q.parameters())
    assert all(w.grad is None for w in [*p.parameters(), *network.parameters()])
    assert torch.equal(next(network.parameters()), own)


def test_a_model_with_latent_variables_has_its_bound_for_a_likelihood() -> None:
    torch.manual_seed(0)
    p = Joint({"z": standard_normal(3), "x | z": bernoulli(linear(3, 5))})
    q = Joint({"z | x": normal(linear(5, 6))})
    x = torch.rand(7, 5).round()
    prior, posterior = NormalWeights(p, 0.7), NormalWeights(p, 1e-6, learned=True)

    def bound(w: Any) -> Tensor:
        torch.manual_seed(1)
        return elbo(with_weights(p, w), q, {"x": x})

    value = variational_bayes(bound, prior, posterior, 101)
    # a posterior so narrow is its mean: what remains is the ELBO there, and the densities of the weights
    weights = torch.cat([w.detach().flatten() for w in p.parameters()])
    torch.manual_seed(1)
    wanted = elbo(p, q, {"x": x}) + Normal(0.0, 0.7).log_prob(weights).sum() / 101
    entropy = sum(Normal(0.0, 1e-6).entropy() for _ in weights) / 101
    assert len(weights) == 20
    torch.testing.assert_close(value, wanted + entropy, atol=0.15, rtol=0)
    value.sum().backward()
    assert all(w.grad is not None for w in [*posterior.parameters(), *q.parameters()])


def test_normal_weights_have_the_names_and_shapes_of_the_parameters() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 3)
            self.scale = nn.Parameter(torch.tensor(1.7))

    module = Two()
    for learned in (False, True):
        trace = Trace((5,))
        NormalWeights(module, 0.3, learned)(trace)
        assert list(trace.drawn) == ["scale", "layer.weight", "layer.bias"]
        for name, parameter in module.named_parameters():
            assert trace[name].shape == (5, *parameter.shape)
            assert trace.sites[name].log_prob.shape == (5,)
            mean = trace.sites[name].distribution.mean
            torch.testing.assert_close(mean, parameter.detach() if learned else torch.zeros_like(mean))


def test_a_likelihood_that_is_not_one_value_per_datapoint_is_an_error() -> None:
    m = Regression()
    for wrong in (lambda w: w["w"].sum(), lambda w: w["w"][None]):
        with pytest.raises(ShapeError, match="one value per datapoint"):
            variational_bayes(wrong, m.p, m.q, 21)


@pytest.mark.parametrize("rows", [20, 0, True, 21.0])
def test_a_set_smaller_than_its_minibatch_is_an_error(rows: Any) -> None:
    m = Regression()
    with pytest.raises(AncestralError, match=r"rows is .* the minibatch alone has 21"):
        m.bound(m.q, rows=rows)


def test_a_posterior_that_is_none_of_the_prior_s_variables_is_an_error() -> None:
    m = Regression()
    with pytest.raises(GraphError, match="q draws 'v', which p does not have"):
        m.bound(Joint({"v": lambda: m.posterior}))
    with pytest.raises(ShapeError, match=r"'w' has event shape \(2,\) in q but \(3,\) in p"):
        m.bound(Joint({"w": standard_normal(2)}))
    with pytest.raises(EstimatorError, match="'w' is a Bernoulli, which can't be reparameterized"):
        m.bound(Joint({"w": lambda: Independent(Bernoulli(torch.zeros(3)), 1)}))
    with pytest.raises(AncestralError, match="particles is 0"):
        m.bound(m.q, particles=0)


def test_weights_that_no_module_has_are_an_error() -> None:
    with pytest.raises(GraphError, match=r"'wait', which is no parameter of the module. Did you mean 'weight'\?"):
        with_weights(nn.Linear(2, 3), {"wait": torch.zeros(3, 2)})
    with pytest.raises(AncestralError, match="no parameters"):
        NormalWeights(nn.Tanh())
    for scale in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(AncestralError, match="a standard deviation is a positive number"):
            NormalWeights(nn.Linear(2, 3), scale)

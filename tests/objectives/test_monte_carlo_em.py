"""Monte Carlo EM against the posterior and the maximum of the likelihood of a linear-Gaussian model."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal

from ancestral import AncestralError, GraphError, Joint, ShapeError, bernoulli, bernoulli_bias, linear
from ancestral.objectives import monte_carlo_em, posterior_draws


def test_chains_that_go_on_become_draws_of_the_posterior(linear_gaussian: Any) -> None:
    known, given = linear_gaussian, {"x": linear_gaussian.x}
    torch.manual_seed(0)
    chains = posterior_draws(known.p, given, chains=700, transitions=50)
    for _ in range(3):
        chains = posterior_draws(known.p, given, chains, transitions=3)
    assert chains.acceptance.item() == pytest.approx(0.9, abs=0.03)
    z = chains.values["z"]
    assert z.shape == (700, 7, 3)
    assert torch.equal(z, chains.position)
    error = known.covariance.diagonal().sqrt() / math.sqrt(700)
    assert ((z.mean(0) - known.posterior_mean(known.x)).abs() / error).max().item() < 4.5
    spread = torch.stack([torch.cov(z[:, i].T) for i in range(7)]).mean(0)
    torch.testing.assert_close(spread, known.covariance, atol=0.05 * known.covariance.max().item(), rtol=0)


def test_the_step_size_is_moved_to_the_acceptance_that_is_asked_for(linear_gaussian: Any) -> None:
    known, given = linear_gaussian, {"x": linear_gaussian.x}
    torch.manual_seed(0)
    steps = []
    for target in (0.6, 0.95):
        chains = posterior_draws(known.p, given, chains=50, transitions=60, target=target)
        seen = torch.stack([
            (chains := posterior_draws(known.p, given, chains, transitions=10, target=target)).acceptance
            for _ in range(3)
        ])  # fmt: skip
        assert seen.mean().item() == pytest.approx(target, abs=0.03)
        steps.append(chains.step.item())
    assert steps[0] > 1.2 * steps[1]


def test_the_loss_is_the_mean_over_draws_and_its_gradient_that_of_the_likelihood(linear_gaussian: Any) -> None:
    known, x = linear_gaussian, linear_gaussian.x
    bias = known.b.clone().requires_grad_()
    p = Joint({"z": known.prior, "x | z": lambda z: Independent(Normal(z @ known.W.T + bias, known.sigma), 1)})
    torch.manual_seed(0)
    z = known.posterior(x).sample((4001,)).requires_grad_()
    loss = monte_carlo_em(p, {"x": x}, {"z": z})
    by_hand = known.prior().log_prob(z) + Normal(z @ known.W.T + known.b, known.sigma).log_prob(x).sum(-1)
    torch.testing.assert_close(loss, -by_hand.mean(0))
    (gradient,) = torch.autograd.grad(loss.sum(), bias, retain_graph=True)
    covariance = known.W @ torch.diag(known.s**2) @ known.W.T + torch.diag(known.sigma**2)
    shifted = MultivariateNormal(known.W @ known.m + bias, covariance).log_prob(x).sum()
    (exact,) = torch.autograd.grad(-shifted, bias)  # Fisher's identity
    torch.testing.assert_close(gradient, exact, atol=0.5, rtol=0)
    assert exact.abs().max().item() > 3
    assert torch.autograd.grad(loss.sum(), z, allow_unused=True)[0] is None


class PPCA(nn.Module):
    """x ~ N(Wz + b, σ² I), z ~ N(0, I) in 2 dimensions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.weight = nn.Parameter(torch.randn(5, 2, dtype=torch.float64))
        self.bias = nn.Parameter(torch.zeros(5, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, z: Tensor) -> Independent:
        mean = z @ self.weight.T + self.bias
        return Independent(Normal(mean, self.log_scale.exp().expand(5)), 1)

    def log_prob(self, x: Tensor) -> Tensor:
        covariance = self.weight @ self.weight.T + (2 * self.log_scale).exp() * torch.eye(5, dtype=torch.float64)
        return MultivariateNormal(self.bias, covariance).log_prob(x)


def prior() -> Independent:
    return Independent(Normal(torch.zeros(2, dtype=torch.float64), 1.0), 1)


def test_it_converges_to_the_maximum_of_the_likelihood_of_probabilistic_pca() -> None:
    torch.manual_seed(2)
    loadings = torch.tensor([[2.0, 0.3], [-1.0, 1.0], [0.5, 1.7], [0.1, -0.8], [1.2, 0.2]], dtype=torch.float64)
    x = 0.7 + torch.randn(97, 2, dtype=torch.float64) @ loadings.T + 0.6 * torch.randn(97, 5, dtype=torch.float64)
    # Tipping and Bishop (1999), eq. 7 and 8: the variance is the mean of the eigenvalues that are left out
    values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
    variance = values[:3].mean()
    covariance = vectors[:, 3:] @ torch.diag(values[3:] - variance) @ vectors[:, 3:].T
    covariance = covariance + variance * torch.eye(5, dtype=torch.float64)
    best = MultivariateNormal(x.mean(0), covariance).log_prob(x).mean().item()

    decoder = PPCA()
    p = Joint({"z": prior, "x | z": decoder})
    optimizer = torch.optim.Adam(p.parameters(), 0.05)
    before, updates = decoder.log_prob(x).mean().item(), 300
    chains = posterior_draws(p, {"x": x}, chains=7, transitions=20)
    for i in range(updates):
        chains = posterior_draws(p, {"x": x}, chains, leapfrog=5)
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - i / updates)
        for _ in range(2):
            optimizer.zero_grad()
            monte_carlo_em(p, {"x": x}, chains.values).mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    reached = decoder.log_prob(x).mean().item()
    assert before < best - 1
    assert best - 0.01 < reached <= best
    torch.testing.assert_close((2 * decoder.log_scale).exp(), variance, rtol=0.08, atol=0)
    found = (decoder.weight @ decoder.weight.T).detach() + (2 * decoder.log_scale.detach()).exp() * torch.eye(5)
    torch.testing.assert_close(found, covariance, atol=0.1 * covariance.max().item(), rtol=0)


def test_chains_of_some_rows_are_continued_alone(linear_gaussian: Any) -> None:
    known = linear_gaussian
    torch.manual_seed(0)
    chains = posterior_draws(known.p, {"x": known.x}, chains=3, transitions=20)
    rows = torch.tensor([5, 1])
    kept = chains._replace(position=chains.position[:, rows] + 50, step=torch.tensor([1e-4], dtype=torch.float64))
    after = posterior_draws(known.p, {"x": known.x[rows]}, kept, leapfrog=1)
    assert after.values["z"].shape == (3, 2, 3)
    torch.testing.assert_close(after.position, kept.position, atol=0.01, rtol=0)  # so small a step leads nowhere
    assert after.acceptance.item() > 0.9
    with pytest.raises(ShapeError, match=r"takes \(chains, 7, 3\)"):
        posterior_draws(known.p, {"x": known.x}, kept)


def test_discrete_latents_numbers_out_of_range_and_missing_draws_are_errors(linear_gaussian: Any) -> None:
    known, given = linear_gaussian, {"x": linear_gaussian.x}
    discrete = Joint({"h": bernoulli_bias(2), "x | h": bernoulli(linear(2, 5))})
    with pytest.raises(AncestralError, match=r"'h'.* is discrete"):
        posterior_draws(discrete, {"x": torch.ones(3, 5)})
    for numbers in ({"transitions": 0}, {"leapfrog": 0}, {"chains": 0}):
        with pytest.raises(AncestralError, match=f"{next(iter(numbers))} is 0"):
            posterior_draws(known.p, given, **numbers)
    with pytest.raises(AncestralError, match="target acceptance is 1"):
        posterior_draws(known.p, given, target=1.0)
    z = torch.zeros(2, 7, 3, dtype=torch.float64)
    for values, words in (
        ({}, "no draws"),
        ({"a": z}, "no value is given for 'z'"),
        ({"z": z[:0]}, "no draws"),
        ({"z": z, "a": z}, "draws of 'a', which p does not draw"),
        ({"z": z, "x": z}, "draws of 'x', which is given too"),
    ):
        with pytest.raises(GraphError, match=words):
            monte_carlo_em(known.p, given, values)
    with pytest.raises(GraphError, match="a value is given for 'y', which the model neither samples"):
        monte_carlo_em(known.p, {**given, "y": known.x}, {"z": z})
    with pytest.raises(GraphError, match="a value is given for 'y', which the model neither samples"):
        posterior_draws(known.p, {**given, "y": known.x})


@pytest.mark.parametrize("shape", [(7, 3), (2, 1, 3), (2, 7, 1), (2, 7, 1, 3), (2, 5, 3), ()])
def test_draws_have_the_shape_of_their_variable(linear_gaussian: Any, shape: tuple[int, ...]) -> None:
    z = torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(ShapeError, match=r"draws of 'z' have shape .* takes \(chains, batch, \*event\)"):
        monte_carlo_em(linear_gaussian.p, {"x": linear_gaussian.x}, {"z": z})


def test_all_variables_have_as_many_chains() -> None:
    p = Joint({"a": prior, "b": prior, "x | a, b": lambda a, b: Independent(Normal(a + b, 1.0), 1)})
    z, x = torch.zeros(3, 5, 2, dtype=torch.float64), torch.zeros(5, 2, dtype=torch.float64)
    assert monte_carlo_em(p, {"x": x}, {"a": z, "b": z}).shape == (5,)
    with pytest.raises(ShapeError, match=r"'b' have shape \(1, 5, 2\).* = \(3, 5, 2\)"):
        monte_carlo_em(p, {"x": x}, {"a": z, "b": z[:1]})


def test_given_values_have_the_shape_of_their_variable(linear_gaussian: Any) -> None:
    z = torch.zeros(2, 7, 3, dtype=torch.float64)
    with pytest.raises(ShapeError, match=r"given value of 'x' has shape \(7, 2, 5\), .*\(batch, \*event\) = \(7, 5\)"):
        monte_carlo_em(linear_gaussian.p, {"x": linear_gaussian.x[:, None].expand(7, 2, 5)}, {"z": z})

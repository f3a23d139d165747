"""The reparameterisation estimator is unbiased, and refuses what it can't differentiate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Independent, Normal, OneHotCategorical, kl_divergence
from torch.distributions.distribution import Distribution

from ancestral import (
    EstimatorError,
    Joint,
    Reparameterized,
    bernoulli,
    elbo,
    iwae,
    linear,
    one_hot,
    standard_normal,
)


@pytest.mark.parametrize("analytic_kl", [[], ["z"]])
def test_its_gradient_is_unbiased(linear_gaussian: Any, analytic_kl: list[str]) -> None:
    torch.manual_seed(2)
    m, draws = linear_gaussian, 100_003
    x = m.x[0]
    exact_loc = torch.tensor([0.4, 1.1, -0.6], dtype=torch.float64, requires_grad=True)
    exact_log_scale = torch.tensor([-0.3, 0.2, -0.9], dtype=torch.float64, requires_grad=True)
    exact_W = m.W.clone().requires_grad_()

    # E_q[log N(x; Wz + b, σ²)] is quadratic in z, so its closed form needs only q's mean and variance
    residual = x - exact_W @ exact_loc - m.b
    spread = (exact_W**2) @ (2 * exact_log_scale).exp()
    log_likelihood = Normal(m.b, m.sigma).log_prob(m.b).sum() - 0.5 * ((residual**2 + spread) / m.sigma**2).sum()
    q = Independent(Normal(exact_loc, exact_log_scale.exp()), 1)
    exact = log_likelihood - kl_divergence(q, m.prior())
    wanted = torch.autograd.grad(exact, [exact_loc, exact_log_scale, exact_W])

    # every draw has parameters of its own, so that one backward pass gives one gradient per draw
    loc, log_scale, W = (
        t.detach().expand(draws, *t.shape).clone().requires_grad_() for t in (exact_loc, exact_log_scale, exact_W)
    )

    def decoder(z: Tensor) -> Distribution:
        return Independent(Normal(torch.einsum("nij,knj->kni", W, z) + m.b, m.sigma), 1)

    value = elbo(
        Joint({"z": m.prior, "x | z": decoder}),
        Joint({"z | x": lambda x: Independent(Normal(loc, log_scale.exp()), 1)}),
        {"x": x.expand(draws, 5)},
        analytic_kl=analytic_kl,
    )
    assert abs((value.mean() - exact) / (value.std() / draws**0.5)) < 4
    for samples, expected in zip(torch.autograd.grad(value.sum(), [loc, log_scale, W]), wanted, strict=True):
        z_score = (samples.mean(0) - expected) / (samples.std(0) / draws**0.5)
        assert z_score.abs().max() < 4.5


@pytest.mark.parametrize(
    "conditional",
    [
        lambda x: Bernoulli(logits=x[:, 0]),
        lambda x: Independent(Bernoulli(logits=x[:, :3]), 1),
        lambda x: Categorical(logits=x),
        lambda x: OneHotCategorical(logits=x),
    ],
)
def test_a_discrete_variable_is_an_error_with_the_cure(conditional: Any) -> None:
    p = Joint({"h": lambda: conditional(torch.zeros(1, 5)), "x | h": bernoulli(linear(3, 5))})
    q = Joint({"h | x": conditional})
    with pytest.raises(
        EstimatorError,
        match=r"'h' is a .*can't be reparameterized.*estimators=\{\"h\": \.\.\.\} with LikelihoodRatio\(\)",
    ):
        elbo(p, q, {"x": torch.ones(7, 5)})
    with pytest.raises(EstimatorError, match="'h' is a"):
        iwae(p, q, {"x": torch.ones(7, 5)}, particles=2, estimators=Reparameterized())


def test_a_variable_that_is_not_named_is_reparameterized() -> None:
    p = Joint(
        {
            "y": lambda: OneHotCategorical(logits=torch.zeros(2)),
            "z | y": _code,
            "x | z": bernoulli(linear(3, 5)),
        }
    )
    q = Joint({"y | x": one_hot(linear(5, 2)), "z | y": _code})
    with pytest.raises(EstimatorError, match="'y' is a OneHot, which can't be reparameterized"):
        elbo(p, q, {"x": torch.ones(7, 5)}, estimators={"z": Reparameterized()})


def _code(y: Tensor) -> Distribution:
    return Independent(Normal(y @ torch.ones(2, 3), 1.0), 1)


def test_its_draw_is_the_same_function_of_noise_as_the_distribution_s() -> None:
    encoder = nn.Linear(5, 3)
    q = Joint({"z | x": lambda x: Independent(Normal(encoder(x), 0.7), 1)})
    p = Joint({"z": standard_normal(3), "x | z": lambda z: Independent(Normal(z @ torch.ones(3, 5), 1.0), 1)})
    x = torch.randn(7, 5)
    torch.manual_seed(3)
    value = elbo(p, q, {"x": x})
    torch.manual_seed(3)
    z = encoder(x) + 0.7 * torch.randn(1, 7, 3)
    by_hand = (
        Normal(z @ torch.ones(3, 5), 1.0).log_prob(x).sum(-1)
        + Normal(0.0, 1.0).log_prob(z).sum(-1)
        - Normal(encoder(x), 0.7).log_prob(z).sum(-1)
    )[0]
    torch.testing.assert_close(value, by_hand)
    for a, b in zip(
        torch.autograd.grad(value.sum(), list(encoder.parameters())),
        torch.autograd.grad(by_hand.sum(), list(encoder.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(a, b)

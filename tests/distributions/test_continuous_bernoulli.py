"""The continuous Bernoulli distribution against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st

from ancestral.distributions import ContinuousBernoulli
from ancestral.distributions.continuous_bernoulli import SERIES


@given(st.floats(-1e4, 1e4))
def test_its_log_normalizer_is_that_of_the_definition(logit: float) -> None:
    computed = ContinuousBernoulli(torch.tensor(logit, dtype=torch.float64)).log_normalizer.item()
    if abs(logit) > 1e-3:
        size = abs(logit)
        exact = max(logit, 0.0) + math.log1p(-math.exp(-size)) - math.log(size)
    else:
        exact = logit / 2 + logit**2 / 24
    assert computed == pytest.approx(exact, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logit", [-100.0, -20.0, -1.0, -1e-3, 0.0, 1e-3, 0.5, 20.0, 100.0])
def test_the_density_integrates_to_one_and_has_its_mean(logit: float, dtype: torch.dtype) -> None:
    n = 1_000_003
    x = ((torch.arange(n, dtype=torch.float64) + 0.5) / n).to(dtype)
    p = ContinuousBernoulli(torch.tensor(logit, dtype=dtype))
    density = p.log_prob(x).double().exp()
    assert density.mean().item() == pytest.approx(1.0, abs=1e-4)
    assert (density * x.double()).mean().item() == pytest.approx(p.mean.item(), abs=1e-4)


@pytest.mark.parametrize("logit", [-7.0, -0.5, 0.0, 1e-3, 3.0])
def test_draws_have_the_mean_and_the_gradient_of_the_mean(logit: float) -> None:
    torch.manual_seed(0)
    l = torch.tensor(logit, dtype=torch.float64, requires_grad=True)  # noqa: E741  the paper's logit
    p = ContinuousBernoulli(l)
    draws = p.rsample((100_003,))
    error = draws.std().item() / math.sqrt(len(draws))
    assert abs(draws.mean().item() - p.mean.item()) < 4 * error
    (sampled,) = torch.autograd.grad(draws.mean(), l)
    (exact,) = torch.autograd.grad(p.mean, l)
    assert sampled.item() == pytest.approx(exact.item(), rel=0.02)


@pytest.mark.parametrize("logit", [-1e4, -0.02, -1e-9, 0.0, 1e-9, 0.02, 1e4])
def test_values_and_gradients_are_finite_at_any_logit(logit: float) -> None:
    l = torch.tensor([logit], requires_grad=True)  # noqa: E741
    value = ContinuousBernoulli(l).log_prob(torch.tensor([0.3]))
    (gradient,) = torch.autograd.grad(value.sum(), l)
    assert bool(value.isfinite())
    assert bool(gradient.isfinite())


@pytest.mark.parametrize("side", [1 - 1e-9, 1 + 1e-9])
def test_the_series_near_zero_meets_the_closed_form(side: float) -> None:
    logit = torch.tensor([side * SERIES, -side * SERIES], dtype=torch.float64)
    p = ContinuousBernoulli(logit)
    log_normalizer = logit / 2 + logit**2 / 24 - logit**4 / 2880 + logit**6 / 181_440
    mean = 0.5 + logit / 12 - logit**3 / 720 + logit**5 / 30_240
    torch.testing.assert_close(p.log_normalizer, log_normalizer, atol=1e-12, rtol=0)
    torch.testing.assert_close(p.mean, mean, atol=1e-12, rtol=0)

"""The discretized logistic: a proper mass function, safe at any distance from its mean."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st

from ancestral import DiscretizedLogistic


def grid(levels: int) -> torch.Tensor:
    return torch.arange(levels, dtype=torch.float64) / (levels - 1)


def at(loc: float, log_scale: float, levels: int) -> DiscretizedLogistic:
    return DiscretizedLogistic(
        torch.tensor(loc, dtype=torch.float64), torch.tensor(log_scale, dtype=torch.float64), levels
    )


@given(st.floats(-1e3, 1e3), st.floats(-12, 12), st.sampled_from([2, 3, 17, 256]))
def test_the_masses_of_all_levels_sum_to_one(loc: float, log_scale: float, levels: int) -> None:
    total = at(loc, log_scale, levels).log_prob(grid(levels)).logsumexp(0)
    assert total.item() == pytest.approx(0.0, abs=1e-6)


@given(st.floats(-1, 2), st.floats(-3, 1), st.sampled_from([2, 3, 17, 256]))
def test_each_mass_is_a_difference_of_logistic_distribution_functions(
    loc: float, log_scale: float, levels: int
) -> None:
    x, h = grid(levels), 1 / (levels - 1)
    upper = torch.sigmoid((x + h / 2 - loc) / math.exp(log_scale))
    lower = torch.sigmoid((x - h / 2 - loc) / math.exp(log_scale))
    upper[-1], lower[0] = 1.0, 0.0
    torch.testing.assert_close(at(loc, log_scale, levels).log_prob(x).exp(), upper - lower, atol=1e-12, rtol=1e-9)


@given(
    st.floats(-1e4, 1e4),
    st.floats(-9, 9),
    st.sampled_from([2, 17, 256]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_log_masses_and_gradients_are_finite_at_any_distance(
    loc: float, log_scale: float, levels: int, dtype: torch.dtype
) -> None:
    location = torch.tensor(loc, dtype=dtype, requires_grad=True)
    log_s = torch.tensor(log_scale, dtype=dtype, requires_grad=True)
    log_prob = DiscretizedLogistic(location, log_s, levels).log_prob(grid(levels).to(dtype))
    assert log_prob.isfinite().all()
    assert (log_prob <= 0).all()
    assert all(g.isfinite() for g in torch.autograd.grad(log_prob.sum(), [location, log_s]))


@given(st.floats(-1e4, 1e4), st.floats(-9, 9), st.sampled_from([2, 3, 17, 256]))
def test_its_mean_is_the_sum_over_all_levels(loc: float, log_scale: float, levels: int) -> None:
    p = at(loc, log_scale, levels)
    enumerated = (grid(levels) * p.log_prob(grid(levels)).exp()).sum().item()
    assert p.mean.item() == pytest.approx(enumerated, abs=1e-6)
    assert 0.0 <= p.mean.item() <= 1.0


@pytest.mark.parametrize(("loc", "log_scale"), [(0.37, -1.5), (0.9, -0.5), (-0.2, -1.0)])
def test_draws_lie_on_the_grid_with_their_frequencies(loc: float, log_scale: float) -> None:
    torch.manual_seed(1)
    levels, draws = 7, 100_003
    p = at(loc, log_scale, levels)
    x = p.sample(torch.Size((draws,)))
    assert p.support.check(x).all()
    mass = p.log_prob(grid(levels)).exp()
    counts = torch.bincount((x * (levels - 1)).round().long(), minlength=levels).double()
    z = (counts - draws * mass) / (draws * mass * (1 - mass)).sqrt()
    assert z.abs().max() < 4


def test_its_draws_carry_no_gradient_and_it_says_so() -> None:
    p = DiscretizedLogistic(torch.zeros(3, requires_grad=True), torch.zeros(3))
    assert not p.has_rsample
    assert not p.sample().requires_grad


def test_its_parameters_broadcast_and_expand() -> None:
    p = DiscretizedLogistic(torch.zeros(7, 3), torch.zeros(3), 17)
    assert p.batch_shape == (7, 3)
    wide = p.expand(torch.Size((2, 7, 3)))
    assert isinstance(wide, DiscretizedLogistic)
    assert wide.batch_shape == wide.sample().shape == (2, 7, 3)
    assert wide.levels == 17
    assert p.sample(torch.Size((5,))).shape == (5, 7, 3)


def test_its_support_is_the_grid() -> None:
    support = at(0.5, 0.0, 5).support
    inside = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    outside = torch.tensor([-0.25, 0.1, 0.3, 1.25, math.nan])
    assert support.check(inside).all()
    assert not support.check(outside).any()


@pytest.mark.parametrize("log_scale", [-9.0, 0.0, 9.0, 14.0])
def test_single_precision_gives_the_masses_of_double_precision(log_scale: float) -> None:
    single = DiscretizedLogistic(torch.tensor(0.37), torch.tensor(log_scale), 256).log_prob(grid(256).float())
    torch.testing.assert_close(single.double(), at(0.37, log_scale, 256).log_prob(grid(256)), atol=0.01, rtol=1e-3)

"""The two estimators of the ELBO of Kingma and Welling (2014), eq. 6 and 7, have one mean and one mean gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from forced import Grid
from torch.distributions import Normal, kl_divergence

from ancestral import Joint, elbo


@pytest.mark.parametrize("analytic_kl", [[], ["z"]])
def test_the_mean_of_each_is_the_bound(analytic_kl: list[str]) -> None:
    grid = Grid()
    for mine, wanted in zip(grid.mean(elbo, analytic_kl=analytic_kl), grid.exact(False), strict=True):
        assert wanted.abs().max() > 0.1
        torch.testing.assert_close(mine, wanted, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("particles", [1, 3])
def test_each_draw_of_them_is_their_equation(linear_gaussian: Any, particles: int) -> None:
    m = linear_gaussian
    q, posterior = Joint({"z | x": m.rough_posterior}), m.rough_posterior(m.x)
    torch.manual_seed(0)
    z = posterior.rsample((particles,))
    likelihood = Normal(z @ m.W.T + m.b, m.sigma).log_prob(m.x).sum(-1)
    a = (likelihood + Normal(m.m, m.s).log_prob(z).sum(-1) - posterior.log_prob(z)).mean(0)
    b = likelihood.mean(0) - kl_divergence(posterior.base_dist, Normal(m.m, m.s)).sum(-1)
    for wanted, analytic_kl in ((a, []), (b, ["z"])):
        torch.manual_seed(0)
        torch.testing.assert_close(elbo(m.p, q, {"x": m.x}, particles, analytic_kl=analytic_kl), wanted)
    assert not torch.allclose(a, b)

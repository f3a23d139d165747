"""The harmonic estimate from posterior draws, against closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributions import Gamma, Independent, Normal, Poisson

from ancestral import Joint, Trace, standard_normal
from ancestral.errors import AncestralError, ShapeError
from ancestral.evaluation import hmc_density


@pytest.mark.parametrize("from_q", [False, True])
def test_it_agrees_with_the_closed_form_within_its_error(linear_gaussian: Any, from_q: bool) -> None:
    m = linear_gaussian
    torch.manual_seed(0)
    q = Joint({"z | x": m.rough_posterior}) if from_q else None
    found = hmc_density(m.p, {"x": m.x}, 100, 5, q=q)
    z = (found.log_prob - m.log_prob(m.x)) / found.variance.sqrt()
    assert (found.variance.sqrt() < 0.06).all()
    assert (z.abs() < 4).all()
    assert z.square().mean() < 3
    assert ((found.acceptance - 0.65).abs() < 0.2).all()


def test_a_positive_variable() -> None:
    """λ ~ Gamma(a, b), x | λ ~ Poisson(λ): the evidence is negative binomial."""
    torch.manual_seed(1)
    a, b = 2.3, 0.7
    p = Joint(
        {
            "rate": lambda: Independent(Gamma(torch.tensor([a]).double(), torch.tensor([b]).double()), 1),
            "x | rate": lambda rate: Independent(Poisson(rate), 1),
        }
    )
    x = torch.tensor([[0.0], [3.0], [11.0]]).double()
    log_p = (
        torch.lgamma(x + a) - math.lgamma(a) - torch.lgamma(x + 1) + a * math.log(b / (1 + b)) - x * math.log(1 + b)
    )[:, 0]
    found = hmc_density(p, {"x": x}, 100, 5)
    assert ((found.log_prob - log_p).abs() < 4 * found.variance.sqrt() + 0.02).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"chains": 2}, "chains is 2"),
        ({"chains": 7}, "chains is 7"),
        ({"draws": 0}, "draws is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"burn_in": -1}, "burn_in is -1"),
        ({"chains": 4, "draws": 1}, "2 draws fit no density in 3 dimensions"),
    ],
)
def test_settings_out_of_range_are_errors(linear_gaussian: Any, options: dict[str, int], words: str) -> None:
    with pytest.raises(AncestralError, match=words):
        hmc_density(linear_gaussian.p, {"x": linear_gaussian.x}, **options)  # type: ignore[arg-type]


def test_no_rows_are_an_error(linear_gaussian: Any) -> None:
    with pytest.raises(ShapeError, match="the batch is empty"):
        hmc_density(linear_gaussian.p, {"x": linear_gaussian.x[:0]})


def test_five_dimensions_are_too_many(linear_gaussian: Any) -> None:
    p = Joint({"z": standard_normal(5), "x | z": lambda z: Independent(Poisson(z.exp()), 1)})
    with pytest.raises(AncestralError, match=r"5 dimensions.*4 at most.*ais"):
        hmc_density(p, {"x": torch.ones(2, 5)})


class OneModeEach(nn.Module):
    """Half of the chains start at 1.5, the others at -1.5."""

    def forward(self, trace: Trace) -> None:
        chains, rows = trace.shape
        side = torch.where(torch.arange(chains) < chains // 2, 1.5, -1.5).double()
        trace.sample("z", Independent(Normal(side[:, None, None].expand(chains, rows, 1), 0.01), 1))


def test_halves_of_the_chains_in_different_modes_are_an_error() -> None:
    p = Joint({"z": standard_normal(1).double(), "x | z": lambda z: Independent(Normal(z.abs(), 0.05), 1)})
    with pytest.raises(AncestralError, match="different modes"):
        hmc_density(p, {"x": torch.tensor([[1.5]]).double()}, 8, 3, q=OneModeEach())


def test_chains_that_do_not_move_are_an_error(linear_gaussian: Any) -> None:
    """A likelihood so narrow that float64 can't step within it."""
    m = linear_gaussian
    p = Joint(
        {
            "z": m.prior,
            "x | z": lambda z: Independent(Normal(z @ m.W.T, 1e-150), 1),
        }
    )
    start = Joint({"z | x": lambda x: Independent(Normal(torch.zeros(len(x), 3).double(), 1e-300), 1)})
    with pytest.raises(AncestralError, match="lie in a plane"):
        hmc_density(p, {"x": m.x}, 4, 2, burn_in=2, draws=3, q=start)

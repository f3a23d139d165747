"""Nats become bits per dimension in one place."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, Uniform

from ancestral import DiscretizedLogistic, bits_per_dimension


def test_a_fair_coin_per_dimension_is_one_bit() -> None:
    assert bits_per_dimension(-7 * math.log(2), 7) == pytest.approx(1.0)


def test_levels_all_alike_are_the_logarithm_of_their_number() -> None:
    p = DiscretizedLogistic(torch.zeros(7, dtype=torch.float64), torch.full((7,), 12.0, dtype=torch.float64), 2)
    assert bits_per_dimension(p.log_prob(torch.ones(7)).sum(), 7).item() == pytest.approx(1.0, abs=1e-5)


def test_a_uniform_density_of_256_levels_is_eight_bits() -> None:
    density = Independent(Uniform(torch.zeros(5), torch.ones(5)), 1)
    x = torch.rand(7, 5)
    torch.testing.assert_close(bits_per_dimension(density.log_prob(x), 5, levels=256), torch.full((7,), 8.0))


def test_scaling_the_data_by_their_levels_changes_nothing() -> None:
    log_density, dimensions, levels = -3.7, 5, 17
    scaled = log_density - dimensions * math.log(levels)  # of the same data on [0, 17]
    assert bits_per_dimension(scaled, dimensions) == pytest.approx(
        bits_per_dimension(log_density, dimensions, levels=levels)
    )


def test_a_tensor_is_converted_datapoint_by_datapoint() -> None:
    nats = torch.tensor([-1.0, -2.0, -3.0])
    torch.testing.assert_close(bits_per_dimension(nats, 5), -nats / (5 * math.log(2)))

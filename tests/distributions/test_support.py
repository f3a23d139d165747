"""Supports: all values of a discrete variable, and data where a likelihood can see them."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Binomial,
    Categorical,
    ContinuousBernoulli,
    Distribution,
    Independent,
    Normal,
    OneHotCategorical,
    Poisson,
)

from ancestral import AncestralError, DiscretizedLogistic, EstimatorError
from ancestral.distributions import base_of, check_support, enumerate_support


@pytest.mark.parametrize(
    ("distribution", "count", "event"),
    [
        (Bernoulli(logits=torch.randn(7)), 2, ()),
        (Independent(Bernoulli(logits=torch.randn(7, 3)), 1), 8, (3,)),
        (Independent(Independent(Bernoulli(logits=torch.randn(7, 2, 3)), 1), 1), 64, (2, 3)),
        (Independent(Bernoulli(logits=torch.randn(7, 1)), 1), 2, (1,)),
        (Categorical(logits=torch.randn(7, 5)), 5, ()),
        (Categorical(logits=torch.randn(7, 1)), 1, ()),
        (Independent(Categorical(logits=torch.randn(7, 2, 5)), 1), 25, (2,)),
        (OneHotCategorical(logits=torch.randn(7, 5)), 5, (5,)),
        (Independent(OneHotCategorical(logits=torch.randn(7, 2, 5)), 1), 25, (2, 5)),
        (Binomial(4, torch.full((7,), 0.3)), 5, ()),
    ],
)
def test_all_values_are_there_once_and_their_masses_sum_to_one(
    distribution: Distribution, count: int, event: tuple[int, ...]
) -> None:
    values = enumerate_support(distribution)
    assert values.shape == (count, *event)
    assert values.reshape(count, -1).unique(dim=0).shape[0] == count
    masses = distribution.log_prob(values.reshape(count, 1, *event)).exp()
    torch.testing.assert_close(masses.sum(0), torch.ones(7))


@pytest.mark.parametrize("distribution", [Normal(0.0, 1.0), Poisson(2.0), Independent(Normal(torch.zeros(3), 1.0), 1)])
def test_what_has_not_finitely_many_values_can_not_be_enumerated(distribution: Distribution) -> None:
    with pytest.raises(EstimatorError, match=r"can't be enumerated.*Use Reparameterized"):
        enumerate_support(distribution)


def test_too_many_values_are_an_error_that_counts_them() -> None:
    with pytest.raises(EstimatorError, match=r"takes 2\^17 values, more than 65536"):
        enumerate_support(Independent(Bernoulli(logits=torch.zeros(17)), 1))
    assert len(enumerate_support(Independent(Bernoulli(logits=torch.zeros(3)), 1), maximum=8)) == 8


def test_the_wrappers_of_an_event_are_taken_off() -> None:
    base = Normal(torch.zeros(7, 2, 3), 1.0)
    assert base_of(base) == (base, 0)
    assert base_of(Independent(Independent(base, 1), 1)) == (base, 2)


@pytest.mark.parametrize(
    ("distribution", "value"),
    [
        (Independent(Bernoulli(logits=torch.zeros(3)), 1), torch.tensor([[0.0, 1.0, 1.0]])),
        (Independent(ContinuousBernoulli(logits=torch.zeros(3)), 1), torch.tensor([[0.0, 0.4, 1.0]])),
        (Independent(Normal(torch.zeros(3), 1.0), 1), torch.tensor([[-5.0, 0.4, 9.0]])),
        (Categorical(logits=torch.zeros(5)), torch.tensor([0, 4])),
        (
            Independent(DiscretizedLogistic(torch.zeros(3), torch.zeros(3), 5), 1),
            torch.tensor([[0.0, 0.25, 1.0]]),
        ),
    ],
)
def test_data_in_the_support_pass(distribution: Distribution, value: torch.Tensor) -> None:
    check_support("x", distribution, value)


@pytest.mark.parametrize(
    ("distribution", "value", "cure"),
    [
        (
            Independent(Bernoulli(logits=torch.zeros(3)), 1),
            torch.tensor([0.0, 5.0, 1.0]),
            "Binarize the data",
        ),
        (
            Independent(ContinuousBernoulli(logits=torch.zeros(3)), 1),
            torch.tensor([0.0, 5.0, 1.0]),
            "Scale the data",
        ),
        (Categorical(logits=torch.zeros(5)), torch.tensor([0, 5]), "Choose a likelihood"),
        (
            DiscretizedLogistic(torch.zeros(2), torch.zeros(2), 5),
            torch.tensor([0.3, 5.0]),
            "Choose a likelihood",
        ),
    ],
)
def test_data_outside_the_support_are_an_error_with_the_cure(
    distribution: Distribution, value: torch.Tensor, cure: str
) -> None:
    with pytest.raises(AncestralError, match=f"'x' takes values outside the support .* to 5.* {cure}"):
        check_support("x", distribution, value)

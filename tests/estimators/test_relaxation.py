"""Relaxed variables: what their temperature does, which class they favor, and noise given an outcome."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent

from ancestral.distributions import OneHot
from ancestral.estimators.relaxation import (
    discrete_logits,
    hard,
    means,
    perturbed,
    perturbed_given,
    relaxed,
    squash,
)

PROBABILITIES = torch.tensor([0.07, 0.5, 0.12, 0.01, 0.3], dtype=torch.float64)
DRAWS = 100_003


def classes() -> Distribution:
    return OneHot(PROBABILITIES.log())


def bits() -> Distribution:
    return Independent(Bernoulli(probs=PROBABILITIES), 1)


both = pytest.mark.parametrize("distribution", [classes(), bits()], ids=["classes", "bits"])


def log_mass(distribution: Distribution, count: int = DRAWS) -> Tensor:
    return discrete_logits(distribution).expand(count, 5)


def chi_square(counts: Tensor, expected: Tensor) -> float:
    """In standard deviations above its mean."""
    statistic = ((counts - expected) ** 2 / expected).sum().item()
    freedom = len(counts) - 1
    return (statistic - freedom) / math.sqrt(2 * freedom)


def kolmogorov(sample: Tensor, cumulative: Tensor) -> float:
    """The largest distance of the empirical from the true distribution function, times √n: 1.63 at the 1 % level."""
    n = len(sample)
    ideal = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return ((cumulative - ideal).abs().max() * math.sqrt(n)).item()


@both
def test_towards_temperature_zero_a_relaxed_value_is_the_draw_itself(distribution: Distribution) -> None:
    torch.manual_seed(0)
    noisy = perturbed(log_mass(distribution, 997), distribution)
    gaps = noisy.abs() if isinstance(distribution, Independent) else noisy.topk(2).values.diff().abs()
    clear = (gaps > 1e-3).all(-1)  # of those that are no tie
    assert clear.double().mean() > 0.99
    soft = relaxed(noisy, distribution, 1e-5)
    torch.testing.assert_close(soft[clear], hard(noisy, distribution)[clear], atol=1e-10, rtol=0)


@both
def test_towards_an_infinite_temperature_it_is_uniform(distribution: Distribution) -> None:
    torch.manual_seed(0)
    soft = relaxed(perturbed(log_mass(distribution, 997), distribution), distribution, 1e6)
    middle = 0.5 if isinstance(distribution, Independent) else 0.2
    torch.testing.assert_close(soft, torch.full_like(soft, middle), atol=1e-4, rtol=0)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 10.0])
def test_the_largest_entry_is_each_class_as_often_as_the_class_is_probable(temperature: float) -> None:
    torch.manual_seed(1)
    soft = relaxed(perturbed(log_mass(classes()), classes()), classes(), temperature)
    torch.testing.assert_close(soft.sum(-1), torch.ones(DRAWS, dtype=torch.float64))
    counts = soft.argmax(-1).bincount(minlength=5).double()
    assert chi_square(counts, DRAWS * PROBABILITIES) < 4


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 10.0])
def test_a_relaxed_bit_is_above_a_half_as_often_as_it_is_on(temperature: float) -> None:
    torch.manual_seed(1)
    soft = relaxed(perturbed(log_mass(bits()), bits()), bits(), temperature)
    on = (soft > 0.5).double().mean(0)
    assert ((on - PROBABILITIES).abs() / (PROBABILITIES * (1 - PROBABILITIES) / DRAWS).sqrt()).max() < 4


@both
def test_noise_given_an_outcome_always_leads_to_it(distribution: Distribution) -> None:
    torch.manual_seed(2)
    value = distribution.sample(torch.Size((DRAWS,)))
    if isinstance(distribution, OneHot):
        value[:5] = torch.eye(5, dtype=torch.float64)  # the rare ones too
    given = perturbed_given(value, log_mass(distribution), distribution)
    assert torch.equal(hard(given, distribution), value)


@both
def test_noise_given_an_outcome_that_was_drawn_is_distributed_as_the_noise_itself(distribution: Distribution) -> None:
    torch.manual_seed(3)
    logits = log_mass(distribution)
    given = perturbed_given(distribution.sample(torch.Size((DRAWS,))), logits, distribution)
    free = perturbed(logits, distribution)
    for noisy in (given, free):
        noise = noisy - logits
        for unit in noise.T:
            ordered = unit.sort().values
            uniform = torch.sigmoid(ordered) if isinstance(distribution, Independent) else (-(-ordered).exp()).exp()
            assert kolmogorov(ordered, uniform) < 1.95  # 0.1 %
    # of several units together, by their correlations
    for pair in ((given - logits).T.corrcoef() - torch.eye(5), (free - logits).T.corrcoef() - torch.eye(5)):
        assert pair.abs().max() < 4 / math.sqrt(DRAWS) + 1e-9


def test_noise_given_an_outcome_is_differentiable_in_the_logits() -> None:
    """By finite differences with the same uniform numbers."""
    for distribution in (classes(), bits()):
        value = distribution.sample(torch.Size((3,)))

        def given(logits: Tensor, value: Tensor = value, distribution: Distribution = distribution) -> Tensor:
            torch.manual_seed(4)
            return perturbed_given(value, logits, distribution)

        logits = log_mass(distribution, 3).clone().requires_grad_()
        assert torch.autograd.gradcheck(given, (logits,))


@both
@pytest.mark.parametrize("saturated", [80.0, -80.0])
def test_saturated_logits_stay_finite_in_single_precision(distribution: Distribution, saturated: float) -> None:
    torch.manual_seed(5)
    logits = torch.tensor([saturated, -saturated, 0.0, 1.0, saturated]).expand(2003, 5).clone().requires_grad_()
    if isinstance(distribution, Independent):
        saturated_one: Distribution = Independent(Bernoulli(logits=logits), 1)
        mass = logits
    else:
        saturated_one, mass = OneHot(logits), logits.log_softmax(-1)
    value = saturated_one.sample()
    for noisy in (perturbed(mass, saturated_one), perturbed_given(value, mass, saturated_one)):
        soft = relaxed(noisy, saturated_one, 0.1)
        assert noisy.isfinite().all()
        assert soft.isfinite().all()
        (slope,) = torch.autograd.grad(soft.square().sum(), logits, retain_graph=True)
        assert slope.isfinite().all()
    given = perturbed_given(value, mass, saturated_one)
    assert torch.equal(hard(given, saturated_one), value)


@both
def test_the_mean_with_slope_one_is_the_mean(distribution: Distribution) -> None:
    torch.testing.assert_close(means(distribution), distribution.mean)
    steeper = squash(3 * discrete_logits(distribution), distribution)
    torch.testing.assert_close(means(distribution, 3.0), steeper)
    assert (means(distribution, 1e4) - means(distribution, 1e4).round()).abs().max() < 0.51

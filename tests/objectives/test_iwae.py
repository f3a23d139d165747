"""The importance-weighted bound: the ELBO at one particle, log p(x) at infinitely many, never above it on average."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Independent

from ancestral import AncestralError, AncestralSampling, Joint, elbo, iwae, linear, normal, standard_normal
from ancestral.objectives import elbo_terms, expectation, log_weight
from ancestral.objectives.iwae import bounds, log_weights


def test_with_one_particle_it_is_the_elbo_in_value_and_gradient() -> None:
    p = Joint({"z": standard_normal(3), "x | z": normal(linear(3, 10))}).double()
    q = Joint({"z | x": normal(linear(5, 6))}).double()
    x = torch.randn(7, 5, dtype=torch.float64)
    results = []
    for bound in (elbo, iwae):
        torch.manual_seed(3)
        value = bound(p, q, {"x": x}, particles=1)
        gradient = torch.autograd.grad(value.sum(), list(nn.ModuleList([p, q]).parameters()))
        results.append((value, *gradient))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("particles", [1, 2, 11])
def test_the_exact_posterior_gives_log_p_of_x_and_equal_weights(linear_gaussian: Any, particles: int) -> None:
    m = linear_gaussian
    q = Joint({"z | x": m.posterior})
    torch.testing.assert_close(iwae(m.p, q, {"x": m.x}, particles), m.log_prob(m.x), atol=1e-10, rtol=1e-10)
    trace = elbo_terms(m.p, q, {"x": m.x}, particles).q
    weights = log_weight(m.p, q, trace).softmax(0)
    torch.testing.assert_close(weights, torch.full((particles, 7), 1 / particles, dtype=torch.float64))
    effective = 1 / (weights**2).sum(0)
    torch.testing.assert_close(effective, torch.full((7,), float(particles), dtype=torch.float64))


def test_it_rises_with_particles_towards_log_p_of_x_from_below(linear_gaussian: Any) -> None:
    torch.manual_seed(0)
    m, repeats = linear_gaussian, 4_001
    x = m.x[2]
    q = Joint({"z | x": m.rough_posterior})
    exact = m.log_prob(x)
    previous = torch.tensor(-math.inf)
    for particles in (1, 2, 11, 101):
        value = iwae(m.p, q, {"x": x.expand(repeats, 5)}, particles)
        error = value.std() / math.sqrt(repeats)
        assert value.mean() > previous
        assert value.mean() < exact + 4 * error
        previous = value.mean() + 2 * error
    assert abs(value.mean() - exact) < 0.01 + 4 * error


def test_many_particles_estimate_log_p_of_x(linear_gaussian: Any) -> None:
    torch.manual_seed(0)
    m = linear_gaussian
    value = iwae(m.p, Joint({"z | x": m.rough_posterior}), {"x": m.x}, 100_003)
    torch.testing.assert_close(value, m.log_prob(m.x), atol=0.02, rtol=0)


def test_many_particles_estimate_log_p_of_x_of_discrete_latents(two_layers: Any) -> None:
    torch.manual_seed(0)
    x = torch.randint(2, (7, 4)).double()
    with torch.no_grad():
        value = iwae(two_layers.p, two_layers.q, {"x": x}, 100_003, AncestralSampling())
        torch.testing.assert_close(value, two_layers.by_hand(x)[0], atol=0.05, rtol=0)


def test_the_variance_of_the_bound_is_what_repetitions_show(linear_gaussian: Any) -> None:
    torch.manual_seed(0)
    m, repeats, particles = linear_gaussian, 1009, 101
    x = m.x[2].expand(repeats, 5)
    found = bounds(m.p, Joint({"z | x": m.rough_posterior}), {"x": x}, particles)
    assert found.variance.mean().item() == pytest.approx(found.log_prob.var().item(), rel=0.15)
    by_hand = []
    for size in (101, 13):  # in one pass and in several
        torch.manual_seed(1)
        by_hand.append(bounds(m.p, Joint({"z | x": m.rough_posterior}), {"x": x}, particles, size).variance)
    torch.manual_seed(1)
    log_w, *_ = log_weights(m.p, Joint({"z | x": m.rough_posterior}), {"x": x}, particles)[0]
    weights = (log_w - log_w.mean(0)).exp()
    torch.testing.assert_close(by_hand[0], weights.var(0) / weights.mean(0) ** 2 / particles)
    assert by_hand[1].mean().item() == pytest.approx(by_hand[0].mean().item(), rel=0.1)


def test_equal_weights_have_no_variance_and_a_single_one_none_that_is_known(linear_gaussian: Any) -> None:
    m = linear_gaussian
    q, far = Joint({"z | x": m.posterior}), {"x": m.x + 1e3}
    torch.testing.assert_close(bounds(m.p, q, {"x": m.x}, 11, 3).variance, torch.zeros(7).double(), atol=1e-12, rtol=0)
    assert bounds(m.p, q, {"x": m.x}, 1).variance.isnan().all()
    assert (bounds(m.p, Joint({"z | x": m.rough_posterior}), far, 11, 3).variance >= 0).all()


def test_the_weighted_likelihoods_of_all_images_sum_to_one() -> None:
    torch.manual_seed(0)
    p = Joint({"z": standard_normal(2), "x | z": lambda z: Independent(Bernoulli(logits=z @ torch.ones(2, 4)), 1)})
    q = Joint({"z | x": lambda x: standard_normal(2)()})  # the prior: every weight is p(x | z)
    images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    assert iwae(p, q, {"x": images}, 50_021).exp().sum().item() == pytest.approx(1.0, abs=0.02)


def test_it_has_one_value_per_datapoint() -> None:
    p = Joint({"z": standard_normal(3), "x | z": normal(linear(3, 10))})
    q = Joint({"z | x": normal(linear(5, 6))})
    for batch in (1, 2, 7):
        for particles in (1, 2, 7):
            assert iwae(p, q, {"x": torch.randn(batch, 5)}, particles).shape == (batch,)


@pytest.mark.parametrize("particles", [0, True, 2.5])
def test_particles_are_counted(linear_gaussian: Any, particles: Any) -> None:
    m = linear_gaussian
    with pytest.raises(AncestralError, match="particles is"):
        iwae(m.p, Joint({"z | x": m.posterior}), {"x": m.x}, particles)


def test_far_away_weights_do_not_overflow() -> None:
    q = Joint({"z | x": lambda x: standard_normal(2).double()()})
    for offset in (-1e5, 1e5):
        value = expectation(
            lambda t, offset=offset: offset + t["z"].sum(-1),
            q,
            {"x": torch.zeros(7, 5)},
            11,
            reduction="log-mean-exp",
        )
        assert value.isfinite().all()
        torch.testing.assert_close(value, torch.full((7,), offset, dtype=torch.float64), atol=5.0, rtol=0)

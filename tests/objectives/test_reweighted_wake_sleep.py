"""Reweighted wake-sleep: the mean gradients are sums over all pairs of particles, the weights belong to a datapoint."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from forced import Forced, assert_same_gradients, bits, gradients
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from ancestral import (
    AncestralError,
    GraphError,
    Joint,
    iwae,
    linear,
    normal,
    reweighted_wake_sleep,
    standard_normal,
    wake_sleep,
)
from ancestral.objectives import reweighted_wake_sleep_terms


class Pairs:
    """Every pair of particles (h1, h2) of :class:`TwoLayers` at three datapoints: 32² draws, a block of rows each."""

    def __init__(self, m: Any) -> None:
        self.m, self.x = m, torch.tensor([[0, 1, 1, 0], [1, 1, 0, 1], [0, 0, 0, 1]]).double()
        self.latents = torch.stack([torch.cat(pair) for pair in itertools.product(bits(3), bits(2))])
        self.index = torch.cartesian_prod(torch.arange(32), torch.arange(32))  # pairs, particles
        self.p = nn.ModuleList([m.prior, m.middle, m.decoder])
        self.q = nn.ModuleList([m.q_first, m.q_second])
        # [32, 3]: of each latent vector at each datapoint
        h1, h2 = self.latents[:, None, :3].expand(32, 3, 3), self.latents[:, None, 3:].expand(32, 3, 2)
        x = self.x.expand(32, 3, 4)
        self.log_p, self.log_q = m.log_joint(x, h1, h2), m.log_q(x, h1, h2)

    def mean(self, phase: Any) -> tuple[Tensor, Tensor]:
        """The mean of the two losses over every draw of q, ``[3]`` each."""
        chosen = self.latents[self.index].transpose(0, 1)[:, :, None].expand(2, 1024, 3, 5).flatten(1, 2)
        forced = Forced(self.m.q, {"h1": chosen[..., :3], "h2": chosen[..., 3:]})
        losses = reweighted_wake_sleep(self.m.p, forced, {"x": self.x.repeat(1024, 1)}, 2, phase)
        mass = self.log_q[self.index].sum(1).exp().detach()  # [1024, 3]
        wake, q_loss = ((mass * loss.reshape(1024, 3)).sum(0) for loss in losses)
        return wake, q_loss

    def wanted(self) -> tuple[Tensor, Tensor]:
        """The same two, of the wake phase, written by hand."""
        log_p, log_q = self.log_p[self.index], self.log_q[self.index]  # [1024, 2, 3]
        weights = (log_p - log_q).exp().detach()
        weights = weights / weights.sum(1, keepdim=True)
        mass = log_q.sum(1).exp().detach()
        return -(mass * (weights * log_p).sum(1)).sum(0), -(mass * (weights * log_q).sum(1)).sum(0)

    def bound(self) -> Tensor:
        """The importance-weighted bound of two particles, every pair summed."""
        log_p, log_q = self.log_p[self.index], self.log_q[self.index]
        bound: Tensor = (log_q.sum(1).exp() * ((log_p - log_q).exp().mean(1)).log()).sum(0)
        return bound


def test_the_mean_gradients_of_the_wake_phase_are_the_sums_over_all_pairs(two_layers: Any) -> None:
    pairs = Pairs(two_layers)
    (wake, q_loss), (wanted_wake, wanted_q) = pairs.mean("wake"), pairs.wanted()
    torch.testing.assert_close(wake, wanted_wake)
    torch.testing.assert_close(q_loss, wanted_q)
    assert_same_gradients(wake, wanted_wake, pairs.p)
    assert_same_gradients(q_loss, wanted_q, pairs.q)


def test_the_mean_gradient_in_p_is_that_of_the_importance_weighted_bound(two_layers: Any) -> None:
    pairs = Pairs(two_layers)
    assert_same_gradients(-pairs.mean("wake")[0], pairs.bound(), pairs.p)


def test_every_draw_has_the_gradient_in_p_of_the_importance_weighted_bound(linear_gaussian: Any) -> None:
    m = linear_gaussian
    q, given = Joint({"z | x": lambda x: Independent(Normal(x[:, :3], 1.3), 1)}), {"x": m.x}
    m.W.requires_grad_()
    torch.manual_seed(0)
    wake, _ = reweighted_wake_sleep(m.p, q, given, 11)
    torch.manual_seed(0)
    bound = iwae(m.p, q, given, 11)
    (mine,), (wanted,) = torch.autograd.grad(wake.sum(), m.W), torch.autograd.grad(-bound.sum(), m.W)
    assert wanted.abs().max() > 0.1
    torch.testing.assert_close(mine, wanted)


def test_the_phases_of_q_are_the_weighted_particles_dreams_or_both(two_layers: Any) -> None:
    m, given = two_layers, {"x": torch.ones(7, 4).double()}
    q = nn.ModuleList([m.q_first, m.q_second])
    found = {}
    for phase in ("wake", "sleep", "both"):
        torch.manual_seed(0)
        terms = reweighted_wake_sleep_terms(m.p, m.q, given, 3, phase)
        found[phase] = [terms.q_loss, *gradients(terms.q_loss, q.parameters())]
    for wake, sleep, both in zip(*found.values(), strict=True):
        torch.testing.assert_close(wake + sleep, both)
        assert not torch.allclose(wake, sleep)


def test_the_sleep_phase_of_q_is_that_of_wake_sleep(two_layers: Any) -> None:
    m, given = two_layers, {"x": torch.ones(7, 4).double()}
    q = nn.ModuleList([m.q_first, m.q_second])
    torch.manual_seed(0)
    _, wanted = wake_sleep(m.p, m.q, given)
    torch.manual_seed(0)
    _, sleep = reweighted_wake_sleep(m.p, m.q, given, 1, "sleep")
    torch.testing.assert_close(sleep, wanted)
    assert_same_gradients(sleep, wanted, q)


def test_with_one_particle_the_loss_of_p_is_that_of_wake_sleep(two_layers: Any) -> None:
    m, given = two_layers, {"x": torch.ones(7, 4).double()}
    torch.manual_seed(0)
    wanted, _ = wake_sleep(m.p, m.q, given)
    torch.manual_seed(0)
    wake, _ = reweighted_wake_sleep(m.p, m.q, given, 1)
    torch.testing.assert_close(wake, wanted)
    assert_same_gradients(wake, wanted, nn.ModuleList([m.prior, m.middle, m.decoder]))


@pytest.mark.parametrize("particles", [1, 2, 11])
def test_the_exact_posterior_has_an_effective_sample_size_of_all_particles(
    linear_gaussian: Any, mixture: Any, particles: int
) -> None:
    m = linear_gaussian
    terms = reweighted_wake_sleep_terms(m.p, Joint({"z | x": m.posterior}), {"x": m.x}, particles)
    torch.testing.assert_close(terms.effective_sample_size, torch.full((7,), float(particles), dtype=torch.float64))
    torch.testing.assert_close(terms.bound, m.log_prob(m.x))
    terms = reweighted_wake_sleep_terms(mixture.p, mixture.exact_q, {"x": bits(4)}, particles)
    torch.testing.assert_close(terms.effective_sample_size, torch.full((16,), float(particles), dtype=torch.float64))
    torch.testing.assert_close(terms.bound, mixture.log_joint(bits(4)).logsumexp(1))


def test_the_effective_sample_size_is_of_each_datapoint_and_by_hand_that_of_its_weights(two_layers: Any) -> None:
    m, x = two_layers, torch.tensor([[0, 1, 1, 0], [1, 1, 0, 1], [0, 0, 0, 1]]).double()
    h1, h2 = torch.randint(2, (11, 3, 3)).double(), torch.randint(2, (11, 3, 2)).double()
    terms = reweighted_wake_sleep_terms(m.p, Forced(m.q, {"h1": h1, "h2": h2}), {"x": x}, 11)
    weights = (m.log_joint(x.expand(11, 3, 4), h1, h2) - m.log_q(x.expand(11, 3, 4), h1, h2)).exp().detach()
    torch.testing.assert_close(terms.effective_sample_size, weights.sum(0) ** 2 / (weights**2).sum(0))
    torch.testing.assert_close(terms.bound, weights.mean(0).log())
    assert ((terms.effective_sample_size > 1) & (terms.effective_sample_size < 11)).all()
    assert not terms.effective_sample_size.requires_grad
    assert not terms.bound.requires_grad


@pytest.mark.parametrize("phase", ["wake", "sleep", "both"])
def test_no_gradient_of_one_model_reaches_the_other(phase: Any) -> None:
    torch.manual_seed(0)
    p = Joint({"z | y": normal(linear(2, 6)), "h | z": linear(3, 7), "x | h, y": normal(linear(9, 10))})
    q = Joint({"h | x, y": linear(7, 11), "a | h": linear(11, 3), "z | a": normal(linear(3, 6))})
    given = {"x": torch.randn(13, 5), "y": torch.randn(13, 2)}
    wake, q_loss = reweighted_wake_sleep(p, q, given, 3, phase)
    for loss, mine, other in ((wake, p, q), (q_loss, q, p)):
        own, foreign = list(mine.parameters()), list(other.parameters())
        found = torch.autograd.grad(loss.sum(), own + foreign, allow_unused=True)
        assert all(g is not None and g.abs().max() > 0 for g in found[: len(own)])
        assert all(g is None for g in found[len(own) :])


def test_what_q_computes_without_drawing_is_no_way_from_p_to_q() -> None:
    p = Joint({"z": standard_normal(3), "x | z, h": normal(linear(14, 10))})  # p reads what q has computed
    q = Joint({"h | x": linear(5, 11), "z | h": normal(linear(11, 6))})
    wake, _ = reweighted_wake_sleep(p, q, {"x": torch.randn(7, 5)}, 3)
    wake.sum().backward()
    assert all(w.grad is None for w in q.parameters())
    assert all(w.grad is not None for w in p.parameters())


def test_there_is_one_value_per_datapoint() -> None:
    p = Joint({"z": standard_normal(3), "x | z": normal(linear(3, 10))})
    q = Joint({"z | x": normal(linear(5, 6))})
    for rows, particles in ((1, 1), (1, 7), (2, 3), (7, 2)):
        terms = reweighted_wake_sleep_terms(p, q, {"x": torch.randn(rows, 5)}, particles, "both")
        for value in (terms.wake, terms.q_loss, terms.bound, terms.effective_sample_size):
            assert value.shape == (rows,)


def test_a_datapoint_has_the_same_weights_in_any_batch(linear_gaussian: Any) -> None:
    m, z = linear_gaussian, torch.randn(11, 7, 3, dtype=torch.float64)
    q = Joint({"z | x": m.rough_posterior})
    whole = reweighted_wake_sleep(m.p, Forced(q, {"z": z}), {"x": m.x}, 11)
    for i in range(7):
        alone = reweighted_wake_sleep(m.p, Forced(q, {"z": z[:, i : i + 1]}), {"x": m.x[i : i + 1]}, 11)
        torch.testing.assert_close((alone[0][0], alone[1][0]), (whole[0][i], whole[1][i]))


def test_far_away_weights_do_not_overflow(linear_gaussian: Any) -> None:
    m = linear_gaussian
    terms = reweighted_wake_sleep_terms(m.p, Joint({"z | x": m.rough_posterior}), {"x": m.x + 1e5}, 11)
    for value in (terms.wake, terms.q_loss, terms.bound, terms.effective_sample_size):
        assert value.isfinite().all()


def test_the_effective_sample_size_is_no_more_than_there_are_particles() -> None:
    torch.manual_seed(0)
    p = Joint({"z": standard_normal(2), "x | z": lambda z: Independent(Normal(1e-5 * z, 1.0), 1)})
    q = Joint({"z | x": lambda x: standard_normal(2)()})  # next to the posterior, in float32
    size = reweighted_wake_sleep_terms(p, q, {"x": torch.randn(53, 2)}, 1000).effective_sample_size
    assert (size > 999).all()
    assert (size <= 1000).all()


def test_a_phase_that_is_none_is_an_error_with_those_there_are(two_layers: Any) -> None:
    given = {"x": torch.ones(7, 4).double()}
    with pytest.raises(AncestralError, match=r"no phase 'slep'. Did you mean 'sleep'\? Known: both, sleep, wake"):
        reweighted_wake_sleep(two_layers.p, two_layers.q, given, 3, "slep")  # type: ignore[arg-type]
    with pytest.raises(AncestralError, match="particles is 0"):
        reweighted_wake_sleep(two_layers.p, two_layers.q, given, 0)
    with pytest.raises(GraphError, match="p and q are one model"):
        reweighted_wake_sleep(two_layers.p, two_layers.p, given, 3)

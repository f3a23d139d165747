"""Reweighted wake-sleep: wake-sleep with several particles, weighted by how well they explain the datapoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from ancestral.core import Trace
from ancestral.errors import AncestralError, nearest
from ancestral.objectives.expectation import particles_of
from ancestral.objectives.wake_sleep import recognize, sleep_phase

Phase = Literal["wake", "sleep", "both"]


@dataclass(frozen=True)
class ReweightedWakeSleepTerms:
    """The losses and what the weights say, ``[batch]`` each; the last two carry no gradient."""

    wake: Tensor
    """The loss of p, in nats."""
    q_loss: Tensor
    """The loss of q, in nats."""
    bound: Tensor
    """log 1/K Σ w_k: the importance-weighted bound of log p(x), in nats."""
    effective_sample_size: Tensor
    """1 / Σ ŵ_k², from 1, where one particle has all the weight, to K, where all have the same."""


def reweighted_wake_sleep(
    p: Callable[[Trace], Any],
    q: Callable[[Trace], Any],
    given: Mapping[str, Tensor],
    particles: int,
    phase: Phase = "wake",
) -> tuple[Tensor, Tensor]:
    r"""The losses of p and q, in nats, one value per datapoint each.

    .. math::

        ŵ_k = w_k / \sum_j w_j,  w_k = p(x, z_k) / q(z_k | x),  z_k ∼ q(z | x)

        wake = -\sum_k ŵ_k \log p(x, z_k)  \qquad
        q\_loss = -\sum_k ŵ_k \log q(z_k | x)  \;(wake),  \; -\log q(z' | x'), (x', z') ∼ p  \;(sleep)

    The weights are per datapoint and without gradient. The gradient of the first loss is that of the
    importance-weighted bound in p. Neither loss has a gradient in the parameters of the other model, and no gradient
    passes a draw, so any variable with a log-density will do. With one particle the loss of p is that of
    :func:`~ancestral.wake_sleep`, and the wake phase of q learns nothing on average: give it two or more.

    Args:
        p, q, given: as in :func:`~ancestral.wake_sleep`.
        particles: draws per datapoint, K.
        phase: what q learns from: the weighted particles (``"wake"``), dreams (``"sleep"``), or the sum of the two
            losses (``"both"``).

    Returns:
        The losses of p and of q, ``[batch]`` each.

    Raises:
        AncestralError: there is no such phase, or ``particles`` is below 1.
        GraphError, ShapeError: see :func:`~ancestral.wake_sleep`.

    Source: Bornschein and Bengio (2015), "Reweighted wake-sleep", section 2 and algorithm 1.
    """
    terms = reweighted_wake_sleep_terms(p, q, given, particles, phase)
    return terms.wake, terms.q_loss


def reweighted_wake_sleep_terms(
    p: Callable[[Trace], Any],
    q: Callable[[Trace], Any],
    given: Mapping[str, Tensor],
    particles: int,
    phase: Phase = "wake",
) -> ReweightedWakeSleepTerms:
    """:func:`reweighted_wake_sleep` with the bound and the effective sample size. Arguments and errors are the same."""
    if phase not in get_args(Phase):
        raise AncestralError(f"there is no phase {phase!r}. " + nearest(str(phase), get_args(Phase)))
    recognized, scored = recognize(p, q, given, particles_of(particles), learn=phase != "sleep")
    log_p = scored.log_prob().expand(scored.shape)
    log_q = recognized.log_prob(recognized.drawn).expand(scored.shape)
    log_weight = (log_p - log_q).detach()
    weights = log_weight.softmax(0)
    losses = []
    if phase != "sleep":
        losses.append(-(weights * log_q).sum(0))
    if phase != "wake":
        losses.append(sleep_phase(p, q, given, scored, recognized.drawn))
    return ReweightedWakeSleepTerms(
        wake=-(weights * log_p).sum(0),
        q_loss=sum(losses[1:], losses[0]),
        bound=log_weight.logsumexp(0) - math.log(particles),
        effective_sample_size=(1 / weights.square().sum(0)).clamp(max=particles),  # which rounding may exceed
    )

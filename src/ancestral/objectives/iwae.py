"""The importance-weighted bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ancestral.core import AncestralSampling, Estimators, Trace
from ancestral.distributions.support import check_support
from ancestral.objectives.elbo import score
from ancestral.objectives.expectation import batch_of, expectation, particles_of
from ancestral.objectives.path_gradient import (
    Gradient,
    along_the_path,
    check_gradient,
    doubly_reparameterized,
)

CHUNK = 1 << 21
"""Numbers that one pass of :func:`bounds` computes for an observed variable: fast, and still in the cache."""
DRAWS = 20_000
"""Draws of one pass, which bound the memory of networks that are wider than the data."""


def iwae(
    p: Callable[[Trace], Any],
    q: Callable[[Trace], Any],
    given: Mapping[str, Tensor],
    particles: int,
    estimators: Estimators | None = None,
    gradient: Gradient = "total",
) -> Tensor:
    r"""The importance-weighted bound of log p(x), in nats, one value per datapoint.

    .. math:: L_K(x) = E\left[\log \frac1K \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k | x)}\right],  z_k ∼ q(z | x)

    With one particle it is the ELBO; it rises with K towards log p(x). The weights are per datapoint.

    Args and errors are those of :func:`~ancestral.elbo`; enumerated variables raise ``EstimatorError``. The value does
    not depend on ``gradient``. The signal of the total gradient in q's parameters gets lost in its noise as K grows;
    that of ``"doubly-reparameterized"``, unbiased as well, does not. ``"sticking-the-landing"`` is biased here for
    K > 1.

    Source: Burda, Grosse and Salakhutdinov (2016), eq. 8; Rainforth et al. (2018), the lost signal.
    """

    def cost(trace: Trace) -> Tensor:
        check_gradient(gradient, p, q, trace)
        if gradient == "total":
            return log_weight(p, q, trace)
        along = score(p, q, trace).log_prob() - along_the_path(trace.log_prob(trace.drawn), trace)
        return along if gradient == "sticking-the-landing" else doubly_reparameterized(along, trace)

    return expectation(cost, q, given, particles, estimators, reduction="log-mean-exp")


def log_weight(p: Callable[[Trace], Any], q: Callable[[Trace], Any], trace: Trace) -> Tensor:
    """log p(x, z) - log q(z | x) at the values of a trace of q, nats, ``(*particles, batch)``."""
    scored = score(p, q, trace)
    if p is q:  # what was drawn from p weighs nothing
        return trace.log_prob([name for name in trace.sites if name not in trace.drawn])
    return scored.log_prob() - trace.log_prob(trace.drawn)


@dataclass(frozen=True)
class Bounds:
    """Per datapoint, in nats, ``[batch]`` each, float64."""

    log_prob: Tensor
    """log 1/K Σ w_k"""
    elbo: Tensor
    """1/K Σ log w_k"""
    log_likelihood: Tensor
    """1/K Σ log p(x | z_k)"""
    kl: Tensor
    """1/K Σ [log q(z_k | x) - log p(z_k)]"""


@torch.no_grad()
def bounds(p: Callable[[Trace], Any], q: Callable[[Trace], Any], given: Mapping[str, Tensor], particles: int) -> Bounds:
    r"""The importance-weighted bound, the ELBO and its parts, without gradients.

    .. math:: w_k = p(x, z_k) / q(z_k | x),  z_k ∼ q(z | x)

    They are streamed over particles: memory does not grow with their number.

    Raises:
        AncestralError: a given value lies outside the support of its likelihood.
        GraphError, ShapeError: see :func:`~ancestral.elbo`.

    Source: Burda, Grosse and Salakhutdinov (2016), eq. 8; Rezende et al. (2014), appendix E.
    """
    rows, done = batch_of(given), 0
    device = next(iter(given.values())).device
    step = max(1, min(CHUNK // max(1, *(value.numel() for value in given.values())), DRAWS // max(1, rows)))
    log_sum = torch.full((rows,), -math.inf, dtype=torch.float64, device=device)
    sums = torch.zeros(3, rows, dtype=torch.float64, device=device)
    while done < particles_of(particles):
        count = min(step, particles - done)
        trace = Trace((count, rows), given, AncestralSampling())
        q(trace)
        scored = score(p, q, trace)
        drawn = trace.drawn
        observed = [name for name in scored.sites if name not in drawn]
        if not done:
            for name in observed:
                check_support(name, scored.sites[name].distribution, scored.sites[name].value)
        log_likelihood = scored.log_prob(observed).double()
        kl = (trace.log_prob(drawn) - scored.log_prob(drawn)).double()
        log_weight = (log_likelihood - kl).expand(count, rows)
        log_sum = torch.logaddexp(log_sum, log_weight.logsumexp(0))
        sums += torch.stack([part.expand(count, rows).sum(0) for part in (log_weight, log_likelihood, kl)])
        done += count
    means = sums / particles
    return Bounds(log_sum - math.log(particles), means[0], means[1], means[2])

"""The importance-weighted bound."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ancestral.core import AncestralSampling, Estimators, Trace
from ancestral.distributions.support import check_support, in_support
from ancestral.errors import GraphError
from ancestral.objectives.batch_statistics import check_rows_apart
from ancestral.objectives.elbo import score
from ancestral.objectives.expectation import batch_of, expectation, particles_of
from ancestral.objectives.memory import Made, at_once
from ancestral.objectives.path_gradient import (
    Gradient,
    along_the_path,
    check_gradient,
    doubly_reparameterized,
)


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
        check_rows_apart(p, q, trace)
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
    variance: Tensor
    """Of ``log_prob``, from how much the weights differ; NaN with one particle. It is too small where no particle has
    found what has most of the mass."""
    elbo: Tensor
    """1/K Σ log w_k"""
    log_likelihood: Tensor
    """1/K Σ log p(x | z_k)"""
    kl: Tensor
    """1/K Σ [log q(z_k | x) - log p(z_k)]"""


Weigh = Callable[[Mapping[str, Tensor], int], tuple[Tensor, Tensor]]
"""From given values and a number of particles to the weights, as :func:`log_weights` has them."""


@torch.no_grad()
def bounds(
    p: Callable[[Trace], Any],
    q: Callable[[Trace], Any],
    given: Mapping[str, Tensor],
    particles: int,
    size: int | None = None,
    weigh: Weigh | None = None,
) -> Bounds:
    r"""The importance-weighted bound, the ELBO and its parts, without gradients.

    .. math:: w_k = p(x, z_k) / q(z_k | x),  z_k ∼ q(z | x)

    They are streamed over particles, as many at once as the free memory has room for, and as are fast: memory does not
    grow with their number.

    Args:
        p, q, given, particles: as in :func:`iwae`.
        size: particles of one pass: the draws of a seed depend on it. None: the first goes alone, and shows how many
            there is room for.
        weigh: computes what :func:`log_weights` does, with the same p and q. None: :func:`log_weights` itself.

    Raises:
        AncestralError: a given value lies outside the support of its likelihood.
        GraphError, ShapeError: see :func:`~ancestral.elbo`.

    Source: Burda, Grosse and Salakhutdinov (2016), eq. 8; Rezende et al. (2014), appendix E.
    """
    rows, done = batch_of(given), 0
    device = next(iter(given.values())).device
    known, size = size is not None, size or 1
    log_sums = torch.full((2, rows), -math.inf, dtype=torch.float64, device=device)  # of w and w²
    sums = torch.zeros(3, rows, dtype=torch.float64, device=device)
    made, weigh = Made(), weigh or partial(log_weights, p, q)
    while done < particles_of(particles):
        count = min(size, particles - done)
        with made if not done and not known else contextlib.nullcontext():
            parts, inside = weigh(given, count)
        if not inside:  # only a program can't say so itself
            parts, _ = log_weights(p, q, given, count)
        if not done and not known:
            size = at_once(particles, made.bytes, device)
        log_sums = torch.logaddexp(log_sums, torch.stack([parts[0], 2 * parts[0]]).logsumexp(1))
        sums += parts.sum(1)
        done += count
    means = sums / particles
    # Var(w) / (K E[w]²), to first order that of the logarithm of their mean; equal weights may round to below 0
    variance = (particles * (log_sums[1] - 2 * log_sums[0]).exp() - 1).clamp(min=0) / (particles - 1)
    return Bounds(log_sums[0] - math.log(particles), variance, means[0], means[1], means[2])


def log_weights(
    p: Callable[[Trace], Any], q: Callable[[Trace], Any], given: Mapping[str, Tensor], count: int
) -> tuple[Tensor, Tensor]:
    """log w, log p(x | z) and log q(z | x) - log p(z) of so many particles, ``[3, count, batch]``, float64.

    Beside them, whether the given values lie in the support of their likelihoods.

    Raises:
        AncestralError: they don't; a compiled program does not raise it.
        GraphError: p draws none of the given values.
    """
    trace = Trace((count, batch_of(given)), given, AncestralSampling())
    q(trace)
    scored = score(p, q, trace)
    drawn = trace.drawn
    observed = [name for name in scored.sites if name not in drawn]
    if not observed:
        raise GraphError(f"p draws none of the given {', '.join(given)}: there is no likelihood of them.")
    sites = [scored.sites[name] for name in observed]
    inside = torch.stack([in_support(site.distribution, site.value) for site in sites]).all()
    if not torch.compiler.is_compiling() and not inside:
        for site in sites:
            check_support(site.name, site.distribution, site.value)
    log_likelihood = scored.log_prob(observed).double()
    kl = (trace.log_prob(drawn) - scored.log_prob(drawn)).double()
    return torch.stack([part.expand(trace.shape) for part in (log_likelihood - kl, log_likelihood, kl)]), inside

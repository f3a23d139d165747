"""log p(x) from draws of the posterior and a density that is fitted to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ancestral.core import Trace
from ancestral.errors import AncestralError
from ancestral.evaluation.ais import relative_variance
from ancestral.objectives.hmc import check_counts, hmc, state_at
from ancestral.objectives.log_joint import LogJoint
from ancestral.objectives.memory import at_once, bytes_made

MOST_DIMENSIONS = 4
"""Of the latent space: in more, the fitted density covers too little of the posterior."""
BURN_IN = 100
"""Transitions before the first draw."""
DRAWS = 20
"""Of each chain."""


@dataclass(frozen=True)
class HMCDensity:
    """The estimate and its errors, per datapoint, ``[batch]`` each, float64."""

    log_prob: Tensor
    """In nats."""
    variance: Tensor
    """Of the estimate, from how much the chains differ."""
    acceptance: Tensor
    """Mean probability with which a transition was accepted."""


def hmc_density(
    p: Callable[[Trace], Any],
    given: Mapping[str, Tensor],
    chains: int = 16,
    steps: int = 10,
    *,
    burn_in: int = BURN_IN,
    draws: int = DRAWS,
    q: Callable[[Trace], Any] | None = None,
) -> HMCDensity:
    r"""The harmonic estimate of log p(x) with a density g fitted to draws of the posterior.

    .. math:: \frac{1}{p(x)} = E_{p(z | x)}\left[\frac{g(z)}{p(x, z)}\right]
       ≈ \frac1L \sum_{l=1}^L \frac{g(z_l)}{p(x, z_l)}

    The draws are those of Hamiltonian Monte Carlo. g is a normal density with a full covariance, fitted to those of one
    half of the chains, and cut off at the ellipsoid where the squared distance from its mean, in standard deviations,
    is d; the mean is over the draws of the other half.

    Its weakness is its variance: without the cut it is infinite wherever g has heavier tails than the posterior, and
    with it, it is large where the posterior is almost 0 somewhere in the ellipsoid. Where all chains have missed a
    mode, or hardly enter the neck of a funnel (a scale that depends on another latent variable), nothing shows it, the
    error least of all. It bounds nothing, and grows unreliable with every dimension. Prefer annealed importance
    sampling; this is here because the founding paper compares with it.

    Args:
        p: the model, with continuous latent variables of 4 dimensions at most.
        given: the observed values by name, each with the batch first.
        chains: how many for each datapoint, an even number of 4 or more.
        steps: leapfrog steps of a transition.
        burn_in: transitions before the first draw, in which step sizes are adapted.
        draws: of each chain.
        q: where the chains start instead of the prior.

    Raises:
        AncestralError: the latent space has more than 4 dimensions or a latent variable is discrete, a number is out of
            range, the draws of a datapoint lie in a plane, or those of the two halves lie apart.

    Source: Kingma and Welling (2014), appendix D; Gelfand and Dey (1994), eq. 5; Robert and Wraith (2009), the cut.
    """
    check_counts(chains=chains, steps=steps, draws=draws)
    joint = LogJoint(p, given, q)
    if joint.dimensions > MOST_DIMENSIONS:
        raise AncestralError(
            f"the latent space has {joint.dimensions} dimensions, but the density that hmc fits is to be trusted in "
            f"{MOST_DIMENSIONS} at most. Use ais."
        )
    if chains < 4 or chains % 2:
        raise AncestralError(f"chains is {chains}, but half fit the density and half are weighed: give 4, 6, 8, ….")
    if chains // 2 * draws <= joint.dimensions:
        raise AncestralError(f"{chains // 2 * draws} draws fit no density in {joint.dimensions} dimensions: draw more.")
    start = joint.draw(chains)
    size = at_once(chains, bytes_made(lambda: state_at(joint, start[:1])), start.device)
    parts = [hmc(joint, start[i : i + size], draws, burn_in, steps) for i in range(0, chains, size)]
    positions = torch.cat([part.positions for part in parts], 1)  # [draws, chains, batch, d]
    acceptance = sum(part.acceptance.double() * part.positions.shape[1] for part in parts) / chains
    first, second = positions.double().chunk(2, 1)
    fitted = first.flatten(0, 1)  # [draws, batch, d]
    mean = fitted.mean(0)
    centered = fitted - mean
    covariance = torch.einsum("nbi,nbj->bij", centered, centered) / (len(fitted) - 1)
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if bool(failed.any()):
        raise AncestralError(
            f"the draws of {int((failed > 0).sum())} datapoints lie in a plane, to which no density can be fitted: the "
            "chains did not move. Give more leapfrog steps or chains, or use ais."
        )
    whitened = torch.linalg.solve_triangular(factor, (second - mean)[..., None], upper=False)[..., 0]
    normalizer = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) + joint.dimensions / 2 * math.log(2 * math.pi)
    distance = whitened.square().sum(-1)
    half = torch.tensor(joint.dimensions / 2, dtype=torch.float64)
    normalizer = normalizer + torch.special.gammainc(half, half).log().to(normalizer)  # the mass within the ellipsoid
    log_density = (-distance / 2 - normalizer).masked_fill(distance > joint.dimensions, -math.inf)
    with torch.no_grad():
        log_joint = torch.stack([torch.cat([joint(part) for part in draw.split(size)]) for draw in positions])
    log_ratio = log_density - log_joint[:, chains // 2 :].double()
    each = torch.logsumexp(log_ratio, 0) - math.log(draws)  # of a chain, whose draws depend on one another
    lost = int(each.isneginf().all(0).sum())
    if lost:
        raise AncestralError(
            f"none of the draws of one half of the chains lies among those of the other at {lost} datapoints: they are "
            "in different modes, or too few. Give more chains, or use ais."
        )
    return HMCDensity(
        math.log(len(each)) - torch.logsumexp(each, 0), relative_variance(each), torch.as_tensor(acceptance)
    )

"""The primitive under every objective with a density: an expectation under q, and its gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ancestral.core import Estimators, Trace
from ancestral.errors import AncestralError, EstimatorError, ShapeError, nearest
from ancestral.estimators import Reparameterized

Reduction = Literal["mean", "log-mean-exp"]


def expectation(
    cost: Callable[[Trace], Tensor],
    q: Callable[[Trace], Any],
    given: Mapping[str, Tensor],
    particles: int = 1,
    estimators: Estimators | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""E_q[cost] for each datapoint, with the gradient of the chosen estimators.

    .. math:: E_{q(z | x)}[c(x, z)] ≈ \frac1K \sum_k c(x, z_k),  or  \log \frac1K \sum_k \exp c(x, z_k)

    Args:
        cost: from a trace of q to a tensor ``(*particles, batch)``; it may depend on parameters of its own.
        q: the model that is sampled.
        given: observed values by name, each with the batch as its first dimension.
        particles: how many draws per datapoint, K.
        estimators: one for all variables or one per name; ``Reparameterized()`` where none is named.
        reduction: ``"mean"`` or ``"log-mean-exp"`` over the particles.

    Returns:
        ``[batch]``: the Monte Carlo value (exact over enumerated variables), differentiable.

    Raises:
        EstimatorError: an estimator is not valid for its variable or for ``reduction``, or names no variable of q.
        ShapeError: the cost is not of shape ``(*particles, batch)``.
    """
    trace = Trace((particles_of(particles), batch_of(given)), given, estimators, default=Reparameterized())
    q(trace)
    if isinstance(estimators, Mapping):
        for name in estimators:
            if name not in trace.drawn:
                raise EstimatorError(
                    f"an estimator is given for {name!r}, which q does not draw. " + nearest(name, trace.drawn)
                )
    if trace.enumerated and reduction != "mean":
        raise EstimatorError(
            f"{', '.join(repr(name) for name, _ in trace.enumerated)}: enumerating under {reduction} is "
            "another objective, not the importance-weighted bound. Draw the variable, or use elbo."
        )
    costs = cost(trace)
    if costs.shape != trace.shape:
        try:
            costs = costs.expand(trace.shape)
        except RuntimeError:
            raise ShapeError(
                f"the cost has shape {tuple(costs.shape)}, but must have (*particles, batch) = "
                f"{trace.shape}: sum over the feature dimensions, never over the batch."
            ) from None
    value = average(costs, trace, reduction)
    for site in trace.sites.values():
        if site.estimator is not None:
            term = site.estimator.term(site, costs, reduction)
            value = value if term is None else value + term
    return value


def average(costs: Tensor, trace: Trace, reduction: Reduction = "mean") -> Tensor:
    """``(*enumerated, particles, batch)`` -> ``[batch]``: sums weighted by q, then over the particles."""
    for name, _ in reversed(trace.enumerated):
        costs = (trace.sites[name].log_prob.exp() * costs).sum(0)
    if reduction == "mean":
        return costs.mean(0)
    return torch.logsumexp(costs, 0) - math.log(costs.shape[0])


def particles_of(particles: int) -> int:
    """The number of particles, checked."""
    if not isinstance(particles, int) or isinstance(particles, bool) or particles < 1:
        raise AncestralError(f"particles is {particles!r}, but it counts draws per datapoint: give 1 or more.")
    return particles


def batch_of(given: Mapping[str, Tensor]) -> int:
    """The number of datapoints, on which all given values must agree."""
    sizes = {}
    for name, value in given.items():
        if not isinstance(value, Tensor):
            raise AncestralError(
                f"the given value of {name!r} is a {type(value).__name__}: give a torch.Tensor with the "
                "batch as its first dimension."
            )
        if value.dim() == 0:
            raise ShapeError(f"the given value of {name!r} is a scalar: its first dimension must be the batch.")
        sizes[name] = value.shape[0]
    if not sizes:
        raise AncestralError('nothing is given: pass the observed variables, for example {"x": x}.')
    if len(set(sizes.values())) > 1:
        raise ShapeError(f"the given values disagree on the batch size: {sizes}.")
    return next(iter(sizes.values()))

"""Supports: every value of a discrete variable, and whether data lie where a likelihood can see them."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, OneHotCategorical
from torch.distributions.constraints import Constraint

from ancestral.errors import AncestralError, EstimatorError

MAXIMAL_SUPPORT = 65_536
Kind = Literal["binary", "one-hot", "index", "finite", "reparameterizable", "other"]
"""Of a variable, as far as gradients are concerned: Bernoulli, one-hot vectors, class indices, what else has finitely
many values (binomial counts), differentiable functions of noise, and what is none of these (other counts, for
example)."""


def base_of(distribution: Distribution) -> tuple[Distribution, int]:
    """The distribution without its ``Independent`` wrappers, and how many dimensions they wrapped."""
    dimensions = 0
    while isinstance(distribution, Independent):
        dimensions += distribution.reinterpreted_batch_ndims
        distribution = distribution.base_dist
    return distribution, dimensions


def kind_of(distribution: Distribution) -> Kind:
    """The kind of a variable, by its distribution."""
    base, _ = base_of(distribution)
    if isinstance(base, Bernoulli):
        return "binary"
    if isinstance(base, OneHotCategorical):
        return "one-hot"
    if isinstance(base, Categorical):
        return "index"
    if distribution.has_rsample:
        return "reparameterizable"
    return "finite" if base.has_enumerate_support else "other"


def enumerate_support(distribution: Distribution, maximum: int = MAXIMAL_SUPPORT) -> Tensor:
    """Every value a discrete variable can take, ``[values, *event]``.

    A vector of n independent variables with K values each has K^n joint values.

    Raises:
        EstimatorError: the variable is not discrete, has more than ``maximum`` values, or not as many in every row.
    """
    base, dimensions = base_of(distribution)
    if isinstance(base, Bernoulli):
        single = torch.tensor([0.0, 1.0], dtype=base.logits.dtype, device=base.logits.device)
    elif isinstance(base, OneHotCategorical):
        size = base.event_shape[0]
        single = torch.eye(size, dtype=base.logits.dtype, device=base.logits.device)
    elif isinstance(base, Categorical):
        single = torch.arange(base.logits.shape[-1], device=base.logits.device)
    elif base.has_enumerate_support:
        try:
            values: Tensor = base.enumerate_support(expand=False)
        except NotImplementedError as error:
            raise EstimatorError(
                f"the values of this {type(base).__name__} are not as many in every row: make them so, or use "
                "LikelihoodRatio()."
            ) from error
        single = values.reshape(values.shape[0], *base.event_shape)
    else:
        raise EstimatorError(
            f"the values of a {type(base).__name__} can't be enumerated: it is not a discrete variable with "
            "finitely many values. Use Reparameterized() for a continuous one, LikelihoodRatio() for counts."
        )
    event = tuple(distribution.event_shape)
    replicated = event[:dimensions]  # the dimensions that hold independent copies of `single`
    copies = math.prod(replicated)
    count = single.shape[0] ** copies
    if count > maximum:
        raise EstimatorError(
            f"enumerating this {type(base).__name__} takes {single.shape[0]}^{copies} values, more than "
            f"{maximum}. Use fewer variables, or an estimator that draws instead."
        )
    if count > 1 and copies == 1:
        return single.reshape(single.shape[0], *event)
    choices = torch.tensor(list(itertools.product(range(single.shape[0]), repeat=copies)), device=single.device)
    return single[choices].reshape(count, *event)


def mean_of(distribution: Distribution) -> Tensor | None:
    """The mean, or None where it is not known in closed form or there is none."""
    kind = kind_of(distribution)
    if kind == "index":  # torch says nan
        return None
    try:
        mean = distribution.mean
    except NotImplementedError:
        return None
    # a Cauchy variable has none, torch says nan or inf; a parameter that is not finite has draws that are not either
    if kind == "reparameterizable" and not mean.isfinite().all() and distribution.sample().isfinite().all():
        return None
    return mean


def support_of(distribution: Distribution) -> Constraint | None:
    """The support, or None where the distribution does not know it (as normalizing flows)."""
    try:
        return distribution.support
    except NotImplementedError:
        return None


def is_density(distribution: Distribution) -> bool:
    """Whether its log_prob is a log-density over real values, and no log-mass."""
    support = support_of(distribution)
    return distribution.has_rsample if support is None else not support.is_discrete


def in_support(distribution: Distribution, value: Tensor) -> Tensor:
    """Whether every value lies in the support of its likelihood, as a tensor."""
    support = support_of(distribution)
    inside = torch.ones((), dtype=torch.bool, device=value.device)
    return inside if support is None else support.check(value).all()  # type: ignore[no-untyped-call]


def check_support(name: str, distribution: Distribution, value: Tensor) -> None:
    """Raise unless every value lies in the support of its likelihood: outside, a log-density means nothing.

    Raises:
        AncestralError: it names the variable, the likelihood, the range seen and the cure.
    """
    if in_support(distribution, value):
        return
    base, _ = base_of(distribution)
    cure = {
        "Bernoulli": "Binarize the data (threshold, static or dynamic), or choose a normal or "
        "discretized-logistic likelihood.",
        "ContinuousBernoulli": "Scale the data into [0, 1].",
    }.get(type(base).__name__, "Choose a likelihood whose support holds the data.")
    raise AncestralError(
        f"{name!r} takes values outside the support of its {type(base).__name__} likelihood: seen "
        f"{value.min().item():g} to {value.max().item():g}. {cure}"
    )

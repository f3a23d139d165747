"""Exact summation over the values of a discrete variable."""

from __future__ import annotations

import math

from torch import Tensor
from torch.distributions import Distribution

from ancestral.core import Cost, Reduction, Site, Trace
from ancestral.distributions.support import MAXIMAL_SUPPORT, Kind, enumerate_support
from ancestral.errors import EstimatorError
from ancestral.estimators.checks import require_finite_logits


class Enumerate:
    """Sum over every value of a discrete variable, weighted by q. Exact: no variance, no bias.

    .. math:: E_q[f(z)] = Σ_z q(z) f(z)

    The values form a leading dimension of the trace, so several enumerated variables multiply.

    Args:
        maximum: the largest number of values of one variable, and of all enumerated variables together.

    Raises:
        EstimatorError: the variable is not discrete or has an infinite Bernoulli logit, it or all enumerated variables
            together have more than ``maximum`` values, or the objective is no plain expectation (the
            importance-weighted bound is a different objective when its draws are enumerated).
    """

    kinds: tuple[Kind, ...] = ("binary", "one-hot", "index", "finite")
    reductions: tuple[Reduction, ...] = ("mean",)
    unbiased = True

    def __init__(self, maximum: int = MAXIMAL_SUPPORT) -> None:
        if not isinstance(maximum, int) or isinstance(maximum, bool) or maximum < 1:
            raise EstimatorError(f"the maximum is {maximum!r}, but it counts values: give 1 or more.")
        self.maximum = maximum

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        try:
            values = enumerate_support(distribution, self.maximum)
        except EstimatorError as error:
            raise EstimatorError(f"{name!r}: {error}") from None
        require_finite_logits(name, distribution)
        count, event = values.shape[0], values.shape[1:]
        shape = trace.shape
        together = math.prod([count, *(earlier for _, earlier in trace.enumerated)])
        if together > self.maximum:
            others = ", ".join(f"{earlier!r} has {values:,}" for earlier, values in trace.enumerated)
            raise EstimatorError(
                f"{name!r} has {count:,} values, and {others}: together {together:,} are enumerated, more than "
                f"{self.maximum:,}. Enumerate fewer variables, and draw the others: "
                f'estimators={{"{name}": LikelihoodRatio(), ...}}.'
            )
        trace.enumerate(name, count)
        return values.reshape(count, *[1] * len(shape), *event).expand(count, *shape, *event)

    def term(self, site: Site, cost: Cost) -> Tensor | None:
        return None

"""Straight-through: a draw whose gradient is that of its mean."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from ancestral.core import Cost, Site, Trace
from ancestral.distributions.support import Kind
from ancestral.estimators.checks import REDUCTIONS, require_kind
from ancestral.estimators.relaxation import means
from ancestral.estimators.schedules import Schedule, at_epoch, checked


class StraightThrough:
    r"""The value is a draw; its gradient is that of the mean, as if drawing were the identity. Biased.

    .. math:: z ∼ q,  ∂z/∂l := ∂μ(s l)/∂l,  μ = σ or softmax

    Unbiased where the cost is linear in z, because then E[f(z)] = f(μ) (for slope 1). Where it has no slope in z
    (behind an ``argmax``), nothing is learned from it.

    Args:
        slope: s, 1 in the plain estimator. A function of the epoch is slope annealing: the steeper, the nearer the
            gradient is to that of the step function.

    Raises:
        EstimatorError: the variable is neither Bernoulli nor one-hot; the slope is not positive.

    Source: Bengio, Léonard and Courville (2013), section 4; Chung, Ahn and Bengio (2017), section 2.3, the slope.
    """

    kinds: tuple[Kind, ...] = ("binary", "one-hot")
    reductions = REDUCTIONS
    unbiased = False

    def __init__(self, slope: Schedule = 1.0) -> None:
        self.slope = checked("slope", slope)

    def at(self, epoch: float) -> StraightThrough:
        """The estimator after so many epochs."""
        return at_epoch(self, "slope", epoch)

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        require_kind(self, name, distribution)
        shape = torch.Size(trace.missing_shape(distribution))
        with torch.no_grad():
            value = distribution.sample(shape)
        slope = self.slope if not callable(self.slope) else self.slope(0.0)
        mean = means(distribution, slope)
        return value + (mean - mean.detach())

    def term(self, site: Site, cost: Cost) -> Tensor | None:
        return None

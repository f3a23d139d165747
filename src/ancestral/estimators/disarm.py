"""DisARM: the cost at two antithetic draws of Bernoulli variables."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from ancestral.core import AncestralSampling, Cost, Reduction, Site, Trace
from ancestral.distributions.support import Kind
from ancestral.estimators.checks import require_kind
from ancestral.estimators.relaxation import discrete_logits


class DisARM:
    r"""Two draws from one vector of uniform numbers: the difference in cost goes to the units that differ. Unbiased.

    .. math::
        ∂_{l_i} E[f(b)] = E[\tfrac12 (f(b) - f(\tilde b)) (-1)^{\tilde b_i} 1_{b_i ≠ \tilde b_i} σ(|l_i|)],
        b = 1_{u > σ(-l)},  \tilde b = 1_{1 - u > σ(-l)}

    Its variance is below that of ARM, of which it is the mean given both draws. The cost is computed twice, the
    second time without gradient.

    Raises:
        EstimatorError: the variable is not Bernoulli, or the objective is the importance-weighted bound.

    Source: Dong, Mnih and Tucker (2020), eq. 9; Yin and Zhou (2019), ARM.
    """

    kinds: tuple[Kind, ...] = ("binary",)
    reductions: tuple[Reduction, ...] = ("mean",)
    unbiased = True

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        require_kind(self, name, distribution)
        with torch.no_grad():
            return distribution.sample(torch.Size(trace.missing_shape(distribution)))

    def term(self, site: Site, cost: Cost) -> Tensor | None:
        logits = discrete_logits(site.distribution)
        with torch.no_grad():
            probability, value = torch.sigmoid(logits), site.value
            v = torch.rand_like(value)
            u = torch.where(value > 0, 1 - probability + v * probability, v * (1 - probability))  # given the draw
            other = (1 - u > 1 - probability).to(value.dtype)
            difference = cost.particles - cost.at(other, AncestralSampling())
            event = len(site.distribution.event_shape)
            share = (1 - 2 * other) * (value != other) * torch.sigmoid(logits.abs())
            gradient = 0.5 * difference.reshape(*difference.shape, *[1] * event) * share
        return (gradient * logits).sum(tuple(range(-event, 0))) if event else gradient * logits

"""Values that are set rather than drawn: how an estimator asks for the cost elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from ancestral.core import Cost, Site, Trace
from ancestral.distributions.support import mean_of


class Fixed:
    """Takes a value of shape ``(*particles, batch, *event)`` for the draw."""

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        return self.value

    def term(self, site: Site, cost: Cost) -> Tensor | None:
        return None


class MeanField:
    """Takes the mean of the distribution for its value, differentiable, or a draw where it is not known or is none."""

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        shape = torch.Size(trace.missing_shape(distribution))
        mean = mean_of(distribution)
        if mean is None:
            with torch.no_grad():
                return distribution.sample(shape)
        mean = mean.expand(*shape, *mean.shape)
        return mean if mean.requires_grad else mean.detach().requires_grad_()

    def term(self, site: Site, cost: Cost) -> Tensor | None:
        return None

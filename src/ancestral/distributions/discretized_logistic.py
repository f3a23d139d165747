"""The discretized logistic distribution: a proper mass function over evenly spaced grey levels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints


class _Grid(constraints.Constraint):
    """k / (levels - 1) for k = 0 … levels - 1."""

    is_discrete = True

    def __init__(self, levels: int) -> None:
        self.levels = levels
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        k = value * (self.levels - 1)
        inside = (k > -0.5) & (k < self.levels - 0.5)
        return inside & ((k - k.round()).abs() < 1e-2)


class DiscretizedLogistic(Distribution):
    r"""A logistic density integrated over a bin around each grey level; the outer bins take the tails.

    .. math:: P(x = k/(L-1)) = σ((x + \tfrac{h}{2} - μ)/s) - σ((x - \tfrac{h}{2} - μ)/s),  h = 1/(L-1)

    with the first term 1 at k = L-1 and the second 0 at k = 0, so the masses of the L levels sum to one.

    Args:
        loc: the mean μ of the logistic before it is discretized, on the scale of [0, 1].
        log_scale: log s.
        levels: L, the number of grey levels.

    Source: Salimans, Karpathy, Chen and Kingma (2017), eq. 2; Kingma et al. (2016), appendix.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (the base class declares it so)
    has_rsample = False

    def __init__(self, loc: Tensor, log_scale: Tensor, levels: int = 256) -> None:
        loc, log_scale = torch.broadcast_tensors(loc, log_scale)  # type: ignore[no-untyped-call]
        self.loc: Tensor = loc
        self.log_scale: Tensor = log_scale
        self.levels = levels
        super().__init__(self.loc.shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return _Grid(self.levels)

    @property
    def mean(self) -> Tensor:
        """E[x] = 1/(L-1) Σ_{k<L-1} P(x > k/(L-1)), in [0, 1]. One level at a time: memory does not grow with L."""
        inverse_scale = torch.exp(-self.log_scale)
        total = torch.zeros_like(self.loc)
        for k in range(self.levels - 1):
            total = total + torch.sigmoid((self.loc - (k + 0.5) / (self.levels - 1)) * inverse_scale)
        return (total / (self.levels - 1)).clamp(0.0, 1.0)

    def expand(self, batch_shape: Any, _instance: Any = None) -> DiscretizedLogistic:
        loc, log_scale = self.loc.expand(batch_shape), self.log_scale.expand(batch_shape)
        return DiscretizedLogistic(loc, log_scale, self.levels)

    def log_prob(self, value: Tensor) -> Tensor:
        half = 0.5 / (self.levels - 1)
        inverse_scale = torch.exp(-self.log_scale)
        centered = value - self.loc
        upper = (centered + half) * inverse_scale
        lower = (centered - half) * inverse_scale
        # σ(a) - σ(b) = σ(a) σ(-b) (1 - exp(b - a)): every factor is safe in logs, however far the mean is
        width = 2 * half * inverse_scale
        at_top, at_bottom = value > 1 - half, value < half
        below = F.softplus(-upper).masked_fill(at_top, 0.0)
        above = F.softplus(lower).masked_fill(at_bottom, 0.0)
        return -below - above + torch.log(-torch.expm1(-width)).masked_fill(at_top | at_bottom, 0.0)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            u = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device).clamp(1e-7, 1 - 1e-7)
            x = self.loc + torch.exp(self.log_scale) * (torch.log(u) - torch.log1p(-u))
            return torch.round(x.clamp(0.0, 1.0) * (self.levels - 1)) / (self.levels - 1)

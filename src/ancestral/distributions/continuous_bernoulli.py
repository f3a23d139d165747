"""The continuous Bernoulli distribution, exact at any logit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

SERIES = 1e-2
"""Below this magnitude of the logit, closed forms divide zero by zero; their series is right to 1e-12 there."""


class ContinuousBernoulli(Distribution):
    r"""A density on [0, 1] that is exponential in x.

    .. math:: p(x) = \frac{l \, e^{l x}}{e^l - 1},  l = \log \frac{λ}{1 - λ}

    which is C(λ) λ^x (1 - λ)^{1 - x} written in the logit l, so that nothing overflows: torch's own, in λ, stops
    being a density where λ rounds to 0 or 1.

    Args:
        logits: l.

    Source: Loaiza-Ganem and Cunningham (2019), eq. 4 and 8.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (the base class declares it so)
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ContinuousBernoulli:
        return ContinuousBernoulli(self.logits.expand(batch_shape))

    def _away_from_zero(self) -> tuple[Tensor, Tensor]:
        """Whether the logit is near 0, and the logit with those replaced by 1, for a formula that divides by it."""
        near = self.logits.abs() < SERIES
        return near, torch.where(near, torch.ones_like(self.logits), self.logits)

    @property
    def log_normalizer(self) -> Tensor:
        """log ∫ e^{l x} dx = log((e^l - 1) / l)."""
        near, safe = self._away_from_zero()
        size = safe.abs()
        closed = torch.relu(safe) + torch.log(-torch.expm1(-size)) - torch.log(size)
        return torch.where(near, self.logits / 2 + self.logits**2 / 24 - self.logits**4 / 2880, closed)

    @property
    def mean(self) -> Tensor:
        """1 / (1 - e^{-l}) - 1 / l."""
        near, safe = self._away_from_zero()
        size = safe.abs()
        above = -1 / torch.expm1(-size) - 1 / size  # at |l|; the density at -l is the mirror image
        return torch.where(near, 0.5 + self.logits / 12 - self.logits**3 / 720, torch.where(safe > 0, above, 1 - above))

    def log_prob(self, value: Tensor) -> Tensor:
        return self.logits * value - self.log_normalizer

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """The inverse of the cumulative distribution at a uniform number."""
        shape = self._extended_shape(torch.Size(sample_shape))
        u = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device).clamp_min(1e-7)
        near, safe = self._away_from_zero()
        size = safe.abs()
        above = (1 + torch.log(u + (1 - u) * torch.exp(-size)) / size).clamp(0, 1)
        return torch.where(near, u + self.logits * u * (1 - u) / 2, torch.where(safe > 0, above, 1 - above))

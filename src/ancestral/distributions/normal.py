"""Independent normal variables as one event: the latent variables of most models.

torch's ``Independent(Normal)`` computes the same. Here the scale is given by its logarithm, as the heads have it, so
that no logarithm is taken of what was an exponential, and the divergences are of few operations: at the sizes of a
latent variable each operation costs its call.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, register_kl

from ancestral.errors import ShapeError


class IndependentNormal(Independent):  # type: ignore[type-arg]
    r"""p(z) = ∏ N(z_i; μ_i, σ_i²) over the last ``event_dims`` dimensions of μ and log σ, which are of one shape.

    Raises:
        ShapeError: the shapes differ, or ``event_dims`` is below 1.

    .. math:: \log p(z) = -\sum_i \frac{(z_i - μ_i)^2}{2 σ_i^2} + \log σ_i + \frac12 \log 2π
    """

    has_rsample = True

    def __init__(self, loc: Tensor, log_scale: Tensor, event_dims: int) -> None:
        if event_dims < 1 or loc.shape != log_scale.shape:
            raise ShapeError(
                f"the means have shape {tuple(loc.shape)}, the log-scales {tuple(log_scale.shape)}, and event_dims is "
                f"{event_dims}: give both one shape, and event_dims of 1 or more."
            )
        self.loc, self.log_scale = loc, log_scale
        self._scale: Tensor | None = None
        self.reinterpreted_batch_ndims = event_dims
        self._summed = tuple(range(-event_dims, 0))
        rows = loc.dim() - event_dims
        Distribution.__init__(self, loc.shape[:rows], loc.shape[rows:], validate_args=False)

    @property
    def scale(self) -> Tensor:
        """The standard deviations, computed when first asked for."""
        if self._scale is None:
            with torch.enable_grad():  # a draw without gradient may be the first to ask
                self._scale = self.log_scale.exp()
        return self._scale

    @property
    def base_dist(self) -> Normal:
        """The same variables as so many events, made when it is asked for."""
        return Normal(self.loc, self.scale, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> IndependentNormal:
        shape = (*batch_shape, *self.event_shape)
        return type(self)(self.loc.expand(shape), self.log_scale.expand(shape), self.reinterpreted_batch_ndims)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = (*sample_shape, *self.loc.shape)
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        if math.prod(sample_shape) == 1:  # one draw is as large as the mean: no gradient has to be summed over draws
            return torch.addcmul(self.loc, noise.view_as(self.loc), self.scale).view(shape)
        return torch.addcmul(self.loc, noise, self.scale)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) in nats, of the batch shape (broadcast with that of the value)."""
        squares = ((value - self.loc) / self.scale).square().sum(self._summed)
        # what does not depend on the value is summed apart: there may be many particles of one mean and scale
        return -(squares / 2 + (self.log_scale + math.log(2 * math.pi) / 2).sum(self._summed))


class StandardNormal(IndependentNormal):
    """N(0, I): the means and log-scales are all zeros."""


def _same_event(q: IndependentNormal, p: IndependentNormal) -> None:
    if q.event_shape != p.event_shape:
        raise NotImplementedError(f"events of shapes {tuple(q.event_shape)} and {tuple(p.event_shape)} differ")


@register_kl(IndependentNormal, IndependentNormal)  # type: ignore[no-untyped-call,untyped-decorator]
def _divergence(q: IndependentNormal, p: IndependentNormal) -> Tensor:
    r"""KL(q || p) = ∑ (σ²/τ² + (μ - ν)²/τ² - 1)/2 - log(σ/τ), for p of means ν and scales τ."""
    _same_event(q, p)
    log_ratio = q.log_scale - p.log_scale
    shift = (q.loc - p.loc) / p.scale
    units = (log_ratio.mul(2).exp() + shift.square() - 1) / 2 - log_ratio
    return units.sum(q._summed)


@register_kl(IndependentNormal, StandardNormal)  # type: ignore[no-untyped-call,untyped-decorator]
def _divergence_from_standard(q: IndependentNormal, p: StandardNormal) -> Tensor:
    r"""KL(q || N(0, I)) = ∑ (σ² + μ² - 1)/2 - log σ. Source: Kingma and Welling (2014), appendix B."""
    _same_event(q, p)
    squares = torch.addcmul(q.loc.square(), q.scale, q.scale)
    return torch.sub(squares, q.log_scale, alpha=2).sub(1).sum(q._summed) / 2

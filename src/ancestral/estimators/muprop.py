"""MuProp: a first-order Taylor expansion of the cost, at the mean-field values, as control variate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ancestral.core import Cost, Reduction, Site, Trace
from ancestral.distributions.support import Kind, base_of, mean_of
from ancestral.errors import EstimatorError
from ancestral.estimators.baselines import Baseline, Baselines
from ancestral.estimators.checks import require_fixed_support, require_kind
from ancestral.estimators.own_parameters import minimized


class MuProp(nn.Module):
    r"""The likelihood ratio of what a linear approximation leaves, plus that approximation's own gradient. Unbiased.

    .. math::
        ∇_φ E_q[f(z)] = E_q[(f(z) - f(\bar z) - f'(\bar z)^T (z - \bar z) - b) ∇_φ \log q(z)]
                        + E[f'(\bar z)^T ∇_φ μ_φ]

    The mean-field values :math:`\bar z` are those of one deterministic run, in which every variable has the mean that
    the means of its parents give it; μ is the variable's mean given the parents that were drawn. For variables whose
    mean is known: Bernoulli, one-hot, normal.

    Args:
        baseline: what is subtracted besides: one, several, a number, or None. ``MovingAverage()`` is the paper's
            MuProp-C; with :class:`~ancestral.estimators.InputDependent` it is MuProp-C-IDB.
        normalize: divide the signal of the likelihood ratio by its running standard deviation where that is above 1: a
            shorter gradient of the first kind, so the sum is biased (the paper's MuProp-C-VN).

    Raises:
        EstimatorError: the variable has no mean, or none that is known, or the objective is the importance-weighted
            bound.

    Source: Gu, Levine, Sutskever and Mnih (2016), eq. 9 and section 3.2.
    """

    kinds: tuple[Kind, ...] = ("binary", "one-hot", "reparameterizable")
    reductions: tuple[Reduction, ...] = ("mean",)

    def __init__(
        self, baseline: Baseline | Sequence[Baseline | float] | float | None = None, *, normalize: bool = False
    ) -> None:
        super().__init__()
        self.baselines = Baselines(baseline, normalize)
        self.normalize = self.baselines.normalize
        self.unbiased = not normalize

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        require_kind(self, name, distribution)
        require_fixed_support(self, name, distribution)
        self.baselines.advance()
        if mean_of(distribution) is None:
            kind = type(base_of(distribution)[0]).__name__
            raise EstimatorError(
                f"{name!r} is a {kind}, which has no mean, or none that is known in closed form, but MuProp expands "
                f'the cost there. Choose another estimator: estimators={{"{name}": Reparameterized()}}.'
            )
        with torch.no_grad():
            return distribution.sample(torch.Size(trace.missing_shape(distribution)))

    def term(self, site: Site, cost: Cost) -> Tensor | None:
        at_mean, mean_field, slope = cost.mean_field()
        event = tuple(range(-len(site.distribution.event_shape), 0))
        linear = _dot(slope, site.value - mean_field, event)
        rest = cost.value - at_mean - linear
        signal, baseline = self.baselines(rest, rest, cost)
        mean = mean_of(site.distribution)
        assert mean is not None  # draw has seen to it
        term: Tensor = signal * site.log_prob + minimized(-signal * baseline) + _dot(slope, mean, event)
        return term


def _dot(a: Tensor, b: Tensor, event: tuple[int, ...]) -> Tensor:
    product = a * b
    return product.sum(event) if event else product

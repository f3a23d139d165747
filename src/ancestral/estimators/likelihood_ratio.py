"""The likelihood-ratio estimator, also called REINFORCE or the score function, with its baselines."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ancestral.core import Cost, Reduction, Site, Trace
from ancestral.estimators.baselines import Baseline, Baselines, InputDependent, LeaveOneOut, MovingAverage
from ancestral.estimators.checks import KINDS, REDUCTIONS, require_fixed_support, require_kind
from ancestral.estimators.own_parameters import minimized

_LEAVE_ONE_OUT = LeaveOneOut()  # has no state


class LikelihoodRatio(nn.Module):
    r"""∇ E_q[f(z)] from the cost of what was drawn, for any variable with a log-density and a fixed support. Unbiased.

    .. math:: ∇_φ E_q[f(z)] = E_q[(f(z) - b) ∇_φ \log q(z)]

    The cost f is what lies downstream of the variable. ``LikelihoodRatio()`` compares the particles with each other
    (RLOO; under the importance-weighted bound this is VIMCO), ``LikelihoodRatio(baseline=None)`` subtracts nothing.

    Args:
        baseline: one, several, a number, or None. See :mod:`ancestral.estimators.baselines`.
        normalize: divide the signal by its running standard deviation where that is above 1: another length of the
            gradient, in the right direction on average where q learns from the signal alone. What does not pass the
            signal would outweigh it: a divergence in closed form is refused, and so is the importance-weighted bound.

    Raises:
        EstimatorError: the baseline compares particles and there is only one; a Bernoulli logit is infinite; the
            support has a limit that is learned; the signal is normalized and the bound the importance-weighted one.

    Source: Williams (1992); Mnih and Gregor (2014), NVIL; Mnih and Rezende (2016), VIMCO; Kool et al. (2019), RLOO.
    """

    kinds = KINDS

    def __init__(
        self,
        baseline: Baseline | Sequence[Baseline | float] | float | None = _LEAVE_ONE_OUT,
        *,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        self.baselines = Baselines(baseline, normalize)
        self.normalize = self.baselines.normalize
        self.unbiased = not normalize
        # under the importance-weighted bound q learns from the weights too, whose gradient passes no signal
        self.reductions: tuple[Reduction, ...] = ("mean",) if normalize else REDUCTIONS

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        require_kind(self, name, distribution)
        require_fixed_support(self, name, distribution)
        self.baselines.advance()
        with torch.no_grad():
            return distribution.sample(torch.Size(trace.missing_shape(distribution)))

    def term(self, site: Site, cost: Cost) -> Tensor | None:
        signal, baseline = self.baselines(cost.value, cost.particles, cost)
        term: Tensor = signal * site.log_prob + minimized(-signal * baseline)
        return term


def nvil(network: nn.Module, decay: float = 0.9) -> LikelihoodRatio:
    """The estimator of neural variational inference and learning.

    A moving average, an input-dependent baseline, and variance normalization.

    Args:
        network: from the variable's parents to ``[…, 1]``; each variable needs one of its own.
        decay: of the moving average.

    Source: Mnih and Gregor (2014), algorithm 1.
    """
    return LikelihoodRatio([MovingAverage(decay), InputDependent(network)], normalize=True)

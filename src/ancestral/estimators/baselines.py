"""Baselines of the likelihood ratio: what is subtracted from the cost, and changes the variance but not the mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ancestral.core import Cost, Reduction
from ancestral.errors import EstimatorError
from ancestral.estimators.checks import flag, module, number


@runtime_checkable
class Baseline(Protocol):
    """``baseline(particles, cost)``: of a shape that broadcasts to ``(*particles, batch)``.

    ``particles`` is the cost of each particle, with what a control variate has left of it.
    """

    def __call__(self, particles: Tensor, cost: Cost) -> Tensor: ...


class LeaveOneOut(nn.Module):
    r"""The cost without this particle's own: R(c with c_k replaced by the mean of the others).

    .. math:: b_k = \frac1{K - 1} \sum_{j ≠ k} c_j,  or  \log \frac1K \Big(\sum_{j ≠ k} e^{c_j} + e^{b_k}\Big)

    The second is that of the importance-weighted bound.

    Raises:
        EstimatorError: there is only one particle.

    Source: Kool, van Hoof and Welling (2019), RLOO; Mnih and Rezende (2016), eq. 10, VIMCO.
    """

    def forward(self, particles: Tensor, cost: Cost) -> Tensor:
        return leave_one_out(particles, cost.reduction)


def leave_one_out(costs: Tensor, reduction: Reduction) -> Tensor:
    """``(*enumerated, particles, batch)`` -> the same shape: see :class:`LeaveOneOut`."""
    count = costs.shape[-2]
    if count < 2:
        raise EstimatorError(
            "the leave-one-out baseline compares particles, but there is only one. Use particles=2 or more, or another "
            "baseline: LikelihoodRatio(baseline=MovingAverage()), or baseline=None."
        )
    others = (costs.sum(-2, keepdim=True) - costs) / (count - 1)
    if reduction == "mean":
        return others
    # the sums before and after each particle, and the mean of the others in its place
    before = F.pad(costs.logcumsumexp(-2)[..., :-1, :], (0, 0, 1, 0), value=-math.inf)
    after = F.pad(costs.flip(-2).logcumsumexp(-2).flip(-2)[..., 1:, :], (0, 0, 0, 1), value=-math.inf)
    return torch.logaddexp(torch.logaddexp(before, after), others) - math.log(count)


class Constant(nn.Module):
    """The same number for all."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = number("the baseline", value)

    def forward(self, particles: Tensor, cost: Cost) -> Tensor:
        return particles.new_full((), self.value)

    def extra_repr(self) -> str:
        return f"{self.value:g}"


class MovingAverage(nn.Module):
    r"""The mean of earlier costs, exponentially weighted: used before it is updated, or it would hold the cost itself.

    .. math:: b_t = \frac{\sum_{s<t} d^{t-1-s} \bar c_s}{\sum_{s<t} d^{t-1-s}}

    It is 0 at the first use. Where several variables share it, the mean over them counts as one cost, from the next run
    on: the cost of one variable holds what was drawn for another.

    Source: Mnih and Gregor (2014), section 2.4, the centering constant c.
    """

    sum: Tensor
    weight: Tensor
    noted: Tensor
    notes: Tensor

    def __init__(self, decay: float = 0.9) -> None:
        super().__init__()
        self.decay = number("the decay of a moving average", decay)
        if not 0 <= decay < 1:
            raise EstimatorError(f"the decay of a moving average is {decay:g}, but it lies in [0, 1).")
        for name in ("sum", "weight", "noted", "notes"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    def forward(self, particles: Tensor, cost: Cost) -> Tensor:
        return self.average.to(particles.dtype)

    @property
    def average(self) -> Tensor:
        """The average of the runs before this one."""
        return self.sum / self.weight.clamp_min(1e-30)

    def note(self, value: Tensor) -> None:
        """Take note of costs, whose mean counts as one."""
        self.noted.add_(value.detach().double().mean())
        self.notes.add_(1)

    def advance(self) -> None:
        """A new run begins: what was noted in the one before now counts."""
        any_notes = self.notes.clamp_max(1)
        decay = self.decay**any_notes
        self.sum.mul_(decay).add_(self.noted / self.notes.clamp_min(1))
        self.weight.mul_(decay).add_(any_notes)
        self.noted.zero_()
        self.notes.zero_()

    def extra_repr(self) -> str:
        return f"decay={self.decay:g}"


class InputDependent(nn.Module):
    r"""A network that predicts the cost from what the variable was drawn from, fitted by least squares.

    .. math:: b_ψ(parents),  fitted to minimise  E[(c - b_ψ(parents))^2]

    Its parameters are the estimator's, and are learned together with the model's.

    Args:
        network: from the parents, in the order of q's conditional, to ``[…, 1]``.

    Source: Mnih and Gregor (2014), section 2.4.1.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = module("the network of an input-dependent baseline", network)

    def forward(self, particles: Tensor, cost: Cost) -> Tensor:
        with torch.enable_grad():
            output: Tensor = self.network(*[parent.detach() for parent in cost.parents])
        if output.shape[-1:] != (1,):
            raise EstimatorError(
                f"the network of an input-dependent baseline gives shape {tuple(output.shape)}, but it predicts one "
                "number for each datapoint: make its last dimension 1."
            )
        return output.squeeze(-1)


def _baseline(given: Baseline | float) -> Baseline:
    """A number is a constant; what is no baseline is an error."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        return Constant(given)
    if not callable(given) or isinstance(given, type):
        raise EstimatorError(
            f"the baseline is {given!r}: give LeaveOneOut(), MovingAverage(), InputDependent(network), a number, "
            "several of them, or None."
        )
    return given


class Baselines(nn.Module):
    r"""The sum of baselines, and the scale of what they leave: from a cost to the signal that multiplies the score.

    .. math:: s_k = (c_k - \sum_b b_k) / \max(1, \sqrt v)

    with v a moving average of the squared signal, used before it is updated; without ``normalize``, the divisor is 1.

    Args:
        baseline: one, several, a number, or None for none.
        normalize: divide by the standard deviation where that is above 1 (variance normalization). The gradient then
            has the right direction on average, at another length.

    Raises:
        EstimatorError: a baseline is none, or is combined with one that leaves it nothing to do.

    Source: Mnih and Gregor (2014), section 2.4; with a moving average, an input-dependent network and normalization it
    is NVIL.
    """

    variance: MovingAverage

    def __init__(
        self, baseline: Baseline | Sequence[Baseline | float] | float | None, normalize: bool, decay: float = 0.9
    ) -> None:
        super().__init__()
        if baseline is None:
            several: Sequence[Baseline | float] = []
        elif isinstance(baseline, Sequence) and not isinstance(baseline, str):
            several = baseline
        else:
            several = [baseline]
        chosen = [_baseline(one) for one in several]
        if len(chosen) > 1 and any(isinstance(one, LeaveOneOut) for one in chosen):
            raise EstimatorError(
                "LeaveOneOut() already subtracts the mean of the other particles: leave the other baselines out."
            )
        self.chosen = chosen
        self.parts = nn.ModuleList([one for one in chosen if isinstance(one, nn.Module)])
        self.normalize = flag("normalize", normalize)
        if normalize:
            self.variance = MovingAverage(decay)

    def forward(self, value: Tensor, particles: Tensor, cost: Cost) -> tuple[Tensor, Tensor]:
        """The signal, without gradient, and the sum of the baselines, with that of their parameters."""
        parts = [baseline(particles, cost) for baseline in self.chosen]
        total = sum(parts[1:], parts[0]) if parts else value.new_zeros(())
        centered = (value - total).detach()
        signal = centered
        if self.normalize:
            signal = centered / self.variance.average.sqrt().clamp_min(1).to(centered.dtype)
            self.variance.note(centered.square())
        for baseline, part in zip(self.chosen, parts, strict=True):
            if isinstance(baseline, MovingAverage):
                baseline.note(centered + part.detach())
        return signal, total

    def advance(self) -> None:
        """A new run begins, before which nothing that it draws may change a baseline."""
        for part in self.modules():
            if isinstance(part, MovingAverage):
                part.advance()

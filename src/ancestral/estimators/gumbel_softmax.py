"""The Gumbel-Softmax estimator, and the binary Concrete one."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ancestral.core import Cost, Site, Trace
from ancestral.distributions.support import Kind
from ancestral.errors import EstimatorError
from ancestral.estimators.checks import REDUCTIONS, flag, positive, require_kind
from ancestral.estimators.relaxation import discrete_logits, hard, perturbed, relaxed
from ancestral.estimators.schedules import Schedule, at_epoch, checked


class GumbelSoftmax(nn.Module):
    r"""The gradient passes a relaxed variable, a vector between the corners. Biased.

    .. math:: z = softmax((\log π + g) / τ),  g ∼ Gumbel(0, 1);  z = σ((l + g) / τ),  g ∼ Logistic(0, 1)

    The model stays discrete: the relaxation takes the variable's place only where a gradient is wanted, and the value
    of the objective is that of draws (a second run, without gradient). The bias vanishes as τ → 0, while the variance
    grows. Where the cost has no slope in z (behind an ``argmax``), nothing is learned from it.

    Args:
        temperature: τ: a number, a function of the epoch (:func:`~ancestral.estimators.exponential`), or ``"learned"``.
        hard: the value is the draw itself, its gradient that of the relaxed one (straight-through Gumbel-Softmax).
        start: where a learned temperature starts.

    Raises:
        EstimatorError: the variable is neither Bernoulli nor one-hot; a temperature is not positive; ``start`` is given
            but has no effect.

    Source: Jang, Gu and Poole (2017), eq. 2 and section 2.2; Maddison, Mnih and Teh (2017), the Concrete distribution.
    """

    kinds: tuple[Kind, ...] = ("binary", "one-hot")
    reductions = REDUCTIONS
    unbiased = False

    def __init__(
        self, temperature: Schedule | Literal["learned"] = 0.5, *, hard: bool = False, start: float = 1.0
    ) -> None:
        super().__init__()
        first = positive("the start of a learned temperature", start)
        self.temperature: Schedule | str = temperature
        if not isinstance(temperature, str):
            self.temperature = checked("temperature", temperature)
            if first != 1:
                raise EstimatorError(
                    f"start is {first:g}, but it is where a learned temperature starts: give temperature='learned', or "
                    "leave it out."
                )
        elif temperature == "learned":
            self.log_temperature = nn.Parameter(torch.tensor(math.log(first)))
        else:
            raise EstimatorError(
                f"the temperature is {temperature!r}: give a number, a function of the epoch, or 'learned'."
            )
        self.hard = flag("hard", hard)

    @property
    def relaxed(self) -> bool:
        """Whether a value that carries a gradient is no value that the variable can take."""
        return not self.hard

    def at(self, epoch: float) -> GumbelSoftmax:
        """The estimator after so many epochs."""
        return at_epoch(self, "temperature", epoch)

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        require_kind(self, name, distribution)
        logits = discrete_logits(distribution)
        noisy = perturbed(logits.expand(*trace.missing_shape(distribution), *logits.shape), distribution)
        if not torch.is_grad_enabled():
            return hard(noisy, distribution)
        soft = relaxed(noisy, distribution, self._temperature())
        if not self.hard:
            return soft
        return hard(noisy.detach(), distribution) + (soft - soft.detach())

    def _temperature(self) -> Tensor | float:
        if self.temperature == "learned":
            return self.log_temperature.exp()
        assert not isinstance(self.temperature, str)
        return self.temperature(0.0) if callable(self.temperature) else self.temperature

    def term(self, site: Site, cost: Cost) -> Tensor | None:
        return None

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, hard={self.hard}"

"""Gradient estimators by name: from the settings of a model to the estimator of one of its variables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ancestral.configs import EstimatorSettings
from ancestral.core import Estimator
from ancestral.errors import AncestralError, EstimatorError, nearest
from ancestral.estimators import (
    DARN,
    REBAR,
    RELAX,
    DisARM,
    Enumerate,
    GumbelSoftmax,
    Half,
    InputDependent,
    LikelihoodRatio,
    MovingAverage,
    MuProp,
    StraightThrough,
    exponential,
    nvil,
)
from ancestral.estimators.baselines import Baseline
from ancestral.estimators.schedules import Schedule
from ancestral.networks import mlp

Shape = tuple[int, ...]

BASELINE_UNITS = 100
"""Tanh units of an input-dependent baseline (Mnih and Gregor, 2014, section 5.1)."""
CONTROL_UNITS = (200, 200)
"""Rectified units of the network of RELAX (Grathwohl et al., 2018, appendix)."""


def make_estimator(settings: EstimatorSettings, parents: Sequence[Shape], event: Shape) -> Estimator:
    """The estimator that the settings name, for one discrete variable: what it learns belongs to that variable.

    ``reinforce`` is ``LikelihoodRatio`` with the baselines of ``settings.baseline``; ``rloo`` and ``vimco`` are
    ``LikelihoodRatio()``, leave-one-out over the particles; ``straight-through-gumbel-softmax`` is ``GumbelSoftmax``
    with hard values. The others are the class, or the function ``nvil``, of their name.

    Args:
        settings: of a model, which has checked them: :meth:`EstimatorSettings.check_estimator`.
        parents: the shape of one value of each variable that q draws it from, without the batch.
        event: the shape of one value of the variable itself.

    Raises:
        AncestralError: there is no such estimator.
    """
    if settings.estimator not in MAKERS:
        raise AncestralError(f"there is no estimator {settings.estimator!r}. " + nearest(settings.estimator, MAKERS))
    return MAKERS[settings.estimator](settings, parents, event)


def _reinforce(settings: EstimatorSettings, parents: Sequence[Shape], event: Shape) -> Estimator:
    return LikelihoodRatio(_baselines(settings, parents), normalize=settings.normalize)


def _leave_one_out(settings: EstimatorSettings, parents: Sequence[Shape], event: Shape) -> Estimator:
    return LikelihoodRatio()


def _muprop(settings: EstimatorSettings, parents: Sequence[Shape], event: Shape) -> Estimator:
    return MuProp(_baselines(settings, parents), normalize=settings.normalize)


def _straight_through(settings: EstimatorSettings, parents: Sequence[Shape], event: Shape) -> Estimator:
    rate, end = settings.slope_rate, settings.slope_end
    return StraightThrough(exponential(settings.slope, -rate, end) if rate else settings.slope)


def _gumbel_softmax(settings: EstimatorSettings, parents: Sequence[Shape], event: Shape) -> Estimator:
    hard = settings.estimator == "straight-through-gumbel-softmax"
    if settings.learn_temperature:
        return GumbelSoftmax("learned", hard=hard, start=settings.temperature)
    rate, end = settings.temperature_rate, settings.temperature_end
    temperature: Schedule = exponential(settings.temperature, rate, end) if rate else settings.temperature
    return GumbelSoftmax(temperature, hard=hard)


MAKERS: dict[str, Callable[[EstimatorSettings, Sequence[Shape], Shape], Estimator]] = {
    "reinforce": _reinforce,
    "rloo": _leave_one_out,
    "vimco": _leave_one_out,
    "nvil": lambda settings, parents, event: nvil(_baseline_network(parents)),
    "muprop": _muprop,
    "darn": lambda settings, parents, event: DARN(),
    "half": lambda settings, parents, event: Half(),
    "straight-through": _straight_through,
    "gumbel-softmax": _gumbel_softmax,
    "straight-through-gumbel-softmax": _gumbel_softmax,
    "rebar": lambda settings, parents, event: REBAR(settings.temperature),
    "relax": lambda settings, parents, event: RELAX(_control_network(event), settings.temperature),
    "disarm": lambda settings, parents, event: DisARM(),
    "enumerate": lambda settings, parents, event: Enumerate(),
}
"""How each estimator of :data:`ancestral.configs.estimation.EstimatorName` is made."""


def _baselines(settings: EstimatorSettings, parents: Sequence[Shape]) -> list[Baseline]:
    made: dict[str, Baseline] = {}
    for word in settings.baseline:
        made[word] = MovingAverage() if word == "moving-average" else InputDependent(_baseline_network(parents))
    return list(made.values())


def _baseline_network(parents: Sequence[Shape]) -> nn.Module:
    """From the parents, to one number.

    Raises:
        EstimatorError: there are none.
    """
    if not parents:
        raise EstimatorError(
            "a baseline that is a network sees what the variable is drawn from, but this one has no parents. Use the "
            "moving average instead: reinforce with --baseline moving-average."
        )
    if len(parents) == 1:
        return mlp(parents[0], BASELINE_UNITS, 1)
    return _Flattened(mlp(sum(math.prod(shape) for shape in parents), BASELINE_UNITS, 1), parents)


class _Flattened(nn.Module):
    """A network of several values, an image and a label for example, that sees each as a vector."""

    def __init__(self, network: nn.Module, shapes: Sequence[Shape]) -> None:
        super().__init__()
        self.network, self.shapes = network, shapes

    def forward(self, *values: Tensor) -> Tensor:
        vectors = (value.flatten(-len(shape)) for value, shape in zip(values, self.shapes, strict=True))
        output: Tensor = self.network(*vectors)
        return output


def _control_network(event: Shape) -> nn.Module:
    """From a relaxed value to one number."""
    return mlp(event, *CONTROL_UNITS, 1, activation="relu")

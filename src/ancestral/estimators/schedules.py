"""Settings that change during training: temperatures and slopes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from torch import nn

from ancestral.core import Estimator, Estimators
from ancestral.errors import EstimatorError
from ancestral.estimators.checks import number, positive

Schedule = float | Callable[[float], float]
"""A number, or a function from passes over the data so far to a number."""

T = TypeVar("T")


def estimators_at(estimators: Estimators | None, epoch: float) -> Estimators | None:
    """One estimator or several, with the settings that they have after so many epochs: those with a method ``at``."""
    if isinstance(estimators, Mapping):
        return {name: _at(estimator, epoch) for name, estimator in estimators.items()}
    return None if estimators is None else _at(estimators, epoch)


def changing(estimators: Estimators | None) -> list[str]:
    """The kinds of estimators whose gradient changes as training goes on: by a schedule, or by what they learn."""
    found = []
    for one in estimators.values() if isinstance(estimators, Mapping) else [] if estimators is None else [estimators]:
        module = one if isinstance(one, nn.Module) else nn.Module()
        if _at(one, 0.0) is not one or any(True for _ in module.parameters()) or any(True for _ in module.buffers()):
            found.append(type(one).__name__)
    return list(dict.fromkeys(found))


def _at(estimator: Estimator, epoch: float) -> Estimator:
    at = getattr(estimator, "at", None)
    now: Estimator = estimator if at is None else at(epoch)
    return now


def exponential(start: float, rate: float, end: float) -> Callable[[float], float]:
    r"""From ``start`` towards ``end``, where it stays.

    .. math:: s(t) = \max(end, start · e^{-rate · t}),  or \min with a negative rate

    with t in epochs. Source: Jang, Gu and Poole (2017), section 4.2 (there t counts updates).

    Raises:
        EstimatorError: a number is out of range, or the schedule would never reach its end.
    """
    for what, value in (("start", start), ("rate", rate), ("end", end)):
        number(f"the {what} of the schedule", value)
    if not (start > 0 and end > 0) or (end - start) * rate > 0 or (rate == 0 != end - start):
        raise EstimatorError(
            f"the schedule from {start:g} to {end:g} at the rate {rate:g} never arrives: both ends must be positive, "
            "and the rate positive to fall, negative to rise."
        )
    limit = max if rate > 0 else min
    return lambda epoch: limit(end, start * math.exp(-rate * epoch))


def at_epoch(estimator: T, setting: str, epoch: float) -> T:
    """The estimator with the value that a setting has after so many epochs; itself, where that never changes."""
    schedule = getattr(estimator, setting)
    if not callable(schedule):
        return estimator
    now = copy.copy(estimator)
    setattr(now, setting, positive(f"the {setting}", schedule(epoch), f" at epoch {epoch:g}"))
    return now


def checked(setting: str, schedule: Schedule) -> Schedule:
    """The number, or the function of the epoch, if it is positive at the start."""
    if not callable(schedule):
        return positive(f"the {setting}", schedule)
    positive(f"the {setting}", schedule(0.0), " at epoch 0")
    return schedule

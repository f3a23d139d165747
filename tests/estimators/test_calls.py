"""No estimator loops over particles, classes or units: the number of calls of torch does not grow with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ancestral import Joint, LatentVariableModel, bernoulli, linear
from ancestral.configs.estimation import OF_EXPECTATIONS, EstimatorName
from ancestral.core.trace import Conditional
from ancestral.distributions import bernoulli_bias, one_hot, one_hot_bias
from ancestral.evaluation.gradients import bound_of, by_name

NAMES = get_args(EstimatorName)


class Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations, forward and backward; views, which cost nothing, included."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count: int = 0

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def model(units: int, classes: int, objective: Any) -> LatentVariableModel:
    """Two layers of units between data of five bits and a prior."""
    p: dict[str, Conditional]
    q: dict[str, Conditional]
    if classes == 2:
        p = {
            "h2": bernoulli_bias(units),
            "h1 | h2": bernoulli(linear(units, units)),
            "x | h1": bernoulli(linear(units, 5)),
        }
        q = {"h1 | x": bernoulli(linear(5, units)), "h2 | h1": bernoulli(linear(units, units))}
    else:
        shape = (units, classes)
        p = {
            "h2": one_hot_bias(*shape),
            "h1 | h2": one_hot(linear(shape, shape), 1),
            "x | h1": bernoulli(linear(shape, 5)),
        }
        q = {"h1 | x": one_hot(linear(5, shape), 1), "h2 | h1": one_hot(linear(shape, shape), 1)}
    return LatentVariableModel(Joint(p), Joint(q), objective)


def calls(name: str, units: int, classes: int, particles: int, objective: str) -> int:
    """Of one loss and its gradient, the second time: the first fills caches."""
    made = model(units, classes, objective)
    problem = bound_of(made, torch.ones(3, 5), particles=particles)
    estimators = by_name(problem, name)
    for _ in range(2):
        seen = Calls()
        with seen:
            loss: Tensor = problem.loss(estimators, particles).mean()
            loss.backward()  # type: ignore[no-untyped-call]
    return seen.count


def cases() -> Iterator[tuple[str, str, int]]:
    """Each estimator where it is valid."""
    for name in NAMES:
        expectations = {"vimco": ["iwae"]} | {key: ["elbo"] for key in ("rloo", "nvil", *OF_EXPECTATIONS)}
        for objective in expectations.get(name, ["elbo", "iwae"]):
            yield name, objective, 2
            if name != "disarm":
                yield name, objective, 3


@pytest.mark.parametrize(("name", "objective", "classes"), list(cases()))
def test_the_number_of_calls_does_not_grow_with_particles_units_or_classes(
    name: str, objective: str, classes: int
) -> None:
    few = calls(name, 2, classes, 2, objective)
    assert calls(name, 2, classes, 7, objective) == few
    assert calls(name, 3, classes, 2, objective) == few
    if classes == 3 and name != "enumerate":  # which has 11^4 values there
        assert calls(name, 2, 11, 2, objective) == few

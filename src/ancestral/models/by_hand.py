"""Variables set by hand: from words such as ``y=3`` to the values that sampling takes for given."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution

from ancestral.distributions.support import base_of, kind_of
from ancestral.errors import AncestralError, nearest
from ancestral.models.latent_variable import LatentVariableModel

MOST_SHOWN = 3
"""Numbers that an example in a message has."""


def set_by_hand(model: LatentVariableModel, words: Sequence[str], n: int) -> dict[str, Tensor]:
    """Values of latent variables, or of the label y, for n datapoints alike: ``given`` of ``model.sample``.

    A word is ``NAME=VALUE``. The value of class labels is their number, from 0 (``y=3``), that of several variables
    one number for each (``z=3,1,4``). The value of binary units is one digit for each (``h=0110``), or the numbers of
    those that are 1, from 0 (``h=1,2``). The value of real numbers is these (``z=0.5,-1``).

    Raises:
        AncestralError: no such variable, one that is set twice, or a value that it can't take.
    """
    known: dict[str, Distribution | int] = {**model.priors()}
    if model.takes_labels:
        known["y"] = model.classes
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    values: dict[str, Tensor] = {}
    for word in words:
        name, equals, text = (part.strip() for part in word.partition("="))
        if not equals or not name:
            raise AncestralError(f"{word!r} sets no variable: write NAME=VALUE, such as {next(iter(known), 'y')}=3.")
        if name not in known:
            raise AncestralError(f"{word!r}: the model has no variable {name!r} to set. " + nearest(name, known))
        if name in values:
            raise AncestralError(f"{name!r} is set twice, and only one can have effect: keep one.")
        variable = known[name]
        value = _label(name, text, variable) if isinstance(variable, int) else _value(name, text, variable)
        values[name] = value.to(device).expand(n, *value.shape)
    return values


def _label(name: str, text: str, classes: int) -> Tensor:
    """A label that the model is conditioned on: one-hot, or an index where the number of classes is not known."""
    number = torch.tensor(_classes(name, text, 1, classes or 2**31)[0])
    return F.one_hot(number, classes).to(torch.get_default_dtype()) if classes else number


def _value(name: str, text: str, distribution: Distribution) -> Tensor:
    """A value of a variable, ``[*event]``."""
    event, kind, base = tuple(distribution.event_shape), kind_of(distribution), base_of(distribution)[0]
    dtype = torch.get_default_dtype()
    if kind in ("one-hot", "index"):
        classes: int = base.logits.shape[-1]  # type: ignore[attr-defined]
        variables = event[:-1] if kind == "one-hot" else event
        numbers = torch.tensor(_classes(name, text, math.prod(variables), classes)).reshape(variables)
        return F.one_hot(numbers, classes).to(dtype) if kind == "one-hot" else numbers
    count = math.prod(event)
    if kind == "binary":
        return torch.tensor(_bits(name, text, count), dtype=dtype).reshape(event)
    return torch.tensor(_reals(name, text, count), dtype=dtype).reshape(event)


def _classes(name: str, text: str, count: int, classes: int) -> list[int]:
    """One class for each variable: numbers between commas, or digits one after the other."""
    digits = count > 1 and classes <= 10 and len(text) == count and "," not in text
    parts = list(text) if digits else text.split(",")
    numbers = [_number(name, part, classes, "class") for part in parts]
    if len(numbers) != count:
        example = ",".join("0" for _ in range(min(count, MOST_SHOWN))) + (",..." if count > MOST_SHOWN else "")
        several = f"one for each of its {count} variables" if count > 1 else "a single one"
        raise AncestralError(
            f"{name}={text} has {_counted(len(numbers), 'class', 'classes')}, but {name!r} takes {several}, from 0 to "
            f"{classes - 1}, such as {name}={example}."
        )
    return numbers


def _bits(name: str, text: str, count: int) -> list[float]:
    """A digit 0 or 1 for each unit, or the numbers of the units that are 1."""
    if len(text) == count and set(text) <= {"0", "1"}:
        return [float(digit) for digit in text]
    if len(text) > 1 and set(text) <= {"0", "1"} and int(text) >= count:
        raise AncestralError(
            f"{name}={text} has {_counted(len(text), 'digit')}, but {name!r} has {_counted(count, 'unit')}: give a "
            "digit for each, or the numbers of those that are 1, between commas."
        )
    on = [_number(name, part, count, "unit") for part in text.split(",")]
    if len(set(on)) < len(on):
        raise AncestralError(
            f"{name}={text} names a unit of {name!r} twice: give the numbers of those that are 1, each once, or a "
            f"digit 0 or 1 for each of the {_counted(count, 'unit')}, without commas."
        )
    return [float(unit in on) for unit in range(count)]


def _reals(name: str, text: str, count: int) -> list[float]:
    numbers = []
    for part in text.split(","):
        try:
            number = float(part)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            cure = f"Give {count}, between commas." if count > 1 else "Give one."
            raise AncestralError(f"{name}={text}: {part!r} is no finite number. {cure}")
        numbers.append(number)
    if len(numbers) != count:
        raise AncestralError(
            f"{name}={text} has {_counted(len(numbers), 'number')}, but {name!r} has {count}: give "
            + ("as many, between commas." if count > 1 else "a single one.")
        )
    return numbers


def _counted(n: int, one: str, many: str = "") -> str:
    """``1 number``, ``2 numbers``."""
    return f"{n} {one if n == 1 else many or one + 's'}"


def _number(name: str, text: str, count: int, what: str) -> int:
    """A whole number from 0 to below ``count``."""
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) < count):
        cure = f"Give a whole number from 0 to {count - 1}." if count > 1 else "It has only 0."
        raise AncestralError(f"{name}={text}: {text!r} is no {what} of {name!r}. {cure}")
    return int(text)

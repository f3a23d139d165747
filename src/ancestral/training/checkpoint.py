"""Checkpoints: tensors as safetensors, everything else as JSON, digests over both. No pickle.

A digest finds what was damaged. It is no signature, for who writes a checkpoint writes its digests too: so names,
shapes and sizes are compared with what the model needs before a tensor is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import json
import math
import shutil
import time
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ancestral.errors import AncestralError
from ancestral.training.folder import FORMAT, flush, is_format, read_json, replace_directory, temporary

Tensors = Mapping[str, Tensor]
State = TypeVar("State")

HEADER_BYTES = 2**24
"""Room for the names and shapes in a file of tensors, beside the tensors themselves."""
TRIES = 10
"""How often a checkpoint is read that a training process replaces meanwhile."""


class _DamageError(Exception):
    """Not as it was written; the checkpoint before may still be."""


def write_checkpoint(place: Path, parts: Mapping[str, Tensors], state: Mapping[str, Any]) -> None:
    """Write ``<part>.safetensors`` for each part and ``state.json``, as one directory that appears at once.

    The checkpoint before stays beside it as ``<place>.old``. A state that was read may be written again: its format and
    digests, which were the other checkpoint's, are written anew.

    Raises:
        AncestralError: the disk is full or can't be written; the previous checkpoint is left as it was.
    """
    new = temporary(place)
    try:
        new.mkdir(parents=True)
        digests = {}
        for part, tensors in parts.items():
            file = new / f"{part}.safetensors"
            save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, file)
            flush(file)
            digests[part] = _digest(file)
        content = {**state, "format": FORMAT, "digests": digests}
        file = new / "state.json"
        file.write_text(json.dumps({"digest": _digest_of(content), **content}, allow_nan=False), encoding="utf-8")
        flush(file)
        replace_directory(new, place)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(new, ignore_errors=True)
        before = "The previous one is untouched" if has_checkpoint(place) else "There was none before it"
        raise AncestralError(
            f"can't write the checkpoint {place}: {error}. {before}: free some space, then continue with "
            f"`ancestral resume {place.parent.parent}`."
        ) from None


def read_checkpoint(
    place: Path,
    device: str = "cpu",
    like: Mapping[str, Tensors] | None = None,
    tell: Callable[[str], object] = warnings.warn,
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The parts and the state of a checkpoint, verified; the previous one where this one is missing or damaged.

    Another process may write it meanwhile: what is replaced while it is read is read again.

    Args:
        place: the checkpoint's folder.
        device: where its tensors go.
        like: the parts to read, each with tensors (on whatever device) of the names, shapes and types that it may
            hold; nothing larger is read. None reads every part, as it is.
        tell: hears of it when the previous checkpoint is taken.

    Raises:
        AncestralError: neither is whole, or the parts are not like those asked for.
    """
    for attempt in range(TRIES):
        read = _identity(place)
        try:
            return _read(place, device, like)
        except _DamageError as error:
            damage = error
        if read is not None and read == _identity(place):
            break
        time.sleep(0.001 * attempt)
    old = _before(place)
    if old.exists():
        with contextlib.suppress(_DamageError):
            found = _read(old, device, like)
            step = f", of step {found[1]['step']}" if "step" in found[1] else ""
            tell(f"{damage} The checkpoint before it is taken instead ({old}{step}): what came after is lost.")
            return found
    raise _lost(damage)


def has_checkpoint(place: Path) -> bool:
    """Whether there is something to read at ``place``."""
    return place.exists() or _before(place).exists()


def check_stored_weights(places: Iterable[Path], like: Tensors) -> None:
    """Compare what is stored of a model with what it needs, by the names and shapes in the files' headings alone.

    Args:
        places: of the checkpoints; the one before each counts too.
        like: what the model needs, on whatever device: on ``meta`` it takes no memory.

    Raises:
        AncestralError: there are checkpoints, and none has weights of these names and shapes; it tells of the first.
    """
    problems: list[AncestralError] = []
    folders = [folder for place in places for folder in (place, _before(place))]
    for place in filter(Path.exists, folders):
        try:
            with _reading(place):
                stored = _shapes(place / "model.safetensors")
        except _DamageError as damage:
            problems.append(_lost(damage))
            continue
        difference = _difference(stored, like)
        missing = min(like.keys() - stored.keys(), default=None)
        if difference is None and missing is None:
            return
        problems.append(_unlike(place, "model", difference or f"Missing key {missing}"))
    if problems:
        raise problems[0]


def _before(place: Path) -> Path:
    return place.with_name(f"{place.name}.old")


def _identity(place: Path) -> tuple[int, int] | None:
    """Which folder is at ``place`` now, of those that come and go there; None for none."""
    try:
        found = place.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _lost(damage: _DamageError) -> AncestralError:
    return AncestralError(f"{damage} Restore the folder from a copy, or train again.")


@contextlib.contextmanager
def _reading(place: Path) -> Iterator[None]:
    """Whatever keeps a checkpoint from being read is damage to it."""
    try:
        yield
    except FileNotFoundError as error:
        raise _DamageError(f"the checkpoint {place} is incomplete: {error.filename} is missing.") from None
    except (OSError, SafetensorError, ValueError) as error:
        raise _DamageError(f"the checkpoint {place} can't be read: {error}.") from None


def _read(
    place: Path, device: str, like: Mapping[str, Tensors] | None
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    with _reading(place):
        state = read_json(place / "state.json")
        if not isinstance(state, dict) or not isinstance(state.get("digests"), dict):
            raise _DamageError(f"the checkpoint {place} is damaged: state.json is not as it was written.")
        if not is_format(state.get("format")):
            raise AncestralError(
                f"the checkpoint {place} has format {state.get('format')!r}, but this version reads format {FORMAT}."
            )
        if state.pop("digest", None) != _digest_of(state):
            raise _DamageError(f"the checkpoint {place} is damaged: state.json is not as it was written.")
        parts = {}
        for part in state["digests"] if like is None else like:
            if part not in state["digests"]:
                raise AncestralError(f"the checkpoint {place} does not fit this run: it has no part {part!r}.")
            if not part.isidentifier():
                raise _DamageError(f"the checkpoint {place} is damaged: it names a part {part!r}.")
            parts[part] = _read_part(place, part, state["digests"][part], device, None if like is None else like[part])
        return parts, state


def _read_part(place: Path, part: str, digest: object, device: str, like: Tensors | None) -> dict[str, Tensor]:
    file = place / f"{part}.safetensors"
    needed = None if like is None else sum(tensor.nbytes for tensor in like.values())
    if needed is not None and file.stat().st_size > needed + HEADER_BYTES:
        raise _unlike(place, part, f"it has {file.stat().st_size:,} bytes, and at most {needed:,} are needed")
    shapes = _shapes(file)
    if _digest(file) != digest:
        raise _DamageError(f"the checkpoint {place} is damaged: {file.name} is not as it was written.")
    if like is not None and (difference := _difference(shapes, like)):
        raise _unlike(place, part, difference)
    tensors = load_file(file, device)
    for name, tensor in tensors.items():
        if like is not None and tensor.dtype != like[name].dtype:
            raise _unlike(place, part, f"{name} is {tensor.dtype}, not {like[name].dtype}")
    return tensors


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes in the heading of a file of tensors, of which nothing else is read.

    Raises:
        _DamageError: the heading can't be read, or the file is longer or shorter than it says.
    """
    damaged = f"the checkpoint {file.parent} is damaged: {file.name} is not as it was written"
    with file.open("rb") as content:
        claimed = int.from_bytes(content.read(8), "little")
    if claimed > HEADER_BYTES:
        raise _DamageError(f"{damaged}: its heading claims to be of {claimed:,} bytes, more than any is.")
    try:
        with safe_open(file, "pt") as heading:
            return {name: tuple(heading.get_slice(name).get_shape()) for name in heading.keys()}  # noqa: SIM118 (no dict)
    except SafetensorError as error:
        raise _DamageError(f"{damaged}: {error}.") from None


def _difference(shapes: Mapping[str, tuple[int, ...]], like: Tensors) -> str | None:
    """The first tensor that is not of the shape that it should have, or should not be there at all."""
    for name, shape in shapes.items():
        if name not in like:
            return f"it has {name}, which there is not"
        if shape != like[name].shape:
            return f"size mismatch for {name}: {shape}, not {tuple(like[name].shape)}"
    return None


def _unlike(place: Path, part: str, difference: str) -> AncestralError:
    what = {"model": "weights", "average": "averaged weights"}.get(part, f"part {part!r}")
    return AncestralError(
        f"the {what} in {place} do not fit this model: {difference}. Build it with the settings it was trained with, "
        "those in config.toml; if that file has changed, restore it from a copy."
    )


def read_state(kind: type[State], state: Mapping[str, Any], place: Path) -> State:
    """The dataclass whose fields ``state.json`` holds.

    Raises:
        AncestralError: a field is missing, is not of its type, or is a number beyond any count.
    """
    hints = typing.get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name not in state and field.metadata.get("later"):
            continue  # this field is younger than the format
        if field.name not in state:
            raise AncestralError(f"the checkpoint {place} does not fit this run: state.json has no {field.name!r}.")
        values[field.name] = state[field.name]
        if not _is_a(values[field.name], hints[field.name]):
            raise AncestralError(
                f"the checkpoint {place} does not fit this run: in state.json {field.name} is "
                f"{str(values[field.name])[:60]!r}, which is no {field.type}."
            )
    return kind(**values)


def check_ranges(state: object, ranges: Mapping[str, tuple[float, float]], place: Path) -> None:
    """Check the numbers that a dataclass holds, alone or in dictionaries.

    Args:
        ranges: the least and the largest number that each field may hold.

    Raises:
        AncestralError: a number is outside its range.
    """
    for name, (low, high) in ranges.items():
        value = getattr(state, name)
        for number in value.values() if isinstance(value, dict) else (value,):
            if not low <= number <= high:
                raise AncestralError(
                    f"the checkpoint {place} does not fit this run: in state.json {name} is {str(value)[:60]}, but "
                    f"must be from {low:g} to {high:g}. Restore the folder from a copy, or train again."
                )


def check_random_state(state: Tensor, place: Path) -> None:
    """Raise ``AncestralError`` where the state is none that the random numbers of the CPU can have."""
    try:
        torch.Generator().set_state(state)
    except RuntimeError as error:
        raise AncestralError(
            f"the checkpoint {place} does not fit this run: its random state is none ({str(error).splitlines()[0]}). "
            "Restore the folder from a copy, or train again."
        ) from None


def _is_a(value: object, hint: Any) -> bool:
    """Whether a value from JSON is of a type: int, float, str, None, lists and dicts of them, or a union."""
    inner = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return any(_is_a(value, kind) for kind in inner)
    if typing.get_origin(hint) is dict:
        return isinstance(value, dict) and all(_is_a(v, inner[1]) for v in value.values())
    if typing.get_origin(hint) is list:
        return isinstance(value, list) and all(_is_a(v, inner[0]) for v in value)
    if hint is float and type(value) is float:
        return math.isfinite(value)
    if hint in (int, float) and type(value) is int:
        return abs(value) < 2**63
    return type(value) is hint


def load_weights(model: nn.Module, weights: Tensors, place: Path) -> None:
    """Copy weights into a model of the same architecture.

    Raises:
        AncestralError: the weights are of another architecture; it names the first difference.
    """
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise _unlike(place, "model", " ".join(str(error).split()[:60])) from None


def optimizer_tensors(player: str, optimizer: Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser, flat: ``player.parameter.quantity``."""
    return {
        f"{player}.{index}.{key}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
        if value is not None
    }


def optimizer_like(player: str, optimizer: Optimizer) -> dict[str, Tensor]:
    """What :func:`optimizer_tensors` gives once every parameter has been updated, as tensors without values.

    A parameter that the loss never reaches has none of them.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    probes = [nn.Parameter(torch.zeros(2, dtype=parameter.dtype, device=parameter.device)) for parameter in parameters]
    for probe in probes:
        probe.grad = torch.zeros_like(probe)
    settings = inspect.signature(type(optimizer)).parameters
    twin = type(optimizer)(probes, **{key: value for key, value in optimizer.defaults.items() if key in settings})
    twin.step()
    like = {}
    for name, value in optimizer_tensors(player, twin).items():
        shape = value.shape and parameters[int(name.rsplit(".", 2)[1])].shape
        like[name] = torch.empty(shape, dtype=value.dtype, device="meta")
    return like


def restore_optimizer(player: str, optimizer: Optimizer, tensors: Tensors) -> None:
    """The inverse of :func:`optimizer_tensors`.

    Raises:
        AncestralError: there is nothing, or a quantity of a parameter is missing.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        owner, index, key = name.rsplit(".", 2)
        if owner == player:
            state.setdefault(int(index), {})[key] = value
    needed = {name.rsplit(".", 1)[1] for name in optimizer_like(player, optimizer)}
    for number, values in state.items():
        if needed - values.keys():
            raise AncestralError(
                f"the state of the optimizer of {player} is not complete: parameter {number} has no "
                f"{min(needed - values.keys())}. Restore the folder from a copy, or train again."
            )
    if needed and not state:
        raise AncestralError(
            f"the state of the optimizer of {player} is missing. Restore the folder from a copy, or train again."
        )
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest_of(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()

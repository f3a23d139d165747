"""What the verbs share: parsing with tyro, the flags of a run, the user's own models, writing results."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from ancestral.errors import AncestralError, nearest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ancestral.configs import DataDescription
    from ancestral.runs import Run

Arguments = TypeVar("Arguments")

Count = Annotated[int, tyro.conf.arg(aliases=("-n",))]
Out = Annotated[str | None, tyro.conf.arg(metavar="PATH")]
Own = Annotated[str | None, tyro.conf.arg(metavar="FILE.py:NAME")]


def parse(kind: type[Arguments], verb: str, words: Sequence[str]) -> Arguments:
    """The flags of a verb as a dataclass; wrong ones are answered with the nearest match (exit status 2).

    Raises:
        AncestralError: a flag is given twice, or a value is out of range.
    """
    flags = [word.partition("=")[0].replace("_", "-") for word in words if re.match("--.|-[a-z]", word)]
    for flag in flags:
        if flags.count(flag) > 1:
            raise AncestralError(f"{flag} is given {flags.count(flag)} times, and only one can have effect: keep one.")
    registry = ConstructorRegistry()
    registry.primitive_rule(_word)
    registry.primitive_rule(_choice)
    return tyro.cli(
        kind,
        prog=f"ancestral {verb}",
        args=list(words),
        config=(
            tyro.conf.OmitArgPrefixes,
            tyro.conf.FlagCreatePairsOff,
            tyro.conf.PositionalMetavarFromFieldName,
        ),
        registry=registry,
    )


def _word(kind: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """How tyro reads one word of text or one number. What may be None is so by leaving the flag out."""
    types = [inner for inner in get_args(kind.type) or (kind.type,) if inner is not NoneType]
    if types not in ([str], [int], [float]) or get_origin(kind.type) not in (None, Union, UnionType):
        return None
    of = types[0]

    def read(words: list[str]) -> str | int | float:
        if not words[0]:
            raise ValueError("it is empty: give a value, or leave the flag out.")
        try:
            value: str | int | float = of(words[0])
        except ValueError:
            raise ValueError(f"{words[0]!r} is no {'whole ' if of is int else ''}number.") from None
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"{words[0]} is beyond the largest number, 2^63 - 1.")
        return value

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=of.__name__.upper(),
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, kind.type),
        str_from_instance=lambda value: [str(value)],
    )


def _choice(kind: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[str] | None:
    """How tyro reads one word of a ``Literal``."""
    if get_origin(kind.type) is not Literal:
        return None
    known: tuple[str, ...] = get_args(kind.type)

    def chosen(words: list[str]) -> str:
        if words[0] not in known:
            raise ValueError(f"there is no {words[0]!r}. {nearest(words[0], known)}")
        return words[0]

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(known) + "}",
        instance_from_str=chosen,
        is_instance=lambda value: value in known,
        str_from_instance=lambda value: [value],
    )


@dataclasses.dataclass(frozen=True)
class RunArguments:
    """The flags that find a run."""

    run: tyro.conf.Positional[str]
    """The run folder."""
    checkpoint: Literal["auto", "best", "last"] = "auto"
    """Which weights: the best by validation, or the last. auto: the best if there are any."""
    model: Own = None
    """For a run with a model of your own: FILE.py:NAME, a model or a function that makes it."""
    device: str = "auto"
    """auto takes the GPU if there is one."""
    seed: int = 0
    """Of the draws."""

    def load(self) -> Run:
        """Find the run, and set the random stream."""
        import torch

        import ancestral

        check_seed(self.seed)
        found = ancestral.load(self.run, own_model(self.model), which=self.checkpoint, device=self.device)
        torch.manual_seed(self.seed)
        return found


def check_seed(seed: int) -> None:
    """Raise unless the random stream can be set by it."""
    if not 0 <= seed < 2**63:
        raise AncestralError(f"seed is {seed}, but it must be 0 or more, and below 2^63.")


def aligned(rows: Sequence[Sequence[str]], to: Sequence[str]) -> str:
    """Lines of words in columns, each aligned ``<`` or ``>``."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, to, widths, strict=True)).rstrip()
        for row in rows
    )


def own_model(reference: str | None) -> nn.Module | None:
    """The model that ``FILE.py:NAME`` names, in a file of the user's. Runs that file, as ``python FILE.py`` would.

    Raises:
        AncestralError: no such file or name, or it is no model.
    """
    if reference is None:
        return None
    from torch import nn

    file, colon, name = reference.rpartition(":")
    path = Path(file)
    if not colon or path.suffix != ".py" or not name.isidentifier():
        raise AncestralError(f"{reference!r} names no model: write FILE.py:NAME, for example my_model.py:model.")
    if not path.is_file():
        raise AncestralError(f"there is no file {file}: give the path of the Python file that holds {name}.")
    title = f"own_model_{path.stem}"  # not the bare stem, which may be that of an imported package
    loader = SourceFileLoader(title, str(path.resolve()))
    module = sys.modules[title] = ModuleType(title)
    module.__file__ = loader.path
    sys.path.insert(0, str(path.parent.resolve()))  # the file may import its neighbours
    _run_own(path, loader.exec_module, module)
    known = [word for word in vars(module) if not word.startswith("_")]
    if name not in known:
        raise AncestralError(f"{file} defines no {name!r}. " + nearest(name, known))
    found: Any = getattr(module, name)
    model = _run_own(path, found) if callable(found) and not isinstance(found, nn.Module) else found
    if not isinstance(model, nn.Module):
        raise AncestralError(f"{reference} is a {type(model).__name__}, not a model: give a LatentVariableModel.")
    return model


def _run_own(path: Path, code: Callable[..., Any], *arguments: Any) -> Any:
    """Run the user's code; whatever it raises becomes one message with its line."""
    try:
        return code(*arguments)
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path.resolve())]
        where = f", line {lines[-1]}," if lines else ""
        raise AncestralError(
            f"{path}{where} does not run: {type(error).__name__}: {error}. Write it so that it runs by itself."
        ) from error


def destination(out: str | None, default: Path, data: DataDescription) -> Path:
    """Where a result goes: the file asked for, or by default a picture of images and a table of anything else.

    Raises:
        AncestralError: a file of another kind, a folder, or a place that can't be written.
    """
    images = len(data.shape) == 3 and data.shape[0] in (1, 3)
    path = Path(out) if out is not None else default.with_suffix(".png" if images else ".csv")
    endings = (".png", ".npz", ".npy", ".csv")
    if path.suffix.lower() not in endings:
        raise AncestralError(f"{path} has the ending {path.suffix!r}. " + nearest(path.suffix, endings))
    if path.is_dir():
        raise AncestralError(f"{path} is a folder: give the name of a file.")
    place = next(parent for parent in path.absolute().parents if parent.exists())
    if not (place.is_dir() and os.access(place, os.W_OK)):
        raise AncestralError(f"can't write {path}: {place} is no folder that can be written. Give another --out.")
    return path


def check_size(count: int, path: Path, data: DataDescription, columns: int | None = None) -> None:
    """Raise if so many images would make a picture (.png) that is too large to be opened."""
    from ancestral.training.pictures import PIXELS, layout

    if path.suffix.lower() != ".png" or len(data.shape) != 3:
        return
    height, width = layout(count, *data.shape[1:], columns)[2]
    if height * width > PIXELS:
        raise AncestralError(
            f"a picture of {count:,} images would have {width:,} x {height:,} pixels, too many for programs that show "
            "pictures: ask for fewer, or write them as .npz."
        )


def write(x: Tensor, path: Path, data: DataDescription, columns: int | None = None) -> None:
    """Write data to a picture (.png), or in their own units to an array (.npz, .npy) or a table (.csv).

    Raises:
        AncestralError: a picture of data that are no images, or a place that can't be written.
    """
    import csv
    import io

    import numpy as np

    from ancestral.data.dataset import to_original
    from ancestral.training.folder import write_atomically
    from ancestral.training.pictures import grid, save_picture

    ending = path.suffix.lower()
    if ending == ".png":
        check_size(len(x), path, data, columns)
        save_picture(grid(x, columns), path)
        return
    values = to_original(data, x)
    buffer = io.BytesIO()
    if ending == ".npz":
        np.savez_compressed(buffer, x=values)
    elif ending == ".npy":
        np.save(buffer, values, allow_pickle=False)
    else:
        heading = io.StringIO()
        if data.columns:
            csv.writer(heading, lineterminator="").writerow(data.columns)
        np.savetxt(
            buffer, values.reshape(len(values), -1), "%d" if data.levels else "%.15g", ",",
            header=heading.getvalue(), comments="", encoding="utf-8",
        )  # fmt: skip
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise AncestralError(f"can't write {path}: {error.strerror}.") from None


def require(model: nn.Module, capability: str, verb: str) -> Any:
    """The model, if it can do what the verb needs.

    Raises:
        AncestralError: it can't; the message says which models can.
    """
    from ancestral.models import BUILDERS, LatentVariableModel
    from ancestral.models.contract import CAPABILITIES

    if not isinstance(model, CAPABILITIES[capability]):
        kinds = {name: made if isinstance(made, type) else LatentVariableModel for name, made in BUILDERS.items()}
        able = [name for name, kind in kinds.items() if hasattr(kind, capability)]
        raise AncestralError(
            f"a {type(model).__name__} can't {verb}: it has no {capability}(). Models that can: {', '.join(able)}, and "
            "any LatentVariableModel."
        )
    return model


def rows(run: Run, split: Literal["train", "validation", "test"], number: int) -> tuple[Tensor, Tensor | None]:
    """The first rows of a split and their labels, on the model's device.

    Raises:
        AncestralError: the split is empty.
    """
    device = next(run.model.parameters()).device
    for x, y in run.data.batches(split, number, shuffle=False, device=device):
        return x, y
    raise AncestralError(f"{run.data.name} has no rows in its {split} split. Choose another --split.")


def description(run: Run) -> DataDescription:
    """What the run's data look like, without loading them."""
    from ancestral.configs import DataDescription
    from ancestral.runs import parse as parse_table

    found: DataDescription = parse_table(DataDescription, run.config["description"], run.folder.config_file)
    return found


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for long work, on a terminal only: call what it gives with the work, how much is done, how much in all."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda work, done, total: bar.update(task, description=work, completed=done, total=total)

"""What the verbs share: parsing with tyro, the flags of a run, the user's own models, writing results."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

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
    """The flags of a verb as a dataclass; wrong ones are answered by tyro with the nearest match (exit status 2)."""
    return tyro.cli(
        kind,
        prog=f"ancestral {verb}",
        args=list(words),
        config=(
            tyro.conf.OmitArgPrefixes,
            tyro.conf.FlagCreatePairsOff,
            tyro.conf.PositionalMetavarFromFieldName,
        ),
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

        if self.seed < 0:
            raise AncestralError(f"seed is {self.seed}, but it must be 0 or more.")
        found = ancestral.load(self.run, own_model(self.model), which=self.checkpoint, device=self.device)
        torch.manual_seed(self.seed)
        return found




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
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise AncestralError(f"{file} can't be read as a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError, NameError) as error:
        raise AncestralError(f"{file} does not run: {error}.") from error
    known = [word for word in vars(module) if not word.startswith("_")]
    if name not in known:
        raise AncestralError(f"{file} defines no {name!r}. " + nearest(name, known))
    found: Any = getattr(module, name)
    model = found() if callable(found) and not isinstance(found, nn.Module) else found
    if not isinstance(model, nn.Module):
        raise AncestralError(f"{reference} is a {type(model).__name__}, not a model: give a LatentVariableModel.")
    return model


def write(x: Tensor, out: str | None, default: Path, data: DataDescription, columns: int | None = None) -> Path:
    """Write data to a picture (.png), or in their own units to an array (.npz, .npy) or a table (.csv).

    Raises:
        AncestralError: another ending, or data that are no images or no table.
    """
    import io

    import numpy as np

    from ancestral.data.dataset import to_original
    from ancestral.training.folder import write_atomically
    from ancestral.training.pictures import grid, save_picture

    images = len(data.shape) == 3 and data.shape[0] in (1, 3)
    path = Path(out) if out is not None else default.with_suffix(".png" if images else ".csv")
    endings = (".png", ".npz", ".npy", ".csv")
    if path.suffix not in endings:
        raise AncestralError(f"{path} has the ending {path.suffix!r}. " + nearest(path.suffix, endings))
    if path.is_dir():
        raise AncestralError(f"{path} is a folder: give the name of a file.")
    if path.suffix == ".png":
        save_picture(grid(x, columns), path)
        return path
    values = to_original(data, x)
    buffer = io.BytesIO()
    if path.suffix == ".npz":
        np.savez_compressed(buffer, x=values)
    elif path.suffix == ".npy":
        np.save(buffer, values, allow_pickle=False)
    else:
        heading = ",".join(data.columns)
        form = "%d" if data.levels else "%.9g"
        np.savetxt(buffer, values.reshape(len(values), -1), form, ",", header=heading, comments="")
        if not heading:
            buffer = io.BytesIO(buffer.getvalue().lstrip(b"\n"))
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise AncestralError(f"can't write {path}: {error.strerror}.") from None
    return path


def require(model: Any, capability: str, verb: str) -> None:
    """Raise unless the model can do what the verb needs, and say which models can."""
    from ancestral.models import BUILDERS
    from ancestral.models.contract import CAPABILITIES

    if not isinstance(model, CAPABILITIES[capability]):
        able = [name for name, builder in BUILDERS.items() if name != "gan"] + ["any LatentVariableModel"]
        raise AncestralError(f"a {type(model).__name__} can't {verb}: it has no {capability}(). Models that can: {', '.join(able)}.")


def description(run: Run) -> DataDescription:
    """What the run's data look like, without loading them."""
    from ancestral.configs import DataDescription
    from ancestral.runs import parse as parse_table

    found: DataDescription = parse_table(DataDescription, run.config["description"], run.folder.config_file)
    return found

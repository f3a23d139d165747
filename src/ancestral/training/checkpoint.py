"""Checkpoints: tensors as safetensors, everything else as JSON, digests over both. No pickle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ancestral.errors import AncestralError
from ancestral.training.folder import FORMAT, replace_directory

Tensors = Mapping[str, Tensor]


def write_checkpoint(place: Path, parts: Mapping[str, Tensors], state: Mapping[str, Any]) -> None:
    """Write ``<part>.safetensors`` for each part and ``state.json``, as one directory that appears at once.

    Raises:
        AncestralError: the disk is full or can't be written; the previous checkpoint is left as it was.
    """
    new = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        new.parent.mkdir(parents=True, exist_ok=True)
        for unfinished in new.parent.glob(f".{place.name}.*.tmp"):  # left by a process that was killed while writing
            shutil.rmtree(unfinished)
        new.mkdir()
        digests = {}
        for part, tensors in parts.items():
            file = new / f"{part}.safetensors"
            save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, file)
            _flush(file)
            digests[part] = _digest(file)
        file = new / "state.json"
        file.write_text(json.dumps({"format": FORMAT, "digests": digests, **state}), encoding="utf-8")
        _flush(file)
        replace_directory(new, place)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(new, ignore_errors=True)
        raise AncestralError(
            f"can't write the checkpoint {place}: {error}. The previous one is untouched: free some space, then "
            f"continue with `ancestral resume {place.parent.parent}`."
        ) from None


def read_checkpoint(place: Path, device: str = "cpu") -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The parts and the state of a checkpoint, verified; the previous one where this one is missing or damaged.

    Raises:
        AncestralError: neither is whole.
    """
    old = place.with_name(place.name + ".old")
    try:
        return _read(place, device)
    except AncestralError:
        if not old.exists():
            raise
        return _read(old, device)


def has_checkpoint(place: Path) -> bool:
    """Whether there is something to read at ``place``."""
    return place.exists() or place.with_name(place.name + ".old").exists()


def _read(place: Path, device: str) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    cure = "Restore the folder from a copy, or train again."
    try:
        state = json.loads((place / "state.json").read_text(encoding="utf-8"))
        if not isinstance(state, dict) or not isinstance(state.get("digests"), dict):
            raise AncestralError(f"the checkpoint {place} is damaged: state.json is not as it was written. {cure}")
        if state.get("format") != FORMAT:
            raise AncestralError(
                f"the checkpoint {place} has format {state.get('format')!r}, but this version reads format {FORMAT}."
            )
        parts = {}
        for part, digest in state["digests"].items():
            if not part.isidentifier():
                raise AncestralError(f"the checkpoint {place} is damaged: it names a part {part!r}. {cure}")
            file = place / f"{part}.safetensors"
            if _digest(file) != digest:
                raise AncestralError(f"the checkpoint {place} is damaged: {file.name} is not as it was written. {cure}")
            parts[part] = load_file(file, device)
        return parts, state
    except FileNotFoundError as error:
        raise AncestralError(f"the checkpoint {place} is incomplete: {error.filename} is missing. {cure}") from None
    except (OSError, SafetensorError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise AncestralError(f"the checkpoint {place} can't be read: {error}. {cure}") from None


def load_weights(model: nn.Module, weights: Tensors, place: Path) -> None:
    """Copy weights into a model of the same architecture.

    Raises:
        AncestralError: the weights are of another architecture; it names the first difference.
    """
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        detail = " ".join(str(error).split()[:60])
        raise AncestralError(
            f"the weights in {place} do not fit this model: {detail}. Build it with the settings in config.toml."
        ) from None


def optimizer_tensors(player: str, optimizer: Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser, flat: ``player.parameter.quantity``."""
    return {
        f"{player}.{index}.{key}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
        if value is not None
    }


def restore_optimizer(player: str, optimizer: Optimizer, tensors: Tensors) -> None:
    """The inverse of :func:`optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        owner, index, key = name.rsplit(".", 2)
        if owner == player:
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(file: Path) -> None:
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())

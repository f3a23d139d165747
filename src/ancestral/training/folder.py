"""The run folder: what training writes and everything after it reads. No pickle, every file placed atomically.

config.toml          the settings, with a format number
environment.json     versions, device, data digest, git commit, command
metrics.jsonl        one JSON object per line
samples/             pictures during training
checkpoints/last/    weights, optimisers, random state: what `resume` continues
checkpoints/best/    weights at the best validation
MODEL_CARD.md        what it is, in words
"""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomli_w

from ancestral.errors import AncestralError

FORMAT = 1
"""The version of the run folder's layout."""


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def config_file(self) -> Path:
        return self.path / "config.toml"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    def checkpoint(self, which: str) -> Path:
        return self.path / "checkpoints" / which

    def check_free(self) -> None:
        """Raise if something is already there: no run overwrites another."""
        if self.path.is_file():
            raise AncestralError(f"{self.path} is a file: name a folder that does not exist yet.")
        if self.path.exists() and any(self.path.iterdir()):
            raise AncestralError(
                f"{self.path} already holds something. Continue that run with `ancestral resume {self.path}`, or give "
                "another --out."
            )

    def create(self, config: dict[str, Any]) -> None:
        """Make the folder with its config.

        Raises:
            AncestralError: something is already there, or the place can't be written.
        """
        self.check_free()
        try:
            self.samples.mkdir(parents=True, exist_ok=True)
            (self.path / "checkpoints").mkdir(exist_ok=True)
            write_atomically(self.config_file, tomli_w.dumps({"format": FORMAT, **config}).encode())
        except OSError as error:
            raise AncestralError(
                f"can't write the run folder {self.path}: {error.strerror}. Give another --out."
            ) from None

    def config(self) -> dict[str, Any]:
        """The settings.

        Raises:
            AncestralError: no run folder, unreadable config, or a format this version does not know.
        """
        try:
            text = self.config_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise AncestralError(
                f"{self.path} is no run folder: it has no config.toml. Train first, with `ancestral train ... --out "
                f"{self.path}`."
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise AncestralError(f"can't read {self.config_file}: {error}.") from None
        try:
            config = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise AncestralError(f"{self.config_file} is not valid TOML: {error}.") from None
        if config.get("format") != FORMAT:
            raise AncestralError(
                f"{self.config_file} has format {config.get('format')!r}, but this version reads format {FORMAT}. "
                "Use the "
                "version of ancestral that wrote it (environment.json names it)."
            )
        for section in ("settings", "data_settings", "training", "description"):
            if not isinstance(config.get(section), dict):
                raise AncestralError(f"{self.config_file} has no table [{section}]. Restore the file from a copy.")
        for key in ("model", "data"):
            if not isinstance(config.get(key), str):
                raise AncestralError(f"{self.config_file} names no {key}. Restore the file from a copy.")
        return config

    def environment(self) -> dict[str, Any]:
        """What was noted of versions, device and data; empty if the run died before it was.

        Raises:
            AncestralError: environment.json is damaged.
        """
        place = self.path / "environment.json"
        try:
            noted = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise AncestralError(f"can't read {place}: {error}. Restore it from a copy, or train again.") from None
        if not isinstance(noted, dict):
            raise AncestralError(f"{place} is not as it was written. Restore it from a copy, or train again.")
        return noted

    def write_json(self, name: str, value: Any) -> None:
        write_atomically(self.path / name, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())

    def metrics(self) -> Iterator[dict[str, Any]]:
        """The rows of metrics.jsonl, oldest first; a line cut off by a crash is left out."""
        if not self.metrics_file.exists():
            return
        with self.metrics_file.open(encoding="utf-8") as lines:
            for line in lines:
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:
                    continue
                if isinstance(row, dict):
                    yield row


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside the place, flush to the disk, then move into place: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def replace_directory(new: Path, place: Path) -> None:
    """Move the finished directory ``new`` to ``place``; the one before stays as ``<place>.old`` until it is done."""
    old = place.with_name(place.name + ".old")
    if place.exists():
        if old.exists():
            shutil.rmtree(old)
        place.rename(old)
    new.rename(place)
    if old.exists():
        shutil.rmtree(old)

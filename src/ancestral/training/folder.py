"""The run folder: what training writes and everything after it reads. No pickle, every file placed atomically.

config.toml             the settings, with a format number
environment.json        versions, device, data digest, git commit, command
metrics.jsonl           one JSON object per line
samples/                pictures during training
checkpoints/last/       weights, optimisers, random state: what `resume` continues
checkpoints/best/       weights at the best validation
checkpoints/*.old/      the ones before, read where the last is damaged
health.json             what the health checks found, once they have
MODEL_CARD.md           what it is, in words
.lock                   held by the process that trains

What is read may be a stranger's: nothing outside the folder is followed, and nothing is read before its size is known.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tomli_w
from filelock import FileLock, Timeout

from ancestral.errors import AncestralError

FORMAT = 1
"""The version of the run folder's layout."""
LOCK = ".lock"
LARGEST_TEXT = 2**22
"""Bytes of the largest TOML or JSON file, or line of metrics, that is read: all of ours are far smaller."""


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
    def health_file(self) -> Path:
        return self.path / "health.json"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    def checkpoint(self, which: str) -> Path:
        return self.path / "checkpoints" / which

    def check_free(self) -> None:
        """Raise if something is already there: no run overwrites another."""
        if self.path.is_file():
            raise AncestralError(f"{self.path} is a file: name a folder that does not exist yet.")
        # What a start leaves that was killed before it had written config.toml is no run.
        if self.path.exists() and not all(_is_leftover(place) or place.name == LOCK for place in self.path.iterdir()):
            raise AncestralError(
                f"{self.path} already holds something. Continue that run with `ancestral resume {self.path}`, or give "
                "another --out."
            )

    def remove(self) -> None:
        """Delete the folder and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def create(self, config: dict[str, Any]) -> None:
        """Make the folder with its config.

        Raises:
            AncestralError: something is already there, or the place can't be written.
        """
        self.check_free()
        try:
            write_atomically(self.config_file, tomli_w.dumps({"format": FORMAT, **config}).encode())
            self.samples.mkdir(exist_ok=True)
            (self.path / "checkpoints").mkdir(exist_ok=True)
            flush(self.path)
        except OSError as error:
            raise AncestralError(
                f"can't write the run folder {self.path}: {error.strerror}. Give another --out."
            ) from None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process from training in this folder. Readers are not kept from anything.

        The system holds the lock, on the file ``.lock``, and drops it when the process ends, in whatever way.

        Raises:
            AncestralError: another process trains here, or the folder can't be written.
        """
        lock = FileLock(self.path / LOCK, timeout=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise AncestralError(
                f"another process is training in {self.path}. Wait until it ends or stop it, then continue with "
                f"`ancestral resume {self.path}`; for another run beside it, give another --out."
            ) from None
        except OSError as error:
            raise AncestralError(
                f"can't write the run folder {self.path}: {error.strerror}. Training writes there: give another --out, "
                "or continue a copy of the folder."
            ) from None
        try:
            for folder in (self.path, self.samples, self.path / "checkpoints"):
                for place in filter(_is_leftover, folder.glob(".*")):
                    with self.writing(place):
                        _remove(place)
            yield
        finally:
            lock.release()

    def config(self) -> dict[str, Any]:
        """The settings.

        Raises:
            AncestralError: no run folder, unreadable config, a format this version does not know, or a link in the
                folder that leads out of it.
        """
        self._check_entries()
        try:
            text = read_text(self.config_file)
        except FileNotFoundError:
            raise AncestralError(
                f"{self.path} is no run folder: it has no config.toml. Train first, with `ancestral train ... --out "
                f"{self.path}`."
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise AncestralError(
                f"can't read {self.config_file}: {error}. Give the folder of a run, or restore the file from a copy."
            ) from None
        try:
            config = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise AncestralError(f"{self.config_file} is not valid TOML: {error}. Restore it from a copy.") from None
        if not is_format(config.get("format")):
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
        cure = "Restore it from a copy, or train again."
        try:
            noted = read_json(place) if place.exists() else {}
        except (OSError, ValueError) as error:
            raise AncestralError(f"can't read {place}: {error}. {cure}") from None
        if not isinstance(noted, dict):
            raise AncestralError(f"{place} is not as it was written. {cure}")
        return noted

    def digest(self, split: str) -> str | None:
        """The digest that was noted of a split of the data; None where none was.

        Raises:
            AncestralError: environment.json is damaged.
        """
        noted: Any = self.environment()
        for key in ("data", split, "digest"):
            if not isinstance(noted, dict):
                raise AncestralError(
                    f"{self.path / 'environment.json'} is not as it was written. Restore it from a copy, or train "
                    "again."
                )
            noted = noted.get(key, {} if key != "digest" else None)
        return None if noted is None else str(noted)

    def write_json(self, name: str, value: Any) -> None:
        """Raises AncestralError where the disk is full or can't be written."""
        with self.writing(self.path / name):
            write_atomically(self.path / name, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())

    @contextlib.contextmanager
    def writing(self, place: Path) -> Iterator[None]:
        """Whatever keeps ``place`` from being written is one clear error."""
        try:
            yield
        except OSError as error:
            raise AncestralError(
                f"can't write {place}: {error.strerror}. Make room or make it writable, then continue with "
                f"`ancestral resume {self.path}`."
            ) from None

    def metrics(self) -> Iterator[dict[str, Any]]:
        """The rows of metrics.jsonl, oldest first; a line cut off by a crash is left out."""
        if not self.metrics_file.is_file():
            return
        with self.metrics_file.open("rb") as lines:
            while line := lines.readline(LARGEST_TEXT):
                with contextlib.suppress(ValueError, RecursionError):
                    row = json.loads(line)
                    if isinstance(row, dict):
                        yield row

    def append_metrics(self, row: dict[str, Any]) -> int:
        """Add a row to metrics.jsonl. Returns its size in bytes, row included.

        Raises:
            AncestralError: the disk is full or can't be written.
        """
        with self.writing(self.metrics_file), self.metrics_file.open("ab") as file:
            file.write((json.dumps(row) + "\n").encode())
            file.flush()
            return file.tell()

    def keep_metrics(self) -> None:
        """Have the disk keep metrics.jsonl: a checkpoint that counts on its rows must never outlive them.

        Raises:
            AncestralError: the disk is full or can't be written.
        """
        if self.metrics_file.exists():
            with self.writing(self.metrics_file):
                flush(self.metrics_file)

    def cut_metrics(self, size: int, tell: Callable[[str], object]) -> None:
        """Cut metrics.jsonl back to what it was at a checkpoint, ``size`` bytes: the rows after it will come again.

        Rows that are gone are no reason to stop, for nothing is computed from them; but it is said.

        Raises:
            AncestralError: it can't be written.
        """
        with self.writing(self.metrics_file), self.metrics_file.open("ab+") as file:
            found = file.tell()
            if found < size:
                tell(f"{self.metrics_file} has {found:,} bytes, but had {size:,} at the checkpoint: rows are lost.")
                whole, position = 0, 0
                file.seek(0)
                while line := file.readline(LARGEST_TEXT):
                    position += len(line)
                    whole = position if line.endswith(b"\n") else whole
                size = whole
            file.truncate(size)

    def _check_entries(self) -> None:
        """Raise at what no run has: a link out of the folder, which could name any file of yours, or a pipe."""
        home = os.path.realpath(self.path)
        for folder, folders, files in os.walk(self.path):
            # What a process that trains here is writing is not read, and may be gone before it is looked at.
            folders[:] = [name for name in folders if not _is_leftover(Path(name))]
            if Path(folder) == self.samples:
                continue  # pictures, which only pages read: they look for themselves, and do without a bad one
            for place in (Path(folder, name) for name in (*folders, *files) if not _is_leftover(Path(name))):
                link = place.is_symlink()
                if link and not Path(os.path.realpath(place)).is_relative_to(home):
                    raise AncestralError(
                        f"{place} is a link to {os.readlink(place)}, outside the run folder. If you trust it, put what "
                        "it leads to in its place."
                    )
                try:
                    mode = place.stat().st_mode
                except OSError:
                    if not link:  # moved or removed since it was listed
                        continue
                    mode = 0
                if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                    raise AncestralError(f"{place} is neither a file nor a folder: remove it.")


def is_format(value: object) -> bool:
    """Whether it is the number of the format that this version reads: 1, where Python takes true for 1 as well."""
    return type(value) is int and value == FORMAT


def read_text(path: Path) -> str:
    """The text of a small file.

    Raises:
        OSError: it can't be read, or is larger than ``LARGEST_TEXT``.
        UnicodeDecodeError: it is no text.
    """
    with path.open("rb") as file:
        content = file.read(LARGEST_TEXT + 1)
    if len(content) > LARGEST_TEXT:
        raise OSError(errno.EFBIG, f"it has more than {LARGEST_TEXT:,} bytes, which no such file has", str(path))
    return content.decode("utf-8")


def read_json(path: Path) -> Any:
    """What a small JSON file holds.

    Raises:
        OSError: as :func:`read_text`.
        ValueError: it is no JSON, or holds a number that is not finite.
    """
    try:
        return json.loads(read_text(path), parse_constant=_refuse_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_number(word: str) -> float:
    raise ValueError(f"it holds the number {word}")


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside the place, flush to the disk, then move into place: a reader sees the old file or the new one.

    Once this returns, the disk keeps the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = temporary(path)
    try:
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        flush(path.parent)
    except OSError:
        with contextlib.suppress(OSError):  # the first error is the one to be told
            new.unlink(missing_ok=True)
        raise


def replace_directory(new: Path, place: Path) -> None:
    """Move the finished directory ``new`` to ``place``; the one before stays, as ``<place>.old``.

    Whatever moment the process is killed at, one of the two is whole.
    """
    flush(new)
    old, older = place.with_name(f"{place.name}.old"), temporary(place.with_name(f"{place.name}.old"))
    if place.exists():
        if old.exists():
            _remove(older)
            old.rename(older)  # at once, which removing it is not
        place.rename(old)
    new.rename(place)
    flush(place.parent)
    _remove(older)


def flush(place: Path) -> None:
    """Have the disk keep a file, or the names in a directory (for which Windows has no call)."""
    if place.is_dir() and os.name == "nt":
        return
    handle = os.open(place, os.O_RDONLY if place.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def temporary(place: Path) -> Path:
    """Where this process writes what is then moved to ``place``."""
    return place.with_name(f".{place.name}.{os.getpid()}.tmp")


def _is_leftover(place: Path) -> bool:
    """Whether it is a :func:`temporary` of a process that was killed."""
    return re.fullmatch(r"\..+\.\d+\.tmp", place.name) is not None


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)

"""Where files of named sets are found, and how they are fetched."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ancestral.errors import AncestralError

log = logging.getLogger("ancestral.data")


@dataclass(frozen=True)
class Remote:
    """One official file: its name, mirrors in the order in which they are tried, and checksum."""

    file: str
    mirrors: tuple[str, ...]
    together: tuple[str, ...] = ()
    """All files of the set, if there are more than this one."""
    checksum: str = ""
    """``sha256:...`` or ``md5:...``; empty where none is known: then only the contents are checked."""


def cache_folder() -> Path:
    """The user's cache folder for data sets."""
    import pooch

    return Path(pooch.os_cache("ancestral")) / "data"


def data_folder() -> Path | None:
    """The folder that ``ANCESTRAL_DATA`` names, or None."""
    text = os.environ.get("ANCESTRAL_DATA", "")
    return Path(os.path.expanduser(text)) if text else None  # pathlib's own raises where there is no such user


def search(folders: Iterable[str], files: Iterable[str]) -> Path | None:
    """The first of ``files`` in a folder of ``ANCESTRAL_DATA``, there directly, or in the cache."""
    roots: list[Path] = []
    if (given := data_folder()) is not None:
        roots += [given / folder for folder in folders] + [given]
    roots += [cache_folder() / folder for folder in folders]
    return next((root / file for root in roots for file in files if (root / file).is_file()), None)


def folder_of(name: str) -> Path | None:
    """The folder that holds files of the named set on this machine, or None."""
    roots = [root for root in (data_folder(), cache_folder()) if root is not None]
    folders = [root / word for root in roots for word in (name.replace("-", "_"), name)]
    return next((folder for folder in folders if folder.is_dir() and any(folder.iterdir())), None)


def fetch(name: str, remote: Remote, folder: Path | None = None) -> Path:
    """Download a file of the set ``name`` to the cache: the first mirror that serves the right bytes.

    The file appears in ``folder`` whole or not at all.

    Raises ``AncestralError`` if no mirror does, saying which file to put where.
    """
    import pooch

    folder = folder or cache_folder() / name
    failures = []
    for url in remote.mirrors:
        try:
            log.info("downloading %s", url)
            path = pooch.retrieve(
                url,
                known_hash=remote.checksum or None,
                fname=remote.file,
                path=folder,
                downloader=pooch.HTTPDownloader(timeout=30),
            )
        except (OSError, ValueError) as error:  # no connection or no such page; wrong checksum
            failures.append(f"  {url}: {_reason(error)}")
            continue
        if not remote.checksum:
            log.warning(
                "%s: no checksum is known for %s; its contents are checked when read", name, remote.file
            )
        return Path(path)
    given = data_folder()
    folder = (given or Path("$ANCESTRAL_DATA")) / name
    files = remote.together or (remote.file,)
    raise AncestralError(
        f"{name} is not on this machine and {remote.file} could not be downloaded:\n"
        + "\n".join(failures)
        + f"\nPut {'this file' if len(files) == 1 else 'these files'} in place:\n"
        + "\n".join(f"  {folder / file}" for file in files)
        + ("" if given else "\nwhere the environment variable ANCESTRAL_DATA names a folder of yours.")
    )


def _reason(error: Exception) -> str:
    if isinstance(error, ValueError) and "hash" in str(error).lower():
        return "its checksum is not that of the official file"
    if type(error).__name__ == "ConnectionError":
        return "no connection"
    return f"{type(error).__name__}: {error}".splitlines()[0]

"""What all readers share: untrusted bytes go to a library, and whatever it meets becomes one error in words."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

from ancestral.errors import AncestralError


@contextlib.contextmanager
def reading(path: Path, cure: str, form: str = "") -> Iterator[None]:
    """Raise ``AncestralError`` for whatever a library raises at the contents of a file.

    The parsers of numpy, zipfile, Pillow, Arrow and SciPy promise no type of error: bytes that nobody foresaw end in a
    ``KeyError`` or a ``struct.error`` as well as in a ``ValueError``. So the block holds their calls and nothing else.
    Warnings of theirs are not shown, as what was read is checked here.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (AncestralError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
        raise AncestralError(f"{path} can't be read{form and f' as {form}'}: {reason}. {cure}") from error


def check_is_file(path: Path) -> None:
    """Raise ``AncestralError`` for a pipe, a socket or a device, from which reading may never end."""
    if not path.is_file():
        raise AncestralError(f"{path} is no file: a broken link, a pipe or a device. Put the data themselves there.")

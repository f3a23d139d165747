"""Errors a person meets: what happened, what was seen, and the cure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

OUT_OF_MEMORY = (
    "out of memory", "not enough memory", "can't allocate memory", "Cannot allocate memory", "overflowed with sizes",
)  # fmt: skip
"""What torch says when memory runs out, on a GPU and on a CPU, or when even the number of bytes is too large."""


class AncestralError(Exception):
    """An error with a message written for the person who meets it.

    The command line prints its text and no traceback.
    """


class ShapeError(AncestralError, ValueError):
    """A tensor whose shape breaks the contract ``(*particles, batch)``."""


class EstimatorError(AncestralError, TypeError):
    """A gradient estimator that is not valid for the variable or objective it was asked for."""


class GraphError(AncestralError, ValueError):
    """A joint distribution whose graph is not a directed acyclic graph over known variables."""


def memory_ran_out(error: Exception) -> bool:
    """Whether that is what an error says. Torch's own is a RuntimeError, on the CPU without a name of its own."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in OUT_OF_MEMORY)


def nearest(word: str, known: Iterable[str]) -> str:
    """A sentence naming the closest of ``known`` to ``word``, then all of them: the end of an error message."""
    options = sorted(known)
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    suggestion = f"Did you mean {close[0]!r}? " if close else ""
    return f"{suggestion}Known: {', '.join(options)}." if options else suggestion.strip()

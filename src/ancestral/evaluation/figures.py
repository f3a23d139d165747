"""Figures with provenance: a number and all that is needed to know what it means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured quantity."""

    name: str
    value: float
    unit: str
    kind: str
    """``exact``, ``lower bound``, ``upper bound``, ``estimate`` or ``part of a bound``."""
    estimator: str
    """How it was computed, in words."""
    standard_error: float | None = None
    """Of the mean over datapoints."""
    datapoints: int = 0
    particles: int = 0
    data: str = ""
    """Name, split and preparation of the data."""
    digest: str = ""
    """SHA-256 of the rows."""
    seed: int = 0
    likelihood: str = ""
    monte_carlo_error: float | None = None
    """Of the value, from the draws at these datapoints: how far another seed may lie off, as a standard error."""
    acceptance: float | None = None
    """The mean probability with which Hamiltonian Monte Carlo accepted."""


def beside(before: Sequence[Figure], new: Sequence[Figure]) -> list[Figure]:
    """New figures with those before that are of the same rows and were computed in another way.

    The importance-weighted bound comes first, by which runs are compared.

    Args:
        before: figures of the same weights.
        new: one at least, the first of which is of the rows.
    """
    ways = {_way(figure) for figure in new}
    rows = (new[0].data, new[0].digest)
    kept = [figure for figure in before if _way(figure) not in ways]
    kept = [figure for figure in kept if (figure.data, figure.digest) == rows or not figure.digest]
    by_bound = any(figure.estimator.startswith("importance-weighted") for figure in kept)
    return [*kept, *new] if by_bound else [*new, *kept]


def _way(figure: Figure) -> tuple[str, str]:
    """What is measured and how, whatever the settings."""
    return figure.name, figure.estimator.partition(" ")[0]

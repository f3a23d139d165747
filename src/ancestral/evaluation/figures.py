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


def counted(number: int, noun: str) -> str:
    """``1 row``, ``2 rows``."""
    return f"{number} {noun}" + "s" * (number != 1)


def beside(before: Sequence[Figure], new: Sequence[Figure]) -> list[Figure]:
    """New figures, with those before that they don't replace.

    A figure is replaced by one of the same quantity, computed in the same way. The first figures, of likelihoods, are
    compared with each other: where the new ones are of other rows, those before go. What is measured on rows of its
    own, such as a gap or a score of other data, stays. The importance-weighted bound comes first, by which runs are
    compared.

    Args:
        before: figures of the same weights.
        new: one at least.
    """
    ways = {_way(figure) for figure in new}
    kept = [figure for figure in before if _way(figure) not in ways]
    if kept and _rows(before[0]) != _rows(new[0]):
        kept = [figure for figure in kept if _rows(figure) != _rows(before[0])]
    by_bound = any(figure.estimator.startswith("importance-weighted") for figure in kept)
    return [*kept, *new] if by_bound else [*new, *kept]


def _rows(figure: Figure) -> tuple[str, str]:
    """Which rows it is of, and how they were prepared."""
    return figure.data, figure.digest


def _way(figure: Figure) -> tuple[str, str]:
    """What is measured and how, whatever the settings."""
    return figure.name, figure.estimator.partition(" ")[0]

"""Figures with provenance: a number and all that is needed to know what it means."""

from __future__ import annotations

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

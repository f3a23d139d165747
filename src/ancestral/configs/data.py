"""What is asked of the data, and what a model must know of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ancestral.errors import AncestralError, nearest

Binarization = Literal["auto", "none", "threshold", "static", "dynamic"]
Dequantization = Literal["auto", "yes", "no"]

HIDDEN = -1
"""Stands for the label of a row whose label is hidden, or not known."""


@dataclass(frozen=True)
class DataConfig:
    """How a data set is split and prepared."""

    binarization: Binarization = "auto"
    """Make pixels 0 or 1: none, threshold (at one half), or draw them with the grey level as the probability
    of 1, static (once, by the split seed) or dynamic (anew each epoch). auto: as the literature does."""
    dequantize: Dequantization = "auto"
    """Add uniform noise of one grey level, for continuous densities. auto: as the model needs."""
    validation: float = 0.05
    """Part of the training rows held out for validation, unless the set has an official validation split. A
    model without a validation loss, such as the GAN, holds out none by default."""
    test: float = 0.15
    """Part of the rows held out for the test, unless the set has an official test split."""
    split_seed: int = 0
    """Seed of the splits and of static binarization."""
    train_limit: int = 0
    """Train on this many rows only, drawn after the split; 0: on all."""
    labels: int = 0
    """Keep the labels of this many training rows, as many of each class, drawn by the split seed, and hide the others'
    from a model that learns with few (m2); 0: hide none. In your own data, -1 is the label of a row that has none."""
    labels_per_batch: int = 10
    """Rows with a label that are added to each batch where others have none: those are passed through once in an epoch,
    these in turn, as often as it takes."""

    def __post_init__(self) -> None:
        for field, known in (
            ("binarization", ("auto", "none", "threshold", "static", "dynamic")),
            ("dequantize", ("auto", "yes", "no")),
        ):
            value = getattr(self, field)
            if value not in known:
                raise AncestralError(f"{field} can't be {value!r}. {nearest(str(value), known)}")
        for field in ("validation", "test"):
            value = getattr(self, field)
            if not (math.isfinite(value) and 0 <= value < 1):
                raise AncestralError(f"{field} is a part of the rows and was {value}; give a number in [0, 1).")
        if self.validation + self.test >= 1:
            raise AncestralError(
                f"validation ({self.validation}) and test ({self.test}) leave no rows to train on; "
                "make their sum less than 1."
            )
        for field in ("split_seed", "train_limit", "labels"):
            value = getattr(self, field)
            if value < 0:
                raise AncestralError(f"{field} was {value}; give 0 or a positive whole number.")
        if self.labels_per_batch < 1:
            raise AncestralError(f"labels_per_batch was {self.labels_per_batch}; give a positive whole number.")
        if 0 < self.labels < self.labels_per_batch:
            raise AncestralError(
                f"labels_per_batch is {self.labels_per_batch}, but only {self.labels} rows have a label: use "
                f"--labels-per-batch {self.labels} or less."
            )


@dataclass(frozen=True)
class DataDescription:
    """All that a model must know of the data it is given; kept in the run folder."""

    shape: tuple[int, ...]
    """One datapoint: (channels, height, width) for images, (features,) for tables."""
    kind: Literal["binary", "levels", "continuous"]
    """What a batch contains: 0 or 1; k / (levels - 1) for a grey level k; real values."""
    levels: int = 0
    """Number of grey levels of the rows as they are stored; 2 for binary rows, 0 for real values."""
    classes: int = 0
    """Number of classes when labels are known, else 0."""
    offset: tuple[float, ...] = ()
    """Tables: a batch holds (original - offset) / scale; the mean of each column over the training rows."""
    scale: tuple[float, ...] = ()
    """Tables: the standard deviation of each column over the training rows, 1 for a constant column."""
    columns: tuple[str, ...] = ()
    """Names of the columns of a table whose file has a header."""
    labeled: float = 1.0
    """The part of the training rows whose label is known, where there are labels."""

    def __post_init__(self) -> None:
        # A run folder's file has lists where these have tuples.
        for field in ("shape", "offset", "scale", "columns"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        for field, good, rule in (
            ("shape", self.shape and min(self.shape) > 0, "sizes of 1 or more"),
            ("kind", self.kind in ("binary", "levels", "continuous"), "binary, levels or continuous"),
            ("levels", 0 <= self.levels <= 256, "at least 0 and at most 256"),
            ("classes", self.classes >= 0, "0 or more"),
            ("offset", all(map(math.isfinite, self.offset)), "finite numbers"),
            ("scale", all(0 < value < math.inf for value in self.scale), "positive numbers"),
            ("labeled", 0 <= self.labeled <= 1, "at least 0 and at most 1"),
        ):
            if not good:
                raise AncestralError(f"{field} of the data is {getattr(self, field)!r}, but must be {rule}.")
        if len({len(values) for values in (self.offset, self.scale) if values} - {self.shape[0]}):
            raise AncestralError(
                f"offset and scale of the data are {len(self.offset)} and {len(self.scale)} numbers, but must be one "
                f"for each of the {self.shape[0]} columns."
            )


def check_labels(raw: DataDescription, model: str) -> None:
    """Raise unless the data have labels from which a model of that name can learn.

    Raises:
        AncestralError: there are none, of one class alone, or none in the training rows.
    """
    if raw.classes < 2:
        seen = "all have one label, if any (-1 says that none is known)" if raw.classes else "have none"
        raise AncestralError(f"{model} learns from labels, of two classes or more, but these data {seen}. Use vae.")
    if not raw.labeled:
        raise AncestralError(
            f"{model} learns from labels, but none of the training rows has one, only rows that are held out. Use "
            "another --split-seed, hold out fewer rows with --validation or --test, or use vae."
        )

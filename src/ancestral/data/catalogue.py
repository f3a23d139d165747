"""The named data sets: what they are. Nothing here reads a file or imports an array library."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NamedSet:
    """One line of ``ancestral list``."""

    name: str
    description: str
    shape: tuple[int, ...]
    """One datapoint: (channels, height, width)."""
    train: int
    """Rows to train on, before validation rows are held out; all rows if there is no official test split."""
    validation: int
    """Rows of the official validation split, 0 if there is none."""
    test: int
    """Rows of the official test split, 0 if there is none."""
    classes: int
    """Number of classes of the labels, 0 if there are none."""
    license: str


_SETS = (
    NamedSet(
        "digits", "handwritten digits in 17 grey levels, shipped with scikit-learn",
        (1, 8, 8), 1797, 0, 0, 10, "CC BY 4.0 (UCI)",
    ),
    NamedSet(
        "mnist", "handwritten digits, binarized dynamically unless asked otherwise",
        (1, 28, 28), 60000, 0, 10000, 10, "CC BY-SA 3.0",
    ),
    NamedSet(
        "binarized-mnist", "handwritten digits, binarized once; three official splits",
        (1, 28, 28), 50000, 10000, 10000, 10, "CC BY-SA 3.0",
    ),
    NamedSet("fashion-mnist", "ten kinds of clothing", (1, 28, 28), 60000, 0, 10000, 10, "MIT"),
    NamedSet(
        "omniglot", "handwritten characters of 50 alphabets, binarized dynamically unless asked otherwise",
        (1, 28, 28), 19280, 0, 13180, 50, "MIT",
    ),
    NamedSet("frey-faces", "frames of a video of one face", (1, 28, 20), 1965, 0, 0, 0, "not stated"),
    NamedSet("cifar10", "photographs of ten kinds", (3, 32, 32), 50000, 0, 10000, 10, "not stated"),
)  # fmt: skip


def named_sets() -> list[NamedSet]:
    """The data sets that :func:`ancestral.data.load` knows by name."""
    return list(_SETS)

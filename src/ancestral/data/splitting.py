"""Which rows are for training, validation and test: a function of the seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ancestral.configs.data import HIDDEN, DataConfig
from ancestral.errors import AncestralError

Index = NDArray[np.int64]

BLOCKS = 10
"""Number of contiguous blocks in which frames of a video are held out for each split."""


_STREAMS = ("split", "limit", "order", "fresh noise", "fixed noise", "labels", "labeled order")


def stream(purpose: str, *numbers: int) -> np.random.Generator:
    """Random numbers that are a function of the purpose and the numbers alone; no two purposes share any."""
    return np.random.Generator(np.random.SFC64([_STREAMS.index(purpose), len(numbers), *numbers]))


def _counts(n: int, config: DataConfig, has_validation: bool, has_test: bool) -> tuple[int, int]:
    """Rows held out for validation and test: at least one for a part that was asked for, if rows allow."""

    def count(part: float, left: int) -> int:
        return min(max(1, round(part * n)), left) if part > 0 else 0

    test = 0 if has_test else count(config.test, n - 1)
    validation = 0 if has_validation else count(config.validation, n - 1 - test)
    return validation, test


def random_split(
    n: int, config: DataConfig, has_validation: bool = False, has_test: bool = False
) -> tuple[Index, Index, Index]:
    """Rows ``0..n-1`` of train, validation and test, drawn at random, each in the order of the file.

    A split that comes from elsewhere (``has_validation``, ``has_test``) takes no rows here.
    """
    validation, test = _counts(n, config, has_validation, has_test)
    order = stream("split", config.split_seed).permutation(n)
    return (
        np.sort(order[validation + test :]),
        np.sort(order[test : validation + test]),
        np.sort(order[:test]),
    )


def block_split(n: int, config: DataConfig) -> tuple[Index, Index, Index]:
    """Frames of a video: validation and test are contiguous blocks among the training frames.

    Adjoining frames of a video are near copies of each other, so that random frames would put copies of the
    training frames into the test.
    """
    validation, test = _counts(n, config, has_validation=False, has_test=False)
    generator = stream("split", config.split_seed)
    blocks: list[tuple[int, int]] = []  # (split, length)
    for split, frames in ((1, validation), (2, test)):
        count = min(BLOCKS, frames)
        blocks += [(split, frames // count + (block < frames % count)) for block in range(count)]
    train = n - validation - test
    # Training frames fill the gaps before, between and after the blocks.
    cuts = np.sort(generator.integers(0, train + 1, len(blocks)))
    gaps = np.diff(cuts, prepend=0, append=train)
    owner: list[NDArray[Any]] = [np.zeros(gaps[-1], np.int64)]
    for gap, block in zip(gaps[:-1], generator.permutation(len(blocks)), strict=True):
        split, length = blocks[block]
        owner += [np.zeros(gap, np.int64), np.full(length, split)]
    splits = np.concatenate(owner)
    return np.flatnonzero(splits == 0), np.flatnonzero(splits == 1), np.flatnonzero(splits == 2)


def limited(train: Index, config: DataConfig) -> Index:
    """At most ``train_limit`` of the training rows, drawn at random, in the order of the file."""
    if config.train_limit == 0 or config.train_limit >= len(train):
        return train
    return np.sort(stream("limit", config.split_seed).permutation(train)[: config.train_limit])


def labeled(y: Index, config: DataConfig, name: str) -> NDArray[np.bool_]:
    """Which training rows, whose labels are ``y``, keep their label: ``labels`` of them, as many of each class.

    Rows that have none are not chosen. What is left over where the classes do not divide the number goes to classes
    drawn at random, one each.

    Raises:
        AncestralError: fewer labels than classes, a class with too few rows, or as many labels as rows that have one.
    """
    has_label = y != HIDDEN
    if config.labels >= has_label.sum():
        those = "" if has_label.all() else " with a label"
        raise AncestralError(
            f"labels is {config.labels}, which has no effect: {name} has {has_label.sum():,} training rows{those}. "
            "Leave --labels out."
        )
    classes, counts = np.unique(y[has_label], return_counts=True)
    if config.labels < len(classes):
        raise AncestralError(
            f"labels is {config.labels}, but {name} has {len(classes)} classes: give at least one for each, --labels "
            f"{len(classes)}."
        )
    generator = stream("labels", config.split_seed)
    shares = np.full(len(classes), config.labels // len(classes))
    shares[generator.permutation(len(classes))[: config.labels % len(classes)]] += 1
    known = np.zeros(len(y), np.bool_)
    order = generator.permutation(len(y))
    for label, share in zip(classes.tolist(), shares.tolist(), strict=True):
        rows = order[y[order] == label]
        if share > len(rows):
            raise AncestralError(
                f"labels is {config.labels}, {share} of each class, but the class {label} of {name} has {len(rows)} "
                f"training rows. Give a lower --labels, at most {counts.min() * len(classes)}."
            )
        known[rows[:share]] = True
    return known

"""From a name or a path to a data set."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ancestral.configs.data import HIDDEN, DataConfig
from ancestral.data.catalogue import named_sets
from ancestral.data.dataset import Dataset, Rows, Split
from ancestral.data.files import FORMS, read_path
from ancestral.data.named import READERS, read_named
from ancestral.data.raw import Raw
from ancestral.data.splitting import block_split, labeled, limited, random_split
from ancestral.errors import AncestralError, nearest

_DEFAULT = DataConfig()


def load(name: str | Path, config: DataConfig = _DEFAULT) -> Dataset:
    """A named set, or the user's own file or folder, split and prepared as ``config`` says.

    Named sets are looked for in the folder that the environment variable ``ANCESTRAL_DATA`` names, then in
    the user's cache, and are downloaded otherwise. A name goes before a file of the same name; write
    ``./mnist`` for the file.

    Raises ``AncestralError`` for an unknown name, a file that can't be read, rows that are no data set, a
    preparation that contradicts the data, or a part to hold out where there is an official split.
    """
    text = str(name)
    if text in READERS:
        return assemble(text, read_named(text), config, source=text)
    path = Path(os.path.expanduser(text))  # pathlib's own raises where there is no such user
    if text and path.exists():
        return assemble(text, read_path(path), config, source=str(path.resolve()))
    if path.suffix or len(path.parts) > 1:
        raise AncestralError(
            f"There is no file or folder {text}. Give a path to {FORMS}, or the name of a data set."
        )
    raise AncestralError(
        f"There is no data set {text!r}. {nearest(text, [known.name for known in named_sets()])} "
        f"Or give a path to {FORMS}."
    )


def assemble(name: str, raw: Raw, config: DataConfig, source: str = "") -> Dataset:
    """Split what was read.

    Raises ``AncestralError`` for a preparation that contradicts the data, or a part to hold out where there
    is an official split.
    """
    for split, official in (("validation", raw.validation), ("test", raw.test)):
        part = getattr(config, split)
        # 0 is no contradiction: the official split takes none of the training rows.
        if official is not None and part not in (0, getattr(_DEFAULT, split)):
            raise AncestralError(
                f"{split} is {part}, which has no effect: {name} has an official {split} split of "
                f"{len(official.x):,} rows. Leave --{split} out."
            )
    n = len(raw.train.x)
    if raw.video:
        train, validation, test = block_split(n, config)
    else:
        train, validation, test = random_split(n, config, raw.validation is not None, raw.test is not None)
    train = limited(train, config)
    sources = [raw.train, raw.validation or raw.train, raw.test or raw.train]
    if raw.validation is not None:
        validation = np.arange(len(raw.validation.x))
    if raw.test is not None:
        test = np.arange(len(raw.test.x))

    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    if raw.standardize:
        mean, deviation = _moments(raw.train.x, train)
        for rows in filter(None, (raw.train, raw.validation, raw.test)):
            _check_range(name, rows.x, mean, deviation)
        offset, scale = tuple(mean.tolist()), tuple(deviation.tolist())
        sources = [Rows(rows.x, rows.y, _Standardize(mean, deviation)) for rows in sources]
    labels = [rows.y for rows in sources if rows.y is not None]
    if config.labels:
        sources[0] = _with_few_labels(name, sources[0], train, config)
    y = sources[0].y
    if config.labels_per_batch != _DEFAULT.labels_per_batch and (y is None or (y[train] != HIDDEN).all()):
        why = f"{name} has no labels" if y is None else f"all labels of {name} are known"
        raise AncestralError(
            f"labels_per_batch is {config.labels_per_batch}, which has no effect: {why}. Leave it out"
            + ("." if y is None else ", or say how many are with --labels.")
        )
    return Dataset(
        name,
        train=Split(sources[0], train),
        validation=Split(sources[1], validation),
        test=Split(sources[2], test),
        requested=config,
        levels=raw.levels,
        usual_binarization=raw.usual_binarization,
        classes=max((int(y.max()) + 1 for y in labels), default=0),
        offset=offset,
        scale=scale,
        columns=raw.columns,
        note=raw.note,
        source=source,
    )


def _with_few_labels(name: str, rows: Rows, train: NDArray[np.int64], config: DataConfig) -> Rows:
    """The same rows, of which but few have a label: what is hidden is not there to be read by mistake."""
    if rows.y is None:
        raise AncestralError(f"labels is {config.labels}, but {name} has no labels. Leave --labels out.")
    known = labeled(rows.y[train], config, name)
    y = np.full(len(rows.y), HIDDEN)
    y[train[known]] = rows.y[train[known]]
    return dataclasses.replace(rows, y=y)


@dataclass(frozen=True)
class _Standardize:
    """``(x - mean) / deviation`` in double precision, then single: large columns (dates) lose nothing."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def __call__(self, rows: NDArray[Any]) -> NDArray[Any]:
        return ((rows - self.mean) / self.deviation).astype(np.float32)


def _check_range(name: str, x: NDArray[Any], mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> None:
    """Raise where a value, once standardized, is beyond single precision."""
    for begin in range(0, len(x), _rows_at_once(x)):
        distance = np.abs((x[begin : begin + _rows_at_once(x)] - mean) / deviation)
        if distance.max() > 1e37:
            row, column = np.unravel_index(np.argmax(distance), distance.shape)
            raise AncestralError(
                f"{name}: row {begin + row}, column {column} (counted from 0) lies {distance.max():.0e} standard "
                "deviations of the training rows away from their mean. Leave the row or the column out."
            )


def _rows_at_once(x: NDArray[Any]) -> int:
    return max(1, 2**22 // int(x.shape[1]))


def _moments(x: NDArray[Any], index: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column over the training rows, a piece of the file at a time."""
    step = _rows_at_once(x)
    pieces = [index[begin : begin + step] for begin in range(0, len(index), step)]
    mean = np.zeros(x.shape[1])
    variance = np.zeros(x.shape[1])
    for piece in pieces:
        mean += x[piece].sum(axis=0, dtype=np.float64) / len(index)
    for piece in pieces:
        variance += np.square(x[piece] - mean).sum(axis=0) / len(index)
    deviation = np.sqrt(variance)
    # Rounding in the mean leaves a constant column a deviation of a few units in the last place.
    constant = deviation <= 1e-12 * np.abs(mean)
    return mean, np.where(constant, 1.0, deviation)

"""Rows, splits, and batches prepared for a model."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ancestral.configs.data import HIDDEN, Binarization, DataConfig, DataDescription, Dequantization
from ancestral.data.splitting import stream
from ancestral.errors import AncestralError, nearest

if TYPE_CHECKING:
    import torch

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")

IN_MEMORY = 256 * 2**20
"""Rows of more bytes than this are read from the disk as they are needed."""

_FIXED_NOISE = 0  # seed of the noise that is the same at every call: rows(), validation and test batches


def _as_stored(rows: NDArray[Any]) -> NDArray[Any]:
    return rows


@dataclass(frozen=True)
class Rows:
    """Rows as they lie in memory or in a file; ``decode`` makes ``uint8`` levels or ``float32`` of some."""

    x: NDArray[Any]
    y: NDArray[np.int64] | None = None
    decode: Callable[[NDArray[Any]], NDArray[Any]] = _as_stored


@dataclass(frozen=True)
class Split:
    """Some of the rows of a source, in order."""

    source: Rows
    index: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.index)

    def take(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Rows at some positions of this split, ``(len(positions), *shape)``.

        Images are ``uint8`` levels, or ``float32`` if they are no grey levels; tables are standardized.
        """
        return np.ascontiguousarray(self.source.decode(self.source.x[self.index[positions]]))

    @property
    def x(self) -> NDArray[Any]:
        """All rows, ``(n, *shape)``: ``uint8`` levels or ``float32``; read into memory at each use."""
        return self.take(np.arange(len(self)))

    @property
    def y(self) -> NDArray[np.int64] | None:
        """Labels ``(n,)`` of all rows, -1 for one that is hidden, or None when there are none."""
        return None if self.source.y is None else self.source.y[self.index]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set: three splits of rows, and how rows become the values that a model sees.

    Rows stay ``uint8`` (images) or as they are in their file (tables); a batch is made by indexing. From a
    grey level ``k`` of ``levels`` levels a batch holds

    - ``k / (levels - 1)`` without binarization (kind "levels");
    - 1 with probability ``k / (levels - 1)``, exactly, else 0, for static and dynamic binarization (kind
      "binary");
    - whether ``k / (levels - 1) > 1/2`` for threshold binarization (kind "binary");
    - ``(k + u) / levels`` with ``u`` uniform on (0, 1) when dequantized (kind "continuous"): a density of
      these values bounds the probability of the levels (Theis, van den Oord and Bethge, 2016, section 3.1).

    ``requested`` is the configuration as it was asked for, ``config`` has no "auto" left. ``note`` says what
    is particular about these rows and belongs beside any figure computed from them. ``source`` is where
    :func:`ancestral.data.load` finds them again: the name of a set or an absolute path, empty for rows that
    were assembled in memory. ``adds_labeled`` says whether rows with a label are added to training batches where
    others have none, for a model that learns from both.

    Raises ``AncestralError`` if the preparation asked for contradicts the data.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    requested: DataConfig
    levels: int
    usual_binarization: Literal["none", "dynamic"] = "none"
    classes: int = 0
    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    columns: tuple[str, ...] = ()
    note: str = ""
    source: str = ""
    adds_labeled: bool = True
    _digests: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    _noises: dict[str, NDArray[Any]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        _resolved(self)

    @cached_property
    def config(self) -> DataConfig:
        """The configuration in force: no "auto" left."""
        return _resolved(self)

    @cached_property
    def description(self) -> DataDescription:
        """What a model must know of the data as they are prepared."""
        kind: Literal["binary", "levels", "continuous"]
        if self.levels == 0 or self.config.dequantize == "yes":
            kind = "continuous"
        elif self.levels == 2 or self.config.binarization != "none":
            kind = "binary"
        else:
            kind = "levels"
        return DataDescription(
            shape=self.train.take(np.arange(1)).shape[1:],
            kind=kind,
            levels=self.levels,
            classes=self.classes,
            offset=self.offset,
            scale=self.scale,
            columns=self.columns,
            labeled=1.0 if self.train.y is None else len(self._labeled) / max(1, len(self.train)),
        )

    def prepared(
        self, binarization: Binarization | None = None, dequantize: Dequantization | None = None
    ) -> Dataset:
        """The same rows (not copied) under another preparation; None keeps what was asked for before."""
        changes: dict[str, Any] = {"binarization": binarization, "dequantize": dequantize}
        changes = {name: value for name, value in changes.items() if value is not None}
        return dataclasses.replace(self, requested=dataclasses.replace(self.requested, **changes))

    def batches(
        self,
        split: SplitName,
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        start: int = 0,
        shuffle: bool | None = None,
        drop_last: bool = False,
        device: str | torch.device = "cpu",
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """Batches ``x`` float32 ``(batch, *shape)`` and labels ``y`` int64 ``(batch,)``, None without labels.

        A row whose label is hidden or not known has -1. Where there are such rows, and ``adds_labeled``,
        ``labels_per_batch`` rows that have one follow the ``batch_size`` rows of a shuffled training batch, in an order
        that is a function of ``seed`` and ``epoch`` too.

        The order is a function of ``seed`` and ``epoch`` alone; ``shuffle`` is on for the training split and
        off for the others unless given. ``start`` is the index of the first batch, to continue an epoch:
        batch ``i`` is the same whatever ``start`` is. Noise of a training batch is a function of ``(seed,
        epoch, i)``, that of validation and test rows is fixed, whatever the size of the batches.

        Raises ``AncestralError`` for an unknown split, a number out of range, or fewer rows with a label than are to be
        added.
        """
        part = self._split(split)
        if batch_size < 1:
            raise AncestralError(f"batch_size was {batch_size}; give at least 1.")
        for word, number in (("seed", seed), ("epoch", epoch), ("start", start)):
            if number < 0:
                raise AncestralError(f"{word} was {number}; give 0 or a positive whole number.")
        shuffled = split == "train" if shuffle is None else shuffle
        order = stream("order", seed, epoch).permutation(len(part)) if shuffled else np.arange(len(part))
        count = len(part) // batch_size if drop_last else -(-len(part) // batch_size)
        few = split == "train" and shuffled and self.added
        with_labels = self._labeled_order(count, seed, epoch) if few else None

        def produce() -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
            for batch in range(start, count):
                positions = order[batch * batch_size : (batch + 1) * batch_size]
                if with_labels is not None:
                    positions = np.concatenate([positions, with_labels[batch]])
                values = part.take(positions)
                noise: NDArray[Any] | None
                if split == "train" and self._is_noisy and self.config.binarization != "static":
                    noise = self._draw(stream("fresh noise", seed, epoch, batch), values.shape)
                else:
                    noise = self._fixed_noise(split, positions, values.shape[1:])
                yield self._tensor(values, noise, device), _labels(part, positions, device)

        return produce()

    @property
    def added(self) -> int:
        """Rows with a label that are added to each training batch: none, unless there are rows with and without."""
        return self.config.labels_per_batch if self.adds_labeled and 0 < len(self._labeled) < len(self.train) else 0

    @cached_property
    def _labeled(self) -> NDArray[np.int64]:
        """Positions of the training rows with a label."""
        return np.flatnonzero(self.train.y != HIDDEN) if self.train.y is not None else np.arange(0)

    def _labeled_order(self, batches: int, seed: int, epoch: int) -> NDArray[np.int64]:
        """Positions of rows with a label, ``(batches, labels_per_batch)``: all of them in turn, in a new order each."""
        positions = self._labeled
        if self.added > len(positions):
            raise AncestralError(
                f"labels_per_batch is {self.added}, but only {len(positions)} of the training rows of {self.name} have "
                f"a label: use --labels-per-batch {len(positions)} or less."
            )
        size = batches * self.added
        turns = np.tile(positions, (-(-size // len(positions)), 1))
        order = stream("labeled order", seed, epoch).permuted(turns, axis=1)
        return order.ravel()[:size].reshape(batches, self.added)

    def rows(self, split: SplitName, indices: ArrayLike | Sequence[int]) -> torch.Tensor:
        """Prepared rows ``(len(indices), *shape)`` of a split, float32; the same at every call.

        Raises ``AncestralError`` for an index beyond the split.
        """
        part = self._split(split)
        positions = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(positions) and (positions.min() < 0 or positions.max() >= len(part)):
            raise AncestralError(
                f"The {split} split of {self.name} has {len(part)} rows; asked for row "
                f"{positions.min() if positions.min() < 0 else positions.max()}. Rows count from 0."
            )
        values = part.take(positions)
        return self._tensor(values, self._fixed_noise(split, positions, values.shape[1:]), "cpu")

    def digest(self, split: SplitName) -> str:
        """SHA-256 (hexadecimal) of what ``rows`` gives: shape, preparation, seed of the noise, and the stored rows."""
        part = self._split(split)
        if split not in self._digests:
            shape = (len(part), *self.description.shape)
            config = self.config
            seed = config.split_seed if config.binarization == "static" else _FIXED_NOISE
            noise = f" noise {seed}" if self._is_noisy else ""
            heading = f"{shape} {self.description.kind} {self.levels} {config.binarization}{noise}"
            sha256 = hashlib.sha256(heading.encode())
            step = max(1, 2**24 // max(1, math.prod(shape[1:])))
            for begin in range(0, len(part), step):
                positions = np.arange(begin, min(begin + step, len(part)))
                values = part.take(positions)
                # The noise is a function of its seed, which is named above: the stored rows identify the rest.
                sha256.update(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
            self._digests[split] = sha256.hexdigest()
        return self._digests[split]

    def to_original(self, x: torch.Tensor | NDArray[Any]) -> NDArray[Any]:
        """What a model sees, ``(..., *shape)``, in the units of the data: ``uint8`` levels or real values."""
        return to_original(self.description, x)

    def _split(self, split: str) -> Split:
        if split not in SPLITS:
            raise AncestralError(f"There is no split {split!r}. {nearest(str(split), SPLITS)}")
        return cast("Split", getattr(self, split))

    @property
    def _is_noisy(self) -> bool:
        return self.config.dequantize == "yes" or self.config.binarization in ("static", "dynamic")

    def _draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
        """Whole numbers from which the noise of rows of this shape is made."""
        size = math.prod(shape)
        if self.config.dequantize == "yes":
            return _random_bytes(generator, 2 * size).view("<u2").reshape(shape)
        # Uniform on {0, ..., levels - 2}: it is less than level k with probability exactly k / (levels - 1).
        if self.levels < 256:
            return generator.integers(0, self.levels - 1, shape, dtype=np.uint8)
        # Bytes, of which 255 is drawn again, take a third of the time of integers(0, 255).
        noise = _random_bytes(generator, size)
        again = np.flatnonzero(noise == 255)
        while len(again):
            noise[again] = _random_bytes(generator, len(again))
            again = again[noise[again] == 255]
        return noise.reshape(shape)

    def _fixed_noise(
        self, split: SplitName, positions: NDArray[np.int64], shape: tuple[int, ...]
    ) -> NDArray[Any] | None:
        """Noise that is a function of the positions alone; kept in memory if that of the split fits."""
        if not self._is_noisy:
            return None
        seed = self.config.split_seed if self.config.binarization == "static" else _FIXED_NOISE

        def draw(rows: NDArray[np.int64]) -> NDArray[Any]:
            number = SPLITS.index(split)
            noise = [self._draw(stream("fixed noise", seed, number, row), shape) for row in rows.tolist()]
            return np.stack(noise) if noise else np.empty((0, *shape), np.uint8)

        size = len(self._split(split))
        item = 2 if self.config.dequantize == "yes" else 1
        if item * size * math.prod(shape) > IN_MEMORY:
            return draw(positions)
        if split not in self._noises:
            self._noises[split] = draw(np.arange(size))
        return self._noises[split][positions]

    def _prepare(self, values: NDArray[Any], noise: NDArray[Any] | None) -> NDArray[Any]:
        """Bits and levels as ``uint8``, real values as ``float32``."""
        if noise is None:
            if self.config.binarization == "threshold":
                return (values > (self.levels - 1) // 2).view(np.uint8)
            return values
        if self.config.dequantize == "no":
            return (noise < values).view(np.uint8)
        # The noise is an odd multiple of 2^-16, so that 255 + u is exact in 24 bits and never rounds to 256.
        fine = np.left_shift(values, 16, dtype=np.int32) + (noise | np.uint16(1))
        x: NDArray[Any] = fine.astype(np.float32)
        x /= np.float32(self.levels * 2**16)
        return x

    def _tensor(
        self, values: NDArray[Any], noise: NDArray[Any] | None, device: str | torch.device
    ) -> torch.Tensor:
        import torch

        # Bytes travel to the device; they become floating point numbers there.
        x = torch.from_numpy(self._prepare(values, noise)).to(device).to(torch.float32)
        return x.div_(self.levels - 1) if self.description.kind == "levels" else x


def to_original(data: DataDescription, x: torch.Tensor | NDArray[Any]) -> NDArray[Any]:
    """What a model of such data sees, ``(..., *shape)``, in their units: ``uint8`` levels or real values."""
    values = np.asarray(x.detach().cpu().numpy() if hasattr(x, "detach") else x, dtype=np.float64)
    if data.levels == 0:
        return values * np.array(data.scale) + np.array(data.offset) if data.scale else values
    dequantized = data.kind == "continuous"
    levels = np.floor(values * data.levels) if dequantized else np.rint(values * (data.levels - 1))
    return np.clip(levels, 0, data.levels - 1).astype(np.uint8)


def _resolved(data: Dataset) -> DataConfig:
    """The configuration without "auto", or an error if it contradicts the data."""
    asked = data.requested
    binarization, dequantize = asked.binarization, asked.dequantize
    if dequantize == "auto":
        dequantize = "no"
    if dequantize == "yes" and binarization not in ("auto", "none"):
        raise AncestralError(
            f"{binarization} binarization leaves two values and dequantization wants grey levels: "
            "they exclude each other. Ask for one of them."
        )
    if data.levels == 0 and binarization not in ("auto", "none"):
        raise AncestralError(
            f"{data.name} holds real values, not grey levels or bits, so there is nothing for {binarization} "
            "binarization to draw from. Leave binarization at none, and use a likelihood of real values."
        )
    if data.levels == 0 and dequantize == "yes":
        raise AncestralError(
            f"{data.name} holds real values, which are continuous already. Leave dequantize at no."
        )
    if data.levels in (0, 2) or dequantize == "yes":
        binarization = "none"
    elif binarization == "auto":
        binarization = data.usual_binarization
    return dataclasses.replace(asked, binarization=binarization, dequantize=dequantize)


def _random_bytes(generator: np.random.Generator, count: int) -> NDArray[np.uint8]:
    words = generator.integers(0, 2**64, -(-count // 8), dtype=np.uint64)
    return words.astype("<u8", copy=False).view(np.uint8)[:count]


def _labels(part: Split, positions: NDArray[np.int64], device: str | torch.device) -> torch.Tensor | None:
    import torch

    if part.source.y is None:
        return None
    return torch.from_numpy(part.source.y[part.index[positions]]).to(device)

"""The user's own files: arrays and tables. Folders of images are in ``images``."""

from __future__ import annotations

import csv
import math
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ancestral.configs.data import HIDDEN
from ancestral.data.dataset import IN_MEMORY, Rows
from ancestral.data.images import read_image_folder
from ancestral.data.raw import Raw
from ancestral.data.reading import check_is_file, reading
from ancestral.errors import AncestralError

Array = NDArray[Any]

FORMS = ".npy, .npz, .csv, .parquet or a folder of images"

_LARGEST = 1e37  # squares of this fit in double precision, the value itself in single
_LABELS_OF = {"x": "y", "X": "y", "x_train": "y_train", "x_test": "y_test"}
_DAMAGE = "It may be cut short, or hold Python objects, which are never loaded; "
_LARGEST_RATIO = 1032  # of an array and its archive, by deflate


def read_path(path: Path) -> Raw:
    """Rows of a file or a folder.

    Raises ``AncestralError`` if the file is of no known form, damaged, or holds nothing to learn from.
    """
    if path.is_dir():
        return read_image_folder(path)
    readers = {".npy": _read_npy, ".npz": _read_npz, ".csv": _read_csv, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise AncestralError(
            f"{path} ends in {path.suffix or 'nothing'}, which is not read here. Give a path to {FORMS}."
        )
    check_is_file(path)
    return reader(path)


# --- arrays ---------------------------------------------------------------------------------------


def _read_npy(path: Path) -> Raw:
    with reading(path, _DAMAGE + "save an array of numbers with numpy.save.", "an array"):
        # Mapping compares the size that the heading claims with that of the file and allocates nothing.
        x: Array = np.lib.format.open_memmap(path, mode="r")
    return interpret(path, [np.array(x) if x.nbytes <= IN_MEMORY else x])


def _read_npz(path: Path) -> Raw:
    def wanted(keys: set[str]) -> list[str]:
        x = next((key for key in ("x", "X") if key in keys), None)  # scikit-learn writes X
        names = [x] if x else ["x_train", "x_test"]
        if not keys.issuperset(names):
            raise AncestralError(
                f"{path} has no array x; it has {', '.join(sorted(keys)) or 'none'}. Save it with "
                "numpy.savez(path, x=rows) or numpy.savez(path, x=rows, y=labels), "
                "or with x_train, x_test, y_train and y_test."
            )
        return names + [label for name in names if (label := _LABELS_OF[name]) in keys]

    arrays = read_archive(path, _DAMAGE + "save arrays of numbers with numpy.savez.", wanted)
    names = [name for name in _LABELS_OF if name in arrays]
    return interpret(path, [arrays[name] for name in names], [arrays.get(_LABELS_OF[name]) for name in names])


def read_archive(path: Path, cure: str, wanted: Callable[[set[str]], Iterable[str]]) -> dict[str, Array]:
    """The arrays of a .npz file of which ``wanted``, given all names, returns the name.

    Raises ``AncestralError`` for a damaged file, Python objects, or an array larger than the memory.
    """
    with reading(path, cure), zipfile.ZipFile(path) as archive:
        keys = {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
        return {key: _npz_array(path, archive, key) for key in wanted(keys)}


def _npz_array(path: Path, archive: zipfile.ZipFile, key: str) -> Array:
    """One array of an archive, after its heading shows that it fits in memory."""
    member = archive.getinfo(f"{key}.npy")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
    size = math.prod(shape) * dtype.itemsize
    if size > member.file_size:
        raise ValueError(f"array {key} claims {size:,} bytes where there are {member.file_size:,}")
    if size > _LARGEST_RATIO * max(1, member.compress_size):
        raise ValueError(f"array {key} claims {size:,} bytes, packed in {member.compress_size:,}")
    if size > _memory():
        raise AncestralError(
            f"Array {key} of {path} is {size:,} bytes, more than this machine's memory. Save it as a .npy "
            "file, which is read from the disk as it is needed."
        )
    with archive.open(member) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _memory() -> int:
    """Bytes of memory of this machine, or a large number where the system doesn't say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**40


# --- what an array means --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Decode:
    """Rows as they are stored to levels (``uint8``) or real values (``float32``)."""

    dtype: type[np.uint8] | type[np.float32]
    factor: int = 1

    def __call__(self, rows: Array) -> Array:
        if self.factor != 1:
            rows = np.rint(rows * self.factor)
        return rows.astype(self.dtype, copy=False)


def interpret(
    path: Path, arrays: list[Array], labels: list[Array | None] | None = None, columns: tuple[str, ...] = ()
) -> Raw:
    """Rows for training, and for the test if there are two arrays: images or a table, bits, grey levels or
    reals.

    Images are ``(n, height, width)``, ``(n, height, width, channels)`` or ``(n, channels, height, width)``,
    a table is ``(n, features)``. Whole numbers 0 to 255, and multiples of 1/255, are grey levels in images;
    other real values stay as they are in images and are standardized in tables; zeros and ones are bits.
    """
    for x in arrays:
        if x.dtype.kind not in "biuf":
            raise AncestralError(f"{path} holds values of type {x.dtype}; convert them to numbers.")
    arrays = [_arranged(path, x) for x in arrays]
    if len({x.shape[1:] for x in arrays}) > 1:
        raise AncestralError(
            f"{path}: x_train has rows of shape {arrays[0].shape[1:]} and x_test of {arrays[1].shape[1:]}; "
            "make them the same."
        )
    if len(arrays[0]) < 2 or min(len(x) for x in arrays) < 1:
        raise AncestralError(
            f"{path} holds {len(arrays[0])} rows to train "
            f"on{' and no test rows' if len(arrays[0]) > 1 else ''}; "
            "a data set has at least 2 rows, one for each datapoint along the first axis."
        )
    levels, decode = _meaning(path, arrays, columns)
    y = _classes(path, arrays, labels or [None] * len(arrays))
    rows = [Rows(x, classes, decode) for x, classes in zip(arrays, y, strict=True)]
    is_table = arrays[0].ndim == 2
    return Raw(
        rows[0],
        test=rows[1] if len(rows) > 1 else None,
        levels=levels,
        standardize=is_table and levels == 0,
        columns=columns,
    )


def _arranged(path: Path, x: Array) -> Array:
    """A table as it is; images as a view ``(n, channels, height, width)``."""
    if x.ndim == 2 or (x.ndim == 3 and 0 not in x.shape[1:]):
        if x.shape[1] == 0:
            raise AncestralError(f"{path} holds rows of shape {x.shape[1:]}, which are empty. Give each a value.")
        return x if x.ndim == 2 else x[:, None]
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise AncestralError(
            f"{path} holds an array of shape {x.shape}; reshape it. A table is (rows, features), images are "
            "(rows, height, width), (rows, height, width, channels) or (rows, channels, height, width)."
        )
    first, last = (x.shape[axis] in (1, 3, 4) for axis in (1, 3))
    if first and last:
        raise AncestralError(
            f"{path} holds an array of shape {x.shape}, whose channels may be its second axis or its last. "
            "Save grey images as (rows, height, width), and colour images with more than 4 pixels a side."
        )
    if not (first or last):
        raise AncestralError(
            f"{path} holds an array of shape {x.shape}, in which neither the second axis nor the last is 1, "
            "3 or 4 channels. Images are (rows, height, width, channels) or (rows, channels, height, "
            "width); reshape it."
        )
    return x if first else np.moveaxis(x, 3, 1)


def _pieces(x: Array) -> Iterator[tuple[int, Array]]:
    """The array, and where each piece begins, in pieces that fit in memory."""
    step = max(1, 2**22 // max(1, math.prod(x.shape[1:])))
    for begin in range(0, len(x), step):
        yield begin, x[begin : begin + step]


def _meaning(path: Path, arrays: list[Array], columns: tuple[str, ...]) -> tuple[int, _Decode]:
    """Number of levels (0 for real values), and how rows are decoded to them."""
    is_table = arrays[0].ndim == 2
    dtype = np.result_type(*arrays)
    if dtype == np.bool_:
        return 2, _Decode(np.uint8)
    if dtype == np.uint8:
        bits = all(piece.max() <= 1 for x in arrays for _, piece in _pieces(x))
        return 2 if bits else 256, _Decode(np.uint8)

    lowest, highest = math.inf, -math.inf
    whole = levels = True  # all are whole numbers; all are multiples of 1/255
    for x in arrays:
        for begin, piece in _pieces(x):
            _check_finite(path, begin, piece, columns)
            lowest, highest = min(lowest, float(piece.min())), max(highest, float(piece.max()))
            whole = whole and (dtype.kind != "f" or bool(np.all(piece == np.rint(piece))))
            if levels and not is_table and piece.dtype.kind == "f" and lowest >= 0 and highest <= 1:
                grey = piece * 255
                levels = bool(np.all(np.abs(grey - np.rint(grey)) <= 255 * np.finfo(piece.dtype).eps))
    if whole and lowest >= 0 and highest <= 1:
        return 2, _Decode(np.uint8)
    if is_table:
        return 0, _Decode(np.float32)
    if whole and lowest >= 0 and highest <= 255:
        return 256, _Decode(np.uint8)
    if dtype.kind != "f":
        raise AncestralError(
            f"{path} holds images of whole numbers from {lowest:.0f} to {highest:.0f}; grey levels are 0 to "
            "255. Rescale them, or save them as floating point numbers if they are not grey levels."
        )
    if levels and lowest >= 0 and highest <= 1:
        return 256, _Decode(np.uint8, factor=255)
    return 0, _Decode(np.float32)


def _check_finite(path: Path, begin: int, piece: Array, columns: tuple[str, ...]) -> None:
    if piece.dtype.kind != "f":
        return
    largest = min(_LARGEST, float(np.finfo(piece.dtype).max))  # half precision ends at 65,504
    sound = np.abs(piece) <= largest  # false for nan
    if sound.all():
        return
    row, *position = (int(i) for i in np.argwhere(~sound)[0])
    value = piece[row, *position]
    where = f"column {columns[position[0]]!r}" if columns else f"position {tuple(position)}"
    raise AncestralError(
        f"{path} holds {value} in row {begin + row}, {where} (counted from 0). "
        "A value must be a finite number below 1e37: fill it, or leave the row out."
    )


def _classes(path: Path, arrays: list[Array], labels: list[Array | None]) -> list[NDArray[np.int64] | None]:
    """Labels as class numbers 0, 1, ... in the order of the distinct values; the number -1 says that none is known."""
    known = [y for y in labels if y is not None]
    if not known:
        return [None] * len(arrays)
    for x, y in zip(arrays, labels, strict=True):
        if y is None:
            raise AncestralError(
                f"{path} has labels for one of x_train and x_test only; save y_train and y_test."
            )
        if y.shape != (len(x),):
            raise AncestralError(
                f"{path} has {len(x)} rows and labels of shape {y.shape}; give one label for each row."
            )
        whole = y.dtype.kind == "f" and np.isfinite(y).all() and np.all(y == np.rint(y))
        if y.dtype.kind not in "biuUS" and not whole:
            raise AncestralError(
                f"{path} has labels of type {y.dtype} that are no classes; labels are whole numbers or "
                "names. Leave y out if it is a quantity."
            )
    together = np.concatenate(known)
    has_label = together != HIDDEN if together.dtype.kind in "if" else np.ones(len(together), np.bool_)
    if not has_label.any():
        return [None] * len(arrays)
    codes = np.full(len(together), HIDDEN, np.int64)
    codes[has_label] = np.unique(together[has_label], return_inverse=True)[1].reshape(-1)
    ends = np.cumsum([len(x) for x in arrays])[:-1]
    return list(np.split(codes, ends))


# --- tables ---------------------------------------------------------------------------------------


def _read_csv(path: Path) -> Raw:
    with reading(path, "Save it as UTF-8.", "text"), path.open(encoding="utf-8-sig", newline="") as file:
        heading = next((line for line in file if line.strip()), "")
        delimiter = max(",;\t", key=re.sub('"[^"]*"', "", heading).count)
        first = next(csv.reader([heading], delimiter=delimiter), [])
        skip = 1 if first and not any(_is_number(cell) for cell in first) else 0
        if not first or (skip and not any(line.strip() for line in file)):
            raise AncestralError(f"{path} has no rows; put one datapoint in each line.")
    columns = tuple(cell.strip() for cell in first) if skip else ()
    cure = "Save it as UTF-8, numbers only, with one datapoint in each line."
    with reading(path, cure, "a table"), path.open(encoding="utf-8-sig") as file:
        lines = (line for line in file if line.strip())
        for _ in range(skip):
            next(lines)
        try:
            x = np.loadtxt(lines, np.float64, delimiter=delimiter, comments=None, quotechar='"', ndmin=2)
        except ValueError:
            if bad := _bad_cell(path, delimiter, columns):
                raise AncestralError(f"{path}: {bad}") from None
            raise
    if columns and len(columns) != x.shape[1]:
        raise AncestralError(
            f"{path} has {len(columns)} names in its first line and {x.shape[1]} cells in the next; make "
            "them agree."
        )
    return interpret(path, [x], columns=columns)


def _is_number(cell: str) -> bool:
    """Whether numpy reads it as a number, which takes no digits but ASCII and nothing between them."""
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and "_" not in cell


def _bad_cell(path: Path, delimiter: str, columns: tuple[str, ...]) -> str:
    """Which cell of a table is no number, in words; empty if all are."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        width = len(columns)
        skipped = not columns
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            width = width or len(cells)
            if not skipped:
                skipped = True
                continue
            if len(cells) != width:
                return f"line {reader.line_num} has {len(cells)} cells, the first {width}; make them agree."
            for at, cell in enumerate(cells):
                if not _is_number(cell):
                    name = f" ({columns[at]})" if columns else ""
                    seen = f"is {cell!r}, which is no number" if cell.strip() else "is empty"
                    return (
                        f"line {reader.line_num}, column {at + 1}{name} {seen}. Fill it, leave the row or "
                        "the column out, or code categories as numbers. A header holds names only."
                    )
    return ""


def _read_parquet(path: Path) -> Raw:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise AncestralError(f'Reading {path} needs pyarrow: pip install "ancestral[parquet]"') from error
    with reading(path, "It may be cut short; write it again.", "Parquet"):
        # Without partitioning=None a folder called a=1 on the way would become a column.
        table = pyarrow.parquet.read_table(path, partitioning=None)
    types = pyarrow.types
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not (
            types.is_integer(column.type) or types.is_floating(column.type) or types.is_boolean(column.type)
        ):
            raise AncestralError(
                f"{path}: column {name!r} holds {column.type}, not numbers. Leave it out, or code it as "
                "numbers."
            )
        if column.null_count:
            raise AncestralError(
                f"{path}: column {name!r} has {column.null_count} missing values. Fill them, or leave the "
                "rows out."
            )
    if not table.column_names:
        raise AncestralError(f"{path} has no columns. Write at least one, of numbers.")
    x = np.column_stack([column.to_numpy().astype(np.float64) for column in table.columns])
    return interpret(path, [x], columns=tuple(table.column_names))

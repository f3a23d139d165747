"""Readers of the user's files and of the named sets, given anything: a sound data set, or one error in words."""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from scipy.io import savemat

from ancestral.configs.data import DataConfig
from ancestral.data import Dataset, load
from ancestral.data.dataset import SPLITS
from ancestral.errors import AncestralError

RANDOM = np.random.default_rng(13)
BYTES = RANDOM.integers(0, 256, (11, 7, 5), dtype=np.uint8)
REALS = RANDOM.normal(3, 2, (11, 3))
ROOM = 2**29
"""Bytes of address space that a reader may take: the valid files need a few thousand."""


@pytest.fixture(scope="module", autouse=True)
def little_memory() -> Iterator[None]:
    """A reader that believes what a heading claims runs out of memory, which is no answer."""
    resource = pytest.importorskip("resource")
    statm = Path("/proc/self/statm")
    if not statm.exists():
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(statm.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@contextlib.contextmanager
def a_place() -> Iterator[Path]:
    """A new folder, which is ANCESTRAL_DATA and holds the cache, and no network."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANCESTRAL_DATA", name)
        patch.setenv("XDG_CACHE_HOME", f"{name}/cache")
        for scheme in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            patch.setenv(scheme, "http://127.0.0.1:9")
        yield Path(name)


def is_sound(data: Dataset) -> bool:
    """Whether every value is finite, in its range and of its shape, and every label is a class."""
    description = data.description
    assert len(data.train) > 0
    for split in SPLITS:
        part = getattr(data, split)
        assert part.x.dtype == (np.float32 if data.levels == 0 else np.uint8)
        rows = data.rows(split, range(len(part)))
        assert rows.shape == (len(part), *description.shape)
        assert torch.isfinite(rows).all()
        if description.kind != "continuous":
            assert ((rows >= 0) & (rows <= 1)).all()
        if part.y is not None:
            assert part.y.shape == (len(part),)
            assert ((part.y >= 0) & (part.y < data.classes)).all()
    return True


def answered(name: str | Path, *, mention: str) -> bool:
    """Whether a data set is read and sound, or is refused in words that name the file."""
    try:
        return is_sound(load(name, DataConfig(validation=0.0)))
    except AncestralError as error:
        return mention in str(error) and len(str(error)) < 2000


# ---- valid files, and what may become of them


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def picture(form: str) -> bytes:
    return saved(lambda file: Image.fromarray(BYTES[0]).save(file, form))


def idx(array: np.ndarray) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def packed(files: dict[str, bytes]) -> bytes:
    def save(buffer: io.BytesIO) -> None:
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))

    return saved(save)


def zipped(files: dict[str, bytes]) -> bytes:
    def save(buffer: io.BytesIO) -> None:
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)

    return saved(save)


TABLE = pyarrow.table({"length": REALS[:, 0], "count": np.arange(11)})
OWN = {
    "x.npy": saved(lambda file: np.save(file, BYTES)),
    "reals.npy": saved(lambda file: np.save(file, REALS)),
    "x.npz": saved(lambda file: np.savez_compressed(file, x=BYTES, y=np.arange(11) % 3)),
    "x.csv": b"weight,\"height, mm\"\n" + b"".join(b"%.3f,%d\n" % (row[0], i) for i, row in enumerate(REALS)),
    "x.parquet": saved(lambda file: pyarrow.parquet.write_table(TABLE, file)),
    "images/b.png": picture("PNG"),
    "images/b.jpg": picture("JPEG"),
    "images/b.gif": picture("GIF"),
    "images/b.bmp": picture("BMP"),
    "images/b.webp": picture("WEBP"),
}
LABELS = np.arange(11, dtype=np.uint8) % 10
SQUARES = RANDOM.integers(0, 256, (11, 28, 28), dtype=np.uint8)
IDX = {
    "train-images-idx3-ubyte": idx(SQUARES),
    "train-labels-idx1-ubyte": idx(LABELS),
    "t10k-images-idx3-ubyte": idx(SQUARES[:3]),
    "t10k-labels-idx1-ubyte": idx(LABELS[:3]),
}
BITS = np.packbits(SQUARES > 127, axis=None).reshape(11, 98)
RECORDS = b"".join(bytes([i]) + RANDOM.bytes(3072) for i in range(3))
COLOURS = RANDOM.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
FREY = RANDOM.integers(0, 256, (11, 28, 20), dtype=np.uint8)
BATCHES = dict.fromkeys((*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"), RECORDS)
NAMED: dict[str, tuple[str, dict[str, bytes]]] = {
    "idx": ("fashion-mnist", {f"fashion_mnist/{name}": content for name, content in IDX.items()}),
    "idx.gz": ("mnist", {f"mnist/{name}.gz": gzip.compress(content) for name, content in IDX.items()}),
    "bits.npz": (
        "binarized-mnist",
        {
            "binarized_mnist.npz": saved(
                lambda file: np.savez(
                    file, train=BITS, valid=BITS, test=BITS, y_train=LABELS, y_valid=LABELS, y_test=LABELS
                )
            )
        },
    ),
    "amat": (
        "binarized-mnist",
        {f"binarized_mnist_{part}.amat": b"0 1 " * 784 for part in ("train", "valid", "test")},
    ),
    "frey.npz": ("frey-faces", {"frey_faces.npz": saved(lambda file: np.savez(file, x=FREY))}),
    "frey.mat": (
        "frey-faces",
        {"frey_rawface.mat": saved(lambda file: savemat(file, {"ff": FREY.reshape(11, 560).T}, do_compression=True))},
    ),
    "cifar.npz": (
        "cifar10",
        {
            "cifar10_15k.npz": saved(
                lambda file: np.savez(
                    file, x_train=COLOURS, y_train=LABELS[:3], x_test=COLOURS[:2], y_test=LABELS[:2]
                )
            )
        },
    ),
    "cifar.tar": ("cifar10", {"cifar-10-binary.tar.gz": packed(BATCHES)}),
    "cifar.bin": ("cifar10", {f"cifar-10-batches-bin/{name}": content for name, content in BATCHES.items()}),
    "omniglot.npz": (
        "omniglot",
        {
            "omniglot28.npz": saved(
                lambda file: np.savez(
                    file,
                    x_background=SQUARES,
                    alphabet_background=LABELS,
                    x_evaluation=SQUARES,
                    alphabet_evaluation=LABELS,
                )
            )
        },
    ),
    "omniglot.zip": (
        "omniglot",
        {
            f"images_{part}.zip": zipped({f"images_{part}/Greek/character0{i}/1.png": picture("PNG") for i in range(3)})
            for part in ("background", "evaluation")
        },
    ),
}

Change = Callable[[bytes], bytes]


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """One damage: bytes cut off, flipped, overwritten, left out or repeated; often in the heading or at the end."""
    kind = draw(st.sampled_from(["cut", "flip", "write", "drop", "repeat"]))
    where = draw(st.one_of(st.integers(0, 200), st.integers(-200, -1), st.integers(0, 2**13)))
    length = draw(st.integers(1, 40))
    content = draw(st.binary(min_size=1, max_size=9)) if kind == "write" else b""
    bit = 1 << draw(st.integers(0, 7))

    def change(old: bytes) -> bytes:
        at = where % max(1, len(old))
        if kind == "cut":
            return old[:at]
        if kind == "flip":
            return old[:at] + bytes(byte ^ bit for byte in old[at : at + 1]) + old[at + 1 :]
        if kind == "write":
            return old[:at] + content + old[at + len(content) :]
        if kind == "drop":
            return old[:at] + old[at + length :]
        return old[: at + length] + old[at:]

    return change


def damaged(content: bytes, damage: list[Change]) -> bytes:
    for change in damage:
        content = change(content)
    return content


def written(place: Path, name: str, content: bytes) -> Path:
    """A file of the user's, or a folder of a whole image and this one; what to load."""
    path = place / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    if path.parent == place:
        return path
    (path.parent / f"a{path.suffix}").write_bytes(OWN[name])
    return path.parent


# ---- what is held


@pytest.mark.parametrize("name", OWN)
def test_the_files_that_are_damaged_here_are_read_while_they_are_whole(name: str) -> None:
    with a_place() as place:
        assert is_sound(load(written(place, name, OWN[name])))


@pytest.mark.parametrize("kind", NAMED)
def test_the_named_sets_that_are_damaged_here_are_read_while_they_are_whole(kind: str) -> None:
    name, files = NAMED[kind]
    with a_place() as place:
        for file, content in files.items():
            (place / file).parent.mkdir(exist_ok=True)
            (place / file).write_bytes(content)
        assert is_sound(load(name))


@pytest.mark.parametrize("name", OWN)
@settings(max_examples=40)
@given(content=st.binary(max_size=300))
def test_bytes_of_any_kind_are_answered(name: str, content: bytes) -> None:
    with a_place() as place:
        assert answered(written(place, name, content), mention=Path(name).parts[0])


@pytest.mark.parametrize("name", OWN)
@settings(max_examples=120)
@given(damage=st.lists(changes(), min_size=1, max_size=3))
def test_a_damaged_file_is_answered(name: str, damage: list[Change]) -> None:
    with a_place() as place:
        assert answered(written(place, name, damaged(OWN[name], damage)), mention=Path(name).parts[0])


@pytest.mark.parametrize("kind", NAMED)
@settings(max_examples=40)
@given(which=st.integers(0, 5), damage=st.lists(changes(), min_size=1, max_size=3))
def test_a_damaged_file_of_a_named_set_is_answered(kind: str, which: int, damage: list[Change]) -> None:
    name, files = NAMED[kind]
    with a_place() as place:
        for i, (file, content) in enumerate(files.items()):
            (place / file).parent.mkdir(exist_ok=True)
            (place / file).write_bytes(damaged(content, damage) if i == which % len(files) else content)
        assert answered(name, mention=name) or any(answered(name, mention=Path(file).name) for file in files)


DTYPES = st.one_of(
    arrays.scalar_dtypes(),
    st.sampled_from([np.dtype("g"), np.dtype([("a", "i4"), ("b", "f8")])]),
)
KEYS = ["x", "X", "y", "x_train", "x_test", "y_train", "y_test"]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5)


@settings(max_examples=200)
@given(arrays.arrays(DTYPES, SHAPES))
def test_an_array_of_any_type_and_shape_is_answered(x: np.ndarray) -> None:
    with a_place() as place:
        np.save(place / "x.npy", x)
        assert answered(place / "x.npy", mention="x.npy")


@settings(max_examples=120)
@given(st.dictionaries(st.sampled_from(KEYS), arrays.arrays(DTYPES, SHAPES)))
def test_an_archive_of_any_arrays_is_answered(content: dict[str, np.ndarray]) -> None:
    with a_place() as place:
        np.savez(place / "x.npz", allow_pickle=True, **content)
        assert answered(place / "x.npz", mention="x.npz")


@settings(max_examples=120)
@given(
    st.data(),
    st.integers(2, 7),
    st.integers(1, 3),
    st.sampled_from([np.uint8, np.float16, np.float32, np.float64, np.bool_, np.int16]),
)
def test_rows_that_could_be_data_are_answered(data: st.DataObject, rows: int, columns: int, dtype: type) -> None:
    def some(count: int, kind: type) -> np.ndarray:
        return data.draw(arrays.arrays(kind, (count, columns)))

    with a_place() as place:
        test = data.draw(st.sampled_from([dtype, np.float32, np.uint8]))
        labels = data.draw(
            st.one_of(
                st.just({}),
                st.fixed_dictionaries({"y_train": st.integers(rows - 1, rows + 1), "y_test": st.integers(1, 3)}),
            )
        )
        labeled: dict[str, Any] = {name: np.arange(count) for name, count in labels.items()}
        np.savez(place / "x.npz", x_train=some(rows, dtype), x_test=some(2, test), **labeled)
        assert answered(place / "x.npz", mention="x.npz")


def test_rows_that_are_packed_tighter_than_numpy_packs_them_are_refused_unread() -> None:
    """Whoever packs gigabytes of zeros into a few bytes means them to fill the memory."""
    zeros = saved(lambda file: np.save(file, np.zeros((2003, 1009), np.uint8)))
    with a_place() as place:
        with zipfile.ZipFile(place / "x.npz", "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("x.npy", zeros)
        with pytest.raises(AncestralError, match=r"x\.npz can't be read: array x claims 2,021,027 bytes, packed in"):
            load(place / "x.npz")
        with zipfile.ZipFile(place / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", zeros)
        assert is_sound(load(place / "x.npz"))


CELLS = st.one_of(
    st.floats().map(repr),
    st.integers().map(str),
    st.text(max_size=5),
    st.sampled_from(["", " ", '"', "１", "1_0", "0x1", "nan", "-", "1,5", "\x00", "a" * 140_000]),
)


@settings(max_examples=200)
@given(
    rows=st.lists(st.lists(CELLS, max_size=4), max_size=5),
    delimiter=st.sampled_from([",", ";", "\t"]),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp932"]),
)
def test_a_table_of_any_cells_is_answered(
    rows: list[list[str]], delimiter: str, ending: str, encoding: str
) -> None:
    text = ending.join(delimiter.join(row) for row in rows)
    with a_place() as place:
        (place / "x.csv").write_bytes(text.encode(encoding, "replace"))
        assert answered(place / "x.csv", mention="x.csv")


COLUMNS = st.one_of(
    arrays.arrays(st.sampled_from(["b1", "u1", "i8", "u8", "f2", "f4", "f8", "M8[s]", "m8[ns]"]), 5).map(pyarrow.array),
    st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=5, max_size=5).map(pyarrow.array),
    st.lists(st.text(max_size=3), min_size=5, max_size=5).map(pyarrow.array),
    st.lists(st.lists(st.floats(), max_size=2), min_size=5, max_size=5).map(pyarrow.array),
    st.lists(st.decimals(-9, 9, places=2), min_size=5, max_size=5).map(pyarrow.array),
)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.text(max_size=3), COLUMNS), max_size=3))
def test_a_parquet_file_of_any_columns_is_answered(columns: list[tuple[str, pyarrow.Array]]) -> None:
    with a_place() as place:
        table = pyarrow.table([column for _, column in columns], [name for name, _ in columns])
        pyarrow.parquet.write_table(table, place / "x.parquet")
        assert answered(place / "x.parquet", mention="x.parquet")

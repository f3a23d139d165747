"""Readers of the named sets: the official files, or the smaller files they are often kept in."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ancestral.data.catalogue import named_sets
from ancestral.data.dataset import Rows
from ancestral.data.download import Remote, cache_folder, fetch, search
from ancestral.data.files import read_archive
from ancestral.data.raw import Raw
from ancestral.data.reading import reading
from ancestral.errors import AncestralError

Array = NDArray[Any]

_OFFICIAL = "Remove it and put the official file there."
_LARGEST = 2**27
"""More bytes than any official file has."""

# --- MNIST and Fashion-MNIST: four idx files ------------------------------------------------------

_IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_IDX_MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion-mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
}
# SHA-256 of each .gz file, and of what it contains.
_IDX_CHECKSUMS = {
    "mnist": (
        (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        (
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        (
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        (
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "fashion-mnist": (
        (
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        (
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        (
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        (
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
}


def read_idx(path: Path) -> Array:
    """The array of an idx file of bytes, compressed or not.

    Format: two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as a
    big-endian 32-bit number, the values (http://yann.lecun.com/exdb/mnist).
    """
    return _parse_idx(_contents(path), path)


def _contents(path: Path) -> bytes:
    with reading(path, _OFFICIAL), gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return _bounded(file, _LARGEST)


def _bounded(file: IO[bytes] | gzip.GzipFile, largest: int) -> bytes:
    """All that is in a file, which may be compressed a thousandfold."""
    content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"it holds more than {largest:,} bytes, which no official file does")
    return content


def _parse_idx(contents: bytes, path: Path) -> Array:
    if len(contents) < 4 or contents[:3] != b"\0\0\x08":
        raise AncestralError(f"{path} is not an idx file of unsigned bytes. Put the official file there.")
    heading = 4 + 4 * contents[3]
    shape = tuple(int.from_bytes(contents[at : at + 4], "big") for at in range(4, heading, 4))
    size = 1
    for length in shape:
        size *= length
    if len(contents) != heading + size:
        raise AncestralError(
            f"{path} should hold {shape} bytes after its heading of {heading} and is {len(contents)} bytes "
            "long: it is damaged. Remove it and put the official file there."
        )
    return np.frombuffer(contents, np.uint8, offset=heading).reshape(shape)


def _idx_set(name: str, **raw: Any) -> Raw:
    arrays = []
    folders = (name.replace("-", "_"), name)
    together = tuple(f"{file}.gz" for file in _IDX_FILES)
    for file, (compressed, content) in zip(_IDX_FILES, _IDX_CHECKSUMS[name], strict=True):
        path = search(folders, (f"{file}.gz", file))
        if path is not None and path.parent.name not in folders:
            # Both sets use the same file names: outside their folders only the contents tell them apart.
            path = path if hashlib.sha256(_contents(path)).hexdigest() == content else None
        if path is None:
            mirrors = tuple(f"{mirror}{file}.gz" for mirror in _IDX_MIRRORS[name])
            path = fetch(name, Remote(f"{file}.gz", mirrors, together, f"sha256:{compressed}"))
        arrays.append(read_idx(path))
    images, labels, test_images, test_labels = arrays
    for x, y, what in ((images, labels, "train"), (test_images, test_labels, "t10k")):
        if x.ndim != 3 or y.shape != x.shape[:1]:
            raise AncestralError(
                f"{name}: the {what} images have shape {x.shape} and the labels {y.shape}; "
                "they don't belong together. Put the official files there."
            )
    return Raw(
        Rows(images[:, None], labels.astype(np.int64)),
        test=Rows(test_images[:, None], test_labels.astype(np.int64)),
        **raw,
    )


def read_mnist() -> Raw:
    """MNIST (LeCun, Cortes and Burges, 1998): 60,000 and 10,000 handwritten digits."""
    return _idx_set("mnist", usual_binarization="dynamic")


def read_fashion_mnist() -> Raw:
    """Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017)."""
    return _idx_set("fashion-mnist")


# --- digits ---------------------------------------------------------------------------------------


def read_digits() -> Raw:
    """The test part of UCI's optical recognition of handwritten digits, as scikit-learn ships it."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return Raw(
        Rows(images.astype(np.uint8).reshape(-1, 1, 8, 8), labels.astype(np.int64)),
        levels=17,
        usual_binarization="dynamic",
    )


# --- binarized MNIST ------------------------------------------------------------------------------

_BINARIZED = "https://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"


def read_binarized_mnist() -> Raw:
    """MNIST with every pixel drawn once, in the three splits of Larochelle and Murray (2011)."""
    packed = search(("binarized_mnist", "binarized-mnist"), ("binarized_mnist.npz",))
    if packed is not None:
        splits = ("train", "valid", "test")
        arrays = _arrays(packed, **dict.fromkeys(splits, (98,)), **{f"y_{part}": () for part in splits})
        rows = [
            Rows(np.unpackbits(bits, axis=1).reshape(-1, 1, 28, 28), labels.astype(np.int64))
            for bits, labels in zip(arrays[:3], arrays[3:], strict=True)
        ]
        note = (
            "a static binarization of MNIST in the sizes of the Larochelle and Murray splits; identity to "
            "theirs is not proven; labels of training and validation rows are recovered and a few may be "
            "wrong"
        )
    else:
        rows = [Rows(_read_amat(part)) for part in ("train", "valid", "test")]
        note = "the Larochelle and Murray splits of statically binarized MNIST; no labels"
    train, validation, test = rows
    return Raw(train, validation, test, levels=2, note=note)


def _read_amat(part: str) -> Array:
    file = f"binarized_mnist_{part}.amat"
    path = search(("binarized_mnist", "binarized-mnist"), (file,))
    if path is None:
        together = tuple(f"binarized_mnist_{other}.amat" for other in ("train", "valid", "test"))
        path = fetch("binarized-mnist", Remote(file, (_BINARIZED + file,), together))
    characters = np.frombuffer(_contents(path), np.uint8)
    digits = characters[characters > ord(" ")]  # whitespace lies between
    bits = digits - np.uint8(ord("0"))
    if len(bits) == 0 or len(bits) % 784 or bits.max() > 1:
        raise AncestralError(
            f"{path} should hold rows of 784 zeros and ones and does not. Remove it and put the official "
            "file there."
        )
    return bits.reshape(-1, 1, 28, 28)


# --- Frey Faces -----------------------------------------------------------------------------------

_FREY_NOTE = (
    "a video, split in blocks of adjoining frames: neighbors are near copies, so that the standard error of an "
    "average over frames is too small"
)


def read_frey_faces() -> Raw:
    """1,965 frames of a video of Brendan Frey's face (Roweis, Saul and Hinton, 2001)."""
    folders = ("frey_faces", "frey-faces")
    path = search(folders, ("frey_faces.npz", "frey_rawface.mat"))
    if path is None:
        path = fetch(
            "frey-faces", Remote("frey_rawface.mat", ("https://cs.nyu.edu/~roweis/data/frey_rawface.mat",))
        )
    frames = _arrays(path, x=(28, 20))[0] if path.suffix == ".npz" else _read_frey_mat(path)
    if frames.shape[1:] != (28, 20) or frames.dtype != np.uint8:
        raise AncestralError(
            f"{path} should hold frames of 28 rows and 20 columns of bytes and holds {frames.shape} "
            f"{frames.dtype}. Put the official file there."
        )
    return Raw(Rows(frames[:, None]), video=True, note=_FREY_NOTE)


def _read_frey_mat(path: Path) -> Array:
    from scipy.io import loadmat

    with reading(path, "Put the official frey_rawface.mat there."):
        matrix = loadmat(path, variable_names=["ff"])["ff"]  # a frame is a column, row by row
    if matrix.ndim != 2 or len(matrix) != 560:
        return np.asarray(matrix)
    return np.ascontiguousarray(matrix.T).reshape(-1, 28, 20)


# --- CIFAR-10 -------------------------------------------------------------------------------------

_CIFAR = Remote(
    "cifar-10-binary.tar.gz",
    ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    checksum="md5:c32a1d4ab5d03f1284b67883e8d87530",
)
_CIFAR_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))


def read_cifar10() -> Raw:
    """CIFAR-10 (Krizhevsky, 2009): 32x32 colour photographs of ten classes."""
    folders = ("cifar10", "cifar-10")
    path = search(folders, ("cifar10_15k.npz", _CIFAR.file))
    unpacked = "cifar-10-batches-bin"
    bins = search((*folders, unpacked, *(f"{folder}/{unpacked}" for folder in folders)), ("test_batch.bin",))
    note = ""
    if bins is not None and (path is None or path.suffix == ".npz"):
        train = [_parse_cifar(_contents(_beside(bins, file)), file) for file in _CIFAR_TRAIN]
        test = _parse_cifar(_contents(bins), bins.name)
    elif path is not None and path.suffix == ".npz":
        x, y, x_test, y_test = _arrays(path, x_train=(32, 32, 3), y_train=(), x_test=(32, 32, 3), y_test=())
        train = [(np.moveaxis(x, 3, 1), y)]
        test = (np.moveaxis(x_test, 3, 1), y_test)
        note = f"the first {len(x):,} training and {len(x_test):,} test images only"
    else:
        path = path or fetch("cifar10", _CIFAR)
        members = _untar(path)
        train = [_parse_cifar(members[file], file) for file in _CIFAR_TRAIN]
        test = _parse_cifar(members["test_batch.bin"], "test_batch.bin")
    images = np.ascontiguousarray(np.concatenate([x for x, _ in train]))
    labels = np.concatenate([y for _, y in train])
    return Raw(
        Rows(images, labels.astype(np.int64)),
        test=Rows(np.ascontiguousarray(test[0]), test[1].astype(np.int64)),
        note=note,
    )


def _beside(path: Path, file: str) -> Path:
    if not (path.parent / file).is_file():
        raise AncestralError(f"cifar10: {path} is there but {file} is not. Put it at {path.parent / file}.")
    return path.parent / file


def _parse_cifar(contents: bytes, file: str) -> tuple[Array, Array]:
    """Records of a label and 3 x 32 x 32 colours."""
    if len(contents) == 0 or len(contents) % 3073:
        raise AncestralError(
            f"cifar10: {file} is {len(contents)} bytes long, not a number of records of 3,073 bytes: it is "
            f"damaged. Put the official {_CIFAR.file} in its place."
        )
    records = np.frombuffer(contents, np.uint8).reshape(-1, 3073)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


def _untar(path: Path) -> dict[str, bytes]:
    wanted = (*_CIFAR_TRAIN, "test_batch.bin")
    members: dict[str, bytes] = {}
    with reading(path, f"Put the official {_CIFAR.file} there."), tarfile.open(path, "r:gz") as archive:
        for member in archive:
            file = Path(member.name).name
            stream = archive.extractfile(member) if file in wanted and member.isfile() else None
            if stream is not None:
                members[file] = _bounded(stream, _LARGEST)
    if missing := [file for file in wanted if file not in members]:
        raise AncestralError(f"{path} has no {missing[0]}. Put the official {_CIFAR.file} there.")
    return members


# --- Omniglot -------------------------------------------------------------------------------------

_OMNIGLOT = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
_OMNIGLOT_CHECKSUMS = {
    "images_background.zip": "md5:68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation.zip": "md5:6b91aef0f799c5bb55b94e3f2daec811",
}


def read_omniglot() -> Raw:
    """Omniglot (Lake, Salakhutdinov and Tenenbaum, 2015) in 28x28, ink = 255; labels are alphabets."""
    path = search(("omniglot",), ("omniglot28.npz",))
    if path is None:
        path = _convert_omniglot(cache_folder() / "omniglot" / "omniglot28.npz")
    images, labels, test_images, test_labels = _arrays(
        path, x_background=(28, 28), alphabet_background=(), x_evaluation=(28, 28), alphabet_evaluation=()
    )
    background = Rows(images[:, None], labels.astype(np.int64))
    evaluation = Rows(test_images[:, None], test_labels.astype(np.int64))
    return Raw(
        background,
        test=evaluation,
        usual_binarization="dynamic",
        note="trained on the background alphabets, tested on the evaluation alphabets: figures don't compare "
        "with the 24,345 / 8,070 split of Burda, Grosse and Salakhutdinov (2016), which can't be reproduced",
    )


def _convert_omniglot(target: Path) -> Path:
    arrays: dict[str, Array] = {}
    alphabets = 0
    for part in ("background", "evaluation"):
        file = f"images_{part}.zip"
        remote = Remote(file, (_OMNIGLOT + file,), tuple(_OMNIGLOT_CHECKSUMS), _OMNIGLOT_CHECKSUMS[file])
        path = search(("omniglot",), (file,)) or fetch("omniglot", remote)
        images, labels, names = _read_omniglot_zip(path)
        arrays[f"x_{part}"] = images
        arrays[f"alphabet_{part}"] = (labels + alphabets).astype(np.uint8)
        alphabets += len(names)
    write_whole(target, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))
    return target


def _read_omniglot_zip(path: Path) -> tuple[Array, Array, list[str]]:
    """Drawings in the order of alphabet, character and drawer; members are
    ``images_*/alphabet/character/*.png``."""
    from PIL import Image

    images, labels = [], []
    with reading(path, _OFFICIAL), zipfile.ZipFile(path) as archive:
        members = sorted(m for m in archive.namelist() if m.endswith(".png") and m.count("/") == 3)
        names = sorted({member.split("/")[1] for member in members})
        for member in members:
            with archive.open(member) as file:
                content = io.BytesIO(_bounded(file, 2**20))
            with Image.open(content, formats=("PNG",)) as drawing:
                ink = Image.fromarray(255 - np.asarray(drawing.convert("L")))
            images.append(np.asarray(ink.resize((28, 28), Image.Resampling.BOX)))
            labels.append(names.index(member.split("/")[1]))
    if not images:
        raise AncestralError(f"{path} holds no drawings. Remove it and put the official file there.")
    return np.stack(images), np.array(labels), names


def write_whole(target: Path, write: Callable[[Any], None]) -> None:
    """Write a file that appears under its name whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, suffix=target.suffix)
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _arrays(path: Path, **shapes: tuple[int, ...]) -> tuple[Array, ...]:
    """Arrays of a .npz file by their names, each with the shape of a row: bytes, or labels where it is ``()``."""

    def wanted(keys: set[str]) -> list[str]:
        for key in shapes:
            if key not in keys:
                raise AncestralError(
                    f"{path} has no array {key!r}, only {', '.join(sorted(keys))}. Put the right file there."
                )
        return list(shapes)

    arrays = read_archive(path, "Remove it and put a whole file there.", wanted)
    for key, shape in shapes.items():
        x = arrays[key]
        if x.shape[:1] + shape != x.shape or x.dtype.kind not in "ui" or (shape and x.dtype != np.uint8):
            rows = f"bytes in rows of shape {shape}" if shape else "labels"
            raise AncestralError(
                f"{path}: array {key!r} should hold {rows} and holds {x.shape} {x.dtype}. Put the right file there."
            )
    return tuple(arrays.values())


READERS: dict[str, Callable[[], Raw]] = {
    "digits": read_digits,
    "mnist": read_mnist,
    "binarized-mnist": read_binarized_mnist,
    "fashion-mnist": read_fashion_mnist,
    "omniglot": read_omniglot,
    "frey-faces": read_frey_faces,
    "cifar10": read_cifar10,
}


def read_named(name: str) -> Raw:
    """The rows of a named set, of its shape and with labels among its classes.

    Raises ``AncestralError`` if its files are not on this machine and can't be downloaded, or are not the set's.
    """
    raw = READERS[name]()
    known = next(known for known in named_sets() if known.name == name)
    for split, rows, least in (("training", raw.train, 2), ("validation", raw.validation, 1), ("test", raw.test, 1)):
        if rows is None:
            continue
        problem = ""
        if rows.x.shape[1:] != known.shape or len(rows.x) < least:
            problem = f"the {split} images have shape {rows.x.shape}, not (rows, {', '.join(map(str, known.shape))})"
        elif rows.y is not None and rows.y.shape != rows.x.shape[:1]:
            problem = f"there are {len(rows.x):,} {split} images and labels of shape {rows.y.shape}"
        elif rows.y is not None and not 0 <= rows.y.min() <= rows.y.max() < known.classes:
            problem = f"{split} labels go from {rows.y.min()} to {rows.y.max()}, and there are {known.classes} classes"
        if problem:
            raise AncestralError(f"The files of {name} are not its own: {problem}. Put the official files there.")
    return raw

"""Named sets: where they are found and how their files are read."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ancestral.configs.data import DataConfig
from ancestral.data import Dataset, load, named_sets
from ancestral.data.named import READERS, read_idx, write_whole
from ancestral.errors import AncestralError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ANCESTRAL_DATA, and no network: every download goes to a closed port."""
    monkeypatch.setenv("ANCESTRAL_DATA", str(tmp_path / "data"))
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", "http://127.0.0.1:9")
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def idx(array: np.ndarray) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write_idx_files(folder: Path, compressed: bool) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    x = np.random.default_rng(0).integers(0, 256, (17, 28, 28), dtype=np.uint8)
    files = {
        "train-images-idx3-ubyte": x[:13],
        "train-labels-idx1-ubyte": np.arange(13, dtype=np.uint8) % 10,
        "t10k-images-idx3-ubyte": x[13:],
        "t10k-labels-idx1-ubyte": np.arange(4, dtype=np.uint8),
    }
    for name, array in files.items():
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))
    return x


def test_digits_need_no_file() -> None:
    data = load("digits")
    assert (len(data.train), len(data.validation), len(data.test)) == (1437, 90, 270)
    assert data.description.shape == (1, 8, 8)
    assert (data.description.levels, data.description.classes) == (17, 10)
    assert (data.config.binarization, data.description.kind) == ("dynamic", "binary")
    assert int(data.train.x.max()) == 16


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("place", ["mnist", "fashion_mnist", "fashion-mnist"])
def test_idx_files_are_found_in_the_folder_of_the_set(folder: Path, place: str, compressed: bool) -> None:
    x = write_idx_files(folder / place, compressed)
    data = load("mnist" if place == "mnist" else "fashion-mnist")
    assert np.array_equal(np.sort(np.concatenate([data.train.index, data.validation.index])), np.arange(13))
    assert np.array_equal(data.test.x[:, 0], x[13:])
    assert data.test.y is not None
    assert data.test.y.tolist() == [0, 1, 2, 3]
    assert data.config.binarization == ("dynamic" if place == "mnist" else "none")


def test_idx_files_outside_a_folder_are_taken_only_if_they_are_the_official_ones(folder: Path) -> None:
    write_idx_files(folder, compressed=True)
    with pytest.raises(AncestralError, match="could not be downloaded"):
        load("mnist")


def test_a_set_that_is_nowhere_is_answered_with_the_file_and_its_place(folder: Path) -> None:
    for name, file in (
        ("mnist", "train-images-idx3-ubyte.gz"),
        ("fashion-mnist", "train-images-idx3-ubyte.gz"),
        ("binarized-mnist", "binarized_mnist_train.amat"),
        ("frey-faces", "frey_rawface.mat"),
        ("cifar10", "cifar-10-binary.tar.gz"),
        ("omniglot", "images_background.zip"),
    ):
        with pytest.raises(AncestralError) as caught:
            load(name)
        assert str(folder / name / file) in str(caught.value)
        count = {"mnist": 4, "fashion-mnist": 4, "binarized-mnist": 3, "omniglot": 2}.get(name, 1)
        assert str(caught.value).count(str(folder / name)) == count


def test_without_a_data_folder_the_message_names_the_variable(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANCESTRAL_DATA")
    with pytest.raises(AncestralError, match="environment variable ANCESTRAL_DATA"):
        load("mnist")


def test_a_file_of_the_cache_is_found(folder: Path, own_cache: Path) -> None:
    write_idx_files(own_cache / "ancestral" / "data" / "mnist", compressed=True)
    assert len(load("mnist").test) == 4


def test_damaged_idx_files_are_named(tmp_path: Path) -> None:
    whole = idx(np.zeros((3, 5), np.uint8))
    for name, contents in (
        ("short", whole[:-1]),
        ("text", b"hello"),
        ("empty", b""),
        ("claims", b"\0\0\x08\x02" + b"\xff" * 8),
        ("bad.gz", b"hello"),
        ("cut.gz", gzip.compress(whole)[:-9]),
    ):
        (tmp_path / name).write_bytes(contents)
        with pytest.raises(AncestralError, match=name):
            read_idx(tmp_path / name)


def test_images_and_labels_of_different_length_are_refused(folder: Path) -> None:
    write_idx_files(folder / "mnist", compressed=False)
    (folder / "mnist" / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(3, np.uint8)))
    with pytest.raises(AncestralError, match="don't belong together"):
        load("mnist")


def test_binarized_mnist_is_read_from_text(folder: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (6, 784))
    for part, rows in (("train", bits[:3]), ("valid", bits[3:5]), ("test", bits[5:])):
        lines = "".join(" ".join(map(str, row)) + " \n" for row in rows)
        (folder / f"binarized_mnist_{part}.amat").write_text(lines)
    data = load("binarized-mnist")
    assert [len(data.train), len(data.validation), len(data.test)] == [3, 2, 1]
    assert np.array_equal(data.train.x.reshape(3, 784), bits[:3])
    assert (data.description.kind, data.description.levels, data.description.classes) == ("binary", 2, 0)
    (folder / "binarized_mnist_test.amat").write_text("0 1 2")
    with pytest.raises(AncestralError, match=r"binarized_mnist_test\.amat"):
        load("binarized-mnist")


def test_frey_faces_are_read_from_the_official_matrix(folder: Path) -> None:
    from scipy.io import savemat

    frames = np.random.default_rng(0).integers(0, 256, (31, 28, 20), dtype=np.uint8)
    savemat(folder / "frey_rawface.mat", {"ff": frames.reshape(31, 560).T})
    data = load("frey-faces")
    order = np.concatenate([data.train.index, data.validation.index, data.test.index])
    images = np.concatenate([data.train.x, data.validation.x, data.test.x])
    assert np.array_equal(images[np.argsort(order), 0], frames)
    assert "near copies" in data.note
    assert "standard error" in data.note
    savemat(folder / "frey_rawface.mat", {"ff": frames.reshape(31, 560)})
    with pytest.raises(AncestralError, match="28 rows and 20 columns"):
        load("frey-faces")
    (folder / "frey_rawface.mat").write_bytes(b"hello")
    with pytest.raises(AncestralError, match="can't be read"):
        load("frey-faces")


def cifar_batches() -> dict[str, bytes]:
    generator = np.random.default_rng(0)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    return {
        name: b"".join(
            bytes([i]) + generator.integers(0, 256, 3072, dtype=np.uint8).tobytes() for i in range(2)
        )
        for name in names
    }


def test_cifar10_is_read_from_its_archive_and_from_its_files(folder: Path) -> None:
    batches = cifar_batches()
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name, contents in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(contents)
            archive.addfile(member, io.BytesIO(contents))
    packed = load("cifar10", DataConfig(validation=0))
    assert (len(packed.train), len(packed.test)) == (10, 2)
    assert packed.description.shape == (3, 32, 32)
    assert packed.train.x[0].tobytes() == batches["data_batch_1.bin"][1:3073]
    assert packed.note == ""

    (folder / "cifar-10-binary.tar.gz").unlink()
    (folder / "cifar-10-batches-bin").mkdir()
    for name, contents in batches.items():
        (folder / "cifar-10-batches-bin" / name).write_bytes(contents)
    unpacked = load("cifar10", DataConfig(validation=0))
    assert unpacked.digest("train") == packed.digest("train")

    (folder / "cifar-10-batches-bin" / "data_batch_3.bin").unlink()
    with pytest.raises(AncestralError, match=r"data_batch_3\.bin"):
        load("cifar10")
    (folder / "cifar-10-batches-bin" / "data_batch_3.bin").write_bytes(b"hello")
    with pytest.raises(AncestralError, match="damaged"):
        load("cifar10")


def test_a_damaged_archive_of_cifar10_is_named(folder: Path) -> None:
    archive = folder / "cifar-10-binary.tar.gz"
    archive.write_bytes(b"hello")
    with pytest.raises(AncestralError, match="can't be read"):
        load("cifar10")
    with tarfile.open(archive, "w:gz"):
        pass
    with pytest.raises(AncestralError, match=r"has no data_batch_1\.bin"):
        load("cifar10")


def test_a_part_of_cifar10_says_so(folder: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    y = np.arange(7, dtype=np.uint8)
    np.savez(folder / "cifar10_15k.npz", x_train=x[:5], y_train=y[:5], x_test=x[5:], y_test=y[5:])
    data = load("cifar10")
    assert data.note == "the first 5 training and 2 test images only"
    assert np.array_equal(np.moveaxis(data.test.x, 1, 3), x[5:])
    np.savez(folder / "cifar10_15k.npz", x_train=x)
    with pytest.raises(AncestralError, match="'y_train'"):
        load("cifar10")
    (folder / "cifar10_15k.npz").write_bytes(b"hello")
    with pytest.raises(AncestralError, match="can't be read"):
        load("cifar10")


def test_omniglot_is_averaged_from_its_archives_and_kept(folder: Path, own_cache: Path) -> None:
    from PIL import Image

    for part, alphabets in (("background", ("Greek", "Latin")), ("evaluation", ("Tengwar",))):
        with zipfile.ZipFile(folder / f"images_{part}.zip", "w") as archive:
            for alphabet in alphabets:
                drawing = np.full((105, 105), 255, np.uint8)
                drawing[:15, :15] = 0  # ink in the corner: 4 x 4 pixels of 28
                stream = io.BytesIO()
                Image.fromarray(drawing).convert("1").save(stream, "png")
                for drawer in (1, 2):
                    archive.writestr(
                        f"images_{part}/{alphabet}/character01/000{drawer}.png", stream.getvalue()
                    )
    data = load("omniglot", DataConfig(validation=0))
    assert data.train.y is not None
    assert data.train.y.tolist() == [0, 0, 1, 1]
    assert data.test.y is not None
    assert data.test.y.tolist() == [2, 2]
    assert data.description.shape == (1, 28, 28)
    assert data.train.x[0, 0, :4, :4].min() == 255
    assert data.train.x[0, 0, 4:].max() == 0
    assert "24,345" in data.note
    kept = own_cache / "ancestral" / "data" / "omniglot"
    assert [file.name for file in kept.iterdir()] == ["omniglot28.npz"]
    for part in ("background", "evaluation"):
        (folder / f"images_{part}.zip").unlink()
    assert load("omniglot", DataConfig(validation=0)).digest("train") == data.digest("train")


def test_a_damaged_archive_of_omniglot_leaves_nothing_behind(folder: Path, own_cache: Path) -> None:
    (folder / "images_background.zip").write_bytes(b"hello")
    with pytest.raises(AncestralError, match="can't be read"):
        load("omniglot")
    with zipfile.ZipFile(folder / "images_background.zip", "w"):
        pass
    with pytest.raises(AncestralError, match="no drawings"):
        load("omniglot")
    assert not list(own_cache.rglob("*.npz"))


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail(file: io.BytesIO) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "kept" / "a.bin", fail)
    assert list((tmp_path / "kept").iterdir()) == []


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(AncestralError, match=r"Did you mean 'mnist'\?.*\.npy, \.npz, \.csv, \.parquet"):
        load("mnits")
    with pytest.raises(AncestralError, match="no file or folder"):
        load("faces/mine.npz")


def test_the_catalogue_and_the_readers_agree() -> None:
    assert [known.name for known in named_sets()] == sorted(READERS, key=[k.name for k in named_sets()].index)
    assert {known.name for known in named_sets()} == set(READERS)


def test_listing_the_sets_imports_no_array_library() -> None:
    code = (
        "import sys; from ancestral.data import named_sets; assert named_sets(); "
        "assert not {'torch', 'numpy', 'pooch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_room_has_no_other_exports() -> None:
    import ancestral.data

    assert ancestral.data.Dataset is Dataset
    assert "load" in dir(ancestral.data)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        ancestral.data.lode  # noqa: B018


@pytest.mark.real_data
@pytest.mark.parametrize("known", named_sets(), ids=lambda known: known.name)
def test_real_sets_are_what_the_catalogue_says(
    known: object, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANCESTRAL_DATA", str(shared_data))
    (entry,) = (entry for entry in named_sets() if entry is known)
    data = load(entry.name)
    held_out = 0 if entry.validation else len(data.validation)
    test = 0 if entry.test else len(data.test)
    if entry.name == "cifar10":
        assert (len(data.train) + held_out, len(data.test)) == (15000, 1000)
        assert "15,000" in data.note
    else:
        assert len(data.train) + held_out + test == entry.train
        assert (len(data.validation) if entry.validation else 0) == entry.validation
        assert (len(data.test) if entry.test else 0) == entry.test
    assert data.description.shape == entry.shape
    x, y = next(data.batches("train", 7))
    assert x.shape == (7, *entry.shape)
    assert float(x.min()) >= 0
    assert 0 < float(x.max()) <= 1
    assert (y is None) == (entry.name == "frey-faces")


@pytest.mark.real_data
def test_mnist_lying_beside_others_is_told_by_its_contents(shared_data: Path, folder: Path) -> None:
    for file in (shared_data / "fashion_mnist").glob("*.gz"):
        (folder / file.name).symlink_to(file)
    assert len(load("fashion-mnist").test) == 10000
    with pytest.raises(AncestralError, match="could not be downloaded"):
        load("mnist")


@pytest.mark.real_data
def test_the_rows_of_omniglot_are_drawn_in_ink(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANCESTRAL_DATA", str(shared_data))
    data = load("omniglot")
    assert 0.05 < data.train.x[:997].mean() / 255 < 0.2
    assert data.train.y is not None
    assert data.test.y is not None
    assert not set(data.train.y) & set(data.test.y)

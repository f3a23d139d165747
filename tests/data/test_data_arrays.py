"""The user's own arrays: .npy and .npz."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays

from ancestral.configs.data import HIDDEN, DataConfig
from ancestral.data import Dataset, load
from ancestral.data.files import interpret
from ancestral.errors import AncestralError

GENERATOR = np.random.default_rng(0)
BYTES = GENERATOR.integers(0, 256, (11, 7, 5), dtype=np.uint8)
COLOURS = GENERATOR.integers(0, 256, (11, 7, 5, 3), dtype=np.uint8)


def saved(tmp_path: Path, x: np.ndarray, **config: Any) -> Dataset:
    np.save(tmp_path / "a.npy", x)
    return load(tmp_path / "a.npy", DataConfig(**config))


def everything(data: Dataset) -> np.ndarray:
    """All rows, in the order of the file."""
    parts = (data.train, data.validation, data.test)
    order = np.argsort(np.concatenate([part.index for part in parts]))
    return np.concatenate([part.x for part in parts])[order]


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (BYTES, BYTES[:, None]),
        (BYTES[:, :, :, None], BYTES[:, None]),
        (BYTES[:, None], BYTES[:, None]),
        (COLOURS, np.moveaxis(COLOURS, 3, 1)),
        (np.moveaxis(COLOURS, 3, 1), np.moveaxis(COLOURS, 3, 1)),
        (BYTES.astype(np.int64), BYTES[:, None]),
        (BYTES.astype(">i2"), BYTES[:, None]),
        (BYTES.astype(np.float64), BYTES[:, None]),
        (BYTES / 255, BYTES[:, None]),
        ((BYTES / 255).astype(np.float32), BYTES[:, None]),
        (BYTES.astype(np.float32) * np.float32(1 / 255), BYTES[:, None]),
        (np.asfortranarray(COLOURS), np.moveaxis(COLOURS, 3, 1)),
    ],
)
def test_images_become_grey_levels_with_channels_first(
    tmp_path: Path, x: np.ndarray, expected: np.ndarray
) -> None:
    data = saved(tmp_path, x)
    rows = everything(data)
    assert rows.dtype == np.uint8
    assert np.array_equal(rows, expected)
    assert (data.description.kind, data.description.levels) == ("levels", 256)
    assert data.config.binarization == "none"


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float32])
@pytest.mark.parametrize("shape", [(11, 7, 5), (11, 7)])
def test_zeros_and_ones_are_bits(tmp_path: Path, dtype: type, shape: tuple[int, ...]) -> None:
    x = GENERATOR.integers(0, 2, shape).astype(dtype)
    data = saved(tmp_path, x)
    assert (data.description.kind, data.description.levels) == ("binary", 2)
    assert np.array_equal(everything(data).reshape(shape), x)
    assert data.description.offset == ()


def test_images_of_other_real_values_are_continuous_and_stay_as_they_are(tmp_path: Path) -> None:
    x = GENERATOR.normal(2, 3, (11, 7, 5))
    data = saved(tmp_path, x)
    assert (data.description.kind, data.description.levels) == ("continuous", 0)
    assert np.array_equal(everything(data), x[:, None].astype(np.float32))
    assert np.array_equal(data.to_original(data.rows("train", [0])), data.train.x[:1])


def test_a_table_is_standardized_by_its_training_rows(tmp_path: Path) -> None:
    x = GENERATOR.normal([3, -5, 1e9], [2, 7, 1], (101, 3))
    data = saved(tmp_path, x)
    assert (data.description.shape, data.description.kind) == ((3,), "continuous")
    train = data.train.x.astype(np.float64)
    assert np.allclose(train.mean(0), 0, atol=1e-6)
    assert np.allclose(train.std(0), 1, atol=1e-6)
    assert not np.allclose(data.test.x.mean(0), 0, atol=1e-4)
    expected = (x - np.array(data.description.offset)) / np.array(data.description.scale)
    assert np.allclose(everything(data), expected, atol=1e-6)
    assert np.allclose(
        data.to_original(data.rows("test", [0, 3])), x[data.test.index[[0, 3]]], atol=1e-6, rtol=1e-14
    )


@pytest.mark.parametrize("value", [0.0, 0.1, -7e12])
def test_a_constant_column_has_scale_one(tmp_path: Path, value: float) -> None:
    x = GENERATOR.normal(size=(31, 2))
    x[:, 1] = value
    data = saved(tmp_path, x)
    assert data.description.scale[1] == 1
    assert np.allclose(data.train.x[:, 1], 0, atol=1e-2)


def test_a_table_of_bytes_keeps_its_levels_and_one_of_counts_is_standardized(tmp_path: Path) -> None:
    x = GENERATOR.integers(0, 256, (11, 7))
    assert saved(tmp_path, x.astype(np.uint8)).description.kind == "levels"
    data = saved(tmp_path, x)
    assert (data.description.kind, len(data.description.scale)) == ("continuous", 7)


@settings(deadline=None, max_examples=30)
@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.int32, np.float32, np.float64, np.bool_]),
        arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5),
    )
)
def test_an_array_of_any_shape_is_read_or_refused_in_words(x: np.ndarray) -> None:
    refusal = ""
    try:
        raw = interpret(Path("a.npy"), [x])
    except AncestralError as error:
        refusal = str(error)
    if refusal:
        assert "a.npy" in refusal
    else:
        rows = raw.train.decode(raw.train.x[:2])
        assert rows.ndim in (2, 4)
        assert rows.dtype == (np.float32 if raw.levels == 0 else np.uint8)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.float64(3), "reshape"),
        (np.arange(7), "reshape"),
        (np.zeros((2, 3, 5, 7, 11)), "shape"),
        (np.zeros((7, 5, 9, 2)), "neither the second axis nor the last"),
        (np.zeros((7, 3, 9, 3)), "may be its second axis or its last"),
        (np.zeros((0, 5)), "at least 2"),
        (np.zeros((1, 5)), "at least 2"),
        (np.zeros((7, 0)), "empty"),
        (np.zeros((7, 0, 5)), "shape"),
        (np.full((7, 5, 3), 256), "256 to 256"),
        (np.full((7, 5, 3), -1), "-1"),
        (np.zeros((7, 5), complex), "complex"),
        (np.array([["a", "b"], ["c", "d"]]), "convert them to numbers"),
        (np.zeros((7, 5), "datetime64[s]"), "convert them to numbers"),
        (np.full((7, 5), 1e300), "below 1e37"),
    ],
)
def test_what_is_no_data_set_is_refused(tmp_path: Path, x: np.ndarray, words: str) -> None:
    np.save(tmp_path / "a.npy", x)
    with pytest.raises(AncestralError, match=words):
        load(tmp_path / "a.npy")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_with_its_place(tmp_path: Path, value: float) -> None:
    x = np.ones((11, 5, 3), np.float32) / 2
    x[7, 4, 2] = value
    np.save(tmp_path / "a.npy", x)
    with pytest.raises(AncestralError, match=rf"{value} in row 7, position \(0, 4, 2\)"):
        load(tmp_path / "a.npy")


def test_python_objects_are_never_loaded(tmp_path: Path) -> None:
    objects = np.array([[{}, 1], [2, 3]], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=objects)
    (tmp_path / "b.npy").write_bytes(b"\x80\x04]\x94.")
    for file in ("a.npy", "a.npz", "b.npy"):
        with pytest.raises(AncestralError, match="Python objects"):
            load(tmp_path / file)


@pytest.mark.parametrize("file", ["a.npy", "a.npz"])
def test_damaged_files_are_named(tmp_path: Path, file: str) -> None:
    whole = tmp_path / file
    np.save(whole, COLOURS) if file == "a.npy" else np.savez(whole, x=COLOURS)
    contents = whole.read_bytes()
    for damaged in (contents[:-101], contents[:60], b"", b"hello"):
        whole.write_bytes(damaged)
        with pytest.raises(AncestralError, match=f"{file} can't be read"):
            load(whole)


def test_a_heading_that_claims_more_than_there_is_allocates_nothing(tmp_path: Path) -> None:
    heading = {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**6)}
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, heading)
        file.write(b"0" * 101)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.write(tmp_path / "a.npy", "x.npy")
    for name in ("a.npy", "a.npz"):
        with pytest.raises(AncestralError, match="can't be read"):
            load(tmp_path / name)


def test_an_archive_larger_than_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", x=BYTES)
    monkeypatch.setattr("ancestral.data.files._memory", lambda: 100)
    with pytest.raises(AncestralError, match=r"memory.*\.npy"):
        load(tmp_path / "a.npz")


def test_labels_come_with_their_rows(tmp_path: Path) -> None:
    y = np.array([5, 5, 9, 2, 2, 2, 5, 9, 9, 5, 2])
    for labels in (y, y.astype(np.float32), y.astype(str)):
        np.savez(tmp_path / "a.npz", x=BYTES, y=labels)
        data = load(tmp_path / "a.npz")
        assert data.description.classes == 3
        for part in (data.train, data.validation, data.test):
            assert part.y is not None
            assert np.array_equal(part.y, np.searchsorted([2, 5, 9], y[part.index]))


def test_minus_one_says_that_a_label_is_not_known(tmp_path: Path) -> None:
    y = np.array([5, -1, 9, -1, 2, 2, -1, 9, 9, 5, 2])
    for labels in (y, y.astype(np.float32), y.astype(np.int8)):
        np.savez(tmp_path / "a.npz", x=BYTES, y=labels)
        data = load(tmp_path / "a.npz")
        assert data.description.classes == 3
        expected = np.where(y == -1, HIDDEN, np.searchsorted([2, 5, 9], y))
        for part in (data.train, data.validation, data.test):
            assert np.array_equal(part.y, expected[part.index])  # type: ignore[arg-type]
        assert data.description.labeled == (data.train.y != HIDDEN).mean()  # type: ignore[union-attr]
    np.savez(tmp_path / "a.npz", x=BYTES, y=y.astype(str))  # a name like any other
    assert load(tmp_path / "a.npz").description.classes == 4


def test_labels_that_are_all_not_known_are_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=BYTES, y=np.full(11, -1))
    data = load(tmp_path / "a.npz")
    assert data.train.y is None
    assert (data.description.classes, data.description.labeled) == (0, 1)


def test_the_array_may_be_called_as_scikit_learn_does(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=BYTES, y=np.arange(11))
    assert load(tmp_path / "a.npz").description.classes == 11


def test_an_own_test_split_is_kept(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=BYTES[:8], x_test=BYTES[8:], y_train=np.arange(8), y_test=[0, 9, 1])
    data = load(tmp_path / "a.npz", DataConfig(validation=0.25))
    assert (len(data.train), len(data.validation), len(data.test)) == (6, 2, 3)
    assert np.array_equal(data.test.x[:, 0], BYTES[8:])
    assert data.test.y is not None
    assert data.test.y.tolist() == [0, 8, 1]
    assert data.description.classes == 9


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"images": BYTES}, "no array x; it has images"),
        ({"x_train": BYTES}, "no array x"),
        ({"x": BYTES, "y": np.arange(10)}, "one label for each row"),
        ({"x": BYTES, "y": np.eye(11)}, "one label for each row"),
        ({"x": BYTES, "y": np.arange(11) / 2}, "no classes"),
        ({"x_train": BYTES, "x_test": BYTES[:, :3]}, "make them the same"),
        ({"x_train": BYTES, "x_test": BYTES[:0]}, "no test rows"),
        ({"x_train": BYTES, "x_test": BYTES, "y_train": np.arange(11)}, "y_train and y_test"),
    ],
)
def test_an_archive_that_is_no_data_set_is_refused(
    tmp_path: Path, content: dict[str, Any], words: str
) -> None:
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(AncestralError, match=words):
        load(tmp_path / "a.npz")


def test_an_unknown_ending_is_answered_with_the_known(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"")
    with pytest.raises(AncestralError, match=r"ends in \.pkl.*\.parquet or a folder of images"):
        load(tmp_path / "a.pkl")


def test_a_name_goes_before_a_file_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "a.npy", BYTES)
    (tmp_path / "a.npy").rename(tmp_path / "digits")
    assert load("digits").description.levels == 17
    with pytest.raises(AncestralError, match="ends in nothing"):
        load("./digits")

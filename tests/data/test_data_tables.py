"""The user's own tables: .csv and .parquet."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings, strategies as st

from ancestral.configs.data import DataConfig
from ancestral.data import load
from ancestral.errors import AncestralError


def table(tmp_path: Path, text: str) -> Path:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    return tmp_path / "t.csv"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_is_read_with_or_without_a_header(tmp_path: Path, delimiter: str) -> None:
    rows = "1,2.5,-3e2\n4,5,6\n7,8,9\n".replace(",", delimiter)
    without = load(table(tmp_path, rows))
    assert without.description.columns == ()
    header = 'weight,"height, mm",長さ\n'.replace(", ", "~").replace(",", delimiter).replace("~", ", ")
    named = load(table(tmp_path, "\ufeff" + header + "\n" + rows))
    assert named.description.columns == ("weight", "height, mm", "長さ")
    for split in ("train", "test"):
        assert named.digest(split) == without.digest(split)  # type: ignore[arg-type]
    original = named.to_original(named.rows("train", [0]))
    assert np.allclose(original, named.train.source.x[named.train.index])
    assert np.allclose(named.train.source.x[:, 2], [-300, 6, 9])


@settings(deadline=None, max_examples=20)
@given(st.lists(st.lists(st.floats(-1e30, 1e30), min_size=3, max_size=3), min_size=2, max_size=7))
def test_numbers_survive_the_way_through_text(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[float]]
) -> None:
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_text("\n".join(",".join(map(repr, row)) for row in rows))
    data = load(path, DataConfig(validation=0.0, test=0.0))
    assert np.array_equal(data.train.source.x, np.array(rows))
    assert np.isfinite(data.train.x).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n3,cat\n", r"line 3, column 2 \(b\) is 'cat'"),
        ("1,2\n3,cat\n", "line 2, column 2 is 'cat'"),
        ("1,2\n\n3,\n", "line 3, column 2 is empty"),
        ("a,2\n3,4\n", "line 1, column 1 is 'a'"),
        ("1,2\n1_000,3\n", r"t\.csv: .*1_000"),
        ("1,2\n3,4,5\n", "line 2 has 3 cells"),
        ("a,b,c\n1,2\n3,4\n", "3 names in its first line and 2 cells"),
        ("a,b\n1,nan\n2,3\n", "nan in row 0, column 'b'"),
        ("", "no rows"),
        ("\n\n", "no rows"),
        ("a,b\n", "no rows"),
        ("1,2\n", "at least 2"),
    ],
)
def test_a_table_that_is_no_data_set_is_refused_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(AncestralError, match=words):
        load(table(tmp_path, text))


def test_a_delimiter_inside_quotes_is_none(tmp_path: Path) -> None:
    data = load(table(tmp_path, '"height, in mm";b\n1;2\n3;5\n'))
    assert data.description.columns == ("height, in mm", "b")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(AncestralError, match="UTF-8"):
        load(tmp_path / "t.csv")


def test_a_parquet_file_is_a_table_with_names(tmp_path: Path) -> None:
    columns = {"length": [1.5, 2.5, 4.0], "count": [3, 5, 7], "good": [True, False, True]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    data = load(tmp_path / "t.parquet")
    assert data.description.columns == ("length", "count", "good")
    assert np.array_equal(data.train.source.x, np.array([[1.5, 3, 1], [2.5, 5, 0], [4, 7, 1]]))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"a": [1, 2], "name": ["x", "y"]}, "column 'name' holds string"),
        ({"a": [1, None, 3]}, "column 'a' has 1 missing values"),
        ({"a": [1.0, float("inf")]}, "inf in row 1, column 'a'"),
        ({}, "no columns"),
    ],
)
def test_a_parquet_file_that_is_no_data_set_is_refused(
    tmp_path: Path, columns: dict[str, list[object]], words: str
) -> None:
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    with pytest.raises(AncestralError, match=words):
        load(tmp_path / "t.parquet")


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"hello")
    with pytest.raises(AncestralError, match=r"t\.parquet can't be read"):
        load(tmp_path / "t.parquet")


def test_without_pyarrow_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.parquet").write_bytes(b"hello")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(AncestralError, match=r'pip install "ancestral\[parquet\]"'):
        load(tmp_path / "t.parquet")


@pytest.mark.real_data
def test_real_tables_are_standardized(shared_data: Path) -> None:
    data = load(shared_data / "tabular" / "winequality-white.csv")
    assert data.description.shape == (12,)
    assert len(data.train) + len(data.validation) + len(data.test) == 4898
    assert np.allclose(data.train.x.mean(0), 0, atol=1e-4)
    anomalies = load(shared_data / "adbench" / "6_cardio.npz")
    assert (anomalies.description.shape, anomalies.description.classes) == ((21,), 2)

"""Batches: order, resumption, devices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from ancestral.configs.data import DataConfig
from ancestral.data import load
from ancestral.data.dataset import Dataset, Rows, Split
from ancestral.errors import AncestralError


def numbered(n: int = 23) -> Dataset:
    """Row ``i`` holds the number ``i``, and so does its label."""
    split = Split(Rows(np.arange(n, dtype=np.uint8)[:, None], np.arange(n)), np.arange(n))
    return Dataset("numbers", split, split, split, DataConfig(), 256, classes=n)


def order(data: Dataset, size: int, **options: object) -> list[int]:
    return [int(i) for _, y in data.batches("train", size, **options) for i in y]  # type: ignore[arg-type,union-attr]


def test_a_batch_is_float32_with_int64_labels() -> None:
    x, y = next(numbered().batches("train", 5))
    assert (x.dtype, x.shape) == (torch.float32, (5, 1))
    assert y is not None
    assert (y.dtype, y.shape) == (torch.int64, (5,))
    assert torch.equal((x[:, 0] * 255).round().long(), y)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 30), st.integers(0, 9), st.integers(0, 9))
def test_an_epoch_holds_every_row_once_in_an_order_of_seed_and_epoch(
    size: int, seed: int, epoch: int
) -> None:
    data = numbered()
    rows = order(data, size, seed=seed, epoch=epoch)
    assert sorted(rows) == list(range(23))
    assert rows == order(data, 7, seed=seed, epoch=epoch)


def test_the_order_changes_with_seed_and_with_epoch() -> None:
    data = numbered()
    orders = [order(data, 5, seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(rows) for rows in orders}) == 4
    assert order(data, 5, shuffle=False) == list(range(23))


def test_validation_and_test_rows_come_in_the_order_of_the_file() -> None:
    for split in ("validation", "test"):
        labels = [int(i) for _, y in numbered().batches(split, 5) for i in y]  # type: ignore[union-attr,arg-type]
        assert labels == list(range(23))


@pytest.mark.parametrize("preparation", [{"binarization": "dynamic"}, {"dequantize": "yes"}])
def test_an_epoch_continued_in_its_middle_is_the_same(grey: Path, preparation: dict[str, str]) -> None:
    data = load(grey, DataConfig(**preparation))  # type: ignore[arg-type]
    whole = list(data.batches("train", 3, seed=5, epoch=2))
    rest = list(data.batches("train", 3, seed=5, epoch=2, start=4))
    assert len(rest) == len(whole) - 4
    for (x, y), (x_rest, y_rest) in zip(whole[4:], rest, strict=True):
        assert torch.equal(x, x_rest)
        assert y is not None
        assert y_rest is not None
        assert torch.equal(y, y_rest)


def test_batches_are_made_on_the_device_asked_for(grey: Path) -> None:
    x, y = next(load(grey).batches("train", 3, device="meta"))
    assert (x.device.type, x.dtype, x.shape) == ("meta", torch.float32, (3, 1, 5, 7))
    assert y is not None
    assert y.device.type == "meta"


def test_the_last_batch_may_be_dropped() -> None:
    assert len(order(numbered(), 5, drop_last=True)) == 20
    assert len(order(numbered(), 5)) == 23


def test_rows_without_labels_have_none(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((5, 3, 2), np.uint8) * 7)
    assert next(load(tmp_path / "a.npy").batches("train", 2))[1] is None


def test_an_empty_split_has_no_batches(grey: Path) -> None:
    data = load(grey, DataConfig(validation=0))
    assert len(data.validation) == 0
    assert list(data.batches("validation", 3)) == []
    assert data.rows("validation", []).shape == (0, 1, 5, 7)
    assert load(grey, DataConfig(validation=0, binarization="dynamic")).rows("validation", []).shape == (
        0,
        1,
        5,
        7,
    )


def test_a_memory_mapped_file_gives_the_batches_of_the_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(1)
    np.save(tmp_path / "images.npy", generator.integers(0, 256, (19, 5, 7, 3), dtype=np.uint8))
    np.save(tmp_path / "table.npy", generator.normal(1e6, 3, (19, 5)))
    for file in ("images.npy", "table.npy"):
        in_memory = load(tmp_path / file)
        assert not isinstance(in_memory.train.source.x, np.memmap)
        with monkeypatch.context() as patch:
            patch.setattr("ancestral.data.files.IN_MEMORY", 1)
            mapped = load(tmp_path / file)
        assert isinstance(mapped.train.source.x.base, np.memmap) or isinstance(
            mapped.train.source.x, np.memmap
        )
        for split in ("train", "validation", "test"):
            pairs = zip(in_memory.batches(split, 3), mapped.batches(split, 3), strict=True)  # type: ignore[arg-type]
            assert all(torch.equal(a, b) for (a, _), (b, _) in pairs)
            assert in_memory.digest(split) == mapped.digest(split)  # type: ignore[arg-type]


def test_numbers_out_of_range_are_refused() -> None:
    data = numbered()
    with pytest.raises(AncestralError, match="batch_size"):
        data.batches("train", 0)
    for word in ("seed", "epoch", "start"):
        with pytest.raises(AncestralError, match=word):
            data.batches("train", 5, **{word: -1})  # type: ignore[arg-type]
    for row in (-1, 23):
        with pytest.raises(AncestralError, match=str(row)):
            data.rows("test", [0, row])


def test_an_unknown_split_is_answered_with_the_nearest() -> None:
    with pytest.raises(AncestralError, match="'validation'"):
        numbered().batches("valid", 5)  # type: ignore[arg-type]

"""From grey levels to what a model sees."""

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


def of_levels(rows: np.ndarray, levels: int, **config: object) -> Dataset:
    """A data set whose three splits are the same rows."""
    split = Split(Rows(rows), np.arange(len(rows)))
    return Dataset("rows", split, split, split, DataConfig(**config), levels)  # type: ignore


def test_levels_are_divided_by_the_largest() -> None:
    data = of_levels(np.array([[0, 8, 16]], np.uint8), 17)
    assert data.rows("test", [0]).tolist() == [[0.0, 0.5, 1.0]]
    assert data.description.kind == "levels"


def test_threshold_is_above_one_half() -> None:
    assert of_levels(np.array([[0, 8, 9, 16]], np.uint8), 17, binarization="threshold").rows(
        "test", [0]
    ).tolist() == [[0, 0, 1, 1]]
    assert of_levels(np.array([[0, 127, 128, 255]], np.uint8), 256, binarization="threshold").rows(
        "test", [0]
    ).tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("binarization", ["static", "dynamic"])
@pytest.mark.parametrize("levels", [17, 256])
def test_black_is_never_one_and_white_always(binarization: str, levels: int) -> None:
    rows = np.stack([np.zeros(50_021, np.uint8), np.full(50_021, levels - 1, np.uint8)])
    data = of_levels(rows, levels, binarization=binarization)
    for split in ("train", "test"):
        x, _ = next(data.batches(split, 2, shuffle=False))  # type: ignore
        assert x[0].sum() == 0
        assert x[1].sum() == 50_021


@pytest.mark.parametrize(("levels", "level"), [(17, 5), (256, 1), (256, 101), (256, 254)])
def test_the_probability_of_one_is_the_grey_level(levels: int, level: int) -> None:
    n = 1_000_003
    data = of_levels(np.full((1, n), level, np.uint8), levels, binarization="dynamic")
    (x, _) = next(data.batches("train", 1, seed=2, epoch=3))
    p = level / (levels - 1)
    # A denominator of 256 instead of 255 would be off by many standard errors where p is near 1.
    assert abs(float(x.mean()) - p) < 4 * (p * (1 - p) / n) ** 0.5


def test_dynamic_noise_is_fresh_each_epoch_and_fixed_outside_training(grey: Path) -> None:
    data = load(grey, DataConfig(binarization="dynamic"))

    def epoch(split: str, number: int, size: int = 3) -> torch.Tensor:
        return torch.cat([x for x, _ in data.batches(split, size, epoch=number, shuffle=False)])  # type: ignore

    assert not torch.equal(epoch("train", 0), epoch("train", 1))
    assert torch.equal(epoch("train", 1), epoch("train", 1))
    assert torch.equal(epoch("test", 0), epoch("test", 1))
    assert torch.equal(epoch("test", 0, size=1), epoch("test", 0, size=2))
    assert torch.equal(epoch("test", 0), data.rows("test", range(len(data.test))))
    assert data.description.kind == "binary"


def test_static_binarization_is_a_function_of_the_split_seed(grey: Path) -> None:
    def train(seed: int, epoch: int) -> torch.Tensor:
        # Both official splits, so that the rows are the same under each seed.
        x = np.random.default_rng(0).integers(0, 256, (7, 11), dtype=np.uint8)
        data = of_levels(x, 256, binarization="static", split_seed=seed)
        return torch.cat([x for x, _ in data.batches("train", 3, epoch=epoch, shuffle=False)])

    assert torch.equal(train(0, 0), train(0, 5))
    assert not torch.equal(train(0, 0), train(1, 0))


def test_noise_of_fixed_rows_depends_on_the_row_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (13, 11), dtype=np.uint8)
    whole = of_levels(rows, 256, binarization="dynamic").rows("test", [7, 2, 11])
    monkeypatch.setattr("ancestral.data.dataset.IN_MEMORY", 1)  # nothing is kept
    assert torch.equal(of_levels(rows, 256, binarization="dynamic").rows("test", [7, 2, 11]), whole)


@settings(deadline=None, max_examples=20)
@given(st.integers(3, 256), st.integers(0, 2**32))
def test_dequantized_values_lie_within_their_level(levels: int, seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, levels, (3, 101), dtype=np.uint8)
    rows[:, 0], rows[:, 1] = 0, levels - 1
    data = of_levels(rows, levels, dequantize="yes")
    (x, _) = next(data.batches("train", 3, seed=seed, shuffle=False))
    assert data.description.kind == "continuous"
    assert float(x.min()) > 0
    assert float(x.max()) < 1
    assert np.array_equal(data.to_original(x), rows)


def test_dequantization_is_uniform() -> None:
    data = of_levels(np.full((1, 200_003), 255, np.uint8), 256, dequantize="yes")
    u = next(data.batches("train", 1))[0].double() * 256 - 255
    assert abs(float(u.mean()) - 1 / 2) < 4 * (1 / 12 / 200_003) ** 0.5
    assert abs(float(u.var()) - 1 / 12) < 0.001
    assert float(u.max()) < 1


def test_rows_of_zeros_and_ones_have_nothing_to_draw() -> None:
    rows = np.array([[0, 1, 1], [1, 0, 1]], np.uint8)
    for binarization in ("auto", "none", "threshold", "static", "dynamic"):
        data = of_levels(rows, 2, binarization=binarization)
        assert data.config.binarization == "none"
        assert data.description.kind == "binary"
        assert data.rows("train", [0, 1]).tolist() == rows.tolist()


def test_automatic_preparation_is_resolved() -> None:
    rows = np.array([[0, 200]], np.uint8)
    split = Split(Rows(rows), np.arange(1))
    data = Dataset("rows", split, split, split, DataConfig(), 256, usual_binarization="dynamic")
    assert (data.config.binarization, data.config.dequantize) == ("dynamic", "no")
    continuous = data.prepared(dequantize="yes")
    assert (continuous.config.binarization, continuous.config.dequantize) == ("none", "yes")
    assert continuous.train is data.train
    assert data.prepared(binarization="none").description.kind == "levels"


def test_binarization_and_dequantization_exclude_each_other() -> None:
    with pytest.raises(AncestralError, match="exclude each other"):
        of_levels(np.zeros((2, 3), np.uint8), 256, binarization="static", dequantize="yes")


def test_real_values_are_neither_binarized_nor_dequantized() -> None:
    rows = np.zeros((2, 3), np.float32)
    with pytest.raises(AncestralError, match="real values"):
        of_levels(rows, 0, binarization="dynamic")
    with pytest.raises(AncestralError, match="continuous already"):
        of_levels(rows, 0, dequantize="yes")


def test_levels_come_back_as_they_were(grey: Path) -> None:
    data = load(grey)
    assert np.array_equal(data.to_original(data.rows("train", [0, 1])), data.train.x[:2])
    bits = data.prepared(binarization="threshold")
    assert set(np.unique(bits.to_original(bits.rows("train", [0, 1])))) == {0, 255}


def test_a_digest_names_the_content_and_the_preparation(grey: Path) -> None:
    data = load(grey)
    digests = {
        prepared.digest("test")
        for prepared in (
            data,
            data.prepared(binarization="threshold"),
            data.prepared(binarization="dynamic"),
            data.prepared(dequantize="yes"),
        )
    }
    assert len(digests) == 4
    assert data.digest("test") == load(grey).digest("test")
    assert data.digest("test") != data.digest("train")
    assert data.digest("train") != load(grey, DataConfig(train_limit=5)).digest("train")
    assert len(data.digest("validation")) == 64


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("binarization", "statick"),
        ("dequantize", "maybe"),
        ("validation", -0.1),
        ("validation", float("nan")),
        ("test", 1.0),
        ("split_seed", -1),
        ("train_limit", -1),
    ],
)
def test_a_configuration_out_of_range_is_refused(field: str, value: object) -> None:
    with pytest.raises(AncestralError, match=field):
        DataConfig(**{field: value})  # type: ignore


def test_held_out_parts_leave_rows_to_train_on() -> None:
    with pytest.raises(AncestralError, match="less than 1"):
        DataConfig(validation=0.5, test=0.5)


def test_a_misspelled_binarization_is_answered_with_the_nearest() -> None:
    with pytest.raises(AncestralError, match="'static'"):
        DataConfig(binarization="statik")  # type: ignore

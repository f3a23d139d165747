"""Splits are a function of the seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from ancestral.configs.data import DataConfig
from ancestral.data import load
from ancestral.data.dataset import Rows
from ancestral.data.loading import assemble
from ancestral.data.raw import Raw
from ancestral.data.splitting import BLOCKS, block_split, limited, random_split
from ancestral.errors import AncestralError


@settings(deadline=None, max_examples=50)
@given(
    st.integers(2, 997),
    st.floats(0, 0.49),
    st.floats(0, 0.5),
    st.integers(0, 99),
    st.sampled_from(["rows", "video"]),
)
def test_every_row_lies_in_one_split(n: int, validation: float, test: float, seed: int, kind: str) -> None:
    split = block_split if kind == "video" else random_split
    config = DataConfig(validation=validation, test=test, split_seed=seed)
    parts = split(n, config)
    assert sorted(np.concatenate(parts)) == list(range(n))
    assert len(parts[0]) >= 1
    assert all(np.all(np.diff(part) > 0) for part in parts)
    for part, fraction in ((parts[1], validation), (parts[2], test)):
        assert len(part) <= max(1, round(fraction * n))


def test_parts_have_the_sizes_asked_for() -> None:
    assert [len(part) for part in random_split(1000, DataConfig(validation=0.1, test=0.2))] == [700, 100, 200]
    assert [len(part) for part in block_split(1000, DataConfig(validation=0.1, test=0.2))] == [700, 100, 200]
    assert [len(part) for part in random_split(1000, DataConfig(validation=0, test=0))] == [1000, 0, 0]


def test_official_splits_take_no_rows_from_the_training_rows() -> None:
    config = DataConfig(validation=0.1, test=0.2)
    assert [len(part) for part in random_split(1000, config, has_test=True)] == [900, 100, 0]
    assert [len(part) for part in random_split(1000, config, has_validation=True, has_test=True)] == [
        1000,
        0,
        0,
    ]


def test_a_part_to_hold_out_where_there_is_an_official_split_is_an_error() -> None:
    x = np.random.default_rng(0).integers(0, 2, (23, 5), dtype=np.uint8)
    raw = Raw(Rows(x[:11]), validation=Rows(x[11:16]), test=Rows(x[16:]), levels=2)
    for asked, words in (
        (DataConfig(validation=0.3), r"validation is 0\.3, which has no effect: bits has an official .* 5 rows"),
        (DataConfig(test=0.5), r"test is 0\.5, which has no effect: bits .* 7 rows. Leave --test out"),
    ):
        with pytest.raises(AncestralError, match=words):
            assemble("bits", raw, asked)
    for asked in (DataConfig(), DataConfig(validation=0, test=0)):
        data = assemble("bits", raw, asked)
        assert [len(data.train), len(data.validation), len(data.test)] == [11, 5, 7]


def test_the_seed_changes_the_split() -> None:
    for split in (random_split, block_split):
        parts = [split(101, DataConfig(split_seed=seed))[2].tolist() for seed in (0, 0, 1)]
        assert parts[0] == parts[1] != parts[2]


def test_frames_of_a_video_are_split_in_blocks() -> None:
    owner = np.empty(1965, int)
    for name, part in enumerate(block_split(1965, DataConfig())):
        owner[part] = name
    borders = np.count_nonzero(np.diff(owner))
    # Each block has two borders at the most.
    assert borders <= 2 * 2 * BLOCKS
    for name in (1, 2):
        starts = np.count_nonzero(np.diff((owner == name).astype(int)) == 1) + (owner[0] == name)
        assert 2 <= starts <= BLOCKS


def test_fewer_training_rows_are_drawn_after_the_split(grey: Path) -> None:
    whole, few = load(grey), load(grey, DataConfig(train_limit=5))
    assert len(few.train) == 5
    assert set(few.train.index) < set(whole.train.index)
    assert np.array_equal(few.test.index, whole.test.index)
    assert few.train.index.tolist() != whole.train.index[:5].tolist()
    assert len(load(grey, DataConfig(train_limit=1009)).train) == len(whole.train)


@pytest.mark.parametrize("seed", [0, 7])
def test_a_limit_is_a_function_of_the_seed(seed: int) -> None:
    rows = np.arange(97)
    assert np.array_equal(
        limited(rows, DataConfig(train_limit=11, split_seed=seed)),
        limited(rows, DataConfig(train_limit=11, split_seed=seed)),
    )
    assert not np.array_equal(
        limited(rows, DataConfig(train_limit=11, split_seed=seed)),
        limited(rows, DataConfig(train_limit=11, split_seed=3)),
    )

"""Few labels: which rows keep theirs, and how they come in batches."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from ancestral.configs.data import HIDDEN, DataConfig
from ancestral.data.dataset import Dataset, Rows
from ancestral.data.loading import assemble
from ancestral.data.raw import Raw
from ancestral.errors import AncestralError

ROWS = 97


def images(labels: int = 11, per_batch: int = 5, classes: int = 3, **settings: Any) -> Dataset:
    """97 rows, each of another grey level, of which 82 are for training."""
    x = np.arange(ROWS, dtype=np.uint8)[:, None]
    y = np.random.default_rng(0).integers(0, classes, ROWS)
    config = DataConfig(labels=labels, labels_per_batch=per_batch, validation=0, binarization="none", **settings)
    return assemble("rows", Raw(Rows(x, y), levels=ROWS), config)


def everything(data: Dataset, **options: Any) -> list[tuple[list[int], list[int]]]:
    """Rows and labels of each batch, as whole numbers."""
    return [
        ((x[:, 0] * (ROWS - 1)).round().int().tolist(), y.tolist())
        for x, y in data.batches("train", 13, **options)
        if y is not None
    ]


@pytest.mark.parametrize(("labels", "classes"), [(11, 3), (12, 3), (3, 3), (29, 7)])
def test_every_class_keeps_as_many_labels_and_no_other_label_is_there(labels: int, classes: int) -> None:
    data, whole = images(labels, 2, classes), images(0, 10, classes)
    assert data.train.y is not None
    assert whole.train.y is not None
    known = data.train.y != HIDDEN
    counts = np.bincount(data.train.y[known], minlength=classes)
    assert counts.sum() == labels
    assert counts.max() - counts.min() == (labels % classes > 0)
    np.testing.assert_array_equal(data.train.y[known], whole.train.y[known])
    assert data.train.source.y is not None
    assert (data.train.source.y != HIDDEN).sum() == labels  # those of rows of other splits are not there either
    np.testing.assert_array_equal(data.test.y, whole.test.y)  # type: ignore[arg-type]
    assert data.description.classes == classes
    assert data.description.labeled == labels / len(data.train)
    assert whole.description.labeled == 1


def test_which_rows_keep_their_label_is_a_function_of_the_split_seed() -> None:
    def known(seed: int) -> list[int]:
        data = images(split_seed=seed)
        assert data.train.y is not None
        return data.train.index[data.train.y != HIDDEN].tolist()

    assert known(1) == known(1) != known(2)


def test_a_batch_has_its_rows_and_then_rows_with_a_label() -> None:
    data = images()
    batches, plain = everything(data, seed=3, epoch=2), everything(images(0, 10), seed=3, epoch=2)
    assert [len(rows) for rows, _ in batches] == [18, 18, 18, 18, 18, 18, 9]
    added = []
    for (rows, labels), (other, _) in zip(batches, plain, strict=True):
        assert rows[:-5] == other  # the same order as if all were known
        assert all(label != HIDDEN for label in labels[-5:])
        added += rows[-5:]
    assert sorted(added[:11]) == sorted(added[11:22]) == sorted(set(added))  # each in its turn
    assert added[:11] != added[11:22]
    assert sorted(row for rows, _ in batches for row in rows[:-5]) == sorted(data.train.index.tolist())
    assert sum(label != HIDDEN for _, labels in batches for label in labels[:-5]) == 11


def test_the_rows_with_a_label_are_a_function_of_seed_and_epoch_wherever_an_epoch_is_continued() -> None:
    data = images()
    whole = everything(data, seed=3, epoch=2)
    assert everything(data, seed=3, epoch=2, start=4) == whole[4:]
    assert everything(images(), seed=3, epoch=2) == whole
    for other in ({"seed": 4, "epoch": 2}, {"seed": 3, "epoch": 5}):
        assert [rows[-5:] for rows, _ in everything(data, **other)] != [rows[-5:] for rows, _ in whole]
    assert everything(data, seed=3, epoch=2, drop_last=True) == whole[:-1]
    assert list(data.batches("train", 1000, drop_last=True)) == []


def test_batches_that_are_not_for_training_have_their_rows_alone() -> None:
    data = images()
    assert [len(x) for x, _ in data.batches("train", 50, shuffle=False)] == [50, 32]
    assert [len(x) for x, _ in data.batches("test", 50)] == [15]
    assert [len(x) for x, _ in data.batches("test", 50, shuffle=True)] == [15]
    labels = torch.cat([y for _, y in data.batches("train", 50, shuffle=False) if y is not None])
    assert int((labels != HIDDEN).sum()) == 11


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"labels": -1}, "labels was -1"),
        ({"labels_per_batch": 0}, "labels_per_batch was 0"),
        ({"labels": 5}, "only 5 rows have a label: use --labels-per-batch 5 or less"),
    ],
)
def test_settings_out_of_range_or_without_effect_are_errors(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(AncestralError, match=words):
        DataConfig(**settings)


def test_labels_per_batch_has_no_effect_where_no_row_is_without_a_label() -> None:
    with pytest.raises(
        AncestralError, match="labels_per_batch is 3, which has no effect: all labels of rows are known"
    ):
        images(0, 3)
    rows = Raw(Rows(np.zeros((ROWS, 3), np.uint8)), levels=2)
    with pytest.raises(AncestralError, match=r"labels_per_batch is 3, which has no effect: rows has no labels\. Leave"):
        assemble("rows", rows, DataConfig(labels_per_batch=3))


def partly(labels: int = 0, per_batch: int = 5, without: float = 0.8, **settings: Any) -> Dataset:
    """The same rows, of which many have no label from the start."""
    x = np.arange(ROWS, dtype=np.uint8)[:, None]
    random = np.random.default_rng(0)
    y = np.where(random.random(ROWS) < without, HIDDEN, random.integers(0, 3, ROWS))
    config = DataConfig(labels=labels, labels_per_batch=per_batch, validation=0, binarization="none", **settings)
    return assemble("rows", Raw(Rows(x, y), levels=ROWS), config)


def test_rows_that_have_no_label_from_the_start_are_as_those_whose_label_is_hidden() -> None:
    data = partly()
    y = data.train.y
    assert y is not None
    known = int((y != HIDDEN).sum())
    assert 5 < known < 30
    assert data.classes == 3
    assert data.description.labeled == known / 82
    batches = everything(data, seed=3)
    assert [len(rows) for rows, _ in batches] == [18, 18, 18, 18, 18, 18, 9]
    assert all(label != HIDDEN for _, labels in batches for label in labels[-5:])
    plain = everything(dataclasses.replace(data, adds_labeled=False), seed=3)
    assert [rows for rows, _ in plain] == [rows[:-5] for rows, _ in batches]


def test_labels_are_kept_of_rows_that_have_one() -> None:
    whole, data = partly(), partly(labels=7)
    assert whole.train.y is not None
    assert data.train.y is not None
    known = data.train.y != HIDDEN
    assert known.sum() == 7
    np.testing.assert_array_equal(data.train.y[known], whole.train.y[known])
    assert set(data.train.y[known]) == {0, 1, 2}
    count = int((whole.train.y != HIDDEN).sum())
    with pytest.raises(AncestralError, match=f"no effect: rows has {count} training rows with a label"):
        partly(labels=count)


def test_more_rows_with_a_label_than_there_are_can_not_be_added() -> None:
    with pytest.raises(AncestralError, match=r"labels_per_batch is 50, but only (\d+) .*--labels-per-batch \1 or less"):
        partly(per_batch=50).batches("train", 13)
    assert len(list(partly(per_batch=50).batches("train", 13, shuffle=False))) == 7


def test_no_row_is_added_where_none_of_the_training_rows_has_a_label() -> None:
    x = np.arange(ROWS, dtype=np.uint8)[:, None]
    raw = Raw(Rows(x, np.full(ROWS, HIDDEN)), test=Rows(x, np.arange(ROWS) % 3), levels=ROWS)
    data = assemble("rows", raw, DataConfig(validation=0, binarization="none"))
    assert data.description.labeled == 0
    assert data.description.classes == 3
    assert [len(rows) for rows, _ in everything(data)] == [13] * 7 + [6]


def test_labels_that_can_not_be_chosen_are_errors() -> None:
    with pytest.raises(AncestralError, match=r"labels is 2, but rows has 3 classes.*--labels 3"):
        images(2, 1)
    with pytest.raises(AncestralError, match="labels is 82, which has no effect: rows has 82 training rows"):
        images(82)
    with pytest.raises(AncestralError, match=r"labels is 81, 27 of each class, but the class \d of rows has 2\d"):
        images(81)
    rows = Raw(Rows(np.zeros((ROWS, 3), np.uint8)), levels=2)
    with pytest.raises(AncestralError, match="labels is 11, but rows has no labels"):
        assemble("rows", rows, DataConfig(labels=11))

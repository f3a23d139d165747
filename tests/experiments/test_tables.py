"""The published comparisons: every cell can be trained, columns have equal budgets, records are honest."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ancestral.configs import MODELS, DataConfig, TrainingConfig
from ancestral.errors import AncestralError

CELL = "toy/digits/straight-through"


@pytest.fixture
def tables(program_of: Callable[[str], Any]) -> Any:
    return program_of("tables")


@pytest.fixture
def toy(tables: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program with a table of one small cell besides."""
    row = tables.Row(
        "Digits",
        {"model": "sbn", "data": "digits", "layers": (5,)},
        {"straight-through": {"estimator": "straight-through", "slope_end": 2.0}, "nvil": {"estimator": "nvil"}},
        {"straight-through": 17.0},
        epochs=2,
        paper_epochs=3,
        particles=7,
    )
    monkeypatch.setitem(tables.TABLES, "toy", {"digits": row})
    monkeypatch.setitem(tables.SHARED, "batch_size", 499)
    return tables


def test_every_cell_can_be_trained(tables: Any) -> None:
    names = list(tables.cells())
    assert len(names) == len(set(names)) == 8 * 4 + 5 * 2 + 2 * 6 + 4 * 3 + 4 + 4 + 3
    training = {field.name for field in dataclasses.fields(TrainingConfig)}
    of_data = {field.name for field in dataclasses.fields(DataConfig)}
    for cell in names:
        table, row, _ = cell.split("/")
        rates = tables.TABLES[table][row].rates
        assert len(rates) == 1 or set(rates) <= set(tables.EVERY_RATE)
        for rate in rates:
            settings = tables.settings_of(cell, rate, tables.epochs_of(cell, "default"))
            config, _ = MODELS[settings.pop("model")]
            assert settings.pop("data") in ("binarized-mnist", "mnist")
            TrainingConfig(**{key: value for key, value in settings.items() if key in training})
            settings = {key: value for key, value in settings.items() if key not in of_data}
            config(**{key: value for key, value in settings.items() if key not in training})  # raises what is wrong


def test_the_columns_of_a_row_differ_in_what_is_compared_alone(tables: Any) -> None:
    for table, rows in tables.TABLES.items():
        for name, row in rows.items():
            of_estimators = {key for settings in row.columns.values() for key in settings} | {"slope_rate"}
            if row.relaxed:
                of_estimators |= row.relaxed.keys()
            budgets = [
                {k: v for k, v in tables.settings_of(f"{table}/{name}/{column}", 1e-3, 7).items()
                 if k not in of_estimators}
                for column in row.columns
            ]  # fmt: skip
            assert all(budget == budgets[0] for budget in budgets)
            assert {"epochs", "batch_size", "learning_rate", "schedule"} <= budgets[0].keys()


def test_weights_are_chosen_by_the_figure_of_the_table(tables: Any) -> None:
    def particles(cell: str) -> int | None:
        return tables.settings_of(cell, 1e-3, 7).get("validation_particles")  # type: ignore[no-any-return]

    assert particles("gumbel-softmax/vae-bernoulli/darn") == particles("vimco/sbn-200-5/vimco") == 25
    assert particles("muprop/sbn-200/half") is None  # its figure is the bound itself


def test_cells_are_found_by_whole_words(tables: Any) -> None:
    assert len(list(tables.cells("gumbel-softmax/vae-bernoulli"))) == 8
    assert list(tables.cells("gumbel-softmax/vae")) == []
    assert list(tables.cells("muprop/sbn-200/half")) == ["muprop/sbn-200/half"]


def test_a_cell_is_trained_recorded_and_then_left_alone(toy: Any, tmp_path: Path) -> None:
    assert toy.recorded(CELL, "default") is None
    toy.reproduce(CELL, "default")
    record = toy.recorded(CELL, "default")
    assert record["settings"]["epochs"] == 2
    losses, after = record["validation_losses"], record["chosen_after_passes"]
    assert ({"0.001", "0.003", "0.01"} <= set(losses), after) == (True, 1)
    best = min(losses, key=losses.__getitem__)
    assert not toy.beyond({float(rate): loss for rate, loss in losses.items()})  # on both sides others are worse
    assert float(best) == record["settings"]["learning_rate"]
    for folder in (tmp_path / "runs" / "default" / CELL).iterdir():
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        validations = {row["epoch"]: row["validation loss"] for row in rows if "validation loss" in row}
        rate = folder.name.split("-")[1]
        assert validations[after] == losses[rate]  # all were trained so far, by the schedule of the whole
        assert max(validations) == (2 if rate == best else after)  # and one to the end
    figure = next(figure for figure in record["figures"] if figure["name"] == "log p(x)")
    assert (figure["particles"], figure["data"].split(", ")[1]) == (7, "test")
    file = toy.record_of(CELL, "default")
    before = file.stat().st_mtime_ns
    toy.reproduce(CELL, "default")
    assert file.stat().st_mtime_ns == before
    page = toy.written("default")
    assert "**Digits**, 2 passes (`toy/digits`)" in page
    assert f"| straight-through | **{-figure['value']:.2f}** ± {figure['standard_error']:.2f} | " in page
    assert f"| 17.0 | {float(best):g}" in page
    assert "| nvil | | | | |" in page  # a column without a record is there, and empty
    # a record that other settings have made counts no more
    toy.TABLES["toy"]["digits"] = dataclasses.replace(toy.TABLES["toy"]["digits"], particles=11)
    assert toy.recorded(CELL, "default") is None


def test_beyond_the_best_rate_another_is_tried_until_it_lies_between_worse_ones(tables: Any) -> None:
    assert tables.beyond({1e-3: 5.0, 3e-3: 4.0, 1e-2: 4.5}) == []
    assert tables.beyond({1e-3: 3.0, 3e-3: 4.0, 1e-2: 4.5}) == [3e-4]
    assert tables.beyond({1e-3: 3.0, 3e-3: 4.0, 1e-2: 4.5, 3e-4: 2.0}) == [1e-4]
    assert tables.beyond({1e-3: 3.0, 3e-3: 4.0, 1e-2: 4.5, 3e-4: 2.0, 1e-4: 1.0}) == []  # there is none
    assert tables.beyond({1e-3: 5.0, 3e-3: 4.0, 1e-2: 3.5}) == [3e-2]
    assert tables.beyond({1e-3: float("inf"), 3e-3: float("inf"), 1e-2: float("inf")}) == []


def test_a_rate_at_the_end_of_those_tried_is_marked(toy: Any) -> None:
    row = toy.TABLES["toy"]["digits"]
    figures = [
        {"name": "log p(x)", "value": -3.0, "standard_error": 0.5, "particles": 7},
        {"name": "ELBO", "value": -5.0, "standard_error": 0.5},
    ]
    for losses, marked in (({"0.001": 1.0, "0.003": 2.0}, True), ({"0.001": 1.0, "0.0003": 2.0, "0.003": None}, False)):
        record = {
            "figures": figures, "settings": {"learning_rate": 1e-3}, "minutes": 2.0,
            "validation_losses": losses,
        }  # fmt: skip
        assert ("at an end of those tried" in toy.entry(row, "nvil", record)) == marked


def test_a_cell_that_diverges_at_every_rate_says_so(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(toy.TABLES["toy"], "digits", dataclasses.replace(toy.TABLES["toy"]["digits"], rates=(1e30,)))
    monkeypatch.setitem(toy.SHARED, "optimizer", "sgd")
    with pytest.raises(AncestralError, match=r"toy/digits/nvil has diverged at every learning rate"):
        toy.reproduce("toy/digits/nvil", "default")
    assert not list(toy.HERE.glob("results/**/*.json"))


def test_an_unknown_cell_is_an_error(tables: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tables.py", "muprop/sbn-300"])
    with pytest.raises(SystemExit, match=r"there are no cells 'muprop/sbn-300'; --list shows them"):
        tables.main()


def test_the_recorded_cells_are_those_of_the_tables_with_their_settings(tables: Any, experiments: Path) -> None:
    known = {tables.record_of(cell, "default").name: cell for cell in tables.cells()}
    for file in (experiments / "results" / "default").glob("*.json"):
        record = json.loads(file.read_text(encoding="utf-8"))
        cell = known[file.name]
        assert record["asked"] == tables.asked_of(cell, tables.epochs_of(cell, "default")), file.name

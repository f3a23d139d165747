"""The figures of Kingma and Welling (2014): what is continued is what would have been, and records are honest."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ancestral.errors import AncestralError

CELL = "bound/frey/2/aevb"


@pytest.fixture
def figures(program_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program, with a step size chosen early and few rows measured."""
    program = program_of("aevb/figures")
    monkeypatch.setattr(program, "CHOOSE_AFTER", 500)
    monkeypatch.setattr(program, "MEASURED", 31)
    monkeypatch.setattr(program, "marks", lambda samples, per_decade: [n for n in (500, 700, 1_100) if n <= samples])
    return program


def test_the_cells_are_those_of_the_paper(figures: Any) -> None:
    assert len(list(figures.cells("bound/mnist"))) == 2 * 5 + 1
    assert len(list(figures.cells("bound/frey"))) == 2 * 4
    assert {name.rsplit("/", 1)[1] for name in figures.cells("likelihood/1000")} == {"aevb", "wake-sleep", "mcem"}
    assert list(figures.cells("bound/mnist/2")) == ["bound/mnist/2/aevb"]  # by whole words


@pytest.mark.parametrize("cell", [CELL, "bound/frey/2/wake-sleep"])
def test_a_cell_that_is_continued_is_the_one_that_was_not_interrupted(figures: Any, tmp_path: Path, cell: str) -> None:
    def curve() -> list[tuple[int, float, float]]:
        record = figures.read_record(figures.record_of(cell))
        return [(point["samples"], point["train"], point["test"]) for point in record["curve"]]

    figures.reproduce(cell, 700)
    assert [samples for samples, *_ in curve()] == [500, 700]
    first = figures.read_record(figures.record_of(cell))
    figures.reproduce(cell, 1_100)
    whole = curve()
    continued = figures.read_record(figures.record_of(cell))
    assert continued.keys() == first.keys()
    assert continued["digests"] == first["digests"]  # of the data
    assert figures.load(cell).value(figures.Cell(cell).train) == whole[-1][1]  # the checkpoint is whole
    assert [samples for samples, *_ in whole] == [500, 700, 1_100]
    file = figures.record_of(cell)
    before = file.read_bytes()
    figures.reproduce(cell, 700)
    assert file.read_bytes() == before  # it is there already
    shutil.rmtree(tmp_path / "runs")
    figures.reproduce(cell, 1_200)  # from the start, since there is nothing to go on from
    assert curve() == whole
    file.unlink()
    figures.reproduce(cell, 1_100)  # of the checkpoint
    assert curve() == whole


def test_a_damaged_record_is_an_error(figures: Any) -> None:
    file = figures.record_of(CELL)
    file.parent.mkdir(parents=True)
    for damaged in ("{", "[]", json.dumps({"curve": 3})):
        file.write_text(damaged, encoding="utf-8")
        with pytest.raises(AncestralError, match="not as it was written: remove it, and run its cell again"):
            figures.reproduce(CELL, 500)


def test_the_claims_compare_at_the_same_samples(figures: Any) -> None:
    def record(*values: tuple[int, float, float]) -> dict[str, Any]:
        return {"curve": [{"samples": n, "train": train, "test": test} for n, train, test in values]}

    mine = record((500, 3.0, 2.0), (700, 7.0, 5.0), (1_100, 11.0, 4.5))
    for name, curves in ((CELL, mine), ("bound/frey/2/wake-sleep", record((500, 1.0, 0.5), (700, 3.0, 2.0)))):
        file = figures.record_of(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        figures.write_record(file, curves)
    assert "| bound/frey/2 | 700 | 7.00 / 5.00 | 3.00 / 2.00 | 500 | 0.00 |" in figures.claims()
    figures.write_record(figures.record_of("bound/frey/2/wake-sleep"), record((1_100, 13.0, 5.5)))
    assert "| bound/frey/2 | 1,100 | 11.00 / 4.50 | 13.00 / 5.50 | never | 0.50 |" in figures.claims()
    del mine["curve"][1]["test"]
    figures.write_record(figures.record_of(CELL), mine)
    assert "| bound/frey/2 | 1,100 | 11.00 / 4.50 | 13.00 / 5.50 | never | – |" in figures.claims()  # nobody knows


def test_an_unknown_cell_is_an_error(figures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["figures.py", "bound/omniglot"])
    with pytest.raises(SystemExit, match=r"there are no cells 'bound/omniglot'; --list shows them"):
        figures.main()
    monkeypatch.setattr(sys, "argv", ["figures.py", CELL, "--samples", "300"])
    with pytest.raises(SystemExit, match="samples is 300, but the step size is chosen after 500"):
        figures.main()

"""``ancestral evaluate``: a table, and the same as JSON."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from ancestral import load


def test_table_and_json_agree(command: Any, runs: Any, tmp_path: Path) -> None:
    out = tmp_path / "new" / "figures.json"
    ended = command("evaluate", runs.vae, "--particles", 3, "--limit", 11, "--json", out)
    assert ended.status == 0
    record = json.loads(out.read_text(encoding="utf-8"))
    lines = ended.out.split("\n\n")[0].splitlines()
    assert len(lines) == len(record["figures"]) == 6
    for line, figure in zip(lines, record["figures"], strict=True):
        cells = re.split(r" {2,}", line)
        assert cells[0] == figure["name"]
        assert math.isclose(float(cells[1]), figure["value"], abs_tol=5.1e-5)
        if figure["standard_error"] is not None:
            assert cells[2] == f"± {figure['standard_error']:.4f}"
        assert cells[-3:] == [figure["unit"], figure["kind"], figure["estimator"]]


def test_the_figures_are_those_of_the_library_with_their_provenance(command: Any, runs: Any, tmp_path: Path) -> None:
    words = ("--particles", 3, "--limit", 11, "--seed", 5, "--split", "validation", "--json", tmp_path / "x.json")
    ended = command("evaluate", runs.vae, *words)
    record = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    run = load(runs.vae)
    expected = run.evaluate(3, "validation", seed=5, limit=11)
    assert [figure["value"] for figure in record["figures"]] == [figure.value for figure in expected]
    assert record["run"] == str(runs.vae)
    assert record["weights"] == "best"
    assert record["shape"] == [1, 8, 8]
    first = record["figures"][0]
    assert first["name"] == "log p(x)"
    assert first["unit"] == "nats"
    assert first["kind"] == "lower bound"
    assert first["estimator"] == "importance-weighted, 3 particles from q"
    assert first["standard_error"] > 0
    assert first["particles"] == 3
    assert first["datapoints"] == 11
    assert first["seed"] == 5
    assert first["likelihood"] == "Bernoulli"
    assert first["digest"] == run.data.digest("validation")
    for word in ("Bernoulli", "digits, validation, first 11 rows", first["digest"], "best weights", "seed 5"):
        assert word in ended.out


def test_the_json_goes_to_the_run_folder_unless_told_otherwise(command: Any, runs: Any, tmp_path: Path) -> None:
    run = runs.copy("table", tmp_path / "run")
    ended = command("evaluate", run, "--particles", 2)
    assert f"as JSON:  {run / 'evaluation.json'}" in ended.out
    record = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    assert record["figures"][0]["datapoints"] == len(load(run).data.test)
    assert record["figures"][0]["likelihood"] == "Normal"
    assert record["weights"] == "last"


def test_the_same_seed_gives_the_same_figures_and_another_seed_others(command: Any, runs: Any, tmp_path: Path) -> None:
    def content(*words: object) -> str:
        command("evaluate", runs.vae, "--limit", 7, *words, "--json", tmp_path / "x.json")
        return (tmp_path / "x.json").read_text(encoding="utf-8")

    assert content("--particles", 2) == content("--particles", 2)
    assert len({content("--particles", 2), content("--particles", 3), content("--particles", 2, "--seed", 1)}) == 3


def test_the_screen_shows_how_far_it_is_on_a_terminal_only(
    command: Any, runs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("evaluate", runs.vae, "--particles", 2, "--limit", 7, "--json", tmp_path / "x.json")
    assert command(*words).err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    err = command(*words).err
    assert "log p(x) -" in err
    assert "7/7" in err

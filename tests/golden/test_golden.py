"""The runs of every format that was ever released still load, sample, measure and train on as they did."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from make import last_losses, measure

import ancestral
from ancestral.training.folder import FORMAT

HERE = Path(__file__).parent
RUNS = sorted(path.with_suffix("") for path in HERE.glob("format-*/*.json"))


def test_every_format_has_its_golden_runs() -> None:
    assert {(run.parent.name, run.name) for run in RUNS} >= {
        (f"format-{number}", model) for number in range(1, FORMAT + 1) for model in ("vae", "gan")
    }


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.parent.name} {run.name}")
def test_a_golden_run_is_loaded_samples_and_measures_as_it_did(run: Path) -> None:
    expected, found = json.loads(run.with_suffix(".json").read_text()), measure(run)
    assert found["weights"] == expected["weights"]
    assert np.abs(np.array(found["samples"]) - np.array(expected["samples"])).max() < 1e-5
    assert found.get("log p(x)") == pytest.approx(expected.get("log p(x)"), abs=1e-3)
    assert ancestral.load(run).notes == []


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.parent.name} {run.name}")
def test_a_golden_run_is_trained_to_its_end(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    rows = (run / "metrics.jsonl").read_text()
    resumed = ancestral.resume(tmp_path / "run")
    assert (resumed.metrics[-1]["epoch"], len(resumed.metrics) > len(rows.splitlines())) == (3.0, True)
    assert (tmp_path / "run" / "metrics.jsonl").read_text().startswith(rows)
    expected = json.loads(run.with_suffix(".json").read_text())["resumed"]
    assert last_losses(resumed) == pytest.approx(expected, rel=1e-3)

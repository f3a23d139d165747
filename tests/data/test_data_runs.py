"""Data that were loaded first and then trained on are found again by the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ancestral
from ancestral.configs.data import DataConfig
from ancestral.data import load
from ancestral.data.dataset import Rows
from ancestral.data.loading import assemble
from ancestral.data.raw import Raw

SMALL: dict[str, Any] = {"latent": 3, "hidden": (7,), "epochs": 1, "batch_size": 13}
GREY = np.random.default_rng(1).integers(0, 256, (53, 5, 7), dtype=np.uint8)


def test_a_file_that_was_passed_loaded_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "grey.npy", GREY)
    monkeypatch.chdir(tmp_path)
    data = load("grey.npy", DataConfig(split_seed=5, binarization="static"))
    ancestral.train("vae", data, out="run", **SMALL)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert ancestral.load("../run").data.digest("test") == data.digest("test")


def test_data_in_memory_that_are_called_like_a_set_are_not_taken_for_it(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).integers(0, 2, (53, 7), dtype=np.uint8)
    data = assemble("digits", Raw(Rows(rows), levels=2), DataConfig())
    run = ancestral.train("vae", data, out=tmp_path / "run", **SMALL)
    assert run.config["in_memory"]

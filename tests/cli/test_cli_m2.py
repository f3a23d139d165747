"""Every verb of the semi-supervised VAE."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Command = Callable[..., Any]
FEW = ["--labels", 50, "--batch-size", 239, "--latent", 3, "--hidden", 7]


def test_every_verb_works_with_labels_that_are_few(command: Command) -> None:
    ended = command("train", "m2", "digits", *FEW, "--epochs", 2, "--out", "run")
    assert ended.status == 0, ended.err
    assert "ancestral evaluate run" in ended.out
    assert command("sample", "run", "-n", 5, "--given", "y=3", "--out", "threes.npy").status == 0
    assert np.load("threes.npy").shape == (5, 1, 8, 8)
    for words in (
        ["sample", "run", "-n", 10],
        ["reconstruct", "run", "-n", 7],
        ["reconstruct", "run", "-n", 7, "--draws", "--out", "drawn.png"],
        ["interpolate", "run"],
        ["resume", "run"],
        ["report", "run"],
    ):
        ended = command(*words)
        assert ended.status == 0, (words, ended.err)
    ended = command("evaluate", "run", "--particles", 5)
    assert ended.status == 0
    (line,) = [line for line in ended.out.splitlines() if line.startswith("accuracy")]
    assert "%" in line
    assert "q(y | x)" in line
    (figure,) = [f for f in json.loads(Path("run/evaluation.json").read_text())["figures"] if f["name"] == "accuracy"]
    assert 0 <= figure["value"] <= 100
    assert figure["standard_error"] > 0
    assert len(figure["digest"]) == 64
    assert figure["data"] == "digits, test"
    assert command("report", "run").status == 0
    assert "accuracy" in Path("run/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sample", "run", "--given", "y=10"], "y=10: '10' is no class of 'y'"),
        (["sample", "run", "--given", "x=3"], "no variable 'x'"),
    ],
)
def test_a_class_that_there_is_not_is_an_error(words: list[str], said: str, command: Command) -> None:
    assert command("train", "m2", "digits", *FEW, "--epochs", 1, "--out", "run").status == 0
    ended = command(*words)
    assert ended.status == 1
    assert said in ended.err


def test_data_without_labels_and_models_that_have_no_use_for_few_are_errors(command: Command) -> None:
    np.save("bare.npy", np.random.default_rng(0).integers(0, 2, (53, 7), dtype=np.uint8))
    ended = command("train", "m2", "bare.npy", "--out", "run")
    assert (ended.status, "these data have none" in ended.err) == (1, True)
    ended = command("train", "vae", "digits", "--labels", 50, "--out", "run")
    assert (ended.status, "vae does not learn from labels" in ended.err) == (1, True)
    assert not Path("run").exists()

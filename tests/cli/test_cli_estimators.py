"""``ancestral estimators``: on toys, and on a trained run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def test_without_a_run_two_toys_are_compared_and_the_next_command_named(command: Any) -> None:
    ended = command("estimators", "--draws", 30, "--fit", 3, "--estimators", "reinforce", "disarm", "reparameterized")
    assert ended.status == 0
    assert "E[(b - 0.499)²], b ~ Bernoulli(0.3)" in ended.out
    assert "-ELBO of p(x, h1, h2)" in ended.out
    assert ended.out.count("length of the gradient") == ended.out.count(", exact") == 2
    assert ended.out.count("\ndisarm ") == 2
    assert ended.out.count("reparameterized: 'b' is a Bernoulli, which can't be reparameterized") == 1
    assert "next:  ancestral train sbn digits --estimator disarm --particles 2" in ended.out
    record = json.loads(Path("estimators.json").read_text(encoding="utf-8"))
    assert record["draws"] == 30
    assert record["versions"].keys() >= {"python", "torch", "ancestral"}
    assert len(record["problems"]) == 2
    assert Path("estimators.html").is_file()


def test_the_toy_is_the_one_asked_for(command: Any) -> None:
    words = [
        "estimators",
        "--draws",
        4,
        "--estimators",
        "enumerate",
        "--target",
        0.25,
        "--mean",
        0.5,
        "--out",
        "t.html",
    ]
    assert "length of the gradient: 0.125, exact" in command(*words).out  # 1/4 (1 - 2/4)
    assert Path("t.json").is_file()
    assert "particles: 1" in command(*words, "--particles", 1).out
    assert "estimators names none" in command("estimators", "--estimators").err


def test_a_trained_run_is_compared_at_its_rows_and_the_page_lies_in_its_folder(
    command: Any, runs: Any, tmp_path: Path
) -> None:
    run = runs.copy("vae", tmp_path / "run")
    words = ["--draws", 5, "--rows", 7, "--split", "validation", "--estimators", "reparameterized", "rloo", "darn"]
    ended = command("estimators", run, *words)
    assert ended.status == 0
    assert "mean of 80 unbiased ones (Reparameterized, 8 particles)" in ended.out
    assert "darn: 'z' is a " in ended.out
    assert f"next:  ancestral evaluate {run}" in ended.out
    record = json.loads((run / "estimators.json").read_text(encoding="utf-8"))
    assert record["rows"] == "digits, validation, first 7"
    assert len(record["weights_digest"]) == len(record["rows_digest"]) == 64
    assert [one["name"] for one in record["problems"][0]["estimators"]] == ["reparameterized", "rloo"]
    assert (run / "estimators.html").is_file()


def test_a_run_whose_model_takes_an_estimator_is_told_the_best_one(command: Any, tmp_path: Path) -> None:
    words = ["--layers", 3, "--epochs", 1, "--estimator", "disarm", "--batch-size", 239]
    assert command("train", "sbn", "digits", *words, "--out", "net").status == 0
    ended = command("estimators", "net", "--draws", 40, "--estimators", "reinforce", "enumerate", "straight-through")
    assert ended.status == 0
    assert ", exact" in ended.out
    (line,) = [line for line in ended.out.splitlines() if line.startswith("next:  ")]
    named = line.removeprefix("next:  ancestral ").split()
    assert named[:3] == ["train", "sbn", "digits"]
    assert named[named.index("--layers") + 1] == "3"
    assert command(*named, "--epochs", 1, "--batch-size", 239, "--out", "again").status == 0


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["--estimators", "mu-prop"], "Did you mean 'muprop'"),
        (["--estimators", "darn", "darn"], "names darn 2 times"),
        (["--draws", "3"], "draws is 3"),
        (["--fit=-1"], "fit is -1"),
        (["--particles", "0"], "particles is 0"),
        (["--mean", "1"], "mean is 1"),
        (["--target", "nan"], "target is nan"),
        (["--rows", "5"], "rows is 5, which has no effect without a run"),
        (["--split", "train"], "leave --split out"),
        (["--seed=-1"], "seed is -1"),
        (["--out", "e.png"], "--out FILE.html"),
    ],
)
def test_what_can_not_be_is_refused_without_a_run(command: Any, words: list[str], seen: str) -> None:
    ended = command("estimators", *words)
    assert ended.status in (1, 2)
    assert seen in " ".join(ended.err.replace("│", " ").split())
    assert not any(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("name", "words", "seen"),
    [
        ("gan", [], "a GAN has no latent variables with a bound"),
        ("vae", ["--target", 0.4], "target is 0.4, which has no effect with a run"),
        ("table", ["--split", "validation"], "has no rows in its validation split"),
        ("own", [], "--model"),
    ],
)
def test_what_can_not_be_is_refused_with_a_run(command: Any, runs: Any, name: str, words: list[Any], seen: str) -> None:
    ended = command("estimators", runs.place / name, *words)
    assert ended.status == 1
    assert seen in ended.err
    assert not (runs.place / name / "estimators.html").exists()

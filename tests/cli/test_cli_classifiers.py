"""Every verb of class-conditional models, and of the classifier that they compete with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Command = Callable[..., Any]
TINY = ["--batch-size", 239, "--seed", 3]


def figures(run: str = "run") -> dict[str, dict[str, Any]]:
    return {figure["name"]: figure for figure in json.loads(Path(f"{run}/evaluation.json").read_text())["figures"]}


@pytest.mark.parametrize("latent", [0, 3])
def test_every_verb_works_with_a_bayes_classifier(latent: int, command: Command) -> None:
    network = ["--hidden", 7, "--class-particles", 2] if latent else []
    ended = command(
        "train", "bayes-classifier", "digits", "--latent", latent, *network, *TINY, "--epochs", 2, "--out", "run"
    )
    assert ended.status == 0, ended.err
    assert "ancestral evaluate run" in ended.out
    assert "missing" not in ended.out + ended.err
    assert command("sample", "run", "-n", 5, "--given", "y=3", "--out", "threes.npy").status == 0
    assert np.load("threes.npy").shape == (5, 1, 8, 8)
    for words in (["sample", "run"], ["resume", "run"], ["report", "run"]):
        ended = command(*words)
        assert ended.status == 0, (words, ended.err)
    for words in (["reconstruct", "run"], ["interpolate", "run"]):
        ended = command(*words)
        assert ended.status == (0 if latent else 1), (words, ended.err)
        assert latent or "a NaiveBayes can't" in ended.err
    if not latent:
        assert "a NaiveBayes has no latent variables" in command("estimators", "run").err
        assert "--particles has no effect" in command("evaluate", "run", "--particles", 5).err
    np.save("noise.npy", np.random.default_rng(0).integers(0, 17, (97, 8, 8), dtype=np.uint8))
    gaps = ["--gaps", "--limit", 5] if latent else []
    ended = command("evaluate", "run", "--against", "noise.npy", *gaps)
    assert ended.status == 0, ended.err
    found = figures()
    assert found["log p(x, y)"]["kind"] == ("lower bound" if latent else "exact")
    assert ("ELBO" in found) == bool(latent)
    for name in ("accuracy", "log loss", "calibration error", "temperature", "log loss, scaled", "score of noise.npy"):
        assert name in found
        assert len(found[name]["digest"]) == 64
    assert found["AUROC against noise.npy"]["value"] > 0.5
    assert found["score"]["estimator"] == "-log p(x)"
    assert ("amortization gap" in found) == bool(latent)
    assert command("report", "run").status == 0
    assert "AUROC against noise.npy" in Path("run/report.html").read_text(encoding="utf-8")


def test_every_verb_that_a_classifier_has_works_and_the_others_say_why_not(command: Command) -> None:
    ended = command("train", "classifier", "digits", "--hidden", 7, *TINY, "--epochs", 3, "--out", "run")
    assert ended.status == 0, ended.err
    assert "ancestral evaluate run" in ended.out
    assert "ancestral sample" not in ended.out
    np.save("noise.npy", np.random.default_rng(0).integers(0, 17, (97, 8, 8), dtype=np.uint8))
    ended = command("evaluate", "run", "--against", "noise.npy", "--limit", 50)
    assert ended.status == 0, ended.err
    found = figures()
    assert "log p(x)" not in found
    assert "accuracy" in found
    assert "no density of x" in found["AUROC against noise.npy"]["estimator"]
    assert found["score"]["datapoints"] == 50
    for words in (["resume", "run"], ["report", "run"]):
        ended = command(*words)
        assert ended.status == 0, (words, ended.err)
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "calibration error" in page
    assert "adversarial" not in page
    for verb in ("sample", "reconstruct", "interpolate"):
        ended = command(verb, "run")
        assert ended.status == 1
        assert "a Classifier can't" in ended.err
    for flag in (["--particles", 5], ["--likelihood", "ais"], ["--gaps"], ["--limit", 5]):
        ended = command("evaluate", "run", *flag)
        assert ended.status == 1
        assert f"{flag[0]} has no effect: a Classifier has no density" in ended.err


def test_a_classifier_learns_with_few_labels_from_those_alone(command: Command) -> None:
    ended = command(
        "train", "classifier", "digits", "--labels", 50, "--hidden", 7, *TINY, "--epochs", 2, "--out", "run"
    )
    assert ended.status == 0, ended.err
    assert "known of 50 of the" in ended.out + ended.err


def test_data_without_labels_or_that_do_not_compare_are_errors(command: Command) -> None:
    np.save("bare.npy", np.random.default_rng(0).integers(0, 2, (53, 7), dtype=np.uint8))
    for model in ("bayes-classifier", "classifier"):
        ended = command("train", model, "bare.npy", "--out", "run")
        assert (ended.status, f"{model} learns from labels" in ended.err) == (1, True)
    assert not Path("run").exists()
    ended = command("train", "bayes-classifier", "digits", "--labels", 50, "--out", "run")
    assert (ended.status, "bayes-classifier does not learn from labels that are few" in ended.err) == (1, True)
    ended = command("train", "vae", "digits", "--latent", 2, "--hidden", 3, *TINY, "--epochs", 1, "--out", "run")
    assert ended.status == 0, ended.err
    ended = command("evaluate", "run", "--particles", 2, "--against", "bare.npy")
    assert (ended.status, "does not compare with digits" in ended.err) == (1, True)
    ended = command("evaluate", "run", "--against", "nowhere.npy")
    assert (ended.status, "nowhere" in ended.err) == (1, True)


def test_gaps_are_of_models_with_a_posterior_of_their_own(command: Command) -> None:
    assert command("train", "sbn", "digits", "--layers", 3, *TINY, "--epochs", 1, "--out", "run").status == 0
    ended = command("evaluate", "run", "--particles", 2, "--gaps")
    assert (ended.status, "no normal variable" in ended.err) == (1, True)

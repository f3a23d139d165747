"""The single results: every experiment can be trained, and a record holds what it was trained with."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ancestral.configs import MODELS, DataConfig, TrainingConfig
from ancestral.errors import AncestralError
from ancestral.training.compilation import cpp_compiler
from ancestral.training.progress import Silent


@pytest.fixture
def program(program_of: Callable[[str], Any]) -> Any:
    return program_of("reproduce")


@pytest.fixture
def small(program: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program with one small experiment besides."""
    experiment = {
        "about": "Digits",
        "published": "17 nats",
        "settings": {"model": "vae", "data": "digits", "latent": 2, "hidden": (5,), "epochs": 1, "batch_size": 499},
        "paper": {"epochs": 2},
        "particles": 7,
        "pictures": ("curve", "manifold"),
    }
    monkeypatch.setitem(program.EXPERIMENTS, "small", experiment)
    return program


def settings_of(experiment: dict[str, Any]) -> Any:
    yield experiment["settings"]
    if "paper" in experiment:
        yield experiment["settings"] | experiment["paper"]


def test_every_experiment_can_be_trained(program: Any) -> None:
    training, of_data = ({field.name for field in dataclasses.fields(kind)} for kind in (TrainingConfig, DataConfig))
    for name, experiment in program.EXPERIMENTS.items():
        assert not any(program.PICTURES[picture] is None for picture in experiment.get("pictures", ())), name
        for settings in settings_of(experiment):
            left = {key: value for key, value in settings.items() if key not in ("model", "data")}
            TrainingConfig(**{key: left.pop(key) for key in training & left.keys()})
            DataConfig(**{key: left.pop(key) for key in of_data & left.keys()})
            MODELS[settings["model"]][0](**left)  # raises what is wrong


def test_a_result_is_trained_drawn_and_recorded_and_with_the_budget_of_the_paper_apart(
    small: Any, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="the pictures of experiments need it")
    small.reproduce("small")
    small.reproduce("small", paper=True)
    for folder, epochs, command in (("small", 1, "small"), ("small-paper", 2, "small --paper")):
        record = json.loads((tmp_path / folder / "result.json").read_text())
        assert record["settings"]["epochs"] == epochs
        assert record["updates"] == epochs * 3  # batches of 1,437 training rows
        assert record["command"] == f"python experiments/reproduce.py {command}"
        figure = next(figure for figure in record["figures"] if figure["name"] == "log p(x)")
        assert (figure["particles"], figure["data"].split(", ")[1]) == (7, "test")
        assert f"| 17 nats | -log p(x) ≤ **{-figure['value']:.2f}** ± {figure['standard_error']:.2f}" in small.table()
        assert (tmp_path / folder / "curve.png").exists()
        assert (tmp_path / folder / "manifold.png").exists()


def test_the_learning_rate_of_the_best_accuracy_after_a_fifth_of_the_passes_goes_on(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "model": "m2", "data": "digits", "labels": 10, "validation": 0.2, "latent": 2, "hidden": (5,), "epochs": 5,
        "batch_size": 499,
    }  # fmt: skip
    experiment = {"about": "Digits", "published": "", "settings": settings, "rates": (1e-3, 1e-1), "particles": 7}
    monkeypatch.setitem(program.EXPERIMENTS, "labels", experiment)
    program.reproduce("labels")
    record = json.loads((tmp_path / "labels" / "result.json").read_text())
    tried = {float(rate): accuracy for rate, accuracy in record["validation_accuracies"].items()}
    assert tried.keys() == {1e-3, 1e-1}
    assert record["settings"]["learning_rate"] == max(tried, key=tried.__getitem__)
    for rate in tried:
        place = tmp_path / "labels" / "run" / f"rate-{rate:g}"
        state = json.loads((place / "checkpoints" / "last" / "state.json").read_text())
        assert bool(state["finished"]) == (rate == record["settings"]["learning_rate"])
        assert program.accuracies(place, 1)[0] == tried[rate]


@pytest.mark.skipif(cpp_compiler() is None, reason="there is no C++ compiler")
def test_a_compiled_run_is_recorded_as_one_and_comes_to_the_same(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(small.EXPERIMENTS["small"], "pictures", ())
    monkeypatch.setitem(small.EXPERIMENTS, "other", small.EXPERIMENTS["small"])
    small.reproduce("small", compiled=True)
    small.reproduce("other")
    compiled, plain = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("small", "other"))
    assert compiled["command"] == "python experiments/reproduce.py small --compile"
    assert (compiled["settings"]["compile"], plain["settings"]["compile"]) == (True, False)
    for mine, theirs in zip(compiled["figures"], plain["figures"], strict=True):
        assert mine["value"] == pytest.approx(theirs["value"], rel=1e-3)


class Stop(Silent):
    """Interrupts training at once, as Ctrl-C does."""

    def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None:
        signal.raise_signal(signal.SIGINT)


def test_what_was_interrupted_is_no_result_until_it_has_been_continued(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(small.EXPERIMENTS["small"], "pictures", ())
    with monkeypatch.context() as patch:
        patch.setattr(small, "make_reporter", Stop)
        with pytest.raises(AncestralError, match="small was interrupted; the same command continues it"):
            small.reproduce("small")
    assert not (tmp_path / "small" / "result.json").exists()
    small.reproduce("small")
    assert json.loads((tmp_path / "small" / "result.json").read_text())["updates"] == 3


def test_a_larger_budget_that_is_not_there_is_an_error(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "gan-mnist", "--paper"])
    with pytest.raises(SystemExit, match="gan-mnist has one budget: leave --paper out"):
        program.main()


def test_the_recorded_results_were_made_with_the_settings_of_their_experiments(program: Any, experiments: Path) -> None:
    for name, experiment in program.EXPERIMENTS.items():
        file = experiments / name / "result.json"
        if file.exists():
            record = json.loads(file.read_text())
            recorded, asked = record["settings"], dict(experiment["settings"])
            if "rates" in experiment:
                tried = record["validation_accuracies"]
                assert {float(rate) for rate in tried} == set(experiment["rates"]), name
                asked["learning_rate"] = float(max(tried, key=tried.__getitem__))
            for key, value in asked.items():
                if key not in ("model", "data"):
                    kept = tuple(recorded[key]) if isinstance(value, tuple) else recorded[key]
                    assert kept == value, (name, key)

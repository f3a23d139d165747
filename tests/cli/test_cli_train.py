"""``train`` and ``resume``: what is said, what is kept, and how an interruption ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TINY = ("--latent", 2, "--hidden", 3, "--epochs", 1, "--batch-size", 719)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


# ---- what is said


def test_training_says_what_it_does_and_what_comes_next(command: Any) -> None:
    ended = command("train", "vae", "digits", *TINY, "--out", "first")
    assert ended.status == 0
    for words in (
        "vae: ", " parameters, p(x, z) = p(z) p(x | z)", "likelihood p(x | ...): Bernoulli",
        "digits: 1,437 training, 90 validation, 270 test rows", "binarization dynamic", "all 1 epochs done",
    ):  # fmt: skip
        assert words in ended.err
    assert "pictures:  first/samples/  (the last: samples-100-percent.png)" in ended.out
    assert "next:      ancestral sample first -n 64 --out samples.png" in ended.out
    assert "ancestral evaluate first --particles 100" in ended.out


def test_what_comes_next_works(command: Any) -> None:
    ended = command("train", "vae", "digits", *TINY, "--out", "first")
    commands = [line.split("ancestral ")[1].split() for line in ended.out.splitlines() if "ancestral " in line]
    assert [words[0] for words in commands] == ["sample", "evaluate"]
    for words in commands:
        assert command(*words).status == 0
    assert Path("samples.png").exists()


def test_a_game_is_not_offered_an_evaluation(command: Any) -> None:
    words = ("--hidden", 3, "--discriminator-hidden", 2, "--epochs", 1, "--batch-size", 719, "--out", "game")
    ended = command("train", "gan", "digits", *words)
    assert ended.status == 0
    assert "ancestral sample game" in ended.out
    assert "evaluate" not in ended.out


def test_lines_with_the_named_losses_where_the_output_is_no_terminal(command: Any) -> None:
    ended = command("train", "vae", "digits", *TINY, "--out", "first")
    (line,) = [line for line in ended.err.splitlines() if line.startswith("100%")]
    for word in ("epoch 1.0", "loss ", "reconstruction ", "kl "):
        assert word in line
    assert "\x1b" not in ended.err + ended.out


def test_a_bar_with_the_named_losses_on_a_terminal(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    ended = command("train", "vae", "digits", *TINY, "--out", "first")
    last = ended.err.split("\r")[-1]
    for word in ("epoch 1.0", "2/2", "loss ", "reconstruction ", "kl "):
        assert word in last
    assert "\x1b[" in ended.err
    assert "likelihood p(x | ...): Bernoulli" in ended.err


# ---- what is kept


def test_flags_reach_the_run(command: Any) -> None:
    words = ("--optimizer", "adamw", "--hidden", 5, 3, "--split-seed", 7)
    command("train", "vae", "digits", "--latent", 2, "--epochs", 1, "--batch-size", 719, *words, "--out", "run")
    config = tomllib.loads(Path("run/config.toml").read_text(encoding="utf-8"))
    assert config["settings"]["hidden"] == [5, 3]
    assert config["training"]["optimizer"] == "adamw"
    assert config["data_settings"]["split_seed"] == 7


def test_each_model_trains_as_suits_it_unless_told_otherwise(command: Any, runs: Any) -> None:
    trained = {
        name: tomllib.loads((runs.place / name / "config.toml").read_text(encoding="utf-8")) for name in ("vae", "gan")
    }
    assert trained["vae"]["training"]["optimizer"] == "adam"
    assert trained["vae"]["training"]["epsilon"] == 1e-4
    assert trained["gan"]["training"]["beta1"] == 0.5
    assert trained["gan"]["training"]["schedule"] == "constant"


def test_runs_without_a_place_are_numbered(command: Any) -> None:
    for number in (1, 2):
        ended = command("train", "vae", "digits", *TINY)
        assert f"ancestral sample runs/vae-digits-{number} " in ended.out
        assert Path(f"runs/vae-digits-{number}/config.toml").exists()


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(command: Any) -> None:
    weights = []
    for number, seed in enumerate((0, 0, 1)):
        command("train", "vae", "digits", *TINY, "--seed", seed, "--out", f"run{number}")
        weights.append(Path(f"run{number}/checkpoints/last/model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_a_table_trains_from_its_path_and_is_found_from_elsewhere(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savetxt("table.csv", np.random.default_rng(5).normal(size=(31, 3)), delimiter=",")
    ended = command("train", "vae", "table.csv", *TINY, "--out", "run")
    assert ended.status == 0
    assert "likelihood p(x | ...): Normal" in ended.err
    assert "ancestral sample run -n 64 --out samples.csv" in ended.out
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert command("reconstruct", tmp_path / "run", "--out", "again.csv").status == 0


# ---- resume


def test_resuming_a_finished_run_says_so_and_changes_nothing(command: Any, runs: Any, tmp_path: Path) -> None:
    run = runs.copy("vae", tmp_path / "run")
    before = contents(run)
    ended = command("resume", run)
    assert ended.status == 0
    assert f"{run} is already done: all 2 epochs done" in ended.err
    after = contents(run)
    assert after.keys() == before.keys()
    for name in before:
        assert name == "MODEL_CARD.md" or after[name] == before[name], name  # the card names the folder


@pytest.mark.parametrize("name", ["vae", "own"])
def test_a_run_stopped_before_its_first_checkpoint_begins_again_to_the_same_end(
    command: Any, runs: Any, tmp_path: Path, name: str
) -> None:
    run = runs.copy(name, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "last")
    shutil.rmtree(run / "checkpoints" / "best")
    own = ("--model", f"{runs.place / 'own_model.py'}:make") if name == "own" else ()
    ended = command("sample", run, *own)
    assert ended.status == 1
    assert f"ancestral resume {run}" in ended.err
    assert command("resume", run, *own).status == 0
    for which in ("last", "best"):
        weights = Path("checkpoints") / which / "model.safetensors"
        assert (run / weights).read_bytes() == (runs.place / name / weights).read_bytes()


def interrupted(words: list[str], number: int, after: str) -> tuple[int, str]:
    """Status and output of a command that is sent a signal once its output has a word."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ancestral", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if after in line:
            process.send_signal(number)
            break
    rest, _ = process.communicate(timeout=60)
    return process.returncode, "".join(seen) + rest


def test_ctrl_c_and_a_request_to_terminate_save_and_say_how_to_go_on(command: Any) -> None:
    train = ["train", "vae", "digits", "--latent", "2", "--hidden", "3", "--epochs", "100000", "--out", "long"]
    steps = []
    for words, number in ((train, signal.SIGINT), (["resume", "long"], signal.SIGTERM)):
        status, output = interrupted(words, number, "reconstruction")
        assert status == 130
        assert "interrupted; all is saved. Continue:  ancestral resume long\n" in output
        assert "Traceback" not in output
        state = json.loads(Path("long/checkpoints/last/state.json").read_text(encoding="utf-8"))
        assert state["finished"] == ""
        steps.append(state["step"])
    assert 0 < steps[0] < steps[1]
    assert command("sample", "long", "-n", 2).status == 0

"""Help, and what is answered to wrong words."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from typing import Any

import pytest

from ancestral import __version__
from ancestral.cli import VERBS
from ancestral.configs import MODELS, DataConfig, TrainingConfig


def help_of_flags(text: str) -> dict[str, str]:
    """Each flag of a help page with all that is written beside it."""
    flags: dict[str, str] = {}
    for line in text.splitlines():
        line = line.strip("│ ")
        if found := re.match(r"(?:-n INT, |-h, )?--([a-z][\w-]*)", line):
            flags[name := found[1]] = line.partition("  ")[2].strip()
        elif flags:
            flags[name] += " " + line
    return flags


def test_help_without_a_verb_names_every_verb_and_how_to_begin(command: Any) -> None:
    for words in ([], ["--help"], ["-h"], ["help"]):
        ended = command(*words)
        assert ended.status == 0
        assert all(f"  {verb} " in ended.out for verb in VERBS)
        assert "ancestral train vae digits --out runs/first" in ended.out


def test_version_is_that_of_the_package(command: Any) -> None:
    assert command("--version").out == f"ancestral {__version__}\n"


@pytest.mark.parametrize("name", MODELS)
def test_every_field_of_every_config_is_a_flag_with_help_and_its_default(
    command: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "120")  # wider, long pages have two columns
    ended = command("train", name, "--help")
    assert ended.status == 0
    flags = help_of_flags(ended.out)
    kind, training = MODELS[name]
    for config in (kind, DataConfig, training):  # a class has the defaults, before what they stand for
        for field in dataclasses.fields(config):
            text = flags[field.name.replace("_", "-")]
            words, default = re.split(r"\(default: ([^)]*)\)", text)[:2]
            assert len(words.strip()) > 10, f"{field.name} has no help"
            value = getattr(config, field.name)
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            assert default == shown


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "train"])
def test_every_flag_of_every_verb_has_help(command: Any, verb: str) -> None:
    ended = command(verb, "--help")
    assert ended.status == 0
    for flag, text in help_of_flags(ended.out).items():
        assert len(text.partition("(default:")[0].strip()) > 7, f"{flag} has no help"


def test_own_models_have_the_flags_of_data_and_training_alone(command: Any) -> None:
    flags = help_of_flags(command("train", "mine.py:model", "--help").out)
    for field in (*dataclasses.fields(DataConfig), *dataclasses.fields(TrainingConfig)):
        assert field.name.replace("_", "-") in flags
    assert "latent" not in flags


def test_help_imports_no_torch() -> None:
    pages = [[], ["train"], *(["train", name] for name in MODELS), ["train", "mine.py:model"]]
    pages += [[verb] for verb in VERBS if verb != "train"]
    code = f"""
import sys
from ancestral.cli import main
for page in {pages!r}:
    try:
        main([*page, "--help"])
    except SystemExit as end:
        assert end.code in (0, None), page
    heavy = [module for module in ("torch", "numpy", "sklearn") if module in sys.modules]
    assert not heavy, (page, heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_train_without_a_model_shows_how_and_fails(command: Any) -> None:
    ended = command("train")
    assert ended.status == 2
    assert "ancestral train vae digits" in ended.out


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["trian", "vae", "digits"], "train"),
        (["train", "vea", "digits"], "vae"),
        (["train", "vae", "digit"], "digits"),
        (["train", "vae", "mnits"], "mnist"),
        (["train", "vae", "digits", "--epoch", "3"], "--epochs"),
        (["train", "vae", "digits", "--laten", "3"], "--latent"),
        (["train", "gan", "digits", "--discriminator-step", "3"], "--discriminator-steps"),
        (["train", "mine.py:model", "digits", "--bath-size", "3"], "--batch-size"),
        (["train", "vae", "digits", "--likelihood", "bernouli"], "bernoulli"),
        (["train", "vae", "digits", "--optimizer", "adan"], "adam"),
        (["train", "vae", "digits", "--optimizer=nadan"], "nadam"),
        (["train", "vae", "digits", "--schedule", "cosin"], "cosine"),
        (["train", "vae", "digits", "--network", "cnov"], "conv"),
        (["train", "vae", "digits", "--binarization", "statik"], "static"),
        (["train", "gan", "digits", "--generator-loss", "minmax"], "minimax"),
        (["train", "vae", "digits", "--precision", "bfloat"], "bfloat16"),
        (["train", "sbn", "digits", "--estimator", "gumble-softmax"], "gumbel-softmax"),
        (["sample", "run", "--numbr", "3"], "--number"),
        (["sample", "run", "--checkpoint", "bets"], "best"),
        (["reconstruct", "run", "--split", "tset"], "test"),
        (["interpolate", "run", "--step", "3"], "--steps"),
        (["evaluate", "run", "--particels", "3"], "--particles"),
        (["resume", "run", "--modle", "3"], "--model"),
        (["list", "modls"], "models"),
    ],
)
def test_a_wrong_word_is_answered_with_the_nearest(command: Any, words: list[str], nearest: str) -> None:
    ended = command(*words)
    assert ended.status == (1 if words[:2] == ["train", "vea"] or words[2:] in (["digit"], ["mnits"]) else 2)
    answer = " ".join(ended.err.replace("│", " ").split())
    wrong_flag = nearest.startswith("--")
    assert (
        (nearest in answer.partition("Perhaps you meant: ")[2])
        if wrong_flag
        else (f"Did you mean '{nearest}'?" in answer)
    )
    assert not ended.out


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["train", "vae", "digits", "--epochs", "many"], "--epochs"),
        (["train", "vae"], "DATA"),
        (["sample"], "RUN"),
        (["train", "vae", "digits", "--trackers", "tensorbord"], "tensorboard"),
        (["train", "sbn", "digits", "--baseline", "netwrk"], "moving-average,network"),
    ],
)
def test_a_missing_or_malformed_word_is_named(command: Any, words: list[str], seen: str) -> None:
    ended = command(*words)
    assert ended.status == 2
    assert seen in ended.err


def test_flags_before_the_model_are_told_their_place(command: Any) -> None:
    ended = command("train", "--epochs", 3, "vae", "digits")
    assert ended.status == 1
    assert "ancestral train MODEL DATA --epochs" in ended.err

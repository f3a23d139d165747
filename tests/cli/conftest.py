"""Four tiny trained runs, and a way to type commands."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ancestral.cli import main

OWN_MODEL = """\
from ancestral import Joint, LatentVariableModel, bernoulli, mlp, normal, standard_normal


def make():
    p = Joint({"z": standard_normal(3), "x | z": bernoulli(mlp(3, 7, (1, 8, 8)), 3)})
    q = Joint({"z | x": normal(mlp((1, 8, 8), 7, 2 * 3))})
    return LatentVariableModel(p, q)


model = make()
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


def type_words(*words: object) -> int:
    """The exit status of ``ancestral WORDS``, in this process."""
    try:
        return main([str(word) for word in words])
    except SystemExit as end:  # help, and flags that are wrong
        return int(end.code or 0)


@pytest.fixture(autouse=True)
def a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test works in its own folder, and finds the paths of imports as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Type a command: ``command("sample", run, "-n", 5)``."""

    def typed(*words: object) -> Ended:
        capsys.readouterr()
        status = type_words(*words)
        out, err = capsys.readouterr()
        return Ended(status, out, err)

    return typed


@dataclass(frozen=True)
class Runs:
    """Trained runs. Commands that write into a run get a copy of it."""

    place: Path

    def __getattr__(self, name: str) -> Path:
        return self.place / name

    def copy(self, name: str, to: Path) -> Path:
        shutil.copytree(self.place / name, to)
        return to


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Of the digits: ``vae``, ``plane`` of two latent dimensions, ``gan`` and the user's ``own`` model; ``table``, of
    ``table.csv``, without validation."""
    place = tmp_path_factory.mktemp("runs")
    random = np.random.default_rng(2)
    columns = np.stack([random.normal(1000, 10, 211), random.normal(0.05, 0.001, 211), random.normal(-3, 2, 211)], 1)
    np.savetxt(
        place / "table.csv", columns, "%.17g", ",", header='"height, mm",ratio,größe', comments="", encoding="utf-8"
    )
    (place / "own_model.py").write_text(OWN_MODEL, encoding="utf-8")
    before = sys.path.copy()
    tiny = ["--batch-size", 239, "--seed", 3]
    for words in (
        ["vae", "digits", "--latent", 3, "--hidden", 7, "--epochs", 2],
        ["plane", "digits", "--latent", 2, "--hidden", 7, "--epochs", 1],
        ["gan", "digits", "--latent", 5, "--hidden", 11, "--discriminator-hidden", 7, "--pieces", 2, "--epochs", 1],
        ["table", place / "table.csv", "--latent", 2, "--hidden", 5, "--epochs", 23, "--validation", 0],
        [f"{place / 'own_model.py'}:make", "digits", "--epochs", 1],
    ):
        name = "own" if ":" in str(words[0]) else words[0]
        words[0] = "vae" if name in ("table", "plane") else words[0]
        assert type_words("train", *words, *tiny, "--out", place / str(name)) == 0
    sys.path[:] = before
    return Runs(place)

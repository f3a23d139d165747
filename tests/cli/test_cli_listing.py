"""``ancestral list`` and ``ancestral doctor``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ancestral.configs import MODELS
from ancestral.configs.estimation import ESTIMATORS
from ancestral.configs.likelihood import Likelihood
from ancestral.data import named_sets
from ancestral.networks import processor

SECTIONS = ("models", "data", "objectives", "estimators", "likelihoods")


def test_list_shows_everything(command: Any) -> None:
    ended = command("list")
    assert ended.status == 0
    lines = ended.out.splitlines()
    assert tuple(line for line in lines if not line.startswith(" ")) == SECTIONS
    first = [line.split()[0] for line in lines]
    for name in (*MODELS, *(named.name for named in named_sets()), "FILE.py:NAME", "PATH", "elbo", *ESTIMATORS):
        assert name in first
    assert set(Likelihood.__args__) - set(first) == {"auto"}


@pytest.mark.parametrize("section", SECTIONS)
def test_list_shows_a_section_alone(command: Any, section: str) -> None:
    lines = command("list", section).out.splitlines()
    assert lines[0] == section
    assert len(lines) > 1
    assert all(line.startswith("  ") for line in lines[1:])


def test_doctor_finds_all_well_here(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANCESTRAL_DATA", str(tmp_path))
    ended = command("doctor")
    assert ended.status == 0
    assert "arithmetic  works" in ended.out
    assert "ancestral train vae digits --out runs/first" in ended.out
    for named in named_sets():
        assert f"  {named.name} " in ended.out


def test_doctor_says_where_a_set_lies(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "frey_faces").mkdir()
    (tmp_path / "frey_faces" / "faces.mat").touch()
    monkeypatch.setenv("ANCESTRAL_DATA", str(tmp_path))
    assert f"frey-faces       {tmp_path / 'frey_faces'}" in command("doctor").out


def test_doctor_says_what_is_missing(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANCESTRAL_DATA", str(tmp_path / "nowhere"))
    ended = command("doctor")
    assert ended.status == 1
    assert f"ANCESTRAL_DATA names {tmp_path / 'nowhere'}, which is no folder" in ended.out
    assert "mend" in ended.out


@pytest.mark.parametrize(("load", "advice"), [(1.9, "stay with one"), (0.0, "--threads 2 may pay")])
def test_doctor_advises_threads_by_whether_the_cores_are_free(
    command: Any, monkeypatch: pytest.MonkeyPatch, load: float, advice: str
) -> None:
    monkeypatch.setattr(processor, "cores", lambda: 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    assert advice in command("doctor").out


@pytest.mark.parametrize(("can", "words"), [(True, "is fast on"), (False, "is slower than float32 on")])
def test_doctor_says_whether_bfloat16_pays(
    command: Any, monkeypatch: pytest.MonkeyPatch, can: bool, words: str
) -> None:
    monkeypatch.setattr(processor, "multiplies_bfloat16", lambda: can)
    assert words in command("doctor").out


def test_doctor_says_whether_a_loss_can_be_compiled(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", sys.executable)
    assert f"--compile compiles with {sys.executable}" in command("doctor").out
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "--compile needs a C++ compiler, and none is found" in command("doctor").out


@pytest.mark.parametrize("words", [["list"], ["--help"], ["sample", "--help"]])
def test_a_reader_who_leaves_is_met_with_silence(words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "ancestral", *words]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")

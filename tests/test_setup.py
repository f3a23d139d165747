"""Setting up: the Makefile, the tested versions, and the script that checks a fresh clone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def make(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "VENV"))}
    return subprocess.run(["make", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def requirements() -> list[Requirement]:
    """Every requirement of the project and its extras, but for the project itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    found = [Requirement(line) for group in groups for line in group]
    return [requirement for requirement in found if requirement.name != project["name"]]


def pinned() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def test_every_requirement_is_pinned_within_its_range() -> None:
    versions = pinned()
    for requirement in requirements():
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_no_pin_is_of_a_build_for_one_machine() -> None:
    assert [str(version) for version in pinned().values() if version.local] == []


def test_help_is_what_make_does_by_default_and_names_every_target() -> None:
    done = make()
    assert done.returncode == 0
    phony = re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    for target in set(phony[1].split()) - {"help"}:
        assert f"make {target} " in done.stdout


def test_an_absent_python_is_named_with_the_cure(tmp_path: Path) -> None:
    done = make("demo", "PYTHON=no-such-python", f"VENV={tmp_path / 'venv'}")
    assert done.returncode != 0
    assert "There is no no-such-python here. Install Python 3.11 or newer" in done.stdout
    assert not (tmp_path / "venv").exists()


def test_an_old_python_is_named_with_the_cure(tmp_path: Path) -> None:
    old = tmp_path / "python3.10"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    done = make("test", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}")
    assert done.returncode != 0
    assert f"{old} is too old: ancestral needs Python 3.11 or newer" in done.stdout
    assert not (tmp_path / "venv").exists()


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A folder that the Makefile takes for an environment where everything is installed."""
    folder = tmp_path / "venv"
    (folder / "bin").mkdir(parents=True)
    shim = f'#!/bin/sh\nexec {sys.executable} -m ancestral "$@"\n'
    for name, text in (("pip", "#!/bin/sh\nexit 1\n"), ("ancestral", shim)):
        (folder / "bin" / name).write_text(text, encoding="utf-8")
        (folder / "bin" / name).chmod(0o755)
    for stamp in (".installed-demo", ".installed-test"):
        (folder / stamp).touch()
    return folder


def test_the_demo_trains_once_and_says_what_to_type_next(environment: Path, tmp_path: Path) -> None:
    settings = "vae digits --latent 2 --hidden 7 --epochs 2"
    words = ("demo", f"VENV={environment}", f"RUN={tmp_path / 'run'}", f"DEMO={settings}")
    first = make(*words)
    assert first.returncode == 0, first.stderr
    assert f"== training: ancestral train {settings}" in first.stdout
    pictures = sorted((tmp_path / "run/samples").iterdir())
    metrics = (tmp_path / "run/metrics.jsonl").read_bytes()

    second = make(*words)
    assert second.returncode == 0, second.stderr
    assert "== training" not in second.stdout
    assert "is here already" in second.stdout
    assert sorted((tmp_path / "run/samples").iterdir()) == pictures
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == metrics

    for done in (first, second):
        assert f"pictures:  {tmp_path / 'run/samples'}" in done.stdout
        assert f"ancestral sample {tmp_path / 'run'}" in done.stdout
        assert f". {environment}/bin/activate" in done.stdout


def test_installing_for_the_tests_serves_the_demo_too(environment: Path) -> None:
    (environment / ".installed-demo").unlink()
    (environment / ".installed-test").unlink()
    plan = make("-n", "test", "demo", f"VENV={environment}").stdout
    assert plan.index("-e '.[dev]'") < plan.index("-m pytest")
    assert f"touch {environment}/.installed-demo {environment}/.installed-test" in plan


def test_the_clone_is_checked_in_an_environment_of_its_own_and_failure_is_passed_on(tmp_path: Path) -> None:
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    (tmp_path / ".venv").mkdir()
    (tmp_path / "build/venv/left-over").mkdir(parents=True)
    for status in (0, 3):
        (tmp_path / "Makefile").write_text(
            f"test:\n\t@echo environment $(VENV), data $$ANCESTRAL_DATA; exit {status}\n", encoding="utf-8"
        )
        done = subprocess.run(
            [tmp_path / ".ci/run"],
            env={**os.environ, "ANCESTRAL_DATA": "/mine"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) == (status == 0)
        assert "environment build/venv, data /mine" in done.stdout
    assert (tmp_path / ".venv").exists()
    assert not (tmp_path / "build/venv/left-over").exists()


def test_data_beside_the_clone_are_found(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / ".ci", clone / ".ci")
    (tmp_path / "shared/data").mkdir(parents=True)
    (clone / "Makefile").write_text("test:\n\t@echo data $$ANCESTRAL_DATA\n", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "ANCESTRAL_DATA"}
    done = subprocess.run([clone / ".ci/run"], env=environment, capture_output=True, text=True, check=True)
    assert f"data {tmp_path / 'shared/data'}" in done.stdout

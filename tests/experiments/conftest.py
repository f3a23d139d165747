"""The programs of experiments/, which are no package."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def experiments() -> Path:
    """Where the programs and their records lie."""
    return EXPERIMENTS


@pytest.fixture
def program_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A program by its name, which then writes in a folder of its own instead of beside itself."""

    def load(name: str) -> Any:
        specification = importlib.util.spec_from_file_location(f"experiment_{name}", EXPERIMENTS / f"{name}.py")
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        monkeypatch.syspath_prepend(EXPERIMENTS)
        monkeypatch.setitem(sys.modules, specification.name, module)
        specification.loader.exec_module(module)
        monkeypatch.setattr(module, "HERE", tmp_path)
        return module

    return load

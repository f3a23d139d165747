"""The package as it is imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ancestral


def test_importing_the_package_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, ancestral, ancestral.cli; sys.exit(any(name in sys.modules for name in ('torch', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_can_be_fetched_and_is_documented() -> None:
    for name in ancestral.__all__:
        value = getattr(ancestral, name)
        assert name.startswith("__") or value.__doc__, name


def test_type_checkers_see_the_same_names_as_the_interpreter() -> None:
    tree = ast.parse(Path(ancestral.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = [(node.module, alias.name) for node in imports for alias in node.names]
    assert {name for module, name in seen if module == "ancestral"} == set(ancestral._ROOMS)
    assert {name: module for module, name in seen if module != "ancestral"} == ancestral._HOME


def test_every_room_is_there_without_an_import_of_its_own() -> None:
    source = Path(ancestral.__file__).parent
    rooms = {path.stem for path in source.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert set(ancestral._ROOMS) == rooms - {"__init__", "__main__"}
    assert set(ancestral._ROOMS) < set(dir(ancestral))
    for room in ancestral._ROOMS:
        assert ancestral.__getattr__(room).__name__ == f"ancestral.{room}"
    code = "import ancestral; ancestral.data.load('digits')"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        ancestral.no_such_name  # noqa: B018


def test_nothing_in_the_source_pickles_or_evaluates_text() -> None:
    banned = ("pickle", "torch.save", "torch.load(", "allow_pickle=True", "eval(", "exec(", "joblib")
    for file in Path(ancestral.__file__).parent.rglob("*.py"):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            code = line.replace("model.eval()", "").replace(".eval()", "").replace("allow_pickle=False", "")
            for word in banned:
                assert word not in code or "no pickle" in code.lower() or "without pickle" in code.lower(), (
                    f"{file.name}:{number}: {line.strip()}"
                )

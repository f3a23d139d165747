"""The code on the pages runs as it stands there, page by page, in an empty folder with the demo's run in it."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import ancestral
from ancestral.cli import main

ROOT = Path(__file__).resolve().parents[2]
GUIDE = sorted(page for page in (ROOT / "docs/guide").glob("*.md") if ".ja." not in page.name)
PAGES = [ROOT / "README.md", *GUIDE]
OTHERS = [ROOT / "CONTRIBUTING.md", ROOT / "docs/design.md"]

BLOCK = re.compile(r"^(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)


class Block(NamedTuple):
    """A block of code, and the reason why it is not run; None if it is."""

    language: str
    code: str
    reason: str | None

    @property
    def commands(self) -> list[str]:
        return [line for line in self.code.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(match["language"], match["code"], match["reason"]) for match in found]


def demo() -> list[str]:
    """What `make demo` trains."""
    line = re.search(r"^DEMO \?= (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert line is not None
    return shlex.split(line[1])


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "run"
    assert main(["train", *demo(), "--epochs", "2", "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(
    page: Path, demo_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(demo_run, tmp_path / "runs/demo")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks(page)):
        if block.reason is not None:
            continue
        if block.language == "python":
            file = tmp_path / f"block_{number}.py"
            file.write_text(block.code, encoding="utf-8")
            names = runpy.run_path(str(file), names, "__main__")
        elif block.language == "bash":
            for command in block.commands:
                assert main(shlex.split(command)[1:]) == 0, command


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: page.name)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        assert block.language in ("python", "bash", "text"), block
        if block.language == "bash" and block.reason is None:
            assert page in PAGES, block
            assert all(command.startswith("ancestral ") for command in block.commands), block


def test_the_example_trains_a_model_that_python_finds_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    example = runpy.run_path(str(ROOT / "examples/own_model.py"))
    run = ancestral.train(example["model"], "digits", epochs=1, out="run")
    x = run.data.rows("test", range(7))
    again = ancestral.load("run", runpy.run_path(str(ROOT / "examples/own_model.py"))["model"])
    assert again.model.reconstruct(x).equal(run.model.reconstruct(x))
    assert again.model.encode(x)["h"].shape == (7, 3)

"""The code on the pages runs as it stands there, page by page, in an empty folder with the demo's run in it.

A block of text right below code that is run is what the code prints: words are the same, numbers agree to within 2 % or
one unit of the last digit shown, times are not compared, and a line ``...`` stands for any lines.
The pictures of a page of the guide are those that its code writes under the same name.
"""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

import ancestral
from ancestral.cli import main

ROOT = Path(__file__).resolve().parents[2]
GUIDE = sorted(page for page in (ROOT / "docs/guide").glob("*.md") if ".ja." not in page.name)
PAGES = [ROOT / "README.md", *GUIDE]
OTHERS = [ROOT / "CONTRIBUTING.md", ROOT / "docs/design.md", ROOT / "docs/index.md"]

BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$"
    r"(?:\n\n```text\n(?P<output>.*?)^```$)?",
    re.M | re.S,
)
PICTURE = re.compile(r"!\[.*?\]\(\.\./pictures/([\w-]+\.png)\)")
TIME = re.compile(r"\b\d+(?:\.\d+)? (?:s|min|h)\b")
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?![\w.]*\w)")


class Block(NamedTuple):
    """A block of code, the reason why it is not run, and what it prints; None where the page doesn't say."""

    language: str
    code: str
    reason: str | None
    output: str | None = None

    @property
    def commands(self) -> list[str]:
        return [line for line in self.code.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(match["language"], match["code"], match["reason"], match["output"]) for match in found]


def same_line(shown: str, seen: str) -> bool:
    """Whether two lines have the same words, in any spacing, and numbers that agree."""
    shown, seen = TIME.sub("TIME", shown), TIME.sub("TIME", seen)
    if NUMBER.sub("NUMBER", shown).split() != NUMBER.sub("NUMBER", seen).split():
        return False
    return all(same_number(*pair) for pair in zip(NUMBER.findall(shown), NUMBER.findall(seen), strict=True))


def same_number(shown: str, seen: str) -> bool:
    last_digit = 10.0 ** -len(shown.partition(".")[2])
    first, second = (float(number.replace(",", "")) for number in (shown, seen))
    return abs(first - second) <= max(0.02 * abs(first), 1.01 * last_digit)


def same_output(shown: str, seen: str) -> bool:
    """Whether what was printed is what the page shows."""
    lines = [line for line in seen.splitlines() if line.strip()]
    wanted = [line for line in shown.splitlines() if line.strip()]
    if not wanted:
        return not lines
    if wanted[0] == "...":
        return any(same_output("\n".join(wanted[1:]), "\n".join(lines[i:])) for i in range(len(lines) + 1))
    return bool(lines) and same_line(wanted[0], lines[0]) and same_output("\n".join(wanted[1:]), "\n".join(lines[1:]))


def alike(first: Path, second: Path) -> bool:
    """Whether two pictures have the same size, and grey levels that differ by less than 10 of 255 on average."""
    one, other = (np.asarray(Image.open(path).convert("L"), float) for path in (first, second))
    return one.shape == other.shape and bool(np.abs(one - other).mean() < 10)


def demo() -> list[str]:
    """What `make demo` trains."""
    line = re.search(r"^DEMO \?= (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert line is not None
    return shlex.split(line[1])


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "run"
    assert main(["train", *demo(), "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(
    page: Path,
    demo_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if "--out runs/demo" not in page.read_text(encoding="utf-8"):
        shutil.copytree(demo_run, tmp_path / "runs/demo")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks(page)):
        if block.reason is not None:
            continue
        capsys.readouterr()
        if block.language == "python":
            file = tmp_path / f"block_{number}.py"
            file.write_text(block.code, encoding="utf-8")
            names = runpy.run_path(str(file), names, "__main__")
        elif block.language == "bash":
            for command in block.commands:
                assert main(shlex.split(command)[1:]) == 0, command
        if block.output is not None:
            seen = capsys.readouterr()
            printed = seen.err + seen.out  # progress, then results
            assert same_output(block.output, printed), f"{block.code}\nprinted\n\n{printed}"
    for picture in PICTURE.findall(page.read_text(encoding="utf-8")):
        assert alike(ROOT / "docs/pictures" / picture, tmp_path / picture), picture


def test_an_output_agrees_with_a_page_only_in_words_and_numbers() -> None:
    assert same_output("epoch 3  loss 87.4, 5 s left\n...\ndone", "epoch 3 loss 87.9, 11 s left\na\nb\ndone\n")
    assert same_output("a 0.02", "a 0.03")
    for shown, seen in (("ELBO 87.4", "ELBO 89.4"), ("ELBO 87.4", "bound 87.4"), ("8 of 8", "6 of 8"), ("-1.5", "1.5")):
        assert not same_output(shown, seen)
    for shown, seen in (("a\n...\nb", "a\nc"), ("a", "a\nb"), ("a\nb", "a"), ("sha a12", "sha a13")):
        assert not same_output(shown, seen)


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

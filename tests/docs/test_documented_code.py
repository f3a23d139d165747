"""The code on the pages runs as it stands there, page by page, in an empty folder with the demo's run in it.

A block of text right below code that is run is what the code prints: words and whole numbers are the same, other
numbers agree to within 0.2 % or one unit of the last digit shown (another kind of processor rounds differently), times
and sizes of files are not compared, and a line ``...`` stands for any lines. Code without such a block prints nothing.
Code that trains or evaluates has its time in the words before it, and a figure in nats in the words is one that code
prints, or a difference of two that stand in one block.
The pictures of a page of the guide are those that its code writes under the same name.
"""

from __future__ import annotations

import contextlib
import io
import math
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
MEASURED = re.compile(r"\b\d+(?:\.\d+)? (?:s|min|h|kB)\b")
SLOW = re.compile(r"\b(?:ancestral[. ]train|ancestral evaluate|\.evaluate|model\.log_prob)\b")
PROMISE = re.compile(r"[^\n]+(?:\n[^\n]+)*\n\n(?=<!-- not run)")  # what is said of code that is not run
SECONDS = re.compile(r"\b(?:seconds?|minutes?)\b|秒|数分|\d 分")
NATS = re.compile(r"(-?\d+(?:\.\d+)?)(?: nats| ナット)")
FORMULAS = (math.log(2), 64 * math.log(0.5), 3 - math.log(4), math.log(4) - 0.75)  # the pages show them
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
    shown, seen = MEASURED.sub("MEASURED", shown), MEASURED.sub("MEASURED", seen)
    if NUMBER.sub("NUMBER", shown).split() != NUMBER.sub("NUMBER", seen).split():
        return False
    return all(same_number(*pair) for pair in zip(NUMBER.findall(shown), NUMBER.findall(seen), strict=True))


def same_number(shown: str, seen: str) -> bool:
    first, second = (float(number.replace(",", "")) for number in (shown, seen))
    tolerance = max(0.002 * abs(first), 1.01 * last_digit(shown)) if "." in shown else 0
    return abs(first - second) <= tolerance


def last_digit(shown: str) -> float:
    return 10.0 ** -len(shown.partition(".")[2])


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


class Demo(NamedTuple):
    """The folder in which `make demo` has trained, its command, and what that printed."""

    folder: Path
    command: list[str]
    printed: str


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder, command, printed = tmp_path_factory.mktemp("demo"), ["train", *demo(), "--out", "runs/demo"], io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        assert main(command) == 0
    return Demo(folder, command, printed.getvalue())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_prints_what_stands_below_it(
    page: Path,
    demo_run: Demo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(demo_run.folder, tmp_path, dirs_exist_ok=True)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks(page)):
        if block.reason is not None or block.language == "text":
            continue
        capsys.readouterr()
        printed = ""
        if block.language == "python":
            file = tmp_path / f"block_{number}.py"
            file.write_text(block.code, encoding="utf-8")
            names = runpy.run_path(str(file), names, "__main__")
        for command in block.commands if block.language == "bash" else ():
            words = shlex.split(command)[1:]
            if words == demo_run.command:  # has run already
                printed += demo_run.printed
            else:
                assert main(words) == 0, command
        seen = capsys.readouterr()
        printed += seen.err + seen.out  # progress, then results
        assert same_output(block.output or "", printed), f"{block.code}\nprinted\n\n{printed}"
    for picture in PICTURE.findall(page.read_text(encoding="utf-8")):
        assert alike(ROOT / "docs/pictures" / picture, tmp_path / picture), picture


def test_an_output_agrees_with_a_page_only_in_words_and_numbers() -> None:
    assert same_output("epoch 3  loss 87.4, 5 s left\n...\ndone", "epoch 3 loss 87.5, 11 s left\na\nb\ndone\n")
    assert same_output("a 0.02", "a 0.03")
    for shown, seen in (("ELBO 87.40", "ELBO 87.60"), ("ELBO 8.4", "bound 8.4"), ("8 of 8", "7 of 8"), ("-1.5", "1.5")):
        assert not same_output(shown, seen)
    for shown, seen in (("a\n...\nb", "a\nc"), ("a", "a\nb"), ("a\nb", "a"), ("sha a12", "sha a13")):
        assert not same_output(shown, seen)


def in_both_languages(*pages: Path) -> list[Path]:
    return [*pages, *(page.with_suffix(".ja.md") for page in pages)]


def outputs() -> list[str]:
    return [block.output for page in PAGES for block in blocks(page) if block.output is not None]


@pytest.mark.parametrize("page", in_both_languages(*PAGES), ids=lambda page: page.name)
def test_code_that_trains_or_evaluates_has_its_time_before_it(page: Path) -> None:
    text, end = page.read_text(encoding="utf-8"), 0
    for match in BLOCK.finditer(text):
        before, end = text[end : match.start()], match.end()
        if match["reason"] is None and match["language"] in ("python", "bash") and SLOW.search(match["code"]):
            assert SECONDS.search(before), match["code"]
    if page.parent.name == "guide":
        assert SECONDS.search(text.split("\n## ")[0]), "the head says how long code without a time takes"


@pytest.mark.parametrize("page", in_both_languages(*PAGES, ROOT / "docs/index.md"), ids=lambda page: page.name)
def test_a_figure_in_nats_is_one_that_code_prints(page: Path) -> None:
    measured = (ROOT / "experiments/README.md").read_text(encoding="utf-8")
    own = [block.output for block in blocks(page) if block.output is not None]
    values = [float(number.replace(",", "")) for text in [*outputs(), measured] for number in NUMBER.findall(text)]
    for text in own:
        printed = [float(number.replace(",", "")) for number in NUMBER.findall(text) if "." in number]
        values += [abs(first - second) for first in printed for second in printed]
    for figure in NATS.findall(BLOCK.sub("", PROMISE.sub("", page.read_text(encoding="utf-8")))):
        near = min(abs(float(figure) - value) for value in [*values, *FORMULAS])
        assert near <= 0.51 * last_digit(figure), figure


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

"""The documents are in step: English with Japanese, links with files, the design with the source."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = sorted(page.relative_to(ROOT) for page in (ROOT / "docs").rglob("*.md") if ".ja." not in page.name)
TRANSLATED = [Path("README.md"), *SITE]
DOCUMENTS = [
    *TRANSLATED,
    *(page.with_suffix(".ja.md") for page in TRANSLATED),
    Path("CONTRIBUTING.md"),
    Path("CHANGELOG.md"),
]

JAPANESE = {
    "estimator": "推定量",
    "Bernoulli": "ベルヌーイ",
    "class index": "クラス番号",
    "bounded count": "上限のある個数",
    "reparameterizable": "再パラメータ化可能",
    "count": "個数",
    "unbiased": "不偏",
    "biased": "偏りあり",
    "error": "エラー",
}
"""Words of the table of estimators."""

BEGINNINGS = ("README.md", "docs/index.md", "docs/guide/first-model.md")

CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
DISPLAYED = re.compile(r"^(?:\$\$.*?\$\$|::: .+)$", re.MULTILINE | re.DOTALL)  # a formula, or a name of the reference
LINK = re.compile(r"\]\(([^)]+)\)")
ITEM = re.compile(r"^(?:- |\d+\. |\|)", re.MULTILINE)  # of a list, or a row of a table
NUMBER = re.compile(r"(?<![A-Za-z\d.])-?\d+(?:,\d{3})*(?:\.\d+)?")


class Chunk(NamedTuple):
    """What stands between two empty lines: its level if it is a heading, its items, and its numbers in any order."""

    level: int
    items: int
    numbers: list[str]


def text(page: Path) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose(page: Path) -> str:
    return CODE.sub("", text(page))


def chunks(page: Path) -> list[Chunk]:
    """A page's headings, paragraphs, lists and tables; code and formulas are compared as they stand."""
    found = []
    for chunk in re.split(r"\n\s*\n", DISPLAYED.sub("", prose(page)).strip()):
        level = len(chunk) - len(chunk.lstrip("#"))
        found.append(Chunk(level, len(ITEM.findall(chunk)), sorted(NUMBER.findall(chunk))))
    return found


def links(page: Path) -> list[str]:
    """Where a page leads, whatever the language of the page it leads to."""
    return sorted(link.replace(".ja.md", ".md") for link in LINK.findall(prose(page)))


@pytest.mark.parametrize("page", TRANSLATED, ids=str)
def test_english_and_japanese_have_the_same_paragraphs_numbers_code_formulas_and_links(page: Path) -> None:
    japanese = page.with_suffix(".ja.md")
    for number, (english, translated) in enumerate(zip(chunks(page), chunks(japanese), strict=False)):
        assert english == translated, f"paragraph {number}"
    assert len(chunks(page)) == len(chunks(japanese))
    assert CODE.findall(text(page)) == CODE.findall(text(japanese))
    assert DISPLAYED.findall(prose(page)) == DISPLAYED.findall(prose(japanese))
    assert links(page) == links(japanese)


@pytest.mark.parametrize("page", TRANSLATED, ids=str)
def test_a_page_in_one_language_links_to_that_language_and_once_to_the_other(page: Path) -> None:
    japanese = page.with_suffix(".ja.md")
    assert [link for link in LINK.findall(prose(page)) if ".ja.md" in link] == [japanese.name]
    english = [(ROOT / page).resolve() for page in TRANSLATED]
    here = (ROOT / japanese).parent
    assert [link for link in LINK.findall(prose(japanese)) if (here / link).resolve() in english] == [page.name]


@pytest.mark.parametrize("page", DOCUMENTS, ids=str)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if not link.startswith("https://"):
            assert (ROOT / page).parent.joinpath(link).exists(), link


def test_the_design_lists_the_rooms_that_the_import_linter_knows_in_its_order() -> None:
    house = next(block for block in CODE.findall(text(Path("docs/design.md"))) if "src/ancestral/" in block)
    rooms = re.findall(r"^  (\w+)(?:/|\.py) ", house, re.MULTILINE)
    project = tomllib.loads(text(Path("pyproject.toml")))
    (contract,) = project["tool"]["importlinter"]["contracts"]
    assert [f"ancestral.{room}" for room in rooms] == contract["layers"]


def test_every_room_of_the_source_is_a_layer() -> None:
    source = ROOT / "src/ancestral"
    rooms = {path.stem for path in source.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    project = tomllib.loads(text(Path("pyproject.toml")))
    (contract,) = project["tool"]["importlinter"]["contracts"]
    assert {f"ancestral.{room}" for room in rooms - {"__init__", "__main__"}} == set(contract["layers"])


def test_the_guide_shows_the_table_of_valid_estimators_in_both_languages() -> None:
    from ancestral.estimators.validity import markdown

    page = Path("docs/guide/gradients.md")
    assert f"\n\n{markdown()}\n\n" in text(page)
    assert f"\n\n{markdown(JAPANESE)}\n\n" in text(page.with_suffix(".ja.md"))


def test_the_readme_shows_the_example_verbatim_and_it_is_short() -> None:
    example = text(Path("examples/own_model.py"))
    assert f"```python\n{example}```" in text(Path("README.md"))
    assert len(example.splitlines()) < 25


def test_the_readme_the_site_and_the_guide_begin_with_the_same_two_commands() -> None:
    first = {re.findall(r"^```bash\n(.*?)^```$", text(Path(page)), re.MULTILINE | re.DOTALL)[0] for page in BEGINNINGS}
    assert first == {"make demo\n. .venv/bin/activate\n"}


def test_the_readme_names_every_data_set() -> None:
    from ancestral.data import named_sets

    for named in named_sets():
        assert f"`{named.name}`" in prose(Path("README.md"))


def test_contributing_names_files_that_exist() -> None:
    for path in re.findall(r"`((?:src|tests|docs)/[^`]+\.py)`", text(Path("CONTRIBUTING.md"))):
        assert "NAME" in path or (ROOT / path).is_file(), path


def test_pictures_in_the_repository_are_small() -> None:
    for picture in (ROOT / "docs/pictures").rglob("*.png"):
        assert picture.stat().st_size < 100_000, picture.name

"""The site: built without a warning, in both languages, with every public name, and asking nothing of the network."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import ancestral
from ancestral.models import BUILDERS

pytest.importorskip("mkdocs", reason="the site's tools are not installed: pip install -e '.[docs]'")

ROOT = Path(__file__).resolve().parents[2]
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}


class Page(HTMLParser):
    """What a page leads to, what it loads, and the places in it that a link may name."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors.add(values.get("id", ""))
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif LOADED.get(tag, "") in values:
            self.loaded.append(values[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    """Every page, by its path in the site."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    build = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert build.returncode == 0, build.stderr + build.stdout
    assert not build.stderr, build.stderr
    pages = [Page(path) for path in out.rglob("*.html") if path.name != "404.html"]
    return {page.path.relative_to(out).as_posix(): page for page in pages}


def test_every_page_is_in_both_languages(site: dict[str, Page]) -> None:
    sources = [path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")]
    english = {path.as_posix() for path in sources if not path.name.endswith(".ja.html")}
    assert set(site) == english | {f"ja/{page}" for page in english}
    for name, page in site.items():
        assert f'<html lang="{"ja" if name.startswith("ja/") else "en"}"' in page.text
        japanese = any("\u3041" <= letter <= "\u30ff" for letter in page.text[page.text.index("<h1") :][:4000])
        assert japanese == name.startswith("ja/"), name


def test_no_page_loads_anything_from_outside(site: dict[str, Page]) -> None:
    for name, page in site.items():
        assert page.loaded
        assert not [address for address in page.loaded if "//" in address], name
    for sheet in site["index.html"].path.parent.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name


def test_every_link_within_the_site_leads_to_a_place_in_it(site: dict[str, Page]) -> None:
    pages = {page.path: page for page in site.values()}
    for page in pages.values():
        for link in [*page.links, *page.loaded]:
            file, _, anchor = unquote(link).partition("#")
            target = (page.path.parent / file).resolve() if file else page.path
            if ":" not in link:
                assert target.exists(), f"{page.path}: {link}"
                assert not anchor or anchor in pages[target].anchors, f"{page.path}: {link}"


def test_the_reference_shows_every_public_name(site: dict[str, Page]) -> None:
    shown = set().union(*(page.anchors for name, page in site.items() if name.startswith("reference/")))
    for room in sorted({"ancestral", *(f"ancestral.{room}" for room in ancestral._ROOMS)} - {"ancestral.cli"}):
        module = importlib.import_module(room)
        for name in getattr(module, "__all__", ()):
            places = {f"{room}.{name}", f"{getattr(getattr(module, name), '__module__', room)}.{name}"}
            assert name == "__version__" or places & shown, f"{room}.{name} is on no page of docs/reference"


def test_the_reference_shows_every_named_model(site: dict[str, Page]) -> None:
    for name, builder in BUILDERS.items():
        assert builder.__module__ in site["reference/models.html"].anchors, name


def test_formulas_and_roles_are_rendered(site: dict[str, Page]) -> None:
    for name, page in site.items():
        for mark in ("arithmatex", ".. math::", ":func:", ":class:", ":meth:", "$$"):
            assert mark not in page.text, f"{name}: {mark}"
    gradients = ("gradients", "likelihood-ratio", "taylor", "relaxations", "control-variates", "enumeration")
    likelihoods = ("bounds", "wake-sleep", "importance-weighting", "likelihoods")
    for name in ("guide/vae", "guide/likelihood", *(f"guide/{page}" for page in (*likelihoods, *gradients))):
        source = (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")
        written = re.findall(r"\$\$.+?\$\$|\$[^$]+\$", source, re.DOTALL)
        assert site[f"{name}.html"].text.count("<math") == len(written) > 3, name
    assert "<math" in site["reference/objectives.html"].text

"""Pages: from what they hold to one self-contained HTML file in two languages."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ancestral.errors import AncestralError, nearest
from ancestral.report.words import Text, say
from ancestral.training.folder import write_atomically

LANGUAGES = ("auto", "en", "ja")


def checked_destination(out: str | os.PathLike[str] | None, default: Path) -> Path:
    """Where a page goes.

    Raises:
        AncestralError: a folder, or a file of another kind.
    """
    place = Path(out) if out is not None else default
    if place.suffix.lower() not in (".html", ".htm"):
        raise AncestralError(f"{place} has the ending {place.suffix!r}, but a page is .html: give --out FILE.html.")
    if place.is_dir():
        raise AncestralError(f"{place} is a folder: give the name of a file, --out FILE.html.")
    return place


def write_page(page: Mapping[str, Any], place: Path, language: str) -> Path:
    """Render a page and write it, atomically.

    Raises:
        AncestralError: an unknown language, or a place that can't be written.
    """
    if language not in LANGUAGES:
        raise AncestralError(f"there is no language {language!r}. " + nearest(language, LANGUAGES))
    html = _template().render(page, language=language)
    try:
        write_atomically(place, html.encode("utf-8", "replace"))
    except OSError as error:
        raise AncestralError(f"can't write {place}: {error.strerror}. Give another --out.") from None
    return place


def _template() -> jinja2.Template:
    """The template, which escapes whatever it is given."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ancestral.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=in_both,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(say=say, attribute=attribute, version=version("ancestral"))
    environment.tests["missing"] = lambda value: isinstance(value, Text)
    return environment.get_template("template.html")


def in_both(value: object) -> object:
    """A text in both languages, of which the style sheet shows one; anything else as it is."""
    if not isinstance(value, Text):
        return value
    if value.en == value.ja:
        return value.en
    return Markup('<span lang="en">{}</span><span lang="ja">{}</span>').format(value.en, value.ja)


def attribute(name: str, text: Text) -> Markup:
    """An attribute in English, with both languages beside it for the page's switch; one for each element."""
    template = Markup('{}="{}" data-attribute="{}" data-en="{}" data-ja="{}"')
    return template.format(name, text.en, name, text.en, text.ja)

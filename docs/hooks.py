"""What the site adds to MkDocs: rooms become lists of their names, docstrings Markdown, formulas MathML."""

from __future__ import annotations

import html
import importlib
import inspect
import re
from typing import Any

import griffe
import latex2mathml.converter

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
OTHER_LANGUAGE = re.compile(r"^\[(?:日本語|English)\]\([\w./-]+\)\n", re.MULTILINE)
ROLE = re.compile(r":(?:func|class|meth|data|mod):`~?([\w.]+)`")
MATH = re.compile(r"^( *)\.\. math::\s+(.+(?:\n+\1 +.+)*)", re.MULTILINE)
WORD = re.compile(r"\\(?:text|mathrm|operatorname)\{[^}]*\}|\\[A-Za-z]+|([A-Za-z]{3,} ?|or |KL)")
SIGNS = {"  ": r"\quad ", "≤": r"\le ", "≈": r"\approx ", "∼": r"\sim ", "∏": r"\prod ", "Σ": r"\sum "}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Every public name of a room where a page has ``::: ROOM``; links between pages as the site wants them.

    The line that leads to the other language is left out, since the site has a menu for it, and so is the ``.ja`` of a
    link, since the site finds the page in the reader's language.
    """
    markdown = re.sub(r"\.ja\.md\b", ".md", OTHER_LANGUAGE.sub("", markdown))
    return re.sub(r"^::: (ancestral\.\w+)$", lambda match: listing(match[1]), markdown, flags=re.MULTILINE)


def on_page_content(content: str, **_: Any) -> str:
    """Formulas as MathML, which browsers show as it is: a page needs no script and no font for them."""

    def mathml(match: re.Match[str]) -> str:
        display = "block" if match[1] == "div" else "inline"
        formula = re.sub(r"\\(log|exp) (?![([])", r"\\\1\\,", html.unescape(match[2]).strip())  # no space of its own
        return latex2mathml.converter.convert(formula, display=display)

    return FORMULA.sub(mathml, content)


def listing(room: str) -> str:
    """The names in a room's ``__all__``, each by the file that defines it: a function may have the name of its file."""
    names = getattr(importlib.import_module(room), "__all__", None)
    return "\n\n".join(f"::: {home(f'{room}.{name}')}" for name in names) if names else f"::: {room}"


def home(path: str) -> str:
    """Where an object is defined, from any of its names; that name itself for one that doesn't know, as a constant."""
    room, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(room), name)
    except (ImportError, AttributeError):  # a method, whose class is no module
        return path
    return f"{found.__module__}.{name}" if inspect.isclass(found) or inspect.isfunction(found) else path


class ReadableDocstrings(griffe.Extension):
    """Docstrings as Markdown: in the source they hold ``.. math::`` and roles such as ``:func:`elbo```."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value, obj)


def to_markdown(docstring: str, obj: griffe.Object) -> str:
    """Formulas between dollar signs, with words upright and wide spaces; roles as links to where an object is shown."""

    def formulas(match: re.Match[str]) -> str:
        text = WORD.sub(lambda word: rf"\text{{{word[1]}}}" if word[1] else word[0], match[2])
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        for sign, command in SIGNS.items():
            lines = [line.replace(sign, command) for line in lines]
        return "\n\n".join(f"{match[1]}$${line}$$" for line in lines)

    def link(match: re.Match[str]) -> str:
        name, member = match[1], ""
        if not name.startswith("ancestral."):
            first, dot, rest = name.partition(".")  # a class and its method
            name, member = obj.resolve(first), dot + rest
        return f"[`{(name + member).rpartition('.')[2]}`][{home(name)}{member}]"

    return ROLE.sub(link, MATH.sub(formulas, docstring))

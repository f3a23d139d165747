"""``ancestral compare RUN RUN...``."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ancestral.cli.arguments import Own, aligned, check_seed, own_model, parse, progress_bar

if TYPE_CHECKING:
    from ancestral.evaluation import Figure
    from ancestral.report.compare import Comparison


@dataclasses.dataclass(frozen=True)
class Compare:
    """Put runs side by side: settings that differ, losses, samples, and figures.

    Figures share a table only if they are of the same rows, likelihood, kind of bound and number of particles.
    """

    runs: tyro.conf.Positional[tuple[str, ...]]
    """The run folders, two or more."""
    out: Annotated[str, tyro.conf.arg(metavar="PATH")] = "compare.html"
    """Where the page goes: FILE.html."""
    language: Literal["auto", "en", "ja"] = "auto"
    """Which language shows first; auto: that of the reader's browser. The page can be switched."""
    checkpoint: Literal["auto", "best", "last"] = "auto"
    """Which weights. auto: those of evaluation.json, or without it the best by validation if there are any."""
    model: Own = None
    """For new evaluations of runs with a model of your own: FILE.py:NAME, a model or a function that makes it."""
    device: str = "auto"
    """Where new evaluations are made; auto takes the GPU if there is one."""
    seed: int = 0
    """Of the draws of new evaluations."""
    particles: int | None = None
    """Evaluate every run anew with so many draws of z. By default evaluation.json is used, or 100 drawn without it."""
    limit: int | None = None
    """Evaluate every run anew on so many rows, 0 for all. By default evaluation.json, or the first 1,000 without it."""


def main(words: Sequence[str]) -> int:
    arguments = parse(Compare, "compare", words)
    check_seed(arguments.seed)

    from ancestral.report import write_comparison

    with progress_bar() as progress:
        comparison = write_comparison(
            arguments.runs,
            arguments.out,
            model=own_model(arguments.model),
            which=arguments.checkpoint,
            device=arguments.device,
            language=arguments.language,
            particles=arguments.particles,
            limit=arguments.limit,
            seed=arguments.seed,
            progress=progress,
        )
    print(in_words(comparison))
    print(f"page:  {comparison.path}  ({comparison.path.stat().st_size / 1000:,.0f} kB; open it in a browser)")
    print(f"next:  ancestral report {shlex.quote(arguments.runs[0])}")
    return 0


def in_words(comparison: Comparison) -> str:
    """The figures as tables of words, one for each group of runs that compare, and why there is more than one."""
    from ancestral.report.compare import table_of
    from ancestral.report.report import shown

    def cell(figure: Figure | None) -> str:
        if figure is None:
            return "-"
        numbers = shown(figure)
        return " ".join(filter(None, (numbers["value"], numbers["error"], figure.unit)))

    parts = []
    for group in comparison.groups:
        rows = [["", "", *(run.label for run in group), ""]]
        for figures in table_of(group):
            first = next(figure for figure in figures if figure)
            rows.append([first.name, first.kind, *map(cell, figures), first.estimator])
        rows.append(["weights", "", *(run.weights for run in group), ""])
        rows.append(["seed", "", *(str(run.figures[0].seed) for run in group), ""])
        parts.append(aligned(rows, ("<", "<", *(">" for _ in group), "<")))
        first = group[0].figures[0]
        parts.append(f"{first.likelihood}; {first.data}; sha256 {first.digest[:12]}\n")
    if comparison.reasons:
        reasons = "; ".join(reason.en for reason in comparison.reasons)
        parts.append(f"these can't be compared with one another: {reasons}\n")
    parts += [f"{run.label}: {run.without.en}\n" for run in comparison.runs if run.without is not None]
    return "\n".join(parts)

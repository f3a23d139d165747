"""``ancestral report RUN``."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from typing import Literal

from ancestral.cli.arguments import Out, RunArguments, check_seed, own_model, parse, progress_bar


@dataclasses.dataclass(frozen=True)
class Report(RunArguments):
    """Write one self-contained page about a run, in English and Japanese: verdict, losses, pictures, figures, command.

    Its figures are those of `ancestral evaluate`. Without them the run is evaluated on the way.
    """

    out: Out = None
    """Where to: FILE.html. By default report.html in the run folder."""
    language: Literal["auto", "en", "ja"] = "auto"
    """Which language shows first; auto: that of the reader's browser. The page can be switched."""
    particles: int | None = None
    """Draws of z per datapoint of a new evaluation. By default evaluation.json is used, or 100 are drawn without it."""
    limit: int | None = None
    """Rows of a new evaluation, 0 for all. By default evaluation.json is used, or the first 1,000 rows without it."""


def main(words: Sequence[str]) -> int:
    arguments = parse(Report, "report", words)
    check_seed(arguments.seed)

    from ancestral.report import write_report

    flags = f"--model {shlex.quote(arguments.model)}" if arguments.model else ""
    with progress_bar() as progress:
        page = write_report(
            arguments.run,
            arguments.out,
            model=own_model(arguments.model),
            which=arguments.checkpoint,
            device=arguments.device,
            language=arguments.language,
            particles=arguments.particles,
            limit=arguments.limit,
            seed=arguments.seed,
            flags=flags,
            progress=progress,
        )
    print(f"page:  {page}  ({page.stat().st_size / 1000:,.0f} kB; open it in a browser)")
    print(f"next:  ancestral compare {shlex.quote(arguments.run)} ANOTHER_RUN")
    return 0

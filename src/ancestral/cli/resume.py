"""``ancestral resume RUN``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import tyro

from ancestral.cli.arguments import Own, own_model, parse


@dataclasses.dataclass(frozen=True)
class Resume:
    """Continue an interrupted run; on the CPU the result is bit-identical to never having stopped."""

    run: tyro.conf.Positional[str]
    """The run folder."""
    model: Own = None
    """For a model of your own: FILE.py:NAME."""


def main(words: Sequence[str]) -> int:
    arguments = parse(Resume, "resume", words)

    import ancestral
    from ancestral.cli.train import report
    from ancestral.training.progress import make_reporter

    run = ancestral.resume(arguments.run, own_model(arguments.model), reporter=make_reporter())
    return report(run, arguments.model)

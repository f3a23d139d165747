"""``ancestral resume RUN``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from ancestral.cli.arguments import Own, own_model, parse
from ancestral.configs import TrainingConfig


@dataclasses.dataclass(frozen=True)
class Resume:
    """Continue an interrupted run; on the CPU the result is bit-identical to never having stopped."""

    run: tyro.conf.Positional[str]
    """The run folder."""
    model: Own = None
    """For a model of your own: FILE.py:NAME."""
    device: Annotated[str | None, tyro.conf.arg(metavar="DEVICE")] = None
    """Where to continue: cpu, cuda, ...; by default where the run began."""


def main(words: Sequence[str]) -> int:
    arguments = parse(Resume, "resume", words)

    import torch

    import ancestral
    from ancestral.cli.train import report
    from ancestral.runs import parse as parse_table
    from ancestral.training import RunFolder
    from ancestral.training.progress import make_reporter

    folder = RunFolder(arguments.run)
    training = parse_table(TrainingConfig, folder.config()["training"], folder.config_file)
    torch.manual_seed(training.seed)  # without a checkpoint, the own model's weights must be drawn as they were
    run = ancestral.resume(
        arguments.run, own_model(arguments.model), reporter=make_reporter(), device=arguments.device
    )
    return report(run, arguments.model)

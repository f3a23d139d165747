"""``ancestral evaluate RUN``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Literal

from ancestral.cli.arguments import Out, RunArguments, aligned, parse
from ancestral.errors import AncestralError


@dataclasses.dataclass(frozen=True)
class Evaluate(RunArguments):
    """Bounds of log p(x) on held-out data: the ELBO, its parts, and the importance-weighted estimate."""

    particles: int = 100
    """Draws of z per datapoint; memory does not grow with them."""
    split: Literal["train", "validation", "test"] = "test"
    """Which rows."""
    limit: int = 0
    """Evaluate only the first so many rows; 0 takes all."""
    json: Out = None
    """Where the figures go besides the screen. By default evaluation.json in the run folder."""


def main(words: Sequence[str]) -> int:
    arguments = parse(Evaluate, "evaluate", words)
    run = arguments.load()

    from pathlib import Path

    path = Path(arguments.json) if arguments.json else run.path / "evaluation.json"
    if path.is_dir():
        raise AncestralError(f"{path} is a folder: give the name of a file.")

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ancestral.cli.arguments import description
    from ancestral.training.folder import write_atomically

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with bar:
        task = bar.add_task("log p(x)", total=None)

        def progress(done: int, total: int, mean: float) -> None:
            bar.update(task, completed=done, total=total, description=f"log p(x) {mean:.2f}")

        figures = run.evaluate(
            arguments.particles, arguments.split, seed=arguments.seed, limit=arguments.limit, progress=progress
        )
    print(table(figures))
    first = figures[0]
    print(f"\nlikelihood {first.likelihood}; data {first.data}")
    print(f"sha256 {first.digest}, {run.which} weights, seed {first.seed}")
    record = {
        "run": str(run.path),
        "weights": run.which,
        "weights_digest": run.digest,
        "shape": list(description(run).shape),
        "figures": [dataclasses.asdict(figure) for figure in figures],
    }
    try:
        write_atomically(path, (json.dumps(record, indent=2) + "\n").encode())
    except OSError as error:
        raise AncestralError(f"can't write {path}: {error.strerror}.") from None
    print(f"as JSON:  {path}")
    print(f"next:  ancestral reconstruct {run.path}" + (f" --model {arguments.model}" if arguments.model else ""))
    return 0


def table(figures: Sequence[object]) -> str:
    """The figures as lines of words: value, standard error, unit, kind, estimator."""
    rows = []
    for figure in figures:
        values = dataclasses.asdict(figure)  # type: ignore[call-overload]
        error = values["standard_error"]
        rows.append(
            (
                values["name"],
                f"{values['value']:.4f}" if values["unit"] in ("nats", "bits") else f"{values['value']:g}",
                "" if error is None else f"± {error:.4f}",
                values["unit"],
                values["kind"],
                values["estimator"],
            )
        )
    return aligned(rows, ("<", ">", ">", "<", "<", "<"))

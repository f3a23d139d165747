"""The published comparisons, cell by cell; what they are stands in ``comparisons.py``.

    python experiments/tables.py --list
    python experiments/tables.py gumbel-softmax/structured-bernoulli/muprop
    python experiments/tables.py gumbel-softmax --jobs 2
    python experiments/tables.py --write

The second line runs one cell, the third a table (or a row of one), the last prints the tables as Markdown.

A cell is trained with each learning rate of its row for the first fifth of its passes, and with the next one beyond
for as long as the best is at an end of those tried. The run with the best bound on validation images goes on to the
end, and is evaluated on the test images. Every column of a row has the same budget: updates, batches, schedule,
learning rates to choose from. Of every run those weights count that were best on validation images by the figure of
the table: where that is log p, by a bound of 25 particles, since a bound of one particle, which is what is trained,
can stand still while the likelihood still rises.

The same command continues what was interrupted. The records lie in ``results/`` beside this file, as they came; the run
folders in ``runs/`` are not kept in git.

``--budget paper`` takes the papers' number of updates, for a GPU or a long night: its records stand beside the others.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from comparisons import EVERY_RATE, SHARED, TABLES, VALIDATION_PARTICLES, VALIDATIONS, Row

HERE = Path(__file__).parent


def cells(prefix: str = "") -> Iterator[str]:
    """The names ``table/row/column`` that begin with a prefix of whole words."""
    for table, rows in TABLES.items():
        for row, what in rows.items():
            for column in what.columns:
                name = f"{table}/{row}/{column}"
                if not prefix or f"{name}/".startswith(f"{prefix.strip('/')}/"):
                    yield name


def record_of(cell: str, budget: str) -> Path:
    return HERE / "results" / budget / f"{cell.replace('/', '--')}.json"


def settings_of(cell: str, rate: float, epochs: int) -> dict[str, Any]:
    """All that a run of the cell is trained with."""
    table, row_name, column = cell.split("/")
    row = TABLES[table][row_name]
    chosen = {**SHARED, **row.settings, **row.columns[column]}
    if row.relaxed and "gumbel" in column:
        chosen |= row.relaxed
    if "slope_end" in chosen:
        chosen["slope_rate"] = math.log(chosen["slope_end"]) / (0.8 * epochs)
    if row.figure != "ELBO":
        chosen["validation_particles"] = VALIDATION_PARTICLES
    return {**chosen, "learning_rate": rate, "epochs": epochs, "validate_every": max(1, epochs // VALIDATIONS)}


def digest(settings: object) -> str:
    """Short, for the name of a folder: other settings are another run."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def folder_of(cell: str, budget: str, rate: float, epochs: int) -> Path:
    return HERE / "runs" / budget / cell / f"rate-{rate:g}-{digest(settings_of(cell, rate, epochs))}"


def asked_of(cell: str, epochs: int) -> str:
    """What a record must have been made with to count."""
    row = TABLES[cell.split("/")[0]][cell.split("/")[1]]
    return digest([[settings_of(cell, rate, epochs) for rate in row.rates], row.particles, row.figure])


def epochs_of(cell: str, budget: str) -> int:
    row = TABLES[cell.split("/")[0]][cell.split("/")[1]]
    return row.epochs if budget == "default" else row.paper_epochs


def recorded(cell: str, budget: str) -> dict[str, Any] | None:
    """The record of a cell, if it was made with the settings that the table has now."""
    file = record_of(cell, budget)
    if not file.exists():
        return None
    record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return record if record.get("asked") == asked_of(cell, epochs_of(cell, budget)) else None


def finished(cell: str, budget: str) -> bool:
    """Whether nothing is left to do for a cell."""
    record = recorded(cell, budget)
    return record is not None and chosen_between(record)


def chosen_between(record: Mapping[str, Any]) -> bool:
    """Whether the learning rate of a record lies between others that were tried, or is the only one of its row."""
    losses = {float(rate): math.inf if loss is None else loss for rate, loss in record["validation_losses"].items()}
    return len(losses) == 1 or not beyond(losses)


class Until:
    """Interrupts training, as Ctrl-C does, when so many passes are over; the validation that is due then is made."""

    def __init__(self, epoch: float) -> None:
        from ancestral.training.progress import make_reporter

        self.epoch, self.reporter = epoch, make_reporter()

    def begin(self, total: int, done: int) -> None:
        self.reporter.begin(total, done)

    def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None:
        self.reporter.update(done, epoch, scalars)
        if epoch >= self.epoch:
            signal.raise_signal(signal.SIGINT)

    def say(self, message: str) -> None:
        self.reporter.say(message)

    def end(self) -> None:
        self.reporter.end()


def train(cell: str, folder: Path, rate: float, epochs: int, until: float) -> None:
    """Train a run of the cell for so many of its passes, from where it stands.

    Raises:
        AncestralError: it was interrupted before.
    """
    import ancestral
    from ancestral.errors import AncestralError

    settings = settings_of(cell, rate, epochs)
    model, data = settings.pop("model"), settings.pop("data")
    if not (folder / "config.toml").exists():
        ancestral.train(model, data, out=folder, reporter=Until(until), **settings)
    elif not validated(folder, until):
        ancestral.resume(folder, reporter=Until(until))
    if not validated(folder, until):
        raise AncestralError(f"{cell} was interrupted; the same command continues it.")


def validated(folder: Path, until: float) -> list[float]:
    """The validation loss after so many passes, in nats, if it has come to that."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if "validation loss" in row and row["epoch"] >= until]
    return [math.inf if row["validation loss"] is None else row["validation loss"] for row in rows[:1]]


def beyond(losses: Mapping[float, float]) -> list[float]:
    """The learning rate to try next: beyond the best, if that is at an end of those tried; none where all diverged."""
    best, tried = min(losses, key=losses.__getitem__), [EVERY_RATE.index(rate) for rate in losses]
    place = EVERY_RATE.index(best)
    following = {min(tried): place - 1, max(tried): place + 1}.get(place, -1)
    return [EVERY_RATE[following]] if 0 <= following < len(EVERY_RATE) and losses[best] < math.inf else []


def reproduce(cell: str, budget: str) -> None:
    """Choose the learning rate, train, evaluate, record."""
    import torch

    import ancestral
    from ancestral.errors import AncestralError
    from ancestral.training.folder import write_atomically

    if finished(cell, budget):
        return
    torch.set_num_threads(1)
    table, row_name, _ = cell.split("/")
    row = TABLES[table][row_name]
    epochs = epochs_of(cell, budget)
    first = max(1, epochs // VALIDATIONS)
    losses: dict[float, float] = {}
    waiting = list(row.rates)
    while waiting:
        rate = waiting.pop(0)
        losses[rate] = math.inf
        folder = folder_of(cell, budget, rate, epochs)
        try:
            train(cell, folder, rate, epochs, first)
            losses[rate] = validated(folder, first)[0]
        except AncestralError as error:
            if "diverged" not in str(error):
                raise
        if not waiting and len(row.rates) > 1:
            waiting = beyond(losses)
    if min(losses.values()) == math.inf:
        raise AncestralError(f"{cell} has diverged at every learning rate.")
    best = min(losses, key=losses.__getitem__)
    folder = folder_of(cell, budget, best, epochs)
    train(cell, folder, best, epochs, epochs)
    run = ancestral.load(folder)  # the weights of the best validation
    started = time.monotonic()
    figures = run.evaluate(particles=row.particles)
    state = json.loads((folder / "checkpoints" / "last" / "state.json").read_text())
    record = {
        "about": row.about,
        "command": f"python experiments/tables.py {cell}" + (f" --budget {budget}" if budget != "default" else ""),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "version": ancestral.__version__,
        "commit": json.loads((folder / "environment.json").read_text())["git"],
        "seed": run.config["training"]["seed"],
        "updates": state["step"],
        "minutes": round(state["seconds"] / 60, 2),
        "evaluation_minutes": round((time.monotonic() - started) / 60, 2),
        "chosen_after_passes": first,
        "validation_losses": {f"{rate:g}": None if math.isinf(loss) else loss for rate, loss in losses.items()},
        "settings": run.config["settings"] | run.config["data_settings"] | run.config["training"],
        "figures": [asdict(figure) for figure in figures],
        "figure": row.figure,
        "findings": [found["message"] for found in state["findings"] if "withdrawn" not in found],
        "asked": asked_of(cell, epochs),
    }
    record_of(cell, budget).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(record_of(cell, budget), (json.dumps(record, indent=2) + "\n").encode())
    for figure in figures:
        print(f"{cell}: {figure.name} {figure.value:.2f} {figure.unit}", flush=True)


def drive(names: list[str], budget: str, jobs: int) -> int:
    """Run cells in so many processes, each with one thread; how many failed."""
    waiting = [name for name in names if not finished(name, budget)]
    print(
        f"{len(names)} cells, {len(names) - len(waiting)} recorded, {len(waiting)} to do, {jobs} at a time", flush=True
    )
    running: dict[str, subprocess.Popen[bytes]] = {}
    failed = 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    while waiting or running:
        while waiting and len(running) < jobs:
            name = waiting.pop(0)
            log = HERE / "runs" / budget / name / "log.txt"
            log.parent.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, __file__, name, "--budget", budget]
            with log.open("ab") as output:
                running[name] = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
            print(f"{name}: started, {log}", flush=True)
        time.sleep(1)
        for name, process in list(running.items()):
            if process.poll() is not None:
                del running[name]
                failed += process.returncode != 0
                print(f"{name}: {'done' if process.returncode == 0 else 'FAILED'}; {len(waiting)} wait", flush=True)
    return failed


def written(budget: str) -> str:
    """Every row of which a cell is recorded as a table in Markdown: ours beside the published figure, as they came."""
    lines: list[str] = []
    for table, rows in TABLES.items():
        for name, row in rows.items():
            records = {column: recorded(f"{table}/{name}/{column}", budget) for column in row.columns}
            if any(records.values()):
                epochs = row.epochs if budget == "default" else row.paper_epochs
                published = " published |" if row.published else ""
                units = " active units |" if row.active_units else ""
                lines += [
                    f"**{row.about}**, {epochs:,} passes (`{table}/{name}`)",
                    "",
                    f"| | -log p, k = {row.particles:,} | -ELBO |{published} learning rate |{units}",
                    "| --- | ---: | ---: | ---: |" + " ---: |" * (bool(row.published) + row.active_units),
                    *(entry(row, column, record) for column, record in records.items()),
                    "",
                ]
    return "\n".join(lines).rstrip()


def entry(row: Row, column: str, record: dict[str, Any] | None) -> str:
    """One line: ours with its standard error, that beside which the published figure stands in bold."""
    if record is None:
        return f"| {column} |" + " |" * (3 + bool(row.published) + row.active_units)
    found = {figure["name"]: figure for figure in record["figures"]}
    entries = []
    for prefix in ("log p(", "ELBO"):
        figure = next(figure for name, figure in found.items() if name.startswith(prefix))
        value, error = f"{-figure['value']:.2f}", figure["standard_error"]
        entries.append(f"**{value}** ± {error:.2f}" if prefix == row.figure else value)
    if row.published:
        entries.append(f"{row.published[column]:.1f}" if column in row.published else "–")
    rate = record["settings"]["learning_rate"]
    edge = "" if chosen_between(record) else ", at an end of those tried"
    entries.append(f"{rate:g}{edge}")
    if row.active_units:
        active = [f"{figure['value']:g}" for name, figure in found.items() if name.startswith("active units of ")]
        entries.append(" + ".join(active))
    return f"| {column} | {' | '.join(entries)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", help="table, table/row or table/row/column; one or several")
    parser.add_argument("--budget", choices=("default", "paper"), default="default")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each with one thread")
    parser.add_argument("--list", action="store_true", help="show the cells")
    parser.add_argument("--write", action="store_true", help="print the recorded tables as Markdown")
    arguments = parser.parse_args()
    if arguments.write:
        print(written(arguments.budget))
        return
    for prefix in arguments.cells:
        if not list(cells(prefix)):
            sys.exit(f"error: there are no cells {prefix!r}; --list shows them.")
    names = list(dict.fromkeys(name for prefix in arguments.cells or [""] for name in cells(prefix)))
    if arguments.list or not arguments.cells:
        print("\n".join(names))
    elif len(names) == 1:
        from ancestral.errors import AncestralError

        try:
            reproduce(names[0], arguments.budget)
        except AncestralError as error:
            sys.exit(f"error: {error}")
    else:
        sys.exit(1 if drive(names, arguments.budget, max(1, arguments.jobs)) else 0)


if __name__ == "__main__":
    main()

"""Figures 2 to 5 of Kingma and Welling (2014): three learning rules on the same two models.

    python experiments/aevb/figures.py --list
    python experiments/aevb/figures.py bound/mnist/20/aevb       # one cell; `bound` or `likelihood` is all of a figure
    python experiments/aevb/figures.py bound --jobs 2            # resumes
    python experiments/aevb/figures.py --draw                    # the pictures, and the claims in numbers

``bound`` is figure 2: the ELBO of training and test rows against the training samples seen, AEVB beside wake-sleep with
the same encoder. ``likelihood`` is figure 3: log p(x) with 3 latent dimensions, few or many training rows, and Monte
Carlo EM besides. Figures 4 and 5, manifolds and samples, are drawn from the runs of ``bound``.

As in the paper: one hidden layer of tanh units (500 for MNIST, 200 for Frey Faces, 100 in figure 3), Adagrad with a
step size from {0.01, 0.02, 0.1}, minibatches of 100 with one draw each, and a prior N(0, I) over the weights (a
weight decay of 1 / N). MCEM has 10 leapfrog steps at an acceptance of 0.9, then 5 updates; a chain for each row goes
on from where it was.

Not as in the paper, or not stated there: weights start with a standard deviation of 0.01 (the paper's N(0, 0.01) may
mean the variance); the step size is that which is best on training rows after 20,000 samples, by what the figure
shows; MNIST is the fixed binarization, with 50,000 training rows; one seed; 10^7 samples, and 10^6 for Monte Carlo EM,
where the paper's axes end at 10^8 and, in figure 3, at 6 * 10^7 (``--samples 1e8``); Frey Faces are dequantized, once;
and log p(x) is not the HMC density of the paper, which fails where a posterior has two modes, but annealed importance
sampling of 250 rows, with 16 chains of 100 temperatures from the prior. (2^18 points of the prior miss a nat of
training rows that a model has learned by heart.)
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import ancestral
from ancestral.configs import DataConfig, VAEConfig
from ancestral.errors import AncestralError
from ancestral.evaluation import annealed_importance_sampling
from ancestral.models import LatentVariableModel
from ancestral.models.vae import variational_autoencoder
from ancestral.objectives import Chains, elbo, monte_carlo_em, posterior_draws, wake_sleep
from ancestral.objectives.iwae import bounds
from ancestral.training.checkpoint import (
    has_checkpoint,
    optimizer_tensors,
    read_checkpoint,
    restore_optimizer,
    write_checkpoint,
)
from ancestral.training.folder import write_atomically

HERE = Path(__file__).parent
STEPS = (0.01, 0.02, 0.1)
CHOOSE_AFTER = 20_000
BATCH = 100
PER_DECADE = {"bound": 12, "likelihood": 2}
"""Measurements."""
MEASURED = 5_000
"""Rows whose bound is measured, of training and of test each."""
ESTIMATED = 250
"""Rows whose likelihood is estimated, of training and of test each."""
CHAINS, TEMPERATURES, LEAPFROG = 16, 100, 5
"""Of annealed importance sampling."""
SAMPLES = 10_000_000
SAMPLES_OF_MCEM = 1_000_000
"""Its minibatch is 16 passes: 11 gradients of the chains and 5 updates."""
MCEM_UPDATES = 5
DATA: dict[str, dict[str, Any]] = {
    "mnist": {"data": "binarized-mnist", "hidden": (500,), "latent": (2, 3, 5, 10, 20, 200)},
    "frey": {
        "data": "frey-faces", "hidden": (200,), "latent": (2, 5, 10, 20),
        "likelihood": "normal", "scale": "learned", "mean": "sigmoid",
    },
}  # fmt: skip
ROWS = (1_000, 50_000)
"""Of training, in figure 3."""


def cells(prefix: str = "") -> Iterator[str]:
    """The names of what is trained: figure/data/latent dimensions/rule and figure/training rows/rule."""
    names = [
        f"bound/{data}/{latent}/{rule}"
        for data, settings in DATA.items()
        for latent in settings["latent"]
        for rule in ("aevb", "wake-sleep")
        if (data, latent, rule) != ("mnist", 2, "wake-sleep")  # 2 is there for the manifold alone
    ]
    names += [
        f"likelihood/{rows}/{rule}"
        for rows in ROWS
        for rule in ("aevb", "wake-sleep", "mcem")
        if (rows, rule) != (50_000, "mcem")  # which the paper leaves out too: it is no online algorithm
    ]
    yield from (name for name in names if not prefix or f"{name}/".startswith(f"{prefix.strip('/')}/"))


class Cell:
    """A model, its data, and how it learns."""

    def __init__(self, name: str) -> None:
        figure, *where, self.rule = name.split("/")
        self.name, self.figure = name, figure
        settings = dict(DATA[where[0] if figure == "bound" else "mnist"])
        dataset = ancestral.data.load(settings.pop("data"), DataConfig())
        if figure == "bound":
            settings["latent"], rows = int(where[1]), len(dataset.train)
        else:
            settings |= {"latent": 3, "hidden": (100,)}
            rows = int(where[0])
        raw = dataset.prepared(binarization="none", dequantize="no").description
        config, prepared = VAEConfig(activation="tanh", **settings).resolve(dataset.requested, raw, "none")
        dataset = dataset.prepared(prepared.binarization, prepared.dequantize)
        torch.manual_seed(0)
        vae = variational_autoencoder(config, dataset.description)
        self.model = LatentVariableModel(vae.p, vae.q)
        for parameter in self.model.parameters():
            nn.init.normal_(parameter, std=0.01)
        self.train = dataset.rows("train", np.arange(rows))
        order = np.random.default_rng(0).permutation(len(dataset.test))  # test images of MNIST may lie digit by digit
        self.test = dataset.rows("test", order)
        self.dataset, self.settings = dataset, settings
        self.chains: Chains | None = None

    def optimizer(self, step: float) -> torch.optim.Optimizer:
        return torch.optim.Adagrad(self.model.parameters(), lr=step, weight_decay=1 / len(self.train), fused=True)

    def learn(self, x: Tensor, rows: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """The updates of one minibatch."""
        p, q, given = self.model.p, self.model.q, {"x": x}
        if self.rule == "mcem":
            chains = self.moved(given, rows)
            for _ in range(MCEM_UPDATES):
                update(monte_carlo_em(p, given, chains.values).mean(), optimizer)
        elif self.rule == "wake-sleep":
            wake, sleep = wake_sleep(p, q, given)
            update((wake + sleep).mean(), optimizer)
        else:
            update(-elbo(p, q, given, analytic_kl=["z"]).mean(), optimizer)

    def moved(self, given: dict[str, Tensor], rows: Tensor) -> Chains:
        """Draws of the posteriors of these rows, from where their chains were."""
        p = self.model.p
        if self.chains is None:
            self.chains = posterior_draws(p, {"x": self.train}, 1)
        here = self.chains._replace(position=self.chains.position[:, rows])
        found = posterior_draws(p, given, here)
        self.chains.position[:, rows] = found.position
        self.chains = self.chains._replace(step=found.step)
        return found

    def measured(self) -> dict[str, float]:
        """Of training and test rows: the bound, or in figure 3 the likelihood."""
        return {split: self.value(x) for split, x in (("train", self.train), ("test", self.test))}

    def value(self, x: Tensor) -> float:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            if self.figure == "bound":
                with torch.no_grad():
                    return float(elbo(self.model.p, self.model.q, {"x": x[:MEASURED]}, analytic_kl=["z"]).mean())
            given = {"x": x[:ESTIMATED]}
            found = annealed_importance_sampling(self.model.p, given, CHAINS, TEMPERATURES, LEAPFROG)
            return float(found.log_prob.mean())


def update(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def marks(samples: int, per_decade: int) -> list[int]:
    """The samples after which is measured: whole minibatches, evenly spaced on a logarithmic axis."""
    last = round(per_decade * math.log10(samples / 1e4))
    found = {round(1e4 * 10 ** (i / per_decade) / BATCH) * BATCH for i in range(last + 1)}
    return sorted({*found, CHOOSE_AFTER, samples} - {mark for mark in found if mark > samples})


def batches(rows: int, begin: int, end: int) -> Iterator[Tensor]:
    """The rows of each minibatch from one number of samples to another: each pass has an order of its own."""
    for index in range(begin // BATCH, end // BATCH):
        per_pass = rows // BATCH
        epoch, position = divmod(index, per_pass)
        if position == 0 or index == begin // BATCH:
            order = torch.randperm(rows, generator=torch.Generator().manual_seed(epoch))
        yield order[position * BATCH : (position + 1) * BATCH]


def go(cell: Cell, optimizer: torch.optim.Optimizer, begin: int, end: int) -> None:
    """Train from one number of samples to another; the noise is a function of where it begins."""
    torch.manual_seed(begin)
    for rows in batches(len(cell.train), begin, end):
        cell.learn(cell.train[rows], rows, optimizer)


def samples_of(name: str, asked: float | None) -> int:
    """The training samples that a cell sees: whole minibatches."""
    usual = SAMPLES_OF_MCEM if name.endswith("/mcem") else SAMPLES
    return int(asked or usual) // BATCH * BATCH


def reproduce(name: str, samples: int) -> None:
    """Choose the step size, train, measure; the checkpoint keeps all that is known, the record shows it."""
    torch.set_num_threads(1)
    folder, file = HERE / "runs" / name, record_of(name)
    if file.exists() and read_record(file).get("finished", 0) >= samples:
        return
    folder.mkdir(parents=True, exist_ok=True)
    file.parent.mkdir(exist_ok=True)
    kept, cell = folder / "checkpoint", Cell(name)
    parts: dict[str, Any] = {}
    state: dict[str, Any] = {"seen": 0, "curve": [], "seconds": 0.0}
    if has_checkpoint(kept):
        parts, stored = read_checkpoint(kept)
        state = {key: value for key, value in stored.items() if key not in ("format", "digests")}  # of the files
    started = time.monotonic() - state["seconds"]
    if "step size" not in state:
        state |= choice(name)
    optimizer = cell.optimizer(state["step size"])
    if parts:
        cell.model.load_state_dict(parts["model"])
        restore_optimizer("model", optimizer, parts["optimizer"])
        if parts["chains"]:
            cell.chains = Chains({}, **parts["chains"], acceptance=torch.zeros(()))
    record = {
        "command": f"python experiments/aevb/figures.py {name}",
        "version": ancestral.__version__,
        "settings": {**cell.settings, "rows": len(cell.train), "rule": cell.rule, "batch": BATCH},
        "digests": {split: cell.dataset.digest(split) for split in ("train", "test")},
    }
    for mark in marks(samples, PER_DECADE[cell.figure]):
        if mark <= state["seen"]:
            continue
        go(cell, optimizer, state["seen"], mark)
        point = {"samples": mark, **cell.measured(), "minutes": (time.monotonic() - started) / 60}
        state |= {"seen": mark, "curve": [*state["curve"], point], "seconds": time.monotonic() - started}
        state["date"] = datetime.datetime.now(datetime.UTC).date().isoformat()
        chains = {} if cell.chains is None else {"position": cell.chains.position, "step": cell.chains.step}
        optimized = optimizer_tensors("model", optimizer)
        write_checkpoint(kept, {"model": cell.model.state_dict(), "optimizer": optimized, "chains": chains}, state)
        write_record(file, record | state)
        print(f"{name}: {mark:,} samples, train {point['train']:.2f}, test {point['test']:.2f}", flush=True)
    if cell.figure == "likelihood" and cell.rule != "mcem":
        with torch.no_grad():
            found = bounds(cell.model.p, cell.model.q, {"x": cell.test[:ESTIMATED]}, 5_000)
        record["L_5000 of the same test rows"] = float(found.log_prob.mean())
    write_record(file, record | state | {"finished": samples})


def choice(name: str) -> dict[str, Any]:
    """The step size that is best on training rows after the first samples, and what each came to."""
    tried = {}
    for step in STEPS:
        cell = Cell(name)
        go(cell, cell.optimizer(step), 0, CHOOSE_AFTER)
        found = cell.measured()["train"]
        tried[step] = found if math.isfinite(found) else -math.inf
    if max(tried.values()) == -math.inf:
        raise AncestralError(f"{name} has diverged with every step size.")
    return {"step size": max(tried, key=tried.__getitem__), "tried": {f"{step:g}": v for step, v in tried.items()}}


def record_of(name: str) -> Path:
    return HERE / "results" / f"{name.replace('/', '--')}.json"


def read_record(file: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(file.read_text())
        return {**record, "curve": [{**point} for point in record["curve"]]}
    except (ValueError, TypeError, KeyError) as error:
        raise AncestralError(f"{file} is not as it was written: remove it, and run its cell again.") from error


def write_record(file: Path, record: dict[str, Any]) -> None:
    write_atomically(file, (json.dumps(record, indent=1) + "\n").encode())


def load(name: str) -> Cell:
    """A trained cell."""
    cell = Cell(name)
    parts, _ = read_checkpoint(HERE / "runs" / name / "checkpoint")
    cell.model.load_state_dict(parts["model"])
    return cell


def records(prefix: str) -> dict[str, dict[str, Any]]:
    return {name: read_record(file) for name in cells(prefix) if (file := record_of(name)).exists()}


COLORS = {"aevb": "tab:red", "wake-sleep": "tab:green", "mcem": "tab:blue"}
LABELS = {"aevb": "AEVB", "wake-sleep": "wake-sleep", "mcem": "Monte Carlo EM"}


def panel(axes: Any, chosen: dict[str, dict[str, Any]], title: str, limits: tuple[float, float]) -> None:
    for name, record in chosen.items():
        rule = name.rsplit("/", 1)[1]
        for split, style in (("train", "-"), ("test", "--")):
            samples = [point["samples"] for point in record["curve"]]
            values = [point.get(split, math.nan) for point in record["curve"]]  # a gap where it was not measured
            style += "." * any(map(math.isnan, values))
            label = f"{LABELS[rule]} ({split})"
            axes.plot(samples, values, style, color=COLORS[rule], label=label, linewidth=1.2, markersize=3)
    last = max((record["curve"][-1]["samples"] for record in chosen.values()), default=SAMPLES)
    axes.set_title(title, fontsize=9)
    axes.set(xscale="log", xlim=(1e4, max(SAMPLES, last)), ylim=limits)
    axes.grid(alpha=0.3)


def draw() -> None:
    """Every picture whose cells are recorded, in the layout of the paper; and its claims in numbers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = records("bound")
    columns = {"mnist": (3, 5, 10, 20, 200), "frey": (2, 5, 10, 20)}
    limits = {"mnist": (-200, -90), "frey": (0, 1600)}
    if found:
        figure, grid = pyplot.subplots(2, 5, figsize=(14, 5.6), dpi=100)
        for row, data in enumerate(columns):
            for column in range(5):
                axes = grid[row][column]
                if column >= len(columns[data]):
                    axes.axis("off")
                    continue
                latent = columns[data][column]
                chosen = {name: record for name, record in found.items() if name.startswith(f"bound/{data}/{latent}/")}
                title = f"{'MNIST' if data == 'mnist' else 'Frey Faces'}, {latent} latent dimensions"
                panel(axes, chosen, title, limits[data])
        grid[0][0].set_ylabel("ELBO, nats per image")
        grid[1][0].set_ylabel("ELBO, nats per image")
        grid[1][2].set_xlabel("training samples seen")
        grid[1][4].legend(*grid[0][0].get_legend_handles_labels(), loc="center", fontsize=9)
        figure.tight_layout()
        figure.savefig(HERE / "figure-2.png")
        pyplot.close(figure)
    found = records("likelihood")
    if found:
        figure, grid = pyplot.subplots(1, 2, figsize=(9, 3.6), dpi=100)
        for axes, rows in zip(grid, ROWS, strict=True):
            chosen = {name: record for name, record in found.items() if name.startswith(f"likelihood/{rows}/")}
            panel(axes, chosen, f"{rows:,} training rows", (-200, -100))
            axes.set_xlabel("training samples seen")
            if chosen:
                axes.legend(fontsize=7)
        grid[0].set_ylabel("log p(x), nats per image")
        figure.tight_layout()
        figure.savefig(HERE / "figure-3.png")
        pyplot.close(figure)
    pictures()
    print(claims())


def pictures() -> None:
    """Figures 4 and 5: manifolds of two latent dimensions, and samples."""
    from ancestral.evaluation import latent_grid
    from ancestral.training.pictures import grid, save_picture

    for data in DATA:
        name = f"bound/{data}/2/aevb"
        if (HERE / "runs" / name / "checkpoint").exists():
            save_picture(grid(latent_grid(load(name).model, 20), 20, zoom=1), HERE / f"figure-4-{data}.png")
    for latent in (2, 5, 10, 20):
        name = f"bound/mnist/{latent}/aevb"
        if (HERE / "runs" / name / "checkpoint").exists():
            torch.manual_seed(0)
            means = load(name).model.sample(100, mean=True)
            save_picture(grid(means, 10, zoom=1), HERE / f"figure-5-{latent}.png")


def claims() -> str:
    """At every size: is AEVB above wake-sleep after as many samples, how many does it need to get there, and does it
    learn by heart, so that the test bound has fallen from its best?"""
    lines = [
        "| model | samples | AEVB: train / test | wake-sleep: train / test | samples until AEVB is as good (train) "
        "| AEVB: below its best test |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    every = records("bound") | records("likelihood")
    for name, record in every.items():
        other = every.get(name.removesuffix("aevb") + "wake-sleep")
        if not name.endswith("/aevb") or other is None:
            continue
        curves = [{point["samples"]: point for point in r["curve"]} for r in (record, other)]
        last = max(curves[0].keys() & curves[1].keys())
        mine, theirs = (curve[last] for curve in curves)
        needed = next((n for n, point in curves[0].items() if point["train"] >= theirs["train"]), None)
        tests = [point.get("test", math.nan) for n, point in curves[0].items() if n <= last]
        fallen = "–" if any(map(math.isnan, tests)) else f"{max(tests) - mine['test']:.2f}"
        lines.append(
            f"| {name.removesuffix('/aevb')} | {last:,} | {both(mine)} | {both(theirs)} "
            f"| {'never' if needed is None else f'{needed:,}'} | {fallen} |"
        )
    return "\n".join(lines)


def both(point: dict[str, float]) -> str:
    """Training / test, the latter where it was measured."""
    return f"{point['train']:.2f} / " + (f"{point['test']:.2f}" if "test" in point else "–")


def drive(names: list[str], asked: float | None, jobs: int) -> int:
    """Run cells in so many processes, each with one thread; how many failed."""
    waiting, running, failed = list(names), dict[str, subprocess.Popen[bytes]](), 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    while waiting or running:
        while waiting and len(running) < jobs:
            name = waiting.pop(0)
            running[name] = subprocess.Popen(
                [sys.executable, __file__, name, "--samples", str(samples_of(name, asked))], env=environment
            )
        time.sleep(1)
        for name, process in list(running.items()):
            if process.poll() is not None:
                del running[name]
                failed += process.returncode != 0
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="?", help="a cell, or the beginning of several")
    parser.add_argument("--samples", type=float, help="training samples seen at the end (1e7; mcem 1e6)")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each with one thread")
    parser.add_argument("--list", action="store_true", help="show the cells")
    parser.add_argument("--draw", action="store_true", help="draw what is recorded, and print the claims in numbers")
    arguments = parser.parse_args()
    names = list(cells(arguments.cells or ""))
    if arguments.draw:
        draw()
    elif not names:
        sys.exit(f"error: there are no cells {arguments.cells!r}; --list shows them.")
    elif arguments.samples is not None and not CHOOSE_AFTER <= arguments.samples < math.inf:
        sys.exit(f"error: samples is {arguments.samples:g}, but the step size is chosen after {CHOOSE_AFTER:,}.")
    elif arguments.list or not arguments.cells:
        print("\n".join(names))
    elif names == [arguments.cells]:
        try:
            reproduce(arguments.cells, samples_of(arguments.cells, arguments.samples))
        except AncestralError as error:
            sys.exit(f"error: {error}")
    else:
        sys.exit(1 if drive(names, arguments.samples, max(1, arguments.jobs)) else 0)


if __name__ == "__main__":
    main()

"""Train, evaluate and record one reproduced result.

    python experiments/reproduce.py vae-elbo --compile      # one of the rows of EXPERIMENTS; `--list` shows them

Each run is resumable: the same command continues it where it stopped. Where an experiment has several learning rates,
each is tried for a fifth of the passes, and the one with the best accuracy on validation rows goes on. The run folder
lies in ``experiments/<name>/run`` (not kept in git), the record in ``experiments/<name>/result.json``: settings,
command, seed, minutes, hardware, date and figures as they came, beside the published figure.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tables import Until

import ancestral
from ancestral.errors import AncestralError
from ancestral.evaluation import latent_grid, nearest_training_rows
from ancestral.training.folder import write_atomically
from ancestral.training.pictures import grid, pairs, save_picture
from ancestral.training.progress import make_reporter

HERE = Path(__file__).parent

IWAE_NETWORK = {
    "model": "vae", "data": "mnist", "binarization": "dynamic", "validation": 0.0, "latent": 50, "hidden": (200, 200),
    "activation": "tanh", "epsilon": 1e-4,
}  # fmt: skip
TWO_LAYERS = {
    "model": "hierarchical-vae", "data": "mnist", "binarization": "dynamic", "validation": 0.0, "layers": (100, 50),
    "hidden": (200, 100), "activation": "tanh", "epsilon": 1e-4,
}  # fmt: skip
IWAE_SCHEDULE = {"batch_size": 20, "schedule": "iwae", "learning_rate": 1e-3, "epochs": 121}


def iwae(layers: int, fixed: bool, particles: int, published: str) -> dict[str, Any]:
    """A cell of tables 1 and 3 of Burda et al. (2016): the ELBO with one particle, or their bound with several."""
    name = f"{('One', 'Two')[layers - 1]} stochastic layer{'s' * (layers > 1)}"
    data = {"data": "binarized-mnist", "binarization": "none"} if fixed else {}
    bound = {"bound": "elbo"} if particles == 1 else {"bound": "iwae", "particles": particles}
    return {
        "about": f"{name} on MNIST binarized {'once' if fixed else 'anew in each pass'}, "
        + ("ELBO" if particles == 1 else f"importance-weighted bound, k = {particles}")
        + ", the schedule of Burda et al. truncated at i = 0..4 (121 passes)",
        "published": f"{published} active units after the full 3,280 passes "
        f"(Burda et al., 2016, table {3 if fixed else 1})",
        "settings": {**(IWAE_NETWORK, TWO_LAYERS)[layers - 1], **data, **IWAE_SCHEDULE, **bound},
        "paper": {"epochs": 3280},
        "particles": 5000,
    }


SEMI_SUPERVISED = {
    "model": "m2", "data": "mnist", "labels": 100, "validation": 1 / 6, "binarization": "dynamic",
    "network": "conv", "channels": (16, 32, 64), "hidden": (256,), "latent": 50, "alpha": 5.0, "labels_per_batch": 50,
    "dropout": 0.5, "batch_size": 100, "learning_rate": 1e-3, "schedule": "cosine", "epochs": 60,
}  # fmt: skip
RATES = (1e-3, 3e-3, 1e-2)
MORE = {"channels": (32, 64, 128), "hidden": (512,), "epochs": 300}
"""With ``--paper``: networks nearer to the paper's, whose sizes are in no text, and five times the updates."""

EXPERIMENTS: dict[str, dict[str, Any]] = {
    "vae-elbo": iwae(1, False, 1, "86.76 nats, 19"),
    "vae-iwae5": iwae(1, False, 5, "85.54 nats, 22"),
    "vae-iwae50": iwae(1, False, 50, "84.78 nats, 25"),
    "two-layers-elbo": iwae(2, False, 1, "85.33 nats, 16 + 5"),
    "two-layers-iwae5": iwae(2, False, 5, "83.89 nats, 21 + 5"),
    "two-layers-iwae50": iwae(2, False, 50, "82.90 nats, 26 + 7"),
    "fixed-vae-elbo": iwae(1, True, 1, "88.71 nats, 19"),
    "fixed-vae-iwae5": iwae(1, True, 5, "87.63 nats, 22"),
    "fixed-two-layers-elbo": iwae(2, True, 1, "88.08 nats, 16 + 5"),
    "fixed-two-layers-iwae5": iwae(2, True, 5, "86.17 nats, 21 + 5"),
    "vae-default-schedule": {
        "about": "The one-layer network, ELBO, default schedule: batch 100, cosine from 2e-3, 300 passes",
        "published": "86.76 nats, 19 active units after 3,280 passes of batches of 20 (Burda et al., 2016, table 1)",
        "settings": {**IWAE_NETWORK, "batch_size": 100, "schedule": "cosine", "learning_rate": 2e-3, "epochs": 300},
        "particles": 5000,
    },
    "vae-200-passes": {
        "about": "The same for 200 passes",
        "published": "86.76 nats, 19 active units after 3,280 passes of batches of 20 (Burda et al., 2016, table 1)",
        "settings": {**IWAE_NETWORK, "batch_size": 100, "schedule": "cosine", "learning_rate": 2e-3, "epochs": 200},
        "particles": 5000,
    },
    "vae-one-hour": {
        "about": "The same for 1,150 passes, about an hour of one core",
        "published": "86.76 nats, 19 active units after 3,280 passes of batches of 20 (Burda et al., 2016, table 1)",
        "settings": {**IWAE_NETWORK, "batch_size": 100, "schedule": "cosine", "learning_rate": 2e-3, "epochs": 1150},
        "particles": 5000,
    },
    "vae-bfloat16": {
        "about": "The default schedule, 300 passes, with --precision bfloat16",
        "published": "86.76 nats, 19 active units after 3,280 passes of batches of 20 (Burda et al., 2016, table 1)",
        "settings": {
            **IWAE_NETWORK, "batch_size": 100, "schedule": "cosine", "learning_rate": 2e-3, "epochs": 300,
            "precision": "bfloat16",
        },
        "particles": 5000,
    },
    "frey-faces": {
        "about": "Frey Faces, AEVB's network: 200 tanh units, Gaussian decoder with sigmoid means, 2 latent dimensions",
        "published": "figure 2 of Kingma and Welling (2014): a plot, its axis from 0 to 1,600 nats",
        "settings": {
            "model": "vae", "data": "frey-faces", "latent": 2, "hidden": (200,), "activation": "tanh",
            "likelihood": "normal", "scale": "learned", "mean": "sigmoid", "batch_size": 100, "learning_rate": 1e-3,
            "epochs": 3000,
        },
        "particles": 1000,
        "pictures": ("curve", "manifold"),
    },
    "mnist-manifold": {
        "about": "MNIST, AEVB's network: 500 tanh units, Bernoulli decoder, 2 latent dimensions",
        "published": "figure 4 of Kingma and Welling (2014): the learned manifold, a picture",
        "settings": {
            "model": "vae", "data": "mnist", "latent": 2, "hidden": (500,), "activation": "tanh",
            "binarization": "dynamic", "batch_size": 100, "learning_rate": 1e-3, "epochs": 40,
        },
        "particles": 100,
        "pictures": ("curve", "manifold"),
    },
    "semi-supervised/marginalization": {
        "about": "M2 on MNIST with 100 labels, convolutions, the label summed over its classes, 60 passes",
        "published": "92.6 % accuracy, ELBO -106.8 (Jang et al., 2017, table 2)",
        "settings": {**SEMI_SUPERVISED, "estimator": "enumerate"},
        "rates": RATES,
        "paper": MORE,
        "particles": 100,
    },
    "semi-supervised/gumbel-softmax": {
        "about": "The same, the label drawn by Gumbel-Softmax",
        "published": "92.4 % accuracy, ELBO -109.6 (Jang et al., 2017, table 2)",
        "settings": {**SEMI_SUPERVISED, "estimator": "gumbel-softmax"},
        "rates": RATES,
        "paper": MORE,
        "particles": 100,
    },
    "semi-supervised/straight-through-gumbel-softmax": {
        "about": "The same, the label drawn by straight-through Gumbel-Softmax",
        "published": "93.6 % accuracy, ELBO -110.7 (Jang et al., 2017, table 2)",
        "settings": {**SEMI_SUPERVISED, "estimator": "straight-through-gumbel-softmax"},
        "rates": RATES,
        "paper": MORE,
        "particles": 100,
    },
    "gan-mnist": {
        "about": "GAN on MNIST with the 2014 paper's networks: rectifier generator, maxout discriminator with dropout",
        "published": "samples beside their nearest training images, figure 2a of Goodfellow et al. (2014): a picture",
        "settings": {"model": "gan", "data": "mnist", "validation": 0.0, "epochs": 20},
        "pictures": ("neighbors",),
    },
}  # fmt: skip


def cpu_minutes() -> float:
    """Minutes of processor time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return (usage.ru_utime + usage.ru_stime) / 60


def reproduce(name: str, paper: bool = False, compiled: bool = False) -> None:
    """Train (or continue), evaluate, record; with the budget of the paper, in a folder of its own.

    Compiled, a run that begins here is one program, which draws the same.
    """
    experiment = EXPERIMENTS[name]
    settings = experiment["settings"] | (experiment["paper"] if paper else {}) | {"compile": compiled}
    model, data = settings.pop("model"), settings.pop("data")
    folder = HERE / (f"{name}-paper" if paper else name)
    place, tried = folder / "run", dict[float, float]()
    reporter = make_reporter()
    if rates := experiment.get("rates", ()):
        first = settings["epochs"] // 5
        for rate in rates:
            place = folder / "run" / f"rate-{rate:g}"
            if not (place / "metrics.jsonl").exists() or not accuracies(place, first):
                trained(model, data, place, settings | {"learning_rate": rate}, Until(first))
            if not (found := accuracies(place, first)):
                raise AncestralError(f"{name} was interrupted; the same command continues it.")
            tried[rate] = found[0]
        settings["learning_rate"] = max(tried, key=tried.__getitem__)
        place = folder / "run" / f"rate-{settings['learning_rate']:g}"
    run = trained(model, data, place, settings, reporter)
    used = cpu_minutes()
    state = json.loads((place / "checkpoints" / "last" / "state.json").read_text())
    if not state["finished"]:
        raise AncestralError(f"{name} was interrupted; the same command continues it.")
    started = time.monotonic()
    figures = []
    if experiment.get("particles"):

        def progress(done: int, total: int, mean: float) -> None:
            if done % 1000 == 0:
                reporter.say(f"evaluating {done}/{total}: log p(x) ≈ {mean:.2f}")

        figures = run.evaluate(
            particles=experiment["particles"], progress=progress, compile=run.config["training"]["compile"]
        )
    for picture in experiment.get("pictures", ()):
        PICTURES[picture](run, folder)
    environment = json.loads((place / "environment.json").read_text())
    record = {
        "about": experiment["about"],
        "published": experiment["published"],
        "command": f"python experiments/reproduce.py {name}"
        + (" --paper" if paper else "")
        + (" --compile" if run.config["training"]["compile"] else ""),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "hardware": f"{_processor()} ({torch.backends.cpu.get_cpu_capability()}), {os.cpu_count()} cores, "
        f"{run.config['training']['threads']} thread",
        "platform": platform.platform(),
        "versions": environment["versions"],
        "commit": environment["git"],
        "seed": run.config["training"]["seed"],
        "training_minutes": round(state["seconds"] / 60, 2),
        "training_cpu_minutes_of_the_last_process": round(used, 2),
        "evaluation_minutes": round((time.monotonic() - started) / 60, 2),
        "updates": state["step"],
        **({"validation_accuracies": {f"{rate:g}": value for rate, value in tried.items()}} if tried else {}),
        "settings": run.config["settings"] | run.config["data_settings"] | run.config["training"],
        "figures": [dataclasses.asdict(figure) for figure in figures],
    }
    write_atomically(folder / "result.json", (json.dumps(record, indent=2) + "\n").encode())
    for figure in figures:
        error = "" if figure.standard_error is None else f" ± {figure.standard_error:.2f}"
        reporter.say(f"{figure.name}: {figure.value:.3f}{error} {figure.unit}")


def trained(model: str, data: str, place: Path, settings: dict[str, Any], reporter: Any) -> ancestral.Run:
    """The run of that folder, trained from where it stands."""
    if (place / "config.toml").exists():
        return ancestral.resume(place, reporter=reporter)
    return ancestral.train(model, data, out=place, reporter=reporter, **settings)


def accuracies(place: Path, epoch: float) -> list[float]:
    """On validation rows, from a pass on."""
    rows = map(json.loads, (place / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [row["validation accuracy"] for row in rows if "validation accuracy" in row and row["epoch"] >= epoch]


def curve(run: ancestral.Run, folder: Path) -> None:
    """The bound over datapoints seen, training and validation, as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = len(run.data.train)
    figure, axes = pyplot.subplots(figsize=(6, 4), dpi=110)
    for key, label in (("loss", "training"), ("validation loss", "validation")):
        seen = [(row["epoch"] * rows, -row[key]) for row in run.metrics if key in row]
        axes.plot(*zip(*seen, strict=True), label=label)
    bounds = sorted(-row["loss"] for row in run.metrics if "loss" in row)
    axes.set_ylim(bottom=bounds[len(bounds) // 50], top=bounds[-1] + 0.05 * (bounds[-1] - bounds[len(bounds) // 50]))
    axes.set_xscale("log")
    axes.set_xlabel("training datapoints seen")
    axes.set_ylabel("ELBO, nats per datapoint")
    axes.set_title(f"{run.config['data']}, {run.config['settings']['latent']} latent dimensions")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(folder / "curve.png")
    pyplot.close(figure)


def manifold(run: ancestral.Run, folder: Path) -> None:
    """The means of p(x | z) over a grid of z, spaced by the quantiles of the prior."""
    save_picture(grid(latent_grid(run.model, 20), 20, zoom=1), folder / "manifold.png")


def neighbors(run: ancestral.Run, folder: Path) -> None:
    """Samples, each with its nearest training image at its right."""
    torch.manual_seed(0)
    samples = run.model.sample(60)
    nearest, _ = nearest_training_rows(samples, run.data)
    save_picture(grid(pairs(samples, nearest), 12), folder / "samples-and-nearest.png")


PICTURES = {"curve": curve, "manifold": manifold, "neighbors": neighbors}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def table() -> str:
    """The records as a Markdown table, figures as they came."""
    lines = [
        "| experiment | published | ours (test) | active units | minutes: training wall / CPU, evaluation | command |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    folders = [(name + kind, experiment) for name, experiment in EXPERIMENTS.items() for kind in ("", "-paper")]
    for name, experiment in folders:
        file = HERE / name / "result.json"
        if not file.exists():
            continue
        record = json.loads(file.read_text(encoding="utf-8"))
        figures = {figure["name"]: figure for figure in record["figures"]}
        ours, units = "a picture", ""
        if "log p(x)" in figures:
            bound, elbo = figures["log p(x)"], figures["ELBO"]
            ours = (
                f"-log p(x) ≤ **{-bound['value']:.2f}** ± {bound['standard_error']:.2f} nats "
                f"(k = {bound['particles']}, "
                f"{bound['datapoints']:,} images), -ELBO {-elbo['value']:.2f}"
            )
            if "accuracy" in figures:
                right = figures["accuracy"]
                ours = f"accuracy **{right['value']:.2f}** ± {right['standard_error']:.2f} %, {ours}"
            used = [figure for name, figure in figures.items() if name.startswith("active units of z")]
            units = " + ".join(f"{figure['value']:g} {figure['unit']}" for figure in used)
        minutes = (
            f"{record['training_minutes']} / {record['training_cpu_minutes_of_the_last_process']}, "
            f"{record['evaluation_minutes']}"
        )
        about = f"{experiment['about']} ({record['updates']:,} updates, seed {record['seed']}, {record['date']})"
        lines.append(f"| {about} | {record['published']} | {ours} | {units} | {minutes} | `{record['command']}` |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=list(EXPERIMENTS))
    parser.add_argument("--paper", action="store_true", help="the budget of the paper, for a GPU or a long night")
    parser.add_argument("--compile", action="store_true", help="two thirds of the time, with a C++ compiler")
    parser.add_argument("--list", action="store_true", help="show the experiments")
    parser.add_argument("--table", action="store_true", help="print the recorded results as Markdown")
    arguments = parser.parse_args()
    if arguments.table:
        print(table())
        return
    if arguments.list or not arguments.name:
        for name, experiment in EXPERIMENTS.items():
            print(f"{name:48s} {experiment['about']}")
        return
    if arguments.paper and "paper" not in EXPERIMENTS[arguments.name]:
        sys.exit(f"error: {arguments.name} has one budget: leave --paper out.")
    torch.set_num_threads(1)
    try:
        reproduce(arguments.name, arguments.paper, arguments.compile)
    except AncestralError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

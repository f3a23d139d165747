"""Make the golden runs of a format, once: ``python tests/golden/make.py tests/golden/format-1``. README.md says why."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

import ancestral
from ancestral.runs import Run
from ancestral.training.progress import Silent

SETTINGS: dict[str, dict[str, Any]] = {
    "vae": {
        "latent": 3, "hidden": (11,), "epochs": 3, "batch_size": 100, "ema": 0.9, "patience": 2, "validate_every": 1,
        "binarization": "dynamic", "learning_rate": 0.01,
    },
    "gan": {
        "latent": 5, "hidden": (11,), "discriminator_hidden": (7,), "pieces": 2, "epochs": 3, "batch_size": 100,
        "discriminator_steps": 2, "schedule": "linear",
    },
}  # fmt: skip
STOP = 31
"""The step after which training is stopped, as by Ctrl-C: in the third pass."""


class Stop(Silent):
    def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None:
        if done == STOP:
            signal.raise_signal(signal.SIGINT)


def measure(place: Path) -> dict[str, Any]:
    """What every later version must find in the run at ``place``: samples, and for a bound its figure."""
    run = ancestral.load(place)
    torch.manual_seed(7)
    samples: torch.Tensor = run.model.sample(2, mean=True)  # type: ignore[operator]
    found: dict[str, Any] = {"weights": run.which, "samples": samples.flatten(1).tolist()}
    if run.config["model"] == "vae":
        found["log p(x)"] = run.evaluate(particles=5, limit=100)[0].value
    return found


def last_losses(run: Run) -> dict[str, float]:
    """The last losses in the metrics of a run, by name."""
    return {name: value for row in run.metrics for name, value in row.items() if name.endswith("loss")}


def resumed(place: Path, folder: Path) -> dict[str, float]:
    """The last losses of a copy of the run that is trained to its end."""
    shutil.copytree(place, folder / place.name)
    return last_losses(ancestral.resume(folder / place.name))


def make(home: Path) -> None:
    for model, settings in SETTINGS.items():
        place = home / model
        ancestral.train(model, "digits", out=place, reporter=Stop(), **settings)
        (place / ".lock").unlink()
        shutil.rmtree(place / "samples")
        with tempfile.TemporaryDirectory() as folder:
            expected = {**measure(place), "resumed": resumed(place, Path(folder))}
        (home / f"{model}.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2 or Path(sys.argv[1]).exists():
        raise SystemExit("usage: make.py FOLDER, a new one: a golden run is never made again")
    make(Path(sys.argv[1]))

"""Tiny trained runs of every kind that a page can be about."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ancestral
from ancestral import Enumerate, Joint, LatentVariableModel, bernoulli, bernoulli_bias, mlp, normal, standard_normal
from ancestral.estimators import GumbelSoftmax, MuProp, Reparameterized
from ancestral.evaluation.gradients import compare_estimators, two_layers
from ancestral.report import write_comparison, write_estimators, write_report

LONGEST = "straight-through-gumbel-softmax:temperature=1:temperature-rate=0.001:temperature-end=0.5"
COMPARED: dict[str, Any] = {"muprop": MuProp, LONGEST: partial(GumbelSoftmax, 1.0, hard=True)}
"""Gradient estimators by name."""
HOSTILE = '<script>alert("x")</script>'
"""A name that would run, were it not escaped."""


def make_own_model() -> LatentVariableModel:
    """Three bits and two numbers, the first summed over."""
    torch.manual_seed(3)
    image = (1, 8, 8)
    p = Joint({"h": bernoulli_bias(3), "z": standard_normal(2), "x | h, z": bernoulli(mlp(5, 7, image), event_dims=3)})
    q = Joint({"h | x": bernoulli(mlp(image, 7, 3)), "z | x": normal(mlp(image, 7, 2 * 2))})
    return LatentVariableModel(p, q, estimators={"h": Enumerate()}, analytic_kl=["h", "z"])


@pytest.fixture
def own_model() -> LatentVariableModel:
    return make_own_model()


@dataclass(frozen=True)
class Runs:
    """Trained runs by name; a test that changes one takes a copy."""

    place: Path

    def __getattr__(self, name: str) -> Path:
        return self.place / name

    def copy(self, name: str, to: Path) -> Path:
        shutil.copytree(self.place / name, to)
        return to


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """``flat`` (2 latent dimensions), ``deep`` (5), ``gan``, ``own``, ``color`` and ``table``; ``memorized``, which has
    learned its few training rows by heart; and ``unfinished``."""
    place = tmp_path_factory.mktemp("runs")
    random = np.random.default_rng(2)
    table = np.stack([random.normal(1000, 10, 211), random.normal(0.05, 0.001, 211), random.normal(-3, 2, 211)], 1)
    header = f'"{HOSTILE.replace(chr(34), chr(34) * 2)}",ratio,größe'
    np.savetxt(place / "table.csv", table, "%.17g", ",", header=header, comments="", encoding="utf-8")
    np.save(place / "noise.npy", random.integers(0, 256, (67, 3, 47, 47), dtype=np.uint8))
    tiny: dict[str, Any] = {"batch_size": 239, "seed": 3}
    for name, model, data, settings in (
        ("flat", "vae", "digits", {"latent": 2, "hidden": (11,), "epochs": 7}),
        ("deep", "vae", "digits", {"latent": 5, "hidden": (11,), "epochs": 3}),
        ("gan", "gan", "digits",
         {"latent": 5, "hidden": (11,), "discriminator_hidden": (7,), "pieces": 2, "epochs": 2}),
        ("own", make_own_model(), "digits", {"epochs": 2}),
        ("color", "vae", str(place / "noise.npy"), {"latent": 2, "hidden": (3,), "epochs": 1}),
        ("memorized", "vae", "digits",
         {"train_limit": 11, "validation": 0.0, "latent": 7, "hidden": (67,), "likelihood": "discretized-logistic",
          "learning_rate": 0.01, "epochs": 400}),
        ("table", "vae", str(place / "table.csv"), {"latent": 3, "hidden": (5,), "epochs": 2, "validation": 0.0}),
    ):  # fmt: skip
        ancestral.train(model, data, out=place / name, **{**tiny, **settings})
    metrics = (place / "flat/metrics.jsonl").read_text(encoding="utf-8")
    start = {"step": 0, "epoch": 0.01, "seconds": 0.0, "loss": 900.0}  # as high as a start can be
    (place / "flat/metrics.jsonl").write_text(json.dumps(start) + "\n" + metrics, encoding="utf-8")
    shutil.copytree(place / "deep", place / "unfinished")
    shutil.rmtree(place / "unfinished/checkpoints")
    first = (place / "deep/metrics.jsonl").read_text(encoding="utf-8").splitlines()[0]
    (place / "unfinished/metrics.jsonl").write_text(first + "\n", encoding="utf-8")
    return Runs(place)


@pytest.fixture(scope="session")
def pages(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of each run, a ``comparison`` of some, and one of ``estimators``."""
    place = tmp_path_factory.mktemp("pages")
    quick: dict[str, Any] = {"particles": 3, "limit": 17}
    made = {
        kind: write_report(
            runs.place / kind, place / f"{kind}.html", model=make_own_model() if kind == "own" else None, **quick
        )
        for kind in ("flat", "deep", "gan", "own", "color", "table", "unfinished")
    }
    compared = [runs.flat, runs.deep, runs.gan, runs.table]
    made["comparison"] = write_comparison(compared, place / "comparison.html", **quick).path
    toy = compare_estimators(two_layers(), {**COMPARED, "reparameterized": Reparameterized}, draws=7, own=LONGEST)
    made["estimators"], _ = write_estimators([toy], place / "estimators.html", 0.4, 0.3, {"seed": 3}, "ancestral list")
    return made

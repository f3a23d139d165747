"""Published figures that a run can be put beside, each with what differs, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ancestral.evaluation import Figure
from ancestral.report.story import plain
from ancestral.report.words import Text, say


@dataclass(frozen=True)
class Published:
    """A figure of log p(x) on the MNIST test images, in nats, and how it came about."""

    value: float
    kind: str
    estimator: str
    active_units: int
    source: str
    passes: int
    batch: int
    optimizer: Mapping[str, object]
    schedule: Mapping[str, object]
    """As in :class:`ancestral.configs.TrainingConfig`."""
    train_rows: int
    test_rows: int
    particles: int


_ONE_LAYER = {
    "model": "vae",
    "data": "mnist",
    "latent": 50,
    "network": "mlp",
    "hidden": (200, 200),
    "activation": "tanh",
    "likelihood": "bernoulli",
    "binarization": "dynamic",
    "beta": 1.0,
    "kl_warmup": 0.0,
    "free_bits": 0.0,
}
"""The network of Burda, Grosse and Salakhutdinov (2016), section 5.1, with one stochastic layer."""


def _burda(value: float, active_units: int) -> Published:
    return Published(
        value, "lower bound", "importance-weighted, 5000 particles from q", active_units, "Burda et al., 2016, table 1",
        3280, 20, {"optimizer": "adam", "epsilon": 1e-4}, {"learning_rate": 1e-3, "schedule": "iwae"},
        60_000, 10_000, 5000,
    )  # fmt: skip


_BOUNDS = {
    ("elbo", 1): _burda(-86.76, 19),
    ("elbo", 5): _burda(-86.47, 20),
    ("elbo", 50): _burda(-86.35, 20),
    ("iwae", 1): _burda(-86.76, 19),
    ("iwae", 5): _burda(-85.54, 22),
    ("iwae", 50): _burda(-84.78, 25),
}
"""By what was maximized, and with how many particles."""


def published_for(config: Mapping[str, Any], figure: Figure) -> Published | None:
    """The published figure that ``figure`` of a run with this config estimates too, if there is one.

    Model, architecture, likelihood, data, binarization and bound must be the same, and the figure a lower bound of
    log p(x) on test images by the same estimator. Schedules and numbers of particles and rows may differ: see
    :func:`differences`.
    """
    settings = {"model": config["model"], "data": config["data"]} | config["data_settings"] | config["settings"]
    for name, value in _ONE_LAYER.items():
        seen = settings.get(name)
        if (tuple(seen) if isinstance(seen, list) else seen) != value:
            return None
    if figure.name != "log p(x)" or figure.kind != "lower bound" or figure.unit != "nats":
        return None
    if not figure.data.startswith("mnist, test,"):
        return None
    published = _BOUNDS.get((settings.get("bound"), settings.get("particles")))
    way = figure.estimator.partition(",")[0]
    return published if published is not None and published.estimator.partition(",")[0] == way else None


def differences(
    published: Published, figure: Figure, passes: float, training: Mapping[str, Any], train_rows: int | None
) -> list[Text]:
    """What differs between a published figure and that of a run, in words; at least the draws of the test images do."""
    texts, batch = [], training.get("batch_size")
    if round(passes, 1) != published.passes or batch != published.batch:
        texts.append(
            say("differ_passes", passes=f"{published.passes:,}", batch=published.batch, own=f"{passes:,.4g}",
                own_batch=batch)
        )  # fmt: skip
    for key, theirs in (("differ_optimizer", published.optimizer), ("differ_schedule", published.schedule)):
        ours = {name: training.get(name) for name in theirs}
        if ours != theirs:
            texts.append(say(key, published=_settings(theirs), own=_settings(ours)))
    if train_rows is not None and train_rows != published.train_rows:
        texts.append(say("differ_train", rows=f"{published.train_rows:,}", own=f"{train_rows:,}"))
    if figure.particles != published.particles:
        texts.append(say("differ_particles", particles=f"{published.particles:,}", own=f"{figure.particles:,}"))
    if figure.datapoints != published.test_rows:
        texts.append(say("differ_rows", rows=f"{published.test_rows:,}", own=f"{figure.datapoints:,}"))
    return [*texts, say("differ_draws")]


def _settings(values: Mapping[str, object]) -> str:
    """Settings by name, as they would be typed."""
    return ", ".join(f"{name} {plain(value)}" for name, value in values.items())

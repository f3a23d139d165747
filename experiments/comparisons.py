"""What is compared: the rows and columns of the tables that ``tables.py`` trains.

A row is a model with its data and its budget; its columns differ in how that model learns. ``published`` holds what a
paper has for a column, in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

RATES = (1e-3, 3e-3, 1e-2)
EVERY_RATE = (1e-4, 3e-4, *RATES, 3e-2, 1e-1)
"""Where the best of those tried is at an end, the next one here is tried too."""
VALIDATION_PARTICLES = 25
VALIDATIONS = 5
"""In a run; at the first the learning rate is chosen."""
SHARED = {"batch_size": 100, "optimizer": "adam", "schedule": "cosine"}
UPDATES_PER_EPOCH = 500  # 50,000 images in batches of 100

# max(0.5, exp(-r t)) with the faster r of the paper's two, which gets there after 7,000 updates
TEMPERATURE_OF_VAE = {"temperature": 1.0, "temperature_rate": 1e-4 * UPDATES_PER_EPOCH, "temperature_end": 0.5}
STEEPEST = 5.0  # the slope of annealed straight-through, reached when four fifths of the passes are over

GUMBEL_COLUMNS: dict[str, dict[str, Any]] = {
    "score-function": {"estimator": "reinforce", "baseline": ("moving-average",), "normalize": True},
    "darn": {"estimator": "darn"},
    "muprop": {"estimator": "muprop", "baseline": ("moving-average",), "normalize": True},
    "straight-through": {"estimator": "straight-through"},
    "annealed-straight-through": {"estimator": "straight-through", "slope_end": STEEPEST},
    "gumbel-softmax": {"estimator": "gumbel-softmax"},
    "straight-through-gumbel-softmax": {"estimator": "straight-through-gumbel-softmax"},
    "nvil": {"estimator": "nvil"},
}
MUPROP_COLUMNS: dict[str, dict[str, Any]] = {
    "nvil": {"estimator": "nvil"},
    "muprop-c": {"estimator": "muprop", "baseline": ("moving-average",)},
    "muprop-c-idb": {"estimator": "muprop", "baseline": ("moving-average", "network")},
    "straight-through": {"estimator": "straight-through"},
    "half": {"estimator": "half"},
}


WAKE_SLEEP_COLUMNS: dict[str, dict[str, Any]] = {
    "wake-sleep": {},
    "reweighted-wake-sleep": {"objective": "reweighted-wake-sleep", "particles": 5},
    "nvil": {"objective": "elbo"},
    "vimco": {"objective": "iwae", "estimator": "vimco", "particles": 5},
}


@dataclass(frozen=True)
class Row:
    """One row of a table: a model, its columns, what was published for them, and the budget all of them have."""

    about: str
    settings: dict[str, Any]
    columns: dict[str, dict[str, Any]]
    published: dict[str, float]
    epochs: int
    paper_epochs: int
    figure: str = "log p("
    """How the name of the figure begins that stands beside the published one."""
    particles: int = 1000
    """Of the evaluation."""
    relaxed: dict[str, Any] | None = None
    """Settings of the columns with a temperature."""
    rates: tuple[float, ...] = RATES
    """Learning rates to begin with; a single one is given."""
    active_units: bool = False
    """Whether the table shows how many units of each layer are active."""


def _row(values: tuple[float, ...], columns: dict[str, dict[str, Any]]) -> dict[str, float]:
    return dict(zip(columns, values, strict=False))


STRUCTURED = {"model": "sbn", "data": "binarized-mnist", "task": "structured-prediction"}
TABLES: dict[str, dict[str, Row]] = {
    "gumbel-softmax": {
        "structured-bernoulli": Row(
            "Lower half of an image from the upper half, 392-200-200-392, Bernoulli (Jang et al., 2017, table 1)",
            {**STRUCTURED, "layers": (200, 200)},
            GUMBEL_COLUMNS,
            _row((72.0, 59.7, 58.9, 58.9, 58.7, 58.5, 59.3), GUMBEL_COLUMNS),
            epochs=100,
            paper_epochs=1000,
            relaxed={"temperature": 1.0},
        ),
        "structured-categorical": Row(
            "The same, 392-(20x10)-(20x10)-392, categorical (Jang et al., 2017, table 1)",
            {**STRUCTURED, "layers": (20, 20), "classes": 10},
            GUMBEL_COLUMNS,
            _row((73.1, 67.9, 63.0, 61.8, 61.1, 59.0, 59.7), GUMBEL_COLUMNS),
            epochs=60,
            paper_epochs=1000,
            relaxed={"temperature": 1.0},
        ),
        "vae-bernoulli": Row(
            "VAE, 784-200-784, Bernoulli latents (Jang et al., 2017, table 1)",
            {
                "model": "categorical-vae",
                "data": "binarized-mnist",
                "latents": 200,
                "classes": 2,
                "encoder_hidden": (),
                "decoder_hidden": (),
            },
            GUMBEL_COLUMNS,
            _row((112.2, 110.9, 109.7, 116.0, 111.5, 105.0, 111.5), GUMBEL_COLUMNS),
            epochs=40,
            paper_epochs=1000,
            relaxed=TEMPERATURE_OF_VAE,
        ),
        "vae-categorical": Row(
            "VAE, 784-(20x10)-200-784, categorical latents (Jang et al., 2017, table 1)",
            {
                "model": "categorical-vae",
                "data": "binarized-mnist",
                "latents": 20,
                "classes": 10,
                "encoder_hidden": (),
                "decoder_hidden": (200,),
                "activation": "tanh",
            },
            GUMBEL_COLUMNS,
            _row((110.6, 128.8, 107.0, 110.9, 107.8, 101.5, 107.8), GUMBEL_COLUMNS),
            epochs=40,
            paper_epochs=1000,
            relaxed=TEMPERATURE_OF_VAE,
        ),
    },
    "muprop": {
        "sbn-200": Row(
            "Sigmoid belief net 200-784, test bound (Gu et al., 2016, table 3)",
            {"model": "sbn", "data": "binarized-mnist", "layers": (200,)},
            MUPROP_COLUMNS,
            _row((113.5, 113.6, 113.1, 129.4, 112.4), MUPROP_COLUMNS),
            epochs=40,
            paper_epochs=2000,
            figure="ELBO",
        ),
        "sbn-200-200": Row(
            "Sigmoid belief net 200-200-784, test bound (Gu et al., 2016, table 3)",
            {"model": "sbn", "data": "binarized-mnist", "layers": (200, 200)},
            MUPROP_COLUMNS,
            _row((99.7, 100.4, 100.4, 119.9, 103.5), MUPROP_COLUMNS),
            epochs=40,
            paper_epochs=2000,
            figure="ELBO",
        ),
    },
    "vimco": {
        f"{name}-{particles}": Row(
            f"{about}, {particles} particle{'s' * (particles > 1)} (Maddison et al., 2017, table 1, L_50000)",
            {"model": "sbn", "data": "binarized-mnist", "layers": layers},
            {
                "gumbel-softmax": {"estimator": "gumbel-softmax", "temperature": 2 / 3, **_bound},
                "vimco": {"estimator": "vimco", **_bound} if particles > 1 else {"estimator": "nvil"},
            },
            {"gumbel-softmax": figures[0], "vimco": figures[1]},
            epochs={1: 40, 5: 20, 50: 6}[particles],
            paper_epochs=12_800,
        )
        for name, about, layers, published in (
            ("sbn-200", "Sigmoid belief net 200-784", (200,), ((107.3, 104.4), (104.9, 101.9), (104.3, 98.8))),
            ("sbn-200-200", "Sigmoid belief net 200-200-784", (200, 200), ((102.1, 92.9), (99.9, 91.7), (99.5, 90.7))),
        )
        for particles, figures in zip((1, 5, 50), published, strict=True)
        for _bound in ({"bound": "iwae", "particles": particles} if particles > 1 else {},)
    },
    "wake-sleep": {
        name: Row(
            f"Sigmoid belief net {about}, equal passes (the set-up of Bornschein and Bengio, 2015)",
            {"model": "helmholtz", "data": "binarized-mnist", "layers": layers},
            WAKE_SLEEP_COLUMNS,
            {},
            epochs=100,
            paper_epochs=500,
        )
        for name, about, layers in (
            ("sbn-200", "200-784", (200,)),
            ("sbn-200-200", "200-200-784", (200, 200)),
            ("sbn-200-200-200", "200-200-200-784", (200, 200, 200)),
        )
    },
    "flows": {
        "vae": Row(
            "VAE, 40 latent dimensions, one layer of 400, posteriors with flows (Rezende and Mohamed, 2015)",
            {
                "model": "vae", "data": "binarized-mnist", "latent": 40, "hidden": (400,), "epsilon": 1e-8,
                "kl_warmup": 4.0, "gradient_clip": 10.0,
            },
            {
                "normal": {},
                "planar-10": {"posterior": "planar", "flows": 10},
                "planar-40": {"posterior": "planar", "flows": 40},
                "iaf-4": {"posterior": "iaf", "flows": 4},
            },
            {},
            epochs=100,
            paper_epochs=1000,
            active_units=True,
        ),
    },
    "ladder": {
        "three-layers": Row(
            "Three layers of 64, 32 and 16 latent dimensions (Sønderby et al., 2016)",
            {
                "data": "mnist", "binarization": "dynamic", "validation": 1 / 6, "layers": (64, 32, 16),
                "hidden": (512, 256, 128), "activation": "leaky-relu", "batch_size": 256,
            },
            {
                "vae": {"model": "hierarchical-vae"},
                "vae-warmup": {"model": "hierarchical-vae", "kl_warmup": 10.0},
                "vae-normalized-warmup": {
                    "model": "hierarchical-vae", "kl_warmup": 10.0, "normalization": "batch",
                },
                "ladder": {"model": "ladder-vae", "kl_warmup": 10.0, "normalization": "batch"},
            },
            {},
            epochs=50,
            paper_epochs=2000,
            rates=(1e-3,),
            active_units=True,
        ),
    },
    "collapse": {
        "deep-vae": Row(
            "A posterior that collapses, and the same run mended: VAE with six layers of 200 rectifiers each way",
            {
                "model": "vae", "data": "binarized-mnist", "latent": 20, "hidden": (200,) * 6, "activation": "relu",
            },
            {"elbo": {}, "kl-warmup": {"kl_warmup": 5.0}, "free-bits": {"free_bits": 0.25}},
            {},
            epochs=20,
            paper_epochs=200,
            rates=(3e-3,),
            active_units=True,
        ),
    },
}

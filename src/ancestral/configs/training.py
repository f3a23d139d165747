"""How a model is optimised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ancestral.errors import AncestralError, nearest

Optimizer = Literal["adam", "adamw", "sgd", "rmsprop", "adagrad", "adamax", "nadam", "radam", "adadelta"]
Schedule = Literal["constant", "cosine", "linear", "exponential", "iwae"]

WITH_BETAS = ("adam", "adamw", "adamax", "nadam", "radam")
WITH_MOMENTUM = ("sgd", "rmsprop")
MOST_THREADS = 1024
USUAL_EPSILONS = (1e-8, 1e-4)
"""The defaults of the models, which nobody typed."""


@dataclass(frozen=True)
class TrainingConfig:
    """Optimisation, schedule, precision and where it runs."""

    epochs: int = 20
    """Passes over the training data."""
    batch_size: int = 100
    """Datapoints per update."""
    optimizer: Optimizer = "adam"
    """The optimiser of every player, fused where torch can."""
    learning_rate: float = 2e-3
    """The learning rate at the start of the schedule, after its warm-up."""
    schedule: Schedule = "cosine"
    """How the learning rate falls to the final one. `iwae` is 0.001 * 10^(-i/7) for 3^i passes, i = 0, 1, 2, ...
    scaled by learning_rate / 0.001 (Burda, Grosse and Salakhutdinov, 2016)."""
    final_learning_rate: float = 0.0
    """Where cosine, linear and exponential end (exponential needs it above 0)."""
    learning_rate_warmup: float = 0.0
    """Epochs over which the learning rate first rises from 0."""
    beta1: float = 0.9
    """Decay of the first moment (the Adam family)."""
    beta2: float = 0.999
    """Decay of the second moment (the Adam family)."""
    epsilon: float = 1e-8
    """Added to the root of the second moment (not used by sgd)."""
    momentum: float = 0.0
    """Momentum (sgd and rmsprop)."""
    weight_decay: float = 0.0
    """L2 penalty; decoupled with adamw."""
    gradient_clip: float = 0.0
    """Largest norm of a player's gradient, and of that of its gradient estimators, apart; 0 does not clip."""
    ema: float = 0.0
    """Decay of an exponential moving average of the weights, which then serves every verb; 0 keeps none."""
    patience: int = 0
    """Stop after this many validations without improvement; 0 never stops early."""
    validate_every: int = 0
    """Epochs between validations; 0 validates about fifty times in a run."""
    checkpoint_seconds: float = 30.0
    """Seconds between checkpoints (one is always written at the end and at Ctrl-C)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 computes matrix products in 16 bits (autocast); weights stay in 32."""
    compile: bool = False
    """Compile each loss with its gradients into one program: seconds at the start, then faster steps on two threads."""
    device: str = "auto"
    """`auto` takes the GPU if there is one; else cpu, cuda, cuda:1."""
    threads: int = 1
    """CPU threads; 0 leaves torch's choice. Small networks gain little from more, and lose much on shared cores."""
    seed: int = 0
    """Weights, order of batches and noise are functions of it."""
    trackers: tuple[Literal["tensorboard"], ...] = ()
    """Where metrics go besides the run folder."""

    @property
    def epochs_between_validations(self) -> int:
        """``validate_every``, or what it stands for where it is 0."""
        return self.validate_every or max(1, self.epochs // 50)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            _require(name, getattr(self, name), getattr(self, name) >= 1, "1 or more")
        for name in ("learning_rate", "epsilon"):
            _require(name, getattr(self, name), 0 < getattr(self, name) < float("inf"), "a positive number")
        for name in (
            "final_learning_rate", "learning_rate_warmup", "weight_decay", "gradient_clip", "checkpoint_seconds",
        ):  # fmt: skip
            _require(name, getattr(self, name), 0 <= getattr(self, name) < float("inf"), "0 or more")
        for name in ("patience", "validate_every"):
            _require(name, getattr(self, name), getattr(self, name) >= 0, "0 or more")
        _require("threads", self.threads, 0 <= self.threads <= MOST_THREADS, f"0 to {MOST_THREADS}")
        _require("seed", self.seed, 0 <= self.seed < 2**63, "at least 0 and below 2^63")
        for name in ("beta1", "beta2", "momentum", "ema"):
            _require(name, getattr(self, name), 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        for name, options in (("optimizer", Optimizer), ("schedule", Schedule)):
            value = getattr(self, name)
            if value not in options.__args__:  # type: ignore[attr-defined]
                raise AncestralError(f"there is no {name} {value!r}. " + nearest(str(value), options.__args__))  # type: ignore[attr-defined]
        if self.precision not in ("float32", "bfloat16"):
            raise AncestralError(f"there is no precision {self.precision!r}. Known: bfloat16, float32.")
        for tracker in self.trackers:
            if tracker != "tensorboard":
                raise AncestralError(f"there is no tracker {tracker!r}. Known: tensorboard.")
        if self.learning_rate_warmup > self.epochs:
            raise AncestralError(
                f"learning_rate_warmup is {self.learning_rate_warmup:g} epochs, but training has {self.epochs}: the "
                "learning rate itself would never be reached. Use a shorter --learning-rate-warmup, or more --epochs."
            )
        if self.schedule == "iwae" and self.epochs == 1:
            raise AncestralError(
                "the iwae schedule has no effect in 1 epoch, which is its first stage: give more --epochs, or "
                "--schedule constant."
            )
        if self.schedule == "exponential" and self.final_learning_rate <= 0:
            raise AncestralError("the exponential schedule never reaches 0: give --final-learning-rate above 0.")
        if self.final_learning_rate == self.learning_rate and self.schedule in ("cosine", "linear", "exponential"):
            raise AncestralError(
                f"the {self.schedule} schedule has no effect from a learning rate to the same: give another "
                "--final-learning-rate, or --schedule constant."
            )
        if self.final_learning_rate and self.schedule in ("constant", "iwae"):
            raise AncestralError(
                f"final_learning_rate has no effect with the {self.schedule} schedule: choose cosine, linear or "
                "exponential."
            )
        for name, usual in (("beta1", 0.9), ("beta2", 0.999)):
            if getattr(self, name) != usual and self.optimizer not in WITH_BETAS:
                raise AncestralError(
                    f"{name} is {getattr(self, name)}, which has no effect with {self.optimizer}: it is for the "
                    f"Adam family. Add --{name} {usual}."
                )
        if self.epsilon not in USUAL_EPSILONS and self.optimizer == "sgd":
            raise AncestralError("epsilon has no effect with sgd, which has no second moment: leave it out.")
        if self.momentum and self.optimizer not in WITH_MOMENTUM:
            raise AncestralError(f"momentum has no effect with {self.optimizer}: its counterpart is --beta1.")


def _require(name: str, value: object, good: bool, rule: str) -> None:
    if not good:
        raise AncestralError(f"{name} is {value!r}, but it must be {rule}.")

"""Health checks: a run that goes wrong says what is wrong, and which flag to turn.

A check is one function, named after what it finds, that returns a message, or None where all is well. Each looks at
what is known anyway: the data before the first update, the lines of metrics, the model at a validation, samples where
pictures are due. The training loop calls them, and leaves the random stream as it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions.constraints import dependent_property
from torch.optim import Optimizer

from ancestral.configs import TrainingConfig
from ancestral.data import Dataset, Split
from ancestral.distributions.support import base_of, support_of
from ancestral.errors import AncestralError
from ancestral.models import LatentVariableModel
from ancestral.models.contract import Batch, Player, Scalars
from ancestral.models.latent_variable import ACTIVE, activity, divergence_per_unit
from ancestral.training.optimization import average_decay

Finding = dict[str, str | float]
"""What a check found: its name (``check``), ``step``, ``epoch`` and ``message``."""
Row = dict[str, float]
"""A line of metrics: step, epoch, and the means of the named scalars since the line before."""

PIECE = 1 << 20
"""Numbers that are read at a time from the data."""
READ_ROWS, READ_NUMBERS = 200_000, 1 << 27
"""How many rows of a split, and how many numbers in them, are compared with another's at most."""
FEW = 20
"""So many lines of metrics, or updates, without any change are no chance."""
UNMOVED = 1e-6
"""Weights that move by less than this part of their size in so many updates are frozen."""
WINNING = 0.995
"""How often a discriminator is right that has won. (On MNIST at its defaults it passes through 0.98, and recovers.)"""
ALIKE = 0.1
"""Samples whose mean distance from each other is a smaller part of that of data are alike."""
BEGUN, BEGUN_GAME = 100, 500
"""Updates before which a posterior may well be like the prior, and samples of a game alike: they start so."""
MOST_SILENT_UNITS = 3
"""So many active units are no collapse, however many there could be."""


def is_row(row: Mapping[str, object]) -> bool:
    """Whether it is a line of metrics, and nothing else that a file may hold."""
    return {"step", "epoch"} <= row.keys() and all(isinstance(value, int | float) for value in row.values())


# ---- the data


def check_range(model: nn.Module, data: Dataset) -> None:
    """Raise if a real-valued training or validation row lies outside the support of the likelihood.

    Bits and grey levels are what they are by construction: there the first batch, which the model checks, tells all.
    The same holds of a support that depends on the network's output.

    Raises:
        AncestralError: it names the row, the values seen and the cure.
    """
    if data.levels or not isinstance(model, LatentVariableModel):
        return
    likelihood = model.likelihood_of_one()
    base, _ = base_of(likelihood)
    support = support_of(likelihood)
    if support is None or isinstance(getattr(type(base), "support", None), dependent_property):
        return
    for split in ("train", "validation"):
        done = 0
        for x, _ in data.batches(split, _piece(data), shuffle=False):
            inside: Tensor = support.check(x)  # type: ignore[no-untyped-call]
            bad = (~inside.reshape(len(x), -1).all(1)).nonzero().flatten()
            if len(bad):
                row = x[bad[0]]
                raise AncestralError(
                    f"row {done + int(bad[0]):,} of the {split} rows (counted from 0) lies outside the support of the "
                    f"{type(base).__name__} likelihood: its values run from {row.min().item():g} to "
                    f"{row.max().item():g}. Mend the row, or choose a --likelihood whose support holds the data, such "
                    "as normal."
                )
            done += len(x)


def constant_data(data: Dataset) -> str | None:
    """All training rows are the same."""
    threshold = data.config.binarization == "threshold"
    without_noise = data.prepared("threshold" if threshold else "none", "no")
    first = None
    for x, _ in without_noise.batches("train", _piece(data), shuffle=False):
        first = x[:1] if first is None else first
        if not torch.equal(x, first.expand_as(x)):
            return None
    if first is None:
        return None
    values = np.unique(without_noise.to_original(first))
    seen = f", and every number in them is {values[0]:g}" if len(values) == 1 else ""
    cure = " If its rows differ, --binarization dynamic keeps what threshold drops." if threshold else ""
    return (
        f"all {len(data.train):,} training rows are the same{seen}: there is nothing to learn. Look at {data.name}: "
        f"was the right file, folder or array given?{cure}"
    )


def leaked_rows(data: Dataset) -> str | None:
    """Test rows are copies of training rows.

    Short rows repeat by nature. How many of the test rows then equal a training row can be told from how many of the
    training rows equal another one; of images with many grey levels none should.
    """
    test, train = _hashes(data.test), Counter(_hashes(data.train))
    copies = sum(row in train for row in test)
    repeated = sum(count for count in train.values() if count > 1) / max(1, train.total())
    expected = 0.0 if data.levels > 2 else repeated * len(test)
    if copies <= max(2.0, 0.01 * len(test)) + 2 * expected + 3 * math.sqrt(expected):
        return None
    part = "" if len(test) == len(data.test) else f"first {len(test):,} "
    return (
        f"{copies:,} of the {part or f'{len(test):,} '}test rows are among the training rows too, so that a figure on "
        "the test says little of new data. Remove repeated rows from the file before it is split, or hold out rows of "
        "another origin."
    )


def _piece(data: Dataset) -> int:
    """How many rows to read at a time."""
    return max(1, PIECE // math.prod(data.description.shape))


def _hashes(split: Split) -> list[int]:
    """A number for each row as it is stored, of the first so many rows: equal rows have equal numbers."""
    if not len(split):
        return []
    numbers = math.prod(split.take(np.arange(1)).shape)
    rows, step = min(len(split), READ_ROWS, max(1, READ_NUMBERS // numbers)), max(1, PIECE // numbers)
    return [
        hash(row.tobytes())
        for begin in range(0, rows, step)
        for row in split.take(np.arange(begin, min(begin + step, rows)))
    ]


# ---- settings


def cold_average(config: TrainingConfig, total: int) -> str | None:
    """The moving average of the weights never reaches its decay within ``total`` updates."""
    reached = average_decay(1.0, total)
    if config.ema <= reached:
        return None
    return (
        f"the moving average of the weights stays short of its decay, {config.ema:g}: it starts low and has reached "
        f"{reached:.4g} after the {total:,} updates of this run, so that any --ema above that gives the same. Lower "
        "--ema, or train for more --epochs."
    )


def idle_limit(data: Dataset) -> str | None:
    """There are fewer training rows than ``train_limit`` asks for."""
    limit = data.requested.train_limit
    if limit <= len(data.train):
        return None
    return f"train_limit is {limit:,}, which has no effect: there are {len(data.train):,} training rows. Leave it out."


# ---- the lines of metrics


def frozen_loss(rows: Sequence[Row]) -> str | None:
    """A loss is the same on every line since the start."""
    if len(rows) < FEW:
        return None
    for name in (name for name in rows[-1] if name.endswith("loss")):
        if all(math.isclose(row.get(name, math.nan), rows[0].get(name, math.nan), rel_tol=1e-6) for row in rows[::-1]):
            return (
                f"{name} has been {rows[0][name]:.6g} on every line since the start: it does not depend on the weights "
                "that are trained, or they do not move. Look at the loss of the model, or raise --learning-rate."
            )
    return None


def loss_spike(rows: Sequence[Row], recent: int = 20, lasting: int = 5) -> str | None:
    """The loss is far above where it has been, and stays there.

    All of the last lines lie above the ``recent`` ones before them by more than five times their range, and by more
    than a tenth of their size.
    """
    rows = rows[-recent - lasting :]
    values = [_bound(row) for row in rows]
    warming_up = any("beta" in row for row in rows)
    if len(rows) < recent + lasting or warming_up or any(math.isnan(value) for value in values):
        return None
    before, after = values[:recent], values[recent:]
    low, high = min(before), max(before)
    if min(after) <= high + max(5 * (high - low), 0.1 * abs(high)):
        return None
    return (
        f"the loss has jumped from {before[-1]:.4g} to {max(after):.4g} at epoch {rows[recent]['epoch']:.3g}, and has "
        "not come back: a step was too long. Lower --learning-rate, clip the gradient with --gradient-clip 1, or raise "
        "--learning-rate-warmup."
    )


def overfitting(rows: Sequence[Row], validations: Sequence[Row], config: TrainingConfig) -> str | None:
    """The validation loss has turned and lost a good part of what it had gained, while training's went on falling."""
    if len(validations) < 6 or config.patience:
        return None
    losses = [row["validation loss"] for row in validations]
    best = min(range(len(losses)), key=losses.__getitem__)
    gained, lost = losses[0] - losses[best], sorted(losses[-3:])[0] - losses[best]
    if len(losses) - best < 5 or not lost > max(0.1 * gained, 0.01 * abs(losses[best])):
        return None
    then, now = (_mean_between(rows, *validations[i - 1 : i + 1]) for i in (max(1, best), len(validations) - 1))
    if not now < then:
        return None
    return (
        f"overfitting: the validation loss was best at epoch {validations[best]['epoch']:.3g} ({losses[best]:.4g}) "
        f"and has risen to {losses[-1]:.4g}, while that of training fell from {then:.4g} to {now:.4g}. The best "
        "weights are kept, and used. To stop in time, give --patience 5 or fewer --epochs; to overfit less, more data "
        "or a smaller network (--hidden)."
    )


def discriminator_wins(rows: Sequence[Row], total: int) -> str | None:
    """The discriminator has long been right about nearly all data and samples: 200 updates, a twentieth of training."""
    names = [name for name in rows[-1] if name.endswith(("accuracy on data", "accuracy on samples"))]
    since = rows[-1]["step"] - max(200, total / 20)
    if len(names) < 2 or since < 0:
        return None
    recent = list(takewhile(lambda row: row["step"] > since, reversed(rows)))
    right = min(sum(row.get(name, 0.0) for row in recent) / len(recent) for name in names)
    if right < WINNING:
        return None
    return (
        f"the discriminator wins: since step {since:,.0f} it has been right about {right:.2%} or more of the data and "
        "of the samples, so that the generator learns next to nothing from it. Lower --discriminator-learning-rate or "
        "--discriminator-steps, or weaken it with more --dropout or a smaller --discriminator-hidden."
    )


def _bound(row: Row) -> float:
    """What a row says of the loss: without the weights of its parts, where it has parts."""
    if "reconstruction" in row and "kl" in row:
        return row["reconstruction"] + row["kl"]
    return row.get("loss", math.nan)


def _mean_between(rows: Sequence[Row], begin: Row, end: Row) -> float:
    """The training loss between two validations; NaN where no line lies there."""
    values = [_bound(row) for row in rows if begin["step"] < row["step"] <= end["step"]]
    return sum(values) / len(values) if values else math.nan


# ---- the model


def frozen_weights(
    model: nn.Module, players: Iterable[Player], before: Mapping[str, Tensor], updates: int, config: TrainingConfig
) -> str | None:
    """The weights of a player are where they were in ``before``, a state dict of ``updates`` steps ago."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    for player in players:
        learnable = [p for p in player.parameters if p.requires_grad and p in names]
        if not learnable or updates // player.every < FEW:
            continue
        moved = math.hypot(*((p.detach().cpu() - before[names[p]]).norm().item() for p in learnable))
        size = math.hypot(*(p.detach().norm().item() for p in learnable))
        if moved <= UNMOVED * size:
            return (
                f"the weights of the {player.name} have hardly changed in {updates:,} steps (by {moved:.2g}, where "
                f"they are {size:.2g}): its gradients are zero, or too small for --learning-rate "
                f"{player.learning_rate or config.learning_rate:g}. Raise it, or look for what stops the gradient: "
                "saturated units, a detached tensor, a loss at its limit."
            )
    return None


def posterior_collapse(
    model: LatentVariableModel, batches: Iterable[tuple[Tensor, Tensor | None]]
) -> str | None:
    """Hardly any unit of a latent variable says anything of the data.

    That is fewer than a tenth of them active and fewer than three (Burda, Grosse and Salakhutdinov, 2016, section 5.2),
    or less than half a nat of divergence in all. Units that stand still far from the prior are something else.
    """
    batches = list(batches)
    divergence = divergence_per_unit(model, *batches[0])
    for name, values in activity(model, batches).items():
        units, active = values.numel(), int((values > ACTIVE).sum())
        kl = divergence.get(name)
        silent = active < min(MOST_SILENT_UNITS, max(1.0, units / 10)) or (kl is not None and kl.sum() < 0.5)
        if not silent or not is_finite(values) or (kl is not None and not kl.median() < 1):
            continue
        parts = ""
        if kl is not None:
            parts = f", {kl.sum().item():.2g} nats of divergence in all, {kl.max().item():.2g} in the largest"
        if model.objective == "iwae":
            cure = "Use --bound elbo, where --kl-warmup 10 or --free-bits 0.1 holds the divergence back at the start."
        elif model.beta > 1:
            cure = f"Lower --beta (now {model.beta:g})."
        else:
            cure = "Hold the divergence back at the start with --kl-warmup 10, or give each unit --free-bits 0.1."
        return (
            f"posterior collapse: {name!r} says next to nothing of the data ({active} of {units} units active{parts}), "
            f"so that the model makes them without it. {cure}"
        )
    return None


def mode_collapse(samples: Tensor, data: Tensor) -> str | None:
    """Samples ``[n, *shape]`` are much nearer to each other than data ``[m, *shape]`` are."""
    mine, theirs = (_spread(x) for x in (samples, data))
    if not mine < ALIKE * theirs:
        return None
    return (
        f"mode collapse: two samples differ by {mine:.3g} on average, two rows of the data by {theirs:.3g}, so that "
        "the generator makes much the same whatever its noise. Lower --learning-rate, give the discriminator more "
        "--discriminator-steps, or the generator more --latent."
    )


def _spread(x: Tensor) -> float:
    """The mean Euclidean distance between two rows."""
    distance = torch.pdist(x.detach().flatten(1).float().cpu())
    return distance.mean().item() if len(distance) else math.nan


# ---- what is not finite


class NotFiniteError(AncestralError):
    """Training has diverged: something that it computes, or its state, is infinite or not a number."""


def is_finite(tensor: Tensor) -> bool:
    """Whether all of its numbers are."""
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def require_finite(tensors: Mapping[str, Tensor], step: int) -> None:
    """Raise if a tensor is not finite.

    Raises:
        NotFiniteError: it names the tensor.
    """
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            value = f"is {tensor.item()}" if tensor.numel() == 1 else "is not finite"
            raise NotFiniteError(
                f"training diverged by step {step:,}: {name} {value}. Train again with a lower --learning-rate or with "
                "--gradient-clip 1."
            )


class Watch:
    """Notes the name of the first tensor that is not finite."""

    def __init__(self) -> None:
        self.first = ""

    def look(self, name: str, value: object) -> None:
        """Look at a tensor, or at those in a tuple, list or dictionary."""
        if isinstance(value, Mapping):
            value = tuple(value.values())
        if isinstance(value, tuple | list):
            for part in value:
                self.look(name, part)
        elif not self.first and isinstance(value, Tensor) and not is_finite(value):
            self.first = name

    def player(self, player: Player) -> Player:
        """The player, with its batches and losses looked at."""

        def loss(batch: Batch) -> Scalars:
            self.look("the batch of data", batch.x)
            scalars = player.loss(batch)
            for name in sorted(scalars, key=lambda name: name == "loss"):  # its parts before their sum
                self.look(f"{name} of the {player.name}", scalars[name])
            return scalars

        return dataclasses.replace(player, loss=loss)

    @contextlib.contextmanager
    def modules(self, model: nn.Module) -> Iterator[None]:
        """Look at every module's output and every parameter's gradient, as they are computed."""
        handles = [
            module.register_forward_hook(lambda module, _, out, name=name: self.look(f"the output of {name}", out))
            for name, module in model.named_modules()
            if name
        ] + [
            parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                lambda parameter, name=name: self.look(f"the gradient of {name}", parameter.grad)
            )
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def state(self, model: nn.Module, optimizers: Iterable[Optimizer]) -> None:
        """Look at what an update has left."""
        names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
        for parameter, name in names.items():
            self.look(f"{name} after its update", parameter)
        for optimizer in optimizers:
            for parameter, quantities in optimizer.state.items():
                for key, value in quantities.items():
                    self.look(f"the optimizer's {key} of {names[parameter]}", value)

"""Health checks: a run that goes wrong says what is wrong, and which flag to turn.

A check is one function, named after what it finds, that returns a message, or None where all is well. Each looks at
what is known anyway: the data before the first update, the lines of metrics, the model at a validation, samples where
pictures are due. The training loop calls them, and leaves the random stream as it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, takewhile

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions.constraints import dependent_property
from torch.optim import Optimizer

from ancestral.configs import MODELS, TrainingConfig
from ancestral.data import Dataset, Split
from ancestral.distributions.support import base_of, support_of
from ancestral.errors import AncestralError
from ancestral.models import LatentVariableModel
from ancestral.models.contract import Batch, Player, Scalars
from ancestral.models.latent_variable import ACTIVE, activity, divergence_per_unit
from ancestral.training.optimization import average_decay

Finding = dict[str, str | float]
"""What a check found: its name (``check``), ``step``, ``epoch`` and ``message``; and the epoch at which it was
``withdrawn``, where it was."""
Row = dict[str, float]
"""A line of metrics: step, epoch, and the means of the named scalars since the line before."""

PIECE = 1 << 20
"""Numbers that are read at a time from the data."""
READ_ROWS, READ_NUMBERS = 200_000, 1 << 27
"""How many rows of a split, and how many numbers in them, are compared with another's at most."""
COUNTED = 10_000
"""Training rows whose values are counted at most."""
FEW = 20
"""So many lines of metrics, or updates, without any change are no chance."""
UNMOVED = 1e-6
"""Weights that move by less than this part of their size in so many updates are frozen."""
WINNING = 0.995
"""How often a discriminator is right that has won. (On MNIST at its defaults it passes through 0.98, and recovers.)"""
FEW_GROUPS, ALIKE = 0.04, 0.3
"""Samples are alike that fall into a smaller part of the groups that as many data fall into, at a smaller part of their
mean distance. (On the digits at the defaults, of 256: 3 or 4 groups at 0.2 of the distance after 30 epochs, where
nearly all are one picture; 8 to 35 at 0.4 to 0.7 after 100.)"""
BEGUN, BEGUN_GAME = 100, 400
"""Updates before which a posterior may well be like the prior, and samples of a game alike: they start so."""
SHORT = 1000
"""So many updates may be too few, whatever else is wrong."""
MOST_SILENT_UNITS = 3
"""So many active units are no collapse, however many there could be."""


def is_row(row: Mapping[str, object]) -> bool:
    """Whether it is a line of metrics, all of them finite, and nothing else that a file may hold."""
    values = row.values()
    return {"step", "epoch"} <= row.keys() and all(map(_is_number, values))


def is_finding(found: Mapping[str, object]) -> bool:
    """Whether it is what a check found, and nothing else that a file may hold."""
    return all(isinstance(found.get(name), str) for name in ("check", "message")) and all(
        _is_number(found.get(name)) for name in ("step", "epoch")
    )


def _is_number(value: object) -> bool:
    """Whether it is a finite number, and small enough for a float where it is whole: JSON bounds none."""
    return abs(value) < 2**63 if isinstance(value, int) else isinstance(value, float) and math.isfinite(value)


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
    if len(data.train) == 1:
        return "there is a single training row: a model can only repeat it. Give more rows, or a higher --train-limit."
    values = np.unique(without_noise.to_original(first))
    seen = f", and every number in them is {values[0]:g}" if len(values) == 1 else ""
    cure = " If its rows differ, --binarization dynamic keeps what threshold drops." if threshold else ""
    return (
        f"all {len(data.train):,} training rows are the same{seen}: there is nothing to learn. Look at {data.name}: "
        f"was the right file, folder or array given?{cure}"
    )


def leaked_rows(data: Dataset) -> str | None:
    """Test rows are copies of training rows, and more of them than chance makes.

    Rows of a few bits, or of a few columns with few values, repeat by nature: each test row is given the chance that
    one of the training rows equals it where the columns are drawn independently of each other, each as the training
    rows have it.
    """
    test, train = _hashes(data.test), set(_hashes(data.train))
    copies = sum(row in train for row in test)
    usual = max(2.0, 0.01 * len(test))
    if copies <= usual:
        return None
    expected = _copies_by_chance(data.train, data.test, len(test))
    if copies <= usual + 2 * expected + 3 * math.sqrt(expected):
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


def _copies_by_chance(train: Split, test: Split, rows: int) -> float:
    """How many of the first test rows would equal a training row if columns were independent."""
    known = train.take(np.arange(min(len(train), COUNTED)))
    known = known.reshape(len(known), -1)
    expected = 0.0
    for begin in range(0, rows, COUNTED):
        new = test.take(np.arange(begin, min(begin + COUNTED, rows)))
        new = new.reshape(len(new), -1)
        log_chance = np.zeros(len(new))
        for mine, theirs in zip(new.T, known.T, strict=True):
            values, counts = np.unique(theirs, return_counts=True)
            place = np.searchsorted(values, mine).clip(max=len(values) - 1)
            share = np.where(values[place] == mine, counts[place] / len(known), 0.5 / len(known))
            log_chance += np.log(share)
        expected -= np.expm1(-len(train) * np.exp(log_chance)).sum()
    return expected


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
    """The moving average of the weights stays far from its decay within ``total`` updates."""
    reached = average_decay(1.0, total)
    if 1 - reached <= 2 * (1 - config.ema):  # it averages over half as many updates as it should, or more
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


def idle_batch_size(data: Dataset, config: TrainingConfig) -> str | None:
    """There are fewer training rows than a batch is to have. (The default, which nobody typed, is another matter.)"""
    if config.batch_size <= len(data.train) or config.batch_size == TrainingConfig.batch_size:
        return None
    return (
        f"batch_size is {config.batch_size:,}, but there are {len(data.train):,} training rows: an epoch is one "
        f"update, of all of them. --batch-size {len(data.train)} gives the same; a smaller one gives more updates."
    )


# ---- the lines of metrics


def frozen_loss(rows: Sequence[Row], players: Sequence[Player], config: TrainingConfig, model: str) -> str | None:
    """A player's loss is the same on every line since the start."""
    if len(rows) < FEW:
        return None
    for player in players:
        name = f"{player.name} loss" if len(players) > 1 else "loss"
        if all(math.isclose(row.get(name, math.nan), rows[0].get(name, math.nan), rel_tol=1e-6) for row in rows[::-1]):
            return (
                f"{name} has been {rows[0][name]:.6g} on every line since the start: it does not depend on the weights "
                "that are trained, or they do not move. Look at the loss of the model"
                f"{_rate(player, config, model)[1]}."
            )
    return None


def _rate(player: Player, config: TrainingConfig, model: str) -> tuple[str, str]:
    """The learning rate of a player, under the name it is set by, and what to do with it where weights stand still."""
    flag, rate = "--learning-rate", config.learning_rate
    if player.learning_rate is not None:
        rate = player.learning_rate
        known = model in MODELS
        flag = f"--{player.name}-learning-rate" if known else f"the learning_rate of Player({player.name!r})"
    seen = f"{flag} {rate:g}" if flag.startswith("--") else f"{flag}, {rate:g}"
    usual = (MODELS[model][1] if model in MODELS else TrainingConfig()).learning_rate
    if rate < usual:
        return seen, f", or raise {flag}"
    return seen, f", or lower {flag}: steps too long saturate units" if rate > usual else ""


def loss_above_start(rows: Sequence[Row], untrained: float, spread: float, total: int) -> str | None:
    """The loss is far above that of the untrained model, ``untrained`` ± ``spread``, on each of the last ten lines.

    A learning rate that is far too high throws the weights away in the first steps, so that no line shows the jump.
    """
    recent = [row.get("loss", math.nan) for row in rows[-10:]]
    above = untrained + max(0.1 * abs(untrained), 3 * spread)
    if len(recent) < 10 or rows[-1]["step"] < total / 10 or not min(recent) > above:
        return None
    return (
        f"the loss is {recent[-1]:.4g} at epoch {rows[-1]['epoch']:.3g}, far above that of the untrained model, "
        f"{untrained:.4g}: steps are too long. Lower --learning-rate, clip the gradient with --gradient-clip 1, or "
        "raise --learning-rate-warmup."
    )


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


def validation_not_finite(loss: float, epoch: float, data: Dataset) -> str | None:
    """The validation loss is infinite or not a number."""
    if math.isfinite(loss):
        return None
    return (
        f"the validation loss is {loss} at epoch {epoch:.3g}, while that of training is finite, so that this "
        "validation says nothing and its weights can't be the best. Look at validation() of the model, and at the "
        f"{len(data.validation):,} validation rows; --validation 0 trains without."
    )


def overfitting(
    rows: Sequence[Row], validations: Sequence[Row], config: TrainingConfig, untrained: float
) -> str | None:
    """The validation loss has turned and lost a good part of what it had gained, while training's went on falling.

    What it has lost must stand out from how much it moves from one validation to the next: of few rows it wanders.
    """
    if len(validations) < 6 or config.patience:
        return None
    losses = [row["validation loss"] for row in validations]
    best = min(range(len(losses)), key=losses.__getitem__)
    gained, lost = losses[0] - losses[best], min(losses[-3:]) - losses[best]
    steps = sorted(abs(after - before) for before, after in pairwise(losses[best:]))
    if len(losses) - best < max(5, len(losses) / 4):
        return None
    if not lost > max(0.1 * gained, 0.01 * abs(losses[best]), 3 * steps[len(steps) // 2]):
        return None
    then, now = (_mean_between(rows, *validations[i - 1 : i + 1]) for i in (max(1, best), len(validations) - 1))
    if not now < min(then, untrained):
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
    weights: nn.Module,
    players: Iterable[Player],
    before: Mapping[str, Tensor],
    updates: int,
    config: TrainingConfig,
    model: str,
) -> str | None:
    """The weights of a player are where they were in ``before``, a state dict of ``updates`` steps ago."""
    names = {parameter: name for name, parameter in weights.named_parameters()}
    for player in players:
        learnable = [p for p in player.parameters if p.requires_grad and p in names]
        if not learnable or updates // player.every < FEW:
            continue
        moved = math.hypot(*((p.detach().cpu() - before[names[p]]).norm().item() for p in learnable))
        size = math.hypot(*(p.detach().norm().item() for p in learnable))
        if moved <= UNMOVED * size:
            rate, cure = _rate(player, config, model)
            return (
                f"the weights of the {player.name} have hardly changed in {updates:,} steps at {rate} (by {moved:.2g}, "
                f"where they are {size:.2g}). Look for what stops the gradient (saturated units, a detached tensor, a "
                f"loss at its limit){cure}."
            )
    return None


def posterior_collapse(
    model: LatentVariableModel,
    batches: Iterable[tuple[Tensor, Tensor | None]],
    rows: Sequence[Row] = (),
    name: str = "",
) -> str | None:
    """Hardly any unit of a latent variable says anything of the data.

    That is fewer than a tenth of them active and fewer than three (Burda, Grosse and Salakhutdinov, 2016, section 5.2),
    and less than half a nat of divergence in all, where that is known: units that stand still far from the prior are
    something else. A divergence that still rises on the lines of metrics, ``rows``, tells of a posterior that is only
    beginning. ``name`` is that of a model of :data:`ancestral.configs.MODELS`, whose settings are flags.
    """
    fifth = len(rows) // 5
    if fifth and "kl" in rows[-1]:
        before, now = (sum(row["kl"] for row in part) for part in (rows[-2 * fifth : -fifth], rows[-fifth:]))
        if now > 1.1 * before:
            return None
    batches = list(batches)
    divergence = divergence_per_unit(model, *batches[0])
    for variable, values in activity(model, batches).items():
        units, active = values.numel(), int((values > ACTIVE).sum())
        kl = divergence.get(variable)
        few = active < min(MOST_SILENT_UNITS, max(1.0, units / 10))
        if not few or not is_finite(values) or (kl is not None and not kl.sum() < 0.5):
            continue
        parts = ""
        if kl is not None:
            parts = f", {kl.sum().item():.2g} nats of divergence in all, {kl.max().item():.2g} in the largest"
        return (
            f"posterior collapse: {variable!r} says next to nothing of the data ({active} of {units} units active"
            f"{parts}), so that the model makes them without it. {_against_collapse(model, name, kl is not None)}"
            + (" Where training was short, more --epochs come first." if rows and rows[-1]["step"] < SHORT else "")
        )
    return None


REMEDIES: dict[str, str | float] = {"bound": "elbo", "kl_warmup": 10, "free_bits": 0.25}
"""Of a collapsed posterior, where they are not in force."""


def _against_collapse(model: LatentVariableModel, name: str, closed: bool) -> str:
    """What to turn: the flags that a model of that name has; of an own model, arguments of LatentVariableModel.

    Free bits are of a divergence in closed form, which passes the gradient whole.
    """
    if name in MODELS:
        flags = {field.name: f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(MODELS[name][0])}
        turn, where = {key: f"{flags[key]} {value}" for key, value in REMEDIES.items() if key in flags}, ""
    else:
        flags = {"bound": "objective", "beta": "beta", "kl_warmup": "kl_warmup", "free_bits": "free_bits"}
        turn, where = {key: f"{flags[key]}={value!r}" for key, value in REMEDIES.items()}, " in LatentVariableModel"
    if model.kl_warmup and "kl_warmup" in flags:
        turn["kl_warmup"] = f"a longer {flags['kl_warmup']} (now {model.kl_warmup:g})"
    if model.free_bits and "free_bits" in flags:
        turn["free_bits"] = f"more {flags['free_bits']} (now {model.free_bits:g})"
    turn.setdefault("bound", "--objective elbo")
    closed = closed and model.gradient == "total"
    if not closed:
        turn.pop("free_bits", None)
    if model.objective == "wake-sleep":
        rule = f"objective='reweighted-wake-sleep' and particles=5{where}"
        if not where:
            rule = "--objective reweighted-wake-sleep and --particles 5"
        return f"Let q learn from the data too, with {rule}."
    if model.objective == "reweighted-wake-sleep":
        return f"Change the --learning-rate, or give more {'particles' if where else '--particles'}{where}."
    if model.q is model.p or "kl_warmup" not in turn:
        return "Change the --learning-rate, or try another estimator."
    against = " or ".join(turn[key] for key in ("kl_warmup", "free_bits") if key in turn)
    if model.objective == "iwae":
        return f"Use {turn['bound']}{where}, where {against} holds the divergence back at the start."
    if model.beta > 1:
        return f"Lower {flags['beta']}{where} (now {model.beta:g})."
    give = f", or give each unit {turn['free_bits']}" if "free_bits" in turn else ""
    return f"Hold the divergence back at the start with {turn['kl_warmup']}{where}{give}."


def mode_collapse(samples: Tensor, data: Tensor, done: bool = True) -> str | None:
    """Samples ``[n, *shape]`` fall into few groups of near copies, where as many data ``[n, *shape]`` fall into many.

    Near is half of how far a row of data is from the nearest other one, in the middle of those that are no copies.
    Samples so near may still lead from one picture to another by small steps: then they are alike only if their mean
    distance is small too, or if they are copies at a fiftieth of that. Until training is ``done``, all must be one
    group: games spread out late.
    """
    samples, data = (x.detach().flatten(1).float().cpu() for x in (samples, data))
    nearest = _distances(data).fill_diagonal_(math.inf).min(1).values
    apart = nearest[nearest > 0]
    if len(data) < FEW or not len(apart):
        return None
    near = 0.5 * apart.median().item()
    theirs = _groups(data, near)
    few = max(1.0, FEW_GROUPS * theirs) if done else 1
    mine, distances = _groups(samples, near), [torch.pdist(x).mean().item() for x in (samples, data)]
    alike = mine <= few and distances[0] < ALIKE * distances[1]
    if not alike and _groups(samples, near / 50) > few:
        return None
    return (
        f"mode collapse: {len(samples)} samples are near copies of only {mine} of them, where {len(data)} rows of the "
        f"data are of {theirs}; two samples differ by {distances[0]:.3g} on average, two rows by {distances[1]:.3g}. "
        "The generator makes much the same whatever its noise. Lower --learning-rate, train for more --epochs, give "
        "the discriminator more --discriminator-steps, or the generator more --latent."
    )


def _groups(x: Tensor, near: float) -> int:
    """How many rows it takes to have every row ``near`` one of them, taken in order."""
    close = _distances(x) <= near
    left, groups = torch.ones(len(x), dtype=torch.bool), 0
    for row, neighbors in enumerate(close):
        if left[row]:
            groups += 1
            left &= ~neighbors
    return groups


def _distances(x: Tensor) -> Tensor:
    """Between any two rows; not by matrix products, whose rounding sets copies apart that lie far from 0."""
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")


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

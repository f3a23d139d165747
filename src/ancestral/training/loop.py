"""The training loop: players take turns on batches whose order is a function of seed and epoch alone."""

from __future__ import annotations

import contextlib
import copy
import math
import signal
import statistics
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ancestral.configs import TrainingConfig
from ancestral.configs.data import HIDDEN
from ancestral.data import Dataset
from ancestral.data.dataset import SplitName
from ancestral.errors import AncestralError
from ancestral.estimators.schedules import changing
from ancestral.models import LatentVariableModel
from ancestral.models.contract import (
    Batch,
    CanCheck,
    CanClassify,
    CanInitialize,
    CanReconstruct,
    CanSample,
    CanValidate,
    Model,
    Player,
    Scalars,
)
from ancestral.networks import BatchNorm
from ancestral.training import health
from ancestral.training.checkpoint import (
    check_random_state,
    check_ranges,
    load_weights,
    optimizer_like,
    optimizer_tensors,
    read_checkpoint,
    read_state,
    restore_optimizer,
    write_checkpoint,
)
from ancestral.training.compilation import Gradients, compiled, compiling
from ancestral.training.folder import RunFolder
from ancestral.training.optimization import WeightAverage, keep_freed_memory, learning_rate, make_optimizer
from ancestral.training.pictures import grid, pairs, reconstructed, sampled, save_picture
from ancestral.training.progress import Reporter, Silent
from ancestral.training.trackers import Tracker

PICTURES_AT = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Parts of training after which pictures are made."""
INITIAL_ROWS, INITIAL_NUMBERS = 10_000, 2**25
"""How many training rows, and how many numbers in them, the model's start is computed from at most."""
VALIDATION_BATCH = 500
UNTRAINED_BATCHES = 8
"""Batches that the loss of the untrained model is averaged over."""
EXAMINED = 256
"""Samples that are examined for mode collapse."""


@dataclass
class Progress:
    """Where training stands: all that a checkpoint must hold besides tensors."""

    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_epoch: float = 0.0
    without_improvement: int = 0
    validated: int = -1
    pictured: int = -1
    metrics_bytes: int = 0
    average_updates: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    untrained: float | None = field(default=None, metadata={"later": True})
    """The loss before training, averaged over some batches; None for a game."""
    untrained_spread: float = field(default=0.0, metadata={"later": True})
    """The standard deviation of that loss between batches."""
    retries: int = 0
    """How often training has diverged and gone on with half the learning rate, in float32."""
    findings: list[dict[str, float | str]] = field(default_factory=list)
    """What the health checks have found."""
    finished: str = ""
    """Why training ended; empty while it has not."""


def choose_device(name: str) -> str:
    """``auto`` is the GPU where there is one.

    Raises:
        AncestralError: the device is not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()  # the meta device has no values
    except (RuntimeError, AssertionError) as error:
        first = str(error).strip().splitlines()[0]
        raise AncestralError(f"the device {name!r} is not available: {first} Use --device cpu or auto.") from None
    return name


def _check_all_labeled(model: LatentVariableModel, dataset: Dataset) -> None:
    """Raise where rows have no label that a model is conditioned on."""
    for split, part in (("training", dataset.train), ("validation", dataset.validation)):
        without = 0 if part.y is None else int((part.y == HIDDEN).sum())
        if without:
            raise AncestralError(
                f"{model.p} is conditioned on the labels y, but {without:,} of the {len(part):,} {split} rows of "
                f"{dataset.name} have none (-1): give them one, leave these rows out, or use m2, which learns from "
                "rows without a label too."
            )


class Training:
    """One model being trained on one data set. ``run()`` trains until the end, early stopping or Ctrl-C."""

    def __init__(
        self,
        model: nn.Module,
        dataset: Dataset,
        config: TrainingConfig,
        folder: RunFolder | None = None,
        reporter: Reporter | None = None,
        trackers: Sequence[Tracker] = (),
        name: str = "",
    ) -> None:
        """``name`` is that of a model of :data:`ancestral.configs.MODELS`, whose settings are flags."""
        if not isinstance(model, Model):
            raise AncestralError(
                f"a {type(model).__name__} can't be trained: it has no players(). See ancestral.models.contract.Model."
            )
        if len(dataset.train) == 0:
            raise AncestralError(f"{dataset.name} has no training rows.")
        if isinstance(model, LatentVariableModel) and model.takes_labels:
            _check_all_labeled(model, dataset)
        if dataset.added and not (dataset.config.labels or isinstance(model, CanClassify)):
            dataset = replace(dataset, adds_labeled=False)  # for a model that learns nothing from them
        self.device = choose_device(config.device)
        self.model, self.dataset, self.config, self.folder = model.to(self.device), dataset, config, folder
        self.reporter = reporter or Silent()
        self.trackers, self.name = trackers, name
        self.validates = isinstance(model, CanValidate) and len(dataset.validation) > 0
        if config.patience and not self.validates:
            why = "has no validation rows" if isinstance(model, CanValidate) else "is trained by a game, not by a bound"
            who = dataset.name if isinstance(model, CanValidate) else "this model"
            raise AncestralError(
                f"patience has no effect: {who} {why}, so nothing says when to stop. Use --patience 0."
            )
        self.players: list[Player] = model.players()
        self.learnable = [p for player in self.players for p in player.parameters if p.requires_grad]
        self.optimizers: list[Optimizer] = [make_optimizer(player.parameters, config) for player in self.players]
        self.average = WeightAverage(self.model, config.ema) if config.ema else None
        self.compiled: dict[str, Gradients] = {}
        self.best_weights: dict[str, Tensor] | None = None
        self.progress = Progress()
        self.whole_batch = min(config.batch_size, len(dataset.train)) + self.dataset.added
        self.steps_per_epoch = math.ceil(len(dataset.train) / config.batch_size)
        self.total = self.steps_per_epoch * config.epochs
        self.log_every = max(1, min(self.steps_per_epoch, self.total // 500))
        self.validate_every = self.steps_per_epoch * config.epochs_between_validations
        self.marks = {math.ceil(part * self.total): part for part in PICTURES_AT}
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.rows: list[dict[str, float]] = []
        self.validations: list[dict[str, float]] = []
        self.started = False
        self.sum_type = torch.float32 if self.device.startswith("mps") else torch.float64
        """Of the sums behind a line of metrics: JSON holds them to every digit."""
        self._check_effects()

    def _check_effects(self) -> None:
        """Raise at a setting without effect in a run of this length, or on this device."""
        config = self.config
        if self.validates and config.validate_every > config.epochs:
            raise AncestralError(
                f"validate_every is {config.validate_every} epochs, which has no effect in a run of {config.epochs}: "
                f"the end is always validated. Use --validate-every {config.epochs} or less, or more --epochs."
            )
        validations = math.ceil(config.epochs / config.epochs_between_validations)
        if config.patience and config.patience >= validations:
            raise AncestralError(
                f"patience is {config.patience}, which has no effect: {config.epochs} epochs have {validations} "
                f"validation{'s' * (validations > 1)}, and the first can't be a failure. Use a lower --patience, more "
                "--epochs or a lower --validate-every."
            )
        for player in self.players:
            if player.every > 1 and player.every >= self.total:
                flag = "--discriminator-steps" if self.name == "gan" else f"every of Player({player.name!r})"
                raise AncestralError(
                    f"the {player.name} is updated once in {player.every:,} steps, but training has {self.total:,}: "
                    f"it would be updated once. Use a lower {flag}, or more --epochs."
                )
        warmup = self.model.kl_warmup if isinstance(self.model, LatentVariableModel) else 0.0
        if warmup > config.epochs:
            raise AncestralError(
                f"kl_warmup is {warmup:g} epochs, but training has {config.epochs}: the divergence would never have "
                "its weight, beta. Use a shorter --kl-warmup, or more --epochs."
            )
        if self.whole_batch < 2 and any(isinstance(module, BatchNorm) for module in self.model.modules()):
            raise AncestralError(
                "batch normalization has no effect on batches of one row, which have no variance. Use --batch-size 2 "
                "or more, or --normalization none."
            )
        learns: list[str] = changing(self.model.estimators) if isinstance(self.model, LatentVariableModel) else []
        if config.compile and learns:
            raise AncestralError(
                f"compile is for estimators that stay as they are, but {' and '.join(learns)} change"
                f"{'s' * (len(learns) == 1)} during training, by a schedule or by what it learns: train without "
                "--compile."
            )
        buffers = self.model.named_buffers()
        lost = [name for name, buffer in buffers if not buffer.dim() and buffer.dtype == torch.float64]
        if config.compile and lost:  # seen with PyTorch 2.13 on the CPU
            raise AncestralError(
                f"a compiled program loses changes of the buffer {lost[0]}, a single number of double precision: give "
                "it the shape (1,), or train without --compile."
            )
        if config.threads != TrainingConfig.threads and not self.device.startswith("cpu"):
            raise AncestralError(
                f"threads is {config.threads}, which has no effect on the device {self.device}: leave it out, or use "
                "--device cpu."
            )

    # ---- the loop

    def run(self) -> Progress:
        """Train. Continues from the state that :meth:`restore` loaded, or starts.

        Where something is not finite, it returns to the last state that was saved and goes on with half the learning
        rate, once.

        Raises:
            AncestralError: the first batch breaks the model's contract, or training has diverged twice.
        """
        config, end = self.config, "failed"
        threads = torch.get_num_threads()
        if self.device == "cpu":
            keep_freed_memory()
            if config.threads:
                torch.set_num_threads(config.threads)
        if self.progress.step == 0 and not self.started:
            self.start()
        for player in self.players:  # whatever the user has done with the model before
            _clear_gradients(player)
        self.reporter.begin(self.total, self.progress.step)
        self.began = time.monotonic() - self.progress.seconds
        for tracker in self.trackers:
            tracker.start(asdict(config))
        try:
            with _interruptions() as interrupted, self._compiling():
                self.model.train()
                if self.progress.step == 0:
                    self._write_findings()
                    self._check(health.constant_data, self.dataset)
                    self._check(health.leaked_rows, self.dataset)
                    self._check(health.cold_average, config, self.total)
                    self._check(health.idle_limit, self.dataset)
                    self._check(health.idle_batch_size, self.dataset, config)
                self.good = self._state()
                whole = False
                while not whole:
                    try:
                        self._train(interrupted)
                        self.save()
                        whole = True
                    except health.NotFiniteError:
                        self._roll_back()
            end = self.progress.finished or "interrupted"
        finally:
            self._only(None)
            self.reporter.end()
            torch.set_num_threads(threads)
            for tracker in self.trackers:
                tracker.text("end", end)
                tracker.finish()
        return self.progress

    def _train(self, interrupted: _Interruptions) -> None:
        """Updates until the end, early stopping or Ctrl-C."""
        progress = self.progress
        self._landmarks()
        saved = time.monotonic()
        if progress.finished:
            return
        for batch in self._batches():
            self._step(batch)
            progress.step += 1
            progress.seconds = time.monotonic() - self.began
            if progress.step % self.log_every == 0 or progress.step == self.total:
                self._log()
            self._landmarks()
            if interrupted or progress.finished:
                break
            if time.monotonic() - saved > self.config.checkpoint_seconds:
                self.save()
                saved = time.monotonic()
        if progress.step >= self.total and not progress.finished:
            progress.finished = f"all {self.config.epochs} epochs done"

    def _batches(self) -> Iterator[Batch]:
        """The batches from where training stands to its end; whoever takes one counts the step."""
        config = self.config
        while self.progress.step < self.total:
            epoch, start = divmod(self.progress.step, self.steps_per_epoch)
            for x, y in self.dataset.batches(
                "train", config.batch_size, seed=config.seed, epoch=epoch, start=start, device=self.device
            ):
                yield Batch(x, y, self.progress.step / self.steps_per_epoch, len(self.dataset.train))

    def start(self) -> None:
        """Check the first batch before any time is spent, then set the model's start from data."""
        model = self.model
        x, y = next(self.dataset.batches("train", self.config.batch_size, seed=self.config.seed, device=self.device))
        batch = Batch(x, y, rows=len(self.dataset.train))
        with self._as_it_was():
            if isinstance(model, CanCheck):
                model.check(batch)
            health.check_range(model, self.dataset)
            for player in self.players:
                check_reaches_players(player.name, player.loss(batch)["loss"], model)
        if isinstance(model, CanInitialize):
            rows = max(1, min(INITIAL_ROWS, INITIAL_NUMBERS // x[0].numel()))
            x, _ = next(self.dataset.batches("train", rows, seed=self.config.seed, device=self.device))
            model.initialize(x)
        if self.average:
            self.average = WeightAverage(model, self.config.ema)
        if len(self.players) == 1:
            self._measure_untrained()
        self.started = True

    def _measure_untrained(self) -> None:
        """Note the loss before training, at the larger of its weights where they change in time."""
        config, losses = self.config, []
        batches = self.dataset.batches("train", config.batch_size, seed=config.seed, device=self.device)
        with self._as_it_was():
            for x, y in islice(batches, UNTRAINED_BATCHES):
                ends = [Batch(x, y, epoch, len(self.dataset.train)) for epoch in (0.0, float(config.epochs))]
                losses.append(max(self.players[0].loss(batch)["loss"].item() for batch in ends))
        if all(map(math.isfinite, losses)):
            self.progress.untrained = sum(losses) / len(losses)
            self.progress.untrained_spread = statistics.stdev(losses) if len(losses) > 1 else 0.0

    @contextlib.contextmanager
    def _as_it_was(self) -> Iterator[None]:
        """The random stream and the model's buffers, such as running averages, are afterwards as they were before."""
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        try:
            with torch.random.fork_rng():
                yield
        finally:
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)

    @contextlib.contextmanager
    def _compiling(self) -> Iterator[None]:
        """Every player's loss is compiled, if that is wanted, when its turn first comes."""
        if not self.config.compile:
            yield
            return
        batch = next(self._batches())
        with self._as_it_was():
            for player in self.players:
                player.loss(batch)  # what is wrong with it, it says best itself; and torch looks up a divergence once
        self.compiled = {player.name: compiled(player, self.device) for player in self.players}
        with compiling():
            yield

    def _step(self, batch: Batch) -> None:
        """Every player whose turn it is makes one update."""
        for player, optimizer in zip(self.players, self.optimizers, strict=True):
            if self.progress.step % player.every:
                continue
            if len(self.players) > 1:
                self._only(player)
            rate = learning_rate(self.config, player.learning_rate or self.config.learning_rate, batch.epoch)
            for group in optimizer.param_groups:
                group["lr"] = rate * 0.5**self.progress.retries
            scalars = self._gradients(player, batch)
            if self.config.gradient_clip:
                apart = set(player.apart)
                for together in ([w for w in player.parameters if w not in apart], player.apart):
                    nn.utils.clip_grad_norm_(together, self.config.gradient_clip)
            optimizer.step()
            _clear_gradients(player)
            prefix = f"{player.name} " if len(self.players) > 1 else ""
            for name, value in scalars.items():
                name, value = prefix + name, value.detach().to(self.sum_type)
                self.sums[name] = self.sums[name] + value if name in self.sums else value
                self.counts[name] = self.counts.get(name, 0) + 1
        if self.average:
            self.average.update(self.model)

    def _gradients(self, player: Player, batch: Batch) -> Scalars:
        """Leave the gradients of a batch in the player's parameters; the scalars of its loss."""
        half = self.config.precision == "bfloat16" and not self.progress.retries
        if player.name in self.compiled and len(batch.x) == self.whole_batch:  # a program is for one size
            return self.compiled[player.name](batch, half)
        with torch.autocast(self.device.split(":")[0], torch.bfloat16) if half else contextlib.nullcontext():
            scalars = player.loss(batch)
        scalars["loss"].backward()  # type: ignore[no-untyped-call]
        return scalars

    def _only(self, player: Player | None) -> None:
        """Let only this player's weights have gradients (None: everyone's); the others' would cost time for nothing."""
        own = None if player is None else {id(parameter) for parameter in player.parameters}
        for parameter in self.learnable:  # what its owner has frozen stays so
            parameter.requires_grad_(own is None or id(parameter) in own)

    # ---- what is seen of it

    def _log(self) -> None:
        health.require_finite(self.sums, self.progress.step)
        means = {name: value.item() / self.counts[name] for name, value in self.sums.items()}
        self.sums, self.counts = {}, {}
        self.rows.append(self._write_metrics(means))
        self.reporter.update(self.progress.step, self.epoch, means)
        self._check(health.frozen_loss, self.rows, self.players, self.config, self.name)
        self._check(health.loss_spike, self.rows)
        self._check(health.loss_above_start, self.rows, self.untrained, self.progress.untrained_spread, self.total)
        if means.get("loss", math.inf) < self.untrained:
            self._withdraw({"loss_above_start"}, "the loss is below that of the untrained model.")
        self._check(health.discriminator_wins, self.rows, self.total)

    @property
    def untrained(self) -> float:
        """The loss before training, not a number where there is none."""
        return math.nan if self.progress.untrained is None else self.progress.untrained

    @property
    def epoch(self) -> float:
        """Passes over the training data so far."""
        return self.progress.step / self.steps_per_epoch

    def _write_metrics(self, means: dict[str, float]) -> dict[str, float]:
        """A line of metrics, which is returned."""
        row = {"step": self.progress.step, "epoch": self.epoch, "seconds": round(self.progress.seconds, 3), **means}
        if self.folder is not None:  # JSON has no word for what is not finite
            written = {name: value if math.isfinite(value) else None for name, value in row.items()}
            self.progress.metrics_bytes = self.folder.append_metrics(written)
        for tracker in self.trackers:
            tracker.scalars(self.progress.step, means)
        return row

    def _check(self, check: Callable[..., str | None], *seen: Any) -> None:
        """Make a check of :mod:`ancestral.training.health`, unless what it has found stands; tell what it finds."""
        standing = [finding.get("check") for finding in self.progress.findings if "withdrawn" not in finding]
        if check.__name__ not in standing:
            message = check(*seen)
            if message is not None:
                self._tell(check.__name__, message)

    def _tell(self, check: str, message: str) -> None:
        """Note a finding, and say it to whoever listens."""
        finding: health.Finding = {
            "check": check, "step": self.progress.step, "epoch": self.epoch, "message": message
        }  # fmt: skip
        self.progress.findings.append(finding)
        self.reporter.say(f"warning: {message}")
        for tracker in self.trackers:
            tracker.text(check, message)
        self._write_findings()

    def _withdraw(self, checks: Collection[str], why: str) -> None:
        """Say that what these checks have found no longer holds."""
        for i, finding in enumerate(self.progress.findings):
            if finding.get("check") in checks and "withdrawn" not in finding:
                note = f"Withdrawn at epoch {self.epoch:.3g}: {why}"
                # A new one, for the last good state holds the old one.
                self.progress.findings[i] = {
                    **finding, "message": f"{finding['message']} {note}", "withdrawn": self.epoch
                }  # fmt: skip
                self.reporter.say(f"{finding['check']}: {note}")
                for tracker in self.trackers:
                    tracker.text(str(finding["check"]), note)
                self._write_findings()

    def _write_findings(self) -> None:
        if self.folder is not None and (self.progress.findings or self.folder.health_file.exists()):
            self.folder.write_json(self.folder.health_file.name, self.progress.findings)

    def _landmarks(self) -> None:
        """Validation, checks and pictures, where they are due. They leave the random stream as it was."""
        progress = self.progress
        due = progress.step % self.validate_every == 0 or progress.step == self.total
        if progress.step and due and progress.validated < progress.step:
            progress.validated = progress.step
            if self.validates:
                self._validate()
            self._examine()
        if progress.step in self.marks and progress.pictured < progress.step:
            progress.pictured = progress.step
            self._pictures(self.marks[progress.step])

    def _validate(self) -> None:
        progress, sums, counts = self.progress, dict[str, float](), dict[str, int]()
        with self._evaluating():
            for x, y in self.dataset.batches("validation", VALIDATION_BATCH, device=self.device):
                for name, value in self.model.validation(Batch(x, y)).items():  # type: ignore[operator]
                    count = len(value) if value.dim() else len(x)
                    if count:
                        sums[name] = sums.get(name, 0.0) + value.mean().item() * count
                        counts[name] = counts.get(name, 0) + count
            weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        means = {f"validation {name}": value / counts[name] for name, value in sums.items()}
        if "validation loss" not in means:
            raise AncestralError(
                f"none of the validation rows of {self.dataset.name} has a label, without which this model has no "
                "validation loss: give some a label, or use --validation 0."
            )
        row, epoch, loss = self._write_metrics(means), self.epoch, means["validation loss"]
        if health.is_row(row):
            self.validations.append(row)
        self._check(health.validation_not_finite, loss, epoch, self.dataset)
        self._check(health.overfitting, self.rows, self.validations, self.config, self.untrained)
        if not math.isfinite(loss) or (progress.best is not None and loss >= progress.best):
            progress.without_improvement += 1
        else:
            if progress.best is not None:
                why = f"the validation loss has since been lower than ever, {loss:.4g}."
                self._withdraw(("overfitting", "loss_spike"), why)
            progress.best, progress.best_epoch, progress.without_improvement = loss, epoch, 0
            self.best_weights = weights
        if self.config.patience and progress.without_improvement >= self.config.patience:
            best = (
                "none was finite"
                if progress.best is None
                else f"{progress.best:.4g} nats at epoch {progress.best_epoch:g}"
            )
            progress.finished = (
                f"stopped early at epoch {epoch:g}: {progress.without_improvement} validations without improvement "
                "on the "
                f"best validation loss ({best})"
            )

    def _examine(self) -> None:
        """Whether the model learns at all, and uses its latent variables."""
        parts, then = self.good
        updates = self.progress.step - then.step
        self._only(None)
        if learning_rate(self.config, 1.0, self.epoch) > 0.01:  # where the schedule does not ask for it
            before = parts["model"]
            self._check(
                health.frozen_weights, self.model, self.players, before, updates, self.config, self.name
            )  # fmt: skip
        # Before half of training is over, much may still change.
        begun = self.progress.step >= max(health.BEGUN, self.total / 2)
        if isinstance(self.model, LatentVariableModel) and begun:
            split: SplitName = "validation" if len(self.dataset.validation) else "train"
            batches = self.dataset.batches(split, VALIDATION_BATCH, shuffle=False, device=self.device)
            with self._evaluating():
                self._check(
                    health.posterior_collapse, self.model, islice(batches, 1), self.rows, self.name
                )  # fmt: skip

    def _pictures(self, part: float) -> None:
        if self.progress.step >= health.BEGUN_GAME and len(self.players) > 1 and isinstance(self.model, CanSample):
            x, _ = next(self.dataset.batches("train", EXAMINED, seed=self.config.seed))
            with contextlib.suppress(AncestralError), self._evaluating():  # it may need what it is not given
                self._check(health.mode_collapse, self.model.sample(len(x)), x, self.progress.step == self.total)
        if self.folder is None or not isinstance(self.model, CanSample):
            return
        name = f"{round(100 * part):03d}-percent"
        shape = self.dataset.description.shape
        if len(shape) != 3 or shape[0] not in (1, 3):
            return
        pictures = {}
        try:
            with self._evaluating():
                pictures[f"samples-{name}"] = grid(sampled(self.model, 64)[0])
                if isinstance(self.model, CanReconstruct) and part > 0:
                    split: SplitName = "validation" if len(self.dataset.validation) else "train"
                    count = min(32, len(getattr(self.dataset, split)))
                    x, y = next(iter(self.dataset.batches(split, count, shuffle=False, device=self.device)))
                    pictures[f"reconstructions-{name}"] = grid(pairs(x, reconstructed(self.model, x, y)[0]), 8)
        except AncestralError as error:  # a model that can't be drawn from like this can be trained all the same
            self.reporter.say(f"a picture is missing: {error}")
        for title, picture in pictures.items():
            save_picture(picture, self.folder.samples / f"{title}.png")
            for tracker in self.trackers:
                tracker.image(self.progress.step, title.rsplit("-", 2)[0], picture)

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Evaluation mode, averaged weights if there are any, no gradients, and a random stream of its own."""
        training = self.model.training
        current = None
        if self.average:
            current = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            self.model.load_state_dict(self.average.weights)
        try:
            with torch.no_grad(), torch.random.fork_rng():
                torch.manual_seed(self.config.seed)
                self.model.eval()
                yield
        finally:
            self.model.train(training)
            if current is not None:
                self.model.load_state_dict(current)

    # ---- the checkpoint

    def save(self) -> None:
        """Keep the state, and write ``best`` and then ``last``: whatever moment the machine dies at, one whole remains.

        Raises:
            AncestralError: training has diverged (nothing is written then), or the disk can't be written.
        """
        parts, progress = self.good = self._state()
        if self.folder is None:
            return
        if self.best_weights is not None:
            state = {"epoch": self.progress.best_epoch, "validation_loss": self.progress.best}
            write_checkpoint(self.folder.checkpoint("best"), {"model": self.best_weights}, state)
            self.best_weights = None
        self.folder.keep_metrics()
        write_checkpoint(self.folder.checkpoint("last"), parts, asdict(progress))

    def _state(self) -> tuple[dict[str, dict[str, Tensor]], Progress]:
        """All that training goes on from, copied, on the CPU: tensors by part, and the progress.

        Raises:
            NotFiniteError: a sum of losses, a weight or the state of an optimizer is not finite.
        """
        random = {"cpu": torch.get_rng_state()}
        if self.device.startswith("cuda"):
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        optimizers: dict[str, Tensor] = {}
        for player, optimizer in zip(self.players, self.optimizers, strict=True):
            optimizers |= optimizer_tensors(player.name, optimizer)
        parts = {"model": self.model.state_dict(), "optimizer": optimizers, "random": random}
        if self.average:
            parts["average"] = self.average.weights
        copies = {
            part: {name: value.detach().to("cpu", copy=True) for name, value in tensors.items()}
            for part, tensors in parts.items()
        }
        # Buffers may hold infinities that are meant, such as the mask of an attention.
        learnable = {id(parameter) for parameter in self.learnable}
        weights = {n: copies["model"][n] for n, weight in self.model.named_parameters() if id(weight) in learnable}
        health.require_finite({**self.sums, **weights, **copies["optimizer"]}, self.progress.step)
        return copies, replace(
            self.progress,
            sums={name: value.item() for name, value in self.sums.items()},
            counts=dict(self.counts),
            average_updates=self.average.updates if self.average else 0,
            findings=list(self.progress.findings),
        )

    def _load(self, parts: dict[str, dict[str, Tensor]], progress: Progress) -> None:
        """Put everything where :meth:`_state` found it."""
        self.progress = progress
        self.model.load_state_dict(parts["model"])
        for player, optimizer in zip(self.players, self.optimizers, strict=True):
            optimizer.state.clear()
            if progress.step:
                restore_optimizer(player.name, optimizer, parts["optimizer"])
        if self.average:
            self.average.updates = progress.average_updates
            self.average.weights = {name: value.to(self.device) for name, value in parts["average"].items()}
        sums = progress.sums.items()
        self.sums = {name: torch.tensor(value, dtype=self.sum_type, device=self.device) for name, value in sums}
        self.counts = dict(progress.counts)
        torch.set_rng_state(parts["random"]["cpu"])
        if "cuda" in parts["random"] and self.device.startswith("cuda"):
            torch.cuda.set_rng_state(parts["random"]["cuda"], self.device)

    def _roll_back(self) -> None:
        """Training has diverged: say where it began, return to the last good state, and halve the learning rate.

        Raises:
            AncestralError: it had diverged before. The last good state is saved.
        """
        until = self.progress.step
        self._load(*copy.deepcopy(self.good))
        first, step = self._first_not_finite(until)
        self._load(*copy.deepcopy(self.good))
        progress, config = self.progress, self.config
        self.best_weights = None
        self.rows = [row for row in self.rows if row["step"] <= progress.step]
        self.validations = [row for row in self.validations if row["step"] <= progress.step]
        if self.folder is not None:
            self.folder.cut_metrics(progress.metrics_bytes, self.reporter.say)
        rate = config.learning_rate * 0.5**progress.retries
        half = config.precision == "bfloat16"
        what = f"in step {step:,}, {first} is the first tensor that is not finite"
        cure = f"a --learning-rate below {rate / 2:g}, with --learning-rate-warmup 1, or with --gradient-clip 1"
        if progress.retries:
            self.save()
            where = "" if self.folder is None else f", and is saved in {self.folder.path}"
            raise AncestralError(
                f"training diverged again at the learning rate {rate:g}, as it had at {2 * rate:g}: {what}. The state "
                f"of step {progress.step:,} is the last good one{where}. Train anew with {cure}"
                + (", and with --precision float32." if half else ".")
            )
        progress.retries += 1
        self._tell(
            "not_finite",
            f"training diverged: {what}. It goes on from step {progress.step:,} with half the learning rate, "
            f"{rate / 2:g}{', in float32 instead of bfloat16' if half else ''}. If that fails too, use {cure}.",
        )
        self.save()

    def _first_not_finite(self, until: int) -> tuple[str, int]:
        """Do the last steps again, now watched: the first tensor that is not finite, and the step it is in.

        Only those since the last line of metrics, whose losses were finite, can have been bad.
        """
        watch, players, programs = health.Watch(), self.players, self.compiled
        line = (until - 1) // self.log_every * self.log_every
        self._replay(line - 1, None)
        self.players, self.compiled = [watch.player(player) for player in players], {}
        self._only(None)
        try:
            with watch.modules(self.model):
                self._replay(until, watch)
        finally:
            self.players, self.compiled = players, programs
            self._only(None)
        return watch.first or "something that was finite when the steps were done again", self.progress.step

    def _replay(self, until: int, watch: health.Watch | None) -> None:
        """Do steps again, without a word, up to some step or until the watch has seen something."""
        for batch in self._batches():
            if self.progress.step >= until or (watch is not None and watch.first):
                break
            self._step(batch)
            self.progress.step += 1
            if watch is not None:
                watch.state(self.model, self.optimizers)

    def restore(self) -> None:
        """Load the last checkpoint: training then goes on exactly as if it had never stopped.

        Raises:
            AncestralError: there is no whole checkpoint, or it is not one of this run.
        """
        if self.folder is None:
            raise AncestralError("there is no run folder to continue from.")
        place = self.folder.checkpoint("last")
        optimizers: dict[str, Tensor] = {}
        for player, optimizer in zip(self.players, self.optimizers, strict=True):
            optimizers |= optimizer_like(player.name, optimizer)
        random = {"cpu": torch.get_rng_state(), "cuda": torch.empty(16, dtype=torch.uint8)}
        like = {"model": self.model.state_dict(), "optimizer": optimizers, "random": random}
        if self.average:
            like["average"] = self.average.weights
        parts, state = read_checkpoint(place, like=like, tell=self.reporter.say)
        progress = read_state(Progress, state, place)
        if not 0 <= progress.step <= self.total:
            raise AncestralError(
                f"the checkpoint {place} does not fit this run: it is of step {progress.step:,}, but the run has "
                f"{self.total:,} by the settings in config.toml."
            )
        step, none = float(progress.step), -1.0  # before the first validation, and the first pictures
        ranges = {
            "seconds": (0.0, math.inf), "best_epoch": (0.0, step), "without_improvement": (0.0, step),
            "validated": (none, step), "pictured": (none, step), "metrics_bytes": (0.0, math.inf),
            "average_updates": (0.0, step), "counts": (1.0, step), "retries": (0.0, 1.0),
        }  # fmt: skip
        check_ranges(progress, ranges, place)
        if not all(map(health.is_finding, progress.findings)):
            raise AncestralError(
                f"the checkpoint {place} does not fit this run: in state.json a finding is not as it was written. "
                "Restore the folder from a copy, or train again."
            )
        if sorted(progress.sums) != sorted(progress.counts) or "cpu" not in parts["random"]:
            raise AncestralError(
                f"the checkpoint {place} is not whole: it lacks the random state of the CPU, or the sums behind the "
                "next line of metrics. Restore the folder from a copy, or train again."
            )
        check_random_state(parts["random"]["cpu"], place)
        for part in ("average", "model"):  # the average too, to see that it fits
            if part in parts:
                load_weights(self.model, parts[part], place)
        self._load(parts, progress)
        self.folder.cut_metrics(progress.metrics_bytes, self.reporter.say)
        rows = [row for row in self.folder.metrics() if health.is_row(row)]
        self.rows = [row for row in rows if "validation loss" not in row]
        self.validations = [row for row in rows if "validation loss" in row]
        self._write_findings()


def _clear_gradients(player: Player) -> None:
    """What ``optimizer.zero_grad()`` does, without its hooks."""
    for parameter in player.parameters:
        parameter.grad = None


def check_reaches_players(name: str, loss: Tensor, model: nn.Module) -> None:
    """Raise if the loss depends on a parameter that the model does not own: it would silently never be trained."""
    owned = {id(parameter) for parameter in model.parameters()}
    stack, seen = [loss.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if isinstance(variable, Tensor) and id(variable) not in owned:
            raise AncestralError(
                f"the loss of {name} depends on a parameter of shape {tuple(variable.shape)} that the model does not "
                "own, "
                "so it would never be trained. Pass its network to the Joint as a module, not hidden inside a lambda."
            )
        stack.extend(following for following, _ in node.next_functions)


class _Interruptions:
    """Whether Ctrl-C (or a request to terminate) has come."""

    def __init__(self) -> None:
        self.seen = False

    def __bool__(self) -> bool:
        return self.seen

    def note(self, number: int, frame: object) -> None:
        if self.seen:  # a second Ctrl-C does not wait
            raise KeyboardInterrupt
        self.seen = True


@contextlib.contextmanager
def _interruptions() -> Iterator[_Interruptions]:
    """Let the step in hand finish on Ctrl-C, so that what is saved is whole."""
    interruptions = _Interruptions()
    if threading.current_thread() is not threading.main_thread():
        yield interruptions
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, interruptions.note) for number in numbers]
    try:
        yield interruptions
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

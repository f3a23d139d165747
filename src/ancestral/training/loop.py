"""The training loop: players take turns on batches whose order is a function of seed and epoch alone."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ancestral.configs import TrainingConfig
from ancestral.data import Dataset
from ancestral.data.dataset import SplitName
from ancestral.errors import AncestralError
from ancestral.models.contract import (
    Batch,
    CanCheck,
    CanInitialize,
    CanReconstruct,
    CanSample,
    CanValidate,
    Model,
    Player,
)
from ancestral.training.checkpoint import (
    load_weights,
    optimizer_tensors,
    read_checkpoint,
    restore_optimizer,
    write_checkpoint,
)
from ancestral.training.folder import RunFolder
from ancestral.training.optimization import MovingAverage, keep_freed_memory, learning_rate, make_optimizer
from ancestral.training.pictures import grid, pairs, save_picture
from ancestral.training.progress import Reporter, Silent
from ancestral.training.trackers import Tracker

PICTURES_AT = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Parts of training after which pictures are made."""
INITIAL_ROWS, INITIAL_NUMBERS = 10_000, 2**25
"""How many training rows, and how many numbers in them, the model's start is computed from at most."""
VALIDATION_BATCH = 500


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
    ) -> None:
        if not isinstance(model, Model):
            raise AncestralError(
                f"a {type(model).__name__} can't be trained: it has no players(). See ancestral.models.contract.Model."
            )
        if len(dataset.train) == 0:
            raise AncestralError(f"{dataset.name} has no training rows.")
        self.device = choose_device(config.device)
        self.model, self.dataset, self.config, self.folder = model.to(self.device), dataset, config, folder
        self.reporter = reporter or Silent()
        self.trackers = trackers
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
        self.average = MovingAverage(self.model, config.ema) if config.ema else None
        self.best_weights: dict[str, Tensor] | None = None
        self.progress = Progress()
        self.steps_per_epoch = math.ceil(len(dataset.train) / config.batch_size)
        self.total = self.steps_per_epoch * config.epochs
        self.log_every = max(1, min(self.steps_per_epoch, self.total // 500))
        self.validate_every = self.steps_per_epoch * (config.validate_every or max(1, config.epochs // 50))
        self.marks = {math.ceil(part * self.total): part for part in PICTURES_AT}
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.started = False

    # ---- the loop

    def run(self) -> Progress:
        """Train. Continues from the state that :meth:`restore` loaded, or starts.

        Raises:
            AncestralError: the first batch breaks the model's contract, or a loss is not finite.
        """
        progress, config, end = self.progress, self.config, "failed"
        threads = torch.get_num_threads()
        if self.device == "cpu":
            keep_freed_memory()
            if config.threads:
                torch.set_num_threads(config.threads)
        if progress.step == 0 and not self.started:
            self.start()
        self.reporter.begin(self.total, progress.step)
        started, before = time.monotonic(), progress.seconds
        saved = time.monotonic()
        for tracker in self.trackers:
            tracker.start(asdict(config))
        try:
            with _interruptions() as interrupted:
                self.model.train()
                self._landmarks()
                while progress.step < self.total and not progress.finished:
                    epoch, start = divmod(progress.step, self.steps_per_epoch)
                    for x, y in self.dataset.batches(
                        "train", config.batch_size, seed=config.seed, epoch=epoch, start=start, device=self.device
                    ):
                        self._step(Batch(x, y, progress.step / self.steps_per_epoch))
                        progress.step += 1
                        progress.seconds = before + time.monotonic() - started
                        if progress.step % self.log_every == 0 or progress.step == self.total:
                            self._log()
                        self._landmarks()
                        if interrupted or progress.finished:
                            break
                        if time.monotonic() - saved > config.checkpoint_seconds:
                            self.save()
                            saved = time.monotonic()
                    if interrupted:
                        break
                if progress.step >= self.total and not progress.finished:
                    progress.finished = f"all {config.epochs} epochs done"
                self.save()
            end = progress.finished or "interrupted"
        finally:
            self._only(None)
            self.reporter.end()
            torch.set_num_threads(threads)
            for tracker in self.trackers:
                tracker.text("end", end)
                tracker.finish()
        return progress

    def start(self) -> None:
        """Check the first batch before any time is spent, then set the model's start from data."""
        model = self.model
        x, y = next(self.dataset.batches("train", self.config.batch_size, seed=self.config.seed, device=self.device))
        batch = Batch(x, y)
        with torch.random.fork_rng():
            if isinstance(model, CanCheck):
                model.check(batch)
            for player in self.players:
                check_reaches_players(player.name, player.loss(batch)["loss"], model)
        if isinstance(model, CanInitialize):
            rows = max(1, min(INITIAL_ROWS, INITIAL_NUMBERS // x[0].numel()))
            x, _ = next(self.dataset.batches("train", rows, seed=self.config.seed, device=self.device))
            model.initialize(x)
        if self.average:
            self.average = MovingAverage(model, self.config.ema)

    def _step(self, batch: Batch) -> None:
        """Every player whose turn it is makes one update."""
        for player, optimizer in zip(self.players, self.optimizers, strict=True):
            if self.progress.step % player.every:
                continue
            if len(self.players) > 1:
                self._only(player)
            rate = learning_rate(self.config, player.learning_rate or self.config.learning_rate, batch.epoch)
            for group in optimizer.param_groups:
                group["lr"] = rate
            if self.config.precision == "bfloat16":
                with torch.autocast(self.device.split(":")[0], torch.bfloat16):
                    scalars = player.loss(batch)
            else:
                scalars = player.loss(batch)
            scalars["loss"].backward()  # type: ignore[no-untyped-call]
            if self.config.gradient_clip:
                nn.utils.clip_grad_norm_(player.parameters, self.config.gradient_clip)
            optimizer.step()
            optimizer.zero_grad()
            prefix = f"{player.name} " if len(self.players) > 1 else ""
            for name, value in scalars.items():
                name, value = prefix + name, value.detach()
                self.sums[name] = self.sums[name] + value if name in self.sums else value
                self.counts[name] = self.counts.get(name, 0) + 1
        if self.average:
            self.average.update(self.model)

    def _only(self, player: Player | None) -> None:
        """Let only this player's weights have gradients (None: everyone's); the others' would cost time for nothing."""
        own = None if player is None else {id(parameter) for parameter in player.parameters}
        for parameter in self.learnable:  # what its owner has frozen stays so
            parameter.requires_grad_(own is None or id(parameter) in own)

    # ---- what is seen of it

    def _means(self) -> dict[str, float]:
        """The named scalars since the last line of metrics, which must be finite."""
        means = {name: value.item() / self.counts[name] for name, value in self.sums.items()}
        for name, value in means.items():
            if not math.isfinite(value):
                raise AncestralError(
                    f"training diverged by step {self.progress.step}: {name} is {value}. The last checkpoint is as "
                    "it was. "
                    f"Train again with a lower --learning-rate (now {self.config.learning_rate:g}) or with "
                    "--gradient-clip 1."
                )
        return means

    def _log(self) -> None:
        means, progress = self._means(), self.progress
        self.sums, self.counts = {}, {}
        epoch = progress.step / self.steps_per_epoch
        self._write_metrics({"step": progress.step, "epoch": epoch, "seconds": round(progress.seconds, 3), **means})
        self.reporter.update(progress.step, epoch, means)
        for tracker in self.trackers:
            tracker.scalars(progress.step, means)

    def _write_metrics(self, row: dict[str, Any]) -> None:
        if self.folder is None:
            return
        with self.folder.metrics_file.open("ab") as file:
            file.write((json.dumps(row) + "\n").encode())
            self.progress.metrics_bytes = file.tell()

    def _landmarks(self) -> None:
        """Validation and pictures, where they are due. They leave the random stream as it was."""
        progress = self.progress
        due = progress.step % self.validate_every == 0 or progress.step == self.total
        if self.validates and progress.step and due and progress.validated < progress.step:
            progress.validated = progress.step
            self._validate()
        if progress.step in self.marks and progress.pictured < progress.step:
            progress.pictured = progress.step
            self._pictures(self.marks[progress.step])

    def _validate(self) -> None:
        progress, sums, rows = self.progress, dict[str, float](), 0
        with self._evaluating():
            for x, y in self.dataset.batches("validation", VALIDATION_BATCH, device=self.device):
                for name, value in self.model.validation(Batch(x, y)).items():  # type: ignore[operator]
                    sums[name] = sums.get(name, 0.0) + value.item() * len(x)
                rows += len(x)
            weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        means = {f"validation {name}": value / rows for name, value in sums.items()}
        epoch = progress.step / self.steps_per_epoch
        self._write_metrics({"step": progress.step, "epoch": epoch, "seconds": round(progress.seconds, 3), **means})
        for tracker in self.trackers:
            tracker.scalars(progress.step, means)
        loss = means["validation loss"]
        if not math.isfinite(loss) or (progress.best is not None and loss >= progress.best):
            progress.without_improvement += 1
        else:
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

    def _pictures(self, part: float) -> None:
        if self.folder is None or not isinstance(self.model, CanSample):
            return
        name = f"{round(100 * part):03d}-percent"
        shape = self.dataset.description.shape
        if len(shape) != 3 or shape[0] not in (1, 3):
            return
        pictures = {}
        try:
            with self._evaluating():
                pictures[f"samples-{name}"] = grid(self.model.sample(64, mean=True))
                if isinstance(self.model, CanReconstruct) and part > 0:
                    split: SplitName = "validation" if len(self.dataset.validation) else "train"
                    count = min(32, len(getattr(self.dataset, split)))
                    x, y = next(iter(self.dataset.batches(split, count, shuffle=False, device=self.device)))
                    pictures[f"reconstructions-{name}"] = grid(pairs(x, self.model.reconstruct(x, y=y)), 8)
        except AncestralError as error:  # a model without means can be trained all the same
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
        """Write ``best`` and then ``last``, so that whatever moment the machine dies at, one whole state remains.

        Raises:
            AncestralError: training has diverged (nothing is written then), or the disk can't be written.
        """
        if self.folder is None:
            return
        self._means()
        if self.best_weights is not None:
            state = {"epoch": self.progress.best_epoch, "validation_loss": self.progress.best}
            write_checkpoint(self.folder.checkpoint("best"), {"model": self.best_weights}, state)
            self.best_weights = None
        self.progress.sums = {name: value.item() for name, value in self.sums.items()}
        self.progress.counts = dict(self.counts)
        random = {"cpu": torch.get_rng_state()}
        if self.device.startswith("cuda"):
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        optimizers: dict[str, Tensor] = {}
        for player, optimizer in zip(self.players, self.optimizers, strict=True):
            optimizers |= optimizer_tensors(player.name, optimizer)
        parts = {"model": self.model.state_dict(), "optimizer": optimizers, "random": random}
        if self.average:
            self.progress.average_updates = self.average.updates
            parts["average"] = self.average.weights
        write_checkpoint(self.folder.checkpoint("last"), parts, asdict(self.progress))

    def restore(self) -> None:
        """Load the last checkpoint: training then goes on exactly as if it had never stopped."""
        if self.folder is None:
            raise AncestralError("there is no run folder to continue from.")
        place = self.folder.checkpoint("last")
        parts, state = read_checkpoint(place)
        load_weights(self.model, parts["model"], place)
        for player, optimizer in zip(self.players, self.optimizers, strict=True):
            restore_optimizer(player.name, optimizer, parts["optimizer"])
        known = Progress.__dataclass_fields__
        self.progress = Progress(**{name: value for name, value in state.items() if name in known})
        if self.average:
            self.average.updates = self.progress.average_updates
            self.average.weights = {name: value.to(self.device) for name, value in parts["average"].items()}
        self.sums = {name: torch.tensor(value, device=self.device) for name, value in self.progress.sums.items()}
        self.counts = dict(self.progress.counts)
        torch.set_rng_state(parts["random"]["cpu"])
        if "cuda" in parts["random"] and self.device.startswith("cuda"):
            torch.cuda.set_rng_state(parts["random"]["cuda"], self.device)
        if self.folder.metrics_file.exists():
            with self.folder.metrics_file.open("rb+") as file:  # rows written after the checkpoint will come again
                file.truncate(self.progress.metrics_bytes)


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

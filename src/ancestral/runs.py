"""Runs: train a model, find it again, use it. The same from Python and from the command line."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import numbers
import os
import platform
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

import ancestral.data
from ancestral.configs import MODELS, DataConfig, DataDescription, ModelConfig, TrainingConfig
from ancestral.data import Dataset, named_sets
from ancestral.data.dataset import SPLITS
from ancestral.distributions.support import MAXIMAL_SUPPORT
from ancestral.errors import AncestralError, memory_ran_out, nearest
from ancestral.evaluation import (
    Figure,
    active_units,
    amortization_gap,
    classification,
    effective_sample_size,
    evaluate,
    information,
    out_of_distribution,
)
from ancestral.models import BUILDERS, LatentVariableModel
from ancestral.models.contract import CanClassify, CanValidate
from ancestral.networks.processor import multiplies_bfloat16
from ancestral.training import RunFolder, Training
from ancestral.training.checkpoint import check_stored_weights, has_checkpoint, load_weights, read_checkpoint
from ancestral.training.folder import write_atomically
from ancestral.training.loop import choose_device
from ancestral.training.progress import Lines, Reporter, Silent
from ancestral.training.trackers import Tracker, check_trackers, make_tracker

OWN = "own"
"""The name in config.toml of a model that is the user's own."""
MOST_LAYERS = 1000
"""The most layers of a network that config.toml may ask for: each takes memory before its weights are looked for."""
GAP_ROWS = 100
"""Rows whose posteriors are optimized one by one, where no number is given."""

Settings = TypeVar("Settings", DataConfig, TrainingConfig, DataDescription, Any)


class Run:
    """A trained model with its data, settings and folder.

    ``run.model`` has the model's own methods: ``sample``, ``log_prob``, ``encode``, ``decode``, ``reconstruct``.
    """

    def __init__(
        self,
        folder: RunFolder,
        model: nn.Module,
        config: dict[str, Any],
        which: str,
        data: Dataset | None = None,
        notes: Sequence[str] = (),
        digest: str = "",
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.path = folder.path
        self.model = model
        self.config = config
        self.which = which
        """The checkpoint the weights come from: ``best`` or ``last``."""
        self.notes = list(notes)
        """What was wrong with the folder, such as a damaged checkpoint in whose place the one before was taken."""
        self.digest = digest
        """SHA-256 of the file of weights; empty where they were not read from one."""
        self._data, self._state = data, state or {}

    @property
    def epoch(self) -> float:
        """Passes over the training rows after which the weights were kept.

        Raises:
            AncestralError: the checkpoint does not say it.
        """
        name = "epoch" if self.which == "best" else "step"
        value = self._state.get(name)
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise AncestralError(f"{self.folder.checkpoint(self.which)} has {name} {value!r}, but must have a number.")
        size = self.config["training"]["batch_size"]
        return float(value) if name == "epoch" else value / math.ceil(len(self.data.train) / size)

    @cached_property
    def data(self) -> Dataset:
        """The data it was trained on, prepared as it was.

        Raises:
            AncestralError: they can't be found, or are not those it was trained on.
        """
        if self._data is not None:
            return self._data
        return reload_data(self.config, self.folder)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        return list(self.folder.metrics())

    def evaluate(
        self,
        particles: int = 100,
        split: str = "test",
        gaps: bool = False,
        against: str | Dataset | None = None,
        progress_beside: Callable[[str, int, int], None] | None = None,
        keep: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> list[Figure]:
        """Bounds of log p(x), what the latent variables carry, and how good a classifier is on held-out data.

        See :func:`ancestral.evaluation.evaluate`; and of other rows than its first ``limit``
        :func:`ancestral.evaluation.active_units`, :func:`ancestral.evaluation.information`,
        :func:`ancestral.evaluation.effective_sample_size` and :func:`ancestral.evaluation.classification`.

        Args:
            gaps: also what the bound loses by the family of q and by its encoder, of 100 rows or of ``limit``: see
                :func:`ancestral.evaluation.amortization_gap`.
            against: other data, or their name, that the model should find less likely: see
                :func:`ancestral.evaluation.out_of_distribution`.
            progress_beside: of the gaps and of the scores against other data: called with which of the two ("gaps",
                "scores"), the steps of optimization or rows done, and those in all.
            keep: the beginning of the names of files in which unfinished work is kept, so that the same call continues
                it after an interruption. None keeps nothing.
        """
        if split not in SPLITS:
            raise AncestralError(f"there is no split {split!r}. " + nearest(split, SPLITS))
        chosen = {name: options[name] for name in ("limit", "seed") if name in options}
        seed = chosen.get("seed", 0)

        def heard(which: str) -> Callable[[int, int], None] | None:
            return progress_beside and functools.partial(progress_beside, which)

        others: list[Figure] = []  # first, being short: an interruption or an error then costs no likelihood
        if isinstance(self.model, LatentVariableModel):
            others += active_units(self.model, self.data, split)
            others += information(self.model, self.data, split, seed)
            inferred = self.model.latents() and self.model.q is not self.model.p
            if inferred and particles > 1 and "iwae" in options.get("likelihood", "iwae"):
                others.append(effective_sample_size(self.model, self.data, particles, split, seed))
        if isinstance(self.model, CanClassify):
            others += classification(self.model, self.data, split, seed)
        if gaps:
            rows = chosen.get("limit", 0) or GAP_ROWS
            others += amortization_gap(
                self.model, self.data, rows, split=split, seed=seed, progress=heard("gaps"), keep=keep
            )
        if against is not None:
            other = against if isinstance(against, Dataset) else self._prepared_alike(against)
            others += out_of_distribution(self.model, self.data, other, split, progress=heard("scores"), **chosen)
        if isinstance(self.model, CanClassify) and not isinstance(self.model, LatentVariableModel):
            return others
        return [*evaluate(self.model, self.data, particles, split, keep=keep, **options), *others]

    def _prepared_alike(self, name: str) -> Dataset:
        """Other data, as the run's are prepared."""
        config = self.data.config
        return ancestral.data.load(
            name,
            DataConfig(
                binarization=config.binarization, dequantize=config.dequantize, validation=config.validation,
                test=config.test, split_seed=config.split_seed,
            ),
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {self.config['model']} on {self.config['data']}, {self.which} weights)"


def train(
    model: str | nn.Module,
    data: str | os.PathLike[str] | Dataset,
    *,
    out: str | os.PathLike[str] | None = None,
    reporter: Reporter | None = None,
    own_trackers: Sequence[Tracker] = (),
    **settings: Any,
) -> Run:
    """Train a model and return its run.

    Args:
        model: a name (``"vae"``, ``"gan"``, ``"sbn"``, ...: :data:`ancestral.configs.MODELS`), or a model of your own,
            such as a ``LatentVariableModel``.
        data: the name of a set, the path of your own file or folder, or a ``Dataset``.
        out: the run folder; by default a new one under ``runs/``.
        reporter: hears of the progress; by default nobody does.
        own_trackers: trackers of your own, beside those named in the setting ``trackers``; see
            :class:`ancestral.training.trackers.Tracker`.
        **settings: fields of the model's config (named models), ``DataConfig`` and ``TrainingConfig``.

    Raises:
        AncestralError: unknown model, data or setting, or data that do not suit the model.
    """
    if isinstance(model, str) and model not in MODELS:
        raise AncestralError(
            f"there is no model {model!r}. " + nearest(model, MODELS) + " Or give a LatentVariableModel of your own."
        )
    name = model if isinstance(model, str) else OWN
    kinds: list[type] = [*([MODELS[name][0]] if name in MODELS else []), DataConfig, TrainingConfig]
    fields = {field.name: kind for kind in kinds for field in dataclasses.fields(kind)}
    for key in settings:
        if key not in fields:
            raise AncestralError(f"there is no setting {key!r} for {name}. " + nearest(key, fields))
    chosen = {kind: {key: value for key, value in settings.items() if fields[key] is kind} for kind in kinds}
    for kind, values in chosen.items():
        check_types(kind, values, name)
    training = dataclasses.replace(
        MODELS[name][1] if name in MODELS else TrainingConfig(), **plain(TrainingConfig, chosen[TrainingConfig])
    )
    data_config = DataConfig(**plain(DataConfig, chosen[DataConfig]))
    model_config = MODELS[name][0](**plain(kinds[0], chosen[kinds[0]])) if name in MODELS else None
    return fit(
        model if isinstance(model, nn.Module) else name,
        data,
        model_config,
        data_config,
        training,
        out,
        reporter,
        own_trackers,
    )


def fit(
    model: str | nn.Module,
    data: str | os.PathLike[str] | Dataset,
    model_config: ModelConfig | None,
    data_config: DataConfig,
    training: TrainingConfig,
    out: str | os.PathLike[str] | None = None,
    reporter: Reporter | None = None,
    own_trackers: Sequence[Tracker] = (),
) -> Run:
    """:func:`train` with its settings in three dataclasses."""
    reporter = reporter or Silent()
    if out is not None:
        RunFolder(out).check_free()
    given = data if isinstance(data, Dataset) else None
    if given is not None and data_config != DataConfig():
        raise AncestralError(
            "settings of the data have no effect on a Dataset, which is split and prepared already: give them to "
            "ancestral.data.load, or pass the name or path of the data instead."
        )
    validates = isinstance(model, CanValidate) if model_config is None else model_config.validates
    if given is None and not validates and data_config.validation == DataConfig.validation:
        # By default no rows are kept from a model that has no use for them.
        data_config = dataclasses.replace(data_config, validation=0.0)
    dataset = given if given is not None else ancestral.data.load(os.fspath(data), data_config)  # type: ignore[arg-type]
    name = model if isinstance(model, str) else OWN
    learns_from_few = not isinstance(model, str) or getattr(model_config, "few_labels", False)
    if dataset.config.labels and not learns_from_few:
        raise AncestralError(
            f"labels is {dataset.config.labels}, which has no effect: {model} does not learn from labels that are "
            "few. Use m2, or leave --labels out."
        )
    if data_config.labels_per_batch != DataConfig.labels_per_batch and not learns_from_few:
        raise AncestralError(
            f"labels_per_batch is {data_config.labels_per_batch}, which has no effect: {model} does not learn from "
            "labels that are few. Use m2, or leave --labels-per-batch out."
        )
    if model_config is not None:
        asked = dataset.requested if given is not None else data_config
        raw = dataset.prepared(binarization="none", dequantize="no").description
        model_config, data_config = model_config.resolve(asked, raw, dataset.usual_binarization)
        dataset = dataset.prepared(data_config.binarization, data_config.dequantize)
    data_config = dataset.config
    torch_state = torch.get_rng_state()
    try:
        torch.manual_seed(training.seed)
        network = model if isinstance(model, nn.Module) else BUILDERS[name](model_config, dataset.description)
        config: dict[str, Any] = {
            "model": name,
            "data": dataset.source or dataset.name,
            "in_memory": not dataset.source,
            "settings": dataclasses.asdict(model_config) if model_config is not None else {},
            "data_settings": dataclasses.asdict(data_config),
            "training": dataclasses.asdict(training),
            "description": dataclasses.asdict(dataset.description),
        }
        _check_memory(config, dataset, training)
        trainer = Training(network, dataset, training, reporter=reporter, name=name)
        if training.validate_every and not trainer.validates:
            why = f"{dataset.name} has no validation rows" if validates else "this model has no validation loss"
            raise AncestralError(f"validate_every has no effect: {why}. Use --validate-every 0.")
        _announce(reporter, name, network, dataset)
        if training.precision == "bfloat16" and trainer.device == "cpu" and not multiplies_bfloat16():
            reporter.say("this processor has no instructions for bfloat16, which makes it slower: --precision float32.")
        with _within_memory():
            trainer.start()
        check_trackers(training.trackers)
        folder = trainer.folder = RunFolder(out if out is not None else _new_place(name, dataset.name))
        with folder.lock():
            folder.create(config)
            folder.write_json("environment.json", environment(dataset))
            trainer.trackers = [*(make_tracker(name, folder.path) for name in training.trackers), *own_trackers]
            try:
                return _finish(trainer, folder, config, dataset, reporter)
            except AncestralError:
                if not has_checkpoint(folder.checkpoint("last")):  # what can't be trained leaves nothing behind
                    folder.remove()
                raise
    finally:
        torch.set_rng_state(torch_state)


def resume(
    path: str | os.PathLike[str],
    model: nn.Module | None = None,
    data: Dataset | None = None,
    reporter: Reporter | None = None,
    device: str | None = None,
    own_trackers: Sequence[Tracker] = (),
) -> Run:
    """Continue an interrupted run; on the CPU the result is bit-identical to never having stopped.

    Args:
        path: the run folder.
        model: needed if the run's model is your own: build it as you did for training.
        data: needed if you trained on a ``Dataset`` made in memory.
        device: where to continue; by default where the run began.
        own_trackers: trackers of your own.

    Raises:
        AncestralError: no run folder, another process training in it, a damaged checkpoint, or data that have changed.
    """
    reporter = reporter or Silent()
    folder = RunFolder(path)
    config = folder.config()
    training = parse(TrainingConfig, config["training"], folder.config_file)
    check_trackers(training.trackers)
    if device is not None:
        training = dataclasses.replace(training, device=device)
    torch_state = torch.get_rng_state()
    try:
        with folder.lock():
            if data is None and not config.get("in_memory"):
                reporter.say(f"data: {config['data']}, as {folder.config_file} says")
            dataset = reload_data(config, folder) if data is None else check_data(data, config, folder)
            if not folder.environment():
                if has_checkpoint(folder.checkpoint("last")):
                    reporter.say(
                        f"{folder.path} has no environment.json, so that nothing tells whether the data are as they "
                        "were; it is written anew."
                    )
                folder.write_json("environment.json", environment(dataset))
            torch.manual_seed(training.seed)
            network = _build(config, folder, model)
            _check_memory(config, dataset, training)
            trainer = Training(network, dataset, training, folder, reporter, name=config["model"])
            if has_checkpoint(folder.checkpoint("last")):
                trainer.restore()
                if trainer.progress.finished:
                    reporter.say(f"{folder.path} is already done: {trainer.progress.finished}.")
            else:
                reporter.say("no checkpoint yet: starting from the beginning.")
                with folder.writing(folder.metrics_file):
                    folder.metrics_file.unlink(missing_ok=True)
            trainer.trackers = [*(make_tracker(name, folder.path) for name in training.trackers), *own_trackers]
            return _finish(trainer, folder, config, dataset, reporter)
    finally:
        torch.set_rng_state(torch_state)


def load(
    path: str | os.PathLike[str],
    model: nn.Module | None = None,
    data: Dataset | None = None,
    which: str = "auto",
    device: str = "cpu",
    reporter: Reporter | None = None,
) -> Run:
    """Find a run again.

    Args:
        path: the run folder.
        model: needed if the run's model is your own: build it as you did for training.
        data: needed if you trained on a ``Dataset`` made in memory and want it.
        which: ``"best"`` or ``"last"`` weights; ``"auto"`` takes the best if it was validated, else the last. A run
            that averages its weights gives the averaged ones.
        device: where the model goes.
        reporter: hears of damage that was got around; by default it is printed. ``run.notes`` has it too.

    Raises:
        AncestralError: no run folder, no or damaged checkpoint, or a model of another architecture.
    """
    if which not in ("auto", "best", "last"):
        raise AncestralError(f"there is no checkpoint {which!r}. " + nearest(which, ("auto", "best", "last")))
    folder = RunFolder(path)
    config = folder.config()
    training = parse(TrainingConfig, config["training"], folder.config_file)
    network = _build(config, folder, model)
    chosen = which
    if which == "auto":
        chosen = "best" if has_checkpoint(folder.checkpoint("best")) else "last"
    place = folder.checkpoint(chosen)
    if not has_checkpoint(place):
        other = "last" if chosen == "best" else "best"
        instead = f" It has one called {other!r}." if has_checkpoint(folder.checkpoint(other)) else ""
        raise AncestralError(
            f"{folder.path} has no checkpoint {chosen!r}.{instead} A run that stopped before its first checkpoint "
            "starts "
            f"again with `ancestral resume {folder.path}`."
        )
    notes: list[str] = []
    # The best weights are averaged already, where a run averages them.
    part = "average" if chosen == "last" and training.ema else "model"
    parts, state = read_checkpoint(place, like={part: network.state_dict()}, tell=notes.append)
    missing = not has_checkpoint(folder.checkpoint("best"))  # only now: a process that trains may have written it
    if which == "auto" and chosen == "last" and missing and state.get("best") is not None:
        notes.append(f"{folder.checkpoint('best')} is missing, though there was a best validation: taking the last.")
    for note in notes:
        (reporter or Lines()).say(note)
    load_weights(network, parts[part], place)
    network.to(choose_device(device)).eval()
    return Run(folder, network, config, chosen, data, notes, state["digests"][part], state)


def _build(config: Mapping[str, Any], folder: RunFolder, model: nn.Module | None) -> nn.Module:
    """The model that config.toml describes; or ``model``, where it is the user's own.

    Raises:
        AncestralError: no such model, or one that is not of the shapes of the weights that are stored of it, or is
            larger than the memory: a stranger's file can ask for anything.
    """
    name = config["model"]
    if name == OWN:
        if model is None:
            raise AncestralError(
                f"{folder.path} holds a model of your own, which only your code can build: pass model=... (from the "
                "command "
                "line, --model FILE.py:NAME)."
            )
        return model
    if name not in MODELS:
        raise AncestralError(f"{folder.config_file} names the model {name!r}. " + nearest(str(name), MODELS))
    if model is not None:
        raise AncestralError(f"{folder.path} holds a {name}, which needs no model of yours: leave model out.")
    settings = parse(MODELS[name][0], config["settings"], folder.config_file)
    description = parse(DataDescription, config["description"], folder.config_file)
    for key, value in dataclasses.asdict(settings).items():
        if isinstance(value, tuple) and len(value) > MOST_LAYERS:
            raise AncestralError(f"{folder.config_file}: {key} asks for {len(value):,} layers, which no model has.")
    try:
        with torch.device("meta"):  # where tensors have shapes and take no memory
            needed = BUILDERS[name](settings, description).state_dict()
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise AncestralError(f"{folder.config_file} describes no model that can be built: {error}.") from None
    check_stored_weights([folder.checkpoint(which) for which in ("last", "best")], needed)
    size = sum(tensor.nbytes for tensor in needed.values())
    if size > memory_bytes():
        raise AncestralError(
            f"{folder.config_file} describes a model of {size:,} bytes, but this machine has {memory_bytes():,}. "
            "Restore config.toml from a copy."
        )
    return BUILDERS[name](settings, description)


def _check_memory(config: Mapping[str, Any], data: Dataset, training: TrainingConfig) -> None:
    """Raise where not even the data and latent variables of one update, of every particle, have room in memory.

    A system that promises more memory than it has would let them be made, and end the process once they are used. Of
    a model of the user's own, config.toml knows nothing.
    """
    if config["model"] == OWN:
        return
    settings = config["settings"]
    variables, classes = sum(settings.get("layers", ())) + settings.get("latents", 0), settings.get("classes", 1)
    latent = settings.get("latent", 0) + variables * classes
    particles, values = settings.get("particles", 1), 1
    enumerated = settings.get("estimator") == "enumerate" and 0 < variables < math.log2(MAXIMAL_SUPPORT)
    if enumerated:  # more are refused when they are drawn
        values = min(classes**variables, MAXIMAL_SUPPORT)
    rows = min(training.batch_size, len(data.train))
    needed = 4 * rows * particles * values * (math.prod(data.description.shape) + latent)
    if choose_device(training.device) == "cpu" and needed > memory_bytes():
        each = f" and {values:,} values of the latent variables" if enumerated else ""
        raise AncestralError(
            f"an update of {rows:,} rows with {particles:,} particles{each} needs more than {needed:,} bytes, but this "
            f"machine has {memory_bytes():,}. Lower --particles, or --batch-size"
            + (", or use another --estimator." if enumerated else ".")
        )


@contextlib.contextmanager
def _within_memory() -> Iterator[None]:
    """That memory runs out while training is one clear error."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not memory_ran_out(error):
            raise
        reason = (str(error).splitlines() or ["no more could be had."])[0]
        raise AncestralError(
            f"memory ran out: {reason} Lower --batch-size or --particles, or train a smaller model; what was saved "
            "before stays."
        ) from None


def memory_bytes() -> float:
    """The memory of this machine; without bound where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf


def reload_data(config: Mapping[str, Any], folder: RunFolder) -> Dataset:
    """The data of a run, prepared as they were.

    Raises:
        AncestralError: they can't be found, or are not those it was trained on.
    """
    if config.get("in_memory"):
        raise AncestralError(f"the run {folder.path} was trained on data made in memory: pass them again, data=....")
    known = [named.name for named in named_sets()]
    if config["data"] not in known and not Path(config["data"]).is_absolute():
        # Training writes the absolute path; any other leads from wherever the reader happens to be.
        raise AncestralError(
            f"{folder.config_file} names the data {config['data']!r}, which is neither a named set nor an absolute "
            f"path. {nearest(config['data'], known)} If you trust it, load the data yourself and pass them, data=...."
        )
    settings = parse(DataConfig, config["data_settings"], folder.config_file)
    return check_data(ancestral.data.load(config["data"], settings), config, folder)


def check_data(data: Dataset, config: Mapping[str, Any], folder: RunFolder) -> Dataset:
    """The data, if the run was trained on them: the same description, and the same training rows."""
    description = parse(DataDescription, config["description"], folder.config_file)
    if data.description != description:
        raise AncestralError(
            f"the data {data.name} are not those of the run: they are {data.description}, but it was trained on "
            f"{description}. Put the old data back."
        )
    noted = folder.digest("train")
    if noted is not None and noted != data.digest("train"):
        raise AncestralError(
            f"the data {data.name} are not those of the run: the training rows have changed since. Put the old data "
            "back."
        )
    return data


def parse(kind: type[Settings], values: Mapping[str, Any], where: Path) -> Settings:
    """A settings dataclass from a table of a TOML file; unknown keys and wrong types are errors."""
    check_types(kind, values, str(where))
    try:
        return kind(**plain(kind, values))
    except TypeError as error:
        raise AncestralError(f"{where}: {error}. Restore it from a copy.") from None


def check_types(kind: type[Settings], values: Mapping[str, Any], where: str) -> None:
    """Every key is a field, and every value is of the field's type."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    for key, value in values.items():
        if key not in fields:
            raise AncestralError(f"{where}: there is no setting {key!r}. " + nearest(key, fields))
        if not _is_a(value, hints[key]):
            default = fields[key].default
            like = f"of type {fields[key].type}" if default is dataclasses.MISSING else f"like {default!r}"
            raise AncestralError(f"{where}: {key} is {value!r}, but must be {like}.")


def _is_a(value: object, hint: Any) -> bool:
    """Whether a value is of the type of a setting; which of its words a setting takes, it says itself."""
    if typing.get_origin(hint) is tuple:
        return isinstance(value, list | tuple) and all(_is_a(v, typing.get_args(hint)[0]) for v in value)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    if hint is int:
        return isinstance(value, numbers.Integral) and abs(int(value)) < 2**63
    return isinstance(value, numbers.Real if hint is float else str)


def plain(kind: type[Settings], values: Mapping[str, Any]) -> dict[str, Any]:
    """As Python's own numbers and tuples, which a file can hold: numpy has numbers of its own."""
    hints = typing.get_type_hints(kind)
    return {key: _plain(value, hints[key]) for key, value in values.items()}


def _plain(value: Any, hint: Any) -> Any:
    if typing.get_origin(hint) is tuple:
        return tuple(_plain(v, typing.get_args(hint)[0]) for v in value)
    return hint(value) if hint in (int, float) else value


def _new_place(model: str, data: str) -> Path:
    """A new folder under runs/, made at once, so that of two runs that start together each has its own."""
    number = 1
    while True:
        place = Path("runs") / f"{model}-{Path(data).stem}-{number}"
        try:
            place.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise AncestralError(f"can't write the run folder {place}: {error.strerror}. Give --out.") from None
        else:
            return place


def _announce(reporter: Reporter, name: str, model: nn.Module, data: Dataset) -> None:
    count = sum(parameter.numel() for parameter in model.parameters())
    reporter.say(f"{name}: {count:,} parameters" + (f", {model.p}" if isinstance(model, LatentVariableModel) else ""))
    if isinstance(model, LatentVariableModel):
        reporter.say(f"likelihood p({model.observed} | ...): {model.likelihood()}")
    settings, note = data.config, f" ({data.note})" if data.note else ""
    reporter.say(
        f"{data.name}{note}: {len(data.train):,} training, {len(data.validation):,} validation, {len(data.test):,} "
        "test rows of "
        f"shape {data.description.shape}; binarization {settings.binarization}, dequantize {settings.dequantize}"
    )
    if data.description.labeled < 1:
        known = round(data.description.labeled * len(data.train))
        reporter.say(f"labels: known of {known:,} of the {len(data.train):,} training rows")


def _finish(trainer: Training, folder: RunFolder, config: dict[str, Any], data: Dataset, reporter: Reporter) -> Run:
    with _within_memory():
        progress = trainer.progress if trainer.progress.finished else trainer.run()
    with folder.writing(folder.path / "MODEL_CARD.md"):
        write_atomically(folder.path / "MODEL_CARD.md", model_card(config, data, trainer).encode())
    if not progress.finished:
        reporter.say(f"interrupted at epoch {progress.step / trainer.steps_per_epoch:.1f}, all saved.")
        return Run(folder, trainer.model.eval(), config, "last", data, state={"step": progress.step})
    reporter.say(f"{progress.finished}, {progress.seconds:.0f} s")
    own = trainer.model if config["model"] == OWN else None
    return load(folder.path, own, data, device=trainer.device, reporter=reporter)


def environment(data: Dataset | None = None) -> dict[str, Any]:
    """What a run depends on besides its settings."""
    packages = {}
    for package in ("ancestral", "torch", "numpy", "safetensors"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "unknown"
    return {
        "versions": {"python": platform.python_version(), **packages},
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "git": _git_commit(),
        "command": sys.argv,
    } | ({} if data is None else {"data": _data_in_words(data)})


def _data_in_words(data: Dataset) -> dict[str, Any]:
    splits = {split: {"rows": len(getattr(data, split)), "digest": data.digest(split)} for split in ("train", "test")}
    return {"name": data.name, "note": data.note, **splits}


def _git_commit() -> str | None:
    """The commit of the working directory, if it is in a repository."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def model_card(config: Mapping[str, Any], data: Dataset, trainer: Training) -> str:
    """What the model is, in words."""
    progress = trainer.progress
    model = trainer.model
    lines = [f"# {config['model']} on {data.name}", ""]
    if isinstance(model, LatentVariableModel):
        lines += [f"- Model: `{model.p}`, objective {model.objective}, likelihood {model.likelihood()}"]
    lines += [
        f"- Parameters: {sum(parameter.numel() for parameter in model.parameters()):,}",
        f"- Data: {data.name}, {len(data.train):,} training rows of shape {data.description.shape}, binarization "
        f"{data.config.binarization}, dequantize {data.config.dequantize}" + (f" ({data.note})" if data.note else ""),
        f"- Training: {progress.step:,} updates, {progress.step / trainer.steps_per_epoch:.1f} epochs, "
        f"{progress.seconds:.0f} s; " + (progress.finished or "not finished"),
    ]
    if progress.best is not None:
        lines += [f"- Best validation loss: {progress.best:.4f} nats at epoch {progress.best_epoch:g}"]
    if progress.findings:
        lines += ["", "## Warnings", ""]
        lines += [f"- Epoch {finding['epoch']:.3g}: {finding['message']}" for finding in progress.findings]
    lines += ["", "## Settings", ""]
    for section in ("settings", "data_settings", "training"):
        lines += [f"- {key}: `{value}`" for key, value in config[section].items()]
    lines += ["", f"Use: `ancestral sample {trainer.folder.path if trainer.folder else ''}`", ""]
    return "\n".join(lines)

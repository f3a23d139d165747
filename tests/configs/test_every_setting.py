"""No dead knobs: changing any setting changes something."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

import ancestral
from ancestral.configs import MODELS, DataConfig, TrainingConfig
from ancestral.data.dataset import Dataset, Rows
from ancestral.data.loading import assemble
from ancestral.data.raw import Raw
from ancestral.runs import Run
from ancestral.training.compilation import cpp_compiler
from ancestral.training.progress import Silent

SMALL: dict[str, dict[str, Any]] = {
    "vae": {"latent": 3, "hidden": (7,)},
    "gan": {"latent": 3, "hidden": (7,), "discriminator_hidden": (5,), "pieces": 2},
    "sbn": {"layers": (3, 2)},
    "categorical-vae": {"latents": 3, "classes": 3, "encoder_hidden": (7,), "decoder_hidden": (5,)},
    "m2": {"latent": 3, "hidden": (7,), "labels": 11, "labels_per_batch": 5},
    "helmholtz": {"layers": (3, 2)},
    "hierarchical-vae": {"layers": (3, 2), "hidden": (7, 5)},
    "ladder-vae": {"layers": (3, 2), "hidden": (7, 5), "kl_warmup": 0.0},
    "bayes-classifier": {"latent": 3, "hidden": (7,), "class_particles": 2},
    "classifier": {"hidden": (7,)},
}


def grey(tmp: Path) -> Path:
    """53 grey images of 5x4."""
    if not (tmp / "grey.npy").exists():
        np.save(tmp / "grey.npy", np.random.default_rng(1).integers(0, 256, (53, 5, 4), dtype=np.uint8))
    return tmp / "grey.npy"


def with_classes(tmp: Path) -> Path:
    """The same images, of three classes."""
    if not (tmp / "classes.npz").exists():
        np.savez(tmp / "classes.npz", x=np.load(grey(tmp)), y=np.arange(53) % 3)
    return tmp / "classes.npz"


def images() -> Dataset:
    """53 images of 5x4 that the literature binarizes anew at each epoch."""
    x = np.random.default_rng(1).integers(0, 17, (53, 1, 5, 4), dtype=np.uint8)
    return assemble("images", Raw(Rows(x), levels=17, usual_binarization="dynamic"), DataConfig())


class Watcher(Silent):
    """Notes what is there only while training goes on: a checkpoint so early, the number of threads, programs."""

    def __init__(self, out: Path) -> None:
        self.out, self.seen, self.threads, self.programs = out, False, 0, 0

    def begin(self, total: int, done: int) -> None:
        self.programs -= counters["stats"]["unique_graphs"]

    def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None:
        if done == 3:
            self.seen = (self.out / "checkpoints" / "last").exists()
            self.threads = torch.get_num_threads()
            self.programs += counters["stats"]["unique_graphs"]


@pytest.fixture(scope="module")
def tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def weights(run: Run) -> list[tuple[tuple[int, ...], bytes]]:
    return [(tuple(v.shape), v.numpy().tobytes()) for v in run.model.state_dict().values()]


def losses(run: Run) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in run.metrics]


def everything(run: Run) -> Any:
    return weights(run), losses(run)


def checkpointed(run: Run) -> bool:
    return run.watcher.seen  # type: ignore[attr-defined,no-any-return]


def probabilities(run: Run) -> bytes:
    torch.manual_seed(0)
    values: torch.Tensor = run.model.classify(run.data.rows("test", [0, 1, 2]))  # type: ignore[operator]
    return values.numpy().tobytes()


def files(run: Run) -> set[str]:
    return {place.name for place in run.path.iterdir()}


def validations(run: Run) -> list[int]:
    return [row["step"] for row in run.metrics if "validation loss" in row]


def threads_used(run: Run) -> int:
    return run.watcher.threads  # type: ignore[attr-defined,no-any-return]


def programs(run: Run) -> int:
    return run.watcher.programs  # type: ignore[attr-defined,no-any-return]


def steps(run: Run) -> int:
    return int(run.metrics[-1]["step"])


# field -> (changed value, what both runs have besides, what is seen of it)
Case = tuple[Any, dict[str, Any], Callable[[Run], Any]]
VAE: dict[str, Case] = {
    "latent": (5, {}, weights),
    "network": ("conv", {"hidden": (200, 200)}, weights),
    "hidden": ((11,), {}, weights),
    "channels": ((3, 5), {"network": "conv", "hidden": (200, 200)}, weights),
    "activation": ("silu", {}, weights),
    "likelihood": ("normal", {}, everything),
    "scale": ("shared", {"likelihood": "normal"}, weights),
    "mean": ("sigmoid", {"likelihood": "normal"}, weights),
    "bound": ("iwae", {"particles": 5}, weights),
    "particles": (5, {}, weights),
    "beta": (0.25, {}, weights),
    "kl_warmup": (1.5, {}, weights),
    "validation_particles": (7, {}, losses),
    "free_bits": (2.0, {}, weights),
    "gradient": ("sticking-the-landing", {}, weights),
    "posterior": ("planar", {}, weights),
    "flows": (3, {"posterior": "radial"}, weights),
    "flow_hidden": (5, {"posterior": "iaf"}, weights),
}
GAN: dict[str, Case] = {
    "latent": (5, {}, weights),
    "hidden": ((11,), {}, weights),
    "discriminator_hidden": ((11,), {}, weights),
    "pieces": (3, {}, weights),
    "dropout": (0.1, {}, weights),
    "input_dropout": (0.6, {}, weights),
    "generator_loss": ("minimax", {}, weights),
    "discriminator_steps": (2, {}, weights),
    "discriminator_learning_rate": (0.7, {}, weights),
}
GUMBEL = {"estimator": "gumbel-softmax", "temperature": 0.9}
ESTIMATION: dict[str, Case] = {
    "estimator": ("straight-through", {}, weights),
    "particles": (2, {}, weights),
    "baseline": (("moving-average",), {"estimator": "reinforce"}, weights),
    "normalize": (True, {"estimator": "reinforce"}, weights),
    "temperature": (0.9, {"estimator": "gumbel-softmax"}, weights),
    "temperature_rate": (0.7, GUMBEL, weights),
    "temperature_end": (0.8, {**GUMBEL, "temperature_rate": 0.7}, weights),
    "learn_temperature": (True, {"estimator": "gumbel-softmax"}, weights),
    "slope": (1.5, {"estimator": "straight-through"}, weights),
    "slope_rate": (0.7, {"estimator": "straight-through"}, weights),
    "slope_end": (1.3, {"estimator": "straight-through", "slope_rate": 0.7}, weights),
}
M2: dict[str, Case] = {
    "latent": (5, {}, weights),
    "network": ("conv", {}, weights),
    "hidden": ((11,), {}, weights),
    "channels": ((3, 5), {"network": "conv"}, weights),
    "activation": ("silu", {}, weights),
    "likelihood": ("normal", {}, everything),
    "scale": ("shared", {"likelihood": "normal"}, weights),
    "mean": ("sigmoid", {"likelihood": "normal"}, weights),
    "alpha": (0.7, {}, weights),
    "dropout": (0.3, {}, weights),
    **ESTIMATION,
    "estimator": ("gumbel-softmax", {}, weights),
}
SBN: dict[str, Case] = {
    **ESTIMATION,
    "layers": ((5,), {}, weights),
    "classes": (3, {}, weights),
    "hidden": ((7,), {}, weights),
    "units": ("binary", {}, weights),
    "task": ("structured-prediction", {}, weights),
    "bound": ("iwae", {"particles": 5, "estimator": "reinforce"}, weights),
    "kl_warmup": (1.5, {}, weights),
    "validation_particles": (7, {}, losses),
}
CATEGORICAL_VAE: dict[str, Case] = {
    **ESTIMATION,
    "likelihood": ("normal", {}, everything),
    "scale": ("shared", {"likelihood": "normal"}, weights),
    "mean": ("sigmoid", {"likelihood": "normal"}, weights),
    "latents": (5, {}, weights),
    "classes": (5, {}, weights),
    "prior": ("learned", {}, weights),
    "encoder_hidden": ((11,), {}, weights),
    "decoder_hidden": ((11,), {}, weights),
    "activation": ("silu", {}, weights),
    "bound": ("iwae", {"particles": 5, "estimator": "reinforce"}, weights),
    "kl_warmup": (1.5, {}, weights),
    "validation_particles": (7, {}, losses),
}
ELBO = {"objective": "elbo"}
REWEIGHTED = {"objective": "reweighted-wake-sleep", "particles": 3}
HELMHOLTZ: dict[str, Case] = {
    **{name: (value, {**ELBO, **besides}, seen) for name, (value, besides, seen) in ESTIMATION.items()},
    "particles": (5, REWEIGHTED, weights),
    "layers": ((5,), {}, weights),
    "layer": ("darn", {}, weights),
    "recognition": ("nade", {}, weights),
    "hidden": ((7,), {}, weights),
    "nade_hidden": (5, {"layer": "nade"}, weights),
    "units": ("binary", {}, weights),
    "objective": ("elbo", {}, weights),
    "q_phase": ("both", REWEIGHTED, weights),
    "kl_warmup": (1.5, ELBO, weights),
    "validation_particles": (7, {}, losses),
}
HIERARCHY: dict[str, Case] = {
    **{
        name: VAE[name]
        for name in ("activation", "likelihood", "scale", "mean", "bound", "particles", "beta", "gradient")
    },
    "layers": ((5, 3), {}, weights),
    "hidden": ((11, 5), {}, weights),
    "normalization": ("batch", {}, weights),
    "kl_warmup": (1.5, {}, weights),
    "validation_particles": (7, {}, losses),
}
OF_MODELS = {"vae": VAE, "gan": GAN, "sbn": SBN, "categorical-vae": CATEGORICAL_VAE, "m2": M2, "helmholtz": HELMHOLTZ}
OF_MODELS |= {"hierarchical-vae": HIERARCHY, "ladder-vae": {**HIERARCHY, "normalization": ("none", {}, weights)}}
NETWORK: dict[str, Case] = {name: M2[name] for name in ("network", "hidden", "channels", "activation")}
OF_MODELS["bayes-classifier"] = {
    **NETWORK,
    **{name: VAE[name] for name in ("likelihood", "scale", "mean", "bound", "particles", "kl_warmup")},
    "latent": (5, {}, weights),
    "validation_particles": (7, {}, losses),
    "class_particles": (7, {}, probabilities),
    "prior_scale": (0.1, {}, weights),
}
OF_MODELS["classifier"] = {**NETWORK, "dropout": (0.3, {}, weights)}
UNMOVED = {"optimizer": "sgd", "learning_rate": 1e-30}  # weights that stay where they are
TRAINING: dict[str, Case] = {
    "epochs": (5, {}, steps),
    "batch_size": (17, {}, weights),
    "optimizer": ("adagrad", {}, weights),
    "learning_rate": (0.1, {}, weights),
    "schedule": ("linear", {}, weights),
    "final_learning_rate": (1e-3, {}, weights),
    "learning_rate_warmup": (1.5, {}, weights),
    "beta1": (0.2, {}, weights),
    "beta2": (0.2, {}, weights),
    "epsilon": (0.1, {}, weights),
    "momentum": (0.8, {"optimizer": "rmsprop"}, weights),
    "weight_decay": (0.3, {}, weights),
    "gradient_clip": (0.01, {"optimizer": "sgd"}, weights),
    "ema": (0.7, {}, weights),
    "patience": (2, {"epochs": 5, "validate_every": 1, **UNMOVED}, steps),
    "validate_every": (2, {}, validations),
    "checkpoint_seconds": (0.0, {}, checkpointed),
    "precision": ("bfloat16", {}, weights),
    "compile": (True, {}, programs),
    "threads": (2, {}, threads_used),
    "seed": (5, {}, weights),
    "trackers": (("tensorboard",), {}, files),
}
DATA: dict[str, Case] = {
    "binarization": ("threshold", {}, weights),
    "dequantize": ("yes", {}, lambda run: run.data.description),
    "validation": (0.3, {}, lambda run: len(run.data.validation)),
    "test": (0.3, {}, lambda run: len(run.data.test)),
    "split_seed": (5, {}, weights),
    "train_limit": (11, {}, lambda run: len(run.data.train)),
}
LABELS: dict[str, Case] = {
    "labels": (8, {}, weights),
    "labels_per_batch": (3, {}, weights),
}


@functools.cache
def trained(tmp: Path, model: str, settings: tuple[tuple[str, Any], ...]) -> Run:
    number = len(list(tmp.iterdir()))
    out = tmp / f"run-{number}"
    watcher = Watcher(out)
    given = {"epochs": 3, "batch_size": 13, **SMALL[model], **dict(settings)}
    data = with_classes(tmp) if model in ("m2", "bayes-classifier", "classifier") else grey(tmp)
    run = ancestral.train(model, data, out=out, reporter=watcher, **given)
    run.watcher = watcher  # type: ignore[attr-defined]
    return run


def changes(tmp: Path, model: str, field: str, case: Case) -> bool:
    value, besides, seen = case
    before = seen(trained(tmp, model, tuple(besides.items())))
    return bool(before != seen(trained(tmp, model, tuple({**besides, field: value}.items()))))


@pytest.mark.parametrize(
    ("model", "field"), [(name, field.name) for name, (kind, _) in MODELS.items() for field in dataclasses.fields(kind)]
)
def test_every_setting_of_a_model_changes_something(tmp: Path, model: str, field: str) -> None:
    assert changes(tmp, model, field, OF_MODELS[model][field])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "field", [field.name for field in dataclasses.fields(TrainingConfig) if field.name != "device"]
)
def test_every_setting_of_the_training_changes_something(tmp: Path, field: str) -> None:
    if field == "compile" and cpp_compiler() is None:
        pytest.skip("there is no C++ compiler")
    assert changes(tmp, "vae", field, TRAINING[field])


def test_the_device_changes_where_it_runs(tmp: Path) -> None:
    assert trained(tmp, "vae", (("device", "cpu"),)).model.p.networks["x"] is not None
    for device in ("nowhere", "meta"):
        with pytest.raises(ancestral.AncestralError, match=f"{device}.*not available"):
            trained(tmp, "vae", (("device", device),))


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(DataConfig)])
def test_every_setting_of_the_data_changes_something(tmp: Path, field: str) -> None:
    assert changes(tmp, "m2", field, LABELS[field]) if field in LABELS else changes(tmp, "vae", field, DATA[field])


def test_training_twice_with_the_same_settings_gives_the_same_weights_and_metrics(tmp: Path) -> None:
    first = trained(tmp, "vae", ())
    second = ancestral.train("vae", grey(tmp), out=tmp / "again", epochs=3, batch_size=13, **SMALL["vae"])
    assert everything(first) == everything(second)


def test_settings_of_the_data_of_a_dataset_in_memory_come_from_it(tmp: Path) -> None:
    run = ancestral.train("vae", images(), out=tmp / "memory", epochs=1, **SMALL["vae"])
    assert run.data.config.binarization == "dynamic"
    with pytest.raises(ancestral.AncestralError, match="no effect on a Dataset"):
        ancestral.train("vae", images(), out=tmp / "refused", epochs=1, binarization="static")


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    run = ancestral.train(
        "vae", images(), out=tmp_path / "run", latent=np.int64(3), hidden=(np.int32(7),), beta=np.float32(0.5),
        epochs=np.uint8(1),
    )  # fmt: skip
    assert ancestral.load(run.path).config["settings"]["latent"] == 3
    with pytest.raises(ancestral.AncestralError, match="latent is"):
        ancestral.train("vae", images(), out=tmp_path / "other", latent=np.float32(3))


def test_a_model_without_a_validation_loss_holds_out_no_validation_rows_by_default(tmp_path: Path) -> None:
    small = {**SMALL["gan"], "epochs": 1}
    run = ancestral.train("gan", grey(tmp_path), out=tmp_path / "run", **small)
    assert (len(run.data.train), len(run.data.validation), len(run.data.test)) == (45, 0, 8)
    assert run.config["data_settings"]["validation"] == 0
    assert len(ancestral.load(run.path).data.validation) == 0
    asked = ancestral.train("gan", grey(tmp_path), out=tmp_path / "asked", validation=0.1, **small)
    assert len(asked.data.validation) == 5
    words = "validate_every has no effect: this model has no validation loss"
    with pytest.raises(ancestral.AncestralError, match=words):
        ancestral.train("gan", grey(tmp_path), out=tmp_path / "refused", validate_every=1, **small)


def test_validations_need_validation_rows(tmp_path: Path) -> None:
    words = r"validate_every has no effect: .*grey\.npy has no validation rows"
    with pytest.raises(ancestral.AncestralError, match=words):
        ancestral.train("vae", grey(tmp_path), out=tmp_path / "run", validation=0, validate_every=1, epochs=1)
    assert not (tmp_path / "run").exists()

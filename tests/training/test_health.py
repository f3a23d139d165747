"""Health checks: each speaks on a run that is broken in its way, once, and is silent on a healthy one."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ancestral
from ancestral import AncestralError, Joint, LatentVariableModel, mlp, normal, standard_normal
from ancestral.configs import MODELS, DataConfig, DataDescription, GANConfig, TrainingConfig, VAEConfig
from ancestral.data.dataset import Dataset, Rows
from ancestral.data.loading import assemble
from ancestral.data.raw import Raw
from ancestral.distributions import continuous_bernoulli
from ancestral.models import BUILDERS, GAN, Batch, Player
from ancestral.runs import Run
from ancestral.training import RunFolder, Training, health
from ancestral.training.checkpoint import read_checkpoint
from ancestral.training.progress import Silent

SMALL: dict[str, Any] = {"latent": 3, "hidden": (31,)}
SMALL_GAN: dict[str, Any] = {"hidden": (53,), "discriminator_hidden": (31,), "pieces": 2}


class Listener(Silent):
    """Remembers what is said, and may interrupt after some step."""

    def __init__(self, stop: int = -1) -> None:
        self.said: list[str] = []
        self.stop = stop

    def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None:
        if done == self.stop:
            os.kill(os.getpid(), signal.SIGINT)

    def say(self, message: str) -> None:
        self.said.append(message)

    @property
    def warnings(self) -> list[str]:
        return [message.removeprefix("warning: ") for message in self.said if message.startswith("warning: ")]


def train(
    out: Path, *model_and_data: Any, listener: Listener | None = None, **settings: Any
) -> tuple[Run, Listener]:
    listener = listener or Listener()
    return ancestral.train(*model_and_data, out=out, reporter=listener, **settings), listener


def found(run: Path) -> list[dict[str, Any]]:
    """What health.json holds; nothing where there is none."""
    path = run / "health.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def checks(run: Path) -> list[str]:
    return [finding["check"] for finding in found(run)]


def table(x: np.ndarray[Any, Any], held: np.ndarray[Any, Any] | None = None, levels: int = 0, **config: Any) -> Dataset:
    """A data set in memory; ``held`` is its official test."""
    raw = Raw(Rows(x), test=None if held is None else Rows(held), levels=levels)
    return assemble("table", raw, DataConfig(**config))


def images(n: int = 53) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).integers(0, 256, (n, 1, 5, 7), dtype=np.uint8)


# ---- healthy runs


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("vae", {"epochs": 11, **SMALL}),
        ("vae", {"epochs": 5, "latent": 50, "likelihood": "discretized-logistic"}),
        ("vae", {"epochs": 5, "bound": "iwae", "particles": 3, **SMALL}),
        ("gan", {"epochs": 40, **SMALL_GAN}),
    ],
)
def test_a_healthy_run_says_nothing(model: str, settings: dict[str, Any], tmp_path: Path) -> None:
    run, listener = train(tmp_path / "run", model, "digits", **settings)
    assert listener.warnings == []
    assert not (run.path / "health.json").exists()
    assert read_checkpoint(run.path / "checkpoints" / "last")[1]["findings"] == []
    assert "## Warnings" not in (run.path / "MODEL_CARD.md").read_text(encoding="utf-8")


# ---- what is not finite


class Climbing(nn.Module):
    """Its weight climbs by the learning rate at each step, and a little by chance; its gain is not finite from 1 on."""

    def __init__(self, gain: nn.Module) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.gain = gain

    def players(self) -> list[Player]:
        return [Player("climber", [self.weight], self.loss)]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        noise = 1 + 0.01 * torch.rand(3)
        return {"loss": (0 * self.gain(self.weight) - self.weight * noise).sum(), "weight": self.weight.detach().sum()}


class Logarithm(nn.Module):
    """log(1 - w): not a number above 1."""

    def forward(self, w: Tensor) -> Tensor:
        return (1 - w).log()


class Root(nn.Module):
    """The root of 1 - w, but 0 above 1, where the gradient is not a number."""

    def forward(self, w: Tensor) -> Tensor:
        return ((w < 1) * (1 - w)).sqrt()


STEPS: dict[str, Any] = {"batch_size": 9, "schedule": "constant", "optimizer": "sgd"}  # five in an epoch


def bits() -> Dataset:
    return table(np.random.default_rng(1).integers(0, 2, (53, 7), dtype=np.uint8), levels=2)


@pytest.mark.parametrize(
    ("gain", "words"),
    [(Logarithm(), "in step 11, the output of gain is"), (Root(), "in step 11, the gradient of weight is")],
)
def test_a_run_that_diverges_goes_on_as_if_its_learning_rate_had_always_been_the_half(
    gain: nn.Module, words: str, tmp_path: Path
) -> None:
    settings = {**STEPS, "epochs": 3, "ema": 0.5, "optimizer": "adam", "beta1": 0.5}
    halved, _ = train(tmp_path / "halved", Climbing(gain), bits(), learning_rate=0.05, **settings)
    torch.manual_seed(0)
    run, listener = train(tmp_path / "run", Climbing(gain), bits(), learning_rate=0.1, **settings)
    warning = listener.warnings[-1]
    assert words in warning
    assert "It goes on from step 0 with half the learning rate, 0.05." in warning
    assert "--learning-rate" in warning
    assert "--gradient-clip 1" in warning
    for part in ("model", "average", "optimizer", "random"):
        place = Path("checkpoints") / "last" / f"{part}.safetensors"
        assert (run.path / place).read_bytes() == (halved.path / place).read_bytes(), part
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in r.metrics] for r in (run, halved)]
    assert rows[0] == rows[1]
    assert found(run.path)[-1] == {"check": "not_finite", "step": 0, "epoch": 0.0, "message": warning}
    assert warning in (run.path / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_a_gradient_that_is_not_finite_in_the_last_step_is_found_too(tmp_path: Path) -> None:
    # The gradient is taken where the weight was: past 1 after four of the five updates, and after all five.
    _, listener = train(tmp_path / "after", Climbing(Root()), bits(), learning_rate=0.24, epochs=1, **STEPS)
    assert "not_finite" not in checks(tmp_path / "after")
    run, listener = train(tmp_path / "run", Climbing(Root()), bits(), learning_rate=0.26, epochs=1, **STEPS)
    assert "in step 5, the gradient of weight" in listener.warnings[-1]
    assert bool(torch.isfinite(read_checkpoint(run.path / "checkpoints" / "last")[0]["model"]["weight"]).all())


def test_an_optimizer_whose_state_overflows_is_found_though_its_weights_are_finite(tmp_path: Path) -> None:
    class Steep(Climbing):
        def loss(self, batch: Batch) -> dict[str, Tensor]:
            return {"loss": 1e30 * self.weight.sum()}

    words = r"in step 1, the optimizer's exp_avg_sq of weight is the first tensor that is not finite"
    with pytest.raises(AncestralError, match=words):
        train(tmp_path / "run", Steep(nn.Identity()), bits(), epochs=1, optimizer="adam")


def test_the_second_time_training_stops_and_names_what_was_tried(tmp_path: Path) -> None:
    settings = {"optimizer": "sgd", "learning_rate": 1e25, "schedule": "constant", "epochs": 2, **SMALL}
    words = (
        r"diverged again at the learning rate 5e\+24, as it had at 1e\+25: in step 2, the output of p\.networks\.x\."
        r".* is the first tensor that is not finite\. The state of step 0 is the last good one, and is saved in .*run"
        r"\. Train anew with a --learning-rate below 2\.5e\+24, with --learning-rate-warmup 1, or with "
        r"--gradient-clip 1\."
    )
    with pytest.raises(AncestralError, match=words):
        train(tmp_path / "run", "vae", "digits", **settings)
    parts, state = read_checkpoint(tmp_path / "run" / "checkpoints" / "last")
    assert (state["step"], state["retries"]) == (0, 1)
    assert all(bool(weight.isfinite().all()) for weight in parts["model"].values())
    assert list(RunFolder(tmp_path / "run").metrics()) == []
    assert checks(tmp_path / "run") == ["not_finite"]
    assert ancestral.load(tmp_path / "run").which == "last"
    listener = Listener()
    with pytest.raises(AncestralError, match="diverged again at the learning rate"):  # it is resumed as it stands
        ancestral.resume(tmp_path / "run", reporter=listener)
    assert listener.warnings == []


def test_what_diverges_in_sixteen_bits_goes_on_in_thirty_two(tmp_path: Path) -> None:
    class Coarse(nn.Module):
        """Not finite in 16 bits."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(7, 1)

        def players(self) -> list[Player]:
            return [Player("coarse", list(self.parameters()), self.loss)]

        def loss(self, batch: Batch) -> dict[str, Tensor]:
            value = self.layer(batch.x)
            return {"loss": value.float().square().mean() * (math.inf if value.dtype == torch.bfloat16 else 1.0)}

    run, listener = train(tmp_path / "run", Coarse(), bits(), epochs=2, precision="bfloat16", **STEPS)
    assert "in step 1, loss of the coarse is" in listener.warnings[-1]
    assert "in float32 instead of bfloat16" in listener.warnings[-1]
    assert run.metrics[-1]["step"] == 10
    settings = {"learning_rate": 9.0, "epochs": 3, "precision": "bfloat16", **STEPS}
    with pytest.raises(AncestralError, match="and with --precision float32"):
        train(tmp_path / "twice", Climbing(Logarithm()), bits(), **settings)


def test_data_that_are_not_finite_are_named(tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(53, 7)).astype(np.float32)
    x[17, 3] = np.nan

    class Plain(Climbing):
        def loss(self, batch: Batch) -> dict[str, Tensor]:
            return {"loss": (self.weight.sum() - batch.x).square().mean()}

    with pytest.raises(AncestralError, match=r"in step \d, the batch of data is the first tensor that is not finite"):
        train(tmp_path / "run", Plain(nn.Identity()), table(x, validation=0.0, test=0.0), epochs=1, **STEPS)


def test_a_run_that_was_interrupted_after_it_had_diverged_keeps_its_learning_rate(tmp_path: Path) -> None:
    settings = {**STEPS, "epochs": 3, "learning_rate": 0.1}
    whole, _ = train(tmp_path / "whole", Climbing(Logarithm()), bits(), **settings)

    class AfterDiverging(Listener):
        def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None:
            self.stop = 7 if self.warnings else -1
            super().update(done, epoch, scalars)

    listener = AfterDiverging()
    run = ancestral.train(Climbing(Logarithm()), bits(), out=tmp_path / "run", reporter=listener, **settings)
    assert run.metrics[-1]["step"] == 7
    again = Listener()
    run = ancestral.resume(tmp_path / "run", Climbing(Logarithm()), bits(), reporter=again)
    assert again.warnings == []
    assert torch.equal(run.model.weight, whole.model.weight)  # type: ignore[arg-type]
    assert found(run.path) == found(whole.path)


def test_without_a_run_folder_training_returns_to_its_start_too() -> None:
    model, listener = Climbing(Logarithm()), Listener()
    config = TrainingConfig(epochs=3, learning_rate=0.1, **STEPS)
    assert Training(model, bits(), config, reporter=listener).run().finished == "all 3 epochs done"
    assert "in step 11, the output of gain" in listener.warnings[-1]
    again = Climbing(Logarithm())
    with pytest.raises(AncestralError, match=r"The state of step 0 is the last good one\. Train anew"):
        Training(again, bits(), dataclasses.replace(config, learning_rate=9.0)).run()


class Validated(Climbing):
    """It is validated too."""

    def validation(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": -self.weight.sum()}


def test_what_was_seen_after_the_last_good_state_is_forgotten(tmp_path: Path) -> None:
    config = TrainingConfig(epochs=3, learning_rate=0.1, **STEPS)
    training = Training(Validated(Logarithm()), bits(), config)
    assert training.run().retries == 1  # in step 11, after ten lines and two validations
    assert [row["step"] for row in training.rows] == list(range(1, 16))
    assert [row["step"] for row in training.validations] == [5, 10, 15]


class KilledError(Exception):
    """The process is gone."""


def test_a_run_that_is_killed_after_it_had_diverged_keeps_its_learning_rate(tmp_path: Path) -> None:
    class Kills(Listener):
        def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None:
            if self.warnings:
                raise KilledError

    settings = {**STEPS, "epochs": 3, "learning_rate": 0.1}
    whole, _ = train(tmp_path / "whole", Climbing(Logarithm()), bits(), **settings)
    with pytest.raises(KilledError):
        ancestral.train(Climbing(Logarithm()), bits(), out=tmp_path / "run", reporter=Kills(), **settings)
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last")[1]["retries"] == 1
    again = Listener()
    run = ancestral.resume(tmp_path / "run", Climbing(Logarithm()), bits(), reporter=again)
    assert again.warnings == []
    assert torch.equal(run.model.weight, whole.model.weight)  # type: ignore[arg-type]
    assert found(run.path) == found(whole.path) != []


# ---- the data


def test_data_that_are_all_the_same_are_found(tmp_path: Path) -> None:
    same = np.full((53, 7), 3, dtype=np.uint8)
    _, listener = train(tmp_path / "same", "gan", table(same, levels=256), epochs=1, **SMALL_GAN)
    assert listener.warnings[0].startswith("all 42 training rows are the same, and every number in them is 3: there is")
    dark = images() // 3
    dark[..., :2] //= 2
    settings = {"epochs": 1, **SMALL}
    run, listener = train(tmp_path / "dark", "vae", table(dark, levels=256, binarization="threshold"), **settings)
    assert "every number in them is 0" in listener.warnings[0]
    assert "--binarization dynamic" in listener.warnings[0]
    run, listener = train(tmp_path / "levels", "vae", table(dark, levels=256), **settings)
    assert "constant_data" not in checks(run.path)


def test_a_single_training_row_is_called_so(tmp_path: Path) -> None:
    _, listener = train(tmp_path / "run", "vae", "digits", epochs=1, train_limit=1, **SMALL)
    assert listener.warnings[0].startswith("there is a single training row")
    assert "--train-limit" in listener.warnings[0]


def test_test_rows_that_are_training_rows_are_found(tmp_path: Path) -> None:
    x = images(97)
    leaked = np.concatenate([x[:11], images(31)[11:] // 2])
    run, listener = train(tmp_path / "run", "gan", table(x, leaked, levels=256, validation=0.0), epochs=1, **SMALL_GAN)
    assert checks(run.path) == ["leaked_rows"]
    assert "11 of the 31 test rows are among the training rows too" in listener.warnings[0]


def test_images_that_are_in_the_file_twice_are_leaked_and_short_rows_that_repeat_by_nature_are_not(
    tmp_path: Path,
) -> None:
    twice = table(np.concatenate([images(), images()]), levels=256)
    run, _ = train(tmp_path / "twice", "gan", twice, epochs=1, **SMALL_GAN)
    assert checks(run.path) == ["leaked_rows"]
    generator = np.random.default_rng(1)
    for repeated in (
        table(np.repeat(generator.normal(size=(53, 5)).astype(np.float32), 2, 0)),
        table(np.repeat(generator.integers(0, 2, (53, 1, 9, 9), dtype=np.uint8), 2, 0), levels=2),
    ):
        assert health.leaked_rows(repeated) is not None
    short = table(np.random.default_rng(1).integers(0, 2, (997, 7), dtype=np.uint8), levels=2)
    seen = {row.tobytes() for row in short.train.x}
    assert np.mean([row.tobytes() in seen for row in short.test.x]) > 0.9
    run, _ = train(tmp_path / "short", "gan", short, epochs=1, **SMALL_GAN)
    assert checks(run.path) == []


def test_a_row_outside_the_support_in_a_later_batch_is_an_error_that_names_it(tmp_path: Path) -> None:
    x = np.random.default_rng(1).random((53, 7)).astype(np.float32)

    def model() -> LatentVariableModel:
        p = Joint({"z": standard_normal(2), "x | z": continuous_bernoulli(mlp(2, 7))})
        return LatentVariableModel(p, Joint({"z | x": normal(mlp(7, 2 * 2))}))

    train(tmp_path / "fine", model(), table(x), epochs=1, batch_size=5)
    data = table(x)
    row = int(data.train.index[41])
    x[row, 3] = 1.5
    first = {tuple(r.tolist()) for r in next(data.batches("train", 5))[0]}
    assert tuple(x[row].tolist()) not in first  # or the check of the first batch would find it
    words = r"row 41 of the train rows .* outside the support of the ContinuousBernoulli .* to 1\.5\. .*--likelihood"
    with pytest.raises(AncestralError, match=words):
        train(tmp_path / "run", model(), data, epochs=1, batch_size=5)
    assert not (tmp_path / "run").exists()


# ---- settings


def test_a_moving_average_that_never_reaches_its_decay_is_cold(tmp_path: Path) -> None:
    run, listener = train(tmp_path / "run", "vae", "digits", epochs=1, ema=0.9999, **SMALL)
    assert checks(run.path) == ["cold_average"]
    assert "has reached 0.64 after the 15 updates" in listener.warnings[0]
    assert health.cold_average(TrainingConfig(ema=0.9), 75) is None  # 0.894: it averages over 9 updates instead of 10
    assert health.cold_average(TrainingConfig(ema=0.95), 75) is not None


def test_a_limit_above_the_number_of_rows_has_no_effect(tmp_path: Path) -> None:
    run, listener = train(tmp_path / "run", "vae", "digits", epochs=1, train_limit=1439, **SMALL)
    assert checks(run.path) == ["idle_limit"]
    assert "train_limit is 1,439, which has no effect: there are 1,437 training rows" in listener.warnings[0]


def test_a_batch_larger_than_the_data_says_what_is_used(tmp_path: Path) -> None:
    run, listener = train(tmp_path / "run", "vae", "digits", epochs=1, batch_size=1438, **SMALL)
    assert checks(run.path) == ["idle_batch_size"]
    assert "batch_size is 1,438, but there are 1,437 training rows: an epoch is one update" in listener.warnings[0]
    assert health.idle_batch_size(run.data, TrainingConfig(batch_size=1437)) is None
    assert health.idle_batch_size(bits(), TrainingConfig()) is None  # nobody typed the default


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"patience": 2}, "patience has no effect: this model is trained by a game, not by a bound"),
        ({"validate_every": 6}, "validate_every has no effect: this model has no validation loss"),
        ({"discriminator_steps": 32}, "the generator is updated once in 32 steps, but training has 32: it would be"),
    ],
)
def test_a_setting_without_effect_on_a_game_is_told_its_true_cause(
    settings: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(AncestralError, match=words):
        train(tmp_path / "run", "gan", "digits", epochs=2, **{**SMALL_GAN, **settings})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning_rate_warmup": 5.5}, "learning_rate_warmup is 5.5 epochs, but training has 5.*never be reached"),
        ({"validate_every": 6}, "validate_every is 6 epochs, which has no effect in a run of 5"),
        ({"patience": 5}, "patience is 5, which has no effect: 5 epochs have 5 validations"),
        ({"patience": 1, "validate_every": 5}, "patience is 1, which has no effect: 5 epochs have 1 validation,"),
        ({"final_learning_rate": 2e-3}, "the cosine schedule has no effect from a learning rate to the same"),
        ({"hidden": (), "activation": "relu"}, "activation has no effect without hidden layers"),
        ({"network": "conv", "channels": (), "activation": "relu"}, "activation has no effect without hidden layers"),
        ({"epochs": 1, "schedule": "iwae"}, "the iwae schedule has no effect in 1 epoch"),
        ({"kl_warmup": 5.5}, "kl_warmup is 5.5 epochs, but training has 5.*Use a shorter --kl-warmup"),
    ],
)
def test_a_setting_that_can_have_no_effect_is_an_error(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(AncestralError, match=words):
        train(tmp_path / "run", "vae", "digits", **{"epochs": 5, **settings})
    assert not (tmp_path / "run").exists()


def test_batches_of_one_row_have_nothing_to_be_normalized_by(tmp_path: Path) -> None:
    settings = {"layers": (3, 2), "hidden": (5, 3), "epochs": 1, "kl_warmup": 0.5}
    with pytest.raises(AncestralError, match=r"one row, which have no variance\. Use --batch-size 2 or more"):
        train(tmp_path / "run", "ladder-vae", "digits", batch_size=1, **settings)
    assert not (tmp_path / "run").exists()


def test_settings_just_short_of_no_effect_are_taken() -> None:
    model, data = ancestral.models.BUILDERS["vae"](VAEConfig(likelihood="bernoulli"), bits().description), bits()
    Training(model, data, TrainingConfig(epochs=5, learning_rate_warmup=5.0, validate_every=5))
    Training(model, data, TrainingConfig(epochs=5, patience=4))
    Training(model, data, TrainingConfig(epochs=500, patience=49))
    TrainingConfig(epochs=2, schedule="iwae")
    VAEConfig(hidden=(), activation="tanh")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_threads_have_no_effect_on_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(AncestralError, match="threads is 2, which has no effect on the device cuda"):
        train(tmp_path / "run", "vae", "digits", epochs=1, threads=2, device="cuda", **SMALL)


# ---- losses


class Still(nn.Module):
    """A loss that depends on nothing, while weight decay moves the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def players(self) -> list[Player]:
        return [Player("still", [self.weight], lambda batch: {"loss": 0 * self.weight.sum() + 3})]


def test_a_loss_that_never_changes_is_frozen(tmp_path: Path) -> None:
    settings = {**STEPS, "epochs": 5, "weight_decay": 0.1, "learning_rate": 0.1}
    run, listener = train(tmp_path / "run", Still(), bits(), **settings)
    assert [c for c in checks(run.path) if c.startswith("frozen")] == ["frozen_loss"]
    assert "loss has been 3 on every line since the start" in listener.warnings[-1]
    assert found(run.path)[-1]["step"] == 20
    train(tmp_path / "stopped", Still(), bits(), **settings, listener=Listener(stop=7))
    assert checks(tmp_path / "stopped") == []
    ancestral.resume(tmp_path / "stopped", Still(), bits())  # it knows the lines before
    assert found(tmp_path / "stopped") == found(run.path)


def test_weights_that_never_change_are_frozen(tmp_path: Path) -> None:
    settings = {"optimizer": "sgd", "learning_rate": 1e-30, "epochs": 2, "schedule": "constant", **SMALL}
    run, listener = train(tmp_path / "run", "vae", "digits", **settings)
    assert "frozen_weights" in checks(run.path)
    warning = next(w for w in listener.warnings if "hardly changed" in w)
    assert "the weights of the model have hardly changed in 30 steps" in warning
    assert "at --learning-rate 1e-30 (by" in warning
    assert "or raise --learning-rate." in warning


@pytest.mark.parametrize(
    ("own_rate", "rate", "name", "words"),
    [
        (1e-9, 2e-4, "gan", r"discriminator have .* at --discriminator-learning-rate 1e-09 .*, or raise --disc"),
        (0.0, 10.0, "gan", r"discriminator have .* at --learning-rate 10 .*, or lower --learning-rate: steps too long"),
        (0.0, 2e-4, "gan", r"discriminator have .* at --learning-rate 0\.0002 .*a loss at its limit\)\.$"),
        (1e-9, 2e-3, "", r"at the learning_rate of Player\('discriminator'\), 1e-09 .*, or raise the learning_rate"),
    ],
)
def test_weights_that_stand_still_are_told_their_players_own_rate_and_which_way(
    own_rate: float, rate: float, name: str, words: str
) -> None:
    data = ancestral.data.load("digits").description
    model = GAN(GANConfig(discriminator_learning_rate=own_rate, **SMALL_GAN), data)
    config = TrainingConfig(learning_rate=rate)
    message = health.frozen_weights(model, model.players(), model.state_dict(), 20, config, name)
    assert message is not None
    assert re.search(words, message)
    assert health.frozen_weights(model, model.players(), model.state_dict(), 19, config, name) is None


def test_a_player_whose_weights_stand_still_is_named(tmp_path: Path) -> None:
    class Asleep(GAN):
        """Its discriminator's gradient is zero."""

        def players(self) -> list[Player]:
            first, second = super().players()
            loss = first.loss

            def nothing(batch: Batch) -> dict[str, Tensor]:
                return {"loss": 0 * loss(batch)["loss"]}

            return [dataclasses.replace(first, loss=nothing), second]

    model = Asleep(GANConfig(**SMALL_GAN), ancestral.data.load("digits").description)
    _, listener = train(tmp_path / "run", model, "digits", epochs=2, binarization="none", schedule="constant")
    assert any("the weights of the discriminator have hardly changed" in warning for warning in listener.warnings)


class Cliff(nn.Module):
    """Its weight goes on at a steady pace; its loss falls and flattens, until the weight is over an edge."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def players(self) -> list[Player]:
        return [Player("walker", [self.weight], self.loss)]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        w = self.weight.detach()
        return {"loss": torch.where(w < 4, 3 + 7 * torch.exp(-w), 9) + w - self.weight}


def test_a_loss_that_jumps_and_stays_up_is_a_spike(tmp_path: Path) -> None:
    settings = {**STEPS, "learning_rate": 0.1, "epochs": 12}
    run, listener = train(tmp_path / "run", Cliff(), bits(), **settings)
    assert checks(run.path)[0] == "loss_spike"
    assert "the loss has jumped from 3." in listener.warnings[0]
    assert "has not come back" in listener.warnings[0]
    assert "--learning-rate-warmup" in listener.warnings[0]


def lines(*losses: float, **more: float) -> list[dict[str, float]]:
    """Lines of metrics, one an update."""
    return [{"step": i, "epoch": i / 10, "loss": loss, **more} for i, loss in enumerate(losses, 1)]


def test_a_loss_that_rises_a_little_or_for_a_moment_is_no_spike() -> None:
    flat = [30 + 0.01 * (i % 3) for i in range(20)]
    assert health.loss_spike(lines(*flat, *[40.0] * 5)) is not None
    assert health.loss_spike(lines(*flat, *[31.0] * 5)) is None
    assert health.loss_spike(lines(*flat, 99.0, 99.0, 99.0, 99.0, 30.0)) is None
    wide = [30 + 2.0 * (i % 3) for i in range(20)]
    assert health.loss_spike(lines(*wide, *[50.0] * 5)) is None
    assert health.loss_spike(lines(*flat, *[40.0] * 5, beta=0.5)) is None


@pytest.mark.parametrize("learning_rate", [0.3, 5.0, 1e6])
def test_a_learning_rate_that_throws_the_weights_away_at_once_is_found(learning_rate: float, tmp_path: Path) -> None:
    settings = {"epochs": 4, "learning_rate": learning_rate, **SMALL}
    run, listener = train(tmp_path / "run", "vae", "digits", **settings)
    assert "loss_above_start" in checks(run.path)
    said = "\n".join(listener.warnings)
    assert re.search(r"far above that of the untrained model, 3[345]\.\d+: .*Lower --learning-rate", said)


def test_a_loss_that_comes_back_from_its_first_steps_is_not_above_its_start() -> None:
    high = [34.0, *[90.0] * 9, 30.0, *[90.0] * 9]
    assert all(health.loss_above_start(lines(*high[:n]), 34.0, 0.0, 20) is None for n in range(1, 21))
    assert health.loss_above_start(lines(*high, 90.0), 34.0, 0.0, 21) is not None
    assert health.loss_above_start(lines(*[37.0] * 10), 34.0, 0.0, 10) is None
    assert health.loss_above_start(lines(*[-3.0] * 10), -2.0, 0.0, 10) is None
    assert health.loss_above_start(lines(*[-1.0] * 10), -2.0, 0.0, 10) is not None
    assert health.loss_above_start(lines(*[90.0] * 10), 34.0, 0.0, 101) is None  # training has hardly begun
    assert health.loss_above_start(lines(*[90.0] * 10), math.nan, 0.0, 10) is None  # a game
    assert health.loss_above_start(lines(*[90.0] * 10), 34.0, 20.0, 10) is None  # within what batches differ by
    assert health.loss_above_start(lines(*[90.0] * 10), 34.0, 18.0, 10) is not None


def test_a_run_that_is_resumed_knows_its_untrained_loss(tmp_path: Path) -> None:
    settings = {"epochs": 4, "learning_rate": 5.0, **SMALL}
    whole, _ = train(tmp_path / "whole", "vae", "digits", **settings)
    stopped = Listener(stop=7)
    ancestral.train("vae", "digits", out=tmp_path / "run", reporter=stopped, **settings)
    assert stopped.warnings == []
    ancestral.resume(tmp_path / "run")
    assert found(tmp_path / "run") == found(whole.path) != []


class Parabola(nn.Module):
    """A loss |w - x|² that starts where it can't fall: batches alone differ."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(start)
        self.norm = nn.BatchNorm1d(len(start))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        self.norm(batch.x)
        return {"loss": (self.w - batch.x).square().sum(-1).mean()}

    def players(self) -> list[Player]:
        return [Player("model", [self.w], self.loss)]


@pytest.mark.parametrize("seed", range(5))
def test_a_model_that_has_nothing_left_to_learn_is_not_above_its_start(seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(163, 5)).astype(np.float32)
    data = table(rows)
    model = Parabola(torch.from_numpy(rows.mean(0)))
    progress = Training(model, data, TrainingConfig(epochs=20, batch_size=31, learning_rate=1e-4, seed=seed)).run()
    assert [finding["check"] for finding in progress.findings if finding["check"] == "loss_above_start"] == []


def test_a_loss_that_falls_below_its_start_again_withdraws_what_was_found(tmp_path: Path) -> None:
    rows = np.random.default_rng(3).normal(size=(163, 5)).astype(np.float32)
    model = Parabola(torch.zeros(5))
    config = TrainingConfig(epochs=60, batch_size=31, learning_rate=20.0, schedule="cosine")
    progress = Training(model, table(rows), config).run()
    finding = next(finding for finding in progress.findings if finding["check"] == "loss_above_start")
    assert "the loss is below that of the untrained model" in str(finding["message"])
    assert "withdrawn" in finding


def test_what_is_measured_before_training_leaves_the_model_and_the_random_stream_as_they_were() -> None:
    data = table(np.random.default_rng(3).normal(size=(163, 5)).astype(np.float32))
    model = Parabola(torch.ones(5))
    random, buffers = torch.get_rng_state(), [buffer.clone() for buffer in model.buffers()]
    training = Training(model, data, TrainingConfig(batch_size=31))
    training.start()
    assert training.untrained > 5
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(now, before) for now, before in zip(model.buffers(), buffers, strict=True))


def test_gradients_left_by_the_user_do_not_enter_the_first_update() -> None:
    data = table(np.random.default_rng(3).normal(size=(163, 5)).astype(np.float32))
    weights = []
    for left in (None, torch.full((5,), 1e6)):
        model = Parabola(torch.ones(5))
        model.w.grad = left
        Training(model, data, TrainingConfig(epochs=1, batch_size=31)).run()
        weights.append(model.w.detach())
    assert torch.equal(*weights)


def validated(*losses: float) -> list[dict[str, float]]:
    """Validations, one after every tenth update."""
    return [{"step": 10 * i, "epoch": float(i), "validation loss": loss} for i, loss in enumerate(losses, 1)]


def test_overfitting_is_told_from_a_run_that_fails_and_from_a_validation_that_wanders() -> None:
    falling, config = lines(*(60 - 0.1 * i for i in range(300))), TrainingConfig()
    turned = [40, 35, 30, 26, 25, *(25 + 0.5 * i for i in range(1, 9))]
    assert health.overfitting(falling, validated(*turned), config, 60.0) is not None
    rising = lines(*(40 + 0.1 * i for i in range(200)))
    assert health.overfitting(rising, validated(*turned), config, 100.0) is None
    assert health.overfitting(falling, validated(*turned), config, 34.0) is None  # still above its start
    wandering = [40, 35, 30, 26, 25, *(27.5 + 2 * (i % 2) for i in range(8))]
    assert health.overfitting(falling, validated(*wandering), config, 60.0) is None
    soon = [25.0] * 20 + [20, 24, 24, 24.1, 24.2]
    assert health.overfitting(falling, validated(*soon), config, 60.0) is None
    assert health.overfitting(falling, validated(*soon, 24.0, 24.1), config, 60.0) is not None


class Scripted(nn.Module):
    """A loss that falls and a validation loss as it is written, one at each validation."""

    def __init__(self, *validations: float) -> None:
        super().__init__()
        self.weight, self.validations = nn.Parameter(torch.zeros(())), iter(validations)

    def players(self) -> list[Player]:
        return [Player("scripted", [self.weight], lambda batch: {"loss": 60 - self.weight})]

    def validation(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": torch.tensor(next(self.validations))}


def test_overfitting_is_withdrawn_when_a_later_validation_is_the_best_and_may_come_again(tmp_path: Path) -> None:
    up = [*(25 + 0.5 * i for i in range(1, 9))]
    losses = [40.0, 35.0, 30.0, 26.0, 25.0, *up, 24.0, *(1 + loss for loss in up)]
    settings = {**STEPS, "epochs": len(losses), "learning_rate": 0.1}
    run, listener = train(tmp_path / "run", Scripted(*losses), bits(), **settings)
    assert checks(run.path) == ["overfitting", "overfitting"]
    first, second = found(run.path)
    assert first["withdrawn"] == 14.0
    assert first["message"].endswith("Withdrawn at epoch 14: the validation loss has since been lower than ever, 24.")
    assert "withdrawn" not in second
    card = (run.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "Withdrawn at epoch 14" in card
    assert any(message.startswith("overfitting: Withdrawn at epoch 14") for message in listener.said)
    assert found(run.path) == read_checkpoint(run.path / "checkpoints" / "last")[1]["findings"]
    resumed = Listener()
    ancestral.resume(run.path, Scripted(), bits(), reporter=resumed)
    assert resumed.warnings == []


def test_a_finding_that_is_withdrawn_still_stands_in_the_last_good_state() -> None:
    training = Training(Scripted(), bits(), TrainingConfig(epochs=3, **STEPS))
    training._tell("overfitting", "it rises.")
    _, good = training._state()
    training._withdraw(("overfitting",), "it is lower than ever.")
    assert training.progress.findings[0]["message"] == "it rises. Withdrawn at epoch 0: it is lower than ever."
    assert good.findings[0]["message"] == "it rises."


def test_a_validation_loss_that_is_not_a_number_is_found_and_metrics_stay_json(tmp_path: Path) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    run, listener = train(tmp_path / "run", Scripted(40.0, math.nan, 39.0, math.inf), bits(), epochs=4, **STEPS)
    assert checks(run.path) == ["validation_not_finite"]
    assert "the validation loss is nan at epoch 2, while that of training is finite" in listener.warnings[0]
    written = (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line, parse_constant=refuse) for line in written]
    assert [row["validation loss"] for row in rows if "validation loss" in row] == [40.0, None, 39.0, None]
    assert read_checkpoint(run.path / "checkpoints" / "best")[1]["validation_loss"] == 39.0
    ancestral.resume(run.path, Scripted(), bits())
    assert "not_finite" in (run.path / "health.json").read_text(encoding="utf-8")


def test_a_validation_loss_that_rises_while_training_goes_on_falling_is_overfitting(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "epochs": 200, "train_limit": 41, "likelihood": "discretized-logistic", "latent": 11, "hidden": (61,),
        "schedule": "constant", "learning_rate": 4e-3,
    }  # fmt: skip
    run, listener = train(tmp_path / "run", "vae", "digits", **settings)
    assert checks(run.path) == ["overfitting"]
    assert "--patience 5" in listener.warnings[0]
    finding = found(run.path)[0]
    best = read_checkpoint(run.path / "checkpoints" / "best")[1]["epoch"]
    assert f"was best at epoch {best:.3g}" in finding["message"]
    assert best < finding["epoch"] <= 200


# ---- models


def test_a_divergence_that_costs_too_much_is_posterior_collapse(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"epochs": 12, "beta": 50.0, "learning_rate": 5e-3, "latent": 11, "hidden": (31,)}
    run, listener = train(tmp_path / "run", "vae", "digits", **settings)
    assert checks(run.path) == ["posterior_collapse"]
    assert "'z' says next to nothing of the data (" in listener.warnings[0]
    assert " of 11 units active, 0.0" in listener.warnings[0]
    assert "Lower --beta (now 50)." in listener.warnings[0]


@pytest.mark.parametrize(
    ("objective", "cure"),
    [("elbo", "kl_warmup=10 in LatentVariableModel, or"), ("iwae", "objective='elbo' in LatentVariableModel")],
)
def test_a_decoder_that_does_not_look_at_its_latent_variable_is_posterior_collapse(
    objective: Any, cure: str, tmp_path: Path
) -> None:
    class Deaf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean = nn.Parameter(torch.zeros(2 * 7))

        def forward(self, z: Tensor) -> Tensor:
            return self.mean.expand(*z.shape[:-1], -1)

    p = Joint({"z": standard_normal(2), "x | z": normal(Deaf())})
    model = LatentVariableModel(p, Joint({"z | x": normal(mlp(7, 2 * 2))}), objective)
    x = np.random.default_rng(1).normal(size=(97, 7)).astype(np.float32)
    _, listener = train(tmp_path / "run", model, table(x), epochs=100, learning_rate=0.05, batch_size=31)
    assert any("of 2 units active" in warning for warning in listener.warnings)
    assert any(cure in warning for warning in listener.warnings)
    assert not any("--kl-warmup" in warning or "--bound" in warning for warning in listener.warnings)


def collapsed(model: str, **settings: Any) -> str:
    """What is said of a model of that name all of whose weights are 0."""
    config = MODELS[model][0](**settings)
    data = DataDescription((7,), "binary", 2)
    config, _ = config.resolve(DataConfig(), data, "none")
    made = BUILDERS[model](config, data)
    for parameter in made.parameters():
        parameter.data.zero_()
    found = health.posterior_collapse(made.eval(), [(torch.eye(7).repeat(31, 1), None)], (), model)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("model", "settings", "cure"),
    [
        ("vae", {}, "with --kl-warmup 10, or give each unit --free-bits 0.25."),
        ("vae", {"posterior": "planar"}, "with --kl-warmup 10."),
        ("vae", {"bound": "iwae"}, "Use --bound elbo, where --kl-warmup 10 or --free-bits 0.25 holds"),
        ("hierarchical-vae", {"layers": (3, 2), "hidden": (5, 5)}, "with --kl-warmup 10."),
        ("ladder-vae", {"layers": (3, 2), "hidden": (5, 5)}, "with a longer --kl-warmup (now 10)."),
        ("vae", {"gradient": "sticking-the-landing"}, "with --kl-warmup 10."),
        ("vae", {"kl_warmup": 3.0, "free_bits": 0.5}, "--kl-warmup (now 3), or give each unit more --free-bits"),
        ("sbn", {"layers": (5, 3)}, "with --kl-warmup 10."),
        ("helmholtz", {"layers": (5, 3)}, "--objective reweighted-wake-sleep and --particles 5."),
        ("helmholtz", {"objective": "reweighted-wake-sleep", "particles": 3}, "or give more --particles."),
        ("helmholtz", {"objective": "elbo", "layers": (5, 3)}, "with --kl-warmup 10."),
        ("helmholtz", {"objective": "iwae", "particles": 3, "estimator": "vimco"}, "Use --objective elbo, where --kl"),
    ],
)  # fmt: skip
def test_the_cure_of_a_collapse_is_one_that_the_model_can_take(model: str, settings: dict[str, Any], cure: str) -> None:
    assert cure in collapsed(model, **settings)


def test_a_discriminator_that_learns_a_hundred_times_faster_wins(tmp_path: Path) -> None:
    run, listener = train(
        tmp_path / "run", "gan", "digits", epochs=30, learning_rate=2e-5, discriminator_learning_rate=2e-3,
        dropout=0.0, input_dropout=0.0, **SMALL_GAN,
    )  # fmt: skip
    assert checks(run.path) == ["discriminator_wins"]
    assert "Lower --discriminator-learning-rate" in listener.warnings[0]


def test_a_discriminator_that_is_right_for_less_than_two_hundred_updates_has_not_won() -> None:
    def game(updates: int, right: float = 1.0) -> list[dict[str, float]]:
        names = ("discriminator accuracy on data", "discriminator accuracy on samples")
        return lines(*[0.1] * updates, **dict.fromkeys(names, right))

    assert health.discriminator_wins(game(199), 1000) is None
    assert health.discriminator_wins(game(200), 1000) is not None
    assert health.discriminator_wins(game(200), 8000) is None  # less than a twentieth of training
    unsure = [dict.fromkeys(row, 0.5) | {"step": row["step"]} for row in game(100)]
    later = [{**row, "step": row["step"] + 100} for row in game(150)]
    assert health.discriminator_wins(unsure + later, 1000) is None


class Moved(nn.Module):
    """An encoder that gives the same posterior for every x, at some mean; no weight moves."""

    def __init__(self, mean: float) -> None:
        super().__init__()
        self.mean = mean

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([self.mean, self.mean, 0.0, 0.0]).expand(len(x), 4)


def test_units_that_stand_still_far_from_the_prior_are_no_posterior_collapse() -> None:
    x = torch.randn(97, 7)

    def model(mean: float) -> LatentVariableModel:
        p = Joint({"z": standard_normal(2), "x | z": normal(mlp(2, 2 * 7))})
        return LatentVariableModel(p, Joint({"z | x": normal(Moved(mean))}))

    message = health.posterior_collapse(model(0.0), [(x, None)])
    assert message is not None
    assert "0 of 2 units active" in message
    assert health.posterior_collapse(model(3.0), [(x, None)]) is None
    rising = [{"step": i, "epoch": i / 10, "loss": 1.0, "kl": 0.01 * i} for i in range(1, 51)]
    assert health.posterior_collapse(model(0.0), [(x, None)], rising) is None  # it is only beginning
    still = [{**row, "kl": 0.1} for row in rising]
    message = health.posterior_collapse(model(0.0), [(x, None)], still)
    assert message is not None
    assert message.endswith("more --epochs come first.")


def test_a_generator_that_makes_one_thing_has_collapsed(tmp_path: Path) -> None:
    class OneMode(GAN):
        """Its noise is always the same."""

        def noise(self, n: int) -> Tensor:
            return torch.full((n, self.config.latent), 0.5)

    data = ancestral.data.load("digits", DataConfig(binarization="none"))
    model = OneMode(GANConfig(**SMALL_GAN), data.description)
    run, listener = train(tmp_path / "run", model, data, epochs=40)
    assert checks(run.path) == ["mode_collapse"]
    assert "256 samples are near copies of only 1 of them" in listener.warnings[0]
    assert "two samples differ by 0 on average" in listener.warnings[0]
    assert found(run.path)[0]["step"] >= 400


@pytest.mark.parametrize("modes", [2, 3, 10])
def test_samples_of_a_few_pictures_are_mode_collapse(modes: int) -> None:
    torch.manual_seed(1)
    x = torch.rand(256, 1, 5, 7)
    few = x[:modes][torch.randint(modes, (256,))]
    message = health.mode_collapse(few, torch.rand(256, 1, 5, 7))
    assert message is not None
    assert f"near copies of only {modes} of them" in message
    assert health.mode_collapse(few + 1e-3 * torch.rand_like(few), torch.rand(256, 1, 5, 7)) is not None
    assert health.mode_collapse(x, torch.rand(256, 1, 5, 7)) is None


def test_one_picture_with_small_variations_is_mode_collapse_and_a_smaller_spread_is_not() -> None:
    torch.manual_seed(1)
    data, noise, line = torch.randn(256, 35), torch.randn(256, 35), torch.linspace(0, 1, 256)[:, None]
    assert health.mode_collapse(data[:1] + 0.1 * noise, data) is not None
    assert health.mode_collapse(0.9 * noise, data) is None
    # a curve through the data has near neighbors, but not everything near one picture
    assert health.mode_collapse(3 * noise[:1] * line, data) is None


def test_bits_that_repeat_by_nature_are_no_mode_collapse() -> None:
    torch.manual_seed(1)
    data, samples = torch.randint(0, 2, (2, 256, 7)).float()
    assert health.mode_collapse(samples, data) is None
    assert health.mode_collapse(samples[torch.randint(3, (256,))], data) is not None
    assert health.mode_collapse(samples[:, :2], data[:, :2]) is None


def test_copies_far_from_0_are_mode_collapse() -> None:
    torch.manual_seed(1)
    data, x = torch.rand(2, 256, 35) + 1e4
    assert health.mode_collapse(x[torch.randint(3, (256,))], data) is not None
    assert health.mode_collapse(x, data) is None


def test_until_a_game_is_over_few_groups_are_no_collapse() -> None:
    torch.manual_seed(1)
    data = torch.rand(256, 35)
    few = data[torch.randint(3, (256,))]
    assert health.mode_collapse(few, data, done=False) is None
    assert health.mode_collapse(few[:1].expand(256, -1), data, done=False) is not None


class Swinging(nn.Module):
    """A game whose weight swings between -1 and 1, where all samples are the same; its average does not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.other = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def players(self) -> list[Player]:
        return [
            Player("swing", [self.weight], lambda batch: {"loss": self.weight.square().sum()}),
            Player("other", [self.other], lambda batch: {"loss": -self.other.sum()}),
        ]

    def sample(self, n: int, *, mean: bool = False) -> Tensor:
        return torch.randn(n, 7) * (self.weight.abs() < 0.5)


@pytest.mark.parametrize(("ema", "collapsed"), [(0.9, False), (0.0, True)])
def test_samples_are_those_of_the_averaged_weights(ema: float, collapsed: bool, tmp_path: Path) -> None:
    data = table(np.random.default_rng(1).normal(size=(53, 7)).astype(np.float32))
    run, _ = train(tmp_path / "run", Swinging(), data, epochs=100, ema=ema, **{**STEPS, "learning_rate": 1.0})
    assert ("mode_collapse" in checks(run.path)) == collapsed


def test_a_game_whose_samples_need_what_they_are_not_given_trains_to_its_end(tmp_path: Path) -> None:
    class Labelled(Swinging):
        def sample(self, n: int, *, mean: bool = False) -> Tensor:
            raise AncestralError("labels are needed.")

    data = table(np.random.default_rng(1).normal(size=(53, 7)).astype(np.float32))
    run, _ = train(tmp_path / "run", Labelled(), data, epochs=100, **{**STEPS, "learning_rate": 1.0})
    assert json.loads((run.path / "checkpoints/last/state.json").read_text())["finished"] == "all 100 epochs done"


# ---- findings


def test_a_finding_is_told_to_everyone_once_and_survives_resuming(tmp_path: Path) -> None:
    class Notebook:
        def __init__(self) -> None:
            self.heard: list[tuple[str, str]] = []

        def start(self, config: dict[str, Any]) -> None: ...

        def scalars(self, step: int, values: dict[str, float]) -> None: ...

        def image(self, step: int, name: str, picture: Any) -> None: ...

        def text(self, name: str, content: str) -> None:
            self.heard.append((name, content))

        def finish(self) -> None: ...

    notebook, listener = Notebook(), Listener(stop=3)
    settings = {"epochs": 1, "ema": 0.9999, **SMALL}
    run = ancestral.train(
        "vae", "digits", out=tmp_path / "run", reporter=listener, own_trackers=[notebook], **settings
    )
    (warning,) = listener.warnings
    assert ("cold_average", warning) in notebook.heard
    (run.path / "health.json").unlink()
    again = Listener()
    run = ancestral.resume(run.path, reporter=again)
    assert again.warnings == []
    assert [finding["message"] for finding in found(run.path)] == [warning]
    whole, _ = train(tmp_path / "whole", "vae", "digits", **settings)
    assert found(whole.path) == found(run.path)
    card = (run.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"- Epoch 0: {warning}" in card


def test_what_a_run_without_a_checkpoint_had_found_is_forgotten_when_it_starts_again(tmp_path: Path) -> None:
    run, _ = train(tmp_path / "run", "vae", "digits", epochs=1, **SMALL)
    for checkpoint in ("last", "best"):
        shutil.rmtree(run.path / "checkpoints" / checkpoint)
    RunFolder(run.path).write_json("health.json", [{"check": "old", "step": 1, "epoch": 0.1, "message": "gone"}])
    ancestral.resume(run.path)
    assert found(run.path) == []

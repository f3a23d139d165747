"""The training loop: what the result depends on, when it stops, and what it leaves behind."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import ancestral
from ancestral import AncestralError, Joint
from ancestral.configs import DataConfig, DataDescription, TrainingConfig, VAEConfig
from ancestral.data.dataset import Dataset, Rows, Split
from ancestral.data.loading import assemble
from ancestral.data.raw import Raw
from ancestral.distributions import bernoulli, bernoulli_bias
from ancestral.estimators import InputDependent, LikelihoodRatio
from ancestral.models import Batch, LatentVariableModel, Player, variational_autoencoder
from ancestral.networks import mlp
from ancestral.runs import Run
from ancestral.training import RunFolder, Training
from ancestral.training.checkpoint import read_checkpoint
from ancestral.training.progress import Silent

GREY = np.random.default_rng(1).integers(0, 256, (53, 5, 7), dtype=np.uint8)
KEPT: dict[str, dict[str, Any]] = {
    "vae": {
        "latent": 3, "hidden": (7,), "binarization": "dynamic", "ema": 0.9, "schedule": "cosine", "patience": 2,
        "epochs": 6, "batch_size": 13, "validate_every": 2, "learning_rate": 0.03,
    },
    "gan": {
        "latent": 3, "hidden": (7,), "discriminator_hidden": (5,), "pieces": 2, "discriminator_steps": 2,
        "epochs": 6, "batch_size": 13,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "grey.npy"
    np.save(path, GREY)
    return path


def bits(n: int = 53, **config: Any) -> Dataset:
    x = np.random.default_rng(1).integers(0, 2, (n, 7), dtype=np.uint8)
    return assemble("bits", Raw(Rows(x), levels=2), DataConfig(**config))


def small_vae() -> nn.Module:
    torch.manual_seed(0)
    config = VAEConfig(latent=3, hidden=(5,), likelihood="bernoulli")
    return variational_autoencoder(config, DataDescription((7,), "binary", 2))


def contents(run: Run | Path) -> dict[str, bytes]:
    """Every tensor file of the checkpoints, byte for byte; those before are of whatever moment they were saved at."""
    path = run if isinstance(run, Path) else run.path
    files = [file for which in ("best", "last") for file in path.glob(f"checkpoints/{which}/*.safetensors")]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def metrics(run: Run | Path) -> list[dict[str, Any]]:
    path = run if isinstance(run, Path) else run.path
    return [{k: v for k, v in row.items() if k != "seconds"} for row in RunFolder(path).metrics()]


class Interrupting(Silent):
    """Presses Ctrl-C after some step."""

    def __init__(self, step: int, number: int = signal.SIGINT, times: int = 1) -> None:
        self.step, self.number, self.times = step, number, times
        self.messages: list[str] = []

    def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None:
        if done == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)

    def say(self, message: str) -> None:
        self.messages.append(message)


@pytest.fixture(scope="module")
def uninterrupted(grey: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    out = tmp_path_factory.mktemp("whole")
    return {model: ancestral.train(model, grey, out=out / model, **settings) for model, settings in KEPT.items()}


@pytest.mark.parametrize("model", ["vae", "gan"])
@pytest.mark.parametrize("steps", [(1,), (4, 11), (7, 8, 23)])
def test_a_run_that_was_interrupted_ends_bit_identical_to_one_that_was_not(
    model: str, steps: tuple[int, ...], grey: Path, uninterrupted: dict[str, Run], tmp_path: Path
) -> None:
    reporter = Interrupting(steps[0])
    run = ancestral.train(model, grey, out=tmp_path / "run", reporter=reporter, **KEPT[model])
    assert any("interrupted at epoch" in message for message in reporter.messages)
    assert run.metrics[-1]["step"] == steps[0]
    assert run.which == "last"
    for step in steps[1:]:
        run = ancestral.resume(tmp_path / "run", reporter=Interrupting(step))
        assert run.metrics[-1]["step"] == step
    run = ancestral.resume(tmp_path / "run")
    whole = uninterrupted[model]
    assert contents(run) == contents(whole)
    assert metrics(run) == metrics(whole)
    assert run.which == whole.which == ("best" if model == "vae" else "last")
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, whole.model.state_dict()[name])


def test_a_killed_run_is_resumed_bit_identically(grey: Path, uninterrupted: dict[str, Run], tmp_path: Path) -> None:
    script = """
import json, os, signal, sys
import torch
import ancestral
from ancestral.training.progress import Silent
class Killed(Silent):
    def update(self, done, epoch, scalars):
        if done == 11:
            os.kill(os.getpid(), signal.SIGKILL)
settings = json.loads(sys.argv[3])
ancestral.train("vae", sys.argv[1], out=sys.argv[2], reporter=Killed(), checkpoint_seconds=0.0, **settings)
"""
    command = [sys.executable, "-c", script, str(grey), str(tmp_path / "run"), json.dumps(KEPT["vae"])]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last")[1]["step"] == 10
    assert metrics(tmp_path / "run")[-1]["step"] == 11  # written after the checkpoint: it will come again
    run = ancestral.resume(tmp_path / "run")
    assert contents(run) == contents(uninterrupted["vae"])
    assert metrics(run) == metrics(uninterrupted["vae"])


def test_a_request_to_terminate_saves_too(grey: Path, tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    run = ancestral.train("gan", grey, out=tmp_path / "run", reporter=Interrupting(5, signal.SIGTERM), **KEPT["gan"])
    assert read_checkpoint(run.path / "checkpoints" / "last")[1]["step"] == 5
    assert "not finished" in (run.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_second_interruption_does_not_wait(grey: Path, uninterrupted: dict[str, Run], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ancestral.train("gan", grey, out=tmp_path / "run", reporter=Interrupting(5, times=2), **KEPT["gan"])
    said = Interrupting(-1)
    run = ancestral.resume(tmp_path / "run", reporter=said)
    assert any("no checkpoint yet" in message for message in said.messages)
    assert contents(run) == contents(uninterrupted["gan"])
    assert metrics(run) == metrics(uninterrupted["gan"])


def test_a_finished_run_is_resumed_to_itself(grey: Path, tmp_path: Path) -> None:
    run = ancestral.train("gan", grey, out=tmp_path / "run", **KEPT["gan"])
    before, said = contents(run), Interrupting(-1)
    assert contents(ancestral.resume(run.path, reporter=said)) == before
    assert any("already done" in message for message in said.messages)


def test_training_works_outside_the_main_thread(tmp_path: Path) -> None:
    finished: list[str] = []
    config = TrainingConfig(epochs=1)
    thread = threading.Thread(target=lambda: finished.append(Training(small_vae(), bits(), config).run().finished))
    thread.start()
    thread.join()
    assert finished == ["all 1 epochs done"]


# ---- what the weights depend on


def weights_after(folder: Path | None = None, **settings: Any) -> list[Tensor]:
    config = TrainingConfig(**{"epochs": 4, "batch_size": 13, **settings})
    model = small_vae()
    torch.manual_seed(config.seed)
    place = None
    if folder is not None:
        place = RunFolder(folder)
        place.create({})
    Training(model, bits(), config, place).run()
    return [value.clone() for value in model.state_dict().values()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_what_is_looked_at_changes_nothing(tmp_path: Path) -> None:
    plain = weights_after()
    for i, settings in enumerate(({"validate_every": 1}, {"checkpoint_seconds": 0.0}, {"patience": 3}, {"ema": 0.9})):
        assert same(plain, weights_after(tmp_path / str(i), **settings)), settings
    assert not same(plain, weights_after(seed=1))


def test_pictures_change_nothing(grey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**KEPT["vae"], "epochs": 2, "patience": 0}
    run = ancestral.train("vae", grey, out=tmp_path / "with", **settings)
    monkeypatch.setattr("ancestral.training.loop.PICTURES_AT", ())
    without = ancestral.train("vae", grey, out=tmp_path / "without", **settings)
    assert not list((without.path / "samples").iterdir())
    assert contents(run) == contents(without)


def test_pictures_are_made_from_the_start_to_the_end(grey: Path, tmp_path: Path) -> None:
    settings = {**KEPT["vae"], "epochs": 4, "batch_size": 1, "validate_every": 0}
    run = ancestral.train("vae", grey, out=tmp_path / "run", **settings)
    percent = ("000", "001", "002", "005", "010", "020", "050", "100")
    names = {f"samples-{p}-percent.png" for p in percent} | {f"reconstructions-{p}-percent.png" for p in percent[1:]}
    assert {place.name for place in (run.path / "samples").iterdir()} == names
    for name in names:
        with Image.open(run.path / "samples" / name) as picture:
            picture.load()
            assert picture.format == "PNG"


def test_short_training_never_claims_more_than_was_done() -> None:
    marks = Training(small_vae(), bits(), TrainingConfig(epochs=2, batch_size=13)).marks
    total = max(marks)
    assert marks[0] == 0.0
    assert marks[total] == 1.0
    assert all(step / total >= part for step, part in marks.items())


def test_tables_have_no_pictures(tmp_path: Path) -> None:
    weights_after(tmp_path / "run")
    assert not list((tmp_path / "run" / "samples").iterdir())


# ---- stopping


class Rising(nn.Module):
    """Its weight rises by a tenth at each step; validation is best where the weight is 3."""

    def __init__(self, broken: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.broken = broken

    def players(self) -> list[Player]:
        return [Player("rising", [self.weight], lambda batch: {"loss": -self.weight})]

    def validation(self, batch: Batch) -> dict[str, Tensor]:
        loss = (self.weight - 3) ** 2
        return {"loss": loss / 0 if self.broken else loss}


RISING = TrainingConfig(
    epochs=50, batch_size=9, optimizer="sgd", learning_rate=0.1, schedule="constant", patience=2, validate_every=1
)


def test_training_stops_when_validation_no_longer_improves_and_keeps_the_best(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create({})
    data = bits(53)
    assert -(-len(data.train) // 9) == 5  # the weight rises by a half in each epoch
    progress = Training(Rising(), data, RISING, folder).run()
    assert progress.finished.startswith("stopped early at epoch 8: 2 validations without improvement")
    assert "at epoch 6" in progress.finished
    assert (progress.best_epoch, progress.without_improvement, progress.step) == (6.0, 2, 40)
    parts, state = read_checkpoint(folder.checkpoint("best"))
    assert parts["model"]["weight"].item() == pytest.approx(3, abs=1e-4)
    assert state["epoch"] == 6.0
    assert read_checkpoint(folder.checkpoint("last"))[0]["model"]["weight"].item() == pytest.approx(4, abs=1e-4)


def test_a_validation_that_is_never_finite_is_no_improvement() -> None:
    progress = Training(Rising(broken=True), bits(53), RISING).run()
    assert progress.best is None
    assert "none was finite" in progress.finished


def test_a_run_that_stopped_early_loads_its_best_weights(tmp_path: Path) -> None:
    run = ancestral.train(Rising(), bits(53), out=tmp_path / "run", **changed(RISING))
    assert run.which == "best"
    assert run.model.weight.item() == pytest.approx(3, abs=1e-4)
    last = ancestral.load(run.path, Rising(), which="last")
    assert last.model.weight.item() == pytest.approx(4, abs=1e-4)
    card = (run.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "stopped early" in card
    assert "at epoch 6" in card


def changed(config: TrainingConfig) -> dict[str, Any]:
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if getattr(config, f.name) != f.default}


def test_patience_where_nothing_is_validated_is_an_error() -> None:
    with pytest.raises(AncestralError, match="patience has no effect: bits has no validation rows"):
        Training(small_vae(), bits(validation=0.0), TrainingConfig(patience=3))

    class Playing(nn.Module):
        def players(self) -> list[Player]:
            return []

    with pytest.raises(AncestralError, match="patience has no effect: this model is trained by a game"):
        Training(Playing(), bits(), TrainingConfig(patience=3))


def test_what_can_not_be_trained_is_an_error() -> None:
    with pytest.raises(AncestralError, match="Linear can't be trained"):
        Training(nn.Linear(3, 5), bits(), TrainingConfig())
    data = bits()
    empty = dataclasses.replace(data, train=Split(data.train.source, data.train.index[:0]))
    with pytest.raises(AncestralError, match="bits has no training rows"):
        Training(small_vae(), empty, TrainingConfig())
    with pytest.raises(AncestralError, match="no run folder to continue from"):
        Training(small_vae(), data, TrainingConfig()).restore()


def test_a_state_that_is_not_finite_is_never_saved(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create({})
    training = Training(small_vae(), bits(), TrainingConfig(), folder)
    training.save()
    training.progress.step = 7
    training.sums, training.counts = {"loss": torch.tensor(float("nan"))}, {"loss": 2}
    with pytest.raises(AncestralError, match="diverged by step 7"):
        training.save()
    assert read_checkpoint(folder.checkpoint("last"))[1]["step"] == 0


# ---- a step


def test_a_gradient_is_clipped_to_its_norm() -> None:
    model = small_vae()
    before = [p.detach().clone() for p in model.parameters()]
    config = TrainingConfig(optimizer="sgd", learning_rate=1.0, schedule="constant", gradient_clip=0.05)
    training = Training(model, bits(), config)
    training._step(Batch(torch.ones(5, 7)))
    moved = torch.cat([(p - b).flatten() for p, b in zip(model.parameters(), before, strict=True)])
    assert moved.norm().item() == pytest.approx(0.05, rel=1e-3)


def test_the_gradient_of_what_an_estimator_learns_is_clipped_apart() -> None:
    torch.manual_seed(0)
    p = Joint({"h": bernoulli_bias(3), "x | h": bernoulli(mlp(3, 7))})
    estimator = LikelihoodRatio(InputDependent(mlp(7, 1)))
    model = LatentVariableModel(p, Joint({"h | x": bernoulli(mlp(7, 3))}), estimators={"h": estimator})
    own = list(estimator.parameters())
    before = {w: w.detach().clone() for w in model.parameters()}
    config = TrainingConfig(optimizer="sgd", learning_rate=1.0, schedule="constant", gradient_clip=0.05)
    training = Training(model, bits(), config)
    training._step(Batch(torch.ones(5, 7)))
    for part in (own, [w for w in model.parameters() if not any(w is other for other in own)]):
        moved = torch.cat([(w.detach() - before[w]).flatten() for w in part])
        assert moved.norm().item() == pytest.approx(0.05, rel=1e-3)


def test_half_precision_keeps_weights_in_single(tmp_path: Path) -> None:
    weights = weights_after(precision="bfloat16")
    assert all(value.dtype == torch.float32 for value in weights if value.is_floating_point())
    assert all(bool(torch.isfinite(value).all()) for value in weights)
    assert not same(weights, weights_after())


def test_averaged_weights_serve_validation_pictures_and_use_and_leave_training_alone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create({})
    model = small_vae()
    training = Training(model, bits(), TrainingConfig(epochs=3, batch_size=13, ema=0.9), folder)
    training.run()
    parts, _ = read_checkpoint(folder.checkpoint("last"))
    name = next(iter(parts["model"]))
    assert torch.equal(parts["model"][name], model.state_dict()[name])
    assert not torch.equal(parts["average"][name], parts["model"][name])
    with training._evaluating():
        assert torch.equal(model.state_dict()[name], parts["average"][name])
        assert not model.training
    assert torch.equal(parts["model"][name], model.state_dict()[name])
    best, _ = read_checkpoint(folder.checkpoint("best"))
    assert torch.equal(best["model"][name], parts["average"][name])


def test_a_mean_that_is_interrupted_goes_on_with_every_digit(tmp_path: Path) -> None:
    class Third(nn.Module):
        """Its loss has digits that a shorter number would lose."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))

        def players(self) -> list[Player]:
            return [Player("third", [self.weight], lambda batch: {"loss": (self.weight - 1 / 3).square()})]

    class Stop(Silent):
        def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None:
            if done == 1:
                os.kill(os.getpid(), signal.SIGINT)

    lines = []
    for reporter in (Silent(), Stop()):
        folder = RunFolder(tmp_path / type(reporter).__name__)
        folder.create({})
        training = Training(Third(), bits(), TrainingConfig(epochs=2, batch_size=7), folder, reporter)
        training.run()
        if not training.progress.finished:
            training = Training(Third(), bits(), TrainingConfig(epochs=2, batch_size=7), folder)
            training.restore()
            assert training.sums == {}
            training.sums, training.counts = {"loss": torch.tensor(1 / 3, dtype=torch.float64)}, {"loss": 1}
            training._load(*training._state())
            assert training.sums["loss"].item() == 1 / 3
            training.sums, training.counts = {}, {}
            training.run()
        lines.append([row["loss"] for row in folder.metrics()])
    assert lines[0] == lines[1]


def test_metrics_are_means_over_the_steps_since_the_line_before(tmp_path: Path) -> None:
    class Counting(nn.Module):
        """Its loss at step n is n."""

        def __init__(self) -> None:
            super().__init__()
            self.weight, self.n = nn.Parameter(torch.zeros(())), 0

        def players(self) -> list[Player]:
            return [Player("counting", [self.weight], self.loss)]

        def loss(self, batch: Batch) -> dict[str, Tensor]:
            self.n += 1
            return {"loss": self.weight * 0 + self.n}

    folder = RunFolder(tmp_path / "run")
    folder.create({})
    training = Training(Counting(), bits(), TrainingConfig(epochs=2, batch_size=7), folder)
    training.log_every = 3
    training.start()
    training.model.n = -1  # type: ignore[assignment]
    training.run()
    rows = list(folder.metrics())
    steps = [row["step"] for row in rows]
    assert steps == [3, 6, 9, 12]
    assert [row["loss"] for row in rows] == [1, 4, 7, 10]
    assert [row["epoch"] for row in rows] == [step / training.steps_per_epoch for step in steps]
    assert json.dumps(rows[0]).startswith('{"step": 3, "epoch"')


def test_trackers_hear_of_everything_and_are_closed_after_an_error(tmp_path: Path) -> None:
    class Notebook:
        def __init__(self) -> None:
            self.heard: list[str] = []

        def start(self, config: dict[str, Any]) -> None:
            self.heard.append("start")

        def scalars(self, step: int, values: dict[str, float]) -> None:
            self.heard += values

        def image(self, step: int, name: str, picture: Image.Image) -> None:
            self.heard.append(name)

        def text(self, name: str, content: str) -> None:
            self.heard.append(f"{name}: {content}")

        def finish(self) -> None:
            self.heard.append("finish")

    folder = RunFolder(tmp_path / "run")
    folder.create({})
    x = assemble("grey", Raw(Rows(GREY[:, None])), DataConfig(binarization="threshold"))
    model = variational_autoencoder(VAEConfig(latent=3, hidden=(5,), likelihood="bernoulli"), x.description)
    notebook = Notebook()
    Training(model, x, TrainingConfig(epochs=1), folder, trackers=[notebook]).run()
    assert notebook.heard[0] == "start"
    assert notebook.heard[-2:] == ["end: all 1 epochs done", "finish"]
    assert {"loss", "kl", "reconstruction", "validation loss", "samples", "reconstructions"} <= set(notebook.heard)
    notebook = Notebook()
    with pytest.raises(AncestralError, match="diverged"):
        Training(small_vae(), bits(), TrainingConfig(optimizer="sgd", learning_rate=1e25), trackers=[notebook]).run()
    assert notebook.heard[-2:] == ["end: failed", "finish"]

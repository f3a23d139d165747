"""A compiled loss: the same numbers as without, whatever the loss does, or an error that says why not."""

from __future__ import annotations

import copy
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ancestral
from ancestral import AncestralError, Joint, bernoulli, mlp, normal, standard_normal
from ancestral.models import Batch, Player
from ancestral.models.contract import Scalars
from ancestral.runs import Run
from ancestral.training import RunFolder
from ancestral.training.compilation import compiled, compiling, cpp_compiler
from ancestral.training.progress import Silent

needs_compiler = pytest.mark.skipif(cpp_compiler() is None, reason="there is no C++ compiler")

GREY = np.random.default_rng(1).integers(0, 256, (53, 5, 4), dtype=np.uint8)
SETTINGS: dict[str, dict[str, Any]] = {
    # of 53 rows the last batch of an epoch is smaller; the weight of the divergence rises for an epoch and a half
    "vae": {"latent": 3, "hidden": (7,), "binarization": "dynamic", "kl_warmup": 1.5, "epochs": 3, "batch_size": 13},
    "gan": {"latent": 3, "hidden": (7,), "discriminator_hidden": (5,), "pieces": 2, "epochs": 2, "batch_size": 13},
}


class Interrupting(Silent):
    """Presses Ctrl-C after some step."""

    def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None:
        if done == 3:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "grey.npy"
    np.save(path, GREY)
    return path


@pytest.fixture(scope="module")
def runs(grey: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    out = tmp_path_factory.mktemp("compiled")
    return {
        model: ancestral.train(model, grey, out=out / model, compile=True, **settings)
        for model, settings in SETTINGS.items()
    }


def metrics(run: Run) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in RunFolder(run.path).metrics()]


@needs_compiler
@pytest.mark.parametrize("model", SETTINGS)
def test_a_compiled_run_draws_the_same_noise_and_learns_the_same(
    model: str, grey: Path, runs: dict[str, Run], tmp_path: Path
) -> None:
    run = ancestral.train(model, grey, out=tmp_path / "run", **SETTINGS[model])
    for mine, theirs in zip(metrics(runs[model]), metrics(run), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    for mine, theirs in zip(runs[model].model.parameters(), run.model.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


@needs_compiler
def test_a_compiled_run_that_was_interrupted_ends_bit_identical_to_one_that_was_not(
    grey: Path, runs: dict[str, Run], tmp_path: Path
) -> None:
    settings = SETTINGS["vae"]
    ancestral.train("vae", grey, out=tmp_path / "run", compile=True, reporter=Interrupting(), **settings)
    run = ancestral.resume(tmp_path / "run")
    assert metrics(run) == metrics(runs["vae"])
    for mine, theirs in zip(run.model.parameters(), runs["vae"].model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


class Odd(nn.Module):
    """What backward() takes care of: an unused parameter, a frozen one, one gradient for two, an expanded gradient."""

    def __init__(self) -> None:
        super().__init__()
        names = ("unused", "frozen", "one", "other", "summed")
        self.weights = nn.ParameterDict({name: nn.Parameter(torch.full((7,), 0.5)) for name in names})
        self.weights["frozen"].requires_grad_(False)
        self.seen = 0

    def loss(self, batch: Batch) -> Scalars:
        weights = self.weights
        product = (batch.x * (weights["one"] + weights["other"] + weights["frozen"])).sum(-1)
        return {"loss": product.square().mean() + weights["summed"].sum() / max(1, batch.rows)}

    def counted(self, batch: Batch) -> Scalars:
        self.seen += 1
        return {"loss": self.loss(batch)["loss"] * self.seen}

    def decided(self, batch: Batch) -> Scalars:
        loss = self.loss(batch)["loss"]
        return {"loss": loss if loss > 1 else -loss}

    def selected(self, batch: Batch) -> Scalars:
        assert batch.y is not None
        rows = batch.x[batch.y >= 0]
        return {"loss": self.loss(Batch(rows))["loss"] if len(rows) > 2 else self.loss(batch)["loss"]}

    def player(self, loss: Any) -> Player:
        return Player("odd one", list(self.parameters()), loss)


def batch() -> Batch:
    return Batch(torch.linspace(-1, 2, 91).view(13, 7), rows=53)


@needs_compiler
def test_gradients_are_those_of_backward_each_with_memory_of_its_own() -> None:
    model = Odd()
    exact = copy.deepcopy(model)
    exact.loss(batch())["loss"].backward()  # type: ignore[no-untyped-call]
    with compiling():
        scalars = compiled(model.player(model.loss), "cpu")(batch(), False)
    assert not scalars["loss"].requires_grad
    gradients: list[Tensor] = []
    for mine, theirs in zip(model.parameters(), exact.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        if mine.grad is not None and theirs.grad is not None:
            assert mine.grad.allclose(theirs.grad)
            gradients.append(mine.grad)
    for gradient in gradients:
        gradient.mul_(0)  # as clipping would, in place
        assert sum(bool((other == 0).all()) for other in gradients) == 1
        gradient.add_(1)


@needs_compiler
@pytest.mark.parametrize("words", [{"estimator": "nvil"}, {"temperature": 1.0, "temperature_rate": 0.1}])
def test_an_estimator_that_changes_during_training_is_not_compiled(words: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(AncestralError, match=r"compile is for estimators that stay .* changes during training"):
        ancestral.train("sbn", "digits", out=tmp_path / "run", layers=(3,), compile=True, epochs=1, **words)


def test_a_buffer_whose_changes_would_be_lost_is_refused(tmp_path: Path) -> None:
    p = Joint({"z": standard_normal(2), "x | z": bernoulli(mlp(2, 3, (1, 8, 8)), event_dims=3)})
    model = ancestral.LatentVariableModel(p, Joint({"z | x": normal(mlp((1, 8, 8), 3, 4))}))
    model.register_buffer("count", torch.zeros((), dtype=torch.float64))
    with pytest.raises(AncestralError, match=r"loses changes of the buffer count, .* give it the shape \(1,\)"):
        ancestral.train(model, "digits", out=tmp_path / "run", compile=True, epochs=1)


def test_a_loss_that_counts_the_rows_it_selects_is_told_that_it_can_not_be_compiled() -> None:
    model, labels = Odd(), torch.tensor([-1, 0, 1])
    seen = Batch(batch().x[:3], labels[: len(batch().x[:3])])
    with compiling(), pytest.raises(AncestralError, match=r"can't be compiled: .*Train without --compile"):
        compiled(model.player(model.selected), "cpu")(seen, False)


def test_a_loss_that_looks_at_its_own_value_is_told_that_it_can_not_be_compiled() -> None:
    model = Odd()
    with (
        compiling(),
        pytest.raises(AncestralError, match=r"loss of the odd one can't be compiled: .*Train without --compile"),
    ):
        compiled(model.player(model.decided), "cpu")(batch(), False)


@needs_compiler
def test_a_loss_that_counts_its_calls_is_told_so() -> None:
    model = Odd()
    with compiling(), torch._dynamo.config.patch(recompile_limit=2):
        gradients = compiled(model.player(model.counted), "cpu")
        values = [gradients(batch(), False)["loss"].item() for _ in range(2)]
        assert values[1] == pytest.approx(2 * values[0])
        with pytest.raises(AncestralError, match="it reads a number that changes from step to step"):
            gradients(batch(), False)


def test_without_a_compiler_it_is_said_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, grey: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    words = r"needs a C\+\+ compiler, but no-such-compiler is not found.*apt install g\+\+"
    with pytest.raises(AncestralError, match=words):
        ancestral.train("vae", grey, out=tmp_path / "run", compile=True, epochs=1, latent=3, hidden=(7,))
    assert not (tmp_path / "run").exists()  # nothing was learned, and nothing is left


def test_an_older_pytorch_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", type(torch.__version__)("2.12.1+cpu"))
    model = Odd()
    with pytest.raises(AncestralError, match=r"needs PyTorch 2\.13 or newer, and this is 2\.12\.1"):
        compiled(model.player(model.loss), "cpu")

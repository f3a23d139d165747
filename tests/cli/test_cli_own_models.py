"""Models of the user's own, FILE.py:NAME, in every verb."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

TINY = ("--epochs", 1, "--batch-size", 719)


@pytest.fixture
def own(runs: Any) -> str:
    return f"{runs.place / 'own_model.py'}:make"


def test_every_verb_takes_a_model_of_ones_own(command: Any, runs: Any, own: str, tmp_path: Path) -> None:
    run = runs.copy("own", tmp_path / "run")
    for verb, name in (
        ("sample", "samples.png"),
        ("reconstruct", "reconstructions.png"),
        ("interpolate", "interpolations.png"),
        ("evaluate", "evaluation.json"),
        ("resume", "config.toml"),
    ):
        ended = command(verb, run, "--model", own)
        assert ended.status == 0, ended.err
        assert (run / name).exists()
        for line in ended.out.splitlines():  # what comes next must know the model too
            assert "ancestral " not in line or f"--model {own}" in line


def test_an_instance_serves_as_well_as_a_function(command: Any, runs: Any, tmp_path: Path) -> None:
    run = runs.copy("own", tmp_path / "run")
    assert command("sample", run, "--model", f"{runs.place / 'own_model.py'}:model", "-n", 2).status == 0


@pytest.mark.parametrize("verb", ["sample", "reconstruct", "interpolate", "evaluate", "resume"])
def test_without_its_model_a_verb_says_what_to_do(command: Any, runs: Any, verb: str) -> None:
    ended = command(verb, runs.own)
    assert ended.status == 1
    assert "--model FILE.py:NAME" in ended.err


def test_a_named_model_needs_none(command: Any, runs: Any, own: str) -> None:
    ended = command("sample", runs.vae, "--model", own)
    assert ended.status == 1
    assert "holds a vae, which needs no model of yours" in ended.err


def test_training_says_what_comes_next_with_the_model(command: Any, own: str) -> None:
    ended = command("train", own, "digits", *TINY, "--out", "mine")
    assert ended.status == 0
    assert "p(x, z) = p(z) p(x | z)" in ended.err
    assert f"ancestral sample mine --model {own} " in ended.out
    assert f"ancestral evaluate mine --model {own} " in ended.out


def test_its_weights_are_a_function_of_the_seed(command: Any, own: str) -> None:
    weights = []
    for number, seed in enumerate((0, 0, 1)):
        words = ("--learning-rate", 1e-30, "--seed", seed, "--out", f"run{number}")
        assert command("train", own, "digits", *TINY, *words).status == 0
        weights.append(Path(f"run{number}/checkpoints/last/model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_its_file_may_import_its_neighbours(
    command: Any, runs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "neighbour_of_mine.py").write_text((runs.place / "own_model.py").read_text())
    (tmp_path / "code" / "numpy.py").write_text("from neighbour_of_mine import make\n")
    numpy = sys.modules["numpy"]
    ended = command("sample", runs.own, "--model", "code/numpy.py:make", "-n", 2, "--out", "x.png")
    monkeypatch.delitem(sys.modules, "neighbour_of_mine", raising=False)
    assert ended.status == 0, ended.err
    assert sys.modules["numpy"] is numpy  # the name of the file hides no package


MODEL = "from ancestral import Joint, LatentVariableModel, bernoulli, mlp, normal, standard_normal\n"


@pytest.mark.parametrize(
    ("code", "name", "said"),
    [
        ("model = None\n", "modle", "defines no 'modle'. Did you mean 'model'?"),
        ("model = 3\n", "model", "is a int, not a model: give a LatentVariableModel"),
        ("def model():\n    return 3\n", "model", "is a int, not a model"),
        ("def model(:\n", "model", "SyntaxError"),
        ("\n\nimport nothing_of_that_name\n", "model", "mine.py, line 3, does not run: ModuleNotFoundError"),
        ("model = undefined\n", "model", "line 1, does not run: NameError: name 'undefined' is not defined"),
        ("\nraise ValueError('too few')\n", "model", "line 2, does not run: ValueError: too few"),
        ("import sys\nsys.exit(3)\n", "model", "line 2, does not run: SystemExit: 3"),
        ("def model(size):\n    return size\n", "model", "TypeError: model() missing 1 required positional argument"),
        ("def model():\n    return 1 / 0\n", "model", "line 2, does not run: ZeroDivisionError"),
        (MODEL + 'Joint({"x | z": mlp(3, 5), "z | x": mlp(5, 3)})\n', "model", "line 2, does not run: GraphError"),
        ("from torch import nn\nmodel = nn.Linear(3, 5)\n", "model", "a Linear can't be trained: it has no players()"),
    ],
)
def test_a_file_that_holds_no_model_is_explained(command: Any, tmp_path: Path, code: str, name: str, said: str) -> None:
    Path("mine.py").write_text(code, encoding="utf-8")
    ended = command("train", f"mine.py:{name}", "digits", *TINY, "--out", "run")
    assert ended.status == 1
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("mine.py", "write FILE.py:NAME"),
        ("mine.py:", "write FILE.py:NAME"),
        ("mine.py:a b", "write FILE.py:NAME"),
        ("mine.txt.py.txt:model", "write FILE.py:NAME"),
        ("nowhere/mine.py:model", "there is no file nowhere/mine.py"),
    ],
)
def test_a_reference_that_names_no_file_is_explained(command: Any, runs: Any, reference: str, said: str) -> None:
    for words in (("train", reference, "digits"), ("sample", runs.own, "--model", reference)):
        ended = command(*words)
        assert ended.status == 1
        assert said in ended.err


def test_a_model_that_does_not_fit_the_data_leaves_no_folder(command: Any) -> None:
    layers = 'bernoulli(mlp(3, 5, (1, 7, 7)), 3)})\nq = Joint({"z | x": normal(mlp((1, 8, 8), 2 * 3))})\n'
    code = MODEL + 'p = Joint({"z": standard_normal(3), "x | z": ' + layers + "model = LatentVariableModel(p, q)\n"
    Path("mine.py").write_text(code, encoding="utf-8")
    ended = command("train", "mine.py:model", "digits", *TINY, "--out", "run")
    assert ended.status == 1
    assert "(719, 1, 7, 7)" in ended.err
    assert not Path("run").exists()


DECODER_ONLY = """
from torch import nn
from ancestral.models import Player

class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 64)

    def players(self):
        return [Player("model", list(self.parameters()), self.loss)]

    def loss(self, batch):
        return {"loss": ((self.layer.bias.reshape(1, 8, 8) - batch.x) ** 2).mean()}

    def decode(self, z, *, sample=False):
        return self.layer(z).reshape(-1, 1, 8, 8)

model = Decoder()
"""


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("sample", "it has no sample(). Models that can: vae, gan, sbn, categorical-vae, m2, helmholtz, "),
        ("reconstruct", "it has no reconstruct(). Models that can: vae, sbn, categorical-vae, m2, helmholtz, "),
        ("interpolate", "it has no encode(). Models that can: vae, sbn, categorical-vae, m2, helmholtz, "),
        ("evaluate", "a Decoder is no LatentVariableModel"),
    ],
)
def test_a_verb_that_a_model_lacks_says_which_have_it(command: Any, verb: str, said: str) -> None:
    Path("mine.py").write_text(DECODER_ONLY, encoding="utf-8")
    assert command("train", "mine.py:model", "digits", *TINY, "--out", "run").status == 0
    ended = command(verb, "run", "--model", "mine.py:model")
    assert ended.status == 1
    assert said in ended.err


FLOW = """
import torch
from torch import nn
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform
from ancestral import Joint, LatentVariableModel, bernoulli, mlp, standard_normal

def squashed(mean):
    return TransformedDistribution(Independent(Normal(mean, 1.0), 1), [TanhTransform(cache_size=1)])

class Prior(nn.Module):
    def forward(self):
        return squashed(torch.zeros(2))

class Posterior(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 2)

    def forward(self, x):
        return squashed(self.layer(x.flatten(-3)))

p = Joint({"z": Prior(), "x | z, y": bernoulli(mlp(12, 5, (1, 8, 8)), event_dims=3)})
model = LatentVariableModel(p, Joint({"z | x": Posterior()}), classes=10)
"""


def test_a_posterior_without_a_mean_is_shown_by_draws_and_keeps_its_labels(command: Any, tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(FLOW)
    own = ("--model", f"{tmp_path / 'flow.py'}:model")
    assert command("train", own[1], "digits", *TINY, "--out", "run").status == 0
    said = "of a draw of the latent variables: a mean is not known in closed form"
    assert said in command("reconstruct", "run", *own).out
    assert said not in command("reconstruct", "run", *own, "--draws").out
    said = "between draws of the latent variables: a mean is not known in closed form"
    assert said in command("interpolate", "run", *own).out
    ended = command("interpolate", "run", *own, "--draws")
    assert (ended.status, said in ended.out) == (0, False)
    ended = command("evaluate", "run", *own, "--particles", 2, "--limit", 7)
    assert ended.status == 0
    assert "log p(x | y)" in ended.out
    assert "above 0.01, by 128 draws" in ended.out

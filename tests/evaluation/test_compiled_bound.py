"""The importance-weighted bound as one compiled program: the same figures, or a word that says why not."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from ancestral import AncestralError, Joint, LatentVariableModel, bernoulli, linear, standard_normal
from ancestral.configs import CategoricalVAEConfig, DataConfig, DataDescription, HelmholtzConfig, VAEConfig
from ancestral.core import Trace
from ancestral.data.dataset import Dataset, Rows
from ancestral.data.loading import assemble
from ancestral.data.raw import Raw
from ancestral.distributions import normal
from ancestral.evaluation import evaluate, likelihood
from ancestral.models import categorical_variational_autoencoder, helmholtz_machine, variational_autoencoder
from ancestral.objectives.iwae import bounds, log_weights
from ancestral.training.compilation import compiled_bound, compiling, cpp_compiler

needs_compiler = pytest.mark.skipif(cpp_compiler() is None, reason="there is no C++ compiler")

BITS = DataDescription((1, 2, 3), "binary", 2)
MODELS: dict[str, Callable[[], LatentVariableModel]] = {
    "vae": lambda: variational_autoencoder(VAEConfig(latent=2, hidden=(5,), likelihood="bernoulli"), BITS),
    "planar flows": lambda: variational_autoencoder(
        VAEConfig(latent=2, hidden=(5,), likelihood="bernoulli", posterior="planar", flows=3), BITS
    ),
    "categorical-vae": lambda: categorical_variational_autoencoder(
        CategoricalVAEConfig(latents=2, classes=3, encoder_hidden=(5,), decoder_hidden=(5,), likelihood="bernoulli"),
        BITS,
    ),
    "autoregressive layers": lambda: helmholtz_machine(
        HelmholtzConfig(layers=(5, 3), layer="darn", recognition="nade", nade_hidden=7), BITS
    ),
}


@pytest.fixture
def data() -> Dataset:
    x = np.random.default_rng(0).integers(0, 2, (13, 1, 2, 3), dtype=np.uint8)
    return assemble("small", Raw(Rows(x[:3]), test=Rows(x), levels=2, note=""), DataConfig(validation=0))


@needs_compiler
@pytest.mark.parametrize("name", MODELS)
def test_the_figures_are_those_of_the_bound_without(name: str, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "ROWS", 5)  # the last pass over 13 rows is smaller
    torch.manual_seed(0)
    model = MODELS[name]()
    plain, compiled = evaluate(model, data, 7), evaluate(model, data, 7, compile=True)
    for mine, theirs in zip(compiled, plain, strict=True):
        assert mine.value == pytest.approx(theirs.value, rel=1e-5, abs=1e-5)
        assert mine.name == theirs.name


@needs_compiler
def test_a_program_is_made_once_and_for_the_sizes_that_come_first() -> None:
    model = MODELS["vae"]()
    called: list[int] = []

    def weigh(given: dict[str, torch.Tensor], count: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not torch.compiler.is_compiling():
            called.append(count)
        return log_weights(model.p, model.q, given, count)

    x = torch.ones(2, 1, 2, 3)
    with compiling(), torch.no_grad():
        values = bounds(model.p, model.q, {"x": x}, 13, 5, compiled_bound(weigh, "cpu"))
    assert called == [3]  # after two passes of 5 particles each
    assert values.log_prob.isfinite().all()


@needs_compiler
def test_values_outside_the_support_are_still_seen() -> None:
    model = MODELS["vae"]()
    weigh = functools.partial(log_weights, model.p, model.q)
    with compiling(), pytest.raises(AncestralError, match="'x' takes values outside the support of its Bernoulli"):
        bounds(model.p, model.q, {"x": torch.full((2, 1, 2, 3), 0.5)}, 5, 5, compiled_bound(weigh, "cpu"))


class Decided(nn.Module):
    """A posterior that looks at its data."""

    def __init__(self) -> None:
        super().__init__()
        self.networks = nn.ModuleList([linear(6, 4), linear(6, 4)])

    def forward(self, trace: Trace) -> None:
        x = trace["x"]
        trace.sample("z", normal(self.networks[int(x.sum() > 11)])(x.flatten(-3)))


@needs_compiler
def test_a_model_that_decides_by_its_data_is_told_that_it_can_not_be_compiled(data: Dataset) -> None:
    p = Joint({"z": standard_normal(2), "x | z": bernoulli(linear(2, (1, 2, 3)), event_dims=3)})
    with pytest.raises(AncestralError, match=r"the bound can't be compiled: .* Evaluate without --compile"):
        evaluate(LatentVariableModel(p, Decided()), data, 7, compile=True)


def test_an_older_pytorch_is_told_so(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", type(torch.__version__)("2.8.0+cpu"))
    monkeypatch.setattr("ancestral.evaluation.likelihood.compiling", None)  # what it sets is not known there
    with pytest.raises(AncestralError, match=r"needs PyTorch 2\.13 or newer, .* evaluate without --compile"):
        evaluate(MODELS["vae"](), data, 7, compile=True)


def test_without_a_compiler_it_is_said_how_to_get_one(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        AncestralError, match=r"compiler, but no-such-compiler is not found.*evaluate without --compile"
    ):
        evaluate(MODELS["vae"](), data, 7, compile=True)


def test_where_there_is_nothing_to_compile_it_is_refused(data: Dataset) -> None:
    with pytest.raises(AncestralError, match="compile has no effect: it is for the importance-weighted bound"):
        evaluate(MODELS["categorical-vae"](), data, likelihood="exact", compile=True)
    fair = torch.distributions.Bernoulli(logits=torch.zeros(1, 2, 3))
    observed = Joint({"x": lambda: torch.distributions.Independent(fair, 3)})
    with pytest.raises(AncestralError, match="compile has no effect"):
        evaluate(LatentVariableModel(observed, observed), data, compile=True)

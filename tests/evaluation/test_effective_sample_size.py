"""How many particles count, where that is known."""

from __future__ import annotations

import importlib
import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent

from ancestral import Joint, LatentVariableModel, bernoulli, bernoulli_bias, linear
from ancestral.configs import DataConfig
from ancestral.data.dataset import Dataset, Rows
from ancestral.data.loading import assemble
from ancestral.data.raw import Raw
from ancestral.errors import AncestralError
from ancestral.evaluation import effective_sample_size

module = importlib.import_module("ancestral.evaluation.effective_sample_size")  # which the function hides


def bits(n: int = 301, **config: float) -> Dataset:
    x = np.random.default_rng(1).integers(0, 2, (n, 5), dtype=np.uint8)
    return assemble("bits", Raw(Rows(x), levels=2), DataConfig(**config))  # type: ignore[arg-type]


def one_bit() -> tuple[Joint, Tensor]:
    """p(h, x) of one latent bit, and p(h = 1 | x) of every x as a function."""
    torch.manual_seed(1)
    p = Joint({"h": bernoulli_bias(1), "x | h": bernoulli(linear(1, 5))})
    p.networks["x"].network.layers[0].weight.data.mul_(3)
    values = torch.tensor(list(product([0.0, 1.0], repeat=5)))
    with torch.no_grad():
        likelihoods = torch.stack([p.conditionals["x"](torch.full((32, 1), h)).log_prob(values) for h in (0.0, 1.0)])
    return p, likelihoods.softmax(0)[1]  # the prior is even


class Posterior(nn.Module):
    """q(h = 1 | x), moved towards an even bit."""

    def __init__(self, exact: Tensor, moved: float) -> None:
        super().__init__()
        self.table, self.moved = exact, moved

    def forward(self, x: Tensor) -> Distribution:
        number = (x * 2.0 ** torch.arange(4, -1, -1)).sum(-1).long()
        mean = self.table[number] * (1 - self.moved) + self.moved / 2
        return Independent(Bernoulli(mean[..., None]), 1)


def test_of_the_exact_posterior_every_particle_counts() -> None:
    p, exact = one_bit()
    figure = effective_sample_size(LatentVariableModel(p, Joint({"h | x": Posterior(exact, 0.0)})), bits(), 17)
    assert figure.value == pytest.approx(17, abs=1e-3)
    assert (figure.name, figure.unit, figure.kind) == ("effective sample size", "of 17", "estimate")


def test_of_many_particles_it_is_their_number_by_one_and_the_variance_of_the_weights() -> None:
    """K / (1 + Var(w) / E[w]²), which of one bit is K / (p²/q + (1 - p)²/(1 - q))."""
    p, exact = one_bit()
    data = bits()
    figure = effective_sample_size(LatentVariableModel(p, Joint({"h | x": Posterior(exact, 0.7)})), data, 4001)
    x = data.rows("test", range(min(module.ROWS, len(data.test))))
    one = exact[(x * 2.0 ** torch.arange(4, -1, -1)).sum(-1).long()].double()
    q = one * 0.3 + 0.35
    expected = 4001 / (one**2 / q + (1 - one) ** 2 / (1 - q))
    assert expected.mean() < 3900
    assert figure.value == pytest.approx(expected.mean().item(), rel=0.005)
    assert figure.standard_error == pytest.approx(expected.std().item() / math.sqrt(len(x)), rel=0.05)


def test_it_is_the_same_however_the_rows_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    p, exact = one_bit()
    model = LatentVariableModel(p, Joint({"h | x": Posterior(exact, 0.0)}))
    state = torch.get_rng_state()
    whole = effective_sample_size(model, bits(), 7)
    monkeypatch.setattr(module, "DRAWS", 20)
    assert effective_sample_size(model, bits(), 7).value == pytest.approx(whole.value, rel=1e-5)
    assert torch.equal(state, torch.get_rng_state())
    assert whole.datapoints == len(bits().test)


def test_it_is_the_same_however_the_particles_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts it takes other draws: of very many, the mean is the same."""
    p, exact = one_bit()
    model = LatentVariableModel(p, Joint({"h | x": Posterior(exact, 0.7)}))
    whole = effective_sample_size(model, bits(), 4001)
    monkeypatch.setattr(module, "DRAWS", 1009)
    assert effective_sample_size(model, bits(), 4001).value == pytest.approx(whole.value, rel=0.01)


def test_it_needs_particles_and_rows() -> None:
    p, exact = one_bit()
    model = LatentVariableModel(p, Joint({"h | x": Posterior(exact, 0.0)}))
    with pytest.raises(AncestralError, match="particles is 0, but at least 1"):
        effective_sample_size(model, bits(), 0)
    with pytest.raises(AncestralError, match="no rows in its validation split"):
        effective_sample_size(model, bits(validation=0.0), 3, "validation")

"""The table of validity holds in every cell: the bias is measured, or the error is caught."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Binomial, Categorical, Distribution, Independent, Normal, Poisson

import ancestral.estimators
from ancestral import EstimatorError, Joint, elbo, iwae
from ancestral.distributions import OneHot
from ancestral.distributions.support import Kind, kind_of
from ancestral.estimators import RELAX, validity
from ancestral.estimators.checks import CURES
from ancestral.estimators.validity import ESTIMATORS, Cell, cells, markdown

DRAWS, PARTICLES = 40_009, 2
CELLS = cells()


class Latent:
    """One latent variable of a kind: from parameters to its distribution, and all its values with their weights."""

    def __init__(self, start: list[float], q: Callable[[Tensor], Distribution], p: Distribution) -> None:
        self.start = torch.tensor(start, dtype=torch.float64)
        self.q, self.p = q, p

    def features(self, value: Tensor) -> Tensor:
        """Two numbers that the mean of x is a function of; smooth, where the value is continuous."""
        if value.dtype == torch.int64:
            value = nn.functional.one_hot(value, 3).double()
        wide = value.unsqueeze(-1) if kind_of(self.p) in ("finite", "reparameterizable", "other") else value
        sign = torch.tensor([1.0, -0.6, 0.4], dtype=torch.float64)[: wide.shape[-1]]
        return torch.stack([(wide * sign).sum(-1), torch.sin(2 * (wide * sign.flip(0)).sum(-1))], -1)

    def everything(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Values and log-weights, differentiable in the parameters of q: sums, or a quadrature for the normal one."""
        kind = kind_of(self.p)
        if kind == "reparameterizable":
            noise = torch.linspace(-8, 8, 501, dtype=torch.float64)  # the trapezoidal rule: all but exact for a normal
            return parameters[0] + parameters[1].exp() * noise, (-0.5 * noise**2).log_softmax(0)
        values = {
            "binary": lambda: torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3),
            "one-hot": lambda: torch.eye(3, dtype=torch.float64),
            "index": lambda: torch.arange(3),
            "finite": lambda: torch.arange(5, dtype=torch.float64),
            "other": lambda: torch.arange(31, dtype=torch.float64),
        }[kind]()
        return values, self.q(parameters).log_prob(values)


def bits(logits: Tensor) -> Distribution:
    return Independent(Bernoulli(logits=logits), 1)


def log_normal(parameters: Tensor) -> Distribution:
    return Normal(parameters[..., 0], parameters[..., 1].exp())


def binomial(parameters: Tensor) -> Distribution:
    return Binomial(4, logits=parameters[..., 0])


def poisson(parameters: Tensor) -> Distribution:
    return Poisson(parameters[..., 0].exp())


PRIOR = torch.tensor([0.2, -0.3, 0.5], dtype=torch.float64)
LATENTS: dict[Kind, Latent] = {
    "binary": Latent([0.4, -1.1, 0.9], bits, bits(PRIOR)),
    "one-hot": Latent([0.4, -1.1, 0.9], OneHot, OneHot(PRIOR)),
    "index": Latent([0.4, -1.1, 0.9], lambda logits: Categorical(logits=logits), Categorical(logits=PRIOR)),
    "finite": Latent([-0.2], binomial, binomial(torch.tensor([-0.3], dtype=torch.float64))),
    "reparameterizable": Latent([0.4, -0.5], log_normal, Normal(torch.tensor(0.1, dtype=torch.float64), 1.2)),
    "other": Latent([0.6], poisson, Poisson(torch.tensor(1.9, dtype=torch.float64))),
}
X = torch.tensor([1.3, -0.8], dtype=torch.float64)
DECODER = torch.tensor([[2.0, -1.1], [0.7, 1.9]], dtype=torch.float64)


def likelihood(latent: Latent, value: Tensor, decoder: Tensor) -> Distribution:
    """x given z, with a mean that is neither linear nor quadratic; each row may have a decoder of its own."""
    mean = torch.tanh((latent.features(value).unsqueeze(-2) @ decoder).squeeze(-2))
    return Independent(Normal(2 * mean, 0.5), 1)


def exact_gradient(latent: Latent, objective: str) -> Tensor:
    phi, theta = latent.start.clone().requires_grad_(), DECODER.clone().requires_grad_()
    values, log_mass = latent.everything(phi)
    weight = likelihood(latent, values, theta).log_prob(X) + latent.p.log_prob(values) - latent.q(phi).log_prob(values)
    if objective == "iwae":
        weight = torch.logaddexp(weight[:, None], weight) - math.log(PARTICLES)
        log_mass = log_mass[:, None] + log_mass
    found = torch.autograd.grad((log_mass.exp() * weight).sum(), [phi, theta])
    return torch.cat([g.flatten() for g in found])


def estimates(latent: Latent, objective: str, estimator: Any, draws: int) -> Tensor:
    """A gradient for each draw: every row has parameters of its own."""
    phi = latent.start.expand(draws, -1).clone().requires_grad_()
    theta = DECODER.expand(draws, 2, 2).clone().requires_grad_()
    p = Joint({"z": lambda: latent.p, "x | z": lambda z: likelihood(latent, z, theta)})
    q = Joint({"z | x": lambda x: latent.q(phi)})
    bound = elbo if objective == "elbo" else iwae
    value = bound(p, q, {"x": X.expand(draws, 2)}, PARTICLES, {"z": estimator})
    found = torch.autograd.grad(value.sum(), [phi, theta])
    return torch.cat([g.flatten(1) for g in found], 1)


def fresh(name: str) -> Any:
    """An estimator of the table with no state yet; the network of RELAX has the size of the variable."""
    return RELAX(nn.Linear(3, 1).double()) if name == "RELAX(network)" else eval_name(name)


def eval_name(name: str) -> Any:
    found = re.fullmatch(r"(\w+)\((?:(\w+)=True)?\)", name)
    assert found is not None
    make = getattr(ancestral.estimators, found[1])
    return make(**{found[2]: True}) if found[2] else make()


def described(cell: Cell) -> str:
    return f"{cell.estimator}-{cell.objective}-{cell.kind}"


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.verdict != "error"], ids=described)
def test_a_cell_is_biased_or_not_as_it_says(cell: Cell) -> None:
    torch.manual_seed(0)
    latent, estimator = LATENTS[cell.kind], fresh(cell.estimator)
    wanted = exact_gradient(latent, cell.objective)
    for draws in (101, DRAWS):  # some have a state that begins with the first run
        drawn = estimates(latent, cell.objective, estimator, draws)
    assert wanted.abs().max() > 0.1
    error = drawn.std(0) / math.sqrt(DRAWS)
    score = ((drawn.mean(0) - wanted).abs() / error.clamp_min(1e-9)).max()
    assert score < 4.5 if cell.verdict == "unbiased" else score > 10


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.verdict == "error"], ids=described)
def test_an_error_says_what_to_use(cell: Cell) -> None:
    with pytest.raises(EstimatorError, match=re.escape(cell.advice)):
        estimates(LATENTS[cell.kind], cell.objective, fresh(cell.estimator), 7)


@pytest.mark.parametrize("kind", CURES)
def test_what_an_error_advises_is_valid_under_every_objective(kind: Kind) -> None:
    advised = re.findall(r"\w+\(\)", CURES[kind])
    assert advised
    for cell in CELLS:
        if cell.estimator in advised and cell.kind == kind:
            assert cell.verdict != "error"
    assert set(advised) <= set(ESTIMATORS)


def test_every_estimator_of_the_library_is_in_the_table() -> None:
    public = {name for name in ancestral.estimators.__all__ if hasattr(getattr(ancestral.estimators, name), "draw")}
    assert {name.partition("(")[0] for name in ESTIMATORS} == public
    for name, estimator in ESTIMATORS.items():
        assert type(estimator) is type(fresh(name))
        assert estimator.unbiased == fresh(name).unbiased


def test_every_combination_has_one_cell() -> None:
    assert len(CELLS) == len(ESTIMATORS) * 2 * 6 == len({(c.estimator, c.objective, c.kind) for c in CELLS})
    assert all((cell.verdict == "error") == bool(cell.advice) for cell in CELLS)


def test_in_markdown_a_row_is_an_estimator() -> None:
    lines = markdown().splitlines()
    assert lines[0] == "| estimator | Bernoulli | one-hot | class index | bounded count | reparameterizable | count |"
    assert "| `DisARM()` | unbiased / error | error | error | error | error | error |" in lines
    assert "| `GumbelSoftmax()` | biased | biased | error | error | error | error |" in lines
    assert len(lines) == 2 + len(ESTIMATORS)
    assert len({line.count("|") for line in lines}) == 1


def test_its_words_can_be_translated() -> None:
    table = markdown({"unbiased": "不偏", "estimator": "推定量"})
    assert "| `LikelihoodRatio()` | 不偏 | 不偏 | 不偏 | 不偏 | 不偏 | 不偏 |" in table
    assert table.startswith("| 推定量 | Bernoulli")
    assert "unbiased" not in table


def test_the_table_knows_no_other_objectives() -> None:
    assert {cell.objective for cell in CELLS} == set(validity.OBJECTIVES) == {"elbo", "iwae"}

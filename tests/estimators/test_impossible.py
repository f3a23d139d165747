"""Classes of probability 0, which a mask on the logits makes: the gradient is that of a variable without them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from exact import Forced
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal, OneHotCategorical

from ancestral import EstimatorError, Joint, elbo, expectation, iwae
from ancestral.distributions import OneHot
from ancestral.distributions.bernoulli import IndependentBernoulli
from ancestral.estimators import (
    DARN,
    REBAR,
    RELAX,
    DisARM,
    Enumerate,
    GumbelSoftmax,
    Half,
    LikelihoodRatio,
    MuProp,
    StraightThrough,
)

ROWS, PARTICLES = 7, 2
X = torch.randn(ROWS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Masked(nn.Module):
    """z has three classes, of which the second may be masked; q and p have parameters of their own."""

    def __init__(self, mask: float, make: Callable[[Tensor], Distribution] = OneHot) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([[0.4, mask, -1.1]], dtype=torch.float64))
        self.weights = nn.Parameter(torch.tensor([1.3, -0.7, 2.1], dtype=torch.float64))
        self.q = Joint({"z | x": lambda x: make(self.logits.expand(len(x), 3))})
        self.p = Joint({"z": lambda: OneHot(torch.tensor([0.2, 0.5, -0.3], dtype=torch.float64)), "x | z": self.x})

    def x(self, z: Tensor) -> Normal:
        return Normal(torch.sin(2 * (z * self.weights).sum(-1)), 0.5)

    def estimate(self, estimator: Any, objective: str) -> tuple[Tensor, list[Tensor]]:
        """The value, and the gradients of the model's parameters and the estimator's, with the same noise each time."""
        torch.manual_seed(6)
        given = {"x": X}
        if objective == "cost":
            value = expectation(lambda t: self.x(t["z"]).log_prob(X), self.q, given, PARTICLES, estimator)
        else:
            value = (elbo if objective == "elbo" else iwae)(self.p, self.q, given, PARTICLES, estimator)
        owned = list(estimator.parameters()) if isinstance(estimator, nn.Module) else []
        parameters = [self.logits, self.weights, *(one for one in owned if one.requires_grad)]
        found = torch.autograd.grad(value.sum(), parameters, allow_unused=True)
        return value.detach(), [torch.zeros_like(w) if g is None else g for w, g in zip(parameters, found, strict=True)]


def relax() -> RELAX:
    torch.manual_seed(0)
    return RELAX(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)))


WITH_A_LIMIT: dict[str, Callable[[], Any]] = {
    "enumeration": Enumerate,
    "likelihood ratio": LikelihoodRatio,
    "MuProp": MuProp,
    "straight-through": StraightThrough,
    "straight-through, steeper": lambda: StraightThrough(2.0),
    "Gumbel-Softmax": GumbelSoftmax,
    "Gumbel-Softmax, hard": lambda: GumbelSoftmax(hard=True),
    "Gumbel-Softmax, learned": lambda: GumbelSoftmax("learned", start=0.7),
    "REBAR": REBAR,
    "REBAR, fixed": lambda: REBAR(learned=False),
    "RELAX": relax,
}


def in_double(estimator: Any) -> Any:
    return estimator.double() if isinstance(estimator, nn.Module) else estimator


OF_EXPECTATIONS = (Enumerate, MuProp, REBAR, DisARM)


def cases() -> Iterator[tuple[str, str]]:
    for name, make in WITH_A_LIMIT.items():
        for objective in ("cost", "elbo", "iwae"):
            if objective != "iwae" or not isinstance(make(), OF_EXPECTATIONS):
                yield name, objective


@pytest.mark.parametrize("make", [OneHot, lambda logits: OneHotCategorical(logits=logits)], ids=["ours", "torch's"])
@pytest.mark.parametrize(("name", "objective"), list(cases()))
def test_a_masked_class_is_the_limit_of_an_unlikely_one(
    name: str, objective: str, make: Callable[[Tensor], Distribution]
) -> None:
    masked, unlikely = (
        Masked(logit, make).estimate(in_double(WITH_A_LIMIT[name]()), objective) for logit in (-math.inf, -900.0)
    )
    torch.testing.assert_close(masked[0], unlikely[0])
    assert unlikely[1][0].abs().max() > 0.01
    for mine, wanted in zip(masked[1], unlikely[1], strict=True):
        torch.testing.assert_close(mine, wanted, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("make", [DARN, Half])
@pytest.mark.parametrize("bound", [elbo, iwae])
def test_a_taylor_expansion_leaves_a_masked_class_out(make: Callable[[], Any], bound: Any) -> None:
    """It has no limit: the expansion crosses the class, and the logarithm of its probability has none."""
    found = []
    for classes in ([0, 1, 2], [0, 2]):
        weights = torch.tensor([1.3, -0.7, 2.1], dtype=torch.float64)[classes]
        logits = torch.tensor([0.4, -math.inf, -1.1], dtype=torch.float64)[classes].requires_grad_()
        prior = torch.tensor([0.2, -math.inf, -0.3], dtype=torch.float64)[classes]

        def x(z: Tensor, weights: Tensor = weights) -> Distribution:
            return Normal(torch.sin(2 * (z * weights).sum(-1)), 0.5)

        q = Joint({"z | x": lambda x, logits=logits: OneHot(logits.expand(len(x), len(logits)))})
        p = Joint({"z": lambda prior=prior: OneHot(prior), "x | z": x})
        corners = torch.eye(3, dtype=torch.float64)[torch.tensor([[0, 2, 2, 0, 2, 0, 0], [0, 0, 2, 2, 2, 0, 2]])]
        value = bound(p, q, {"x": X}, PARTICLES, {"z": Forced(make(), corners[..., classes])})
        found.append((value, torch.autograd.grad(value.sum(), logits)[0]))
    (value, slope), (wanted, wanted_slope) = found
    torch.testing.assert_close(value, wanted)
    torch.testing.assert_close(slope[[0, 2]], wanted_slope)
    assert slope[1] == 0
    assert wanted_slope.abs().min() > 0.01


def test_an_enumerated_index_that_is_masked_weighs_nothing() -> None:
    found = []
    for mask in (-math.inf, -900.0):
        logits = torch.tensor([0.4, mask, -1.1], dtype=torch.float64, requires_grad=True)
        q = Joint({"y | x": lambda x, logits=logits: Categorical(logits=logits)})
        p = Joint({"y": lambda: Categorical(logits=torch.zeros(3)), "x | y": lambda y: Normal(torch.sin(3.0 * y), 0.5)})
        value = elbo(p, q, {"x": X}, estimators=Enumerate())
        found.append((value.detach(), torch.autograd.grad(value.sum(), logits)[0]))
    assert found[1][1].abs().max() > 0.1
    for mine, wanted in zip(*found, strict=True):
        torch.testing.assert_close(mine, wanted)


def test_what_is_drawn_after_an_enumerated_variable_owes_nothing_to_its_masked_class() -> None:
    """Here the cost is one tensor, so that of h holds -log q(y), which is infinite for a class of no probability."""
    logits = torch.tensor([0.4, -math.inf, -1.1], dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    q = Joint({"y | x": lambda x: Categorical(logits=logits), "h | y": lambda y: Bernoulli(logits=bias + 0.5 * y)})
    value = expectation(
        lambda t: t["h"] - t.sites["y"].log_prob, q, {"x": X}, 2, {"y": Enumerate(), "h": LikelihoodRatio(None)}
    )
    for slope in torch.autograd.grad(value.sum(), [logits, bias]):
        assert slope.isfinite().all()
        assert slope.abs().max() > 0


ALL: list[Callable[[], Any]] = [
    *(WITH_A_LIMIT[name] for name in WITH_A_LIMIT),
    DARN,
    Half,
    DisARM,
    lambda: LikelihoodRatio(None),
]


@pytest.mark.parametrize("logit", [math.inf, -math.inf])
@pytest.mark.parametrize("make", ALL)
def test_an_infinite_bernoulli_logit_is_an_error_with_the_cure(make: Callable[[], Any], logit: float) -> None:
    logits = torch.tensor([0.4, logit, -1.1]).expand(ROWS, 3)
    for latent in (IndependentBernoulli(logits, 1), Independent(Bernoulli(logits=logits), 1)):
        q = Joint({"h | x": lambda x, latent=latent: latent})
        with pytest.raises(EstimatorError, match=r"'h' has an infinite logit, .*logits\.clamp\(-30, 30\)"):
            expectation(lambda t: t["h"].sum(-1), q, {"x": X}, 2, make())

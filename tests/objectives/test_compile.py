"""The objectives are one graph for torch.compile: no break, and the same value and gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ancestral import (
    Enumerate,
    Joint,
    bernoulli,
    bernoulli_bias,
    elbo,
    iwae,
    linear,
    mlp,
    normal,
    standard_normal,
)


@pytest.fixture
def pair() -> tuple[Joint, Joint]:
    torch.manual_seed(0)
    torch.compiler.reset()
    p = Joint({"z": standard_normal(3), "x | z": bernoulli(mlp(3, 7, 5))})
    return p, Joint({"z | x": normal(mlp(5, 7, 6))})


def agree(loss: Callable[[Tensor], Tensor], modules: nn.ModuleList, backend: str) -> None:
    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    x = torch.rand(11, 5).round()
    results = []
    for function in (loss, compiled):
        torch.manual_seed(3)
        value = function(x)
        results.append([value, *torch.autograd.grad(value.sum(), list(modules.parameters()))])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("analytic_kl", [[], ["z"]])
def test_the_elbo_is_one_graph(pair: tuple[Joint, Joint], analytic_kl: list[str]) -> None:
    p, q = pair
    agree(lambda x: elbo(p, q, {"x": x}, 2, analytic_kl=analytic_kl), nn.ModuleList(pair), "aot_eager")


def test_the_importance_weighted_bound_is_one_graph(pair: tuple[Joint, Joint]) -> None:
    p, q = pair
    agree(lambda x: iwae(p, q, {"x": x}, particles=7), nn.ModuleList(pair), "aot_eager")


def test_an_enumerated_bound_is_one_graph() -> None:
    torch.manual_seed(0)
    torch.compiler.reset()
    p = Joint({"h": bernoulli_bias(3), "x | h": bernoulli(linear(3, 5))})
    q = Joint({"h | x": bernoulli(linear(5, 3))})
    agree(lambda x: elbo(p, q, {"x": x}, estimators=Enumerate()), nn.ModuleList([p, q]), "eager")

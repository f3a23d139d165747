"""A zuko flow is a conditional as it is: prior or posterior, conditioned or not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import zuko
from torch import nn

from ancestral import Joint, ShapeError, bernoulli, elbo, iwae, linear, normal, run, standard_normal


@pytest.fixture
def p() -> Joint:
    torch.manual_seed(0)
    prior = zuko.flows.MAF(3, transforms=2, hidden_features=(11,))
    return Joint({"z": lambda: prior(), "x | z": bernoulli(linear(3, 5))})


@pytest.fixture
def flows() -> tuple[nn.Module, Joint, Joint]:
    torch.manual_seed(0)
    prior = zuko.flows.NSF(3, transforms=2, hidden_features=(11,))
    posterior = zuko.flows.MAF(3, context=5, transforms=2, hidden_features=(13,))
    decoder = bernoulli(linear(3, 5))
    p = Joint({"z": prior, "x | z": decoder})
    q = Joint({"z | x": posterior})
    return nn.ModuleList([prior, posterior, decoder]), p, q


@pytest.mark.parametrize("particles", [1, 2])
@pytest.mark.parametrize("bound", [elbo, iwae])
def test_a_flow_is_prior_and_posterior_and_gradients_reach_it(flows: Any, bound: Any, particles: int) -> None:
    modules, p, q = flows
    value = bound(p, q, {"x": torch.rand(7, 5).round()}, particles=particles)
    assert value.shape == (7,)
    assert value.isfinite().all()
    value.sum().backward()
    for name, w in modules.named_parameters():
        assert w.grad is not None, name
        assert w.grad.isfinite().all(), name
    for module in modules:
        assert sum(w.grad.abs().sum() for w in module.parameters() if w.grad is not None) > 0
    assert {id(w) for w in modules.parameters()} == {id(w) for m in (p, q) for w in m.parameters()}


def test_an_unconditional_flow_is_drawn_once_per_datapoint_and_particle(flows: Any) -> None:
    _, p, _ = flows
    trace = run(p, shape=(2, 7))
    assert trace["z"].shape == (2, 7, 3)
    assert trace["z"].reshape(-1, 3).unique(dim=0).shape == (14, 3)
    assert trace.log_prob().shape == (2, 7)
    assert not trace["x"].requires_grad


def test_a_flow_posterior_serves_a_plain_prior(flows: Any) -> None:
    modules, _, q = flows
    p = Joint({"z": standard_normal(3), "x | z": modules[2]})
    torch.manual_seed(2)
    x = torch.rand(7, 5).round()
    z = q.conditionals["z"](x).sample(torch.Size((20_011,)))
    log_weight = (
        p.conditionals["x"](z).log_prob(x) + standard_normal(3)().log_prob(z) - q.conditionals["z"](x).log_prob(z)
    )
    torch.testing.assert_close(elbo(p, q, {"x": x}, 20_011), log_weight.mean(0), atol=0.15, rtol=0)


def test_a_plain_posterior_serves_a_flow_prior(p: Joint) -> None:
    q = Joint({"z | x": normal(linear(5, 6))})
    assert iwae(p, q, {"x": torch.ones(7, 5)}, particles=2).shape == (7,)


def test_a_flow_of_another_size_is_an_error(p: Joint) -> None:
    q = Joint({"z | x": zuko.flows.MAF(2, context=5, transforms=2, hidden_features=(13,))})
    with pytest.raises(ShapeError):
        elbo(p, q, {"x": torch.ones(7, 5)})

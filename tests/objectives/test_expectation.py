"""The primitive: E_q[cost] per datapoint, by draws or exactly."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, Normal

from ancestral import Cost, Enumerate, EstimatorError, Joint, Reparameterized, ShapeError, Site, Trace, expectation


def narrow(x: Tensor) -> Distribution:
    return Independent(Normal(x[:, :3], 0.2), 1)


def test_it_is_the_mean_over_the_draws() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 5)
    value = expectation(lambda t: (t["z"] ** 2).sum(-1), Joint({"z | x": narrow}), {"x": x}, particles=20_011)
    torch.testing.assert_close(value, (x[:, :3] ** 2).sum(-1) + 3 * 0.04, atol=0.05, rtol=0)


def test_its_log_mean_exp_is_the_logarithm_of_the_mean() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 5)
    value = expectation(
        lambda t: t["z"].sum(-1),
        Joint({"z | x": narrow}),
        {"x": x},
        particles=20_011,
        reduction="log-mean-exp",
    )
    torch.testing.assert_close(value, x[:, :3].sum(-1) + 3 * 0.04 / 2, atol=0.02, rtol=0)


def test_an_enumerated_expectation_is_exact() -> None:
    probabilities = torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64)
    q = Joint({"y | x": lambda x: Categorical(probabilities.expand(len(x), 3))})
    value = expectation(lambda t: t["y"] ** 2.0, q, {"x": torch.zeros(7, 5)}, 2, Enumerate())
    torch.testing.assert_close(value, torch.full((7,), 0.5 + 4 * 0.3, dtype=torch.float64), atol=1e-6, rtol=0)


def test_a_cost_that_knows_no_particles_is_broadcast() -> None:
    value = expectation(lambda t: t["x"].sum(-1), Joint({"z | x": narrow}), {"x": torch.ones(7, 5)}, particles=2)
    assert torch.equal(value, torch.full((7,), 5.0))


@pytest.mark.parametrize("cost", [lambda t: t["z"], lambda t: t["x"], lambda t: t["z"].flatten()])
def test_a_cost_that_was_not_summed_over_its_features_is_an_error(cost: Any) -> None:
    with pytest.raises(ShapeError, match=r"the cost has shape .* but must have \(\*particles, batch\) = \(2, 7\)"):
        expectation(cost, Joint({"z | x": narrow}), {"x": torch.ones(7, 5)}, particles=2)


def test_the_cost_may_have_parameters_of_its_own() -> None:
    scale = torch.tensor(2.0, requires_grad=True)
    value = expectation(lambda t: scale * t["z"].sum(-1), Joint({"z | x": narrow}), {"x": torch.ones(7, 5)}, 11)
    value.sum().backward()
    assert scale.grad is not None
    torch.testing.assert_close(scale.grad, value.detach().sum() / 2)


class LikelihoodRatio:
    """∇ E_q[c] = E_q[c ∇ log q], written in the two functions that the protocol asks for."""

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        return distribution.sample(torch.Size(trace.missing_shape(distribution)))

    def term(self, site: Site, cost: Cost) -> Tensor:
        return site.log_prob * cost.value


def test_a_user_s_estimator_is_two_functions_and_its_value_is_the_same() -> None:
    location = torch.tensor([0.7, -0.4, 1.9], dtype=torch.float64).expand(100_003, 3).clone().requires_grad_()
    q = Joint({"z | x": lambda x: Independent(Normal(location, 0.6), 1)})
    values = []
    for estimator in (Reparameterized(), LikelihoodRatio()):
        torch.manual_seed(1)
        value = expectation(
            lambda t: (t["z"] ** 2).sum(-1),
            q,
            {"x": torch.zeros(len(location), 5)},
            estimators={"z": estimator},
        )
        values.append(value.detach())
        (gradient,) = torch.autograd.grad(value.sum(), location)
        z_score = (gradient.mean(0) - 2 * location[0]) / (gradient.std(0) / math.sqrt(len(location)))
        assert z_score.abs().max() < 4
    assert torch.equal(*values)


def test_estimators_are_chosen_by_name() -> None:
    q = Joint({"y | x": lambda x: Categorical(logits=x[:, :3]), "z | x, y": lambda x, y: Normal(y.to(x), 0.1)})
    with pytest.raises(EstimatorError, match="'y' is a Categorical"):
        expectation(lambda t: t["z"], q, {"x": torch.ones(7, 5)})
    value = expectation(lambda t: t["z"], q, {"x": torch.ones(7, 5)}, 2003, {"y": Enumerate()})
    torch.testing.assert_close(value, torch.ones(7), atol=0.02, rtol=0)

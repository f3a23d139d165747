"""A prior over the parameters counts once for the whole set, and its mode is that of the closed forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Beta, Distribution, Independent, MultivariateNormal, Normal

from ancestral import (
    AncestralError,
    GraphError,
    Joint,
    ShapeError,
    elbo,
    linear,
    log_likelihood,
    log_prior,
    maximum_a_posteriori,
    normal,
    standard_normal,
)


class Regression(nn.Module):
    """p(y | x) = N(wᵀx + b, 0.7²)."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.b = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Distribution:
        return Normal(x @ self.w + self.b, 0.7)


def regression() -> tuple[Joint, Regression, dict[str, Tensor]]:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(21, 3, generator=random, dtype=torch.float64)
    y = x @ torch.tensor([0.4, -1.3, 0.9], dtype=torch.float64) + 1.1
    module = Regression()
    noise = torch.randn(21, generator=random, dtype=torch.float64)
    return Joint({"y | x": module}), module, {"x": x, "y": y + 0.7 * noise}


def gradient(value: Tensor, module: nn.Module) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(value.sum(), list(module.parameters()))])


def test_a_normal_prior_is_ridge_regression() -> None:
    p, module, given = regression()
    tau, sigma = 0.5, 0.7
    design = torch.cat([given["x"], torch.ones(21, 1, dtype=torch.float64)], 1)
    penalty = sigma**2 / tau**2 * torch.eye(4, dtype=torch.float64)
    mode = torch.linalg.solve(design.T @ design + penalty, design.T @ given["y"])
    with torch.no_grad():
        module.w.copy_(mode[:3])
        module.b.copy_(mode[3])
    prior = Normal(torch.tensor(0.0, dtype=torch.float64), tau)
    value = maximum_a_posteriori(p, given, prior, 21)
    found = gradient(value, p)
    torch.testing.assert_close(found, torch.zeros(4, dtype=torch.float64), atol=1e-10, rtol=0)
    assert gradient(log_likelihood(p, given), p).abs().max() > 1
    wanted = Normal(design @ mode, sigma).log_prob(given["y"]).sum() + Normal(0.0, tau).log_prob(mode).sum()
    torch.testing.assert_close(value.sum(), wanted)


def test_a_parameter_that_no_prior_names_has_a_flat_one() -> None:
    p, module, given = regression()
    centered, y = given["x"] - given["x"].mean(0), given["y"] - given["y"].mean()
    mode = torch.linalg.solve(centered.T @ centered + 0.49 / 0.25 * torch.eye(3, dtype=torch.float64), centered.T @ y)
    with torch.no_grad():
        module.w.copy_(mode)
        module.b.copy_(given["y"].mean() - given["x"].mean(0) @ mode)  # the intercept is not shrunk
    zeros = torch.zeros(3, dtype=torch.float64)
    for prior in (Normal(zeros, 0.5), MultivariateNormal(zeros, 0.25 * torch.eye(3, dtype=torch.float64))):
        found = gradient(maximum_a_posteriori(p, given, {"networks.y.w": prior}, 21), p)
        torch.testing.assert_close(found, torch.zeros(4, dtype=torch.float64), atol=1e-10, rtol=0)


def test_the_mode_of_a_coin_under_a_beta_prior_has_the_counts_of_both() -> None:
    class Coin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.probability = nn.Parameter(torch.tensor((3.0 + 5.0 - 1.0) / (3.0 + 2.0 - 2.0 + 7.0)))

        def forward(self) -> Distribution:
            return Bernoulli(self.probability)

    p, x = Joint({"x": Coin()}), torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    value = maximum_a_posteriori(p, {"x": x}, Beta(3.0, 2.0), 7)
    assert gradient(value, p).abs().max() < 1e-5
    assert gradient(log_likelihood(p, {"x": x}), p).abs().max() > 0.05


@pytest.mark.parametrize("size", [1, 3, 7, 21])
def test_the_mean_over_minibatches_is_the_whole_whatever_their_size(size: int) -> None:
    p, module, given = regression()
    with torch.no_grad():
        module.w.copy_(torch.tensor([0.3, 0.7, -0.2]))
    prior = Normal(torch.tensor(0.2, dtype=torch.float64), 0.5)
    wanted = log_likelihood(p, given).sum() + prior.log_prob(torch.cat([module.w, module.b[None]])).sum()
    parts = [
        21 * maximum_a_posteriori(p, {"x": x, "y": y}, prior, 21).mean()
        for x, y in zip(given["x"].split(size), given["y"].split(size), strict=True)
    ]
    together = torch.stack(parts).mean()
    torch.testing.assert_close(together, wanted)
    torch.testing.assert_close(gradient(together, p), gradient(wanted, p))


def test_with_any_bound_a_prior_is_a_weight_decay() -> None:
    torch.manual_seed(0)
    p = Joint({"z": standard_normal(3), "x | z": normal(linear(3, 10))})
    q = Joint({"z | x": normal(linear(5, 6))})
    value = elbo(p, q, {"x": torch.ones(7, 5)}) + log_prior(p, Normal(0.0, 0.5)) / 101
    assert value.shape == (7,)
    found = gradient(log_prior(p, Normal(0.0, 0.5)), p)
    torch.testing.assert_close(found, torch.cat([-4 * w.detach().flatten() for w in p.parameters()]))


def test_a_parameter_that_two_conditionals_share_counts_once() -> None:
    shared = linear(3, 3)
    p = Joint({"a | c": normal(shared, scale=1.0), "b | c": normal(shared, scale=1.0)})
    wanted = sum(Normal(0.0, 1.0).log_prob(w).sum() for w in shared.parameters())
    torch.testing.assert_close(log_prior(p, Normal(0.0, 1.0)), wanted)


@pytest.mark.parametrize("rows", [6, 0, -1, True, 7.0])
def test_a_set_smaller_than_its_minibatch_is_an_error(rows: Any) -> None:
    p = Joint({"y | x": linear_normal()})
    with pytest.raises(AncestralError, match=r"rows is .* the minibatch alone has 7"):
        maximum_a_posteriori(p, {"x": torch.ones(7, 3), "y": torch.ones(7, 2)}, Normal(0.0, 1.0), rows)


def linear_normal() -> nn.Module:
    return normal(linear(3, 2), scale=0.5)


def test_a_prior_that_does_not_fit_is_an_error_that_names_the_parameter() -> None:
    p = Joint({"y | x": linear_normal()})
    with pytest.raises(AncestralError, match=r"layers.0.wait', which is no parameter.*Did you mean"):
        log_prior(p, {"networks.y.network.layers.0.wait": Normal(0.0, 1.0)})
    for prior in (Normal(torch.zeros(5, 2, 3), 1.0), Normal(torch.zeros(1, 2, 3), 1.0), Normal(torch.zeros(2), 1.0)):
        with pytest.raises(ShapeError, match=r"prior of 'networks.y.network.layers.0.weight'.*the trailing part"):
            log_prior(p, {"networks.y.network.layers.0.weight": prior})
    with pytest.raises(ShapeError, match=r"'networks.y.network.layers.0.bias'"):
        log_prior(p, {"networks.y.network.layers.0.bias": Independent(Normal(torch.zeros(3), 1.0), 1)})
    with pytest.raises(AncestralError, match=r"layers.0.weight' runs from .* outside the support.*Beta"):
        log_prior(p, Beta(2.0, 3.0, validate_args=True))


def test_a_prior_may_differ_from_row_to_row_or_from_column_to_column() -> None:
    p = Joint({"y | x": linear_normal()})
    weight = p.get_parameter("networks.y.network.layers.0.weight")
    for scale in (torch.tensor([[0.5], [0.9]]), torch.tensor([0.5, 0.9, 1.7])):
        wanted = sum(
            Normal(0.0, s).log_prob(w) for s, w in zip(scale.expand(2, 3).flatten(), weight.flatten(), strict=True)
        )
        prior = {"networks.y.network.layers.0.weight": Normal(torch.zeros_like(scale), scale)}
        torch.testing.assert_close(log_prior(p, prior), wanted)


def test_a_prior_without_effect_is_an_error() -> None:
    with pytest.raises(AncestralError, match="no parameters"):
        log_prior(Joint({"x": standard_normal(3)}), Normal(0.0, 1.0))
    with pytest.raises(AncestralError, match="names no parameter"):
        log_prior(Joint({"y | x": linear_normal()}), {})


def test_a_hidden_variable_is_an_error() -> None:
    p = Joint({"z": standard_normal(3), "x | z": normal(linear(3, 10))})
    with pytest.raises(GraphError, match="no value is given for 'z'"):
        maximum_a_posteriori(p, {"x": torch.ones(7, 5)}, Normal(0.0, 1.0), 7)

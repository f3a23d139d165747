"""Models whose draws are set rather than drawn: every draw in turn, weighted by its probability, is an exact mean."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from ancestral import Joint, Trace
from ancestral.estimators.values import Fixed

Bound = Callable[..., Tensor]


def bits(size: int) -> Tensor:
    """All binary vectors of a size, ``[2^size, size]``."""
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=size)), dtype=torch.float64)


class Forced:
    """A model with a state between its variables, which draws the values that it was given."""

    def __init__(self, model: Callable[[Trace], Any], values: Mapping[str, Tensor]) -> None:
        self.model, self.values = model, values

    def __call__(self, trace: Trace) -> None:
        trace._estimators = {name: Fixed(value) for name, value in self.values.items()}
        self.model(trace)


def gradients(value: Tensor, parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """Of the weighted sum over datapoints, so that one can't stand for another."""
    weights = torch.arange(1.0, len(value) + 1, dtype=value.dtype)
    return list(torch.autograd.grad(value @ weights, list(parameters), retain_graph=True))


def assert_same_gradients(value: Tensor, wanted: Tensor, *modules: nn.Module) -> None:
    """Equal to 1e-10; and the gradient is not small, or equality would mean nothing."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    theirs = gradients(wanted, parameters)
    assert max(g.abs().max() for g in theirs) > 0.1
    for a, b in zip(gradients(value, parameters), theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


class Grid:
    """One latent number, whose noise runs over the nodes of the trapezoidal rule: a mean without variance.

    The rows of the batch are all pairs of nodes, one for each of two particles.
    """

    def __init__(self) -> None:
        nodes = torch.linspace(-8, 8, 161, dtype=torch.float64)
        weights = (-0.5 * nodes**2).softmax(0)
        self.noise = torch.cartesian_prod(nodes, nodes).T  # particles, rows
        self.weights = torch.cartesian_prod(weights, weights).prod(-1)
        self.phi = torch.tensor([0.4, -0.7], dtype=torch.float64, requires_grad=True)
        self.theta = torch.tensor([1.3, 0.2], dtype=torch.float64, requires_grad=True)
        self.p = Joint({"z": lambda: Normal(self.theta[1], 1.2), "x | z": self.decoder})
        self.q = Joint({"z | x": self.encoder})
        self.given = {"x": torch.full(self.weights.shape, 0.9, dtype=torch.float64)}

    def decoder(self, z: Tensor) -> Distribution:
        return Normal(torch.tanh(self.theta[0] * z), 0.6)

    def encoder(self, x: Tensor) -> Distribution:
        mean, scale = self.phi[0].expand(len(x)), self.phi[1].exp().expand(len(x))
        distribution = Normal(mean, scale)
        distribution.rsample = lambda sample_shape=(): mean + scale * self.noise  # type: ignore[method-assign]
        return distribution

    def mean(self, bound: Bound, **settings: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The mean of a bound of two particles, and of its gradients in the parameters of q and of p."""
        return self._differentiated(self.weights @ bound(self.p, self.q, self.given, 2, **settings))

    def exact(self, importance_weighted: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The same of the ELBO or the importance-weighted bound, by a quadrature without the library."""
        z = self.phi[0] + self.phi[1].exp() * self.noise
        log_p = Normal(self.theta[1], 1.2).log_prob(z) + self.decoder(z).log_prob(self.given["x"])
        log_weight = log_p - Normal(self.phi[0], self.phi[1].exp()).log_prob(z)
        value = log_weight.logsumexp(0) - math.log(2) if importance_weighted else log_weight.mean(0)
        return self._differentiated(self.weights @ value)

    def _differentiated(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        of_q, of_p = torch.autograd.grad(value, [self.phi, self.theta])
        return value.detach(), of_q, of_p

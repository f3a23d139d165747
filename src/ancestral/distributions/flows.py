r"""Normalizing flows as posteriors: a Gaussian draw, moved by transformations whose Jacobian is cheap.

.. math:: z_0 ∼ N(μ, diag σ²),  z_k = f_k(z_{k-1}),  \log q(z_K) = \log q(z_0) - \sum_k \log |\det ∂f_k / ∂z_{k-1}|

These transformations have no cheap inverse, so that the density of a draw is known, and that of another value is not:
all that variational inference asks of a posterior.

Source: Rezende and Mohamed (2015), "Variational inference with normalizing flows".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from ancestral.distributions.heads import soft_limit
from ancestral.distributions.normal import IndependentNormal
from ancestral.errors import AncestralError, ShapeError

Transformation = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From z, ``[*particles, batch, dimensions]``, to f(z) and log |det ∂f/∂z|, ``[*particles, batch]``."""


class FlowedNormal(Distribution):
    """A Gaussian vector moved by transformations; see the equations above.

    Args:
        base: of z_0.
        transformations: f_1 to f_K.

    ``log_prob`` knows the density of its last draw alone, by the tensor itself.
    """

    arg_constraints = {}  # noqa: RUF012 - torch's own way of saying that nothing is validated
    has_rsample = True
    support = constraints.real_vector

    def __init__(self, base: IndependentNormal, transformations: Sequence[Transformation]) -> None:
        self.base, self.transformations = base, tuple(transformations)
        self._drawn: tuple[Tensor, Tensor] | None = None
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """A draw of z_K, ``[*sample_shape, *batch, dimensions]``, whose density is then known."""
        z = self.base.rsample(sample_shape)
        log_density = self.base.log_prob(z)
        for transformation in self.transformations:
            z, log_determinant = transformation(z)
            log_density = log_density - log_determinant
        self._drawn = (z, log_density)
        return z

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """The same without gradient, and its density without one in the value."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """log q of the last draw, in nats.

        Raises:
            AncestralError: the value is another, or was drawn without the gradient that its density should now have.
        """
        if self._drawn is None or value is not self._drawn[0]:
            raise AncestralError(
                "the density of a planar, radial or inverse autoregressive flow is known at its own draws alone, for "
                "it has no cheap inverse: score what was drawn from it, or use a normal posterior."
            )
        density = self._drawn[1]
        if torch.is_grad_enabled() and self.base.loc.requires_grad and not density.requires_grad:
            raise AncestralError(
                "the density of this flow was computed with its draw, which had no gradient, so that nothing would be "
                "learned from it: use Reparameterized() with the ELBO or the importance-weighted bound, or a normal "
                "posterior."
            )
        return density


def planar(u: Tensor, w: Tensor, b: Tensor) -> Transformation:
    r"""Moves along one direction, by how far a point lies along another.

    .. math:: f(z) = z + \hat{u} \tanh(w^T z + b),  \log |1 + \hat{u}^T (1 - \tanh²(w^T z + b)) w|

    where û is u with its part along w changed from :math:`w^T u` to :math:`-1 + \log(1 + (e - 1) e^{w^T u})`, so that f
    is invertible. The e - 1 is not in the paper: with it f is the identity where u is 0, and û is no longer than u;
    without it û grows without bound as w vanishes.

    Args:
        u, w: ``[*batch, dimensions]``.
        b: ``[*batch]``.

    Source: Rezende and Mohamed (2015), eq. 10 to 12 and appendix A.1.
    """
    along = (w * u).sum(-1, keepdim=True)
    square = w.square().sum(-1, keepdim=True).clamp_min(torch.finfo(w.dtype).tiny)
    steepest = F.softplus(along + math.log(math.e - 1))  # 1 + û^T w, without rounding near 0
    u = u + (steepest - 1 - along) * w / square
    steepest = steepest.squeeze(-1)

    def transformation(z: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh((w * z).sum(-1) + b)
        flat = h.square()
        return z + u * h.unsqueeze(-1), torch.log(steepest * (1 - flat) + flat)

    return transformation


def radial(center: Tensor, alpha: Tensor, beta: Tensor) -> Transformation:
    r"""Moves away from a center, or towards it.

    .. math:: f(z) = z + \hat{β} h (z - c),  h = 1 / (\hat{α} + r),  r = ‖z - c‖

    .. math:: \log \det = (D - 1) \log(1 + \hat{β} h) + \log(1 + \hat{β} h - \hat{β} h² r)

    with :math:`\hat{α} = \log(1 + e^α)` and :math:`\hat{β} = -\hat{α} + \log(1 + e^β)`, so that f is invertible.

    Args:
        center: c, ``[*batch, dimensions]``.
        alpha, beta: ``[*batch]``.

    Source: Rezende and Mohamed (2015), eq. 14 and appendix A.2.
    """
    alpha = F.softplus(alpha)
    beta = F.softplus(beta) - alpha

    def transformation(z: Tensor) -> tuple[Tensor, Tensor]:
        away = z - center
        r = away.square().sum(-1).clamp_min(torch.finfo(z.dtype).tiny).sqrt()
        h = 1 / (alpha + r)
        moved = z + (beta * h).unsqueeze(-1) * away
        stretch = beta * h
        return moved, (z.shape[-1] - 1) * torch.log1p(stretch) + torch.log1p(stretch * (1 - h * r))

    return transformation


def inverse_autoregressive(network: nn.Module, context: Tensor) -> Transformation:
    r"""Gates each dimension by what an autoregressive network says of those before it.

    .. math:: f(z) = σ(s) ⊙ z + (1 - σ(s)) ⊙ m,  (m_i, s_i) \text{ from } z_{<i} \text{ and the context},
        \log \det = \sum_i \log σ(s_i)

    Args:
        network: from z and the context to m and s, ``[..., 2, dimensions]``.
        context: of each datapoint, ``[*batch, size]``.

    Source: Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling (2016), eq. 13 and 14.
    """

    def transformation(z: Tensor) -> tuple[Tensor, Tensor]:
        m, s = network(z, context).unbind(-2)
        gate = torch.sigmoid(s)
        return gate * z + (1 - gate) * m, F.logsigmoid(s).sum(-1)

    return transformation


class Flowed(nn.Module):
    """q(z | parents) = a Gaussian and K transformations, whose parameters one network gives. See :func:`flowed`."""

    def __init__(self, network: nn.Module, dimensions: int, kind: str, flows: int) -> None:
        super().__init__()
        self.network, self.dimensions, self.kind, self.flows = network, dimensions, kind, flows

    def forward(self, *parents: Tensor) -> Distribution:
        output = self.network(*parents)
        d, wanted = self.dimensions, flow_parameters(self.kind, self.dimensions, self.flows)
        if output.shape[-1] != wanted:
            raise ShapeError(
                f"the network gives {output.shape[-1]} numbers, but a Gaussian of {d} dimensions and {self.flows} "
                f"{self.kind} flows take {wanted}: make it flow_parameters({self.kind!r}, {d}, {self.flows})."
            )
        loc, log_scale, rest = _parameters(output, d)
        steps: list[Transformation] = []
        for numbers in rest.chunk(self.flows, -1) if self.flows else ():
            if self.kind == "planar":
                u, w, b = torch.split_with_sizes(numbers, [d, d, 1], -1)
                w = w * torch.rsqrt(1 + w.square().sum(-1, keepdim=True))  # no longer than 1: see flowed
                steps.append(planar(u, w, b.squeeze(-1)))
            else:
                center, alpha, beta = torch.split_with_sizes(numbers, [d, 1, 1], -1)
                steps.append(radial(center, alpha.squeeze(-1), beta.squeeze(-1)))
        return FlowedNormal(IndependentNormal(loc, log_scale, 1), steps)

    def start_at_the_gaussian(self, output: nn.Linear) -> None:
        """Make every flow the identity, by the last layer of the network: u of planar flows is 0, α and β of radial."""
        d = self.dimensions
        with torch.no_grad():
            for parameter in (output.weight, output.bias):
                for rows in parameter[2 * d :].chunk(self.flows):
                    (rows[:d] if self.kind == "planar" else rows[d:]).zero_()


def flow_parameters(kind: str, dimensions: int, flows: int) -> int:
    """How many numbers the network of :func:`flowed` gives.

    Raises:
        AncestralError: there is no such flow, or a number is out of range.
    """
    if kind not in ("planar", "radial"):
        raise AncestralError(f"there is no flow {kind!r}. Known: planar, radial.")
    if dimensions < 1 or flows < 0:
        raise AncestralError(f"dimensions is {dimensions} and flows is {flows}: give 1 or more, and 0 or more.")
    return 2 * dimensions + flows * (2 * dimensions + 1 if kind == "planar" else dimensions + 2)


def flowed(network: nn.Module, dimensions: int, kind: str, flows: int) -> Flowed:
    r"""A posterior by planar or radial flows, all of whose parameters the network gives.

    A planar flow has :math:`w / \sqrt{1 + |w|²}` for w, which is shorter than 1. Of any length, it becomes so sharp
    that single gradients throw training off, and a smooth flow learns more (experiments/README.md).

    Args:
        network: from the parents to ``flow_parameters(kind, dimensions, flows)`` numbers: the mean, the log-scale, and
            the parameters of each flow.
        dimensions: of z.
        kind: ``"planar"`` or ``"radial"``.
        flows: how many, K.

    Raises:
        AncestralError: there is no such flow, or a number is out of range.
    """
    flow_parameters(kind, dimensions, flows)
    return Flowed(network, dimensions, kind, flows)


class InverseAutoregressive(nn.Module):
    """q(z | parents) = a Gaussian and inverse autoregressive flows, which share a context.

    Args:
        network: from the parents to ``2 · dimensions + context`` numbers: the mean, the log-scale, and the context.
        dimensions: of z.
        steps: the network of each flow, from z and the context to ``[..., 2, dimensions]``: see
            :func:`inverse_autoregressive`.

    Source: Kingma et al. (2016), algorithm 1.
    """

    def __init__(self, network: nn.Module, dimensions: int, steps: Sequence[nn.Module]) -> None:
        super().__init__()
        self.network, self.dimensions, self.steps = network, dimensions, nn.ModuleList(steps)

    def forward(self, *parents: Tensor) -> Distribution:
        loc, log_scale, context = _parameters(self.network(*parents), self.dimensions)
        steps = [inverse_autoregressive(step, context) for step in self.steps]
        return FlowedNormal(IndependentNormal(loc, log_scale, 1), steps)


def _parameters(output: Tensor, dimensions: int) -> tuple[Tensor, Tensor, Tensor]:
    """The mean, the limited log-scale, and what is left of a network's output, in single precision at least."""
    if output.dtype in (torch.bfloat16, torch.float16):
        output = output.float()
    loc, log_scale, rest = torch.split_with_sizes(
        output, [dimensions, dimensions, output.shape[-1] - 2 * dimensions], -1
    )
    return loc, soft_limit(log_scale), rest

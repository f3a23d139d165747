"""Conditionals ("heads"): a network whose output is read as the parameters of a distribution.

A head takes what the network takes and returns a ``torch.distributions.Distribution`` whose event holds the
last ``event_dims`` dimensions: 1 for vectors, 3 for images. A distribution with two parameters splits the
network's output in two along the first event dimension (features, or channels).

All parameters are logits or logarithms, so nothing overflows; the distributions' own argument validation is
off, since the shapes and supports are checked by the trace and at the first batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    Normal,
)

from ancestral.distributions.autoregressive import NADE, LinearAutoregressive
from ancestral.distributions.bernoulli import Bernoulli, IndependentBernoulli
from ancestral.distributions.continuous_bernoulli import ContinuousBernoulli
from ancestral.distributions.discretized_logistic import DiscretizedLogistic
from ancestral.distributions.normal import IndependentNormal, StandardNormal
from ancestral.distributions.one_hot import OneHot
from ancestral.errors import AncestralError, ShapeError

LOG_SCALE_LIMIT = 7.0
"""Scales stay within exp(±7): a soft limit, so that a gradient leads back from it."""

Scale = float | Literal["learned", "shared"]


def soft_limit(value: Tensor, limit: float = LOG_SCALE_LIMIT) -> Tensor:
    """``limit · tanh(value / limit)``: the identity near 0, never beyond ±limit, never without gradient."""
    return limit * torch.tanh(value / limit)


def event(distribution: Distribution, event_dims: int) -> Distribution:
    """The last ``event_dims`` batch dimensions as one event."""
    return Independent(distribution, event_dims, validate_args=False) if event_dims else distribution


def _bernoulli(logits: Tensor, event_dims: int) -> Distribution:
    return IndependentBernoulli(logits, event_dims) if event_dims else Bernoulli(logits)


class Head(nn.Module):
    """A conditional made of a network and a rule that turns its output into a distribution.

    Args:
        network: from the parents to the parameters.
        event_dims: how many trailing dimensions are one event.
    """

    parameters_per_component = 1
    """How many parameters each component of the event has."""

    def __init__(self, network: nn.Module, event_dims: int = 1) -> None:
        super().__init__()
        self.network = network
        self.event_dims = event_dims

    def forward(self, *parents: Tensor) -> Distribution:
        output = self.network(*parents)
        # a log-density sums hundreds of terms: in 16 bits it would lose the digits that learning needs
        return self.distribution(output.float() if output.dtype in (torch.bfloat16, torch.float16) else output)

    def distribution(self, output: Tensor) -> Distribution:
        raise AncestralError(f"{type(self).__name__} does not say how to read its network's output.")

    def split(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """The two halves of the output along the first event dimension."""
        dim = output.dim() - self.event_dims
        if output.shape[dim] % 2:
            raise ShapeError(
                f"the network's output has {output.shape[dim]} components in dimension {dim}, but a "
                f"{type(self).__name__} has two parameters for each: make it an even number, twice the size "
                "of the variable."
            )
        first, second = output.chunk(2, dim)
        return first, second

    def initialize(self, data: Tensor) -> None:
        """Set the output's bias so that an untrained model has the mean of ``data``, ``[n, *event]``."""
        bias = output_bias(self.network)
        start = self.unconstrained_mean(data)
        if bias is None or start is None:
            return
        with torch.no_grad():
            if bias.numel() == start.numel() * self.parameters_per_component:
                bias[: start.numel()] = start.flatten().to(bias)
            elif self.event_dims == 3 and bias.numel() == start.shape[0] * self.parameters_per_component:
                # a convolution has one bias per channel
                channels = self.unconstrained_mean(data.double().mean((2, 3)))
                if channels is not None:
                    bias[: start.shape[0]] = channels.to(bias)

    def unconstrained_mean(self, data: Tensor) -> Tensor | None:
        """The network output that stands for the data's mean, ``[*event]``, or None where there is none."""
        return None


def output_bias(network: nn.Module) -> Tensor | None:
    """The bias of the last layer of a network."""
    bias = None
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            bias = module.bias
    return bias


def _log_odds(data: Tensor) -> Tensor:
    mean = data.double().mean(0)
    if not bool(((mean >= 0) & (mean <= 1)).all()):
        raise AncestralError(
            f"the data's mean runs from {mean.min().item():g} to {mean.max().item():g}, but the mean of this "
            "likelihood lies in [0, 1]. Scale the data into [0, 1], or choose a normal likelihood with "
            "mean=None."
        )
    n = data.shape[0]
    mean = (mean * n + 0.5) / (n + 1)  # half a count, so that a pixel that is never on has finite log-odds
    return torch.log(mean) - torch.log1p(-mean)


class BernoulliHead(Head):
    """p(x | parents) = ∏ Bernoulli(x_i; σ(logit_i)). See :func:`bernoulli`."""

    def distribution(self, output: Tensor) -> Distribution:
        return _bernoulli(output, self.event_dims)

    def unconstrained_mean(self, data: Tensor) -> Tensor | None:
        return _log_odds(data)


class ContinuousBernoulliHead(Head):
    """p(x | parents) = ∏ ContinuousBernoulli(x_i; σ(logit_i)). See :func:`continuous_bernoulli`."""

    def distribution(self, output: Tensor) -> Distribution:
        return event(ContinuousBernoulli(output), self.event_dims)

    def unconstrained_mean(self, data: Tensor) -> Tensor | None:
        mean = torch.sigmoid(_log_odds(data))
        low, high = torch.full_like(mean, -15.0), torch.full_like(mean, 15.0)
        for _ in range(50):  # the mean rises with the logit and has no inverse in closed form: bisection
            middle = (low + high) / 2
            above = ContinuousBernoulli(middle).mean > mean
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (low + high) / 2


class CategoricalHead(Head):
    """The last dimension of the output holds the logits of the classes. See :func:`categorical`."""

    def distribution(self, output: Tensor) -> Distribution:
        return event(Categorical(logits=output, validate_args=False), self.event_dims)


class OneHotHead(Head):
    """The last dimension of the output holds the logits of the classes. See :func:`one_hot`."""

    def distribution(self, output: Tensor) -> Distribution:
        return event(OneHot(output), self.event_dims)


class NormalHead(Head):
    """See :func:`normal`."""

    def __init__(
        self,
        network: nn.Module,
        event_dims: int = 1,
        scale: Scale = "learned",
        mean: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(network, event_dims)
        if isinstance(scale, str):
            if scale not in ("learned", "shared"):
                raise AncestralError(f"scale is {scale!r}: give 'learned', 'shared' or a positive number.")
        elif not (math.isfinite(scale) and scale > 0):
            raise AncestralError(f"scale is {scale!r}, but a standard deviation is a positive number.")
        self.scale = scale
        self.mean = mean
        self.parameters_per_component = 2 if scale == "learned" else 1
        if scale == "shared":
            self.log_scale = nn.Parameter(torch.zeros(()))

    def distribution(self, output: Tensor) -> Distribution:
        if self.scale == "learned":
            location, log_scale = self.split(output)
            log_scale = soft_limit(log_scale)
        elif self.scale == "shared":
            location, log_scale = output, soft_limit(self.log_scale).expand_as(output)
        else:
            location, log_scale = output, torch.full_like(output, math.log(self.scale))
        if self.mean is not None:
            location = self.mean(location)
        if not self.event_dims:
            return Normal(location, log_scale.exp(), validate_args=False)
        return IndependentNormal(location, log_scale, self.event_dims)

    def unconstrained_mean(self, data: Tensor) -> Tensor | None:
        if self.mean is None:
            return data.double().mean(0)
        return _log_odds(data) if self.mean is torch.sigmoid else None


class DiscretizedLogisticHead(Head):
    """See :func:`discretized_logistic`."""

    parameters_per_component = 2

    def __init__(self, network: nn.Module, event_dims: int = 1, levels: int = 256) -> None:
        super().__init__(network, event_dims)
        if levels < 2:
            raise AncestralError(f"levels is {levels}, but a grey scale has at least 2.")
        self.levels = levels

    def distribution(self, output: Tensor) -> Distribution:
        location, log_scale = self.split(output)
        # the output 0 stands for mid-grey with a scale of about an eighth of the range
        return event(DiscretizedLogistic(location + 0.5, soft_limit(log_scale) - 2.0, self.levels), self.event_dims)

    def unconstrained_mean(self, data: Tensor) -> Tensor | None:
        return data.double().mean(0) - 0.5  # the mean of the logistic, before it is discretized


def bernoulli(network: nn.Module, event_dims: int = 1) -> BernoulliHead:
    """Binary variables from logits: log p = x·l - softplus(l)."""
    return BernoulliHead(network, event_dims)


def continuous_bernoulli(network: nn.Module, event_dims: int = 1) -> ContinuousBernoulliHead:
    """A density on [0, 1] from logits. Source: Loaiza-Ganem and Cunningham (2019)."""
    return ContinuousBernoulliHead(network, event_dims)


def normal(
    network: nn.Module,
    event_dims: int = 1,
    scale: Scale = "learned",
    mean: Callable[[Tensor], Tensor] | None = None,
) -> NormalHead:
    """Normal variables with independent components.

    Args:
        network: gives the mean and, where the scale is ``"learned"``, as many log-scales after it.
        event_dims: how many trailing dimensions are one event.
        scale: ``"learned"`` from the parents, ``"shared"`` (one learned number), or a fixed standard deviation.
        mean: squashes the mean, for example ``torch.sigmoid`` for pixels (Kingma and Welling, 2014, section 5).
    """
    return NormalHead(network, event_dims, scale, mean)


def categorical(network: nn.Module, event_dims: int = 0) -> CategoricalHead:
    """A class index from logits ``[…, classes]``; with ``event_dims=1``, n from ``[…, n, classes]``."""
    return CategoricalHead(network, event_dims)


def one_hot(network: nn.Module, event_dims: int = 0) -> OneHotHead:
    """A one-hot vector from logits ``[…, classes]``; with ``event_dims=1``, n from ``[…, n, classes]``."""
    return OneHotHead(network, event_dims)


def discretized_logistic(network: nn.Module, event_dims: int = 1, levels: int = 256) -> DiscretizedLogisticHead:
    """Grey levels k/(levels - 1): see :class:`~ancestral.distributions.DiscretizedLogistic`."""
    return DiscretizedLogisticHead(network, event_dims, levels)


class LinearAutoregressiveHead(Head):
    """Each bit given the parents and the bits before it. See :func:`darn`."""

    def __init__(self, network: nn.Module, bits: int, event_dims: int = 1) -> None:
        super().__init__(network, event_dims)
        self.weight = nn.Parameter(torch.zeros(bits, bits))

    def distribution(self, output: Tensor) -> Distribution:
        return LinearAutoregressive(output, self.weight, self.event_dims)

    def unconstrained_mean(self, data: Tensor) -> Tensor | None:
        return _log_odds(data)


class NADEHead(Head):
    """Each bit given the parents and the bits before it. See :func:`nade`."""

    def __init__(
        self, network: nn.Module, hidden_network: nn.Module, bits: int, hidden: int, event_dims: int = 1
    ) -> None:
        super().__init__(network, event_dims)
        self.hidden_network = hidden_network
        self.inward, self.outward = nn.Parameter(torch.empty(bits, hidden)), nn.Parameter(torch.zeros(bits, hidden))
        nn.init.xavier_uniform_(self.inward)

    def forward(self, *parents: Tensor) -> Distribution:
        bias, hidden_bias = (network(*parents) for network in (self.network, self.hidden_network))
        if bias.dtype in (torch.bfloat16, torch.float16):
            bias, hidden_bias = bias.float(), hidden_bias.float()
        return NADE(bias, hidden_bias, self.inward, self.outward, self.event_dims)

    def unconstrained_mean(self, data: Tensor) -> Tensor | None:
        return _log_odds(data)


class StandardNormalPrior(nn.Module):
    """p(z) = N(0, I). See :func:`standard_normal`."""

    zeros: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(shape), persistent=False)

    def forward(self) -> Distribution:
        if not self.zeros.dim():
            return Normal(self.zeros, torch.ones_like(self.zeros), validate_args=False)
        return StandardNormal(self.zeros, self.zeros, self.zeros.dim())


class BernoulliBias(nn.Module):
    """p(h) = ∏ Bernoulli(h_i; σ(b_i)). See :func:`bernoulli_bias`."""

    logits: Tensor

    def __init__(self, size: int, learned: bool = True) -> None:
        super().__init__()
        if learned:
            self.logits = nn.Parameter(torch.zeros(size))
        else:
            self.register_buffer("logits", torch.zeros(size), persistent=False)

    def forward(self) -> Distribution:
        return _bernoulli(self.logits, 1)


class OneHotBias(nn.Module):
    """p(h) = ∏ Categorical(h_i; softmax(b_i)), as one-hot vectors. See :func:`one_hot_bias`."""

    logits: Tensor

    def __init__(self, *shape: int, learned: bool = True) -> None:
        super().__init__()
        if learned:
            self.logits = nn.Parameter(torch.zeros(shape))
        else:
            self.register_buffer("logits", torch.zeros(shape), persistent=False)

    def forward(self) -> Distribution:
        return event(OneHot(self.logits), self.logits.dim() - 1)


def darn(network: nn.Module, bits: int, event_dims: int = 1) -> LinearAutoregressiveHead:
    """Binary variables, each a logistic regression on those before it, whose biases the network gives.

    Args:
        network: from the parents to the biases; ``Bias(bits)`` where there are none.
        bits: how many variables.
        event_dims: how many trailing dimensions of the network's output hold them.

    Source: Gregor et al. (2014), "Deep autoregressive networks".
    """
    return LinearAutoregressiveHead(network, bits, event_dims)


def nade(network: nn.Module, hidden_network: nn.Module, bits: int, hidden: int, event_dims: int = 1) -> NADEHead:
    """Binary variables by a neural autoregressive distribution estimator, whose biases the networks give.

    Args:
        network: from the parents to the biases of the bits; ``Bias(bits)`` where there are none.
        hidden_network: from the parents to the biases of the hidden units; ``Bias(hidden)`` where there are none.
        bits: how many variables.
        hidden: units of the layer that all bits share.
        event_dims: how many trailing dimensions of the output of ``network`` hold the bits.

    Source: Larochelle and Murray (2011); conditioned on parents: Bornschein and Bengio (2015), section 3.
    """
    return NADEHead(network, hidden_network, bits, hidden, event_dims)


def standard_normal(*shape: int) -> StandardNormalPrior:
    """The prior N(0, I) over vectors of the given size."""
    return StandardNormalPrior(*shape)


def bernoulli_bias(size: int, learned: bool = True) -> BernoulliBias:
    """Binary variables without parents: 0 and 1 are equally likely, or only at the start where ``learned``."""
    return BernoulliBias(size, learned)


def one_hot_bias(*shape: int, learned: bool = True) -> OneHotBias:
    """One-hot vectors without parents, ``(…, classes)``: uniform, or uniform at the start where ``learned``."""
    return OneHotBias(*shape, learned=learned)

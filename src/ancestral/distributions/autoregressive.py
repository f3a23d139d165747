r"""Binary vectors whose bits are drawn one after another, each given those before it: DARN layers and NADE.

.. math:: p(x) = \prod_i p(x_i | x_{<i}),  p(x_i = 1 | x_{<i}) = σ(l_i(x_{<i}))

The mass of a vector takes one pass over all bits at once, a draw one step per bit. Neither passes a gradient through
the values, and the mean is not known in closed form.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints

from ancestral.errors import EstimatorError, ShapeError

MOST_BITS = 16
"""Bits whose values can be enumerated."""
BLOCK = 64
"""Bits of NADE whose hidden units are computed at once."""


class LinearAutoregressive(Distribution):
    r"""Each bit is a logistic regression on the bits before it.

    .. math:: l_i(x_{<i}) = b_i + \sum_{j<i} W_{ij} x_j

    Args:
        bias: b, ``[*batch, *event]``; the bits run through the event in row-major order.
        weight: W, ``[bits, bits]``, of which the part below the diagonal counts.
        event_dims: how many trailing dimensions of the bias are the event.

    Source: Frey, Hinton and Dayan (1996), the fully visible sigmoid belief net; as a layer of a deep net: Gregor,
    Danihelka, Mnih, Blundell and Wierstra (2014), "Deep autoregressive networks" (DARN).
    """

    arg_constraints = {}  # noqa: RUF012 - torch's own way of saying that nothing is validated
    has_enumerate_support = True

    def __init__(self, bias: Tensor, weight: Tensor, event_dims: int = 1) -> None:
        bits = bias.shape[bias.dim() - event_dims :].numel()
        if weight.shape != (bits, bits):
            raise ShapeError(f"weight has shape {tuple(weight.shape)}, but {bits} bits need {(bits, bits)}.")
        self.bias, self.weight = bias, weight
        rows = bias.dim() - event_dims
        super().__init__(bias.shape[:rows], bias.shape[rows:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.boolean, len(self.event_shape))  # type: ignore[no-untyped-call]

    def expand(self, batch_shape: Any, _instance: Any = None) -> LinearAutoregressive:
        bias = self.bias.expand(*batch_shape, *self.event_shape)
        return type(self)(bias, self.weight, len(self.event_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats, of the batch shape (broadcast with that of the value)."""
        value, bias = _flat(value.to(self.bias.dtype), self.event_shape), _flat(self.bias, self.event_shape)
        return _log_mass(value, bias + F.linear(value, self.weight.tril(-1)))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """A draw, ``[*sample_shape, *batch, *event]``."""
        shape = (*sample_shape, *self.batch_shape)
        bias = _flat(self.bias, self.event_shape)
        uniform = torch.rand(*shape, bias.shape[-1], dtype=bias.dtype, device=bias.device)
        with torch.no_grad():
            drawn: Tensor = _draw_linear(bias, self.weight, uniform)
        return drawn.reshape(*shape, *self.event_shape)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values, ``[2^bits, *batch, *event]``, or with batch dimensions of size 1.

        Raises:
            EstimatorError: there are too many.
        """
        return _all_vectors(self.bias, self.batch_shape, self.event_shape, expand)


class NADE(Distribution):
    r"""Each bit is given by a hidden layer that sees the bits before it; all of them share its weights.

    .. math:: l_i(x_{<i}) = b_i + \sum_k V_{ik} σ\Big(c_k + \sum_{j<i} W_{jk} x_j\Big)

    Args:
        bias: b, ``[*batch, *event]``; the bits run through the event in row-major order.
        hidden_bias: c, ``[*batch, hidden]``.
        inward: W, ``[bits, hidden]``.
        outward: V, ``[bits, hidden]``.
        event_dims: how many trailing dimensions of ``bias`` are the event.

    Source: Larochelle and Murray (2011), "The neural autoregressive distribution estimator", eq. 1 to 3.
    """

    arg_constraints = {}  # noqa: RUF012
    has_enumerate_support = True

    def __init__(self, bias: Tensor, hidden_bias: Tensor, inward: Tensor, outward: Tensor, event_dims: int = 1) -> None:
        rows = bias.dim() - event_dims
        bits, hidden = bias.shape[rows:].numel(), hidden_bias.shape[-1]
        if bias.shape[:rows] != hidden_bias.shape[:-1]:
            raise ShapeError(
                f"bias has batch shape {tuple(bias.shape[:rows])}, but hidden_bias {tuple(hidden_bias.shape[:-1])}."
            )
        for name, weight in (("inward", inward), ("outward", outward)):
            if weight.shape != (bits, hidden):
                raise ShapeError(
                    f"{name} has shape {tuple(weight.shape)}, but {bits} bits and {hidden} hidden units need "
                    f"{(bits, hidden)}."
                )
        self.bias, self.hidden_bias, self.inward, self.outward = bias, hidden_bias, inward, outward
        super().__init__(bias.shape[:rows], bias.shape[rows:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.boolean, len(self.event_shape))  # type: ignore[no-untyped-call]

    def expand(self, batch_shape: Any, _instance: Any = None) -> NADE:
        return type(self)(
            self.bias.expand(*batch_shape, *self.event_shape),
            self.hidden_bias.expand(*batch_shape, self.hidden_bias.shape[-1]),
            self.inward,
            self.outward,
            len(self.event_shape),
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats, of the batch shape (broadcast with that of the value)."""
        value, bias = _flat(value.to(self.bias.dtype), self.event_shape), _flat(self.bias, self.event_shape)
        before, logits = self.hidden_bias, []
        for begin in range(0, value.shape[-1], BLOCK):
            part = slice(begin, begin + BLOCK)
            brought = value[..., part, None] * self.inward[part]
            summed = brought.cumsum(-2)
            units = torch.sigmoid(before.unsqueeze(-2) + summed - brought)
            logits.append((units * self.outward[part]).sum(-1))
            before = before + summed[..., -1, :]
        return _log_mass(value, bias + torch.cat(logits, -1))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """A draw, ``[*sample_shape, *batch, *event]``."""
        shape = (*sample_shape, *self.batch_shape)
        bias = _flat(self.bias, self.event_shape)
        uniform = torch.rand(*shape, bias.shape[-1], dtype=bias.dtype, device=bias.device)
        with torch.no_grad():
            drawn: Tensor = _draw_nade(bias, self.hidden_bias, self.inward, self.outward, uniform)
        return drawn.reshape(*shape, *self.event_shape)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values, ``[2^bits, *batch, *event]``, or with batch dimensions of size 1.

        Raises:
            EstimatorError: there are too many.
        """
        return _all_vectors(self.bias, self.batch_shape, self.event_shape, expand)


# Operators of their own: torch.compile calls them as they are, and does not write out a loop over hundreds of bits.
@torch.library.custom_op("ancestral::draw_linear", mutates_args=())
def _draw_linear(bias: Tensor, weight: Tensor, uniform: Tensor) -> Tensor:
    """A draw of :class:`LinearAutoregressive` by numbers from [0, 1), of their shape."""
    logits = bias.expand_as(uniform).clone()
    value = torch.empty_like(uniform)
    for i in range(uniform.shape[-1]):
        value[..., i] = uniform[..., i] < torch.sigmoid(logits[..., i])
        logits[..., i + 1 :] += value[..., i : i + 1] * weight[i + 1 :, i]
    return value


@torch.library.custom_op("ancestral::draw_nade", mutates_args=())
def _draw_nade(bias: Tensor, hidden_bias: Tensor, inward: Tensor, outward: Tensor, uniform: Tensor) -> Tensor:
    """A draw of :class:`NADE` by numbers from [0, 1), of their shape."""
    before = hidden_bias.expand(*uniform.shape[:-1], -1).clone()
    value = torch.empty_like(uniform)
    for i in range(uniform.shape[-1]):
        logit = bias[..., i] + torch.sigmoid(before) @ outward[i]
        value[..., i] = uniform[..., i] < torch.sigmoid(logit)
        before += value[..., i : i + 1] * inward[i]
    return value


for operator in (_draw_linear, _draw_nade):
    operator.register_fake(lambda *tensors: torch.empty_like(tensors[-1]))


def _flat(value: Tensor, event: tuple[int, ...]) -> Tensor:
    """The event as one dimension."""
    return value if len(event) == 1 else value.reshape(*value.shape[: value.dim() - len(event)], -1)


def _log_mass(value: Tensor, logits: Tensor) -> Tensor:
    if value.shape != logits.shape:
        value, logits = torch.broadcast_tensors(value, logits)  # type: ignore[no-untyped-call]
    return -F.binary_cross_entropy_with_logits(logits, value, reduction="none").sum(-1)


def _all_vectors(bias: Tensor, batch: tuple[int, ...], event: tuple[int, ...], expand: bool) -> Tensor:
    bits = torch.Size(event).numel()
    if bits > MOST_BITS:
        raise EstimatorError(
            f"these {bits} bits have 2^{bits} values, too many to enumerate (2^{MOST_BITS} at most). Use "
            "LikelihoodRatio()."
        )
    numbers = torch.tensor(list(itertools.product((0.0, 1.0), repeat=bits)), dtype=bias.dtype, device=bias.device)
    values = numbers.reshape(-1, *(1 for _ in batch), *event)
    return values.expand(-1, *batch, *event) if expand else values

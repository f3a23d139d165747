"""Masked networks: each output sees only the inputs before it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedPerceptron(nn.Module):
    """Two numbers for each dimension, from the dimensions before it and a context; one hidden layer of tanh units.

    Args:
        dimensions: of z.
        hidden: units of the hidden layer; unit k sees the first 1 + (k mod (dimensions - 1)) dimensions.
        context: numbers that every unit sees.
        reverse: whether "before" means "after": the dimensions in the other order.

    Source: Germain, Gregor, Murray and Larochelle (2015), "MADE", section 3, with cyclic degrees.
    """

    inward_mask: Tensor
    outward_mask: Tensor

    def __init__(self, dimensions: int, hidden: int, context: int, reverse: bool = False) -> None:
        super().__init__()
        self.inward, self.context = nn.Linear(dimensions, hidden), nn.Linear(context, hidden, bias=False)
        self.outward, self.beside = nn.Linear(hidden, 2 * dimensions), nn.Linear(context, 2 * dimensions, bias=False)
        degrees = torch.arange(hidden) % max(1, dimensions - 1) + 1
        order = torch.arange(1, dimensions + 1)
        order = order.flip(0) if reverse else order
        self.register_buffer("inward_mask", (degrees[:, None] >= order).float(), persistent=False)
        sees = (order[:, None] > degrees).float()
        self.register_buffer("outward_mask", torch.cat([sees, sees]), persistent=False)
        nn.init.zeros_(self.outward.bias)
        with torch.no_grad():
            self.outward.weight.mul_(0.1)
            self.beside.weight.mul_(0.1)

    def start_at(self, outputs: Tensor) -> None:
        """Set the biases of the two kinds of output."""
        with torch.no_grad():
            self.outward.bias.copy_(outputs.repeat_interleave(len(self.outward.bias) // 2))

    def forward(self, z: Tensor, context: Tensor) -> Tensor:
        """``[..., dimensions]`` and ``[..., context]`` -> ``[..., 2, dimensions]``."""
        units = F.linear(z, self.inward.weight * self.inward_mask, self.inward.bias) + self.context(context)
        output = F.linear(torch.tanh(units), self.outward.weight * self.outward_mask, self.outward.bias)
        both: Tensor = output + self.beside(context)
        return both.reshape(*both.shape[:-1], 2, z.shape[-1])

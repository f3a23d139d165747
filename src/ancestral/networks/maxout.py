"""Maxout layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ancestral.networks.linear_layer import Linear


class Maxout(nn.Module):
    r"""The largest of several affine maps, unit by unit.

    .. math:: h_i(x) = \max_{j ≤ k} x^⊤ W_{·ij} + b_{ij}

    Args:
        inward: input features.
        units: output features.
        pieces: k, the number of affine maps per unit.

    Source: Goodfellow, Warde-Farley, Mirza, Courville and Bengio (2013), section 3.
    """

    def __init__(self, inward: int, units: int, pieces: int) -> None:
        super().__init__()
        self.units, self.pieces = units, pieces
        self.linear = Linear(inward, units * pieces)

    def forward(self, x: Tensor) -> Tensor:
        return torch.amax(self.linear(x).unflatten(-1, (self.pieces, self.units)), -2)

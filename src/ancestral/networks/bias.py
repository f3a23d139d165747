"""A learned vector: the network of a variable without parents."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Bias(nn.Module):
    """The same output always, ``[*shape]``, a parameter that starts at zero."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self) -> Tensor:
        return self.bias

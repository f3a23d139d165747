r"""The hyperbolic tangent, by whichever function computes it faster here.

PyTorch leaves it to MKL, which uses no AVX-512 on AMD processors; the sigmoid function is PyTorch's own, and takes a
tenth of the time there. Both are within a rounding of 1 of the truth: :math:`\tanh x = 2 σ(2x) - 1`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ancestral.networks.processor import mkl_is_slow

ENOUGH = 10_000
"""Numbers from which more calls pay."""


class Tanh(nn.Tanh):
    """``torch.nn.Tanh``, faster on some processors: the same values, to 2e-7, and gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.mkl_is_slow = mkl_is_slow()  # here: a compiler can't follow how it is found out

    def forward(self, input: Tensor) -> Tensor:
        plain = input.dtype == torch.float32 and input.device.type == "cpu"
        if not (self.mkl_is_slow and plain and input.numel() >= ENOUGH):
            return torch.tanh(input)
        return torch.rsub((2 * input).sigmoid_(), -1, alpha=-2)

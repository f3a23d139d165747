"""Batch normalization over all leading dimensions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm1d):
    """Normalizes each feature over particles and batch, ``[..., features]``; in use, by what training has seen.

    A single row has no variance: in training it is normalized by the running statistics too.

    Source: Ioffe and Szegedy (2015), algorithm 1.
    """

    def forward(self, input: Tensor) -> Tensor:
        rows = input.flatten(0, -2) if input.dim() > 2 else input.reshape(-1, input.shape[-1])
        if self.training and len(rows) < 2:
            mean, variance = self.running_mean, self.running_var
            assert mean is not None
            assert variance is not None
            return F.batch_norm(rows, mean, variance, self.weight, self.bias, eps=self.eps).view_as(input)
        normalized: Tensor = super().forward(rows)
        return normalized.view(torch.Size(input.shape))

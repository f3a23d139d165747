"""Nearest training data of generated data: whether a model remembers or generalises."""

from __future__ import annotations

import torch
from torch import Tensor

from ancestral.data import Dataset


@torch.no_grad()
def nearest_training_rows(samples: Tensor, data: Dataset) -> tuple[Tensor, Tensor]:
    """For each sample ``[n, *shape]`` the training row at the least Euclidean distance, and that distance ``[n]``."""
    flat = samples.flatten(1).float().cpu()
    best = torch.full((len(flat),), float("inf"))
    rows = torch.empty_like(flat)
    for x, _ in data.batches("train", 2000, shuffle=False):
        distance = torch.cdist(flat, x.flatten(1))
        value, index = distance.min(1)
        closer = value < best
        best = torch.where(closer, value, best)
        rows[closer] = x.flatten(1)[index[closer]]
    return rows.reshape(samples.shape), best

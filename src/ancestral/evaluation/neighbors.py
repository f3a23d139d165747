"""Nearest training data of generated data: whether a model remembers or generalises."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ancestral.data import Dataset


@torch.no_grad()
def nearest_training_rows(
    samples: Tensor, data: Dataset, part: Callable[[Tensor], Tensor] = lambda x: x
) -> tuple[Tensor, Tensor]:
    """For each sample ``[n, *shape]`` the training row at the least Euclidean distance, and that distance ``[n]``.

    Args:
        samples: compared with the training rows.
        data: has them.
        part: of datapoints ``[n, *shape]``, that is compared: for a model that completes images, what it has drawn.
    """
    samples = samples.float().cpu()
    flat = part(samples).flatten(1)
    best = torch.full((len(flat),), float("inf"))
    rows = torch.empty_like(samples)
    for x, _ in data.batches("train", 2000, shuffle=False):
        distance = torch.cdist(flat, part(x).flatten(1))
        value, index = distance.min(1)
        closer = value < best
        best = torch.where(closer, value, best)
        rows[closer] = x[index[closer]]
    return rows, best

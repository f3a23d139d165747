"""How often a classifier q(y | x) is right."""

from __future__ import annotations

import math

import torch
from torch import nn

from ancestral.configs.data import HIDDEN
from ancestral.data import Dataset
from ancestral.errors import AncestralError
from ancestral.evaluation.figures import Figure
from ancestral.models.contract import CanClassify

ROWS = 500
"""Datapoints per pass."""


@torch.no_grad()
def accuracy(model: nn.Module, data: Dataset, split: str = "test") -> list[Figure]:
    """The part of the rows whose most probable class is theirs, in percent, with its standard error.

    Rows whose label is hidden are left out; where none is known, there is no figure.

    Args:
        model: with ``classify``, :class:`ancestral.models.contract.CanClassify`.

    Raises:
        AncestralError: the model knows no classes.
    """
    if not isinstance(model, CanClassify):
        raise AncestralError(f"a {type(model).__name__} can't classify: it has no classify(). Models that can: m2.")
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    right = []
    training = model.training
    try:
        model.eval()
        for x, y in data.batches(split, ROWS, shuffle=False, device=device):  # type: ignore[arg-type]
            if y is not None:
                known = y != HIDDEN
                right.append((model.classify(x[known]).argmax(-1) == y[known]).double())
    finally:
        model.train(training)
    n = sum(map(len, right))
    if not n:
        return []
    share = torch.cat(right).mean().item()
    return [
        Figure(
            "accuracy", 100 * share, "%", "exact", "the most probable class of q(y | x)",
            100 * math.sqrt(share * (1 - share) / n), n,
            data=f"{data.name}, {split}", digest=data.digest(split),  # type: ignore[arg-type]
        )
    ]  # fmt: skip

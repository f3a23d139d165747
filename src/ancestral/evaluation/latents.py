"""Which latent variables a model uses."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ancestral.data import Dataset
from ancestral.data.dataset import SplitName
from ancestral.errors import AncestralError
from ancestral.evaluation.figures import Figure
from ancestral.models import LatentVariableModel
from ancestral.models.latent_variable import (
    ACTIVE,
    activity as activity_of_batches,
    drawn_after_others,
    draws_of_means,
)


def activity(model: LatentVariableModel, data: Dataset, split: SplitName = "test") -> dict[str, Tensor]:
    """How much the posterior mean of each latent unit moves with the data: see
    :func:`ancestral.models.latent_variable.activity`.

    Raises:
        AncestralError: the split is empty.
    """
    return activity_of_batches(model, _batches(model, data, split, 500))


def _batches(
    model: LatentVariableModel, data: Dataset, split: SplitName, size: int
) -> Iterator[tuple[Tensor, Tensor | None]]:
    if not len(getattr(data, split)):
        raise AncestralError(f"{data.name} has no rows in its {split} split. Choose another --split.")
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    return data.batches(split, size, shuffle=False, device=device)


def active_units(model: LatentVariableModel, data: Dataset, split: SplitName = "test") -> list[Figure]:
    """How many units of each latent variable are active, A_u > 0.01; no figure where :func:`activity` has none."""
    found = activity(model, data, split)
    draws = draws_of_means(model, *next(_batches(model, data, split, 1))) if found else {}
    later = drawn_after_others(model)
    mean = "mean of p given what is known" if model.q is model.p else "posterior mean"
    return [
        Figure(
            f"active units of {name}", float((values > ACTIVE).sum()), f"of {values.numel()}",
            "estimate" if name in draws else "exact",
            f"variance over data of the {mean} above {ACTIVE}"
            + (f", by {draws[name]} draws" if name in draws else "")
            + (" of the variables before it" if name in later else ""),
            datapoints=len(getattr(data, split)),
            data=f"{data.name}, {split}", digest=data.digest(split),
        )
        for name, values in found.items()
    ]  # fmt: skip

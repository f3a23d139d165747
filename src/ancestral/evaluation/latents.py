"""Which latent variables a model uses."""

from __future__ import annotations

import torch
from torch import Tensor

from ancestral.data import Dataset
from ancestral.errors import AncestralError
from ancestral.evaluation.figures import Figure
from ancestral.models import LatentVariableModel
from ancestral.models.latent_variable import ACTIVE, PATHS, activity as activity_of_batches, drawn_after_others


def activity(model: LatentVariableModel, data: Dataset, split: str = "test") -> dict[str, Tensor]:
    """How much the posterior mean of each latent unit moves with the data: see
    :func:`ancestral.models.latent_variable.activity`.

    Raises:
        AncestralError: the split is empty.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    if not len(getattr(data, split)):
        raise AncestralError(f"{data.name} has no rows in its {split} split.")
    return activity_of_batches(model, data.batches(split, 500, shuffle=False, device=device))  # type: ignore[arg-type]


def active_units(model: LatentVariableModel, data: Dataset, split: str = "test") -> list[Figure]:
    """How many units of each latent variable are active, A_u > 0.01; no figure where :func:`activity` has none."""
    found = activity(model, data, split)
    later = drawn_after_others(model)
    mean = "mean of p given what is known" if model.q is model.p else "posterior mean"
    return [
        Figure(
            f"active units of {name}", float((values > ACTIVE).sum()), f"of {values.numel()}",
            "estimate" if name in later else "exact",
            f"variance over data of the {mean} above {ACTIVE}"
            + (f", by {2 * PATHS} draws of the variables before it" if name in later else ""),
            datapoints=len(getattr(data, split)),
            data=f"{data.name}, {split}", digest=data.digest(split),  # type: ignore[arg-type]
        )
        for name, values in found.items()
    ]  # fmt: skip

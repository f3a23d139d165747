"""Which latent variables a model uses."""

from __future__ import annotations

import torch
from torch import Tensor

from ancestral.data import Dataset
from ancestral.errors import AncestralError
from ancestral.evaluation.figures import Figure
from ancestral.models import LatentVariableModel

THRESHOLD = 0.01


@torch.no_grad()
def activity(model: LatentVariableModel, data: Dataset, split: str = "test") -> dict[str, Tensor]:
    r"""The activity of each latent unit, by variable: how much its posterior mean moves with the data.

    .. math:: A_u = Cov_x(E_{q(u | x)}[u])

    A variable whose posterior mean is not known in closed form (an index, a normalizing flow) is left out.

    Source: Burda, Grosse and Salakhutdinov (2016), section 5.2.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    if not len(getattr(data, split)):
        raise AncestralError(f"{data.name} has no rows in its {split} split.")
    means: dict[str, list[Tensor]] = {}
    for x, y in data.batches(split, 500, shuffle=False, device=device):  # type: ignore[arg-type]
        for name, value in model.posterior_means(x, y).items():
            means.setdefault(name, []).append(value.flatten(1).double())
    return {name: torch.cat(values).var(0) for name, values in means.items()}


def active_units(model: LatentVariableModel, data: Dataset, split: str = "test") -> list[Figure]:
    """How many units of each latent variable are active, A_u > 0.01; no figure where :func:`activity` has none."""
    return [
        Figure(
            f"active units of {name}", float((values > THRESHOLD).sum()), f"of {values.numel()}", "exact",
            "variance over data of the posterior mean above 0.01", datapoints=len(getattr(data, split)),
            data=f"{data.name}, {split}", digest=data.digest(split),  # type: ignore[arg-type]
        )
        for name, values in activity(model, data, split).items()
    ]  # fmt: skip

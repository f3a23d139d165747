"""Walks through the latent space."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ancestral.errors import AncestralError


@torch.no_grad()
def interpolate(model: Any, ends: Tensor | dict[str, Tensor], steps: int) -> Tensor:
    """Decode straight lines between the first and second, third and fourth, … latent value.

    Args:
        model: a model with ``decode``.
        ends: latent values ``[2 n, …]`` of real-valued variables, or a dict of them.
        steps: points of each line, both ends included.

    Returns:
        ``[n · steps, *shape]``, line after line.

    Raises:
        AncestralError: a latent variable is discrete, and has nothing between its values.
    """
    single = isinstance(ends, Tensor)
    values = {"": ends} if isinstance(ends, Tensor) else ends
    lines = {}
    for name, value in values.items():
        if not value.is_floating_point():
            raise AncestralError(f"the latent variable {name!r} is discrete: there is nothing between its values.")
        pairs = len(value) // 2
        start, end = value[0 : 2 * pairs : 2], value[1 : 2 * pairs : 2]
        weights = torch.linspace(0, 1, steps, dtype=value.dtype, device=value.device)
        weights = weights.reshape(1, steps, *[1] * (value.dim() - 1))
        lines[name] = (start.unsqueeze(1) * (1 - weights) + end.unsqueeze(1) * weights).flatten(0, 1)
    x: Tensor = model.decode(lines[""] if single else lines)
    return x

"""Walks through the latent space, and maps of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ancestral.errors import AncestralError


@torch.no_grad()
def interpolate(
    model: Any, ends: Tensor | dict[str, Tensor], steps: int, given: Mapping[str, Tensor] | None = None
) -> Tensor:
    """Decode straight lines between the first and second, third and fourth, … latent value.

    Args:
        model: a model with ``decode``.
        ends: latent values ``[2 n, …]``, or a dict of them.
        steps: points of each line, both ends included.
        given: values that the model is conditioned on, ``[2 n, …]`` each, such as labels: a line keeps those of its
            first end.

    Returns:
        ``[n · steps, *shape]``, line after line.

    Raises:
        AncestralError: a latent variable is an index (integers), with nothing between its values. Binary and one-hot
            ones are floating-point numbers, and the line runs through their probabilities.
    """
    single = isinstance(ends, Tensor)
    values = {"": ends} if isinstance(ends, Tensor) else ends
    lines = {}
    for name, value in values.items():
        if not value.is_floating_point():
            raise AncestralError(f"the latent variable {name!r} is an index: there is nothing between its values.")
        pairs = len(value) // 2
        start, end = value[0 : 2 * pairs : 2], value[1 : 2 * pairs : 2]
        weights = torch.linspace(0, 1, steps, dtype=value.dtype, device=value.device)
        weights = weights.reshape(1, steps, *[1] * (value.dim() - 1))
        lines[name] = (start.unsqueeze(1) * (1 - weights) + end.unsqueeze(1) * weights).flatten(0, 1)
    kept = {}
    for name, value in (given or {}).items():
        kept[name] = value[0 : len(value) // 2 * 2 : 2].repeat_interleave(steps, 0)
    x: Tensor = model.decode(lines[""] if single else lines, **({"given": kept} if kept else {}))
    return x


@torch.no_grad()
def latent_grid(model: Any, size: int) -> Tensor:
    """Decode a grid of a 2-D latent space with a standard normal prior, ``[size · size, *shape]``.

    The points are the prior's quantiles (k + 1/2) / size along each axis, so each stands for the same probability. Rows
    run along the second dimension from high to low.

    Raises:
        AncestralError: the latent space has not two dimensions.

    Source: Kingma and Welling (2014), figure 4.
    """
    shape = model.latent_shape()
    if shape != (2,):
        raise AncestralError(
            f"a map needs a latent variable of 2 dimensions, but it has shape {shape}: train with --latent 2."
        )
    device = next(model.parameters()).device
    axis = torch.special.ndtri((torch.arange(size, device=device) + 0.5) / size)
    second, first = torch.meshgrid(axis.flip(0), axis, indexing="ij")
    x: Tensor = model.decode(torch.stack([first.flatten(), second.flatten()], 1))
    return x

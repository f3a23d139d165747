"""Pictures of what a model makes: grids of images as PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ancestral.errors import AncestralError
from ancestral.models.contract import CanReconstruct, CanSample
from ancestral.training.folder import write_atomically

Value = TypeVar("Value")

MARGIN = 2
"""Pixels between two images of a grid."""
PIXELS = 178_956_970
"""The largest picture that Pillow opens."""


def grid(images: Tensor, columns: int | None = None, zoom: int | None = None) -> Image.Image:
    """A grid of images ``[n, channels, height, width]`` with values in [0, 1], row by row.

    Args:
        columns: how many in a row; by default as near to a square as n allows.
        zoom: how many screen pixels one pixel takes; by default small images are enlarged.

    Raises:
        AncestralError: not images of 1 or 3 channels.
    """
    if images.dim() != 4 or images.shape[1] not in (1, 3):
        raise AncestralError(
            f"a picture needs images, (n, 1 or 3, height, width), but these have shape {tuple(images.shape)}. Write "
            "tables and other data as .npz or .csv."
        )
    pixels = (images.detach().float().clamp(0, 1) * 255).round().byte().cpu().permute(0, 2, 3, 1).numpy()
    n, height, width, channels = pixels.shape
    columns, zoom, size = layout(n, height, width, columns, zoom)
    canvas = np.full((*size, channels), 96, np.uint8)
    for i, image in enumerate(pixels):
        top = MARGIN + (i // columns) * (height * zoom + MARGIN)
        left = MARGIN + (i % columns) * (width * zoom + MARGIN)
        canvas[top : top + height * zoom, left : left + width * zoom] = image.repeat(zoom, 0).repeat(zoom, 1)
    return Image.fromarray(canvas[:, :, 0] if channels == 1 else canvas)


def layout(
    n: int, height: int, width: int, columns: int | None = None, zoom: int | None = None
) -> tuple[int, int, tuple[int, int]]:
    """The columns of a :func:`grid` of n images, its zoom, and its height and width in pixels."""
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    zoom = zoom or max(1, 56 // max(height, width))
    return columns, zoom, (rows * (height * zoom + MARGIN) + MARGIN, columns * (width * zoom + MARGIN) + MARGIN)


def mean_or_draw(compute: Callable[[bool], Value]) -> tuple[Value, bool]:
    """What is computed of means, or of draws (called with True) where no mean is known; and whether it is of draws."""
    try:
        return compute(False), False
    except AncestralError:
        return compute(True), True


def sampled(model: CanSample, count: int, **given: Any) -> tuple[Tensor, bool]:
    """Means of p(x | z), or draws of it where it has no mean in closed form; and whether they are draws."""
    return mean_or_draw(lambda draw: model.sample(count, mean=not draw, **given))


def reconstructed(model: CanReconstruct, x: Tensor, y: Tensor | None) -> tuple[Tensor, bool]:
    """Reconstructions, and whether they are of a draw: q(z | x) may have no mean in closed form, as with flows."""
    return mean_or_draw(lambda draw: model.reconstruct(x, sample=draw, y=y))


def save_picture(image: Image.Image, path: Path) -> None:
    """Write a PNG, atomically."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise AncestralError(f"can't write the picture {path}: {error.strerror}.") from None


def pairs(first: Tensor, second: Tensor) -> Tensor:
    """Interleave two rows of images, so that a grid shows each pair side by side."""
    return torch.stack([first, second], 1).flatten(0, 1)

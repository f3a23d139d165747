"""Pictures that are part of a page, each of a bounded size."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from ancestral.errors import AncestralError
from ancestral.report.story import Story
from ancestral.report.words import Text, say

PICTURE_PIXELS = 2**26
FRAME_BYTES, THUMBNAIL_BYTES, SPRITE_BYTES, MANIFOLD_BYTES = 28_000, 5_000, 150_000, 100_000
"""What a picture may take: together, at most 1.4 MB of the page once encoded."""


def picture(image: Image.Image, most: int) -> str:
    """An image as a ``data:`` address of at most ``most`` bytes before encoding: PNG if that fits, else WebP."""
    while True:
        for kind, options in (("PNG", {"optimize": True}), ("WEBP", {"quality": 80}), ("WEBP", {"quality": 50})):
            buffer = io.BytesIO()
            image.save(buffer, kind, **options)
            if buffer.tell() <= most:
                return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
        image = image.resize((max(1, image.width // 2), max(1, image.height // 2)))


def mosaic(images: Tensor, columns: int, side: int = 96) -> Image.Image:
    """Images ``[n, 1 or 3, height, width]`` with values in [0, 1] edge to edge, none larger than ``side`` pixels."""
    pixels = (images.detach().float().clamp(0, 1) * 255).round().byte().cpu().permute(0, 2, 3, 1).numpy()
    tiles = [Image.fromarray(tile[:, :, 0] if tile.shape[2] == 1 else tile) for tile in pixels]
    for tile in tiles:
        tile.thumbnail((side, side))
    width, height = tiles[0].size
    whole = Image.new(tiles[0].mode, (columns * width, math.ceil(len(tiles) / columns) * height))
    for i, tile in enumerate(tiles):
        whole.paste(tile, (i % columns * width, i // columns * height))
    return whole


def thumbnail(image: Tensor) -> str:
    """One image ``[1 or 3, height, width]`` as a ``data:`` address."""
    return picture(mosaic(image[None], 1), THUMBNAIL_BYTES)


def is_image(shape: Sequence[int]) -> bool:
    return len(shape) == 3 and shape[0] in (1, 3)


def frames(story: Story) -> list[dict[str, Any]] | Text:
    """The pictures that training made, by how far it was."""
    if not is_image(story.config["description"].get("shape", ())):
        return say("no_frames_table")
    found: dict[int, dict[str, str]] = {}
    for path in sorted(story.folder.samples.glob("*-percent.png")):
        match = re.fullmatch(r"(samples|reconstructions)-(\d{3})-percent\.png", path.name)
        if match is None or int(match[2]) > 100:
            continue
        found.setdefault(int(match[2]), {})[match[1]] = _frame(path)
    kept = sorted(found)[:8]
    made = []
    for percent in kept:
        at = {"percent": percent, "epoch": f"{percent / 100 * story.planned:.3g}"}
        made.append({
            "words": say("frame_epoch" if story.planned else "frame", **at),
            "percent": percent,
            **{kind: found[percent].get(kind) for kind in ("samples", "reconstructions")},
        })  # fmt: skip
    return made or say("no_frames")


def _frame(path: Path) -> str:
    """A picture of the run folder, decoded and encoded anew.

    Raises:
        AncestralError: it is no PNG, far larger than training makes them, a link, or no file.
    """
    if path.is_symlink() or not path.is_file():
        raise AncestralError(f"the picture {path} is a link, or no file. Remove it.")
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.width * image.height > PICTURE_PIXELS:
                raise AncestralError(f"{path} has {image.width} x {image.height} pixels, too many. Remove it.")
            shown = image.convert("L" if image.mode in ("1", "L", "LA", "I;16") else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise AncestralError(f"can't read the picture {path}: {error}. Remove it.") from None
    shown.thumbnail((720, 720))
    return picture(shown, FRAME_BYTES)

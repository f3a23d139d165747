"""A folder of images."""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ancestral.data.dataset import IN_MEMORY, Rows
from ancestral.data.download import cache_folder
from ancestral.data.raw import Raw
from ancestral.data.reading import check_is_file, reading
from ancestral.errors import AncestralError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif")

_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF")
"""What a file may hold, whatever its name says: of other formats, one would run a program (PostScript)."""

_CURE = "Remove or replace it."
_GREY = ("1", "L", "LA")
_COLOUR = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV")
_ORIENTATION = 0x0112  # EXIF tag; values from 5 on swap height and width


def read_image_folder(path: Path) -> Raw:
    """All images of a folder, or of its subfolders, whose names are then the labels; in order of name.

    Images are grey if all are, else red, green and blue; transparency is left out, and of a moving picture
    the first frame is taken. More than 256 MiB of pixels are decoded once, to the cache, and read from there.

    Raises ``AncestralError`` for a folder without images, one that can't be read, or unequal sizes.
    """
    files, labels = _listing(path)
    height, width, channels = _common_size(files)
    shape = (len(files), channels, height, width)
    if len(files) < 2:
        raise AncestralError(f"{path} holds one image; a data set has at least 2.")
    if math.prod(shape) <= IN_MEMORY:
        pixels: NDArray[Any] = np.empty(shape, np.uint8)
        _decode(files, pixels)
    else:
        pixels = _cached(path, files, shape)
    return Raw(Rows(pixels, labels))


def _listing(path: Path) -> tuple[list[Path], NDArray[np.int64] | None]:
    def images(folder: Path) -> list[Path]:
        with reading(folder, "Make it readable.", "a folder"):
            entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        found = [file for file in entries if file.suffix.lower() in ENDINGS and not file.is_dir()]
        for file in found:
            check_is_file(file)
        return found

    top = images(path)
    folders = sorted(
        folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith(".")
    )
    inside = [found for folder in folders if (found := images(folder))]
    if top and inside:
        raise AncestralError(
            f"{path} holds images itself ({top[0].name}) and in subfolders ({inside[0][0].parent.name}). "
            "Put all of them in subfolders, whose names are the labels, or none."
        )
    if not top and not inside:
        raise AncestralError(
            f"{path} holds no images ({', '.join(ENDINGS)}), nor do the folders in it. Give one that does, or a file."
        )
    if top or len(inside) == 1:
        return top or inside[0], None
    labels = np.repeat(np.arange(len(inside)), [len(found) for found in inside])
    return [file for found in inside for file in found], labels


def _common_size(files: list[Path]) -> tuple[int, int, int]:
    """Height, width and channels of all images, read from their headings."""
    sizes: dict[tuple[int, int], Path] = {}
    channels = 1
    for file in files:
        size, mode = _heading(file)
        if mode not in _GREY + _COLOUR:
            raise AncestralError(f"{file} has more than 8 bits a pixel ({mode}); convert it to 8 bits.")
        sizes.setdefault(size, file)
        channels = max(channels, 1 if mode in _GREY else 3)
        if len(sizes) > 1:
            (one, first), (other, second) = sizes.items()
            raise AncestralError(
                f"Images differ in size: {first} is {one[0]}x{one[1]} (height x width), {second} is "
                f"{other[0]}x{other[1]}. Crop or resize them to one size first, for example with Pillow's "
                "ImageOps.fit(image, (width, height))."
            )
    (height, width), _ = next(iter(sizes.items()))
    return height, width, channels


def _heading(file: Path) -> tuple[tuple[int, int], str]:
    from PIL import Image

    with reading(file, _CURE, "an image"), warnings.catch_warnings():
        # An image of more than 89 million pixels is more likely an attack than a datapoint.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=_FORMATS) as image:
                width, height = image.size
                turned = "exif" in image.info and image.getexif().get(_ORIENTATION, 1) >= 5
                return ((width, height) if turned else (height, width)), image.mode
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise AncestralError(f"{file} is too large an image: {error}. Leave it out, or crop it.") from error


def _decode(files: list[Path], pixels: NDArray[Any]) -> None:
    from PIL import Image, ImageOps

    for row, file in enumerate(files):
        with reading(file, _CURE, "an image"), Image.open(file, formats=_FORMATS) as image:
            # As in the heading: an orientation that follows the pixels is not looked for.
            upright = ImageOps.exif_transpose(image) if "exif" in image.info else image
            values = np.asarray(upright.convert("L" if pixels.shape[1] == 1 else "RGB"))
            pixels[row] = values if values.ndim == 2 else np.moveaxis(values, 2, 0)


def _cached(path: Path, files: list[Path], shape: tuple[int, ...]) -> NDArray[Any]:
    """The decoded images in a memory-mapped file, made again when a file of the folder has changed."""
    content = hashlib.sha256(repr((str(path.resolve()), shape)).encode())
    for file in files:
        status = file.stat()
        content.update(repr((str(file.relative_to(path)), status.st_size, status.st_mtime_ns)).encode())
    target = cache_folder() / "folders" / f"{content.hexdigest()[:32]}.npy"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".{os.getpid()}.tmp")
        try:
            pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
            _decode(files, pixels)
            pixels.flush()
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    return np.lib.format.open_memmap(target, mode="r")

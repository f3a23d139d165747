"""Trackers: other places where metrics go. TensorBoard is an extra."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ancestral.errors import AncestralError, nearest


class Tracker(Protocol):
    """What a tracker does, in five methods."""

    def start(self, config: dict[str, Any]) -> None:
        """Training begins, with these settings."""

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Named scalars after ``step`` updates."""

    def image(self, step: int, name: str, picture: Image.Image) -> None:
        """A picture after ``step`` updates."""

    def text(self, name: str, content: str) -> None:
        """Words, such as why training stopped."""

    def finish(self) -> None:
        """Training has ended, for whatever reason."""


class TensorBoard:
    """Writes event files that ``tensorboard --logdir RUN`` shows."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"))

    def start(self, config: dict[str, Any]) -> None:
        self.text("config", "\n".join(f"    {name} = {value!r}" for name, value in config.items()))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, picture: Image.Image) -> None:
        pixels = np.asarray(picture.convert("RGB"))
        self.writer.add_image(name, pixels, step, dataformats="HWC")

    def text(self, name: str, content: str) -> None:
        self.writer.add_text(name, content)

    def finish(self) -> None:
        self.writer.close()


TRACKERS = {"tensorboard": TensorBoard}


def check_trackers(names: Iterable[str]) -> None:
    """Raise, with the line that installs it, if what a tracker needs is missing."""
    for name in names:
        if find_spec(name) is None:
            raise AncestralError(f'the tracker {name} is not installed: pip install "ancestral[{name}]".')


def make_tracker(name: str, folder: Path) -> Tracker:
    """The tracker of that name, writing into the run folder."""
    if name not in TRACKERS:
        raise AncestralError(f"there is no tracker {name!r}. " + nearest(name, TRACKERS))
    return TRACKERS[name](folder)

"""What the benchmarks share: the data, our own training loop as a candidate, the products alone."""

from __future__ import annotations

import argparse
import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure

PIXELS = 784


def images() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The training images of MNIST, ``[60000, 784]``, uint8."""
    from ancestral.configs import DataConfig
    from ancestral.data import load

    return load("mnist", DataConfig(validation=0.0)).train.x.reshape(-1, PIXELS)


def ours(
    arguments: argparse.Namespace, model: str, batch_size: int, before: int = 0, **settings: Any
) -> Iterator[int]:
    """``ancestral.train`` in a thread, held between turns where it reports its progress.

    ``before`` updates are made first: half of all pictures are made in the first twentieth of training, and would weigh
    more in a few turns than they do in a run.
    """
    import ancestral

    class Reporter:
        """Tells how many updates were made."""

        def __init__(self, tell: Callable[[int], None]) -> None:
            self.tell, self.done = tell, 0

        def begin(self, total: int, done: int) -> None: ...
        def say(self, message: str) -> None: ...
        def end(self) -> None: ...

        def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None:
            self.tell(done - self.done)
            self.done = done

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)

    def train(tell: Callable[[int], None]) -> None:
        ancestral.train(
            model, "mnist", out=folder / "run", reporter=Reporter(tell), epochs=100, validation=0.0,
            threads=arguments.threads, batch_size=batch_size, **settings,
        )  # fmt: skip

    for done in measure.in_turns(train):
        before -= done
        if before < 0:
            yield done * batch_size


def products(arguments: argparse.Namespace, layers: list[tuple[int, int, int, str]], items: int) -> Iterator[int]:
    """The matrix products of a step and nothing else: the floor.

    ``layers`` holds (rows, inward, outward, which products: "y" forward, "w" the weights' gradient, "x" the input's).
    """
    import torch

    from ancestral.networks.processor import onednn_is_faster

    torch.set_num_threads(arguments.threads)
    fast = torch.ops.mkldnn._linear_pointwise if onednn_is_faster() else None

    def product(a: Any, b: Any) -> None:  # a times the transpose of b
        if fast is None:
            torch.mm(a, b.t())
        else:
            fast(a, b, None, "none", [], "")

    operands = [
        (torch.randn(rows, inward), torch.randn(outward, inward), torch.randn(rows, outward), which)
        for rows, inward, outward, which in layers
    ]
    while True:
        for x, w, gradient, which in operands:
            if "y" in which:
                product(x, w)
            if "w" in which:
                product(gradient.t(), x.t())
            if "x" in which:
                product(gradient, w.t())
        yield items

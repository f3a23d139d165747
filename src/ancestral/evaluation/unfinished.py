"""What an evaluation has computed so far, in a file, so that the same evaluation continues after an interruption."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ancestral.training.folder import write_atomically

EVERY = 5.0
"""Seconds between two writings: what an interruption costs at most, besides the rows in work."""
HEADER_BYTES = 2**16

Values = dict[str, Tensor]
"""By name, one float64 per row each."""


class Unfinished:
    """A file of values per row.

    Args:
        path: of the file; None keeps nothing.
        key: all that decides the values. A file with another is of another evaluation, and is written over.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self.path, self.key = path, key
        self._written = time.monotonic()

    def read(self, names: Sequence[str], rows: Collection[int]) -> Values:
        """The values of the first rows, one of these numbers of them; of no rows where there are none.

        A file that is damaged, or of another evaluation, counts as none.
        """
        none = {name: torch.zeros(0, dtype=torch.float64) for name in names}
        if self.path is None:
            return none
        try:
            if self.path.stat().st_size > HEADER_BYTES + 8 * max(rows) * len(names):
                return none
            with safe_open(self.path, "pt") as file:
                if (file.metadata() or {}).get("key") != self.key or set(file.keys()) != set(names):
                    return none
                values = {name: file.get_tensor(name) for name in names}
        except (OSError, SafetensorError):
            return none
        shapes, kinds = ({getattr(value, part) for value in values.values()} for part in ("shape", "dtype"))
        whole = len(shapes) == 1 and kinds == {torch.float64} and shapes <= {torch.Size([count]) for count in rows}
        return values if whole else none

    def write(self, values: Callable[[], Mapping[str, Tensor]], last: bool = False) -> None:
        """Keep the values of the rows so far, unless something was written just before.

        Where the place can't be written, the evaluation goes on without.
        """
        if self.path is None or not (last or time.monotonic() - self._written >= EVERY):
            return
        content = save({name: value.cpu() for name, value in values().items()}, {"key": self.key})
        try:
            write_atomically(self.path, content)
        except OSError:
            self.path = None
        self._written = time.monotonic()

    def remove(self) -> None:
        """The evaluation is finished."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def seed_from(seed: int, row: int) -> int:
    """Of the draws from a row on, so that it does not matter where work was interrupted.

    torch's generator for the CPU looks at 32 bits alone, so they are what is mixed.
    """
    return (seed + row * 0x9E3779B1) % 2**63


def digest_of(model: torch.nn.Module) -> str:
    """SHA-256 of a model's weights."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

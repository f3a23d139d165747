"""How many draws fit into memory at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

SHARE = 0.25
"""Of the free memory, what one pass may take."""


def free_memory(device: torch.device) -> float:
    """Bytes that can be taken on a device without anything being moved out; without bound where nobody says."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024 * float(next(line.split()[1] for line in lines if line.startswith("MemAvailable:")))
    except (OSError, StopIteration):
        return math.inf


def bytes_kept(compute: Callable[[], object]) -> int:
    """Bytes of the tensors that a computation keeps for its gradient."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = compute()  # held, so that no memory is used twice meanwhile
    del result
    return sum(kept.values())


def at_once(count: int, each: int, device: torch.device) -> int:
    """How many of ``count`` that take ``each`` bytes go into one pass: at least one, and all where there is room."""
    return max(1, min(count, int(min(free_memory(device) * SHARE // max(1, each), count))))

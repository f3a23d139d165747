"""How many draws go into one pass: what the free memory has room for, and on a processor what its caches have."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

SHARE = 0.25
"""Of the free memory, what one pass may take."""
UNKNOWN = 1 << 30
"""Bytes that one pass may take where nobody says how much memory is free."""
FAST = 1 << 27
"""Bytes that the tensors of one pass of a processor may have together. Fewer are not worth their calls; more leave its
caches, until the allocator gives each back: see :func:`ancestral.training.optimization.keep_freed_memory`."""


def free_memory(device: torch.device) -> float:
    """Bytes that can be taken on a device without anything being moved out; infinite where nobody says."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for what comes
        return float(torch.cuda.mem_get_info(device)[0] + kept)
    if device.type != "cpu":
        return math.inf
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024 * float(next(line.split()[1] for line in lines if line.startswith("MemAvailable:")))
    except (OSError, StopIteration):
        return math.inf


class Made(TorchDispatchMode):
    """Counts the bytes of the tensors that are made meanwhile: no fewer than are there at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        there = {_address(value) for value in args if isinstance(value, Tensor)}  # a view of one of them is not made
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor) and _address(value) not in there:
                self.bytes += value.untyped_storage().nbytes()
        return result


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage().data_ptr())


def bytes_made(compute: Callable[[], object]) -> int:
    """Bytes of all the tensors that a computation makes."""
    made = Made()
    with made:
        compute()
    return made.bytes


def at_once(count: int, each: int, device: torch.device) -> int:
    """How many of ``count`` that make ``each`` bytes go into one pass: at least one, and all where there is room.

    Fewer than all are a power of two: the draws of a seed depend on it, and should not follow every byte of memory.
    """
    free = free_memory(device)
    room = free * SHARE if math.isfinite(free) else UNKNOWN
    if device.type == "cpu":
        room = min(room, FAST)
    fitting = max(1.0, room / max(1, each))
    return count if count <= fitting else 1 << (int(fitting).bit_length() - 1)

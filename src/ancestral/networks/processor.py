"""What the processor can do that PyTorch does not say."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

import torch


def description() -> str:
    """What the system says of the processor: its vendor and, on Linux, what it can do."""
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return platform.processor()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether it has instructions for products of bfloat16; without them they are several times slower than float32."""
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(description().split())


@functools.cache
def mkl_is_slow() -> bool:
    """Whether PyTorch relies on MKL where that leaves AVX-512 unused: on AMD processors."""
    return (
        "AuthenticAMD" in description()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    )


@functools.cache
def onednn_is_faster() -> bool:
    """Whether PyTorch's oneDNN multiplies float32 matrices faster than its MKL."""
    return (
        mkl_is_slow()
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )

"""What is known of the processor is read off what the system says of it."""

from __future__ import annotations

import pytest
import torch

from ancestral.networks import processor

AMD, INTEL = "vendor_id : AuthenticAMD\nflags : fpu avx2 ", "vendor_id : GenuineIntel\nflags : fpu avx2 "


@pytest.mark.parametrize(
    ("text", "capability", "faster"),
    [(AMD + "avx512f", "AVX512", True), (INTEL + "avx512f", "AVX512", False), (AMD, "AVX2", False)],
)
def test_only_avx_512_on_amd_makes_onednn_the_faster_one(
    monkeypatch: pytest.MonkeyPatch, text: str, capability: str, faster: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(processor, "description", lambda: text)
    monkeypatch.setattr(processor, "mkl_is_slow", processor.mkl_is_slow.__wrapped__)
    has_both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    assert processor.onednn_is_faster.__wrapped__() == (faster and has_both)


@pytest.mark.parametrize(("flags", "can"), [("avx512_bf16 avx2", True), ("amx_bf16", True), ("avx512f avx2", False)])
def test_bfloat16_needs_instructions_for_it(monkeypatch: pytest.MonkeyPatch, flags: str, can: bool) -> None:
    monkeypatch.setattr(processor, "description", lambda: f"flags : {flags}")
    assert processor.multiplies_bfloat16.__wrapped__() == can


def test_there_is_at_least_one_core() -> None:
    assert processor.cores() >= 1

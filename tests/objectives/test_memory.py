"""How many draws go into one pass."""

from __future__ import annotations

import pytest
import torch

from ancestral.objectives import memory


def test_the_tensors_that_a_computation_makes_are_counted_and_neither_views_nor_what_is_written_in_place() -> None:
    x = torch.zeros(7, 5)

    def compute() -> None:
        x.t()[:3].add_(1)
        y = x + 1  # 140 bytes
        y.view(35).chunk(5)
        torch.max(y.double(), 0)  # 280 bytes, then 5 numbers and 5 places: 80

    assert memory.bytes_made(compute) == 140 + 280 + 80


@pytest.mark.parametrize(
    ("free", "fast", "size"),
    [(1e9, 1e9, 11), (4 * 110, 1e9, 11), (4 * 109, 1e9, 8), (4 * 50, 1e9, 4), (1e9, 30, 2), (0, 1e9, 1), (1e9, 0, 1)],
)
def test_all_go_at_once_or_a_power_of_two_that_there_is_room_for_and_that_is_fast(
    free: float, fast: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: free)
    monkeypatch.setattr(memory, "FAST", fast)
    assert memory.at_once(11, 10, torch.device("cpu")) == size


def test_on_a_gpu_the_memory_alone_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: 4 * 50)
    monkeypatch.setattr(memory, "FAST", 0)
    assert memory.at_once(11, 10, torch.device("cuda")) == 4


def test_where_nobody_says_how_much_memory_is_free_a_pass_takes_one_gibibyte_at_most() -> None:
    assert memory.free_memory(torch.device("mps")) == float("inf")
    assert memory.at_once(11, 2**30 // 11, torch.device("mps")) == 11
    assert memory.at_once(11, 2**30 // 5, torch.device("mps")) == 4
    assert memory.at_once(11, 2**31, torch.device("mps")) == 1

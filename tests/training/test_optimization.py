"""Optimisers, schedules and averages of weights."""

from __future__ import annotations

import math
import platform
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from ancestral.configs import TrainingConfig
from ancestral.configs.training import Optimizer
from ancestral.errors import AncestralError
from ancestral.training.checkpoint import optimizer_tensors, restore_optimizer
from ancestral.training.optimization import CLASSES, WeightAverage, keep_freed_memory, learning_rate, make_optimizer

NAMES = list(Optimizer.__args__)  # type: ignore[attr-defined]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 2))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    x = torch.linspace(-1, 1 + number, 35).view(7, 5)
    model(x).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_every_named_optimiser_has_its_class() -> None:
    assert set(CLASSES) == set(NAMES)


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("name", NAMES)
def test_the_state_of_every_optimiser_survives_safetensors(name: str, momentum: float, tmp_path: Path) -> None:
    if momentum and name not in ("sgd", "rmsprop"):
        with pytest.raises(AncestralError, match="momentum"):
            TrainingConfig(optimizer=name, momentum=momentum)  # type: ignore[arg-type]
        return
    config = TrainingConfig(optimizer=name, learning_rate=0.03, momentum=momentum, weight_decay=0.1)  # type: ignore[arg-type]
    model, twin = network(), network()
    optimizer = make_optimizer(model.parameters(), config)
    for i in range(3):
        step(model, optimizer, i)
    save_file(optimizer_tensors("player", optimizer) | {"other.0.step": torch.zeros(1)}, tmp_path / "state.safetensors")
    twin.load_state_dict(model.state_dict())
    again = make_optimizer(twin.parameters(), config)
    restore_optimizer("player", again, load_file(tmp_path / "state.safetensors"))
    for i in range(3, 6):
        step(model, optimizer, i)
        step(twin, again, i)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_every_optimiser_takes_the_settings_that_are_its_own(name: str) -> None:
    own = {"beta1": 0.5, "beta2": 0.6} if "adam" in name and name != "adadelta" else {}
    own |= {} if name == "sgd" else {"epsilon": 1e-3}
    config = TrainingConfig(optimizer=name, learning_rate=0.03, weight_decay=0.1, **own)  # type: ignore[arg-type]
    group = make_optimizer(network().parameters(), config).param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.03, 0.1)
    assert group.get("eps", 1e-3) == 1e-3
    assert group.get("betas", (0.5, 0.6)) == (0.5, 0.6)


def test_nothing_to_optimise_is_an_error() -> None:
    with pytest.raises(AncestralError, match="owns no parameters"):
        make_optimizer([], TrainingConfig())


@pytest.mark.parametrize(
    ("schedule", "final", "values"),
    [
        ("constant", 0.0, (0.2, 0.2, 0.2)),
        ("cosine", 0.0, (0.2, 0.1, 0.0)),
        ("cosine", 0.1, (0.2, 0.15, 0.1)),
        ("linear", 0.0, (0.2, 0.1, 0.0)),
        ("linear", 0.1, (0.2, 0.15, 0.1)),
        ("exponential", 0.05, (0.2, 0.1, 0.05)),
    ],
)
def test_a_schedule_starts_at_the_rate_and_ends_at_the_final_one(
    schedule: str, final: float, values: tuple[float, ...]
) -> None:
    config = TrainingConfig(epochs=10, learning_rate=0.2, schedule=schedule, final_learning_rate=final)  # type: ignore[arg-type]
    for epoch, value in zip((0.0, 5.0, 10.0), values, strict=True):
        assert learning_rate(config, 0.2, epoch) == pytest.approx(value, abs=1e-12)
        assert learning_rate(config, 0.6, epoch) == pytest.approx(3 * value, abs=1e-12)  # another player's own rate


def test_cosine_is_a_quarter_of_the_way_down_where_the_cosine_is() -> None:
    config = TrainingConfig(epochs=12, learning_rate=0.2, schedule="cosine")
    assert learning_rate(config, 0.2, 4.0) == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("passes", "stage"), [(0.0, 0), (0.5, 0), (1.5, 1), (3.9, 1), (4.1, 2), (12.9, 2), (13.1, 3), (39.9, 3), (40.1, 4)]
)
def test_the_iwae_schedule_has_stages_of_three_to_the_i_passes(passes: float, stage: int) -> None:
    config = TrainingConfig(epochs=3280, schedule="iwae", learning_rate=1e-3)
    assert learning_rate(config, 1e-3, passes) == pytest.approx(1e-3 * 10 ** (-stage / 7), rel=1e-12)


def test_the_iwae_schedule_ends_after_3280_passes_at_a_tenth() -> None:
    config = TrainingConfig(epochs=3280, schedule="iwae", learning_rate=1e-3)
    assert learning_rate(config, 1e-3, 3279.9) == pytest.approx(1e-4)


@settings(deadline=None, max_examples=20)
@given(epoch=st.floats(0, 10))
def test_warm_up_multiplies_any_schedule(epoch: float) -> None:
    config = TrainingConfig(epochs=10, learning_rate=0.2, schedule="linear", learning_rate_warmup=2.5)
    plain = TrainingConfig(epochs=10, learning_rate=0.2, schedule="linear")
    expected = learning_rate(plain, 0.2, epoch) * min(1.0, epoch / 2.5)
    assert learning_rate(config, 0.2, epoch) == pytest.approx(expected, abs=1e-15)


def test_the_moving_average_is_that_of_its_formula() -> None:
    model = nn.BatchNorm1d(3)  # has whole-number state too
    average = WeightAverage(model, 0.6)
    by_hand = model.weight.detach().double().clone()
    for n in range(1, 12):
        with torch.no_grad():
            model.weight.copy_(torch.full((3,), math.sin(n)))
            model.num_batches_tracked.fill_(n)
        average.update(model)
        decay = min(0.6, (1 + n) / (10 + n))
        by_hand = decay * by_hand + (1 - decay) * math.sin(n)
    torch.testing.assert_close(average.weights["weight"].double(), by_hand, atol=1e-6, rtol=0)
    assert average.weights["num_batches_tracked"] == 11
    assert average.updates == 11
    assert not torch.equal(average.weights["weight"], model.weight)


def test_freed_memory_is_kept_on_glibc() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")

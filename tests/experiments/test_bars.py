"""The bars problem: its images, and the exact mass of a machine."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ancestral.configs import DataDescription, HelmholtzConfig
from ancestral.models import helmholtz_machine


@pytest.fixture
def bars(program_of: Callable[[str], Any]) -> Any:
    return program_of("helmholtz/bars")


def test_there_are_thirty_images(bars: Any) -> None:
    images, mass = bars.images()
    assert images.shape == (30, 1, 4, 4)
    torch.testing.assert_close(mass.sum(), torch.tensor(1.0))
    lit = images.flatten(1).sum(1)
    assert mass[lit == 0].item() == mass[lit == 16].item() == 1 / 16  # they come from either direction


def test_the_mass_of_all_images_of_a_machine_is_one(bars: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = (3, 1)
    monkeypatch.setitem(bars.SETTINGS, "layers", layers)
    model = helmholtz_machine(HelmholtzConfig(layers=layers), DataDescription((1, 2, 3), "binary", 2))
    for parameter in model.parameters():
        parameter.data.normal_()
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=6))).reshape(-1, 1, 2, 3)
    with torch.no_grad():
        torch.testing.assert_close(bars.log_mass(model, every).exp().sum(), torch.tensor(1.0))

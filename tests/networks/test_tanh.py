"""tanh is torch's own, by whichever function is faster."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ancestral.networks import mlp, tanh


@pytest.fixture(params=[True, False], ids=["by the sigmoid function", "torch"])
def layer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tanh.Tanh:
    """Both ways, on every machine."""
    monkeypatch.setattr(tanh, "ENOUGH", 1)
    monkeypatch.setattr(tanh, "mkl_is_slow", lambda: request.param)
    return tanh.Tanh()


def test_values_and_gradients_are_those_of_double_precision(layer: tanh.Tanh) -> None:
    x = torch.linspace(-100, 100, 20_011).requires_grad_()
    before = x.detach().clone()
    y = layer(x)
    exact = torch.tanh(x.detach().double())
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), x)
    assert (y - exact).abs().max() < 2e-7
    assert (slope - (1 - exact**2)).abs().max() < 1e-6
    assert (bend + 2 * exact * (1 - exact**2)).abs().max() < 1e-6
    assert torch.equal(x, before)


def test_the_way_is_by_the_sigmoid_function_where_mkl_is_slow(layer: tanh.Tanh) -> None:
    x = torch.randn(7, 3, requires_grad=True)
    assert ("Tanh" in type(layer(x).grad_fn).__name__) == (not layer.mkl_is_slow)
    few = torch.randn(0, 3, requires_grad=True)
    assert "Tanh" in type(layer(few).grad_fn).__name__


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_torchs_own(layer: tanh.Tanh, dtype: torch.dtype) -> None:
    x = torch.randn(1009).to(dtype)
    assert torch.equal(layer(x), torch.tanh(x))


def test_networks_take_it() -> None:
    assert [type(module) for module in mlp(5, 3, 2).layers if isinstance(module, nn.Tanh)] == [tanh.Tanh]

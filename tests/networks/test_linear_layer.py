"""The affine layer gives what torch's own gives, to rounding, whichever library multiplies."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from ancestral.networks import Linear, linear_layer, mlp
from ancestral.networks.maxout import Maxout

INPUTS = {
    "vectors": lambda: torch.randn(131, 23),
    "particles": lambda: torch.randn(7, 19, 23),
    "one vector": lambda: torch.randn(23),
    "expanded": lambda: torch.randn(1, 1, 23).expand(7, 19, 23),
    "transposed": lambda: torch.randn(23, 131).t(),
}


@pytest.fixture(params=["oneDNN", "torch"])
def product(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways, on every machine: oneDNN is there on those where it is not faster, too."""
    name: str = request.param
    has_onednn = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    if name == "oneDNN" and not has_onednn:
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(linear_layer, "onednn_is_faster", lambda: name == "oneDNN")
    monkeypatch.setattr(linear_layer, "ENOUGH", 1)
    return name


def close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a.double() - b).abs().max() <= 1e-5 * b.abs().max())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", INPUTS)
def test_values_and_gradients_are_those_of_double_precision(product: str, name: str, bias: bool) -> None:
    torch.manual_seed(0)
    layer = Linear(23, 17, bias=bias)
    exact = copy.deepcopy(layer).double()
    x = INPUTS[name]().detach().requires_grad_()
    y = x.detach().double().requires_grad_()
    output, expected = layer(x), nn.functional.linear(y, exact.weight, exact.bias)
    assert ("_Linear" in type(output.grad_fn).__name__) == (product == "oneDNN" and x.dim() > 1)
    output.sin().sum().backward()
    expected.sin().sum().backward()
    assert close(output, expected)
    assert x.grad is not None
    assert y.grad is not None
    assert close(x.grad, y.grad)
    for mine, theirs in zip(layer.parameters(), exact.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert close(mine.grad, theirs.grad)


@pytest.mark.usefixtures("product")
def test_a_gradient_that_is_the_same_number_everywhere_reaches_the_weights() -> None:
    layer = Linear(23, 17)
    layer(torch.ones(131, 23)).sum().backward()  # the gradient is an expanded scalar
    assert layer.weight.grad is not None
    assert layer.weight.grad.eq(131).all()


@pytest.mark.usefixtures("product")
def test_what_needs_no_gradient_gets_none() -> None:
    layer = Linear(23, 17).requires_grad_(False)
    x = torch.randn(131, 23, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is None
    assert layer.bias.grad is None


@pytest.mark.usefixtures("product")
def test_second_derivatives_are_those_of_double_precision() -> None:
    torch.manual_seed(1)
    layer = Linear(23, 17)
    exact = copy.deepcopy(layer).double()
    x = torch.randn(131, 23, requires_grad=True)
    y = x.detach().double().requires_grad_()
    seconds = []
    for one, point in ((layer, x), (exact, y)):
        (first,) = torch.autograd.grad(one(point).sin().sum(), point, create_graph=True)
        seconds.append(torch.autograd.grad(first.square().sum(), one.weight)[0])
    assert close(*seconds)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own forward mode uses it
@pytest.mark.usefixtures("product")
def test_transforms_and_double_precision_and_half_precision_are_left_to_torch() -> None:
    torch.manual_seed(2)
    layer, x = Linear(23, 17), torch.randn(131, 23)
    assert torch.func.vmap(layer)(x).allclose(layer(x), atol=1e-5)
    assert torch.func.jacrev(layer)(x[0]).allclose(layer.weight)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, torch.ones_like(x)))).tangent
    assert tangent is not None
    assert tangent[0].allclose(layer.weight.sum(1), atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer.double()(x.double()).dtype == torch.float64


@pytest.mark.usefixtures("product")
def test_wrong_sizes_are_torchs_own_error() -> None:
    with pytest.raises(RuntimeError, match=r"shape|size"):
        Linear(23, 17)(torch.randn(131, 19))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
def test_a_compiled_layer_multiplies_by_the_same_library(product: str) -> None:
    torch.manual_seed(4)
    layer, x, programs = Linear(23, 17), torch.randn(131, 23), []

    def backend(program: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        programs.append(program.print_readable(print_output=False))
        return program.forward

    def loss(x: Tensor) -> Tensor:
        result: Tensor = layer(x).sin().sum()
        return result

    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    gradients = [torch.autograd.grad(function(x), list(layer.parameters())) for function in (loss, compiled)]
    assert all(close(mine, theirs) for mine, theirs in zip(*gradients, strict=True))
    assert ("ancestral.product" in programs[0]) == (product == "oneDNN")


def test_small_products_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_layer, "onednn_is_faster", lambda: True)
    output = Linear(23, 17)(torch.randn(7, 23, requires_grad=True))
    assert "_Linear" not in type(output.grad_fn).__name__


def test_every_affine_layer_of_the_networks_is_this_one() -> None:
    for network in (mlp(23, 19, 17), Maxout(23, 19, 3)):
        layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
        assert layers
        assert all(isinstance(layer, Linear) for layer in layers)

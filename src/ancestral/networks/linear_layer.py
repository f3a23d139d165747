r"""The affine layer :math:`y = x W^T + b`, by whichever library multiplies matrices faster here.

PyTorch multiplies matrices of single precision with MKL, which uses no AVX-512 on AMD processors; oneDNN, which PyTorch
carries too, does, and takes half the time there. Both round alike: the products and sums are of single precision.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from ancestral.networks.processor import onednn_is_faster

ENOUGH = 2_000_000
"""Multiplications from which oneDNN's dearer call pays."""


class Linear(nn.Linear):
    """``torch.nn.Linear``, faster on some processors: the same parameters, values to rounding, and gradients."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self.onednn_is_faster = onednn_is_faster()  # here: a compiler can't follow how it is found out

    def forward(self, input: Tensor) -> Tensor:
        if not (self.onednn_is_faster and _pays(input, self.weight)):
            return F.linear(input, self.weight, self.bias)
        output: Tensor = _Linear.apply(input.contiguous(), self.weight, self.bias)  # type: ignore[no-untyped-call]
        return output


def _pays(input: Tensor, weight: Tensor) -> bool:
    """Whether these are enough multiplications, of plain numbers of single precision in memory."""
    return (
        input.numel() * weight.shape[0] >= ENOUGH
        and input.dim() > 1
        and input.shape[-1] == weight.shape[1]
        and input.device.type == weight.device.type == "cpu"
        and input.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
    )


def _product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a Bᵀ + bias, by oneDNN."""
    product: Tensor = (
        torch.ops.ancestral.product(a, b, bias)
        if torch.compiler.is_compiling()
        else torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    )
    return product


# Under a name of its own torch.compile calls it as it is: oneDNN's it would rewrite, for weights that never change.
_operators = torch.library.Library("ancestral", "DEF")  # type: ignore[no-untyped-call]
_operators.define("product(Tensor a, Tensor b, Tensor? bias) -> Tensor")  # type: ignore[no-untyped-call]
_operators.impl("product", _product, "CPU")  # type: ignore[no-untyped-call]


@torch.library.register_fake("ancestral::product", lib=_operators)  # type: ignore[untyped-decorator]
def _shape_of_product(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    return a.new_empty((*a.shape[:-1], b.shape[0]))


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input, weight)
        return _product(input, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        product = _product if not torch.is_grad_enabled() else F.linear  # a second derivative needs F.linear's graph
        gradient = gradient.contiguous()
        rows = gradient.flatten(0, -2)
        return (
            product(gradient, weight.t()) if ctx.needs_input_grad[0] else None,
            product(rows.t().contiguous(), input.flatten(0, -2).t()) if ctx.needs_input_grad[1] else None,
            rows.sum(0) if ctx.needs_input_grad[2] else None,
        )

"""Multilayer perceptrons."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ancestral.errors import AncestralError, ShapeError, nearest
from ancestral.networks.batch_norm import BatchNorm
from ancestral.networks.linear_layer import Linear
from ancestral.networks.tanh import Tanh

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": Tanh,
    "relu": nn.ReLU,
    "leaky-relu": lambda: nn.LeakyReLU(0.2),
    "softplus": nn.Softplus,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
}

Size = int | tuple[int, ...]


def activation(name: str) -> nn.Module:
    """The activation of that name; an unknown one is answered with the nearest."""
    if name not in ACTIVATIONS:
        raise AncestralError(f"there is no activation {name!r}. " + nearest(name, ACTIVATIONS))
    return ACTIVATIONS[name]()


class MLP(nn.Module):
    """Linear layers with an activation between them; see :func:`mlp`."""

    def __init__(self, sizes: list[Size], activation_name: str, batch_norm: bool = False) -> None:
        super().__init__()
        self.input_shape, self.output_shape = _shape(sizes[0]), _shape(sizes[-1])
        widths = [
            math.prod(self.input_shape),
            *[math.prod(_shape(s)) for s in sizes[1:-1]],
            math.prod(self.output_shape),
        ]
        layers: list[nn.Module] = []
        for i, (inward, outward) in enumerate(itertools.pairwise(widths)):
            if i:
                layers += [BatchNorm(inward)] * batch_norm + [activation(activation_name)]
            layers.append(glorot(Linear(inward, outward)))
        self.layers = nn.Sequential(*layers)

    @property
    def output(self) -> Linear:
        """The last layer."""
        last = self.layers[-1]
        assert isinstance(last, Linear)
        return last

    def forward(self, *inputs: Tensor) -> Tensor:
        x: Tensor = self.layers(concatenate(inputs, self.input_shape))
        if len(self.output_shape) > 1:
            x = x.unflatten(-1, self.output_shape)  # type: ignore[no-untyped-call]
        return x


def mlp(*sizes: Size, activation: str = "tanh", batch_norm: bool = False) -> MLP:
    """A multilayer perceptron: ``mlp(784, 400, 40)`` has one hidden layer of 400 units.

    The first and last size may be shapes, such as ``(1, 28, 28)``, which are flattened and restored. Several
    inputs are concatenated. Leading dimensions (particles, batch) are free. With ``batch_norm`` the hidden units are
    normalized over them before their activation (Ioffe and Szegedy, 2015).

    Weights start by Glorot and Bengio (2010), biases at zero.
    """
    if len(sizes) < 2:
        raise AncestralError(f"mlp{sizes} has no layer: give at least the sizes of its input and its output.")
    return MLP(list(sizes), activation, batch_norm)


def linear(inward: Size, outward: Size) -> MLP:
    """One affine map: an MLP with no hidden layer."""
    return mlp(inward, outward)


def glorot(layer: nn.Linear) -> nn.Linear:
    """Uniform weights in ±√(6 / (in + out)), zero bias. Source: Glorot and Bengio (2010), eq. 16."""
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def concatenate(inputs: tuple[Tensor, ...], shape: tuple[int, ...]) -> Tensor:
    """Flatten the event dimensions of one input, or join several vectors: what the first layer takes."""
    size = math.prod(shape)
    if len(inputs) == 1:
        x = inputs[0]
        if len(shape) > 1 and tuple(x.shape[x.dim() - len(shape) :]) == shape:
            x = x.flatten(-len(shape))
    else:
        lead = torch.broadcast_shapes(*[x.shape[:-1] for x in inputs])  # type: ignore[no-untyped-call]
        x = torch.cat([x.expand(*lead, x.shape[-1]) for x in inputs], -1)
    if x.shape[-1] != size:
        raise ShapeError(
            f"the network takes {shape[0] if len(shape) == 1 else shape} features, but the input has shape "
            f"{[tuple(i.shape) for i in inputs]}. Make the first size of the network the size of its parents."
        )
    return x


def _shape(size: Size) -> tuple[int, ...]:
    shape = (size,) if isinstance(size, int) else tuple(size)
    if not shape or min(shape) < 1:
        raise AncestralError(f"a layer of size {size} has no units: sizes are 1 or more.")
    return shape

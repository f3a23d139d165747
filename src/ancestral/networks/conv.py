"""Convolutional encoders and decoders for images of any height, width and number of channels."""

from __future__ import annotations

from torch import Tensor, nn

from ancestral.errors import AncestralError, ShapeError
from ancestral.networks.linear_layer import Linear
from ancestral.networks.mlp import activation, glorot

ImageShape = tuple[int, int, int]


def halvings(shape: ImageShape, layers: int) -> list[tuple[int, int]]:
    """The heights and widths after each stride of 2, rounded up: 28x20 -> 14x10 -> 7x5."""
    sizes = [(shape[1], shape[2])]
    for _ in range(layers):
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes


def _check(shape: tuple[int, ...], channels: tuple[int, ...]) -> ImageShape:
    if len(shape) != 3:
        raise AncestralError(
            "a convolutional network needs images, (channels, height, width), but the data have shape "
            f"{shape}. Use the multilayer perceptron for tables."
        )
    if not channels or min(channels) < 1:
        raise AncestralError(f"channels is {channels}: give one positive number per layer, for example 32 64.")
    return shape[0], shape[1], shape[2]


class ConvEncoder(nn.Module):
    """Strided convolutions from an image to a vector; every layer halves height and width, rounded up.

    Args:
        shape: (channels, height, width) of the image.
        channels: of each layer.
        features: of the output.
        activation_name: between the layers.
    """

    def __init__(self, shape: tuple[int, ...], channels: tuple[int, ...], features: int, activation_name: str) -> None:
        super().__init__()
        self.shape = _check(shape, channels)
        height, width = halvings(self.shape, len(channels))[-1]
        layers: list[nn.Module] = []
        inward = self.shape[0]
        for outward in channels:
            layers += [nn.Conv2d(inward, outward, 3, stride=2, padding=1), activation(activation_name)]
            inward = outward
        self.convolutions = nn.Sequential(*layers)
        self.output = glorot(Linear(inward * height * width, features))

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[-3:]) != self.shape:
            raise ShapeError(
                f"the encoder takes images of shape {self.shape}, but the input has shape {tuple(x.shape)}."
            )
        lead = x.shape[:-3]
        h = self.convolutions(x.reshape(-1, *self.shape))
        out: Tensor = self.output(h.flatten(1))
        return out.reshape(*lead, -1)


class ConvDecoder(nn.Module):
    """Transposed convolutions from a vector to ``(outputs, height, width)``: the mirror image of the encoder.

    Args:
        features: of the input.
        shape: (channels, height, width) of the image.
        channels: of each layer of the encoder it mirrors.
        outputs: channels of the output (the image's channels times the parameters of the likelihood).
        activation_name: between the layers.
    """

    def __init__(
        self,
        features: int,
        shape: tuple[int, ...],
        channels: tuple[int, ...],
        outputs: int,
        activation_name: str,
    ) -> None:
        super().__init__()
        sizes = halvings(_check(shape, channels), len(channels))
        self.start = (channels[-1], *sizes[-1])
        self.input = glorot(Linear(features, channels[-1] * sizes[-1][0] * sizes[-1][1]))
        layers: list[nn.Module] = []
        outwards = [*reversed(channels[:-1]), outputs]
        inward = channels[-1]
        for (height, width), (next_height, next_width), outward in zip(
            reversed(sizes[1:]), reversed(sizes[:-1]), outwards, strict=True
        ):
            # the size that halving rounded up from is 2n or 2n - 1
            padding = (next_height - (2 * height - 1), next_width - (2 * width - 1))
            layers += [
                activation(activation_name),
                nn.ConvTranspose2d(inward, outward, 3, stride=2, padding=1, output_padding=padding),
            ]
            inward = outward
        self.convolutions = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        if z.shape[-1] != self.input.in_features:
            raise ShapeError(
                f"the decoder takes {self.input.in_features} features, but the input has shape "
                f"{tuple(z.shape)}. Make them the size of the variable it decodes."
            )
        lead = z.shape[:-1]
        h = self.input(z.reshape(-1, z.shape[-1])).unflatten(-1, self.start)
        x: Tensor = self.convolutions(h)
        return x.reshape(*lead, *x.shape[1:])

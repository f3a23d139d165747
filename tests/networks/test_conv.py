"""Convolutional networks for images of any size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st

from ancestral import AncestralError, ShapeError
from ancestral.networks import ConvDecoder, ConvEncoder
from ancestral.networks.conv import halvings

SHAPES = [(1, 28, 28), (1, 28, 20), (1, 8, 8), (1, 48, 48), (3, 32, 32), (3, 45, 45), (1, 7, 5)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_images_are_encoded_and_decoded_to_their_exact_shape(
    shape: tuple[int, int, int], lead: tuple[int, ...]
) -> None:
    encoder = ConvEncoder(shape, (2, 3), 7, "relu")
    decoder = ConvDecoder(7, shape, (2, 3), 2 * shape[0], "relu")
    code = encoder(torch.rand(*lead, *shape))
    assert code.shape == (*lead, 7)
    assert decoder(code).shape == (*lead, 2 * shape[0], *shape[1:])


@given(st.integers(1, 19), st.integers(1, 19), st.integers(1, 4))
def test_any_height_width_and_depth_is_mirrored(height: int, width: int, layers: int) -> None:
    shape, channels = (2, height, width), (3,) * layers
    x = torch.rand(1, *shape)
    assert ConvDecoder(5, shape, channels, 2, "tanh")(ConvEncoder(shape, channels, 5, "tanh")(x)).shape == x.shape


def test_each_layer_halves_and_rounds_up() -> None:
    assert halvings((1, 28, 20), 3) == [(28, 20), (14, 10), (7, 5), (4, 3)]


def test_particles_and_datapoints_are_encoded_one_by_one() -> None:
    torch.manual_seed(0)
    encoder, decoder = ConvEncoder((1, 7, 5), (2, 3), 4, "relu"), ConvDecoder(4, (1, 7, 5), (2, 3), 1, "relu")
    x = torch.rand(2, 3, 1, 7, 5)
    code = encoder(x)
    torch.testing.assert_close(code[1, 2], encoder(x[1, 2]))
    torch.testing.assert_close(decoder(code)[1, 2], decoder(code[1, 2]))


def test_every_pixel_and_every_feature_matters() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 2, 7, 5, requires_grad=True)
    encoder, decoder = (
        ConvEncoder((2, 7, 5), (3, 3), 4, "softplus"),
        ConvDecoder(4, (2, 7, 5), (3, 3), 2, "softplus"),
    )
    out = decoder(encoder(x))
    (gradient,) = torch.autograd.grad((out * torch.randn_like(out)).sum(), x)
    assert (gradient != 0).all()


@pytest.mark.parametrize("shape", [(7,), (7, 5), (1, 1, 7, 5)])
def test_a_table_is_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(AncestralError, match=r"needs images.*Use the multilayer perceptron"):
        ConvEncoder(shape, (2,), 3, "relu")
    with pytest.raises(AncestralError, match="needs images"):
        ConvDecoder(3, shape, (2,), 1, "relu")


@pytest.mark.parametrize("channels", [(), (0,), (3, -1)])
def test_channels_are_positive_numbers(channels: tuple[int, ...]) -> None:
    with pytest.raises(AncestralError, match="give one positive number per layer"):
        ConvEncoder((1, 7, 5), channels, 3, "relu")


@pytest.mark.parametrize("wrong", [(2, 1, 5, 7), (2, 3, 7, 5), (2, 35)])
def test_an_image_of_another_size_is_an_error(wrong: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"takes images of shape \(1, 7, 5\)"):
        ConvEncoder((1, 7, 5), (2,), 3, "relu")(torch.ones(wrong))


def test_a_code_of_another_size_is_an_error() -> None:
    with pytest.raises(ShapeError, match=r"the decoder takes 3 features, but the input has shape \(2, 4\)"):
        ConvDecoder(3, (1, 7, 5), (2,), 1, "relu")(torch.ones(2, 4))


def test_an_unknown_activation_is_answered_with_the_nearest() -> None:
    with pytest.raises(AncestralError, match="Did you mean 'relu'"):
        ConvEncoder((1, 7, 5), (2,), 3, "rel")

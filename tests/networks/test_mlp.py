"""Multilayer perceptrons of any shape, with leading dimensions free."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

from ancestral import AncestralError, ShapeError, linear, mlp
from ancestral.networks import activation
from ancestral.networks.mlp import ACTIVATIONS


@given(st.lists(st.integers(1, 13), min_size=2, max_size=5), st.lists(st.integers(1, 5), max_size=3))
def test_it_maps_the_last_dimension_and_keeps_the_others(sizes: list[int], lead: list[int]) -> None:
    network = mlp(*sizes)
    assert network(torch.randn(*lead, sizes[0])).shape == (*lead, sizes[-1])
    layers = [m for m in network.modules() if isinstance(m, nn.Linear)]
    assert [layer.in_features for layer in layers] == sizes[:-1]


@pytest.mark.parametrize(
    "shape", [(1, 28, 28), (1, 28, 20), (1, 8, 8), (1, 48, 48), (3, 32, 32), (3, 45, 45), (1, 7, 5)], ids=str
)
@pytest.mark.parametrize("lead", [(), (7,), (2, 7)])
def test_images_are_encoded_and_decoded_to_their_exact_shape(shape: tuple[int, ...], lead: tuple[int, ...]) -> None:
    encoder, decoder = mlp(shape, 11, 3), mlp(3, 11, shape)
    code = encoder(torch.rand(*lead, *shape))
    assert code.shape == (*lead, 3)
    assert decoder(code).shape == (*lead, *shape)


def test_a_flattened_image_is_the_same_input() -> None:
    encoder, x = mlp((3, 7, 5), 11), torch.rand(2, 3, 7, 5)
    assert torch.equal(encoder(x), encoder(x.flatten(1)))


def test_several_inputs_are_joined_in_order_across_particles() -> None:
    network, z, y = linear(3 + 2, 5), torch.randn(11, 7, 3), torch.randn(7, 2)
    joined = network(torch.cat([z, y.expand(11, 7, 2)], -1))
    assert torch.equal(network(z, y), joined)


def test_a_linear_network_is_one_affine_map() -> None:
    network, x, y = linear(3, 5), torch.randn(7, 3), torch.randn(7, 3)
    torch.testing.assert_close(network(x + y) + network(torch.zeros(7, 3)), network(x) + network(y))
    assert len([m for m in network.modules() if isinstance(m, nn.Linear)]) == 1


def test_weights_start_by_glorot_and_biases_at_zero() -> None:
    torch.manual_seed(0)
    layer = next(m for m in linear(101, 211).modules() if isinstance(m, nn.Linear))
    limit = math.sqrt(6 / (101 + 211))
    assert layer.weight.abs().max() <= limit
    assert layer.weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.02)
    assert not layer.bias.any()


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation_changes_the_function(name: str) -> None:
    x = torch.linspace(-2, 2, 7)
    same = torch.equal(activation(name)(x), x)
    assert same == (name == "identity")
    torch.manual_seed(0)
    mine = mlp(3, 5, 2, activation=name)
    torch.manual_seed(0)
    assert torch.equal(mine(torch.ones(3)), mlp(3, 5, 2)(torch.ones(3))) == (name == "tanh")


def test_an_unknown_activation_is_answered_with_the_nearest() -> None:
    with pytest.raises(AncestralError, match=r"no activation 'leaky_relu'. Did you mean 'leaky-relu'\?"):
        mlp(3, 5, 2, activation="leaky_relu")


@pytest.mark.parametrize("sizes", [(), (3,)])
def test_a_network_without_a_layer_is_an_error(sizes: tuple[int, ...]) -> None:
    with pytest.raises(AncestralError, match="has no layer"):
        mlp(*sizes)


@pytest.mark.parametrize("size", [0, -3, (), (3, 0, 5)])
def test_a_layer_without_units_is_an_error(size: int | tuple[int, ...]) -> None:
    with pytest.raises(AncestralError, match="has no units"):
        mlp(3, size, 5)
    with pytest.raises(AncestralError, match="has no units"):
        mlp(size, 5)


@pytest.mark.parametrize("x", [torch.ones(7, 4), torch.ones(7, 1), torch.ones(3, 7)])
def test_a_wrong_number_of_features_is_an_error_that_shows_both(x: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match=r"takes 3 features, but the input has shape \[\(\d, \d\)\]"):
        mlp(3, 5)(x)


def test_parents_of_a_wrong_size_together_are_an_error() -> None:
    with pytest.raises(ShapeError, match=r"takes 5 features, but the input has shape \[\(7, 3\), \(7, 3\)\]"):
        mlp(5, 2)(torch.ones(7, 3), torch.ones(7, 3))


def test_a_transposed_image_is_an_error() -> None:
    with pytest.raises(ShapeError, match=r"takes \(1, 7, 5\) features"):
        mlp((1, 7, 5), 3)(torch.ones(2, 1, 5, 7))

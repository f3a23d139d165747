"""Maxout: the largest of several affine maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ancestral.networks import Maxout


def test_each_unit_is_the_largest_of_its_affine_maps() -> None:
    torch.manual_seed(0)
    layer, x = Maxout(3, 5, 7), torch.randn(2, 11, 3)
    pieces = [
        F.linear(x, layer.linear.weight[j * 5 : (j + 1) * 5], layer.linear.bias[j * 5 : (j + 1) * 5]) for j in range(7)
    ]
    by_hand = torch.stack(pieces).max(0).values
    assert layer(x).shape == (2, 11, 5)
    torch.testing.assert_close(layer(x), by_hand)
    assert len(layer.linear.weight) == 7 * 5


def test_one_piece_is_an_affine_map() -> None:
    layer, x = Maxout(3, 5, 1), torch.randn(2, 3)
    assert torch.equal(layer(x), layer.linear(x))


def test_it_is_convex() -> None:
    torch.manual_seed(0)
    layer, x, y = Maxout(3, 5, 7), torch.randn(101, 3), torch.randn(101, 3)
    assert (layer((x + y) / 2) <= (layer(x) + layer(y)) / 2 + 1e-6).all()

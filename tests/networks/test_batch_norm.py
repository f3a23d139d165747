"""Batch normalization over particles and batch."""

from __future__ import annotations

import torch

from ancestral import mlp
from ancestral.networks import BatchNorm


def test_features_are_normalized_over_all_leading_dimensions() -> None:
    torch.manual_seed(0)
    layer, x = BatchNorm(5).double(), 3 * torch.randn(7, 11, 5, dtype=torch.float64) + 2
    y = layer(x)
    assert y.shape == x.shape
    torch.testing.assert_close(y.mean((0, 1)), torch.zeros(5, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(y.var((0, 1), correction=0), torch.ones(5, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(layer(x.reshape(-1, 5)), y.reshape(-1, 5))


def test_in_use_what_training_has_seen_counts() -> None:
    torch.manual_seed(0)
    layer, x = BatchNorm(5), 3 * torch.randn(101, 5) + 2
    for _ in range(100):
        layer(x)
    layer.eval()
    torch.testing.assert_close(layer(x[:1]), ((x - x.mean(0)) / x.std(0))[:1], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(layer(x[0]), layer(x[:1])[0])


def test_a_single_row_is_normalized_by_what_was_seen_before() -> None:
    torch.manual_seed(0)
    layer, x = BatchNorm(5), 3 * torch.randn(101, 5) + 2
    layer(x)
    before = layer.running_mean.clone()  # type: ignore[union-attr]
    alone = layer(x[:1])
    assert torch.equal(layer.running_mean, before)  # type: ignore[arg-type]
    torch.testing.assert_close(alone, layer.eval()(x[:1]))


def test_a_perceptron_is_normalized_before_each_activation() -> None:
    network = mlp(3, 5, 7, 2, batch_norm=True)
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == ["Linear", "BatchNorm", "Tanh", "Linear", "BatchNorm", "Tanh", "Linear"]
    assert network(torch.randn(11, 13, 3)).shape == (11, 13, 2)

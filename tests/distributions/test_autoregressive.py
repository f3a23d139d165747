"""Bits drawn one after another: masses that sum to one, draws that follow them, and no look ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.fx.experimental.proxy_tensor import make_fx

from ancestral import darn, mlp, nade
from ancestral.distributions import NADE, LinearAutoregressive, autoregressive, enumerate_support
from ancestral.distributions.support import kind_of, mean_of
from ancestral.errors import EstimatorError, ShapeError
from ancestral.networks import Bias

BITS, HIDDEN = 5, 3


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(*batch: int) -> LinearAutoregressive:
    return LinearAutoregressive(numbers(*batch, BITS), 2 * numbers(BITS, BITS, seed=1))


def shared(*batch: int) -> NADE:
    return NADE(
        numbers(*batch, BITS), numbers(*batch, HIDDEN, seed=1), 2 * numbers(BITS, HIDDEN, seed=2),
        2 * numbers(BITS, HIDDEN, seed=3),
    )  # fmt: skip


both = pytest.mark.parametrize("make", [linear, shared])


def conditional(distribution: Any, before: Tensor) -> Tensor:
    """The logit of the bit after these, written as the papers do."""
    i = len(before)
    if isinstance(distribution, LinearAutoregressive):
        return distribution.bias[i] + sum((distribution.weight[i, j] * before[j] for j in range(i)), torch.zeros(()))
    units = distribution.hidden_bias + sum((distribution.inward[j] * before[j] for j in range(i)), torch.zeros(()))
    return distribution.bias[i] + (distribution.outward[i] * units.sigmoid()).sum()


@both
def test_the_mass_is_a_product_of_conditionals(make: Callable[..., Distribution]) -> None:
    distribution = make()
    for x in enumerate_support(distribution):
        expected = torch.zeros((), dtype=torch.float64)
        for i in range(BITS):
            one = conditional(distribution, x[:i]).sigmoid()
            expected += torch.log(one if x[i] == 1 else 1 - one)
        torch.testing.assert_close(distribution.log_prob(x), expected, atol=1e-12, rtol=0)


@both
@pytest.mark.parametrize("block", [2, 64])
def test_the_masses_of_all_values_sum_to_one(
    make: Callable[..., Distribution], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoregressive, "BLOCK", block)
    distribution = make(7)
    values = distribution.enumerate_support()
    assert values.shape == (2**BITS, 7, BITS)
    torch.testing.assert_close(distribution.log_prob(values).exp().sum(0), torch.ones(7, dtype=torch.float64))


@both
def test_draws_are_as_frequent_as_their_masses(make: Callable[..., Distribution]) -> None:
    torch.manual_seed(0)
    distribution, n = make(3), 40_009
    draws = distribution.sample(torch.Size((n,)))
    assert draws.shape == (n, 3, BITS)
    values = distribution.enumerate_support()
    seen = (draws.unsqueeze(0) == values.unsqueeze(1)).all(-1).double().mean(1)
    mass = distribution.log_prob(values).exp()
    assert ((seen - mass).abs() / (mass * (1 - mass) / n).sqrt()).max() < 4.5


@both
def test_a_draw_is_one_operator_of_a_compiled_program(make: Callable[..., Distribution]) -> None:
    graph = make_fx(lambda: make(3).sample((2,)))().graph
    assert sum("draw_" in str(node.target) for node in graph.nodes) == 1
    assert not any("sigmoid" in str(node.target) for node in graph.nodes)  # of one bit after the other


@both
def test_many_particles_of_one_value_are_scored_without_copies(make: Callable[..., Distribution]) -> None:
    distribution = make(7)
    x = (numbers(3, 7, BITS, seed=5) > 0).double()
    one_by_one = torch.stack([distribution.log_prob(row) for row in x])
    torch.testing.assert_close(distribution.log_prob(x), one_by_one)
    alone = make()
    torch.testing.assert_close(alone.expand((7,)).log_prob(x[0]), alone.log_prob(x[0]))


@both
def test_the_bits_of_an_image_run_through_it_row_by_row(make: Callable[..., Distribution]) -> None:
    flat: Any = make(7)
    image: Any
    if isinstance(flat, LinearAutoregressive):
        image = LinearAutoregressive(flat.bias.reshape(7, 1, 1, BITS), flat.weight, 3)
    else:
        image = NADE(flat.bias.reshape(7, 1, 1, BITS), flat.hidden_bias, flat.inward, flat.outward, 3)
    torch.manual_seed(0)
    x = image.sample()
    assert (x.shape, image.event_shape, image.expand((2, 7)).event_shape) == ((7, 1, 1, BITS),) + ((1, 1, BITS),) * 2
    torch.manual_seed(0)
    assert torch.equal(x.flatten(1), flat.sample())
    torch.testing.assert_close(image.log_prob(x), flat.log_prob(x.flatten(1)))


def test_weights_on_and_above_the_diagonal_do_not_count() -> None:
    distribution, x = linear(7), (numbers(7, BITS, seed=5) > 0).double()
    changed = LinearAutoregressive(distribution.bias, distribution.weight + torch.ones(BITS, BITS).triu())
    torch.testing.assert_close(changed.log_prob(x), distribution.log_prob(x))
    torch.manual_seed(0)
    draw = distribution.sample()
    torch.manual_seed(0)
    assert torch.equal(changed.sample(), draw)


@both
def test_its_values_are_finite_in_number_and_its_mean_is_not_known(make: Callable[..., Distribution]) -> None:
    distribution = make()
    assert (kind_of(distribution), mean_of(distribution), distribution.has_rsample) == ("finite", None, False)
    assert bool(distribution.support.check(distribution.sample()))  # type: ignore[attr-defined]
    assert not distribution.support.check(torch.full((BITS,), 0.5))  # type: ignore[attr-defined]


def test_too_many_values_are_not_enumerated() -> None:
    for wide in (
        LinearAutoregressive(torch.zeros(17), torch.zeros(17, 17)),
        NADE(torch.zeros(17), torch.zeros(2), torch.zeros(17, 2), torch.zeros(17, 2)),
    ):
        with pytest.raises(EstimatorError, match=r"17 bits have 2\^17 values"):
            wide.enumerate_support()


def test_weights_of_another_shape_are_an_error() -> None:
    with pytest.raises(ShapeError, match=r"weight has shape \(5, 3\), but 5 bits need \(5, 5\)"):
        LinearAutoregressive(torch.zeros(5), torch.zeros(5, 3))
    with pytest.raises(ShapeError, match=r"outward has shape \(3, 5\), but 5 bits and 3 hidden units need \(5, 3\)"):
        NADE(torch.zeros(5), torch.zeros(3), torch.zeros(5, 3), torch.zeros(3, 5))
    with pytest.raises(ShapeError, match=r"bias has batch shape \(7,\), but hidden_bias \(2,\)"):
        NADE(torch.zeros(7, 5), torch.zeros(2, 3), torch.zeros(5, 3), torch.zeros(5, 3))


def test_a_layer_without_parents_and_one_with_them() -> None:
    torch.manual_seed(0)
    for prior, layer in (
        (darn(Bias(BITS), BITS), darn(mlp(7, BITS), BITS)),
        (nade(Bias(BITS), Bias(HIDDEN), BITS, HIDDEN), nade(mlp(7, BITS), mlp(7, HIDDEN), BITS, HIDDEN)),
    ):
        assert prior().sample((11,)).shape == (11, BITS)
        parents = torch.randn(2, 11, 7)
        distribution = layer(parents)
        assert distribution.log_prob(distribution.sample()).shape == (2, 11)
        learned = sum(parameter.numel() for parameter in prior.parameters())
        assert learned == (
            BITS + BITS**2 if isinstance(prior(), LinearAutoregressive) else BITS + HIDDEN + 2 * BITS * HIDDEN
        )
        loss = -layer(parents).log_prob(distribution.sample()).mean()
        loss.backward()
        assert all(parameter.grad is not None for parameter in layer.parameters())


def test_the_untrained_layer_starts_at_the_mean_of_the_data() -> None:
    torch.manual_seed(0)
    data = (torch.rand(4001, BITS) < torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])).float()
    for layer in (darn(mlp(7, BITS), BITS), nade(mlp(7, BITS), mlp(7, HIDDEN), BITS, HIDDEN)):
        layer.initialize(data)
        distribution: Any = layer(torch.zeros(7))
        torch.testing.assert_close(distribution.bias.sigmoid(), data.mean(0), atol=0.01, rtol=0)

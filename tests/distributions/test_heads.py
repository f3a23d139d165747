"""Heads: a network's output read as the parameters of a distribution, safe for any output."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal

from ancestral import (
    AncestralError,
    DiscretizedLogistic,
    ShapeError,
    bernoulli,
    bernoulli_bias,
    categorical,
    continuous_bernoulli,
    discretized_logistic,
    linear,
    mlp,
    normal,
    one_hot,
    standard_normal,
)
from ancestral.distributions import Head
from ancestral.networks import ConvDecoder

here = nn.Identity()  # the network's output is what the test says it is


def parameters(distribution: Distribution) -> Distribution:
    assert isinstance(distribution, Independent)
    return distribution.base_dist


HEADS: list[tuple[str, Callable[[], Head], Tensor, int]] = [
    ("bernoulli", lambda: bernoulli(here), torch.tensor([0.0, 1.0, 1.0]), 3),
    ("continuous bernoulli", lambda: continuous_bernoulli(here), torch.tensor([0.0, 0.31, 1.0]), 3),
    ("normal, learned scale", lambda: normal(here), torch.tensor([-2.0, 0.3, 5.0]), 6),
    ("normal, shared scale", lambda: normal(here, scale="shared"), torch.tensor([-2.0, 0.3, 5.0]), 3),
    ("normal, fixed scale", lambda: normal(here, scale=0.7), torch.tensor([-2.0, 0.3, 5.0]), 3),
    ("normal, squashed mean", lambda: normal(here, mean=torch.sigmoid), torch.tensor([-2.0, 0.3, 5.0]), 6),
    ("categorical", lambda: categorical(here), torch.tensor(2), 5),
    ("one-hot", lambda: one_hot(here), torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]), 5),
    ("discretized logistic", lambda: discretized_logistic(here), torch.tensor([0.0, 7 / 255, 1.0]), 6),
]


@pytest.mark.parametrize(("name", "head", "value", "size"), HEADS, ids=[name for name, *_ in HEADS])
def test_log_densities_and_gradients_are_finite_for_extreme_outputs(
    name: str, head: Callable[[], Head], value: Tensor, size: int
) -> None:
    extremes = [torch.full((size,), sign * 1e4) for sign in (-1, 0, 1)]
    extremes += [torch.tensor([(-1.0) ** i * 1e4 for i in range(size)]) * sign for sign in (-1, 1)]
    for output in extremes:
        output.requires_grad_()
        log_prob = head()(output).log_prob(value)
        assert log_prob.shape == ()
        (gradient,) = torch.autograd.grad(log_prob, output)
        assert log_prob.isfinite(), (name, output)
        assert gradient.isfinite().all(), (name, output)


@pytest.mark.parametrize(("name", "head", "value", "size"), HEADS, ids=[name for name, *_ in HEADS])
def test_draws_of_extreme_outputs_are_finite(name: str, head: Callable[[], Head], value: Tensor, size: int) -> None:
    for sign in (-1, 1):
        distribution = head()(torch.full((2, size), sign * 1e4))
        draw = distribution.sample()
        assert draw.shape == (2, *value.shape)
        assert draw.double().isfinite().all(), name


@pytest.mark.parametrize(("name", "head", "value", "size"), HEADS, ids=[name for name, *_ in HEADS])
def test_leading_dimensions_are_free(name: str, head: Callable[[], Head], value: Tensor, size: int) -> None:
    distribution = head()(torch.randn(2, 7, size))
    assert distribution.batch_shape == (2, 7)
    assert distribution.event_shape == value.shape
    assert distribution.log_prob(value).shape == (2, 7)


def test_the_mean_comes_first_and_the_log_scale_after_it() -> None:
    base = parameters(normal(here)(torch.tensor([1.3, -0.4, 0.2, -0.1])))
    torch.testing.assert_close(base.mean, torch.tensor([1.3, -0.4]))
    torch.testing.assert_close(base.stddev.log(), 7 * torch.tanh(torch.tensor([0.2, -0.1]) / 7))
    torch.testing.assert_close(base.stddev.log(), torch.tensor([0.2, -0.1]), atol=1e-4, rtol=0.0)
    base = parameters(discretized_logistic(here)(torch.tensor([0.2, -0.1, 0.7, 0.3])))
    assert isinstance(base, DiscretizedLogistic)
    torch.testing.assert_close(base.loc, torch.tensor([0.7, 0.4]))
    assert base.log_scale[0] > base.log_scale[1]


@pytest.mark.parametrize("head", [normal, discretized_logistic])
def test_an_image_splits_along_its_channels(head: Callable[..., Head]) -> None:
    output = torch.randn(2, 7, 6, 5, 4)
    distribution = head(here, event_dims=3)(output)
    assert distribution.batch_shape == (2, 7)
    assert distribution.event_shape == (3, 5, 4)
    location = output[:, :, :3] + (0.5 if head is discretized_logistic else 0.0)
    assert torch.equal(parameters(distribution).loc, location)


@pytest.mark.parametrize("head", [bernoulli, continuous_bernoulli])
def test_an_image_is_one_event(head: Callable[..., Head]) -> None:
    distribution = head(here, event_dims=3)(torch.randn(2, 7, 3, 5, 4))
    assert distribution.batch_shape == (2, 7)
    assert distribution.event_shape == (3, 5, 4)


def test_a_fixed_scale_is_a_standard_deviation() -> None:
    base = parameters(normal(here, scale=3.0)(torch.tensor([1.0, 2.0])))
    assert torch.equal(base.variance, torch.tensor([9.0, 9.0]))
    assert not list(normal(here, scale=3.0).parameters())


def test_a_shared_scale_is_one_learned_number() -> None:
    head = normal(here, scale="shared")
    (log_scale,) = head.parameters()
    assert log_scale.shape == ()
    with torch.no_grad():
        log_scale.fill_(math.log(3.0))
    base = parameters(head(torch.tensor([1.0, 2.0])))
    torch.testing.assert_close(base.stddev, torch.full((2,), 3.0), rtol=0.02, atol=0.0)
    head(torch.tensor([1.0, 2.0])).log_prob(torch.zeros(2)).backward()
    assert log_scale.grad is not None
    assert log_scale.grad != 0


def test_a_squashed_mean_lies_where_the_data_lie() -> None:
    base = parameters(normal(here, mean=torch.sigmoid)(torch.tensor([3.0, -1.0, 0.0, 0.0])))
    torch.testing.assert_close(base.mean, torch.sigmoid(torch.tensor([3.0, -1.0])))


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan, "learnd"])
def test_a_scale_that_is_none_is_an_error(scale: Any) -> None:
    with pytest.raises(AncestralError, match="scale is"):
        normal(here, scale=scale)


def test_a_grey_scale_of_one_level_is_an_error() -> None:
    with pytest.raises(AncestralError, match="levels is 1"):
        discretized_logistic(here, levels=1)


@pytest.mark.parametrize(
    ("head", "event_dims", "shape"), [(normal, 1, (2, 7)), (discretized_logistic, 3, (2, 3, 5, 4))]
)
def test_an_odd_number_of_outputs_can_not_be_split(
    head: Callable[..., Head], event_dims: int, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ShapeError, match=f"{shape[1]} components in dimension 1.*make it an even number"):
        head(here, event_dims=event_dims)(torch.zeros(shape))


def test_a_head_must_say_how_to_read_its_network() -> None:
    with pytest.raises(AncestralError, match="Head does not say how to read"):
        Head(here)(torch.zeros(3))


@pytest.mark.parametrize("head", [categorical, one_hot])
def test_several_classes_are_one_event(head: Callable[..., Head]) -> None:
    distribution = head(here, event_dims=1)(torch.randn(2, 7, 3, 5))
    assert distribution.batch_shape == (2, 7)
    assert distribution.event_shape == ((3,) if head is categorical else (3, 5))


def test_categorical_and_one_hot_are_the_same_mass_function() -> None:
    logits = torch.randn(7, 5)
    index = torch.randint(5, (7,))
    expected = logits.log_softmax(-1)[torch.arange(7), index]
    torch.testing.assert_close(categorical(here)(logits).log_prob(index), expected)
    torch.testing.assert_close(one_hot(here)(logits).log_prob(torch.eye(5)[index]), expected)


def test_the_standard_normal_is_standard_and_moves_with_its_module() -> None:
    prior = standard_normal(3)
    assert not list(prior.parameters())
    assert not prior.state_dict()
    distribution = prior.double()()
    assert distribution.event_shape == (3,)
    z = torch.randn(7, 3, dtype=torch.float64)
    torch.testing.assert_close(distribution.log_prob(z), -0.5 * (z**2).sum(-1) - 1.5 * math.log(2 * math.pi))
    assert standard_normal(2, 3)().event_shape == (2, 3)


def test_a_bias_is_the_log_odds_of_variables_without_parents() -> None:
    prior = bernoulli_bias(3)
    torch.testing.assert_close(prior().log_prob(torch.ones(3)), torch.tensor(3 * math.log(0.5)))
    assert [w.shape for w in prior.parameters()] == [(3,)]


@pytest.mark.parametrize("sizes", [(3, 4), (3, 5, 4)])
def test_the_masses_of_all_images_sum_to_one(sizes: tuple[int, ...]) -> None:
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=torch.float64)
    p = bernoulli(mlp(*sizes)).double()(torch.randn(7, 1, 3, dtype=torch.float64))
    torch.testing.assert_close(p.log_prob(images).exp().sum(-1), torch.ones(7, dtype=torch.float64))


@given(st.floats(-3, 3), st.floats(-2, 2))
def test_the_normal_density_integrates_to_one(mean: float, log_scale: float) -> None:
    p = normal(here)(torch.tensor([[mean, log_scale]], dtype=torch.float64))
    x = torch.linspace(mean - 70, mean + 70, 50_001, dtype=torch.float64)
    total = torch.trapezoid(p.log_prob(x[:, None]).exp(), x)
    assert total.item() == pytest.approx(1.0, abs=1e-9)


@given(st.floats(-14, 14))
def test_the_continuous_bernoulli_density_integrates_to_one_and_has_its_mean(logit: float) -> None:
    p = continuous_bernoulli(here)(torch.tensor([[logit]], dtype=torch.float64))
    x = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    density = p.log_prob(x[:, None]).exp()
    assert torch.trapezoid(density, x).item() == pytest.approx(1.0, abs=1e-5)
    assert torch.trapezoid(x * density, x).item() == pytest.approx(p.mean.item(), abs=1e-5)


def untrained(head: Head) -> Head:
    """With the last weights at zero the mean is the bias's alone."""
    last = [m for m in head.network.modules() if isinstance(m, nn.Linear | nn.ConvTranspose2d)][-1]
    nn.init.zeros_(last.weight)
    return head


@pytest.mark.parametrize(
    ("head", "outputs"),
    [
        (bernoulli, 5),
        (continuous_bernoulli, 5),
        (normal, 10),
        (lambda n: normal(n, scale="shared"), 5),
        (lambda n: normal(n, mean=torch.sigmoid), 10),
        (discretized_logistic, 10),
    ],
    ids=["bernoulli", "continuous bernoulli", "normal", "shared scale", "squashed", "discretized logistic"],
)
def test_an_untrained_decoder_has_the_mean_of_the_data(head: Callable[[nn.Module], Head], outputs: int) -> None:
    data = torch.rand(10_007, 5) * torch.tensor([0.3, 0.5, 0.9, 1.0, 1.0]) + torch.tensor([0.0, 0.2, 0.0, 0.0, 0.0])
    decoder = untrained(head(mlp(3, 7, outputs)))
    decoder.initialize(data)
    p = parameters(decoder(torch.randn(3)))
    mean = p.loc if isinstance(p, DiscretizedLogistic) else p.mean  # a discretized one starts at the logistic's mean
    torch.testing.assert_close(mean, data.mean(0), atol=2e-4, rtol=0.0)


def test_initializing_leaves_the_scale_alone() -> None:
    decoder = untrained(normal(mlp(3, 10)))
    decoder.initialize(torch.rand(11, 5))
    assert torch.equal(parameters(decoder(torch.randn(3))).stddev, torch.ones(5))


@pytest.mark.parametrize(("head", "outputs"), [(bernoulli, 3), (normal, 6), (continuous_bernoulli, 3)])
def test_an_untrained_convolutional_decoder_has_the_mean_of_each_channel(
    head: Callable[..., Head], outputs: int
) -> None:
    data = torch.rand(1009, 3, 7, 5) ** torch.tensor([1.0, 2.0, 0.5])[:, None, None]
    data[:, :, 0] = 0.01  # a border that is nearly always dark
    decoder = untrained(head(ConvDecoder(2, (3, 7, 5), (4, 3), outputs, "relu"), event_dims=3))
    decoder.initialize(data)
    mean = decoder(torch.randn(2)).mean
    assert mean.shape == (3, 7, 5)
    torch.testing.assert_close(mean.mean((1, 2)), data.mean((0, 2, 3)), atol=1e-3, rtol=0.0)


def test_an_image_from_a_perceptron_is_initialized_pixel_by_pixel() -> None:
    data = torch.rand(1009, 3, 7, 5)
    decoder = untrained(normal(mlp(2, (6, 7, 5)), event_dims=3))
    decoder.initialize(data)
    torch.testing.assert_close(decoder(torch.randn(2)).mean, data.mean(0))


def test_pixels_that_never_change_start_at_finite_log_odds() -> None:
    decoder = bernoulli(linear(2, 3))
    decoder.initialize(torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]]))
    assert all(w.isfinite().all() for w in decoder.parameters())


def test_initializing_means_outside_the_unit_interval_is_an_error() -> None:
    with pytest.raises(AncestralError, match=r"mean runs from 3 to 3.*lies in \[0, 1\]"):
        normal(linear(2, 6), mean=torch.sigmoid).initialize(torch.full((7, 3), 3.0))


@pytest.mark.parametrize(
    "head",
    [
        categorical(linear(2, 5)),  # no mean
        normal(linear(2, 6), mean=torch.tanh),  # a mean whose inverse is not known
        bernoulli(nn.Linear(2, 5, bias=False)),  # no bias
        bernoulli(linear(2, 7)),  # a bias of another size
        bernoulli(nn.Identity()),  # no layer
    ],
)
def test_a_head_without_a_bias_to_set_is_left_alone(head: Head) -> None:
    before = [w.clone() for w in head.parameters()]
    head.initialize(torch.rand(7, 5))
    assert all(torch.equal(a, b) for a, b in zip(before, head.parameters(), strict=True))


def test_heads_are_torch_distributions() -> None:
    assert isinstance(parameters(bernoulli(here)(torch.zeros(3))), Bernoulli)
    assert isinstance(parameters(normal(here)(torch.zeros(4))), Normal)
    assert isinstance(categorical(here)(torch.zeros(3)), Categorical)

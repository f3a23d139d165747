"""Posteriors by normalizing flows: the density of a draw is that of its Gaussian, less what the flows stretch."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ancestral import (
    AncestralError,
    EstimatorError,
    Joint,
    LikelihoodRatio,
    ShapeError,
    elbo,
    iwae,
    linear,
    standard_normal,
)
from ancestral.distributions import (
    FlowedNormal,
    InverseAutoregressive,
    flow_parameters,
    flowed,
    inverse_autoregressive,
    normal,
    planar,
    radial,
)
from ancestral.distributions.flows import Transformation
from ancestral.distributions.normal import IndependentNormal
from ancestral.distributions.support import kind_of, mean_of
from ancestral.networks import MaskedPerceptron
from ancestral.objectives import reweighted_wake_sleep
from ancestral.objectives.iwae import bounds

D, BATCH = 3, 7


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def a_planar() -> Transformation:
    return planar(2 * numbers(BATCH, D), 2 * numbers(BATCH, D, seed=1), numbers(BATCH, seed=2))


def a_radial() -> Transformation:
    return radial(numbers(BATCH, D), numbers(BATCH, seed=1), 3 * numbers(BATCH, seed=2))


def a_gate(reverse: bool = False) -> Transformation:
    torch.manual_seed(0)
    network = MaskedPerceptron(D, 11, 5, reverse).double()
    for parameter in network.parameters():
        parameter.data.mul_(7)
    return inverse_autoregressive(network, numbers(BATCH, 5))


EVERY = [a_planar, a_radial, a_gate, lambda: a_gate(reverse=True)]


@pytest.mark.parametrize("make", EVERY)
def test_the_determinant_is_that_of_the_jacobian(make: Callable[[], Transformation]) -> None:
    transformation, z = make(), numbers(BATCH, D, seed=3)
    moved, log_determinant = transformation(z)
    assert not torch.allclose(moved, z, atol=0.1)
    jacobians = torch.autograd.functional.jacobian(lambda z: transformation(z)[0].sum(0), z).permute(1, 0, 2)
    sign, expected = torch.linalg.slogdet(jacobians)
    assert bool((sign == 1).all())
    torch.testing.assert_close(log_determinant, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-7])
def test_a_planar_flow_moves_nothing_further_than_its_parameter_is_long(size: float) -> None:
    w, b, z = size * numbers(BATCH, D, seed=1), numbers(BATCH, seed=2), numbers(BATCH, D, seed=3)
    moved, log_determinant = planar(torch.zeros(BATCH, D, dtype=torch.float64), w, b)(z)
    torch.testing.assert_close(moved, z, atol=1e-8, rtol=0)
    torch.testing.assert_close(log_determinant, torch.zeros(BATCH, dtype=torch.float64), atol=1e-12, rtol=0)
    u = 0.1 * numbers(BATCH, D)
    assert bool(((planar(u, w, b)(z)[0] - z).norm(dim=-1) <= u.norm(dim=-1)).all())


def test_the_determinant_of_the_narrowest_planar_flow_is_a_number() -> None:
    w = torch.full((1, D), 2.0)
    log_determinant = planar(-2 * w, w, torch.zeros(1))(torch.zeros(1, D))[1]
    torch.testing.assert_close(log_determinant, torch.tensor([math.log(math.e - 1) - 8.0 * D]))  # log(1 + x) is x there


@pytest.mark.parametrize("make", [a_planar, a_radial])
@pytest.mark.parametrize("seed", range(5))
def test_they_are_invertible_whatever_the_parameters(make: Callable[[], Transformation], seed: int) -> None:
    transformation, z = make(), 5 * numbers(101, BATCH, D, seed=10 + seed)
    assert bool(transformation(z)[1].isfinite().all())  # 1 + û^T ψ > 0 everywhere


def test_the_gates_see_only_what_comes_before() -> None:
    for reverse in (False, True):
        transformation, z = a_gate(reverse), numbers(BATCH, D, seed=3)
        jacobian = torch.autograd.functional.jacobian(lambda z, f=transformation: f(z)[0].sum(0), z).permute(1, 0, 2)
        before, after = torch.tril_indices(D, D, -1), torch.triu_indices(D, D, 1)
        seen, unseen = (after, before) if reverse else (before, after)
        assert jacobian[:, *unseen].abs().max() == 0
        assert jacobian[:, *seen].abs().min() > 0


@pytest.mark.parametrize("make", EVERY)
def test_the_density_of_a_draw_is_normalized(make: Callable[[], Transformation]) -> None:
    """E_q[p(z) / q(z)] = 1 for any density p, here a narrower Gaussian where q has its mass."""
    torch.manual_seed(0)
    base = IndependentNormal(0.3 * numbers(BATCH, D, seed=4), torch.full((BATCH, D), 0.2, dtype=torch.float64), 1)
    q = FlowedNormal(base, [make()])
    z = q.sample(torch.Size((200_003,)))
    target = IndependentNormal(z.mean(0), z.std(0).log() - 0.7, 1)
    weights = torch.exp(target.log_prob(z) - q.log_prob(z))
    error = weights.std(0) / len(z) ** 0.5
    assert ((weights.mean(0) - 1).abs() < 4.5 * error).all()
    assert error.max() < 0.05


def test_no_flows_are_the_gaussian_itself() -> None:
    network = linear(5, flow_parameters("planar", D, 0)).double()
    x = numbers(BATCH, 5)
    torch.manual_seed(1)
    q = flowed(network, D, "planar", 0)(x)
    z = q.rsample(torch.Size((11,)))
    expected = normal(network)(x)
    torch.manual_seed(1)
    assert torch.equal(expected.rsample(torch.Size((11,))), z)
    torch.testing.assert_close(q.log_prob(z), expected.log_prob(z))


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_the_planar_flows_of_a_network_are_no_sharper_than_a_tanh(size: float) -> None:
    u, w, b, z = (numbers(count, seed=count) for count in (D, D, 1, D))
    network = linear(5, flow_parameters("planar", D, 1)).double()
    with torch.no_grad():
        network.output.weight.zero_()
        network.output.bias.copy_(torch.cat([torch.zeros(2 * D), u, size * w, b]))
    (step,) = flowed(network, D, "planar", 1)(torch.zeros(5).double()).transformations
    length = size * w.norm()
    expected = planar(u, w / w.norm() * length / (1 + length**2) ** 0.5, b[0])
    torch.testing.assert_close(step(z), expected(z))


@pytest.mark.parametrize("kind", ["planar", "radial"])
def test_flows_can_start_at_the_gaussian_and_leave_it(kind: str) -> None:
    torch.manual_seed(0)
    network = linear(5, flow_parameters(kind, D, 2)).double()
    q = flowed(network, D, kind, 2)
    output = network.output
    before = output.weight.clone()
    q.start_at_the_gaussian(output)
    posterior = q(numbers(BATCH, 5))
    z = posterior.rsample(torch.Size((11,)))
    torch.testing.assert_close(posterior.log_prob(z), posterior.base.log_prob(z))
    assert torch.equal(output.weight[: 2 * D], before[: 2 * D])
    (gradient,) = torch.autograd.grad((z * numbers(D)).sum() + posterior.log_prob(z).sum(), output.weight)
    assert bool((gradient[2 * D :].abs().sum(-1) > 0).any())


@pytest.mark.parametrize("kind", ["planar", "radial", "iaf"])
def test_every_parameter_learns_by_either_bound(kind: str) -> None:
    torch.manual_seed(0)
    if kind == "iaf":
        steps = [MaskedPerceptron(D, 11, 5, reverse=bool(i)) for i in range(2)]
        head: torch.nn.Module = InverseAutoregressive(linear(7, 2 * D + 5), D, steps)
    else:
        head = flowed(linear(7, flow_parameters(kind, D, 2)), D, kind, 2)
    p = Joint({"z": standard_normal(D), "x | z": normal(linear(D, 14))})
    q = Joint({"z | x": head})
    x = torch.randn(BATCH, 7)
    for bound in (lambda: elbo(p, q, {"x": x}, 5), lambda: iwae(p, q, {"x": x}, 5)):
        q.zero_grad()
        value = bound()
        assert value.shape == (BATCH,)
        value.sum().backward()
        for name, parameter in q.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_the_density_of_another_value_is_an_error() -> None:
    q = flowed(linear(5, flow_parameters("radial", D, 2)), D, "radial", 2)(torch.zeros(BATCH, 5))
    for value in (torch.zeros(BATCH, D), q.sample().clone()):
        with pytest.raises(AncestralError, match=r"known at its own draws alone.*normal posterior"):
            q.log_prob(value)
    assert (kind_of(q), mean_of(q)) == ("reparameterizable", None)


def test_a_rule_that_draws_without_gradient_is_told_that_nothing_would_be_learned() -> None:
    p = Joint({"z": standard_normal(D), "x | z": normal(linear(D, 14))})
    q = Joint({"z | x": flowed(linear(7, flow_parameters("radial", D, 2)), D, "radial", 2)})
    x = torch.zeros(BATCH, 7)
    with pytest.raises(AncestralError, match=r"its draw, which had no gradient.*a normal posterior"):
        reweighted_wake_sleep(p, q, {"x": x}, 3)
    with pytest.raises(AncestralError, match="its draw, which had no gradient"):
        elbo(p, q, {"x": x}, 3, LikelihoodRatio())
    assert bool(bounds(p, q, {"x": x}, 3).log_prob.isfinite().all())  # what is only evaluated needs none


@pytest.mark.parametrize("bound", [elbo, iwae])
def test_a_gradient_that_needs_the_density_as_a_function_is_an_error(bound: Callable[..., Tensor]) -> None:
    p = Joint({"z": standard_normal(D), "x | z": normal(linear(D, 14))})
    q = Joint({"z | x": flowed(linear(7, flow_parameters("radial", D, 2)), D, "radial", 2)})
    with pytest.raises(EstimatorError, match=r"the density of 'z', a flow without a cheap inverse"):
        bound(p, q, {"x": torch.zeros(BATCH, 7)}, 3, gradient="sticking-the-landing")


def test_numbers_that_do_not_fit_are_errors() -> None:
    with pytest.raises(AncestralError, match="there is no flow 'plan'"):
        flowed(linear(5, 7), D, "plan", 2)
    for dimensions, flows in ((0, 2), (3, -1)):
        with pytest.raises(AncestralError, match=f"dimensions is {dimensions} and flows is {flows}"):
            flow_parameters("planar", dimensions, flows)
    with pytest.raises(ShapeError, match=r"the network gives 7 numbers.*2 planar flows take 20"):
        flowed(linear(5, 7), D, "planar", 2)(torch.zeros(BATCH, 5))

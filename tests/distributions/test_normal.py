"""Normal vectors are torch's own, in fewer operations."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from ancestral import Joint, elbo, mlp, normal, standard_normal
from ancestral.distributions import base_of
from ancestral.distributions.normal import IndependentNormal, StandardNormal
from ancestral.errors import ShapeError


def both(loc: torch.Tensor, log_scale: torch.Tensor, dims: int) -> tuple[Independent, Independent]:
    theirs = Independent(Normal(loc, log_scale.exp(), validate_args=False), dims, validate_args=False)
    return IndependentNormal(loc, log_scale, dims), theirs


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("lead", [(), (5,), (3, 5)])
def test_density_moments_and_draws_are_those_of_torch_with_their_gradients(dims: int, lead: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    shape = (*lead, *(2, 7, 3)[:dims])
    loc, log_scale, z = numbers(*shape), numbers(*shape), numbers(11, *shape)
    results = []
    for one in both(loc, log_scale, dims):
        torch.manual_seed(1)
        draw = one.rsample((11,))
        assert draw.shape == (11, *shape)
        assert one.log_prob(z).shape == (11, *lead)
        value = one.log_prob(z).sin().sum() + draw.cos().sum() + one.entropy().sum()
        results.append((draw, one.log_prob(z), one.mean, one.stddev, *torch.autograd.grad(value, (loc, log_scale, z))))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


def test_a_draw_without_gradient_takes_none_from_the_density_after_it() -> None:
    torch.manual_seed(0)
    loc, log_scale, z = numbers(5, 7), numbers(5, 7), torch.randn(5, 7, dtype=torch.float64)
    gradients = []
    for one in both(loc, log_scale, 1):
        with torch.no_grad():
            one.sample()
        gradients.append(torch.autograd.grad(one.log_prob(z).sum(), (loc, log_scale)))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("rows", [(), (5,)])
def test_its_divergences_are_those_of_torch_with_their_gradients(rows: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    q, p = (numbers(5, 7), numbers(5, 7)), (numbers(*rows, 7), numbers(*rows, 7))
    results = []
    for one, other in zip(both(*q, 1), both(*p, 1), strict=True):
        divergence = kl_divergence(one, other.expand((5,)))
        results.append((divergence, *torch.autograd.grad(divergence.sin().sum(), (*q, *p))))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


def test_the_divergence_from_the_standard_normal_is_the_general_one() -> None:
    torch.manual_seed(0)
    q, zeros = IndependentNormal(numbers(5, 7), numbers(5, 7), 1), torch.zeros(7, dtype=torch.float64)
    mine = kl_divergence(q, StandardNormal(zeros, zeros, 1))
    torch.testing.assert_close(mine, kl_divergence(q, IndependentNormal(zeros, zeros, 1)), rtol=0, atol=1e-12)
    assert isinstance(StandardNormal(zeros, zeros, 1).expand((5,)), StandardNormal)


@pytest.mark.parametrize("scale", ["learned", "shared", 0.1])
def test_every_normal_vector_of_the_heads_is_this_one(scale: str | float) -> None:
    size = 10 if scale == "learned" else 5
    head = normal(mlp(3, size), scale=scale)  # type: ignore[arg-type]
    assert isinstance(head(torch.zeros(2, 3)), IndependentNormal)
    base, dims = base_of(head(torch.zeros(2, 3)))
    assert isinstance(base, Normal)
    assert dims == 1
    assert isinstance(standard_normal(5)(), StandardNormal)
    if scale == 0.1:
        torch.testing.assert_close(base.scale, torch.full((2, 5), 0.1))


def test_a_latent_variable_that_is_one_number_has_a_density_for_each_datapoint() -> None:
    p = Joint({"z": standard_normal(), "x | z": lambda z: Normal(z, 1.0)})
    q = Joint({"z | x": lambda x: Normal(x / 2, 0.7)})
    x = torch.tensor([0.3, -1.1, 2.0])
    assert elbo(p, q, {"x": x}, analytic_kl=["z"]).shape == (3,)
    expected = Normal(0.0, 2**0.5).log_prob(x)
    torch.testing.assert_close(elbo(p, q, {"x": x}, particles=9973, analytic_kl=["z"]), expected, rtol=0, atol=0.05)


def test_what_is_no_event_is_refused() -> None:
    one = torch.zeros(5, 7)
    with pytest.raises(ShapeError, match="event_dims is 0"):
        IndependentNormal(one, one, 0)
    with pytest.raises(ShapeError, match=r"\(5, 7\), the log-scales \(7,\)"):
        IndependentNormal(one, one[0], 1)
    with pytest.raises(NotImplementedError, match="differ"):
        kl_divergence(IndependentNormal(one, one, 1), IndependentNormal(one, one, 2))
    with pytest.raises(NotImplementedError, match="differ"):
        kl_divergence(IndependentNormal(one, one, 1), StandardNormal(one, one, 2))

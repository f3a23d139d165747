"""The Bernoulli likelihood is torch's own, computed at less cost."""

from __future__ import annotations

import importlib
import itertools
import math

import pytest
import torch
from torch.distributions import Bernoulli, Independent, kl_divergence

from ancestral import bernoulli, bernoulli_bias, mlp
from ancestral.distributions.bernoulli import IndependentBernoulli
from ancestral.errors import ShapeError

bernoulli_module = importlib.import_module("ancestral.distributions.bernoulli")  # its name is a function's too


def both(logits: torch.Tensor, dims: int) -> tuple[Independent, Independent]:
    return IndependentBernoulli(logits, dims), Independent(Bernoulli(logits=logits, validate_args=False), dims)


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("lead", [(), (5,), (3, 5)])
def test_log_prob_and_its_gradients_are_those_of_torch(dims: int, lead: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    event = (2, 7, 3)[:dims]
    logits = (5 * torch.randn(*lead, *event, dtype=torch.float64)).requires_grad_()
    x = torch.rand(*lead, *event, dtype=torch.float64).requires_grad_()  # between 0 and 1: a relaxed value
    gradients = []
    for one in both(logits, dims):
        assert one.log_prob(x).shape == lead
        first = torch.autograd.grad(one.log_prob(x).sin().sum(), (logits, x), create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), (logits, x))
        gradients.append((one.log_prob(x), *first, *second))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)


def test_particles_share_a_value_and_bits_may_be_boolean() -> None:
    logits, x = torch.randn(3, 5, 7), torch.rand(5, 7) < 0.5
    mine, theirs = both(logits, 1)
    torch.testing.assert_close(mine.log_prob(x), theirs.log_prob(x.float()))


@pytest.mark.parametrize("size", [1, 7, 787, 1001])  # 787 is prime: no two of its factors are in one group
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("lead", [(), (5,), (3, 5)])
def test_log_prob_without_gradient_is_the_same(lead: tuple[int, ...], dtype: torch.dtype, size: int) -> None:
    torch.manual_seed(0)
    logits = (6 * torch.randn(*lead, size)).to(dtype)
    logits.view(-1)[0] = 0.0
    x = (torch.rand(*lead[-1:], size) < 0.3).to(dtype)
    exact = Independent(Bernoulli(logits=logits.double()), 1).log_prob(x.double())
    eps = torch.finfo(dtype).eps
    found = IndependentBernoulli(logits, 1).log_prob(x).double()
    torch.testing.assert_close(found, exact, rtol=20 * eps, atol=20 * eps)


def test_logits_without_bound_are_no_loss_of_digits_and_no_underflow() -> None:
    """Half of the bits are certain and come true; of the others each costs the size of its logit."""
    logits = torch.tensor([1e4, -1e4] * 500 + [80.0])
    x = torch.tensor([1.0, 0.0] * 500 + [0.0])
    torch.testing.assert_close(IndependentBernoulli(logits, 1).log_prob(x), torch.tensor(-80.0), rtol=1e-6, atol=0)
    torch.testing.assert_close(
        IndependentBernoulli(torch.zeros(1001), 1).log_prob(torch.ones(1001)), torch.tensor(-1001 * math.log(2))
    )


def test_many_rows_are_taken_in_parts_that_stay_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    one, x = IndependentBernoulli(torch.randn(11, 5, 2, 7), 2), (torch.rand(5, 2, 7) < 0.5).float()
    whole = one.log_prob(x)
    monkeypatch.setattr(bernoulli_module, "CACHED", 3 * 5 * 14)
    torch.testing.assert_close(one.log_prob(x), whole, rtol=0, atol=0)


def test_the_masses_of_all_values_sum_to_one() -> None:
    values = torch.tensor(list(itertools.product((0.0, 1.0), repeat=5)))
    one = IndependentBernoulli(torch.tensor([3.0, -0.2, 0.7, -11.0, 40.0]), 1)
    torch.testing.assert_close(one.log_prob(values).exp().sum(), torch.tensor(1.0))


def test_it_expands_and_diverges_as_torchs_own() -> None:
    q, p = torch.randn(5, 7), torch.randn(7)
    mine = kl_divergence(IndependentBernoulli(q, 1), IndependentBernoulli(p, 1).expand((5,)))
    theirs = kl_divergence(both(q, 1)[1], both(p, 1)[1].expand((5,)))
    torch.testing.assert_close(mine, theirs)


def test_every_bernoulli_vector_of_the_heads_is_this_one() -> None:
    assert isinstance(bernoulli(mlp(3, 5))(torch.zeros(2, 3)), IndependentBernoulli)
    assert isinstance(bernoulli_bias(5)(), IndependentBernoulli)


def test_a_single_variable_is_no_vector() -> None:
    with pytest.raises(ShapeError, match="event_dims is 0"):
        IndependentBernoulli(torch.zeros(3), 0)

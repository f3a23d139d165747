"""One-hot vectors: torch's own at the corners, a linear function between them."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    Normal,
    OneHotCategorical,
    kl_divergence,
)

from ancestral import one_hot, one_hot_bias
from ancestral.distributions import OneHot
from ancestral.distributions.bernoulli import IndependentBernoulli
from ancestral.distributions.extension import extended

LOGITS = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_at_the_corners_it_is_torch_s_own() -> None:
    eye = torch.eye(5, dtype=torch.float64)[:, None]
    mine, theirs = OneHot(LOGITS), OneHotCategorical(logits=LOGITS)
    torch.testing.assert_close(mine.log_prob(eye), theirs.log_prob(eye.expand(5, 7, 5)))
    torch.testing.assert_close(mine.log_prob(eye).exp().sum(0), torch.ones(7, dtype=torch.float64))
    torch.testing.assert_close(mine.mean, theirs.mean)


def test_between_the_corners_it_is_linear_in_the_vector() -> None:
    z = torch.rand(7, 5, dtype=torch.float64).softmax(-1).requires_grad_()
    log_prob = OneHot(LOGITS).log_prob(z)
    torch.testing.assert_close(log_prob, (z * LOGITS.log_softmax(-1)).sum(-1))
    (slope,) = torch.autograd.grad(log_prob.sum(), z)
    torch.testing.assert_close(slope, LOGITS.log_softmax(-1))


def test_the_gradient_of_its_logits_is_torch_s_own() -> None:
    value = torch.eye(5, dtype=torch.float64)[torch.tensor([0, 3, 1, 4, 4, 2, 0])]
    found = []
    for make in (OneHot, lambda logits: OneHotCategorical(logits=logits)):
        logits = LOGITS.clone().requires_grad_()
        found.append(torch.autograd.grad(make(logits).log_prob(value).sin().sum(), logits)[0])
    torch.testing.assert_close(*found)


def test_a_class_of_no_mass_has_no_part_in_another_class() -> None:
    logits = torch.tensor([0.0, float("-inf"), 1.0])
    value = torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(OneHot(logits).log_prob(value), Categorical(logits=logits).log_prob(torch.tensor(0)))


def test_it_expands_is_drawn_and_diverges_as_torch_s_own() -> None:
    torch.manual_seed(0)
    wide = OneHot(LOGITS[0]).expand((3, 7))
    assert isinstance(wide, OneHot)
    assert wide.sample(torch.Size((2,))).shape == (2, 3, 7, 5)
    frequencies = OneHot(LOGITS[0]).sample(torch.Size((50_021,))).mean(0)
    torch.testing.assert_close(frequencies, LOGITS[0].softmax(-1), atol=0.01, rtol=0)
    other = LOGITS.flip(0)
    mine = kl_divergence(OneHot(LOGITS), OneHot(other))
    theirs = kl_divergence(OneHotCategorical(logits=LOGITS), OneHotCategorical(logits=other))
    torch.testing.assert_close(mine, theirs)


def test_every_one_hot_vector_of_the_heads_is_this_one() -> None:
    assert isinstance(one_hot(torch.nn.Identity())(LOGITS), OneHot)
    several = one_hot(torch.nn.Identity(), 1)(LOGITS)
    assert isinstance(several, Independent)
    assert isinstance(several.base_dist, OneHot)
    assert (several.batch_shape, several.event_shape) == ((), (7, 5))


@pytest.mark.parametrize("learned", [True, False])
def test_a_prior_without_parents_begins_uniform(learned: bool) -> None:
    prior = one_hot_bias(2, 3, learned=learned)
    distribution = prior()
    assert distribution.event_shape == (2, 3)
    torch.testing.assert_close(distribution.mean, torch.full((2, 3), 1 / 3))
    assert [p.shape for p in prior.parameters()] == ([(2, 3)] if learned else [])
    assert one_hot_bias(5)().event_shape == (5,)


# torch's own distributions, where a value lies between the corners


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        (OneHotCategorical(logits=LOGITS, validate_args=True), OneHot(LOGITS)),
        (Independent(OneHotCategorical(logits=LOGITS, validate_args=True), 1), Independent(OneHot(LOGITS), 1)),
        (Independent(Bernoulli(logits=LOGITS, validate_args=True), 1), IndependentBernoulli(LOGITS, 1)),
    ],
    ids=["one-hot", "several one-hot", "Bernoulli"],
)
def test_torch_s_own_are_extended_to_where_they_refuse(given: Distribution, ours: Distribution) -> None:
    z = torch.rand(7, 5, dtype=torch.float64).softmax(-1).requires_grad_()
    with pytest.raises(ValueError, match="within the support"):
        given.log_prob(z)
    mine, theirs = extended(given).log_prob(z), ours.log_prob(z)
    torch.testing.assert_close(mine, theirs)
    found = [torch.autograd.grad(one.sum(), z)[0] for one in (mine, theirs)]
    torch.testing.assert_close(*found)
    assert found[0].abs().max() > 0.1


@pytest.mark.parametrize(
    "distribution",
    [OneHot(LOGITS), IndependentBernoulli(LOGITS, 1), Independent(Normal(LOGITS, 1.0), 1), Normal(LOGITS, 1.0)],
)
def test_what_needs_no_extension_stays_as_it_is(distribution: Distribution) -> None:
    assert extended(distribution) is distribution


def test_a_model_of_torch_s_own_distributions_is_relaxed_and_expanded() -> None:
    from ancestral import Joint, elbo
    from ancestral.estimators import REBAR, GumbelSoftmax, MuProp

    weight = torch.randn(5, 3)
    p = Joint(
        {
            "y": lambda: OneHotCategorical(logits=LOGITS[0].float()),
            "h | y": lambda y: Independent(Bernoulli(logits=y @ weight), 1),
            "x | h": lambda h: Independent(Normal(h, 1.0), 1),
        }
    )
    q = Joint(
        {
            "h | x": lambda x: Independent(Bernoulli(logits=x + parameter), 1),
            "y | h": lambda h: OneHotCategorical(logits=h @ weight.T + parameter[0]),
        }
    )
    for estimator in (GumbelSoftmax(), MuProp(), REBAR()):
        parameter = torch.zeros(3, requires_grad=True)
        elbo(p, q, {"x": torch.ones(7, 3)}, 2, estimator).sum().backward()
        assert parameter.grad is not None
        assert (parameter.grad != 0).all()


def test_a_masked_class_has_no_part_in_the_slope_between_the_corners() -> None:
    logits = torch.tensor([0.4, float("-inf"), -1.1], dtype=torch.float64)
    z = torch.tensor([0.3, 0.0, 0.7], dtype=torch.float64, requires_grad=True)
    log_prob = OneHot(logits).log_prob(z)
    log_mass = logits[[0, 2]].log_softmax(-1)
    torch.testing.assert_close(log_prob, 0.3 * log_mass[0] + 0.7 * log_mass[1])
    (slope,) = torch.autograd.grad(log_prob, z)
    torch.testing.assert_close(slope, torch.tensor([log_mass[0], 0.0, log_mass[1]], dtype=torch.float64))
    impossible = torch.tensor([0.3, 0.1, 0.6], dtype=torch.float64, requires_grad=True)
    assert OneHot(logits).log_prob(impossible).item() == float("-inf")


def test_the_divergence_of_a_masked_variable_is_that_of_one_without_the_class() -> None:
    found = []
    for classes in ([0, 1, 2], [0, 2]):
        q, p = (
            torch.tensor([a, float("-inf"), b], dtype=torch.float64)[classes].requires_grad_()
            for a, b in ((0.4, -1.1), (0.2, 0.9))
        )
        value = kl_divergence(OneHot(q), OneHot(p))
        found.append((value, *torch.autograd.grad(value, [q, p])))
    (value, *slopes), (wanted, *wanted_slopes) = found
    torch.testing.assert_close(value, wanted)
    for slope, wanted_slope in zip(slopes, wanted_slopes, strict=True):
        torch.testing.assert_close(slope[[0, 2]], wanted_slope)
        assert slope[1] == 0
    outside = kl_divergence(OneHot(LOGITS[0]), OneHot(torch.tensor([0.0, 1.0, float("-inf"), 0.0, 0.0])))
    assert outside.item() == float("inf")

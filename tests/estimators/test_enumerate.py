"""Enumeration is exact: value and gradient equal those summed by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal

from ancestral import (
    Cost,
    Enumerate,
    Estimator,
    EstimatorError,
    Joint,
    Reparameterized,
    Site,
    Trace,
    elbo,
    expectation,
    iwae,
    linear,
    normal,
    run,
    standard_normal,
)
from ancestral.objectives import elbo_terms


def assert_equal(mine: Tensor, by_hand: Tensor) -> None:
    torch.testing.assert_close(mine, by_hand, atol=1e-10, rtol=1e-10)


def binary(rows: int, size: int) -> Tensor:
    return torch.randint(2, (rows, size), generator=torch.Generator().manual_seed(3)).double()


def gradients(value: Tensor, module: nn.Module) -> list[Tensor]:
    return [
        torch.zeros_like(w) if g is None else g
        for w, g in zip(
            module.parameters(),
            torch.autograd.grad(value, list(module.parameters()), retain_graph=True, allow_unused=True),
            strict=True,
        )
    ]


def test_log_p_of_x_is_the_sum_over_the_latent_and_all_images_sum_to_one(mixture: Any) -> None:
    images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 4)
    joint = torch.stack([run(mixture.p, {"x": images, "y": torch.full((16,), y)}, (16,)).log_prob() for y in range(5)])
    assert_equal(joint.T, mixture.log_joint(images))
    assert joint.exp().sum().item() == pytest.approx(1.0, abs=1e-12)


def test_the_exact_posterior_of_a_discrete_latent_closes_the_bound(mixture: Any) -> None:
    x = binary(7, 4)
    log_p = mixture.log_joint(x).logsumexp(-1)
    assert_equal(
        elbo(mixture.p, mixture.exact_q, {"x": x}, estimators=Enumerate()),
        log_p,
    )
    assert (elbo(mixture.p, mixture.q, {"x": x}, estimators=Enumerate()) < log_p - 0.01).all()


def test_at_the_exact_posterior_the_gradient_is_that_of_log_p(mixture: Any) -> None:
    x = binary(7, 4)
    bound = elbo(mixture.p, mixture.exact_q, {"x": x}, estimators=Enumerate()).sum()
    for mine, exact in zip(
        gradients(bound, mixture), gradients(mixture.log_joint(x).logsumexp(-1).sum(), mixture), strict=True
    ):
        assert_equal(mine, exact)


def test_one_layer_is_what_the_sum_by_hand_gives(mixture: Any) -> None:
    x = binary(7, 4)
    log_q = (x @ mixture.q_weights).log_softmax(-1)
    by_hand = (log_q.exp() * (mixture.log_joint(x) - log_q)).sum(-1)
    mine = elbo(mixture.p, mixture.q, {"x": x}, estimators={"y": Enumerate()})
    assert_equal(mine, by_hand)
    weights = torch.arange(1.0, 8.0, dtype=torch.float64)
    for a, b in zip(gradients(mine @ weights, mixture), gradients(by_hand @ weights, mixture), strict=True):
        assert b.abs().max() > 1e-3
        assert_equal(a, b)


@pytest.mark.parametrize("particles", [1, 2])
def test_two_layers_multiply_and_are_what_the_sum_by_hand_gives(two_layers: Any, particles: int) -> None:
    x = binary(7, 4)
    log_p, by_hand = two_layers.by_hand(x)
    terms = elbo_terms(two_layers.p, two_layers.q, {"x": x}, particles, estimators=Enumerate())
    assert terms.q["h1"].shape == (8, particles, 7, 3)
    assert terms.q["h2"].shape == (4, 8, particles, 7, 2)
    assert_equal(terms.elbo, by_hand)
    assert (terms.elbo < log_p).all()
    weights = torch.arange(1.0, 8.0, dtype=torch.float64)
    for a, b in zip(gradients(terms.elbo @ weights, two_layers), gradients(by_hand @ weights, two_layers), strict=True):
        assert b.abs().max() > 1e-4
        assert_equal(a, b)


def test_all_images_of_two_layers_sum_to_one(two_layers: Any) -> None:
    images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 4)
    assert two_layers.by_hand(images)[0].exp().sum().item() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("analytic_kl", [["h2"], []])
def test_the_closed_form_of_an_enumerated_divergence_changes_nothing(analytic_kl: list[str]) -> None:
    logits = nn.Parameter(torch.tensor([0.3, -1.2], dtype=torch.float64))
    prior = Joint({"h2": lambda: Independent(Bernoulli(logits=logits), 1), "x | h2": _pixels})
    q = Joint({"h2 | x": lambda x: Independent(Bernoulli(logits=x @ torch.ones(4, 2, dtype=x.dtype)), 1)})
    x = binary(7, 4)
    mine = elbo(prior, q, {"x": x}, estimators=Enumerate(), analytic_kl=analytic_kl)
    by_hand = torch.zeros(7, dtype=torch.float64)
    for h in torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 2):
        h = h.expand(7, 2)
        log_q = Bernoulli(logits=x.sum(-1, keepdim=True).expand(7, 2)).log_prob(h).sum(-1)
        log_p = Bernoulli(logits=logits).log_prob(h).sum(-1) + _pixels(h).log_prob(x)
        by_hand = by_hand + log_q.exp() * (log_p - log_q)
    assert_equal(mine, by_hand)


def _pixels(h: Tensor) -> Distribution:
    return Independent(Bernoulli(logits=h @ torch.tensor([[1.0, -2, 0, 1], [0, 1, 1, -1]], dtype=h.dtype)), 1)


class ClassAndStyle(nn.Module):
    """y in 3 classes is enumerated, z | y in 2 dimensions is drawn: the semi-supervised model of the literature."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.decoder, self.encoder, self.classifier = linear(2 + 3, 5), linear(5 + 3, 4), linear(5, 3)
        self.double()
        eye = torch.eye(3, dtype=torch.float64)
        head = normal(nn.Identity())
        self.p = Joint(
            {
                "y": lambda: Categorical(logits=torch.tensor([0.1, 0.5, -0.3], dtype=torch.float64)),
                "z": standard_normal(2).double(),
                "x | y, z": lambda y, z: Independent(Normal(self.decoder(z, eye[y]), 0.7), 1),
            }
        )
        self.q = Joint(
            {
                "y | x": lambda x: Categorical(logits=self.classifier(x)),
                "z | x, y": lambda x, y: head(self.encoder(x.expand(*y.shape, 5), eye[y])),
            }
        )


@pytest.mark.parametrize("particles", [1, 2])
@pytest.mark.parametrize("analytic_kl", [[], ["z"]])
def test_enumerated_and_drawn_variables_mix(particles: int, analytic_kl: list[str]) -> None:
    model = ClassAndStyle()
    x = torch.randn(7, 5, dtype=torch.float64)
    estimators: dict[str, Estimator] = {"y": Enumerate(), "z": Reparameterized()}
    terms = elbo_terms(model.p, model.q, {"x": x}, particles, estimators, analytic_kl)
    assert terms.q["z"].shape == (3, particles, 7, 2)

    noise_free = model.q.conditionals["z"](x, terms.q["y"])
    assert isinstance(noise_free, Independent)
    noise = ((terms.q["z"] - noise_free.base_dist.mean) / noise_free.base_dist.stddev).detach()
    by_hand = torch.zeros(7, dtype=torch.float64)
    log_q_y, log_p_y = model.classifier(x).log_softmax(-1), model.p.conditionals["y"]().logits
    for y in range(3):
        one_hot = torch.eye(3, dtype=torch.float64)[y].expand(7, 3)
        base = normal(nn.Identity())(model.encoder(x, one_hot)).base_dist
        z = base.mean + base.stddev * noise[y]
        rate = (base.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(-1)
        if analytic_kl:
            rate = (0.5 * (base.variance + base.mean**2 - 1) - base.stddev.log()).sum(-1).expand(particles, 7)
        log_x = Normal(model.decoder(z, one_hot.expand(particles, 7, 3)), 0.7).log_prob(x).sum(-1)
        inside = (log_x - rate).mean(0) + log_p_y[y] - log_q_y[:, y]
        by_hand = by_hand + log_q_y[:, y].exp() * inside
    assert_equal(terms.elbo, by_hand)
    for a, b in zip(gradients(terms.elbo.sum(), model), gradients(by_hand.sum(), model), strict=True):
        assert_equal(a, b)


class Forced:
    """Draws one value, whatever its probability, with the likelihood-ratio term: a summand of the exact sum."""

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        return self.value.expand(*trace.shape, *self.value.shape)

    def term(self, site: Site, cost: Cost) -> Tensor:
        return site.log_prob * cost.value


def test_forcing_every_draw_in_turn_gives_the_enumerated_value_and_gradient(two_layers: Any) -> None:
    x = binary(1, 4)
    exact = elbo(two_layers.p, two_layers.q, {"x": x}, estimators=Enumerate())
    values, total = [], [torch.zeros_like(w) for w in two_layers.parameters()]
    masses = []
    grid = torch.tensor([0.0, 1.0], dtype=torch.float64)
    for h1 in torch.cartesian_prod(grid, grid, grid):
        for h2 in torch.cartesian_prod(grid, grid):
            terms = elbo_terms(two_layers.p, two_layers.q, {"x": x}, estimators={"h1": Forced(h1), "h2": Forced(h2)})
            mass = terms.q.log_prob(["h1", "h2"]).exp().item()
            masses.append(mass)
            values.append(mass * terms.elbo.item())
            total = [t + mass * g for t, g in zip(total, gradients(terms.elbo.sum(), two_layers), strict=True)]
    assert math.fsum(masses) == pytest.approx(1.0, abs=1e-12)
    assert math.fsum(values) == pytest.approx(exact.item(), abs=1e-10)
    for a, b in zip(total, gradients(exact.sum(), two_layers), strict=True):
        assert_equal(a, b)


def test_an_estimator_s_term_changes_the_gradient_and_not_the_value(mixture: Any) -> None:
    x = binary(7, 4)

    class WithoutTerm(Forced):
        def term(self, site: Site, cost: Cost) -> None:
            return None

    value = torch.tensor(3)
    with_term = elbo(mixture.p, mixture.q, {"x": x}, estimators=Forced(value))
    without = elbo(mixture.p, mixture.q, {"x": x}, estimators=WithoutTerm(value))
    assert torch.equal(with_term, without)
    assert not torch.equal(gradients(with_term.sum(), mixture)[2], gradients(without.sum(), mixture)[2])


def test_impossible_values_weigh_nothing() -> None:
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    q = Joint({"y | x": lambda x: Categorical(logits=logits)})
    value = expectation(
        lambda trace: torch.where(trace["y"] == 0, 3.0, -7.0) + 0 * trace.log_prob(["y"]),
        q,
        {"x": torch.zeros(1, 5)},
        estimators=Enumerate(),
    )
    assert value.item() == 3.0
    assert torch.autograd.grad(value.sum(), logits)[0].isfinite().all()


def test_a_continuous_variable_is_an_error_with_the_cure() -> None:
    p = Joint({"z": standard_normal(3), "x | z": normal(linear(3, 10))})
    q = Joint({"z | x": normal(linear(5, 6))})
    with pytest.raises(EstimatorError, match=r"Normal can't be enumerated.*Use Reparameterized\(\)"):
        elbo(p, q, {"x": torch.ones(7, 5)}, estimators=Enumerate())


def test_too_many_values_are_an_error(two_layers: Any) -> None:
    with pytest.raises(EstimatorError, match=r"takes 2\^3 values, more than 7"):
        elbo(two_layers.p, two_layers.q, {"x": binary(7, 4)}, estimators=Enumerate(maximum=7))


def test_enumerating_under_the_importance_weighted_bound_is_an_error(mixture: Any) -> None:
    with pytest.raises(
        EstimatorError, match="Enumerate, the estimator of 'y', is for a plain expectation such as elbo"
    ):
        iwae(mixture.p, mixture.q, {"x": binary(7, 4)}, particles=2, estimators=Enumerate())

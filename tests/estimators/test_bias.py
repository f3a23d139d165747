"""Biased estimators are labeled so, and their bias has the size that is stated here; values are biased by none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from exact import Forced, Kind, Layers, data, exact, exact_gradient, forced, gradients, samples, z_scores
from torch import Tensor
from torch.distributions import Bernoulli, Independent

from ancestral import Joint, expectation
from ancestral.distributions import OneHot
from ancestral.estimators import (
    DARN,
    REBAR,
    DisARM,
    Enumerate,
    GumbelSoftmax,
    Half,
    LikelihoodRatio,
    MuProp,
    StraightThrough,
)
from ancestral.objectives import elbo, elbo_terms, iwae

Make = Callable[[], Any]


def relative(mine: list[Tensor], wanted: list[Tensor]) -> float:
    """The length of the bias, as a share of the gradient's."""
    a, b = (torch.cat([g.flatten() for g in found]) for found in (mine, wanted))
    return float((a - b).norm() / b.norm())


def forced_bias(make: Make, model: Layers, **settings: Any) -> float:
    value = forced(model.p, model.q, data(1), {name: make() for name in model.names}, **settings)
    wanted = exact(model.p, model.q, data(1), settings.get("objective", "elbo"), settings.get("particles", 1))
    torch.testing.assert_close(value, wanted, atol=1e-10, rtol=1e-10)
    return relative(gradients(value, model), gradients(wanted, model))


@pytest.mark.parametrize(
    ("make", "kind", "layers", "low", "high"),
    [
        (StraightThrough, "binary", 1, 0.08, 0.10),
        (StraightThrough, "one-hot", 1, 0.10, 0.12),
        (StraightThrough, "binary", 2, 0.10, 0.13),
        (StraightThrough, "one-hot", 2, 0.20, 0.24),
        (DARN, "binary", 1, 0.03, 0.06),
        (DARN, "one-hot", 1, 0.155, 0.172),
        (DARN, "binary", 2, 0.05, 0.08),
        (Half, "one-hot", 1, 0.173, 0.19),
        (Half, "one-hot", 2, 0.25, 0.30),
    ],
)
def test_the_bias_without_noise_is_exact(make: Make, kind: Kind, layers: int, low: float, high: float) -> None:
    assert not make().unbiased
    assert low < forced_bias(make, Layers(kind, layers)) < high


@pytest.mark.parametrize(
    ("make", "kind", "center"), [(DARN, "binary", 1 / 2), (DARN, "one-hot", 1 / 3), (Half, "one-hot", 1 / 2)]
)
def test_darn_is_the_slope_times_the_distance_from_the_center_times_the_score(
    make: Make, kind: Kind, center: float
) -> None:
    logits = torch.tensor([0.4, -1.1, 0.9], dtype=torch.float64, requires_grad=True)
    distribution = Independent(Bernoulli(logits=logits), 1) if kind == "binary" else OneHot(logits)
    z = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)

    def cost(z: Tensor) -> Tensor:
        return torch.sin(2 * z[..., 0] - 3 * z[..., 1] + z[..., 2])

    estimator = Forced(make(), z[None, None])
    value = expectation(lambda t: cost(t["h"]), Joint({"h | x": lambda x: distribution}), {"x": z[None]}, 1, estimator)
    (mine,) = torch.autograd.grad(value.sum(), logits, retain_graph=True)
    leaf = z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(cost(leaf), leaf)
    if kind == "binary":  # each bit for itself
        by_hand = slope * (z - center) * (z - torch.sigmoid(logits))
    else:
        by_hand = (slope * (z - center)).sum() * (z - logits.softmax(-1))
    torch.testing.assert_close(mine, by_hand.detach())


def test_of_bits_darn_and_the_half_estimator_are_one() -> None:
    m = Layers("binary", 2)
    assert forced_bias(DARN, m) == pytest.approx(forced_bias(Half, m), abs=1e-12)


def test_a_steeper_slope_is_another_bias() -> None:
    m = Layers("binary", 1)
    assert abs(forced_bias(lambda: StraightThrough(2.0), m) - forced_bias(StraightThrough, m)) > 0.02


@pytest.mark.parametrize("make", [StraightThrough, DARN])
def test_under_the_importance_weighted_bound_they_are_biased_too(make: Make) -> None:
    assert 0.01 < forced_bias(make, Layers("binary", 1), objective="iwae", particles=2) < 0.5


@pytest.mark.parametrize(
    ("make", "kind", "layers", "low", "high"),
    [
        (lambda: GumbelSoftmax(1.0), "binary", 1, 0.29, 0.34),
        (lambda: GumbelSoftmax(0.5), "binary", 1, 0.14, 0.18),
        (lambda: GumbelSoftmax(0.1), "binary", 1, 0.015, 0.035),
        (lambda: GumbelSoftmax(0.5, hard=True), "binary", 1, 0.06, 0.09),
        (lambda: GumbelSoftmax(0.5), "binary", 2, 0.13, 0.18),
        (lambda: GumbelSoftmax(0.5), "one-hot", 2, 0.16, 0.21),
        (lambda: GumbelSoftmax(0.5, hard=True), "one-hot", 2, 0.23, 0.30),
    ],
)
def test_the_bias_of_a_relaxation_shrinks_with_its_temperature(
    make: Make, kind: Kind, layers: int, low: float, high: float
) -> None:
    torch.manual_seed(0)
    m = Layers(kind, layers)
    assert not make().unbiased
    value, wanted = exact_gradient(m)
    values, drawn = samples(m, {name: make() for name in m.names}, 50_021)
    assert abs(z_scores(values[:, None], value)) < 4
    assert z_scores(drawn, wanted).abs().max() > 10
    assert low < relative([drawn.mean(0)], [wanted]) < high


# the value of the objective is that of the discrete model, whatever the estimator

EXACT: dict[str, Make] = {
    "straight-through": StraightThrough,
    "DARN": DARN,
    "Half": Half,
    "DisARM": DisARM,
    "REBAR": REBAR,
    "MuProp": MuProp,
    "normalized MuProp": lambda: MuProp(normalize=True),
    "likelihood ratio": lambda: LikelihoodRatio(None, normalize=True),
}


@pytest.mark.parametrize("name", EXACT)
def test_a_drawn_value_is_that_of_the_model(name: str) -> None:
    m = Layers("binary", 2)
    value = forced(m.p, m.q, data(2), {h: EXACT[name]() for h in m.names})
    torch.testing.assert_close(value, exact(m.p, m.q, data(2)), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("objective", ["elbo", "iwae"])
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("kind", ["binary", "one-hot"])
def test_a_relaxed_run_has_the_value_of_draws(kind: Kind, hard: bool, objective: Any) -> None:
    torch.manual_seed(0)
    m, count, particles = Layers(kind, 2), 30_011, 1 if objective == "elbo" else 2
    given = {name: value.expand(count, *value.shape[1:]) for name, value in data(1).items()}
    bound = elbo if objective == "elbo" else iwae
    value = bound(m.p, m.q, given, particles, estimators=GumbelSoftmax(2.0, hard=hard))
    wanted = exact(m.p, m.q, data(1), objective, particles)
    assert value.requires_grad
    assert abs(z_scores(value.detach()[:, None], wanted)) < 4


@pytest.mark.parametrize(
    "make",
    [*EXACT.values(), GumbelSoftmax, lambda: GumbelSoftmax(hard=True), Enumerate],
    ids=[*EXACT, "Gumbel-Softmax", "hard Gumbel-Softmax", "enumeration"],
)
def test_the_parts_of_the_bound_add_up(make: Make) -> None:
    torch.manual_seed(0)
    m = Layers("binary", 2)
    terms = elbo_terms(m.p, m.q, data(7), 3, make(), beta=0.4)
    assert list(terms.kl) == m.names
    together = terms.log_likelihood - 0.4 * (terms.kl["h1"] + terms.kl["h2"])
    torch.testing.assert_close(terms.elbo.detach(), together)


@pytest.mark.parametrize("make", [*EXACT.values(), GumbelSoftmax], ids=[*EXACT, "Gumbel-Softmax"])
def test_without_a_gradient_every_estimator_draws(make: Make) -> None:
    m = Layers("binary", 2)
    with torch.no_grad():
        terms = elbo_terms(m.p, m.q, data(7), 3, make())
    for name in m.names:
        assert ((terms.q[name] == 0) | (terms.q[name] == 1)).all()
    assert not terms.elbo.requires_grad


@pytest.mark.parametrize("make", [lambda: LikelihoodRatio(None), MuProp, DisARM, REBAR], ids=lambda m: m.__name__)
def test_what_is_drawn_without_a_gradient_has_none(make: Make) -> None:
    m = Layers("binary", 2)
    trace = elbo_terms(m.p, m.q, data(7), estimators=make()).q
    assert not any(trace[name].requires_grad for name in m.names)


def test_a_forced_draw_is_the_draw_of_the_estimator() -> None:
    """The tests rest on it: straight-through's value is the one that was set, and keeps its gradient."""
    m, value = Layers("binary", 1), torch.tensor([[[1.0, 0.0, 1.0]]], dtype=torch.float64)
    trace = elbo_terms(m.p, m.q, data(1), estimators={"h1": Forced(StraightThrough(), value)}).q
    assert torch.equal(trace["h1"].detach(), value)
    assert trace["h1"].requires_grad

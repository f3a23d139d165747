"""Costs are local: an estimator sees what lies downstream of its variable, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from exact import Layers, data, exact_gradient, z_scores
from torch import Tensor
from torch.distributions import Distribution

from ancestral import Cost, Enumerate, Estimator, Joint, Site, Trace, bernoulli, bernoulli_bias, elbo, iwae, linear
from ancestral.estimators import LikelihoodRatio, MuProp
from ancestral.estimators.values import Fixed
from ancestral.objectives import elbo_terms, expectation, log_weight


class Probe:
    """Draws, and keeps what the cost shows it."""

    def __init__(self) -> None:
        self.costs: dict[str, Cost] = {}
        self.sites: dict[str, Site] = {}

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        return distribution.sample(torch.Size(trace.missing_shape(distribution)))

    def term(self, site: Site, cost: Cost) -> None:
        self.costs[site.name], self.sites[site.name] = cost, site


def probe(p: Any, q: Any, given: dict[str, Tensor], particles: int = 3, **settings: Any) -> tuple[Probe, Any]:
    probed = Probe()
    return probed, elbo_terms(p, q, given, particles, probed, **settings)


def scored(site: Site) -> Tensor:
    return site.log_prob.detach().expand(3, 7)


def log_p(terms: Any, name: str) -> Tensor:
    return scored(terms.p.sites[name])


def log_q(terms: Any, name: str) -> Tensor:
    return scored(terms.q.sites[name])


def test_the_cost_of_a_variable_is_what_it_can_change() -> None:
    m = Layers("binary", 2)
    probed, terms = probe(m.p, m.q, data(7), beta=0.3)
    top = log_p(terms, "h2") + log_p(terms, "h1") - log_q(terms, "h2")
    torch.testing.assert_close(probed.costs["h2"].particles, 0.3 * top)
    whole = log_p(terms, "x") + 0.3 * (top - log_q(terms, "h1"))
    torch.testing.assert_close(probed.costs["h1"].particles, whole)
    for cost in probed.costs.values():
        assert torch.equal(cost.value, cost.particles)
        assert not cost.particles.requires_grad


def test_a_divergence_in_closed_form_belongs_to_the_parents() -> None:
    m = Layers("binary", 2)
    probed, terms = probe(m.p, m.q, data(7), analytic_kl=["h2"])
    torch.testing.assert_close(probed.costs["h2"].particles, log_p(terms, "h1"))
    whole = log_p(terms, "x") + log_p(terms, "h1") - log_q(terms, "h1")
    kl = torch.distributions.kl_divergence(terms.q.sites["h2"].distribution, terms.p.sites["h2"].distribution)
    torch.testing.assert_close(probed.costs["h1"].particles, whole - kl.detach())


def test_drawn_from_p_itself_a_layer_sees_the_data_that_depend_on_it() -> None:
    m = Layers("binary", 2)
    p = Joint(
        {"h2 | c": m.p.conditionals["h2"], "h1 | h2": m.p.conditionals["h1"], "x | h1": m.p.conditionals["x"]}
        | {"y | h2": bernoulli(linear(2, 3).double())}
    )
    given = {**data(7), "y": torch.ones(7, 3, dtype=torch.float64)}
    probed, terms = probe(p, p, given)
    torch.testing.assert_close(probed.costs["h1"].particles, log_q(terms, "x"))
    torch.testing.assert_close(probed.costs["h2"].particles, log_q(terms, "x") + log_q(terms, "y"))
    assert terms.kl == {}
    torch.testing.assert_close(terms.elbo.detach(), terms.log_likelihood)


def test_independent_variables_do_not_answer_for_each_other() -> None:
    p = Joint(
        {
            "a": bernoulli_bias(3),
            "b": bernoulli_bias(2),
            "x | a": bernoulli(linear(3, 4)),
            "y | b": bernoulli(linear(2, 5)),
        }
    ).double()
    q = Joint({"a | x": bernoulli(linear(4, 3)), "b | y": bernoulli(linear(5, 2))}).double()
    given = {"x": torch.ones(7, 4, dtype=torch.float64), "y": torch.ones(7, 5, dtype=torch.float64)}
    probed, terms = probe(p, q, given)
    for latent, observed in (("a", "x"), ("b", "y")):
        own = log_p(terms, observed) + log_p(terms, latent) - log_q(terms, latent)
        torch.testing.assert_close(probed.costs[latent].particles, own)


def test_what_is_computed_from_a_variable_is_downstream_of_it() -> None:
    m = Layers("binary", 2)
    q = Joint({"h1 | x": m.q.conditionals["h1"], "d | h1": torch.sin, "h2 | d": m.q.conditionals["h2"]})
    p = Joint(
        {"h2 | c": m.p.conditionals["h2"], "e | h2": torch.cos, "h1 | e": m.p.conditionals["h1"]}
        | {"x | h1": m.p.conditionals["x"]}
    )
    probed, terms = probe(p, q, data(7))
    top = log_p(terms, "h2") + log_p(terms, "h1") - log_q(terms, "h2")
    torch.testing.assert_close(probed.costs["h2"].particles, top)
    torch.testing.assert_close(probed.costs["h1"].particles, top + log_p(terms, "x") - log_q(terms, "h1"))


def test_of_a_model_with_a_state_what_comes_later_may_depend_on_a_variable() -> None:
    m = Layers("binary", 2)
    probed, terms = probe(lambda trace: m.p(trace), lambda trace: m.q(trace), data(7))
    # h1 was met before h2 by q, and x after both by p: only log q(h1) is known to be none of h2's doing
    whole = log_p(terms, "x") + log_p(terms, "h1") + log_p(terms, "h2") - log_q(terms, "h2")
    torch.testing.assert_close(probed.costs["h2"].particles, whole)
    torch.testing.assert_close(probed.costs["h1"].particles, whole - log_q(terms, "h1"))


def test_under_the_importance_weighted_bound_every_particle_changes_the_whole() -> None:
    m, probed = Layers("binary", 2), Probe()
    bound = iwae(m.p, m.q, data(7), 3, probed)
    trace = Trace((3, 7), {**data(7), **{name: site.value for name, site in probed.sites.items()}})
    weights = log_weight(m.p, m.q, elbo_terms(m.p, m.q, data(7), 3, {n: Fixed(trace[n]) for n in m.names}).q)
    for cost in probed.costs.values():
        torch.testing.assert_close(cost.particles, weights.detach())
        torch.testing.assert_close(cost.value, bound.detach().expand(3, 7))


def test_parents_are_the_values_in_the_order_of_the_conditional() -> None:
    m = Layers("binary", 2)
    q = Joint({"h1 | x": m.q.conditionals["h1"], "h2 | h1, x": lambda h1, x: m.q.conditionals["h2"](h1)})
    probed, terms = probe(m.p, q, data(7))
    assert [parent.shape for parent in probed.costs["h2"].parents] == [(3, 7, 3), (7, 4)]
    assert probed.costs["h2"].parents[0] is terms.q["h1"]
    assert len(probed.costs["h1"].parents) == 1
    stateful, _ = probe(m.p, lambda trace: m.q(trace), data(7))
    assert len(stateful.costs["h2"].parents) == 3  # x, c, h1


@pytest.mark.parametrize("stateful", [False, True])
def test_the_cost_at_the_value_that_was_drawn_is_the_cost(stateful: bool) -> None:
    m = Layers("binary", 2)
    q: Callable[[Trace], Any] = (lambda trace: m.q(trace)) if stateful else m.q
    probed, _ = probe(m.p, q, data(7))
    sites, costs = probed.sites, probed.costs
    torch.testing.assert_close(costs["h2"].at(sites["h2"].value, Probe()).detach(), costs["h2"].particles)
    following = Fixed(sites["h2"].value)
    torch.testing.assert_close(costs["h1"].at(sites["h1"].value, following).detach(), costs["h1"].particles)
    elsewhere = 1 - sites["h1"].value
    trace = Trace((3, 7), {**data(7), "h1": elsewhere, "h2": sites["h2"].value})
    m.q(trace)
    m.p(other := Trace((3, 7), trace.values))
    whole = other.log_prob(["x", "h1", "h2"]) - trace.log_prob(["h1", "h2"])
    torch.testing.assert_close(costs["h1"].at(elsewhere, following), whole)


def test_the_cost_elsewhere_sums_over_what_is_enumerated() -> None:
    m = Layers("binary", 2)
    probed = Probe()
    estimators: dict[str, Estimator] = {"h1": probed, "h2": Enumerate()}
    elbo(m.p, m.q, data(7), 3, estimators)
    cost, site = probed.costs["h1"], probed.sites["h1"]
    assert cost.particles.shape == (3, 7)
    torch.testing.assert_close(cost.at(site.value, Probe()).detach(), cost.particles)
    estimators = {"h1": Enumerate(), "h2": probed}
    elbo(m.p, m.q, data(7), 3, estimators)
    cost, site = probed.costs["h2"], probed.sites["h2"]
    assert cost.particles.shape == (8, 3, 7)
    torch.testing.assert_close(cost.at(site.value, Probe()).detach(), cost.particles)


def mean(distribution: Distribution | Tensor) -> Tensor:
    assert isinstance(distribution, Distribution)
    return distribution.mean


def test_the_mean_field_run_has_every_variable_at_its_mean() -> None:
    m = Layers("binary", 2)
    probed, _ = probe(m.p, m.q, data(7))
    h1 = mean(m.q.conditionals["h1"](data(7)["x"])).detach().requires_grad_()
    h2 = mean(m.q.conditionals["h2"](h1))
    trace = Trace((7,), {**data(7), "h1": h1, "h2": h2})
    m.q(trace)
    m.p(other := Trace((7,), trace.values))
    cost = other.log_prob(["x", "h1", "h2"]) - trace.log_prob(["h1", "h2"])
    (slope,) = torch.autograd.grad(cost.sum(), h1)
    mine, center, gradient = probed.costs["h1"].mean_field()
    torch.testing.assert_close(mine[0], cost.detach())
    torch.testing.assert_close(center[0], h1.detach())
    torch.testing.assert_close(gradient[0], slope)


def test_the_mean_field_cost_of_a_variable_is_what_it_can_change() -> None:
    m = Layers("binary", 2)
    probed, _ = probe(m.p, m.q, data(7))
    h1 = mean(m.q.conditionals["h1"](data(7)["x"]))
    h2 = mean(m.q.conditionals["h2"](h1)).detach().requires_grad_()
    trace = Trace((7,), {**data(7), "h1": h1.detach(), "h2": h2})
    m.q(trace)
    m.p(other := Trace((7,), trace.values))
    downstream = other.log_prob(["h1", "h2"]) - trace.log_prob(["h2"])
    (slope,) = torch.autograd.grad(downstream.sum(), h2)
    mine, center, gradient = probed.costs["h2"].mean_field()
    torch.testing.assert_close(mine[0], downstream.detach())
    torch.testing.assert_close(center[0], h2.detach())
    torch.testing.assert_close(gradient[0], slope)


# and so the variance falls


def gradients_of_rows(m: Layers, estimator: Any, local: bool, count: int) -> Tensor:
    """Of the parameters of q(h2 | h1), a row for each draw; the same draws whether the cost is local or not."""
    torch.manual_seed(0)
    rows = m.rows(count)
    given = {name: value.expand(count, *value.shape[1:]) for name, value in data(1).items()}
    if local:
        value = elbo(rows.p, rows.q, given, 2, estimator)
    else:
        value = expectation(lambda trace: log_weight(rows.p, rows.q, trace), rows.q, given, 2, estimator)
    found = torch.autograd.grad(value.sum(), [rows.weights["q h2"], rows.weights["q h2 bias"]])
    return torch.cat([g.flatten(1) for g in found], 1)


@pytest.mark.parametrize("make", [lambda: LikelihoodRatio(None), LikelihoodRatio, MuProp])
def test_the_variance_is_below_that_of_the_whole_cost(make: Callable[[], Any]) -> None:
    m = Layers("binary", 2)
    m.weights["p x"].data.mul_(3)  # what h2 can't change varies most
    names = list(m.weights)
    _, wanted = exact_gradient(m)
    sizes = [m.weights[name].numel() for name in names]
    split = dict(zip(names, wanted.split(sizes), strict=True))
    expected = torch.cat([split["q h2"], split["q h2 bias"]])
    local, whole = (gradients_of_rows(m, make(), local, 20_011) for local in (True, False))
    for drawn in (local, whole):
        assert z_scores(drawn, expected).abs().max() < 4.5
    assert local.var(0).sum() < 0.6 * whole.var(0).sum()

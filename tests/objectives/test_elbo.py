"""The evidence lower bound against models whose log p(x) is known in closed form."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Cauchy, Distribution, Independent, Normal, kl_divergence

from ancestral import (
    AncestralError,
    Enumerate,
    EstimatorError,
    GraphError,
    Joint,
    ShapeError,
    Trace,
    bernoulli,
    elbo,
    iwae,
    linear,
    normal,
    standard_normal,
)
from ancestral.objectives import elbo_terms


@pytest.mark.parametrize("particles", [1, 2, 11])
def test_the_exact_posterior_gives_log_p_of_x_for_every_draw(linear_gaussian: Any, particles: int) -> None:
    m = linear_gaussian
    q = Joint({"z | x": m.posterior})
    for _ in range(3):
        value = elbo(m.p, q, {"x": m.x}, particles)
        torch.testing.assert_close(value, m.log_prob(m.x), atol=1e-10, rtol=1e-10)


def test_any_other_posterior_lies_below_by_its_divergence_from_the_exact_one(linear_gaussian: Any) -> None:
    torch.manual_seed(0)
    m = linear_gaussian
    draws = 50_021
    terms = elbo_terms(m.p, Joint({"z | x": m.rough_posterior}), {"x": m.x}, draws, analytic_kl=["z"])
    rough = m.rough_posterior(m.x)
    exact = torch.distributions.MultivariateNormal(m.posterior_mean(m.x), m.covariance)
    as_full = torch.distributions.MultivariateNormal(rough.mean, torch.diag_embed(rough.variance))
    gap = kl_divergence(as_full, exact)
    assert (gap > 0.05).all()
    errors = (terms.p.log_prob(["x"]).std(0) / draws**0.5) + 1e-12
    assert ((terms.elbo - (m.log_prob(m.x) - gap)).abs() / errors).max() < 4.5


def test_closed_and_sampled_divergence_agree_in_expectation(linear_gaussian: Any) -> None:
    torch.manual_seed(1)
    m, draws = linear_gaussian, 50_021
    q = Joint({"z | x": m.rough_posterior})
    closed = elbo_terms(m.p, q, {"x": m.x}, draws, analytic_kl=["z"])
    sampled = elbo_terms(m.p, q, {"x": m.x}, draws)
    torch.testing.assert_close(closed.kl["z"], kl_divergence(m.rough_posterior(m.x), m.prior()))
    per_draw = sampled.q.sites["z"].log_prob - sampled.p.sites["z"].log_prob
    assert ((sampled.kl["z"] - closed.kl["z"]).abs() / (per_draw.std(0) / draws**0.5)).max() < 4.5


def test_the_bound_is_the_likelihood_minus_beta_times_the_divergences(linear_gaussian: Any) -> None:
    m = linear_gaussian
    for beta in (0.0, 1.0, 3.7):
        for analytic_kl in ([], ["z"]):
            terms = elbo_terms(
                m.p, Joint({"z | x": m.rough_posterior}), {"x": m.x}, 11, analytic_kl=analytic_kl, beta=beta
            )
            torch.testing.assert_close(terms.elbo, terms.log_likelihood - beta * terms.kl["z"])
            assert terms.elbo.shape == terms.log_likelihood.shape == terms.kl["z"].shape == (7,)
            assert not terms.log_likelihood.requires_grad


def test_an_enumerated_bound_has_the_same_parts(two_layers: Any) -> None:
    x = torch.randint(2, (7, 4)).double()
    terms = elbo_terms(two_layers.p, two_layers.q, {"x": x}, estimators=Enumerate(), beta=0.3)
    assert list(terms.kl) == ["h1", "h2"]
    torch.testing.assert_close(terms.elbo, terms.log_likelihood - 0.3 * (terms.kl["h1"] + terms.kl["h2"]))
    assert (terms.log_likelihood < 0).all()


def test_a_datapoint_has_the_same_bound_alone_and_in_any_batch(two_layers: Any) -> None:
    x = torch.randint(2, (7, 4)).double()
    whole = elbo(two_layers.p, two_layers.q, {"x": x}, estimators=Enumerate())
    alone = [elbo(two_layers.p, two_layers.q, {"x": x[i : i + 1]}, estimators=Enumerate()) for i in range(7)]
    torch.testing.assert_close(torch.cat(alone), whole)
    order = torch.tensor([3, 1, 4, 0, 5, 2, 6])
    shuffled = elbo(two_layers.p, two_layers.q, {"x": x[order]}, estimators=Enumerate())
    torch.testing.assert_close(shuffled, whole[order])


class Layers:
    """p: z2 -> z1 -> x. q1 draws the top first (the closed form of z1 holds), q2 the bottom first (it does not)."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        middle, decoder = normal(linear(2, 3), scale=0.8), normal(linear(3, 5), scale=1.7)
        self.p = Joint({"z2": standard_normal(2), "z1 | z2": middle, "x | z1": decoder})
        self.top_down = Joint({"z2 | x": normal(linear(5, 4)), "z1 | x, z2": normal(linear(5 + 2, 3), scale=0.6)})
        self.bottom_up = Joint({"z1 | x": normal(linear(5, 6)), "z2 | z1": normal(linear(3, 2), scale=0.6)})
        with torch.no_grad():
            for module in (self.p, self.top_down, self.bottom_up):
                for w in module.parameters():
                    w.mul_(0.5)
        self.given = {"x": torch.randn(7, 5)}


@pytest.mark.parametrize("analytic_kl", [["z1"], ["z2"], ["z1", "z2"]])
def test_the_closed_form_holds_where_the_parents_in_p_precede_in_q(analytic_kl: list[str]) -> None:
    m = Layers()
    closed = elbo(m.p, m.top_down, m.given, 40_009, analytic_kl=analytic_kl)
    torch.testing.assert_close(closed, elbo(m.p, m.top_down, m.given, 40_009), atol=0.1, rtol=0)


def test_the_closed_form_is_an_error_that_says_why_where_a_parent_in_p_is_drawn_later_in_q() -> None:
    m = Layers()
    with pytest.raises(GraphError, match="no closed form here: its parent 'z2' in p is drawn after 'z1' in q"):
        elbo(m.p, m.bottom_up, m.given, analytic_kl=["z1"])
    closed = elbo(m.p, m.bottom_up, m.given, 40_009, analytic_kl=["z2"])
    torch.testing.assert_close(closed, elbo(m.p, m.bottom_up, m.given, 40_009), atol=0.1, rtol=0)


def test_a_model_with_a_state_is_held_to_the_same_condition() -> None:
    m = Layers()

    def stateful(trace: Trace) -> None:
        m.p(trace)

    elbo(stateful, m.top_down, m.given, analytic_kl=["z1", "z2"])
    with pytest.raises(GraphError, match="its parent 'z2' in p is drawn after 'z1'"):
        elbo(stateful, m.bottom_up, m.given, analytic_kl=["z1"])


def test_a_deterministic_parent_stands_for_its_own_parents() -> None:
    m = Layers()
    p = Joint(
        {
            "z2": standard_normal(2),
            "h | z2": torch.tanh,
            "z1 | h": m.p.conditionals["z1"],
            "x | z1": m.p.conditionals["x"],
        }
    )
    closed = elbo(p, m.top_down, m.given, 40_009, analytic_kl=["z1"])
    torch.testing.assert_close(closed, elbo(p, m.top_down, m.given, 40_009), atol=0.1, rtol=0)
    with pytest.raises(GraphError, match="its parent 'z2' in p is drawn after 'z1'"):
        elbo(p, m.bottom_up, m.given, analytic_kl=["z1"])


def test_the_closed_form_of_a_variable_that_q_does_not_draw_is_an_error() -> None:
    m = Layers()
    with pytest.raises(GraphError, match=r"analytic_kl names 'z3', which q does not draw. Did you mean 'z"):
        elbo(m.p, m.top_down, m.given, analytic_kl=["z3"])


def test_a_divergence_without_a_closed_form_is_an_error_with_the_cure() -> None:
    p = Joint({"z": lambda: Independent(Cauchy(torch.zeros(3), 1.0), 1), "x | z": bernoulli(linear(3, 5))})
    q = Joint({"z | x": normal(linear(5, 6))})
    elbo(p, q, {"x": torch.ones(7, 5)})
    with pytest.raises(AncestralError, match=r"no closed form is known for the divergence of 'z'.*out of analytic_kl"):
        elbo(p, q, {"x": torch.ones(7, 5)}, analytic_kl=["z"])


@pytest.mark.parametrize("analytic_kl", [[], ["z"]])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_prior_of_another_size_is_an_error_where_broadcasting_would_hide_it(
    size: int, analytic_kl: list[str]
) -> None:
    p = Joint({"z": standard_normal(size), "x | z": bernoulli(linear(3, 5))})
    q = Joint({"z | x": normal(linear(5, 6))})
    with pytest.raises(ShapeError, match=rf"'z' has event shape \(3,\) in q but \({size},\) in p"):
        elbo(p, q, {"x": torch.ones(7, 5)}, analytic_kl=analytic_kl)


@pytest.mark.parametrize("analytic_kl", [[], ["z"]])
def test_a_scalar_in_q_is_no_vector_in_p_even_where_the_batch_has_its_size(analytic_kl: list[str]) -> None:
    p = Joint({"z": standard_normal(5), "x | z": lambda z: Independent(Bernoulli(logits=z.expand(1, 5, 5)), 1)})
    q = Joint({"z | x": lambda x: Normal(x[:, 0], 1.0)})
    with pytest.raises(ShapeError, match=r"'z' has event shape \(\) in q but \(5,\) in p"):
        elbo(p, q, {"x": torch.ones(5, 5)}, analytic_kl=analytic_kl)


@pytest.mark.parametrize("prior_rows", [None, 1, 7])
def test_the_closed_form_of_discrete_variables_broadcasts(prior_rows: int | None) -> None:
    shape = (3,) if prior_rows is None else (prior_rows, 3)
    logits = torch.linspace(-1, 1, 3).expand(shape)
    p = Joint({"h | y": lambda y: Independent(Bernoulli(logits=logits), 1), "x | h": bernoulli(linear(3, 5))})
    q = Joint({"h | x": bernoulli(linear(5, 3))})
    given = {"x": torch.rand(7, 5).round(), "y": torch.zeros(7, 2)}
    closed = elbo(p, q, given, estimators=Enumerate(), analytic_kl=["h"])
    torch.testing.assert_close(closed, elbo(p, q, given, estimators=Enumerate()))


def test_a_decoder_that_returns_no_distribution_is_an_error_and_no_bound_without_likelihood() -> None:
    p = Joint({"z": standard_normal(3), "x | z": linear(3, 5)})
    q = Joint({"z | x": normal(linear(5, 6))})
    with pytest.raises(GraphError, match="a value is given for 'x', but its conditional in p returned a Tensor"):
        elbo(p, q, {"x": torch.ones(7, 5)})


def test_a_latent_that_q_computes_without_a_density_is_an_error() -> None:
    p = Joint({"z": standard_normal(3), "x | z": bernoulli(linear(3, 5))})
    with pytest.raises(GraphError, match="latent variable 'z', which is neither given nor drawn by q"):
        elbo(p, Joint({"z | x": linear(5, 3)}), {"x": torch.ones(7, 5)})


def test_deterministic_features_of_q_are_no_latents() -> None:
    p = Joint({"z": standard_normal(3), "x | z": bernoulli(linear(3, 5))})
    q = Joint({"h | x": linear(5, 2), "z | h": normal(linear(2, 6))})
    elbo(p, q, {"x": torch.ones(7, 5)}, 2).sum().backward()
    assert all(w.grad is not None for w in [*p.parameters(), *q.parameters()])


def test_a_name_that_neither_model_knows_is_an_error() -> None:
    p = Joint({"z": standard_normal(3), "x | z": bernoulli(linear(3, 5))}, given=["y"])
    q = Joint({"z | x": normal(linear(5, 6))})
    x = torch.ones(7, 5)
    elbo(p, q, {"x": x, "y": x})  # declared, though nothing reads it
    for bound in (elbo(p, p, {"x": x, "y": x}), iwae(p, q, {"x": x, "y": x}, 2)):
        assert bound.shape == (7,)
    with pytest.raises(GraphError, match=r"given for 'xx', which neither model samples nor is .*Did you mean 'x'"):
        elbo(p, q, {"x": x, "xx": x})
    with pytest.raises(GraphError, match=r"given for 'xx', which the model neither samples"):
        elbo(p, p, {"x": x, "xx": x})


def test_an_empty_batch_is_an_error() -> None:
    p = Joint({"z": standard_normal(3), "x | z": bernoulli(linear(3, 5))})
    with pytest.raises(ShapeError, match="the batch is empty: the given x has no rows"):
        elbo(p, Joint({"z | x": normal(linear(5, 6))}), {"x": torch.ones(0, 5)})


def test_an_observed_condition_is_given_to_p_and_q() -> None:
    p = Joint({"z": standard_normal(3), "x | z, y": bernoulli(linear(5, 5))}, given=["y"])
    q = Joint({"z | x, y": normal(linear(7, 6))}, given=["x", "y"])
    assert elbo(p, q, {"x": torch.ones(7, 5), "y": torch.ones(7, 2)}).shape == (7,)
    with pytest.raises(GraphError, match="'y', a parent of 'z', is neither given nor drawn"):
        elbo(p, q, {"x": torch.ones(7, 5)})


@pytest.mark.parametrize("particles", [0, -1, True, 2.5, "2", None])
def test_particles_are_counted(particles: Any) -> None:
    m = Layers()
    with pytest.raises(AncestralError, match=r"particles is .*give 1 or more"):
        elbo(m.p, m.top_down, m.given, particles)


def test_nothing_given_is_an_error() -> None:
    m = Layers()
    with pytest.raises(AncestralError, match="nothing is given"):
        elbo(m.p, m.top_down, {})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": torch.ones(7, 5), "y": torch.ones(6, 2)}, "disagree on the batch size: .*7.*6"),
        ({"x": torch.tensor(1.0)}, "'x' is a scalar"),
        ({"x": [[1.0] * 5] * 7}, "'x' is a list: give a torch.Tensor"),
    ],
)
def test_given_values_have_the_batch_first(given: dict[str, Any], message: str) -> None:
    m = Layers()
    with pytest.raises(AncestralError, match=message):
        elbo(m.p, m.top_down, given)


def test_an_estimator_for_an_unknown_variable_is_answered_with_the_nearest() -> None:
    m = Layers()
    with pytest.raises(EstimatorError, match=r"given for 'z_1', which q does not draw. Did you mean 'z1'\?"):
        elbo(m.p, m.top_down, m.given, estimators={"z_1": Enumerate()})
    with pytest.raises(EstimatorError, match="given for 'x', which q does not draw"):
        elbo(m.p, m.top_down, m.given, estimators={"x": Enumerate()})


def test_the_same_seed_gives_the_same_value_and_another_seed_another() -> None:
    m = Layers()
    values = []
    for seed in (3, 3, 5):
        torch.manual_seed(seed)
        values.append(elbo(m.p, m.top_down, m.given))
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


def test_the_models_are_not_changed_by_being_evaluated() -> None:
    m = Layers()
    before = copy.deepcopy({**m.p.state_dict(), **m.top_down.state_dict()})
    elbo(m.p, m.top_down, m.given, 2).sum().backward()
    after = {**m.p.state_dict(), **m.top_down.state_dict()}
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert list(m.given) == ["x"]


def test_gradients_reach_every_parameter_of_p_and_q() -> None:
    m = Layers()
    elbo(m.p, m.top_down, m.given, 2, analytic_kl=["z1"]).sum().backward()
    for w in nn.ModuleList([m.p, m.top_down]).parameters():
        assert w.grad is not None
        assert w.grad.abs().sum() > 0


def test_a_pair_of_functions_is_a_pair_of_models(linear_gaussian: Any) -> None:
    m = linear_gaussian

    def p(trace: Trace) -> None:
        z = trace.sample("z", m.prior())
        trace.sample("x", m.decoder(z))

    def q(trace: Trace) -> Tensor:
        posterior: Distribution = m.posterior(trace["x"])
        return trace.sample("z", posterior)

    torch.testing.assert_close(elbo(p, q, {"x": m.x}), m.log_prob(m.x), atol=1e-10, rtol=1e-10)

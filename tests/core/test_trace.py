"""One run of a model: what is given is scored, all else is drawn, and every log-density is (*particles, batch)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Independent, Normal

from ancestral import (
    AncestralError,
    AncestralSampling,
    Enumerate,
    EstimatorError,
    GraphError,
    Joint,
    Reparameterized,
    ShapeError,
    Trace,
    bernoulli,
    elbo,
    expectation,
    linear,
    normal,
    run,
    standard_normal,
)


@pytest.fixture
def p() -> Joint:
    return Joint({"z": standard_normal(3), "x | z": normal(linear(3, 10))})


def test_ancestral_sampling_draws_every_variable(p: Joint) -> None:
    trace = run(p, shape=(2, 7))
    assert trace.drawn == ["z", "x"]
    assert trace["z"].shape == (2, 7, 3)
    assert trace["x"].shape == (2, 7, 5)
    assert trace.log_prob().shape == (2, 7)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_every_log_density_has_the_shape_of_the_run(shape: list[int]) -> None:
    model = Joint({"z": standard_normal(3), "x | z": bernoulli(linear(3, 5))})
    trace = run(model, shape=tuple(shape))
    assert {site.log_prob.shape for site in trace.sites.values()} == {torch.Size(shape)}


def test_one_draw_needs_no_shape(p: Joint) -> None:
    trace = run(p)
    assert trace["x"].shape == (5,)
    assert trace.log_prob().shape == ()


def test_a_given_value_is_scored_and_not_drawn(p: Joint) -> None:
    x = torch.randn(7, 5)
    trace = run(p, {"x": x}, (2, 7))
    assert trace.drawn == ["z"]
    assert trace.given == {"x"}
    assert trace["x"] is x
    expected = p.conditionals["x"](trace["z"]).log_prob(x)
    assert torch.equal(trace.sites["x"].log_prob, expected)


def test_replaying_a_trace_scores_the_same_values(p: Joint) -> None:
    first = run(p, shape=(2, 7))
    again = run(p, first.values, (2, 7))
    assert again.drawn == []
    torch.testing.assert_close(again.log_prob(), first.log_prob())


def test_scoring_one_variable_leaves_the_others_alone(p: Joint) -> None:
    trace = run(p, shape=(7,))
    torch.testing.assert_close(trace.log_prob(["z"]) + trace.log_prob(["x"]), trace.log_prob())
    torch.testing.assert_close(trace.log_prob(["z"]), Normal(0.0, 1.0).log_prob(trace["z"]).sum(-1))


def test_a_distribution_without_particles_is_drawn_once_per_particle() -> None:
    trace = run(Joint({"z": standard_normal(3)}), shape=(11, 7))
    assert trace["z"].flatten().unique().numel() == 11 * 7 * 3


@pytest.mark.parametrize("particles", [1, 2])
def test_a_distribution_of_batch_size_one_does_not_share_one_draw(particles: int) -> None:
    conditional = lambda: Independent(Normal(torch.zeros(1, 3), 1.0), 1)  # noqa: E731
    trace = run(Joint({"z": conditional}), shape=(particles, 7))
    assert trace["z"].shape == (particles, 7, 3)
    assert trace["z"].flatten().unique().numel() == particles * 7 * 3
    value = expectation(
        lambda t: t["z"].sum(-1),
        Joint({"z | x": lambda x: conditional()}),
        {"x": torch.zeros(7, 5)},
        particles,
    )
    assert value.unique().numel() == 7


def test_a_batch_of_one_and_one_particle_are_no_special_case(p: Joint) -> None:
    q = Joint({"z | x": normal(linear(5, 6))})
    for batch in (1, 2, 7):
        for particles in (1, 2):
            assert elbo(p, q, {"x": torch.randn(batch, 5)}, particles).shape == (batch,)


def test_a_deterministic_variable_is_a_tensor_and_has_no_density() -> None:
    p = Joint({"z": standard_normal(3), "h | z": lambda z: 2 * z, "x | h": normal(linear(3, 10))})
    trace = run(p, shape=(2, 7))
    assert torch.equal(trace["h"], 2 * trace["z"])
    assert list(trace.sites) == ["z", "x"]
    replay = run(p, trace.values, (2, 7))
    torch.testing.assert_close(replay.log_prob(), trace.log_prob())


def test_several_parents_of_particles_and_of_the_batch_alone_meet() -> None:
    p = Joint({"z": standard_normal(3), "x | z, y": bernoulli(linear(3 + 2, 5))})
    q = Joint({"z | x, y": normal(linear(5 + 2, 6))})
    given = {"x": torch.ones(7, 5), "y": torch.randn(7, 2)}
    assert elbo(p, q, given, particles=11).shape == (7,)


def test_forgetting_independent_names_the_variable_and_the_cure() -> None:
    p = Joint({"z": standard_normal(3), "x | z": lambda z: Normal(z @ torch.ones(3, 5), 1.0)})
    with pytest.raises(
        ShapeError, match=r"(?s)distribution of 'x' \(Normal\) has batch shape \(2, 7, 5\).*Independent"
    ):
        run(p, shape=(2, 7))


@pytest.mark.parametrize("particles", [1, 2, 5])
def test_forgetting_independent_in_q_is_an_error_for_any_batch_and_any_number_of_features(
    particles: int,
) -> None:
    p = Joint({"z": standard_normal(3), "x | z": bernoulli(linear(3, 5))})
    for batch in (2, 3, 7):
        if batch == particles:
            continue
        q = Joint({"z | x": lambda x: Normal(x[:, :3], 1.0)})
        with pytest.raises(ShapeError, match="distribution of 'z'"):
            elbo(p, q, {"x": torch.ones(batch, 5)}, particles)


def test_a_log_density_of_a_wrong_shape_names_the_variable_and_the_cure() -> None:
    class Careless(Normal):
        def log_prob(self, value: Tensor) -> Tensor:
            return super().log_prob(value).unsqueeze(-1).expand(7, 5)

    trace = run(Joint({"z": lambda: Careless(0.0, 1.0)}), shape=(7,))
    with pytest.raises(ShapeError, match=r"log p\(z\) has shape \(7, 5\).*\(7,\)"):
        trace.log_prob()


def test_a_wrong_number_of_features_is_an_error_where_broadcasting_would_hide_it() -> None:
    p = Joint({"z": standard_normal(3), "x | z": bernoulli(linear(3, 5))})
    q = Joint({"z | x": lambda x: Independent(Normal(torch.zeros(len(x), 3), 1.0), 1)})
    for wrong in (torch.ones(7, 1), torch.ones(5, 1, 1)):
        with pytest.raises(ShapeError, match=r"given value of 'x'.*expects \(batch, \*event\)"):
            elbo(p, q, {"x": wrong})
    with pytest.raises(ShapeError, match=r"value of 'x'.*does not end in the event shape \(5,\).*number of features"):
        run(p, {"x": torch.ones(7, 1)}, (7,)).log_prob()


def test_data_without_the_features_are_an_error_even_where_the_batch_has_their_size() -> None:
    p = Joint({"z": standard_normal(3), "x | z": bernoulli(linear(3, 5))})
    q = Joint({"z | x": lambda x: Independent(Normal(torch.zeros(len(x), 3), 1.0), 1)})
    with pytest.raises(ShapeError, match=r"given value of 'x' has shape \(5,\)"):
        elbo(p, q, {"x": torch.ones(5)})


def test_labels_with_a_stray_dimension_are_an_error_even_where_particles_and_batch_agree() -> None:
    p = Joint({"z": standard_normal(3), "y | z": lambda z: Categorical(logits=z)})
    q = Joint({"z | y": lambda y: Independent(Normal(torch.zeros(len(y), 3), 1.0), 1)})
    with pytest.raises(ShapeError, match=r"given value of 'y' has shape \(5, 1\)"):
        elbo(p, q, {"y": torch.zeros(5, 1, dtype=torch.long)}, particles=5)


def test_reading_a_variable_too_early_names_what_is_known() -> None:
    with pytest.raises(GraphError, match=r"'latnt' was read before it was drawn.*Did you mean 'latent'\?"):
        Trace((7,), {"latent": torch.zeros(7, 3)})["latnt"]


def test_a_conditional_that_returns_something_else_is_an_error() -> None:
    with pytest.raises(AncestralError, match="conditional of 'z' returned a float"):
        run(Joint({"z": lambda: 1.0}), shape=(7,))


@pytest.mark.parametrize("deterministic", [False, True])
def test_sampling_a_name_twice_is_an_error(deterministic: bool) -> None:
    def model(trace: Trace) -> None:
        for _ in range(2):
            trace.sample("z", torch.zeros(7, 3) if deterministic else standard_normal(3)())

    with pytest.raises(GraphError, match="'z' was sampled twice"):
        run(model, shape=(7,))


class Canvas(nn.Module):
    """A tiny model with a state between its latents: z_t adds to a canvas, and the canvas explains x."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps, self.write = steps, linear(3, 5)

    def forward(self, trace: Trace) -> None:
        canvas = torch.zeros(*trace.shape, 5)
        for t in range(self.steps):
            canvas = canvas + self.write(trace.sample(f"z{t}", standard_normal(3)()))
        trace.sample("x", Independent(Bernoulli(logits=canvas), 1))


class Reader(nn.Module):
    """Its posterior: each z_t looks at x and at what was drawn before."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps, self.read = steps, normal(linear(5 + 3, 6))

    def forward(self, trace: Trace) -> None:
        state = torch.zeros(*trace.shape, 3)
        for t in range(self.steps):
            state = trace.sample(f"z{t}", self.read(trace["x"], 0.3 * torch.tanh(state)))


def test_a_model_with_a_state_is_an_ordinary_loop() -> None:
    torch.manual_seed(0)
    p, q = Canvas(4), Reader(4)
    with torch.no_grad():
        for w in [*p.parameters(), *q.parameters()]:
            w.mul_(0.3)
    x = torch.randint(2, (7, 5)).float()
    sampled = elbo(p, q, {"x": x}, particles=20_000)
    closed = elbo(p, q, {"x": x}, particles=20_000, analytic_kl=["z0", "z1", "z2", "z3"])
    assert sampled.shape == closed.shape == (7,)
    torch.testing.assert_close(sampled, closed, atol=0.06, rtol=0.0)
    closed.sum().backward()
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in [*p.parameters(), *q.parameters()])
    assert run(p, shape=(2, 7))["x"].shape == (2, 7, 5)


def test_a_run_draws_without_gradient_and_scores_with_it(p: Joint) -> None:
    trace = run(p, shape=(7,))
    assert not trace["x"].requires_grad
    assert trace.log_prob().requires_grad


def test_learning_by_plain_sampling_is_an_error() -> None:
    p = Joint({"z": standard_normal(3), "x | z": bernoulli(linear(3, 5))})
    q = Joint({"z | x": normal(linear(5, 6))})
    with pytest.raises(EstimatorError, match="'z' was drawn by AncestralSampling, which passes no gradient"):
        elbo(p, q, {"x": torch.ones(7, 5)}, estimators=AncestralSampling())
    with pytest.raises(EstimatorError, match="'z' was drawn by AncestralSampling"):
        expectation(lambda t: t["z"].sum(-1), q, {"x": torch.ones(7, 5)}, estimators=AncestralSampling())


def test_evaluating_by_plain_sampling_is_allowed() -> None:
    p = Joint({"h": lambda: Independent(Bernoulli(logits=torch.zeros(3)), 1), "x | h": bernoulli(linear(3, 5))})
    q = Joint({"h | x": bernoulli(linear(5, 3))})
    with torch.no_grad():
        value = elbo(p, q, {"x": torch.ones(7, 5)}, 20_000, estimators=AncestralSampling())
        torch.testing.assert_close(
            value, elbo(p, q, {"x": torch.ones(7, 5)}, estimators=Enumerate()), atol=0.05, rtol=0
        )


def test_plain_sampling_from_what_has_no_parameters_keeps_the_model_s_gradient() -> None:
    p = Joint({"z": standard_normal(3), "x | z": bernoulli(linear(3, 5))})
    q = Joint({"z | x": lambda x: Independent(Normal(torch.zeros(len(x), 3), 2.0), 1)})
    gradients = []
    for estimator in (AncestralSampling(), Reparameterized()):
        torch.manual_seed(3)
        value = elbo(p, q, {"x": torch.ones(7, 5)}, estimators=estimator).sum()
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(value, list(p.parameters()))]))
    assert torch.equal(*gradients)


def test_densities_are_computed_when_asked_for_and_once() -> None:
    calls: list[int] = []

    class Counting(Normal):
        def log_prob(self, value: Tensor) -> Tensor:
            calls.append(1)
            return super().log_prob(value)

    trace = run(Joint({"z": lambda: Counting(0.0, 1.0)}), shape=(7,))
    assert not calls
    first = trace.log_prob()
    assert trace.log_prob() is first
    assert len(calls) == 1
    assert first[0].item() == pytest.approx(-0.5 * trace["z"][0].item() ** 2 - 0.5 * math.log(2 * math.pi), abs=1e-5)


def test_a_value_that_the_model_does_not_know_is_an_error() -> None:
    p = Joint({"z": standard_normal(3), "x | z, y": lambda z, y: Independent(Normal(z, y), 1)})
    y = torch.ones(7, 3)
    assert run(p, {"y": y}, (7,)).unused == []
    with pytest.raises(GraphError, match=r"'zz'.*neither samples nor is conditioned on.*z"):
        run(p, {"y": y, "zz": y}, (7,))
    declared = Joint({"z": standard_normal(3)}, given=["y"])
    assert run(declared, {"y": y}, (7,)).unused == ["y"]  # no conditional reads it, but it is the joint's own

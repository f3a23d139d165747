"""Estimators compared: the reference is the gradient, a bias is found where there is one, and variances are right."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from ancestral import Joint, LatentVariableModel, bernoulli, expectation, linear, mlp, normal, standard_normal
from ancestral.configs import EstimatorSettings
from ancestral.configs.estimation import EstimatorName
from ancestral.core import Cost, Site
from ancestral.distributions import bernoulli_bias, one_hot, one_hot_bias
from ancestral.errors import AncestralError
from ancestral.estimators import GumbelSoftmax, LikelihoodRatio, Reparameterized, StraightThrough
from ancestral.evaluation.gradients import (
    Problem,
    Reference,
    bound_of,
    by_name,
    compare_estimators,
    one_bernoulli,
    own_estimators,
    two_layers,
)

NAMES = get_args(EstimatorName)


def named(problem: Problem, *names: str) -> dict[str, Callable[[], Any]]:
    return {name: partial(by_name, problem, name) for name in names}


def bits(probabilities: list[float], cost: Callable[[Tensor], Tensor], particles: int = 2) -> Problem:
    """E[cost(b)] of independent bits."""
    q = Joint({"b": bernoulli_bias(len(probabilities))}).double()
    with torch.no_grad():
        next(q.parameters()).copy_(torch.tensor(probabilities, dtype=torch.float64).logit())
    given = {"x": torch.zeros(1, 1, dtype=torch.float64)}

    def loss(estimators: Any, count: int) -> Tensor:
        return expectation(lambda trace: cost(trace["b"]), q, given, count, estimators)

    return Problem("bits", loss, q, given, particles)


def variational_autoencoder(objective: Any = "elbo", particles: int = 1) -> LatentVariableModel:
    torch.manual_seed(3)
    p = Joint({"z": standard_normal(3), "x | z": bernoulli(mlp(3, 5, 7))})
    q = Joint({"z | x": normal(linear(7, 2 * 3))})
    return LatentVariableModel(p, q, objective, particles=particles).double()


# ---- the gradient itself


def test_the_gradient_of_one_bernoulli_variable_is_the_closed_form() -> None:
    target, mean = 0.31, 0.23
    comparison = compare_estimators(one_bernoulli(target, mean), {}, draws=4)
    assert comparison.reference.exact
    assert comparison.reference.standard_error == 0
    assert comparison.target == pytest.approx(mean * (1 - mean) * (1 - 2 * target), rel=1e-12)


def test_the_exact_gradient_of_a_belief_net_is_that_of_its_bound() -> None:
    problem = two_layers(seed=5)
    comparison = compare_estimators(problem, named(problem, "enumerate"), draws=4)
    (measured,) = comparison.measured
    assert comparison.reference.exact
    assert measured.variance == pytest.approx(0, abs=1e-20)
    assert not measured.biased
    assert comparison.target == pytest.approx(comparison.reference.gradient.norm().item())


def test_what_is_too_large_to_be_summed_is_drawn_and_agrees_with_the_closed_form() -> None:
    probabilities = [0.1 + 0.05 * i for i in range(13)]  # 2^13 values
    problem = bits(probabilities, lambda b: b.sum(-1).square())
    reference = compare_estimators(problem, {}, draws=100).reference
    p = torch.tensor(probabilities, dtype=torch.float64)
    exact = p * (1 - p) * (1 + 2 * (p.sum() - p))
    assert not reference.exact
    assert reference.draws >= 800
    assert reference.estimators == "LikelihoodRatio"
    assert 0 < (reference.gradient - exact).norm() < 2 * reference.standard_error


def test_a_drawn_reference_does_not_make_an_unbiased_estimator_look_biased() -> None:
    problem = bits([0.1 + 0.05 * i for i in range(13)], lambda b: b.sum(-1).square())
    for seed in range(3):
        (measured,) = compare_estimators(problem, named(problem, "rloo"), draws=100, seed=seed).measured
        assert not measured.biased


def test_a_variable_that_can_be_summed_over_beside_a_continuous_one_is() -> None:
    torch.manual_seed(3)
    p = Joint({"y": one_hot_bias(3), "z": standard_normal(2), "x | y, z": bernoulli(mlp(5, 7))})
    q = Joint({"y | x": one_hot(linear(7, 3)), "z | x, y": normal(linear(10, 4))})
    problem = bound_of(LatentVariableModel(p, q).double(), torch.ones(2, 7, dtype=torch.float64))
    reference = compare_estimators(problem, {}, draws=4).reference
    assert reference.estimators == "Enumerate and Reparameterized"
    assert list(by_name(problem, "muprop")) == ["y"]  # type: ignore[arg-type]


# ---- bias


def test_no_estimator_that_promises_to_be_unbiased_shows_a_bias_and_relaxations_do() -> None:
    problem = two_layers()
    comparison = compare_estimators(problem, named(problem, *NAMES, "reparameterized"), draws=200, fit=10)
    biased = {one.name for one in comparison.measured if one.biased}
    assert {one.name for one in comparison.measured if one.unbiased} & biased == set()
    assert {"straight-through", "straight-through-gumbel-softmax", "darn", "nvil"} <= biased
    assert comparison.unfit.keys() == {"vimco", "reparameterized"}
    assert "use --estimator rloo" in comparison.unfit["vimco"]
    assert "can't be reparameterized" in comparison.unfit["reparameterized"]


def test_the_bias_of_straight_through_is_that_of_the_closed_form() -> None:
    target, mean = 0.31, 0.23
    problem = one_bernoulli(target, mean)
    (measured,) = compare_estimators(problem, {"st": StraightThrough}, draws=1000).measured
    slope = mean * (1 - mean)
    exact = 2 * (mean - target) * slope - slope * (1 - 2 * target)
    assert measured.biased
    assert abs(measured.bias - exact) < 4 * measured.bias_error
    assert measured.bias_error < abs(exact) / 10


def test_a_bias_at_right_angles_to_the_gradient_is_found() -> None:
    class Leaning(LikelihoodRatio):
        """Adds 0.3 to the gradient of the second logit."""

        def term(self, site: Site, cost: Cost) -> Tensor | None:
            term = super().term(site, cost)
            assert term is not None
            logits: Tensor = site.distribution.logits  # type: ignore[attr-defined]
            return term + 0.3 * logits[..., 1]

    problem = bits([0.3, 0.4], lambda b: b[..., 0])
    leaning, upright = compare_estimators(problem, {"leaning": Leaning, "upright": LikelihoodRatio}).measured
    assert leaning.biased
    assert abs(leaning.bias - 0.3) < 4 * leaning.bias_error
    assert not upright.biased


def test_an_estimator_has_the_settings_asked_for_and_its_schedule_the_epoch_of_the_problem() -> None:
    settings = EstimatorSettings("gumbel-softmax", 7, temperature=2.0, temperature_rate=0.5, temperature_end=0.3)
    for epoch, expected in ((0.0, 2.0), (1.0, 2.0 * math.exp(-0.5)), (9.0, 0.3)):
        made = by_name(dataclasses.replace(one_bernoulli(), epoch=epoch), settings)
        assert isinstance(made, dict)
        assert made["b"].temperature == pytest.approx(expected)


def test_the_estimators_of_a_model_are_copied_with_what_they_have_learned() -> None:
    assert isinstance(own_estimators(variational_autoencoder()), Reparameterized)
    p = Joint({"z": bernoulli_bias(3), "x | z": bernoulli(linear(3, 7))})
    learned = GumbelSoftmax("learned", start=0.7)
    model = LatentVariableModel(p, Joint({"z | x": bernoulli(linear(7, 3))}), estimators={"z": learned})
    own = own_estimators(model)
    assert isinstance(own, dict)
    assert own["z"].log_temperature.item() == learned.log_temperature.item()
    compare_estimators(bound_of(model, torch.ones(3, 7)), {"own": lambda: own}, draws=4, fit=3)
    assert own["z"].log_temperature.item() != learned.log_temperature.item()  # fitted apart from the model


# ---- variance, and what else is measured


def test_the_variance_of_the_likelihood_ratio_is_that_of_the_closed_form() -> None:
    target, mean = 0.31, 0.23
    problem = one_bernoulli(target, mean, particles=1)
    (measured,) = compare_estimators(problem, named(problem, "reinforce"), draws=3000).measured
    one, zero = (1 - target) ** 2, target**2
    square = mean * ((1 - mean) * one) ** 2 + (1 - mean) * (mean * zero) ** 2
    exact = square - (mean * (1 - mean) * (one - zero)) ** 2
    assert measured.variance == pytest.approx(exact, rel=0.1)
    assert measured.cost == measured.variance * measured.seconds
    assert 0 < measured.seconds < 1


def test_variances_add_over_parameters_and_fall_with_particles() -> None:
    variances = []
    for probabilities, particles in (([0.3], 2), ([0.3, 0.3, 0.3], 2), ([0.3], 6)):
        problem = bits(probabilities, lambda b: b.sum(-1), particles)
        (measured,) = compare_estimators(problem, {"plain": lambda: LikelihoodRatio(0.0)}, draws=2000).measured
        variances.append(measured.variance)
        assert measured.parameters == len(probabilities)
    assert variances[1] > 3 * variances[0]  # the cost holds the other bits too
    assert variances[2] == pytest.approx(variances[0] / 3, rel=0.2)


def test_the_draws_are_told_along_the_gradient() -> None:
    problem = two_layers()
    comparison = compare_estimators(problem, named(problem, "muprop"), draws=101)
    (measured,) = comparison.measured
    assert len(measured.along) == 101
    mean = sum(measured.along) / 101
    error = torch.tensor(measured.along).std().item() / math.sqrt(101)
    assert abs(mean - comparison.target) < 4 * error


def test_a_continuous_variable_is_compared_too() -> None:
    problem = bound_of(variational_autoencoder(), torch.ones(3, 7, dtype=torch.float64))
    comparison = compare_estimators(problem, named(problem, "reparameterized", "rloo", "muprop", "disarm"), draws=100)
    through, ratio, taylor = comparison.measured
    assert comparison.reference.estimators == "Reparameterized"
    assert not any(one.biased for one in comparison.measured)
    assert through.variance < min(taylor.variance, ratio.variance)
    assert "DisARM is for Bernoulli variables" in comparison.unfit["disarm"]


def test_under_the_importance_weighted_bound_the_reference_has_as_many_particles() -> None:
    problem = bound_of(variational_autoencoder("iwae", 5), torch.ones(3, 7, dtype=torch.float64), particles=5)
    comparison = compare_estimators(problem, named(problem, "vimco", "rloo", "reparameterized", "muprop"), draws=60)
    assert comparison.reference.particles == 5
    assert [one.name for one in comparison.measured] == ["vimco", "reparameterized"]
    assert not any(one.biased for one in comparison.measured)
    assert "--estimator vimco" in comparison.unfit["rloo"]
    assert "plain expectation" in comparison.unfit["muprop"]


def test_what_an_estimator_learns_is_fitted_before_it_is_measured() -> None:
    problem = one_bernoulli(0.499, 0.3)
    raw, fitted = (
        compare_estimators(problem, named(problem, "relax"), draws=100, fit=fit).measured[0] for fit in (0, 100)
    )
    assert fitted.variance < raw.variance / 2


def test_more_particles_than_the_memory_holds_are_refused_before_they_are_drawn() -> None:
    names = ("reinforce", "gumbel-softmax", "enumerate")
    problem = one_bernoulli(particles=10**12)
    compared = compare_estimators(problem, {name: partial(by_name, problem, name) for name in names}, 4, 0)
    assert not compared.measured
    words = r"particles is 1,000,000,000,000, .* takes about \S+ GB, and \S+ are free"
    assert all(re.search(words, compared.unfit[name]) for name in names)


def test_the_same_seed_measures_the_same_and_the_random_stream_is_left_alone() -> None:
    problem = two_layers()
    before = torch.get_rng_state()
    first, second, other = (
        compare_estimators(problem, named(problem, "nvil"), draws=6, fit=3, seed=seed).measured[0].along
        for seed in (7, 7, 8)
    )
    assert first == second != other
    assert torch.equal(before, torch.get_rng_state())


def test_the_half_of_a_drawn_reference_that_finds_a_direction_is_not_the_one_that_tests_it() -> None:
    first, second = torch.tensor([1.0, 0.0]), torch.tensor([[0.0, 2.0], [0.0, 4.0]])
    reference = Reference(10, "LikelihoodRatio", 2, first, second)
    assert reference.along(torch.tensor([0.0, 1.0])) == (3.0, 1.0)
    assert reference.gradient.tolist() == [0.5, 1.5]


# ---- errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare_estimators(one_bernoulli(), {}, draws=3), "draws is 3"),
        (lambda: compare_estimators(one_bernoulli(), {}, fit=-1), "fit is -1"),
        (lambda: one_bernoulli(mean=1.0), "mean is 1"),
        (lambda: one_bernoulli(mean=math.nan), "mean is nan"),
        (lambda: one_bernoulli(target=math.inf), "target is inf"),
        (lambda: by_name(one_bernoulli(), "mu-prop"), "Did you mean 'muprop'"),
        (lambda: by_name(one_bernoulli(), "nvil"), "has no parents"),
        (
            lambda: compare_estimators(
                bound_of(LatentVariableModel(Joint({"z": standard_normal(2), "x | z": bernoulli(linear(2, 3))}),
                                             Joint({"z": standard_normal(2)})), torch.ones(2, 3)),
                {"reparameterized": Reparameterized},
            ),
            "no parameters",
        ),
    ],
)  # fmt: skip
def test_what_can_not_be_compared_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(AncestralError, match=message):
        call()

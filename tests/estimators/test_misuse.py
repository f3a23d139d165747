"""Estimators that are no estimators, names that are none, costs without a slope: said in words, or simply right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, OneHotCategoricalStraightThrough, Pareto, Uniform

from ancestral import (
    REBAR,
    AncestralError,
    EstimatorError,
    Joint,
    LatentVariableModel,
    LikelihoodRatio,
    MuProp,
    Trace,
    bernoulli,
    bernoulli_bias,
    expectation,
    linear,
)
from ancestral.configs import CategoricalVAEConfig
from ancestral.distributions.bernoulli import IndependentBernoulli

X = torch.zeros(2003, 1)


def bits(logits: Tensor) -> Joint:
    return Joint({"h | x": lambda x: IndependentBernoulli(logits, 1)})


@pytest.mark.parametrize("wrong", ["muprop", MuProp, {"h": None}, {"h": "rebar"}])
def test_what_is_no_estimator_is_answered_with_one(wrong: Any) -> None:
    with pytest.raises(EstimatorError, match=r"the estimator of 'h' is .*give an estimator, for example"):
        expectation(lambda trace: trace["h"].sum(-1), bits(torch.zeros(2003, 3)), {"x": X}, estimators=wrong)


def test_a_misspelled_name_is_told_before_the_variable_lacks_its_estimator() -> None:
    with pytest.raises(EstimatorError, match="given for 'hh', which q does not draw"):
        expectation(lambda trace: trace["h"].sum(-1), bits(torch.zeros(2003, 3)), {"x": X}, estimators={"hh": MuProp()})


@pytest.mark.parametrize("reduction", ["sum", None])
def test_an_unknown_reduction_is_answered_with_those_that_are_known(reduction: Any) -> None:
    with pytest.raises(AncestralError, match=f"reduction is {reduction!r}, but .* by 'mean' or 'log-mean-exp'"):
        expectation(lambda trace: trace["h"].sum(-1), bits(torch.zeros(2003, 3)), {"x": X}, reduction=reduction)


def test_torch_s_straight_through_variable_is_not_taken_for_a_reparameterizable_one() -> None:
    def conditional(x: Tensor) -> Distribution:
        return OneHotCategoricalStraightThrough(logits=torch.zeros(2003, 3))

    with pytest.raises(EstimatorError, match="'y' is a OneHotCategoricalStraightThrough, which can't be reparam"):
        expectation(lambda trace: trace["y"].sum(-1), Joint({"y | x": conditional}), {"x": X})


@pytest.mark.parametrize("estimator", [REBAR(learned=False), REBAR()])
def test_rebar_refuses_a_cost_without_a_slope(estimator: Any) -> None:
    def cost(trace: Trace) -> Tensor:
        return (trace["h"] > 0.5).to(torch.float32).sum(-1)

    logits = torch.zeros(2003, 1, requires_grad=True)
    with pytest.raises(EstimatorError, match="the cost has no slope in 'h', but REBAR needs one"):
        expectation(cost, bits(logits), {"x": X}, estimators=estimator)


def test_muprop_learns_from_the_values_of_a_cost_without_a_slope() -> None:
    torch.manual_seed(0)
    logits = torch.full((2003, 1), 0.4, requires_grad=True)

    def cost(trace: Trace) -> Tensor:
        return (trace["h"] > 0.5).to(torch.float32).sum(-1)

    value = expectation(cost, bits(logits), {"x": X}, estimators=MuProp())
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    exact = torch.sigmoid(logits) * torch.sigmoid(-logits)
    z_score = (gradient - exact).mean() / (gradient.std() / 2003**0.5)
    assert z_score.abs() < 4


def test_free_bits_are_refused_beside_an_estimator_that_would_not_see_them() -> None:
    p = Joint({"h": bernoulli_bias(3), "x | h": bernoulli(linear(3, 5))})
    q = Joint({"h | x": bernoulli(linear(5, 3))})
    with pytest.raises(AncestralError, match="free_bits changes the cost after the estimators have seen it"):
        LatentVariableModel(p, q, estimators=LikelihoodRatio(), particles=2, analytic_kl=["h"], free_bits=0.5)


def test_particles_have_no_effect_where_everything_is_summed() -> None:
    with pytest.raises(AncestralError, match="particles is 5, which has no effect with the estimator enumerate"):
        CategoricalVAEConfig(estimator="enumerate", latents=2, classes=3, particles=5)


@pytest.mark.parametrize("estimator", [LikelihoodRatio(None), MuProp()], ids=["likelihood ratio", "MuProp"])
def test_a_limit_of_the_support_that_is_learned_is_seen_by_the_path_alone(estimator: Any) -> None:
    limit = torch.full((2003,), 2.0, requires_grad=True)

    def square(q: Joint, estimator: Any) -> Tensor:
        return expectation(lambda trace: trace["z"].flatten(-1).square().sum(-1), q, {"x": X}, 1, estimator)

    def uniform(limit: Tensor) -> Joint:
        return Joint({"z | x": lambda x: Independent(Uniform(torch.zeros(2003, 1), limit.unsqueeze(-1)), 1)})

    with pytest.raises(EstimatorError, match="the support of 'z', a Uniform, has a limit that is learned"):
        square(uniform(limit), estimator)
    square(uniform(limit.detach()), estimator)
    torch.manual_seed(0)
    (slope,) = torch.autograd.grad(square(uniform(limit), None).sum(), limit)
    assert slope.mean().item() == pytest.approx(2 * 2 / 3, abs=0.1)  # of limit² / 3
    with pytest.raises(EstimatorError, match="the support of 'z', a Pareto"):
        expectation(lambda trace: trace["z"], Joint({"z | x": lambda x: Pareto(limit, 3.0)}), {"x": X}, 1, estimator)

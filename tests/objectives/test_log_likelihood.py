"""Maximum likelihood where nothing is hidden: exact, and refused where something is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from ancestral import GraphError, Joint, ShapeError, Trace, bernoulli, linear, log_likelihood, normal, standard_normal


def test_it_is_the_sum_of_the_log_densities_of_all_variables(linear_gaussian: Any) -> None:
    m, z = linear_gaussian, torch.randn(7, 3, dtype=torch.float64)
    wanted = Normal(m.m, m.s).log_prob(z).sum(-1) + Normal(z @ m.W.T + m.b, m.sigma).log_prob(m.x).sum(-1)
    torch.testing.assert_close(log_likelihood(m.p, {"z": z, "x": m.x}), wanted)


def test_what_the_model_is_conditioned_on_has_no_density() -> None:
    torch.manual_seed(0)
    network = linear(3, 5)
    p = Joint({"h | c": network, "x | h": lambda h: Independent(Bernoulli(logits=h), 1)})
    c, x = torch.randn(7, 3), torch.randint(2, (7, 5)).float()
    wanted = Bernoulli(logits=network(c)).log_prob(x).sum(-1)
    torch.testing.assert_close(log_likelihood(p, {"c": c, "x": x}), wanted)


def test_the_masses_of_all_values_sum_to_one() -> None:
    torch.manual_seed(0)
    p = Joint({"y": lambda: Independent(Bernoulli(torch.tensor([0.3, 0.9])), 1), "x | y": bernoulli(linear(2, 3))})
    everything = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 5)
    value = log_likelihood(p, {"y": everything[:, :2], "x": everything[:, 2:]})
    assert value.exp().sum().item() == pytest.approx(1.0, abs=1e-6)


def test_its_maximum_is_that_of_least_squares() -> None:
    torch.manual_seed(0)
    c = torch.randn(101, 3, dtype=torch.float64)
    x = c @ torch.randn(3, 2, dtype=torch.float64) + torch.randn(101, 2, dtype=torch.float64)
    weight = torch.linalg.lstsq(c, x).solution.requires_grad_()
    p = Joint({"x | c": lambda c: Independent(Normal(c @ weight, 0.7), 1)})
    (gradient,) = torch.autograd.grad(log_likelihood(p, {"c": c, "x": x}).sum(), weight)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-9, rtol=0)


def test_the_whole_set_is_rows_times_the_mean_of_the_mean_over_minibatches() -> None:
    torch.manual_seed(0)
    p = Joint({"x": lambda: Independent(Normal(torch.tensor([0.3, -1.1]), 0.7), 1)})
    x = torch.randn(21, 2)
    whole = log_likelihood(p, {"x": x}).sum()
    parts = [21 * log_likelihood(p, {"x": part}).mean() for part in x.split(3)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_there_is_one_value_per_datapoint_though_the_model_has_no_parents(rows: int) -> None:
    assert log_likelihood(Joint({"x": standard_normal(5)}), {"x": torch.randn(rows, 5)}).shape == (rows,)


def test_a_model_with_a_state_will_do() -> None:
    def walk(trace: Trace) -> None:
        position: Tensor = torch.zeros(1)
        for name in ("a", "b", "c"):
            step: Distribution = Normal(position, 0.5)
            position = trace.sample(name, step)

    given = {"a": torch.ones(7), "b": torch.ones(7), "c": torch.zeros(7)}
    wanted = Normal(0.0, 0.5).log_prob(torch.tensor([1.0, 0.0, 1.0])).sum()
    torch.testing.assert_close(log_likelihood(walk, given), wanted.expand(7))


def test_a_hidden_variable_is_an_error_that_names_the_bounds() -> None:
    p = Joint({"z": standard_normal(3), "x | z": normal(linear(3, 10))})
    with pytest.raises(GraphError, match=r"no value is given for 'z'.*elbo or iwae"):
        log_likelihood(p, {"x": torch.ones(7, 5)})


def test_a_value_of_another_shape_or_of_an_unknown_name_is_an_error() -> None:
    p = Joint({"x": standard_normal(5)})
    with pytest.raises(ShapeError, match=r"has shape \(5,\)"):
        log_likelihood(p, {"x": torch.ones(5)})
    with pytest.raises(GraphError, match="a value is given for 'label', which the model neither samples nor"):
        log_likelihood(p, {"x": torch.ones(7, 5), "label": torch.ones(7)})

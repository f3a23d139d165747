"""What latent variables say of the data: against sums, integrals and closed forms."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal

from ancestral import Joint, LatentVariableModel, Trace, bernoulli, linear, normal, one_hot, standard_normal
from ancestral.configs import DataConfig
from ancestral.data.dataset import Dataset, Rows
from ancestral.data.loading import assemble
from ancestral.data.raw import Raw
from ancestral.distributions import flow_parameters, flowed
from ancestral.errors import AncestralError, ShapeError
from ancestral.evaluation import information, mutual_information


def noisy(scale: float) -> Joint:
    """q(z | x) = N(x, scale²), of one dimension."""

    def conditional(x: Tensor) -> Distribution:
        return Independent(Normal(x, scale), 1)

    return Joint({"z | x": conditional})


def test_of_gaussian_data_and_a_linear_gaussian_q_it_has_a_closed_form() -> None:
    torch.manual_seed(1)
    a = torch.tensor([[1.3, 0.4], [-0.2, 0.7], [0.5, 0.9]], dtype=torch.float64)
    scale = torch.tensor([0.9, 1.1, 1.7], dtype=torch.float64)

    def conditional(x: Tensor) -> Distribution:
        return Independent(Normal(x @ a.T, scale), 1)

    x = torch.randn(4001, 2, dtype=torch.float64) * torch.tensor([1.1, 0.6], dtype=torch.float64)
    covariance = torch.diag(torch.tensor([1.1, 0.6], dtype=torch.float64) ** 2)
    exact = torch.logdet(torch.eye(3, dtype=torch.float64) + a @ covariance @ a.T / scale**2).item() / 2
    (found,) = mutual_information(Joint({"z | x": conditional}), {"x": x}, draws=4001)
    assert (found.parents, found.variables, found.exact) == (("x",), ("z",), False)
    error = found.values.std().item() / math.sqrt(4001)
    assert error < 0.02
    assert abs(found.values.mean().item() - exact) < 3 * error


def test_the_mixture_is_that_of_all_datapoints() -> None:
    torch.manual_seed(2)
    x = torch.tensor([[-1.3], [0.2], [0.4], [1.9], [2.3]], dtype=torch.float64)
    z = torch.linspace(-9, 10, 20_001, dtype=torch.float64)[:, None]
    log_q = Normal(x[:, 0], 0.7).log_prob(z)
    log_aggregate = log_q.logsumexp(1, keepdim=True) - math.log(5)
    integral = torch.trapezoid(log_q.exp() * (log_q - log_aggregate), z, dim=0)
    (found,) = mutual_information(noisy(0.7), {"x": x.repeat(400, 1)}, draws=2000)
    error = found.values.std().item() / math.sqrt(2000)
    assert abs(found.values.mean().item() - integral.mean().item()) < 3 * error


def test_draws_are_of_datapoints_spread_evenly_and_each_is_scored_by_its_own() -> None:
    x = torch.arange(0, 7000, 100.0)[:, None]  # so far apart that each draw tells its datapoint
    (found,) = mutual_information(noisy(0.5), {"x": x}, draws=11)
    torch.testing.assert_close(found.values, torch.full((11,), math.log(70), dtype=torch.float64), rtol=0, atol=1e-9)


def test_a_posterior_that_does_not_look_at_the_data_says_nothing_of_them() -> None:
    def conditional(x: Tensor) -> Distribution:
        return Independent(Normal(0 * x + 0.3, 1.7), 1)

    (found,) = mutual_information(Joint({"z | x": conditional}), {"x": torch.randn(53, 3)})
    torch.testing.assert_close(found.values, torch.zeros(53, dtype=torch.float64), rtol=0, atol=1e-9)


def test_a_posterior_in_training_says_what_it_says_after_training() -> None:
    torch.manual_seed(3)
    q = Joint({"z | x": normal(nn.Sequential(linear(3, 7), nn.Dropout(), linear(7, 4)))})
    x, found = torch.randn(11, 3), []
    for training in (False, True):
        torch.manual_seed(0)
        found += mutual_information(q.train(training), {"x": x})
    torch.testing.assert_close(found[1].values, found[0].values)
    assert all(module.training for module in q.modules())


def test_no_datapoints_are_an_error() -> None:
    with pytest.raises(ShapeError, match="the batch is empty"):
        mutual_information(noisy(0.7), {"x": torch.zeros(0, 1)})


class Tables(nn.Module):
    """q(a, b | x) from tables: three classes, and two bits given class and data."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.a = torch.randn(7, 3, generator=generator, dtype=torch.float64)
        self.b = torch.randn(7, 3, 2, generator=generator, dtype=torch.float64)

    def joint(self) -> Joint:
        def first(x: Tensor) -> Distribution:
            return Categorical(logits=self.a[x])

        def second(x: Tensor, a: Tensor) -> Distribution:
            return Independent(Bernoulli(logits=self.b[x.expand_as(a), a]), 1)

        return Joint({"a | x": first, "b | x, a": second})

    def masses(self) -> Tensor:
        """``[datapoints, 3, 2, 2]``, by hand."""
        bits = torch.sigmoid(self.b)
        masses = torch.zeros(7, 3, 2, 2, dtype=torch.float64)
        for i, j in product(range(2), repeat=2):
            of_first = bits[..., 0] if i else 1 - bits[..., 0]
            of_second = bits[..., 1] if j else 1 - bits[..., 1]
            masses[:, :, i, j] = self.a.softmax(-1) * of_first * of_second
        return masses


def test_of_few_values_it_is_summed() -> None:
    tables = Tables()
    masses = tables.masses()
    first, both = mutual_information(tables.joint(), {"x": torch.arange(7)})
    assert [(one.variables, one.exact) for one in (first, both)] == [(("a",), True), (("a", "b"), True)]
    for found, q in ((first, masses.sum((2, 3))), (both, masses.flatten(1))):
        expected = (q * (q / q.mean(0)).log()).sum(1)
        torch.testing.assert_close(found.values, expected, rtol=0, atol=1e-12)
    assert first.values.mean() < both.values.mean() < math.log(7)


def test_variables_that_have_many_values_together_are_drawn() -> None:
    torch.manual_seed(9)
    q = Joint({"a | x": bernoulli(linear(5, 7)), "b | x, a": bernoulli(Second(linear(5, 5)))})
    first, both = mutual_information(q, {"x": torch.randn(31, 5)})
    assert (first.summed, both.summed) == (True, False)
    assert both.variables == ("a", "b")


class Second(nn.Module):
    """Reads the data alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, a: Tensor) -> Any:
        return self.network(x)


def test_with_the_divergence_of_the_aggregate_it_makes_the_divergence_from_the_prior() -> None:
    torch.manual_seed(4)
    q = Joint({"h | x": bernoulli(linear(5, 3).double())})
    prior = Independent(Bernoulli(torch.tensor([0.2, 0.6, 0.7], dtype=torch.float64)), 1)
    x = torch.randn(11, 5, dtype=torch.float64)
    values = torch.tensor(list(product([0.0, 1.0], repeat=3)), dtype=torch.float64)
    with torch.no_grad():
        trace = Trace((8, 11), {"x": x, "h": values[:, None].expand(8, 11, 3)})
        q(trace)
    masses = trace.log_prob().exp()
    aggregate = masses.mean(1)
    of_aggregate = (aggregate * (aggregate.log() - prior.log_prob(values))).sum()
    of_each = (masses * (masses.log() - prior.log_prob(values)[:, None])).sum(0).mean()
    (found,) = mutual_information(q, {"x": x})
    torch.testing.assert_close(found.values.mean() + of_aggregate, of_each, rtol=0, atol=1e-12)


def test_a_value_that_is_impossible_for_some_data_adds_nothing() -> None:
    logits = torch.tensor([[-math.inf, 0.0], [0.0, -math.inf]], dtype=torch.float64)

    def conditional(x: Tensor) -> Distribution:
        return Categorical(logits=logits[x], validate_args=False)

    (found,) = mutual_information(Joint({"a | x": conditional}), {"x": torch.arange(2)})
    torch.testing.assert_close(found.values, torch.full((2,), math.log(2), dtype=torch.float64))


def chain() -> Joint:
    """Of q(h2 | h1) nothing reads the data; many units, so that neither layer is summed over."""
    torch.manual_seed(5)
    return Joint({"h1 | x": bernoulli(linear(5, 13)), "h2 | h1": bernoulli(linear(13, 11)), "h3 | h2": normal(Twice())})


class Twice(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return torch.cat([h[..., :2], torch.zeros_like(h[..., :2])], -1)


def test_a_layer_that_does_not_read_the_data_is_put_beside_those_it_reads() -> None:
    found = mutual_information(chain(), {"x": torch.randn(101, 5)}, draws=41)
    assert [(one.parents, one.variables) for one in found] == [
        (("x",), ("h1",)),
        (("h1",), ("h2",)),
        (("h2",), ("h3",)),
    ]
    assert all(len(one.values) == 41 and not one.exact for one in found)


def test_what_is_summed_of_a_layer_given_draws_is_not_called_exact() -> None:
    q = Joint({"h1 | x": bernoulli(linear(5, 3)), "h2 | h1": one_hot(linear(3, 7))})
    first, second = mutual_information(q, {"x": torch.randn(53, 5)})
    assert (first.exact, second.exact, second.summed) == (True, False, True)


def test_a_layer_that_reads_the_data_counts_with_those_before_it() -> None:
    """Given z1, z2 says nothing more: together they say what z1 alone does."""

    def second(x: Tensor, z1: Tensor) -> Distribution:
        return Independent(Normal(2 * z1 + 0 * x, 0.1), 1)

    q = Joint({"z1 | x": noisy(0.7).conditionals["z"], "z2 | x, z1": second})
    x = torch.randn(101, 1, generator=torch.Generator().manual_seed(6))
    alone, both = mutual_information(q, {"x": x})
    assert (alone.variables, both.variables) == (("z1",), ("z1", "z2"))
    torch.testing.assert_close(both.values, alone.values)


def test_a_module_with_state_may_read_the_data_anywhere() -> None:
    class State(nn.Module):
        def forward(self, trace: Trace) -> None:
            trace.sample("z1", Independent(Normal(trace["x"], 0.7), 1))
            trace.sample("z2", Independent(Normal(trace["z1"], 0.7), 1))

    found = mutual_information(State(), {"x": torch.randn(31, 2)})
    assert [(one.parents, one.variables) for one in found] == [(("x",), ("z1",)), (("x",), ("z1", "z2"))]
    torch.testing.assert_close(found[0].values.mean(), found[1].values.mean(), atol=1e-5, rtol=0)


def test_a_flow_whose_density_is_known_at_its_own_draws_alone_is_left_out() -> None:
    q = Joint({"z | x": flowed(linear(5, flow_parameters("planar", 2, 3)), 2, "planar", 3)})
    assert mutual_information(q, {"x": torch.randn(31, 5)}) == []


def test_draws_are_one_or_more() -> None:
    with pytest.raises(AncestralError, match="draws is 0, but at least 1 is needed"):
        mutual_information(noisy(1.0), {"x": torch.randn(3, 1)}, draws=0)


def bits(n: int = 601, **config: float) -> Dataset:
    x = np.random.default_rng(1).integers(0, 2, (n, 5), dtype=np.uint8)
    return assemble("bits", Raw(Rows(x), levels=2), DataConfig(**config))  # type: ignore[arg-type]


def model(units: int = 3) -> LatentVariableModel:
    torch.manual_seed(7)
    p = Joint({"z": standard_normal(units), "x | z": bernoulli(linear(units, 5))})
    return LatentVariableModel(p, Joint({"z | x": normal(linear(5, 2 * units))}))


def test_a_figure_says_what_it_is_a_bound_of_and_how_large_it_can_be() -> None:
    data = bits()
    n = len(data.test)
    one, state = model(), torch.get_rng_state()
    (figure,) = information(one, data)
    assert torch.equal(state, torch.get_rng_state())
    assert (figure.name, figure.unit, figure.kind) == ("mutual information of x and z", "nats", "lower bound")
    assert figure.estimator == f"mixture of q of {n} rows, at most {math.log(n):.2f}, {n} draws"
    assert (figure.datapoints, figure.particles, figure.digest) == (n, n, data.digest("test"))
    assert figure.standard_error is not None
    assert 0 < figure.standard_error < figure.value < math.log(n)
    torch.manual_seed(8)
    assert information(one, data) == [figure]
    assert information(one, data, seed=1)[0].value != figure.value


def test_an_exact_figure_has_no_error() -> None:
    q = Joint({"h | x": bernoulli(linear(5, 3))})
    p = Joint({"h": bernoulli(lambda: torch.zeros(3)), "x | h": bernoulli(linear(3, 5))})
    (figure,) = information(LatentVariableModel(p, q), bits())
    assert (figure.kind, figure.standard_error, figure.particles) == ("exact", None, 0)
    assert figure.estimator.startswith("mixture of q of ")
    assert figure.estimator.endswith(", sum over all values")


def test_there_is_none_where_q_is_p_and_it_needs_rows() -> None:
    p = Joint({"h | y": bernoulli(linear(2, 3)), "x | h": bernoulli(linear(3, 5))})
    assert information(LatentVariableModel(p, p, classes=2), bits()) == []
    with pytest.raises(AncestralError, match="no rows in its validation split"):
        information(model(), bits(validation=0.0), "validation")

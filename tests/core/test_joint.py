"""A joint distribution is the product of its conditionals, over a graph that is checked when it is built."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from ancestral import GraphError, Joint, ShapeError, bernoulli, linear, mlp, normal, run, standard_normal


def unit(*parents: Tensor) -> Independent:
    location = sum((p.sum(-1, keepdim=True) for p in parents), torch.zeros(1)).expand(*parents[0].shape[:-1], 3)
    return Independent(Normal(location, 1.0), 1)


def test_it_prints_as_a_product_of_conditionals() -> None:
    assert str(Joint({"z": standard_normal(3), "x | z": bernoulli(linear(3, 5))})) == "p(x, z) = p(z) p(x | z)"
    assert str(Joint({"z | x": normal(linear(5, 6))})) == "p(z | x) = p(z | x)"
    assert repr(Joint({"z": standard_normal(3), "x | z,y": unit})) == "p(x, z | y) = p(z) p(x | z, y)"


def test_it_knows_its_variables_and_what_it_is_conditioned_on() -> None:
    p = Joint({"x | y, z": unit, "z": standard_normal(3)})
    assert p.variables == ("z", "x")
    assert p.given == ("y",)
    assert p.parents == {"z": (), "x": ("y", "z")}


@given(st.permutations(["a", "b | a", "c | a, b", "d | c", "e | d, a"]))
def test_the_order_of_the_entries_is_free(keys: list[str]) -> None:
    def conditional(key: str) -> Any:
        return standard_normal(3) if "|" not in key else unit

    p = Joint({key: conditional(key) for key in keys})
    trace = run(p, shape=(2, 7))
    assert list(trace.sites) == ["a", "b", "c", "d", "e"]
    total = sum(trace.sites[name].log_prob for name in "abcde")
    torch.testing.assert_close(trace.log_prob(), total)


def test_parents_are_passed_in_the_order_written() -> None:
    p = Joint({"a": standard_normal(2), "b": standard_normal(3), "c | b, a": lambda b, a: torch.cat([b, a], -1)})
    trace = run(p, shape=(7,))
    assert torch.equal(trace["c"], torch.cat([trace["b"], trace["a"]], -1))


def test_its_parameters_are_those_of_its_modules() -> None:
    decoder = bernoulli(linear(3, 5))
    p = Joint({"z": standard_normal(3), "x | z": decoder})
    assert {id(w) for w in p.parameters()} == {id(w) for w in decoder.parameters()}
    assert set(p.state_dict()) == {"networks.x.network.layers.0.weight", "networks.x.network.layers.0.bias"}


def test_an_empty_joint_is_an_error() -> None:
    with pytest.raises(GraphError, match="at least one conditional"):
        Joint({})


def test_a_duplicate_variable_is_an_error_that_names_it() -> None:
    with pytest.raises(GraphError, match="'z' has two conditionals"):
        Joint({"z": standard_normal(3), "z | x": normal(linear(5, 6))})


@pytest.mark.parametrize(
    "key", ["", "x |", "| z", "x | y z", "x y", "x | z,, y", "3x", "x | z | y", "p(x)", "x,y | z", "x | z,"]
)
def test_a_malformed_name_is_an_error_that_shows_the_form(key: str) -> None:
    with pytest.raises(GraphError, match=r'write "x" or "x \| y, z"'):
        Joint({key: unit})


@pytest.mark.parametrize("name", ["values", "type", "training"])
def test_a_name_that_torch_uses_is_an_error(name: str) -> None:
    with pytest.raises(GraphError, match=f"{name!r} is a name that torch's modules use"):
        Joint({name: standard_normal(3)})


def test_a_parent_named_twice_is_an_error() -> None:
    with pytest.raises(GraphError, match="names a parent twice"):
        Joint({"x | z, z": unit})


def test_a_conditional_that_is_not_callable_is_an_error() -> None:
    with pytest.raises(GraphError, match=r"conditional of 'z' is a Tensor, which can't be called"):
        Joint({"z": torch.zeros(3)})


def test_a_variable_can_not_be_its_own_parent() -> None:
    with pytest.raises(GraphError, match="cycle, z <- z"):
        Joint({"z | z": unit})


def test_a_cycle_is_an_error_that_follows_the_arrows() -> None:
    with pytest.raises(GraphError) as error:
        Joint({"a | b": unit, "b | c": unit, "c | a": unit, "d": standard_normal(3)})
    arrows = [f"{x} <- {y} <- {z} <- {x}" for x, y, z in [("a", "b", "c"), ("b", "c", "a"), ("c", "a", "b")]]
    assert any(f"cycle, {arrow}:" in str(error.value) for arrow in arrows)


def test_an_unknown_parent_is_an_error_at_build_when_given_is_declared() -> None:
    with pytest.raises(GraphError, match=r"'x' has the parent 'latnt', .* Did you mean 'latent'\?"):
        Joint({"latent": standard_normal(3), "x | latnt": unit}, given=[])
    assert Joint({"x | y": unit}, given=["y"]).given == ("y",)


def test_a_variable_both_given_and_defined_is_an_error() -> None:
    with pytest.raises(GraphError, match="'z' is both given and defined"):
        Joint({"z": standard_normal(3)}, given=["z"])


def test_an_unknown_parent_is_an_error_at_run_with_the_nearest_name() -> None:
    p = Joint({"latent": standard_normal(3), "x | latnt": unit})
    with pytest.raises(
        GraphError, match=r"'latnt', a parent of 'x', is neither given nor drawn. Did you mean 'latent'\?"
    ):
        run(p, shape=(7,))


def test_forgetting_independent_at_a_root_is_an_error_even_where_the_sizes_agree() -> None:
    for size, shape in itertools.product([7, 2, 3], [(7,), (2, 7), (7, 7)]):
        p = Joint({"z": lambda size=size: Normal(torch.zeros(size), 1.0)})
        with pytest.raises(ShapeError, match=r"p\(z\) has no parents.*\n?.*Independent\(distribution, 1\)"):
            run(p, shape=shape)


def test_modules_and_functions_are_conditionals_alike() -> None:
    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = mlp(3, 5)

        def forward(self, z: Tensor) -> Independent:
            return Independent(Normal(self.network(z), 0.7), 1)

    module = Decoder()
    x, z = torch.randn(7, 5), torch.randn(7, 3)
    first = run(Joint({"x | z": module}), {"x": x, "z": z}, (7,)).log_prob()
    second = run(Joint({"x | z": lambda z: module(z)}), {"x": x, "z": z}, (7,)).log_prob()
    assert torch.equal(first, second)

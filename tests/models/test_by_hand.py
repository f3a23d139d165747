"""Variables set by hand: each way to write a value, and each way to be wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ancestral import (
    AncestralError,
    Joint,
    LatentVariableModel,
    bernoulli,
    categorical,
    linear,
    mlp,
    normal,
    one_hot,
    one_hot_bias,
    standard_normal,
)
from ancestral.configs import DataDescription, SBNConfig
from ancestral.models import sigmoid_belief_net
from ancestral.models.by_hand import set_by_hand


class Logits(nn.Module):
    """A conditional without parents, of parameters alone."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(shape))

    def forward(self) -> Tensor:
        return self.logits


def everything() -> LatentVariableModel:
    """A class, three classes of twelve, an index, and two real numbers: y, c, k, z."""

    def decoder(y: Tensor, c: Tensor, k: Tensor, z: Tensor) -> Any:
        return bernoulli(nn.Identity())((y.sum(-1) + c.sum((-1, -2)) + k + z.sum(-1))[..., None].expand(*k.shape, 7))

    p = Joint({
        "y": one_hot_bias(5), "c": one_hot_bias(3, 12), "k": categorical(Logits(4)), "z": standard_normal(2),
        "x | y, c, k, z": decoder,
    })  # fmt: skip
    q = Joint({
        "y | x": one_hot(linear(7, 5)), "c | x": one_hot(mlp(7, (3, 12)), 1), "k | x": categorical(linear(7, 4)),
        "z | x": normal(linear(7, 4)),
    })  # fmt: skip
    return LatentVariableModel(p, q)


def bits(units: int = 12) -> LatentVariableModel:
    return sigmoid_belief_net(SBNConfig(layers=(units, 2)), DataDescription((7,), "binary", 2))


def labelled(classes: int) -> LatentVariableModel:
    """p(x | z, y): its labels are one-hot, or indices where the number of classes is not known."""
    decoder = linear(2 + classes, 7) if classes else linear(2, 7)
    p = Joint({"z": standard_normal(2), "x | z, y": lambda z, y: bernoulli(decoder)(*((z, y) if classes else (z,)))})
    return LatentVariableModel(p, Joint({"z | x": normal(linear(7, 4))}), classes=classes)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("y=3", F.one_hot(torch.tensor(3), 5).float()),
        ("c=3,0,11", F.one_hot(torch.tensor([3, 0, 11]), 12).float()),
        (" c = 3, 0, 11 ", F.one_hot(torch.tensor([3, 0, 11]), 12).float()),
        ("k=2", torch.tensor(2)),
        ("z=0.5,-1e-3", torch.tensor([0.5, -1e-3])),
    ],
)
def test_a_value_is_written_as_its_kind_asks(word: str, expected: Tensor) -> None:
    name = word.partition("=")[0].strip()
    model = everything()
    values = set_by_hand(model, [word], 11)
    assert values.keys() == {name}
    assert values[name].dtype == expected.dtype
    assert torch.equal(values[name], expected.expand(11, *expected.shape))
    assert model.sample(11, given=values).shape == (11, 7)


@pytest.mark.parametrize(
    ("word", "on"),
    [
        ("h1=010000000001", [1, 11]), ("h1=11", [11]), ("h1=1,11", [1, 11]), ("h1=0", [0]), ("h2=01", [1]),
        ("h2=10", [0]), ("h2=1", [1]), ("h2=0,1", [0, 1]), ("h2=00", []),
    ],
)  # fmt: skip
def test_bits_are_digits_for_all_or_the_numbers_of_those_that_are_one(word: str, on: list[int]) -> None:
    ((_, value),) = set_by_hand(bits(), [word], 5).items()
    assert value.nonzero()[:, 1].tolist() == on * 5


def test_ten_classes_or_fewer_can_be_written_as_digits() -> None:
    model = sigmoid_belief_net(SBNConfig(layers=(3,), classes=10), DataDescription((7,), "binary", 2))
    for word in ("h1=309", "h1=3,0,9"):
        value = set_by_hand(model, [word], 5)["h1"]
        assert value.argmax(-1).tolist() == [[3, 0, 9]] * 5
    with pytest.raises(
        AncestralError, match="h1=3,1 has 2 classes, but 'h1' takes one for each of its 3 variables"
    ):  # as long as three digits
        set_by_hand(model, ["h1=3,1"], 5)


def test_several_variables_are_set_together_and_the_others_are_drawn() -> None:
    values = set_by_hand(everything(), ["y=3", "z=0.5,-1"], 5)
    assert values.keys() == {"y", "z"}
    assert {name: tuple(value.shape) for name, value in values.items()} == {"y": (5, 5), "z": (5, 2)}


def test_the_label_of_a_model_that_is_conditioned_on_it_is_set_too() -> None:
    assert torch.equal(set_by_hand(labelled(5), ["y=3"], 2)["y"], torch.eye(5)[[3, 3]])
    assert torch.equal(set_by_hand(labelled(0), ["y=3"], 2)["y"], torch.tensor([3, 3]))
    with pytest.raises(AncestralError, match="from 0 to 4"):
        set_by_hand(labelled(5), ["y=5"], 2)


def test_what_is_set_reaches_the_samples() -> None:
    torch.manual_seed(0)
    model = labelled(5)
    for y in range(5):
        assert torch.equal(
            model.sample(3, mean=True, given={**set_by_hand(model, [f"y={y}", "z=0.5,-1"], 3)})[0],
            model.decode(torch.tensor([[0.5, -1.0]]), given={"y": torch.eye(5)[[y]]})[0],
        )


@pytest.mark.parametrize(
    ("word", "seen"),
    [
        ("y", "'y'.*NAME=VALUE, such as"), ("=3", "'=3'.*NAME=VALUE"), ("", "''.*NAME=VALUE"),
        ("w=3", "'w=3': .*no variable 'w'.*Known: c, k, y, z"), ("x=3", "no variable 'x'"),
        ("y=5", r"y=5: '5' is no class of 'y'.*from 0 to 4"), ("y=-1", "'-1'.*from 0 to 4"),
        ("y=two", "'two' is no class"), ("y=", "'' is no class"), ("y=1.5", "'1.5'"), ("y=③", "'③'"),
        ("y=" + "9" * 30, "9999.*from 0 to 4"),
        ("y=1,2", "y=1,2 has 2 classes, but 'y' takes a single one, from 0 to 4, such as y=0"),
        ("c=1,2", r"c=1,2 has 2 classes, but 'c' takes one for each of its 3 .*from 0 to 11, such as c=0,0,0\."),
        ("c=1,2,12", "'12'"),
        ("k=4", "'4' is no class of 'k'.*from 0 to 3"),
        ("z=1", "z=1 has 1 number, but 'z' has 2: give as many"), ("c=5", "c=5 has 1 class, but"),
        ("z=1,nan", "'nan' is no finite number. Give 2"),
        ("z=1,a", "'a' is no finite number"), ("z=", "'' is no finite number"),
    ],
)  # fmt: skip
def test_a_value_that_is_wrong_is_named_with_the_cure(word: str, seen: str) -> None:
    with pytest.raises(AncestralError, match=seen):
        set_by_hand(everything(), [word], 5)


@pytest.mark.parametrize(
    ("word", "seen"),
    [
        ("h1=12", "'12' is no unit of 'h1'.*from 0 to 11"), ("h1=3,12", "'12' is no unit"), ("h1=on", "'on'"),
        ("h1=1,0,1,0,1,0,1,0,1,0,1,0", "names a unit of 'h1' twice.*a digit 0 or 1 for each of the 12 units"),
        ("h1=0101", r"h1=0101 has 4 digits, but 'h1' has 12 units"), ("h2=011", "3 digits, but 'h2' has 2 units"),
    ],
)  # fmt: skip
def test_bits_that_are_wrong_are_named_with_the_cure(word: str, seen: str) -> None:
    with pytest.raises(AncestralError, match=seen):
        set_by_hand(bits(), [word], 5)


@pytest.mark.parametrize(
    ("word", "seen"),
    [
        ("z=1,2", "z=1,2 has 2 numbers, but 'z' has 1: give a single one"),
        ("z=a", "'a' is no finite number. Give one"),
        ("h=01", "h=01 has 2 digits, but 'h' has 1 unit:"),
        ("h=3", "'3' is no unit of 'h'. It has only 0"),
    ],
)
def test_one_thing_is_spoken_of_as_one(word: str, seen: str) -> None:
    p = Joint({"z": standard_normal(1), "h": bernoulli(Logits(1)), "x | z, h": bernoulli(linear(2, 7))})
    q = Joint({"z | x": normal(linear(7, 2)), "h | x": bernoulli(linear(7, 1))})
    with pytest.raises(AncestralError, match=seen):
        set_by_hand(LatentVariableModel(p, q), [word], 5)


def test_an_example_of_many_classes_is_cut_short() -> None:
    model = sigmoid_belief_net(SBNConfig(layers=(5,), classes=11), DataDescription((7,), "binary", 2))
    with pytest.raises(AncestralError, match=r"such as h1=0,0,0,\.\.\.\.$"):
        set_by_hand(model, ["h1=1,2"], 5)


def test_a_variable_that_is_set_twice_is_an_error() -> None:
    with pytest.raises(AncestralError, match=r"'y' is set twice.*keep one"):
        set_by_hand(everything(), ["y=1", "y=1"], 5)

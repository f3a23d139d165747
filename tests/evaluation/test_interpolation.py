"""Walks through the latent space, and maps of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal

from ancestral import (
    AncestralError,
    Enumerate,
    Joint,
    LatentVariableModel,
    Reparameterized,
    bernoulli,
    bernoulli_bias,
    categorical,
    linear,
    mlp,
    nade,
    normal,
    one_hot,
    one_hot_bias,
    standard_normal,
)
from ancestral.configs import BayesClassifierConfig, DataDescription
from ancestral.evaluation import interpolate, latent_grid
from ancestral.evaluation.interpolation import can_interpolate
from ancestral.models.bayes_classifier import generative_classifier
from ancestral.objectives import memory


class Plain(nn.Module):
    """Decodes z to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def decode(self, z: Tensor, *, sample: bool = False) -> Tensor:
        return z


def test_a_walk_goes_straight_from_each_first_to_each_second_value() -> None:
    ends = torch.tensor([[0.0, 0.0], [4.0, -8.0], [1.0, 1.0], [1.0, 3.0]])
    walked = interpolate(Plain(), ends, 5)
    assert walked.tolist() == [
        [0, 0], [1, -2], [2, -4], [3, -6], [4, -8],
        [1, 1], [1, 1.5], [1, 2], [1, 2.5], [1, 3],
    ]  # fmt: skip


def test_every_variable_of_several_walks() -> None:
    torch.manual_seed(0)
    p = Joint({"b": standard_normal(2), "a | b": normal(linear(2, 6)), "x | a": normal(linear(3, 10))})
    q = Joint({"a | x": normal(linear(5, 6)), "b | a": normal(linear(3, 4))})
    model = LatentVariableModel(p, q)
    ends = model.encode(torch.randn(4, 5))
    walked = interpolate(model, ends, 3)
    assert walked.shape == (6, 5)
    torch.testing.assert_close(walked[[0, 2, 3, 5]], model.decode(ends))


def test_a_discrete_variable_has_nothing_between_its_values() -> None:
    model = LatentVariableModel(
        Joint({"c": lambda: Categorical(logits=torch.zeros(5)), "x | c": lambda c: Normal(c.double(), 1.0)}),
        Joint({"c | x": categorical(linear(1, 5))}),
    )
    assert not can_interpolate(model)
    with pytest.raises(AncestralError, match="'c' is an index"):
        interpolate(model, {"c": torch.tensor([0, 4])}, 5)


def test_a_walk_shows_draws_of_data_whose_mean_is_not_known() -> None:
    torch.manual_seed(0)
    p = Joint({"z": standard_normal(2), "x | z": nade(linear(2, 5), linear(2, 3), 5, 3)})
    model = LatentVariableModel(p, Joint({"z | x": normal(linear(5, 4))}))
    assert can_interpolate(model)
    ends = torch.zeros(2, 2)
    with pytest.raises(AncestralError, match="the mean of 'x', a NADE, is not known"):
        interpolate(model, ends, 7)
    drawn = interpolate(model, ends, 7, sample=True)
    assert drawn.shape == (7, 5)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}


def test_a_map_shows_every_part_of_the_prior_alike() -> None:
    p = Joint({"z": standard_normal(2), "x | z": normal(nn.Identity(), scale=1.0)})
    points = latent_grid(LatentVariableModel(p, Joint({"z | x": normal(linear(2, 4))})), 5).view(5, 5, 2)
    quantiles = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
    torch.testing.assert_close(Normal(0.0, 1.0).cdf(points[0, :, 0]), quantiles)
    torch.testing.assert_close(Normal(0.0, 1.0).cdf(points[:, 0, 1]), quantiles.flip(0))


def test_only_two_dimensions_make_a_map() -> None:
    p = Joint({"z": standard_normal(3), "x | z": normal(linear(3, 10))})
    model = LatentVariableModel(p, Joint({"z | x": normal(linear(5, 6))}))
    with pytest.raises(AncestralError, match=r"2 dimensions, but z has shape \(3,\)"):
        latent_grid(model, 5)


def test_a_map_is_of_one_variable_with_a_standard_normal_prior() -> None:
    torch.manual_seed(0)
    q = Joint({"z | x": normal(linear(5, 4)), "y | x": one_hot(linear(5, 3))})
    p = Joint({"z": standard_normal(2), "y": one_hot_bias(3), "x | z, y": normal(mlp(5, 10))})
    model = LatentVariableModel(p, q, estimators={"y": Enumerate(), "z": Reparameterized()})
    with pytest.raises(AncestralError, match=r"the model has 2 \(z, y\): give the others"):
        latent_grid(model, 5)
    y = torch.tensor([0.0, 1.0, 0.0]).expand(25, 3)
    points = latent_grid(model, 5, {"y": y})
    z = torch.tensor([0.0, 0.0])  # the middle one
    torch.testing.assert_close(points[12], p.conditionals["x"](z, y[0]).mean)
    with pytest.raises(AncestralError, match="all are given"):
        latent_grid(model, 5, {"y": y, "z": torch.zeros(25, 2)})
    with pytest.raises(AncestralError, match="size is 0"):
        latent_grid(model, 0, {"y": y})
    for prior in (lambda: normal(linear(1, 4))(torch.ones(1)), bernoulli_bias(2)):
        other = LatentVariableModel(
            Joint({"z": prior, "x | z": normal(linear(2, 10))}), Joint({"z | x": q.conditionals["z"]})
        )
        with pytest.raises(AncestralError, match="that of z is another: interpolate"):
            latent_grid(other, 5)


def test_a_map_is_of_one_label_where_the_model_draws_labels() -> None:
    torch.manual_seed(0)
    config = BayesClassifierConfig(latent=2, hidden=(7,), likelihood="normal")
    model = generative_classifier(config, DataDescription((5,), kind="continuous", classes=3))
    with pytest.raises(AncestralError, match=r"the model has 2 \(z, y\): give the others"):
        latent_grid(model, 5)
    z, y = torch.zeros(1, 2), torch.tensor([[0.0, 1.0, 0.0]])
    points = latent_grid(model, 5, {"y": y.expand(25, 3)})
    torch.testing.assert_close(points[12:13], model.decode({"z": z}, given={"y": y}))
    with pytest.raises(AncestralError, match="that of y is another"):
        latent_grid(model, 5, {"z": z.expand(25, 2)})


def test_a_map_is_the_same_however_many_points_are_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    p = Joint({"z": standard_normal(2), "y": one_hot_bias(3), "x | z, y": normal(mlp(5, 10))})
    q = Joint({"z | x": normal(linear(5, 4)), "y | x": one_hot(linear(5, 3))})
    model = LatentVariableModel(p, q, estimators={"y": Enumerate(), "z": Reparameterized()})
    given = {"y": torch.eye(3)[torch.arange(49) % 3]}
    whole = latent_grid(model, 7, given)
    sizes: list[int] = []
    p.networks["x"].register_forward_hook(lambda module, values, out: sizes.append(len(values[0])))
    monkeypatch.setattr(memory, "FAST", 1000)
    torch.testing.assert_close(latent_grid(model, 7, given), whole)
    assert max(sizes) < 49


def test_the_lower_layers_of_a_map_are_at_their_means() -> None:
    torch.manual_seed(0)
    p = Joint({
        "z2": standard_normal(2), "features | z2": mlp(2, 7), "h | features": bernoulli(linear(7, 3)),
        "z1 | features": normal(linear(7, 6)), "x | z1, h": normal(mlp(6, 10)),
    })  # fmt: skip
    for parameter in p.parameters():
        nn.init.normal_(parameter)
    q = Joint({"z1 | x": normal(linear(5, 6)), "z2 | z1": normal(linear(3, 4)), "h | x": bernoulli(linear(5, 3))})
    model = LatentVariableModel(p, q, estimators={"h": Enumerate(), "z1": Reparameterized(), "z2": Reparameterized()})
    points = latent_grid(model, 5)
    features = p.networks["features"](torch.zeros(2))  # the middle one
    h = (p.conditionals["h"](features).mean > 0.5).float()
    torch.testing.assert_close(points[12], p.conditionals["x"](p.conditionals["z1"](features).mean, h).mean)
    values = {"z1": torch.zeros(25, 3), "h": torch.zeros(25, 3)}
    with pytest.raises(AncestralError, match=r"a map of z2 would show the same everywhere, .* given, z1, h: leave"):
        latent_grid(model, 5, values)


def test_a_map_of_a_model_of_labels_is_of_one_label() -> None:
    torch.manual_seed(0)
    p = Joint({"z": standard_normal(2), "x | z, y": normal(mlp(5, 10))})
    model = LatentVariableModel(p, Joint({"z | x": normal(linear(5, 4))}), classes=3)
    with pytest.raises(AncestralError, match="conditioned on labels: give the one"):
        latent_grid(model, 5)
    assert latent_grid(model, 5, {"y": torch.tensor([0.0, 1.0, 0.0]).expand(25, 3)}).shape == (25, 5)


def test_a_line_keeps_the_labels_of_its_first_end() -> None:
    torch.manual_seed(0)
    p = Joint({"z": standard_normal(2), "x | z, y": normal(mlp(5, 10))})
    model = LatentVariableModel(p, Joint({"z | x": normal(linear(5, 4))}), classes=3)
    x, y = torch.randn(4, 5), torch.tensor([2, 0, 1, 1])
    ends, given = model.encode(x, y=y), model.conditions(x, y)
    walked = interpolate(model, ends, 3, given)
    first = {"y": given["y"][[0, 0, 2, 2]]}
    torch.testing.assert_close(walked[[0, 2, 3, 5]], model.decode(ends, given=first))

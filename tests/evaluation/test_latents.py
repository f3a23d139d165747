"""Which latent units a model uses, and which training rows its samples are near to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ancestral.data
from ancestral import Joint, LatentVariableModel, bernoulli, linear, mlp, normal, standard_normal
from ancestral.configs import DataConfig
from ancestral.data.dataset import Dataset, Rows
from ancestral.data.loading import assemble
from ancestral.data.raw import Raw
from ancestral.errors import AncestralError
from ancestral.evaluation import active_units, activity, nearest_training_rows


def bits(n: int = 101, **config: float) -> Dataset:
    x = np.random.default_rng(1).integers(0, 2, (n, 5), dtype=np.uint8)
    return assemble("bits", Raw(Rows(x), levels=2), DataConfig(**config))  # type: ignore[arg-type]


class Copies(nn.Module):
    """The means of three units: x1, a constant, and a hundredth of x2; all with scale 1."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: Tensor) -> Tensor:
        means = torch.stack([x[..., 0], self.bias.expand(x.shape[:-1]), x[..., 1] / 100], -1)
        return torch.cat([means, torch.zeros_like(means)], -1)


def model() -> LatentVariableModel:
    p = Joint({"z": standard_normal(3), "x | z": bernoulli(linear(3, 5))})
    return LatentVariableModel(p, Joint({"z | x": normal(Copies())}))


def test_a_dead_unit_is_not_counted() -> None:
    data = bits()
    (figure,) = active_units(model(), data)
    assert (figure.name, figure.value, figure.unit) == ("active units of z", 1.0, "of 3")
    assert figure.datapoints == len(data.test)
    assert figure.digest == data.digest("test")


def test_activity_is_the_variance_of_the_posterior_mean() -> None:
    data = bits()
    x = data.rows("test", range(len(data.test))).double()
    found = activity(model(), data)["z"]
    expected = torch.stack([x[:, 0].var(), torch.zeros((), dtype=torch.float64), (x[:, 1] / 100).var()])
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-5)


def test_activity_needs_rows() -> None:
    with pytest.raises(AncestralError, match="no rows in its validation split"):
        activity(model(), bits(validation=0.0), "validation")


def test_the_nearest_training_row_of_a_training_row_is_itself() -> None:
    x = np.random.default_rng(1).integers(0, 256, (53, 1, 3, 5), dtype=np.uint8)
    data = assemble("images", Raw(Rows(x)), DataConfig())
    rows = data.rows("train", [0, 7, 11])
    moved = rows.clone()
    moved[:, 0, 0, 0] += 0.03
    found, distance = nearest_training_rows(moved, data)
    assert torch.equal(found, rows)
    torch.testing.assert_close(distance, torch.full((3,), 0.03), atol=1e-3, rtol=0)


def test_the_nearest_row_to_what_is_drawn_is_found_by_that_part_alone() -> None:
    x = np.random.default_rng(1).integers(0, 256, (53, 1, 3, 5), dtype=np.uint8)
    data = assemble("images", Raw(Rows(x)), DataConfig())
    rows = data.rows("train", [0, 7, 11])
    mixed = torch.cat([rows.roll(1, 0)[:, :, :1], rows[:, :, 1:]], 2)  # the upper row of another
    found, distance = nearest_training_rows(mixed, data, lambda x: x[:, :, 1:])
    assert torch.equal(found, rows)
    assert distance.max() < 1e-3
    assert nearest_training_rows(mixed, data)[1].min() > 0.1


def test_a_sole_latent_variable_is_reported_under_its_own_name() -> None:
    data = ancestral.data.load("digits")
    p = Joint({"code": standard_normal(3), "x | code": bernoulli(mlp(3, (1, 8, 8)), event_dims=3)})
    q = Joint({"code | x": normal(mlp((1, 8, 8), 2 * 3))})
    assert [figure.name for figure in active_units(LatentVariableModel(p, q), data)] == ["active units of code"]

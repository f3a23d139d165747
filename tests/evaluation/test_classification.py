"""Calibration, temperatures and areas under the curve against what is known or counted by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ancestral
from ancestral.configs import DataConfig
from ancestral.data.dataset import Dataset, Rows
from ancestral.data.loading import assemble
from ancestral.data.raw import Raw
from ancestral.errors import AncestralError, ShapeError
from ancestral.evaluation import auroc, classification, expected_calibration_error, out_of_distribution, temperature


def drawn(n: int, classes: int = 3) -> tuple[Tensor, Tensor]:
    """log p(y | x) of n rows, and labels that are drawn from it."""
    torch.manual_seed(2)
    log_probs = (1.5 * torch.randn(n, classes, dtype=torch.float64)).log_softmax(-1)
    return log_probs, torch.multinomial(log_probs.exp(), 1)[:, 0]


def test_a_model_with_true_probabilities_is_calibrated_and_one_that_is_too_sure_is_not() -> None:
    log_probs, y = drawn(40_000)
    assert expected_calibration_error(log_probs, y) < 0.01
    sure = (3 * log_probs).log_softmax(-1)
    confidence = log_probs.exp().max(-1).values
    expected = (sure.exp().max(-1).values - confidence).mean().item()  # in each bin too sure: nothing cancels
    assert expected_calibration_error(sure, y) == pytest.approx(expected, abs=0.01)
    assert expected > 0.1


def test_the_calibration_error_is_that_of_a_count_by_hand() -> None:
    probs = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.55, 0.45], [0.4, 0.6]], dtype=torch.float64)
    y = torch.tensor([0, 1, 0, 1])
    # two bins, (0.5, 1] holds all; three: (1/3, 2/3] holds 0.55 and 0.6, (2/3, 1] holds 0.9 and 0.8
    assert expected_calibration_error(probs.log(), y, 2) == pytest.approx(abs(3 - 2.85) / 4)
    assert expected_calibration_error(probs.log(), y, 3) == pytest.approx((abs(2 - 1.15) + abs(1 - 1.7)) / 4)
    edge = torch.tensor([[0.5, 0.5], [0.6, 0.4]], dtype=torch.float64).log()  # the first is of the bin below
    assert expected_calibration_error(edge, torch.tensor([0, 1]), 2) == pytest.approx((0.5 + 0.6) / 2)


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_what_was_done_to_true_log_probabilities(scale: float) -> None:
    log_probs, y = drawn(40_000)
    t = temperature((scale * log_probs).log_softmax(-1), y)
    assert t == pytest.approx(scale, rel=0.05)
    losses = [
        -(scale * log_probs / (t * factor)).log_softmax(-1).gather(-1, y[:, None]).mean().item()
        for factor in (1.0, 0.99, 1.01)
    ]
    assert losses[0] == min(losses)


def test_a_temperature_is_finite_where_every_row_is_right() -> None:
    log_probs = torch.tensor([[0.0, -3.0], [-2.0, 0.0]])
    assert 0 < temperature(log_probs, torch.tensor([0, 1])) < 0.01
    assert temperature(log_probs, torch.tensor([1, 0])) == pytest.approx(math.exp(7), rel=1e-3)


def test_labels_and_log_probabilities_must_agree() -> None:
    for log_probs, y in ((torch.zeros(3, 2), torch.zeros(2)), (torch.zeros(0, 2), torch.zeros(0))):
        for measure in (temperature, expected_calibration_error):
            with pytest.raises(ShapeError, match="of one row at least"):
                measure(log_probs, y.long())


def test_the_area_under_the_curve_is_that_of_a_count_of_pairs() -> None:
    torch.manual_seed(4)
    inside, outside = torch.randint(0, 9, (23,)).double(), torch.randint(3, 12, (31,)).double()
    pairs = (outside[:, None] > inside).double() + (outside[:, None] == inside).double() / 2
    area, error = auroc(inside, outside)
    assert area == pytest.approx(pairs.mean().item())
    # DeLong: the variances of the parts of each row
    assert error == pytest.approx(math.sqrt(pairs.mean(1).var().item() / 31 + pairs.mean(0).var().item() / 23))
    assert auroc(outside, inside)[0] == pytest.approx(1 - area)
    assert auroc(torch.tensor([1.0]), torch.tensor([2.0])) == (1.0, None)
    for one, words in ((torch.zeros(0), "no rows on one side"), (torch.tensor([math.nan]), "NaN")):
        with pytest.raises(AncestralError, match=words):
            auroc(one, outside)


class Known(nn.Module):
    """p(y | x) of bits x of which the first says the class, nearly; and no density."""

    classifier = "p(y | x)"

    def log_classify(self, x: Tensor) -> Tensor:
        return (2 * torch.stack([1 - x[:, 0], x[:, 0] + x[:, 1] / 10], -1)).log_softmax(-1)

    def classify(self, x: Tensor) -> Tensor:
        return self.log_classify(x).exp()


class Dense(Known):
    """With a density, that of independent bits."""

    def log_prob(self, x: Tensor, *, particles: int = 1, y: Tensor | None = None) -> Tensor:
        return torch.where(x > 0, math.log(0.2), math.log(0.8)).double().sum(-1)


def bits(name: str = "bits", part: float = 0.2, n: int = 211, columns: int = 5) -> Dataset:
    random = np.random.default_rng(len(name))
    x = (random.random((n, columns)) < part).astype(np.uint8)
    y = np.where(random.random(n) < 0.8, x[:, 0], 1 - x[:, 0]).astype(np.int64)
    y[::7] = -1
    return assemble(name, Raw(Rows(x, y), levels=2), DataConfig(validation=0.3, test=0.3))


def test_figures_are_of_rows_with_a_label_and_the_temperature_of_validation_rows_alone() -> None:
    data, model = bits(), Known()
    figures = {figure.name: figure for figure in classification(model, data)}
    x, y = data.rows("test", np.arange(len(data.test))), torch.as_tensor(data.test.y)
    log_probs, y = model.log_classify(x[y >= 0]).double(), y[y >= 0]
    validation, labels = data.rows("validation", np.arange(len(data.validation))), torch.as_tensor(data.validation.y)
    t = temperature(model.log_classify(validation[labels >= 0]), labels[labels >= 0])
    assert figures["temperature"].value == pytest.approx(t)
    assert t != pytest.approx(temperature(log_probs, y))
    scaled = (log_probs / t).log_softmax(-1)
    for after, values in (("", log_probs), (", scaled", scaled)):
        loss = -values.gather(-1, y[:, None])[:, 0]
        assert figures[f"log loss{after}"].value == pytest.approx(loss.mean().item())
        assert figures[f"log loss{after}"].standard_error == pytest.approx(loss.std().item() / math.sqrt(len(y)))
        error = 100 * expected_calibration_error(values, y)
        assert figures[f"calibration error{after}"].value == pytest.approx(error)
    assert figures["accuracy"].value == pytest.approx(100 * (log_probs.argmax(-1) == y).double().mean().item())
    assert all(figure.datapoints == len(y) and figure.digest == data.digest("test") for figure in figures.values())
    names = [figure.name for figure in classification(model, data, "validation")]
    assert names == ["accuracy", "log loss", "calibration error"]


def test_the_score_is_a_density_where_there_is_one_and_says_what_it_is_where_there_is_none() -> None:
    data, other = bits(), bits("others", 0.6)
    scores = {}
    for model in (Dense(), Known()):
        mine, theirs, area = figures = out_of_distribution(model, data, other)
        assert [figure.name for figure in figures] == ["score", "score of others", "AUROC against others"]
        rows = [which.rows("test", np.arange(len(which.test))) for which in (data, other)]
        if isinstance(model, Dense):
            values = [-model.log_prob(x) for x in rows]
            assert mine.estimator == "-log p(x)"
        else:
            values = [1 - model.classify(x).max(-1).values for x in rows]
            assert "no density of x" in mine.estimator
        assert mine.value == pytest.approx(values[0].mean().item(), abs=1e-6)
        assert theirs.value == pytest.approx(values[1].mean().item(), abs=1e-6)
        expected, error = auroc(*values)
        assert area.value == pytest.approx(expected)
        assert area.standard_error == pytest.approx(error)
        assert mine.digest == data.digest("test")
        scores[type(model)] = area.value
    assert scores[Dense] > 0.8
    seen: list[tuple[int, int]] = []
    few = out_of_distribution(Dense(), data, other, limit=11, progress=lambda *step: seen.append(step))
    assert seen == [(11, 22), (22, 22)]
    assert [figure.datapoints for figure in few] == [11, 11, 22]
    assert few[0].value == pytest.approx(-Dense().log_prob(data.rows("test", np.arange(11))).mean().item())


def test_columns_of_another_table_are_measured_in_the_units_of_the_first(tmp_path: Path) -> None:
    def table(name: str, mean: float, spread: float) -> Dataset:
        np.save(tmp_path / name, mean + spread * np.random.default_rng(5).normal(size=(101, 2)))
        return ancestral.data.load(str(tmp_path / f"{name}.npy"))

    class Normal(nn.Module):
        def log_prob(self, x: Tensor, *, particles: int = 1, y: Tensor | None = None) -> Tensor:
            return -x.double().square().sum(-1)

    data, other = table("first", 10.0, 2.0), table("second", 20.0, 1.0)
    found = out_of_distribution(Normal(), data, other)
    offset, scale = np.array(data.description.offset), np.array(data.description.scale)
    x = other.to_original(other.rows("test", np.arange(len(other.test))))
    assert found[1].value == pytest.approx((((x - offset) / scale) ** 2).sum(-1).mean(), rel=1e-4)
    assert found[2].value == 1


def grey(name: str, levels: int) -> Dataset:
    x = np.random.default_rng(3).integers(0, levels, (53, 5), dtype=np.uint8)
    return assemble(name, Raw(Rows(x), levels=levels), DataConfig())


def test_data_that_do_not_compare_and_models_without_a_score_are_errors() -> None:
    for data, other in (
        (bits(), bits("wider", columns=7)),
        (bits(), grey("grey", 5)),
        (grey("grey", 5), grey("finer", 7)),
    ):
        with pytest.raises(AncestralError, match=f"{other.name} does not compare with {data.name}"):
            out_of_distribution(Dense(), data, other)
    assert len(out_of_distribution(Known(), grey("grey", 5), grey("finer", 7))) == 3  # of which it has no mass
    with pytest.raises(AncestralError, match="neither a density nor classes"):
        out_of_distribution(nn.Linear(2, 3), bits(), bits("others"))

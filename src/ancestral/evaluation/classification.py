r"""How often a classifier is right, and whether its probabilities are to be believed.

A classifier is calibrated if of the rows that it puts into a class with probability c, the part c belongs there. One
number T, fitted on validation rows, mends much of what is amiss without changing any decision:

.. math:: p_T(y | x) ∝ p(y | x)^{1/T},  T = \arg\min -\sum_i \log p_T(y_i | x_i)

Source: Guo, Pleiss, Sun and Weinberger (2017), On calibration of modern neural networks, sections 2 and 4.2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ancestral.configs.data import HIDDEN
from ancestral.data import Dataset
from ancestral.data.dataset import SplitName
from ancestral.errors import AncestralError, ShapeError
from ancestral.evaluation.figures import Figure
from ancestral.models.contract import CanClassify, evaluating

ROWS = 500
"""Datapoints per pass."""
BINS = 15
"""Of the probability, each as wide, by which the calibration error is computed."""
LARGEST_LOG_TEMPERATURE = 7.0
"""Temperatures between exp(-7) and exp(7) are tried: a classifier that is always right is better the colder it is."""


def classification(model: nn.Module, data: Dataset, split: SplitName = "test", seed: int = 0) -> list[Figure]:
    """Accuracy, log loss and calibration error of a classifier on held-out rows, with standard errors.

    The last two are given before and after temperature scaling, which is fitted on the validation rows: never on those
    that are judged, and so left out where the split is ``"validation"``. Rows whose label is hidden are left out;
    where none is known, there is no figure.

    Args:
        model: with ``log_classify``, :class:`ancestral.models.contract.CanClassify`.
        seed: of the draws of a classifier that makes some; the random stream outside is left as it was.

    Raises:
        AncestralError: the model knows no classes.
    """
    if not isinstance(model, CanClassify):
        raise AncestralError(
            f"a {type(model).__name__} can't classify: it has no log_classify(). Models that can: m2, "
            "bayes-classifier, classifier."
        )
    log_probs, y = _predicted(model, data, split, seed)
    n = len(y)
    if not n:
        return []

    def figure(name: str, value: float, unit: str, estimator: str, error: float | None = None) -> Figure:
        estimated = "calibration" in name or name == "temperature" or "particles" in estimator
        where, digest = f"{data.name}, {split}", data.digest(split)
        kind = "estimate" if estimated else "exact"
        return Figure(name, value, unit, kind, estimator, error, n, data=where, digest=digest, seed=seed)

    def of(log_probs: Tensor, after: str = "") -> list[Figure]:
        losses = -log_probs.gather(-1, y[:, None])[:, 0]
        error = losses.std().item() / math.sqrt(n) if n > 1 else None
        calibration = 100 * expected_calibration_error(log_probs, y)
        return [
            figure(f"log loss{after}", losses.mean().item(), "nats", f"-log {model.classifier}", error),
            figure(f"calibration error{after}", calibration, "%", f"{BINS} bins of the largest probability"),
        ]

    share = (log_probs.argmax(-1) == y).double().mean().item()
    error = 100 * math.sqrt(share * (1 - share) / n)
    figures = [
        figure("accuracy", 100 * share, "%", f"the most probable class of {model.classifier}", error),
        *of(log_probs),
    ]
    if split != "validation" and len(data.validation):
        fitted_on = _predicted(model, data, "validation", seed)
        if len(fitted_on[1]):
            t = temperature(*fitted_on)
            words = f"the least log loss of {len(fitted_on[1]):,} validation rows"
            figures += [figure("temperature", t, "", words), *of((log_probs / t).log_softmax(-1), ", scaled")]
    return figures


def expected_calibration_error(log_probs: Tensor, y: Tensor, bins: int = BINS) -> float:
    r"""How far the largest probability is from the part of rows for which it is right, on average.

    .. math:: ECE = \sum_b \frac{n_b}{n} |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    over bins of the largest probability, each as wide; a probability on an edge belongs to the bin below. Of few rows
    it is too large: noise in a bin does not cancel.

    Args:
        log_probs: log p(y | x), ``[n, classes]``, normalized.
        y: labels, ``[n]``.

    Raises:
        ShapeError: there are no rows, or not as many labels.

    Source: Guo et al. (2017), eq. 3.
    """
    _check(log_probs, y)
    confidence, predicted = log_probs.double().exp().max(-1)
    gap = (predicted == y).double() - confidence
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    sums = torch.zeros(bins, dtype=torch.float64, device=gap.device).index_add(0, place, gap)
    return sums.abs().sum().item() / len(y)


def temperature(log_probs: Tensor, y: Tensor) -> float:
    """The temperature at which the log loss is least: above 1 where the classifier is too sure.

    The log loss is convex in 1/T; where its slope changes sign is found by bisection.

    Args:
        log_probs: log p(y | x), ``[n, classes]``, normalized or not.
        y: labels, ``[n]``.

    Raises:
        ShapeError: there are no rows, or not as many labels.
    """
    _check(log_probs, y)
    logits = log_probs.double()
    logits = logits - logits.max(-1, keepdim=True).values
    own = logits.gather(-1, y[:, None])[:, 0].mean()
    low, high = -LARGEST_LOG_TEMPERATURE, LARGEST_LOG_TEMPERATURE
    for _ in range(60):
        middle = (low + high) / 2
        mean = ((logits / math.exp(middle)).softmax(-1) * logits).sum(-1).mean()
        # the slope of the log loss in 1/T is E[mean - own]: below 0, a lower temperature is better
        low, high = (low, middle) if mean < own else (middle, high)
    return math.exp((low + high) / 2)


def _check(log_probs: Tensor, y: Tensor) -> None:
    if log_probs.dim() != 2 or y.shape != log_probs.shape[:1] or not len(y):
        raise ShapeError(
            f"the log-probabilities have shape {tuple(log_probs.shape)} and the labels {tuple(y.shape)}: give "
            "[n, classes] and [n], of one row at least."
        )


@torch.no_grad()
def _predicted(model: CanClassify, data: Dataset, split: SplitName, seed: int) -> tuple[Tensor, Tensor]:
    """log p(y | x) and y of the rows of a split whose label is known, ``[n, classes]`` in float64 and ``[n]``."""
    assert isinstance(model, nn.Module)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    log_probs, labels = [torch.zeros(0, 1)], [torch.zeros(0, dtype=torch.int64)]
    with torch.random.fork_rng(), evaluating(model):
        torch.manual_seed(seed)
        for x, y in data.batches(split, ROWS, shuffle=False, device=device):
            if y is not None and (y != HIDDEN).any():
                log_probs.append(model.log_classify(x[y != HIDDEN]).double().cpu())
                labels.append(y[y != HIDDEN].cpu())
    return torch.cat(log_probs[1:] or log_probs), torch.cat(labels)

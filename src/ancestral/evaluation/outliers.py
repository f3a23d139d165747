"""Whether a model tells data like those it was trained on from others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ancestral.data import Dataset
from ancestral.data.dataset import SplitName
from ancestral.errors import AncestralError
from ancestral.evaluation.figures import Figure, counted
from ancestral.models.contract import CanClassify, CanLogProb, evaluating

ROWS = 100
"""Datapoints per pass."""
PARTICLES = 10
"""Draws of the latent variables per datapoint, or per class of each."""


def out_of_distribution(
    model: nn.Module,
    data: Dataset,
    other: Dataset,
    split: SplitName = "test",
    limit: int = 0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Figure]:
    """An out-of-distribution score of held-out data, of other data, and how often it tells one from the other.

    The score is -log p(x), or a bound of it, of a model with a density. A classifier p(y | x) has none: its score is 1
    less the largest probability of a class, the baseline of Hendrycks and Gimpel (2017). A density can be higher on
    data that it was not trained on: below 0.5, the area under the curve says that it is (Nalisnick et al., 2019).

    Args:
        model: with ``log_prob`` or ``classify``.
        data: what it was trained on.
        other: rows of the same shape, prepared alike (:meth:`ancestral.data.Dataset.prepared`).
        limit: only the first so many rows of each; 0 takes all.
        seed: of the draws; the random stream outside is left as it was.
        progress: called with the rows done, of both, and those in all.

    Raises:
        AncestralError: the model has neither a density nor classes, or the data don't compare.
    """
    scored = "-log p(x)"
    if not isinstance(model, CanLogProb):
        if not isinstance(model, CanClassify):
            raise AncestralError(
                f"a {type(model).__name__} has neither a density nor classes, so that it has no out-of-distribution "
                "score. Models with one: vae, bayes-classifier, classifier."
            )
        scored = f"1 - largest {model.classifier}, which is no density of x"
    mine, theirs = data.description, other.description
    # a mass of grey levels is of one number of them alone
    masses = isinstance(model, CanLogProb) and mine.kind == "levels" and mine.levels != theirs.levels
    if (mine.shape, mine.kind) != (theirs.shape, theirs.kind) or masses:
        raise AncestralError(
            f"{other.name} does not compare with {data.name}: its rows are {_in_words(other)}, but the model knows "
            f"{_in_words(data)}. Choose other data of that shape and kind."
        )
    counts = [min(limit or len(part), len(part)) for part in (getattr(data, split), getattr(other, split))]

    def scores(which: Dataset, before: int) -> Tensor:
        values: list[Tensor] = []
        with torch.no_grad(), torch.random.fork_rng(), evaluating(model):
            torch.manual_seed(seed)
            for x in _rows(model, data, which, split, limit):
                values.append(_scores(model, x))
                before += len(x)
                if progress:
                    progress(before, sum(counts))
        return torch.cat(values).double().cpu() if values else torch.zeros(0)

    inside, outside = scores(data, 0), scores(other, counts[0])

    def figure(name: str, values: Tensor, of: Dataset) -> Figure:
        error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else None
        unit = "nats" if isinstance(model, CanLogProb) else ""
        return Figure(
            name, values.mean().item(), unit, "estimate", scored, error, len(values), PARTICLES,
            f"{of.name}, {split}, first {counted(len(values), 'row')}" if limit else f"{of.name}, {split}",
            of.digest(split), seed,
        )  # fmt: skip

    area, error = auroc(inside, outside)
    first, second = figure("score", inside, data), figure(f"score of {other.name}", outside, other)
    return [
        first,
        second,
        Figure(
            f"AUROC against {other.name}", area, "", "estimate", scored, error, len(inside) + len(outside), PARTICLES,
            f"{first.data}, against {second.data}", first.digest, seed,
        ),
    ]  # fmt: skip


def auroc(inside: Tensor, outside: Tensor) -> tuple[float, float | None]:
    r"""The area under the receiver operating characteristic of a score that should be larger outside.

    .. math:: P(s' > s) + P(s' = s) / 2

    for a score s of a row inside, and s' of one outside; and its standard error, where there are rows enough.

    Args:
        inside: ``[n]``.
        outside: ``[m]``.

    Raises:
        AncestralError: there are no rows, or a score is NaN.

    Source: DeLong, DeLong and Clarke-Pearson (1988), eq. 1 and 4, for the standard error.
    """
    if not len(inside) or not len(outside):
        raise AncestralError("there are no rows on one side, so that nothing can be told apart. Choose another split.")
    if inside.isnan().any() or outside.isnan().any():
        raise AncestralError("a score is NaN, which is neither larger nor smaller than another: mend the model.")
    above = _part_below(outside, inside)
    below = 1 - _part_below(inside, outside)
    error = None
    if min(len(inside), len(outside)) > 1:
        error = math.sqrt((above.var() / len(above) + below.var() / len(below)).item())
    return above.mean().item(), error


def _part_below(values: Tensor, others: Tensor) -> Tensor:
    """Of each value, the part of the others that is smaller; those that are equal count half."""
    ordered = others.double().sort().values
    values = values.double().contiguous()
    counts = torch.searchsorted(ordered, values) + torch.searchsorted(ordered, values, right=True)
    return counts.double() / (2 * len(others))


def _scores(model: nn.Module, x: Tensor) -> Tensor:
    """The score of each row, ``[n]``."""
    if isinstance(model, CanLogProb):
        return -model.log_prob(x, particles=PARTICLES)
    assert isinstance(model, CanClassify)
    return 1 - model.classify(x).max(-1).values


def _rows(model: nn.Module, data: Dataset, of: Dataset, split: SplitName, limit: int) -> Iterator[Tensor]:
    """Rows as the model knows them: columns of a table in the units of its own training rows."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    known, done = data.description, 0
    for x, _ in of.batches(split, ROWS, shuffle=False, device=device):
        if known.scale and of is not data:
            offset, scale = (x.new_tensor(values, dtype=torch.float64) for values in (known.offset, known.scale))
            x = ((torch.as_tensor(of.to_original(x)).to(offset) - offset) / scale).to(x)
        yield x[: limit - done] if limit else x
        done += len(x)
        if limit and done >= limit:
            return


def _in_words(data: Dataset) -> str:
    description = data.description
    kinds = {"binary": "bits", "levels": f"{description.levels} grey levels", "continuous": "real numbers"}
    return f"{kinds[description.kind]} of shape {description.shape}"

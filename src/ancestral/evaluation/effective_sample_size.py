"""How many of the particles of an importance-weighted bound count."""

from __future__ import annotations

import math

import torch

from ancestral.data import Dataset
from ancestral.data.dataset import SplitName
from ancestral.errors import AncestralError
from ancestral.evaluation.figures import Figure, counted
from ancestral.models import LatentVariableModel
from ancestral.models.contract import evaluating
from ancestral.objectives.hmc import check_counts
from ancestral.objectives.iwae import log_weights

ROWS = 100
"""Datapoints, the first of the split."""
DRAWS = 10_000
"""Datapoints times particles of one pass, which bound its memory."""


@torch.no_grad()
def effective_sample_size(
    model: LatentVariableModel, data: Dataset, particles: int = 100, split: SplitName = "test", seed: int = 0
) -> Figure:
    r"""The effective sample size of K draws from q(z | x) as draws from p(z | x), a mean over the first 100 rows.

    .. math:: \frac{1}{\sum_k ŵ_k^2},  ŵ_k = w_k / \sum_j w_j,  w_k = p(x, z_k) / q(z_k | x),  z_k ∼ q(z | x)

    It is K where q is the posterior, and 1 where one particle has all the weight: the importance-weighted bound then
    rests on that one, and more particles will raise it. It is too large where q leaves out a part of the posterior.

    Args:
        particles: K.
        seed: of the draws; the random stream outside is left as it was.

    Raises:
        AncestralError: ``particles`` is below 1, or the split is empty.

    Source: Kong, Liu and Wong (1994), section 4.1; Bornschein and Bengio (2015), section 4.2.
    """
    check_counts(particles=particles)
    rows = min(ROWS, len(getattr(data, split)))
    if not rows:
        raise AncestralError(f"{data.name} has no rows in its {split} split. Choose another --split.")
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    x, y = next(data.batches(split, rows, shuffle=False, device=device))
    step, found = max(1, DRAWS // particles), []
    with torch.random.fork_rng(), evaluating(model):
        torch.manual_seed(seed)
        for begin in range(0, rows, step):
            part = slice(begin, begin + step)
            given = model.given(x[part], None if y is None else y[part])
            sums = torch.full((2, len(x[part])), -math.inf, dtype=torch.float64, device=device)
            for done in range(0, particles, DRAWS):
                (log_w, *_), _ = log_weights(model.p, model.q, given, min(DRAWS, particles - done))
                sums = torch.logaddexp(sums, torch.stack([log_w.logsumexp(0), (2 * log_w).logsumexp(0)]))
            found.append((2 * sums[0] - sums[1]).exp())
    values = torch.cat(found)
    return Figure(
        "effective sample size", values.mean().item(), f"of {particles}", "estimate",
        f"weights of {particles} particles from q", values.std().item() / math.sqrt(rows) if rows > 1 else None, rows,
        particles, f"{data.name}, {split}, first {counted(rows, 'row')}", data.digest(split), seed,
    )  # fmt: skip

"""How likely held-out data are: the ELBO, its parts, and the importance-weighted estimate of log p(x)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ancestral.core import AncestralSampling, run
from ancestral.data import Dataset
from ancestral.distributions import bits_per_dimension
from ancestral.errors import AncestralError, nearest
from ancestral.evaluation.figures import Figure
from ancestral.models import LatentVariableModel
from ancestral.objectives.elbo import check_same_latents, score
from ancestral.training.optimization import keep_freed_memory

CHUNK = 1 << 21
"""Numbers that one pass computes for the observed variable: enough to be fast, few enough to stay in the cache."""
ROWS = 100
"""Datapoints per pass."""


@dataclass(frozen=True)
class Bounds:
    """Per datapoint, in nats, ``[n]`` each, float64."""

    log_prob: Tensor
    """log 1/K Σ w_k"""
    elbo: Tensor
    """1/K Σ log w_k"""
    log_likelihood: Tensor
    """1/K Σ log p(x | z_k)"""
    kl: Tensor
    """1/K Σ [log q(z_k | x) - log p(z_k)]"""


@torch.no_grad()
def bounds(model: LatentVariableModel, x: Tensor, particles: int, y: Tensor | None = None) -> Bounds:
    r"""The bounds for a batch ``[b, *shape]``, streamed over particles: memory does not grow with their number.

    .. math:: w_k = p(x, z_k) / q(z_k | x),  z_k ∼ q(z | x)

    Source: Burda, Grosse and Salakhutdinov (2016), eq. 8; Rezende et al. (2014), appendix E.
    """
    if particles < 1:
        raise AncestralError(f"particles is {particles}, but at least one is needed.")
    given = model.given(x, y)
    rows = x.shape[0]
    step = max(1, CHUNK // max(1, x.numel()))
    log_sum = torch.full((rows,), -math.inf, dtype=torch.float64, device=x.device)
    sums = torch.zeros(3, rows, dtype=torch.float64, device=x.device)
    done = 0
    while done < particles:
        count = min(step, particles - done)
        trace = run(model.q, given, (count, rows), AncestralSampling())
        scored = score(model.p, trace)
        check_same_latents(scored, trace)
        drawn = trace.drawn
        log_likelihood = scored.log_prob([name for name in scored.sites if name not in drawn]).double()
        kl = (trace.log_prob(drawn) - scored.log_prob(drawn)).double()
        log_weight = (log_likelihood - kl).expand(count, rows)
        log_sum = torch.logaddexp(log_sum, log_weight.logsumexp(0))
        sums += torch.stack([part.expand(count, rows).sum(0) for part in (log_weight, log_likelihood, kl)])
        done += count
    means = sums / particles
    return Bounds(log_sum - math.log(particles), means[0], means[1], means[2])


def evaluate(
    model: object,
    data: Dataset,
    particles: int = 100,
    split: str = "test",
    seed: int = 0,
    limit: int = 0,
    progress: Callable[[int, int, float], None] | None = None,
) -> list[Figure]:
    """Bounds of log p(x) on held-out data, with provenance.

    Args:
        model: a model with latent variables and a density.
        particles: draws of z per datapoint.
        split: ``"test"``, ``"validation"`` or ``"train"``.
        seed: of the draws; the random stream outside is left as it was.
        limit: evaluate only the first so many rows; 0 takes all.
        progress: called with the rows done, the rows in all, and the estimate so far, in nats.

    Raises:
        AncestralError: the model has no density (it says which have), or the split is empty or unknown.
    """
    if not isinstance(model, LatentVariableModel):
        raise AncestralError(
            f"a {type(model).__name__} has no density, so there is no likelihood to evaluate: it can only sample. "
            "Models with "
            "one: vae, and any LatentVariableModel."
        )
    if split not in ("train", "validation", "test"):
        raise AncestralError(f"there is no split {split!r}. " + nearest(split, ("train", "validation", "test")))
    if particles < 1:
        raise AncestralError(f"particles is {particles}, but at least one is needed.")
    if limit < 0:
        raise AncestralError(f"limit is {limit}: give the number of rows, or 0 for all.")
    rows = len(getattr(data, split))
    total = min(rows, limit) if limit else rows
    if not total:
        raise AncestralError(f"{data.name} has no rows in its {split} split. Choose another --split.")
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    keep_freed_memory()
    parts: list[Bounds] = []
    done = 0
    training = model.training
    try:
        model.eval()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for x, y in data.batches(split, ROWS, shuffle=False, device=device):  # type: ignore[arg-type]
                keep = min(len(x), total - done)
                parts.append(bounds(model, x[:keep], particles, None if y is None else y[:keep]))
                done += keep
                if progress:
                    progress(done, total, sum(part.log_prob.sum().item() for part in parts) / done)
                if done == total:
                    break
    finally:
        model.train(training)
    config = data.config
    preparation = "dequantized" if config.dequantize == "yes" else f"binarization {config.binarization}"
    where = f"{data.name}, {split}, {'first ' if total < rows else ''}{total} rows, {preparation}"
    if data.note:
        where += f" ({data.note})"
    description = data.description
    dimensions = math.prod(description.shape)
    levels = description.levels if description.kind == "continuous" else 0
    digest = data.digest(split)  # type: ignore[arg-type]

    def figure(name: str, values: Tensor, kind: str, estimator: str, unit: str = "nats") -> Figure:
        error = values.std().item() / math.sqrt(total) if total > 1 else None
        return Figure(
            name, values.mean().item(), unit, kind, estimator, error, total, particles, where, digest,
            seed, model.likelihood(),
        )  # fmt: skip

    log_prob = torch.cat([part.log_prob for part in parts])
    estimator = f"importance-weighted, {particles} particles from q"
    average = f"mean over {particles} draws from q"
    return [
        figure("log p(x)", log_prob, "lower bound", estimator),
        figure(
            "bits per dimension", bits_per_dimension(log_prob, dimensions, levels), "upper bound", estimator, "bits"
        ),
        figure("ELBO", torch.cat([part.elbo for part in parts]), "lower bound", average),
        figure("E[log p(x | z)]", torch.cat([part.log_likelihood for part in parts]), "part of a bound", average),
        figure("KL(q(z | x) || p(z))", torch.cat([part.kl for part in parts]), "part of a bound", average),
    ]

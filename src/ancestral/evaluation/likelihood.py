"""How likely held-out data are: the ELBO, its parts, and the importance-weighted estimate of log p(x)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ancestral.core import Joint, Trace
from ancestral.data import Dataset
from ancestral.distributions import bits_per_dimension
from ancestral.distributions.support import is_density
from ancestral.errors import AncestralError, nearest
from ancestral.evaluation.figures import Figure
from ancestral.models import LatentVariableModel
from ancestral.objectives.elbo import random_parents, score
from ancestral.objectives.iwae import Bounds, bounds as importance_weighted
from ancestral.training.optimization import keep_freed_memory

ROWS = 100
"""Datapoints per pass."""


def bounds(model: LatentVariableModel, x: Tensor, particles: int, y: Tensor | None = None) -> Bounds:
    """The bounds for a batch ``[b, *shape]``, streamed over particles: see :func:`ancestral.objectives.iwae.bounds`."""
    return importance_weighted(model.p, model.q, model.given(x, y), particles)


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

    Where labels are observed too, the figures are of log p(x, y) if p has a conditional of y, and of log p(x | y) if p
    is conditioned on y: their names say so. Bits per dimension are given for data with grey levels or bits, and left
    out for real values, which have no unit of their own, and for log p(x, y), which counts y too. Of a model whose
    latent variables are drawn from p itself there are no parts of the bound: its divergence is 0.

    Args:
        model: a model with latent variables and a density.
        particles: draws of z per datapoint.
        split: ``"test"``, ``"validation"`` or ``"train"``.
        seed: of the draws; the random stream outside is left as it was.
        limit: evaluate only the first so many rows; 0 takes all.
        progress: called with the rows done, the rows in all, and the estimate so far, in nats.

    Raises:
        AncestralError: the model has no density (it says which have), the split is empty or unknown, or a density is
            asked for values that are discrete, where it is bounded by nothing.
    """
    if not isinstance(model, LatentVariableModel):
        raise AncestralError(
            f"a {type(model).__name__} is no LatentVariableModel: there is no density of p and q to evaluate. "
            "Models with one: vae, and any LatentVariableModel."
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
    description = data.description
    if description.kind != "continuous" and is_density(model.likelihood_of_one()):
        raise AncestralError(
            f"the {model.likelihood()} likelihood is a density, but {data.name} holds discrete values "
            f"({description.levels} levels), at which a density can be as high as one likes: it bounds nothing. "
            "Prepare the data with dequantize='yes' (binarization 'none'), or choose a mass function, bernoulli or "
            "discretized_logistic."
        )
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
                if not done:
                    with torch.random.fork_rng():
                        names = _names(model, model.given(x[:1], None if y is None else y[:1]))
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
    if description.scale:
        where += ", standardized columns"
    if data.note:
        where += f" ({data.note})"
    dimensions = math.prod(model.likelihood_of_one().event_shape)
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
    figures = [figure(names.log_prob, log_prob, "lower bound", estimator)]
    if names.data_alone and description.levels:
        bits = bits_per_dimension(log_prob, dimensions, levels)
        figures.append(figure("bits per dimension", bits, "upper bound", estimator, "bits"))
    figures.append(figure("ELBO", torch.cat([part.elbo for part in parts]), "lower bound", average))
    if model.q is model.p:  # what is drawn from p itself does not diverge from it: the bound is its own first part
        return figures
    return [
        *figures,
        figure(names.log_likelihood, torch.cat([part.log_likelihood for part in parts]), "part of a bound", average),
        figure(names.kl, torch.cat([part.kl for part in parts]), "part of a bound", average),
    ]


class _Names(NamedTuple):
    """What the figures are of."""

    log_prob: str
    log_likelihood: str
    kl: str
    data_alone: bool
    """Whether the density is of the data alone, not of their labels too."""


def _names(model: LatentVariableModel, given: Mapping[str, Tensor]) -> _Names:
    """The names, from one run of q and p on one datapoint: who is drawn, who is observed, who is read."""
    trace = Trace((1, 1), given)
    model.q(trace)
    scored = score(model.p, model.q, trace)
    latents = trace.drawn
    observed = [name for name in given if name in scored.sites]
    conditions = [name for name in given if name not in [*observed, *scored.unused]]
    if isinstance(model.p, Joint):
        parents = [parent for name in latents for parent in random_parents(name, model.p, scored)]
    else:  # a model with state: anything it met before its last latent variable may be a parent
        sites = list(scored.sites)
        parents = conditions + sites[: max([sites.index(name) for name in latents], default=0)]
    before = [name for name in given if name in parents]
    prior = _conditional(latents, before)
    posterior = _conditional(latents, [name for name in given if name not in trace.unused])
    if any(name in observed for name in before):  # p(x, y | z) is then no product of the observed factors
        likelihood = f"log p({_conditional([*observed, *latents], conditions)}) - log p({prior})"
    else:
        likelihood = f"log p({_conditional(observed, [*latents, *conditions])})"
    return _Names(
        f"log p({_conditional(observed, conditions)})",
        f"E[{likelihood}]",
        f"KL(q({posterior}) || p({prior}))",
        observed == [model.observed],
    )


def _conditional(names: Sequence[str], parents: Sequence[str]) -> str:
    return ", ".join(names) + (f" | {', '.join(parents)}" if parents else "")

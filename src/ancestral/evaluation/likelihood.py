"""How likely held-out data are: the ladder of estimates of log p(x), the ELBO and its parts."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ancestral.core import Joint, Trace
from ancestral.data import Dataset
from ancestral.data.dataset import SplitName
from ancestral.distributions import FlowedNormal, bits_per_dimension
from ancestral.distributions.support import is_density
from ancestral.errors import AncestralError, nearest
from ancestral.evaluation.ais import annealed_importance_sampling, bidirectional
from ancestral.evaluation.exact import exact_log_prob
from ancestral.evaluation.figures import Figure, counted
from ancestral.evaluation.hmc_density import hmc_density
from ancestral.evaluation.unfinished import Unfinished, digest_of, seed_from
from ancestral.models import LatentVariableModel
from ancestral.models.contract import evaluating
from ancestral.objectives.elbo import random_parents, score
from ancestral.objectives.hmc import check_counts
from ancestral.objectives.iwae import Bounds, Weigh, bounds as importance_weighted, log_weights
from ancestral.objectives.memory import at_once, bytes_made
from ancestral.training.compilation import compiled_bound, compiling
from ancestral.training.optimization import keep_freed_memory

Likelihood = Literal["iwae", "exact", "ais", "hmc"]
LIKELIHOODS: tuple[Likelihood, ...] = get_args(Likelihood)
"""In the order of their figures: what is compared most comes first."""
Start = Literal["prior", "posterior"]
ROWS = 100
"""Datapoints per pass."""
DRAWS = 320
"""Datapoints times chains per pass: enough for fast products, few enough that progress is seen."""
SIMULATED = 16
"""Data drawn from the model for the gap of annealed importance sampling."""
GAP = "ais-gap"
"""The name of that step, which is none of the ladder's own."""


def bounds(model: LatentVariableModel, x: Tensor, particles: int, y: Tensor | None = None) -> Bounds:
    """The bounds for a batch ``[b, *shape]``, streamed over particles: see :func:`ancestral.objectives.iwae.bounds`."""
    return importance_weighted(model.p, model.q, model.given(x, y), particles)


@dataclass(frozen=True)
class _Step:
    """One step of the ladder: how log p(x) is computed for some rows."""

    kind: str
    estimator: str
    """In words, with its settings."""
    rows: int
    """At once."""
    names: tuple[str, ...]
    """Of what is computed for each row, the first of which is log p(x): of the row, or of one drawn from the model."""
    compute: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
    """From given values to these, ``[rows]`` each."""
    draws: int = 0
    size: int = 0
    """Of these at once, for one row after the other; 0 where the step decides it."""


def evaluate(
    model: object,
    data: Dataset,
    particles: int = 100,
    split: SplitName = "test",
    seed: int = 0,
    limit: int = 0,
    progress: Callable[[int, int, float], None] | None = None,
    likelihood: Likelihood | Sequence[Likelihood] = "iwae",
    chains: int = 16,
    temperatures: int = 1000,
    leapfrog: int = 10,
    start: Start = "prior",
    keep: str | os.PathLike[str] | None = None,
    compile: bool = False,
) -> list[Figure]:
    """log p(x) on held-out data by one or several steps of the ladder of likelihoods, with provenance.

    ``"exact"`` sums over all values of discrete latent variables (:func:`exact_log_prob`); ``"iwae"`` is the
    importance-weighted bound, with the ELBO and its parts (:func:`bounds`); ``"ais"`` is annealed importance sampling
    (:func:`annealed_importance_sampling`), with the gap between its estimates from below and from above on data drawn
    from the model; ``"hmc"`` fits a density to draws of the posterior, in fewer than 5 dimensions
    (:func:`hmc_density`).

    Where labels are observed too, the figures are of log p(x, y) if p has a conditional of y, and of log p(x | y) if p
    is conditioned on y: their names say so. Bits per dimension are given for data with grey levels or bits, and left
    out for real values, which have no unit of their own, and for log p(x, y), which counts y too. Of a model whose
    latent variables are drawn from p itself there are no parts of the bound: its divergence is 0.

    Args:
        model: a model with latent variables and a density.
        particles: draws of z per datapoint (iwae).
        split: ``"test"``, ``"validation"`` or ``"train"``.
        seed: of the draws; the random stream outside is left as it was.
        limit: evaluate only the first so many rows; 0 takes all.
        progress: called with the rows done, the rows in all, and the estimate so far, in nats; for one step of the
            ladder after the other, and last for the data drawn from the model (ais).
        likelihood: which steps; the figures of ``"iwae"`` come first.
        chains: for each datapoint (ais, hmc).
        temperatures: between the start and the posterior (ais).
        leapfrog: steps of a transition (ais, hmc).
        start: where chains start (ais, hmc): ``"prior"``, p(z), or ``"posterior"``, q(z | x).
        keep: the beginning of the names of files in which unfinished work is kept, so that the same call continues it
            after an interruption, with the same result; they are removed once it is done. None keeps nothing.
        compile: make the bound one program first, in seconds, which then takes two thirds of the time (iwae). The
            draws are the same, and the figures too but for the rounding of sums.

    Raises:
        AncestralError: the model has no density (it says which have), the split is empty or unknown, a density is
            asked for values that are discrete, where it is bounded by nothing, a step of the ladder does not suit
            the latent variables, or what is asked for can't be compiled.
    """
    if not isinstance(model, LatentVariableModel):
        raise AncestralError(
            f"a {type(model).__name__} is no LatentVariableModel: there is no density of p and q to evaluate. "
            "Models with one: vae, and any LatentVariableModel."
        )
    asked = (likelihood,) if isinstance(likelihood, str) else tuple(likelihood)
    for name in asked:
        if name not in LIKELIHOODS:
            raise AncestralError(f"there is no likelihood {name!r}. " + nearest(str(name), LIKELIHOODS))
    if not asked or len(set(asked)) < len(asked):
        raise AncestralError(f"likelihood is {', '.join(asked) or 'empty'}: name each of the steps that you want once.")
    if split not in ("train", "validation", "test"):
        raise AncestralError(f"there is no split {split!r}. " + nearest(split, ("train", "validation", "test")))
    if start not in get_args(Start):
        raise AncestralError(f"there is no start {start!r}. " + nearest(str(start), get_args(Start)))
    if particles < 1:
        raise AncestralError(f"particles is {particles}, but at least one is needed.")
    check_counts(chains=chains, temperatures=temperatures, leapfrog=leapfrog)
    if compile and not ("iwae" in asked and model.latents()):
        raise AncestralError(
            "compile has no effect: it is for the importance-weighted bound of a model with latent variables. Leave it "
            "out."
        )
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
    keep_freed_memory()
    digest = data.digest(split)
    found: dict[str, dict[str, Tensor]] = {}
    with torch.random.fork_rng(), evaluating(model):
        row = next(_given(model, data, split, 1))
        names = _names(model, row)
        steps: dict[str, _Step] = {
            name: _step(name, model, row, names.known, particles, chains, temperatures, leapfrog, start, compile)
            for name in asked
        }
        if "ais" in steps:
            steps[GAP] = _gap(steps["ais"], model, names.known, chains, temperatures, leapfrog, start)
        identity = [digest_of(model), digest, str(data.config), split, total, seed] if keep else []
        files = {
            name: Unfinished(
                Path(f"{os.fspath(keep)}.{name}.unfinished") if keep else None,
                hashlib.sha256(
                    json.dumps([*identity, name, step.estimator, step.rows, step.size]).encode()
                ).hexdigest(),
            )
            for name, step in steps.items()
        }
        for way, step in steps.items():
            # the draws of the gap follow those of the rows
            count, own = (min(total, SIMULATED), seed_from(seed, total)) if way == GAP else (total, seed)
            with compiling() if compile and way == "iwae" else contextlib.nullcontext():
                found[way] = _over_rows(step, model, data, split, count, own, files[way], progress)
        for file in files.values():
            file.remove()
    config = data.config
    preparation = "dequantized" if config.dequantize == "yes" else f"binarization {config.binarization}"
    where = f"{data.name}, {split}, {'first ' if total < rows else ''}{counted(total, 'row')}, {preparation}"
    if description.scale:
        where += ", standardized columns"
    if data.note:
        where += f" ({data.note})"
    dimensions = math.prod(model.likelihood_of_one().event_shape)
    levels = description.levels if description.kind == "continuous" else 0

    def figure(
        name: str, values: Tensor, step: _Step, kind: str = "", estimator: str = "", unit: str = "nats"
    ) -> Figure:
        return Figure(
            name, values.mean().item(), unit, kind or step.kind, estimator or step.estimator, _error(values), total,
            step.draws, where, digest, seed, model.likelihood(),
        )  # fmt: skip

    figures = []
    for method in sorted(asked, key=LIKELIHOODS.index):
        step, values = steps[method], found[method]
        one = figure(names.log_prob, values["log_prob"], step)
        if "variance" in values:
            one = dataclasses.replace(one, monte_carlo_error=_known(values["variance"].sum().sqrt() / total))
        if "acceptance" in values:
            one = dataclasses.replace(one, acceptance=_known(values["acceptance"].mean()))
        figures.append(one)
        if method == "ais":
            gap, acceptance = found[GAP]["gap"], _known(found[GAP]["acceptance"].mean())
            figures.append(Figure(
                "gap of ais", gap.mean().item(), "nats", steps[GAP].kind, steps[GAP].estimator, _error(gap), len(gap),
                chains, f"{counted(len(gap), 'draw')} of the model", seed=seed, likelihood=model.likelihood(),
                acceptance=acceptance,
            ))  # fmt: skip
        if "elbo" not in values:
            continue
        if names.data_alone and description.levels:
            bits = bits_per_dimension(values["log_prob"], dimensions, levels)
            figures.append(figure("bits per dimension", bits, step, "upper bound", unit="bits"))
        average = f"mean over {particles} draws from q"
        figures.append(figure("ELBO", values["elbo"], step, estimator=average))
        if model.q is not model.p:  # what is drawn from p itself does not diverge from it: the bound is its first part
            for words, part in ((names.log_likelihood, "log_likelihood"), (names.kl, "kl")):
                figures.append(figure(words, values[part], step, "part of a bound", average))
    return figures


def _step(
    name: str,
    model: LatentVariableModel,
    row: Mapping[str, Tensor],
    known: tuple[str, ...],
    particles: int,
    chains: int,
    temperatures: int,
    leapfrog: int,
    start: Start,
    compile: bool,
) -> _Step:
    """The step of the ladder of that name.

    Args:
        row: the given values of one datapoint, which show what it takes.
        known: the names of those that p knows.
    """
    q = model.q if start == "posterior" else None
    moving = f"{chains:,} chains from {'p(z)' if q is None else 'q'}, {leapfrog:,} leapfrog steps"
    batch = max(1, DRAWS // chains)
    sampled = ("log_prob", "variance", "acceptance")
    seen = known if q is None else tuple(row)

    def exact(given: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {"log_prob": exact_log_prob(model.p, _only(known, given))}

    def iwae(given: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return vars(importance_weighted(model.p, model.q, given, particles, size, weigh))

    def ais(given: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        annealed = annealed_importance_sampling(model.p, _only(seen, given), chains, temperatures, leapfrog, q=q)
        return {name: getattr(annealed, name) for name in sampled}

    def hmc(given: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return vars(hmc_density(model.p, _only(seen, given), chains, leapfrog, q=q))

    hidden = bool(model.latents())
    if name == "exact" or (name == "iwae" and not hidden):
        exact(row)  # raises what does not suit, before other steps
        words = "sum over all values of the latent variables" if hidden else "density without latent variables"
        return _Step("exact", words, ROWS, ("log_prob",), exact)
    if name == "ais":
        if q is not None:
            _check_start(q, row)
        annealed_importance_sampling(model.p, _only(seen, row), chains, 2, 1, q=q)
        words = f"annealed importance sampling, {temperatures:,} temperatures, {moving}"
        return _Step("lower bound", words, batch, sampled, ais, chains)
    if name == "hmc":
        hmc(row)
        return _Step("estimate", f"density fitted to posterior draws, {moving}", batch, sampled, hmc, chains)
    words = f"importance-weighted, {particles} particles from q"
    # a row with many particles goes alone: q computes their distribution once in each pass
    each, device = bytes_made(lambda: importance_weighted(model.p, model.q, row, 1)), next(iter(row.values())).device
    rows = at_once(ROWS, particles * each, device)
    size = at_once(particles, rows * each, device)
    weigh: Weigh = functools.partial(log_weights, model.p, model.q)
    if compile:
        weigh = compiled_bound(weigh, device.type)
    bounded = ("log_prob", "variance", "elbo", "log_likelihood", "kl")
    return _Step("lower bound", words, rows, bounded, iwae, particles, size)


def _gap(
    step: _Step,
    model: LatentVariableModel,
    known: tuple[str, ...],
    chains: int,
    temperatures: int,
    leapfrog: int,
    start: Start,
) -> _Step:
    """Annealed importance sampling, a step of the ladder, from both sides on data drawn from the model."""
    q = model.q if start == "posterior" else None

    def compute(given: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        both = bidirectional(model.p, given if q else _only(known, given), chains, temperatures, leapfrog, q=q)
        acceptance = (both.lower.acceptance + both.upper.acceptance) / 2
        return {"log_prob": both.lower.log_prob, "gap": both.gap, "acceptance": acceptance}

    words, rows = f"upper less lower estimate, {step.estimator}", max(1, step.rows // 2)  # each is annealed twice
    return _Step("upper bound", words, rows, ("log_prob", "gap", "acceptance"), compute, chains)


def _only(names: Sequence[str], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: given[name] for name in names}


def _check_start(q: Callable[[Trace], Any], row: Mapping[str, Tensor]) -> None:
    """Raise where chains can't be annealed from q, whose density must be known wherever they go."""
    trace = Trace((1, 1), row)
    q(trace)
    for name in trace.drawn:
        if isinstance(trace.sites[name].distribution, FlowedNormal):
            raise AncestralError(
                f"ais can't start at the posterior of {name!r}, a normalizing flow, whose density is known at its own "
                "draws alone, and not where the chains go. Leave start out: they then start at the prior."
            )


def _over_rows(
    step: _Step,
    model: LatentVariableModel,
    data: Dataset,
    split: SplitName,
    total: int,
    seed: int,
    file: Unfinished,
    progress: Callable[[int, int, float], None] | None,
) -> dict[str, Tensor]:
    """What a step of the ladder computes for the first rows, ``[total]`` each; rows that were kept are not done again.

    The draws for some rows are a function of the seed and of which rows they are, so that it does not matter where an
    evaluation was interrupted.
    """
    boundaries = {part for begin in range(0, total, ROWS) for part in range(begin, min(begin + ROWS, total), step.rows)}
    values = file.read(step.names, boundaries | {total})
    parts = [values]
    done = len(values["log_prob"])
    log_prob = values["log_prob"].sum().item()

    def so_far() -> dict[str, Tensor]:
        return {name: torch.cat([part[name] for part in parts]) for name in step.names}

    for i, batch in enumerate(_given(model, data, split, ROWS, done // ROWS), done // ROWS):
        begin = i * ROWS
        for part in range(begin, min(begin + ROWS, total), step.rows):
            end = min(part + step.rows, begin + ROWS, total)
            if part < done:
                continue
            torch.manual_seed(seed_from(seed, part))
            computed = step.compute({name: value[part - begin : end - begin] for name, value in batch.items()})
            parts.append({name: computed[name].double().cpu() for name in step.names})
            done = end
            log_prob += parts[-1]["log_prob"].sum().item()
            file.write(so_far, last=done == total)
            if progress:
                progress(done, total, log_prob / done)
        if done == total:
            break
    return so_far()


def _given(
    model: LatentVariableModel, data: Dataset, split: SplitName, rows: int, start: int = 0
) -> Iterator[dict[str, Tensor]]:
    """The given values of so many rows after the other, from a batch on."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    for x, y in data.batches(split, rows, shuffle=False, device=device, start=start):
        yield model.given(x, y)


def _known(value: Tensor) -> float | None:
    """None for NaN, and what is infinite: one chain has no variance, and one temperature no transition."""
    return value.item() if bool(value.isfinite()) else None


def _error(values: Tensor) -> float | None:
    """The standard error of a mean over datapoints."""
    return values.std().item() / math.sqrt(len(values)) if len(values) > 1 else None


class _Names(NamedTuple):
    """What the figures are of."""

    log_prob: str
    log_likelihood: str
    kl: str
    data_alone: bool
    """Whether the density is of the data alone, not of their labels too."""
    known: tuple[str, ...]
    """The given values that p draws or is conditioned on."""


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
        (*observed, *conditions),
    )


def _conditional(names: Sequence[str], parents: Sequence[str]) -> str:
    return ", ".join(names) + (f" | {', '.join(parents)}" if parents else "")

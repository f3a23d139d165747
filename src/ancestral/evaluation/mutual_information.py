"""How much the latent variables of an approximate posterior say of the data: their mutual information."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ancestral.core import AncestralSampling, Joint, Trace
from ancestral.data import Dataset
from ancestral.data.dataset import SplitName
from ancestral.distributions import FlowedNormal
from ancestral.distributions.support import enumerate_support
from ancestral.errors import AncestralError, EstimatorError
from ancestral.evaluation.figures import Figure
from ancestral.models import LatentVariableModel
from ancestral.models.contract import evaluating
from ancestral.objectives.elbo import random_parents
from ancestral.objectives.expectation import batch_of
from ancestral.objectives.hmc import check_counts
from ancestral.objectives.log_joint import evaluated

ROWS = 2_000
"""Datapoints of the aggregate posterior, at most."""
DRAWS = 200
"""Of them, how many have a draw that is scored."""
VALUES = 1 << 10
"""Values of discrete variables that are summed over instead, at most."""
CHUNK = 1 << 21
"""Numbers of a latent variable that one pass scores, which bound its memory."""


@dataclass(frozen=True)
class Information:
    """The mutual information of some variables and of what they are drawn from."""

    parents: tuple[str, ...]
    variables: tuple[str, ...]
    values: Tensor
    """KL(q(z | x) || q(z)) of each datapoint where z was summed over, else an estimate of it for each draw; nats,
    float64. Their mean is the mutual information."""
    summed: bool
    exact: bool
    """Whether nothing was drawn."""


@torch.no_grad()
def mutual_information(q: Callable[[Trace], Any], given: Mapping[str, Tensor], draws: int = DRAWS) -> list[Information]:
    r"""How much each layer of latent variables says of the data, from the aggregate posterior of N datapoints.

    .. math:: I_q(x; z) = \frac1N \sum_n KL(q(z | x_n) ‖ q(z)),  q(z) = \frac1N \sum_n q(z | x_n)

    This is what E[KL(q(z | x) || p(z))] has besides KL(q(z) || p(z)), so that it is never more; and it is never more
    than log N, the information of which of N datapoints it is. Where z has few values it is summed over them, and
    exact for these datapoints. Otherwise it is estimated with draws z of q(z | x_n) of some of them, by
    log q(z | x_n) - log q(z). Both are lower bounds, in expectation, of the mutual information over the distribution
    that the datapoints are drawn from: where an estimate is near log N, it only says that there is more.

    A variable that q draws from the data and from other latent variables is taken together with all that are drawn
    before it, for what is drawn from those is no information on the data; one that q draws from other latent variables
    alone, with these, which bounds what it says of the data.

    Args:
        q: the approximate posterior, a Joint or any module with state, whose every variable may depend on the data.
        given: values by name, each with the N datapoints first.
        draws: how many datapoints have a draw, spread evenly; all where there are fewer.

    Dropout and batch normalization are as after training.

    Returns:
        One for each layer, in the order in which q draws them. A layer that depends on nothing is left out, and so is
        one whose density is known at its own draws alone (a normalizing flow).

    Raises:
        AncestralError: ``draws`` is below 1, or there are no datapoints.

    Sources: Hoffman and Johnson (2016), "ELBO surgery", section 2; the bound: Poole, Ozair, van den Oord, Alemi and
    Tucker (2019), "On variational bounds of mutual information", eq. 12.
    """
    check_counts(draws=draws)
    with evaluated(q):
        return _informed(q, given, draws)


def _informed(q: Callable[[Trace], Any], given: Mapping[str, Tensor], draws: int) -> list[Information]:
    rows = batch_of(given)
    values: dict[str, list[Tensor]] = {}
    for part in _parts(given, rows, 500):
        trace = Trace((batch_of(part),), part, AncestralSampling())
        q(trace)
        for name in trace.drawn:
            values.setdefault(name, []).append(trace[name])
    drawn = {name: torch.cat(parts) for name, parts in values.items()}
    index = torch.linspace(0, rows - 1, min(draws, rows), dtype=torch.float64).round().long()
    found = []
    for parents, names in _layers(q, trace):
        needed, known = _until(q, names[-1]), {**given, **{name: drawn[name] for name in drawn if name not in names}}
        support = _support(trace, names)
        if support is not None:
            divergences = _divergences(needed, known, support, rows)
            found.append(Information(parents, names, divergences, True, exact=trace.given.issuperset(parents)))
            continue
        if any(isinstance(trace.sites[name].distribution, FlowedNormal) for name in names):
            continue
        ratios = _ratios(needed, known, {name: drawn[name] for name in names}, index, rows)
        found.append(Information(parents, names, ratios, False, False))
    return found


def _until(q: Callable[[Trace], Any], name: str) -> Callable[[Trace], Any]:
    """q without what it draws after a variable."""
    if not isinstance(q, Joint):
        return q
    names = q.variables[: q.variables.index(name) + 1]
    return Joint({" | ".join(filter(None, (one, ", ".join(q.parents[one])))): q.conditionals[one] for one in names})


def _layers(q: Callable[[Trace], Any], trace: Trace) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """What each layer is drawn from, and the variables that are taken together for it."""
    read = tuple(name for name in trace.values if name in trace.given and name not in trace.unused)
    for i, name in enumerate(trace.drawn):
        if not isinstance(q, Joint):  # anything may be a parent
            yield read, tuple(trace.drawn[: i + 1])
            continue
        parents = dict.fromkeys(random_parents(name, q, trace))
        if not trace.given.isdisjoint(parents):
            yield read, tuple(trace.drawn[: i + 1])
        elif parents:
            yield tuple(parents), (name,)


def _support(trace: Trace, names: Sequence[str]) -> dict[str, Tensor] | None:
    """All values of some variables together, ``[values, *event]`` each; None where they are not few."""
    supports = []
    try:
        for name in names:
            supports.append(enumerate_support(trace.sites[name].distribution, VALUES))
    except EstimatorError:
        return None
    sizes = [len(support) for support in supports]
    if math.prod(sizes) > VALUES:
        return None
    places = torch.unravel_index(torch.arange(math.prod(sizes), device=supports[0].device), sizes)
    return {name: support[place] for name, support, place in zip(names, supports, places, strict=True)}


def _log_densities(
    q: Callable[[Trace], Any], known: Mapping[str, Tensor], values: Mapping[str, Tensor], rows: int
) -> Iterator[Tensor]:
    """log q of S values given each of the datapoints, ``[S, some of the datapoints]`` at a time, float64."""
    size = next(iter(values.values())).shape[0]
    step = max(1, CHUNK // max(value.numel() for value in values.values()))
    for part in _parts(known, rows, step):
        shape = (size, batch_of(part))
        trace = Trace(shape, {**part, **{n: v[:, None].expand(*shape, *v.shape[1:]) for n, v in values.items()}})
        q(trace)
        yield trace.log_prob(list(values)).double().expand(shape)


def _ratios(
    q: Callable[[Trace], Any], known: Mapping[str, Tensor], drawn: Mapping[str, Tensor], index: Tensor, rows: int
) -> Tensor:
    """log q(z | x_n) - log q(z) of the draws of some datapoints."""
    index = index.to(next(iter(drawn.values())).device)
    own = torch.zeros(len(index), dtype=torch.float64, device=index.device)
    total, begin = torch.full_like(own, -math.inf), 0
    for log_q in _log_densities(q, known, {name: value[index] for name, value in drawn.items()}, rows):
        total = torch.logaddexp(total, log_q.logsumexp(1))
        inside = ((index >= begin) & (index < begin + log_q.shape[1])).nonzero()[:, 0]
        own[inside] = log_q[inside, index[inside] - begin]
        begin += log_q.shape[1]
    return own - total + math.log(rows)


def _divergences(
    q: Callable[[Trace], Any], known: Mapping[str, Tensor], support: Mapping[str, Tensor], rows: int
) -> Tensor:
    """KL(q(z | x_n) || q(z)) of each datapoint, summed over all values."""
    parts = list(_log_densities(q, known, support, rows))
    aggregate = torch.stack([part.logsumexp(1) for part in parts]).logsumexp(0) - math.log(rows)
    terms = [torch.where(part > -math.inf, part.exp() * (part - aggregate[:, None]), 0.0) for part in parts]
    return torch.cat([term.sum(0) for term in terms])


def _parts(values: Mapping[str, Tensor], rows: int, step: int) -> Iterator[dict[str, Tensor]]:
    """So many datapoints at a time."""
    for begin in range(0, rows, step):
        yield {name: value[begin : begin + step] for name, value in values.items()}


def information(model: LatentVariableModel, data: Dataset, split: SplitName = "test", seed: int = 0) -> list[Figure]:
    """:func:`mutual_information` of each layer of a model's latent variables, in nats; none where q is p itself.

    Args:
        split: whose rows are the datapoints, 2,000 of them at most, spread evenly.
        seed: of the draws; the random stream outside is left as it was.

    Raises:
        AncestralError: the split is empty.
    """
    part = getattr(data, split)
    if not len(part):
        raise AncestralError(f"{data.name} has no rows in its {split} split. Choose another --split.")
    if model.q is model.p:
        return []
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    index = np.linspace(0, len(part) - 1, min(ROWS, len(part))).round().astype(np.int64)
    x = data.rows(split, index).to(device)
    y = None if part.y is None else torch.as_tensor(part.y[index]).to(device)
    with torch.random.fork_rng(), evaluating(model):
        torch.manual_seed(seed)
        found = mutual_information(model.q, model.given(x, y))
    figures = []
    for one in found:
        n, mixture = len(one.values), f"mixture of q of {len(x):,} rows, at most {math.log(len(x)):.2f}"
        figures.append(Figure(
            f"mutual information of {', '.join(one.parents)} and {', '.join(one.variables)}",
            one.values.mean().item(), "nats", "exact" if one.exact else "lower bound",
            f"{mixture}, sum over all values" if one.summed else f"{mixture}, {n:,} draws",
            None if one.exact or n == 1 else one.values.std().item() / math.sqrt(n),
            len(x), 0 if one.summed else n, f"{data.name}, {split}", data.digest(split), seed,
        ))  # fmt: skip
    return figures

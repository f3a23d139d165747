"""What an approximate posterior misses: the family it is of, and the encoder that all data share."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ancestral.core import Trace
from ancestral.data import Dataset
from ancestral.data.dataset import SplitName
from ancestral.errors import AncestralError
from ancestral.evaluation.figures import Figure, counted
from ancestral.evaluation.unfinished import Unfinished, digest_of, seed_from
from ancestral.models import LatentVariableModel
from ancestral.models.contract import evaluating
from ancestral.models.free_posterior import FreePosterior, freed
from ancestral.objectives import elbo
from ancestral.objectives.hmc import check_counts
from ancestral.objectives.iwae import bounds
from ancestral.objectives.log_joint import evaluated
from ancestral.objectives.memory import at_once, bytes_made

ROWS = 100
"""Datapoints per pass."""
LEARNING_RATE = 0.03
"""Of Adam, at the first step; it falls to 0 by a straight line."""
DRAWS = 5
"""Of each datapoint in a step of optimization."""


class Gaps(NamedTuple):
    """Of each datapoint, in nats, ``[batch]``, float64. Together they are log p(x) less the ELBO."""

    approximation: Tensor
    """log p(x) - L[q*], the divergence of the best Gaussian q* from the posterior."""
    amortization: Tensor
    """L[q*] - L[q], what the encoder's Gaussian has besides."""
    posterior: FreePosterior
    """q*."""


def inference_gaps(
    p: Callable[[Trace], Any],
    q: Callable[[Trace], Any],
    given: Mapping[str, Tensor],
    steps: int = 500,
    particles: int = 1000,
    progress: Callable[[int], None] | None = None,
) -> Gaps:
    r"""The gap between log p(x) and the ELBO, parted into what the family of q costs and what the encoder does.

    .. math::

        \log p(x) - L[q] = \underbrace{\log p(x) - L[q^*]}_{approximation} + \underbrace{L[q^*] - L[q]}_{amortization},
        \quad q^* = \arg\max_{q' Gaussian} L[q']

    q* is found for each datapoint from where q is, by gradient steps that leave p as it is; the two ELBOs are compared
    at the same noise. log p(x) is estimated from below with the draws of both, so that the first gap is, on average,
    rather too small; where the steps have not reached q*, a part of the second is counted with the first.

    Args:
        p: the model.
        q: its approximate posterior, diagonal Gaussians given the data alone.
        given: the observed values by name, each with the batch first.
        steps: of the optimization.
        particles: draws by which the ELBOs and log p(x) are estimated.
        progress: called with the steps done, after each.

    Dropout and batch normalization are as after training.

    Raises:
        AncestralError: a number is out of range, or q is no diagonal Gaussian.

    Source: Cremer, Li and Duvenaud (2018), Inference suboptimality in variational autoencoders, eq. 4 and 5.
    """
    check_counts(steps=steps, particles=particles)
    with evaluated(p), evaluated(q):
        return _gaps(p, q, given, steps, particles, progress)


def _gaps(
    p: Callable[[Trace], Any],
    q: Callable[[Trace], Any],
    given: Mapping[str, Tensor],
    steps: int,
    particles: int,
    progress: Callable[[int], None] | None,
) -> Gaps:
    best = freed(q, given)
    parameters = list(best.parameters())
    optimizer = torch.optim.Adam(parameters, LEARNING_RATE)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / steps)
        with torch.enable_grad():
            # its gradient has no noise where q is the posterior itself
            loss = -elbo(p, best, given, DRAWS, gradient="sticking-the-landing").sum()
            gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        if progress:
            progress(step + 1)
    seed, device = int(torch.randint(2**31, ())), next(iter(given.values())).device
    with torch.random.fork_rng():
        size = at_once(particles, bytes_made(lambda: bounds(p, q, given, 1)), device)
        torch.manual_seed(seed)
        amortized = bounds(p, q, given, particles, size)
        torch.manual_seed(seed)  # the same noise
        optimized = bounds(p, best, given, particles, size)
    log_prob = torch.logaddexp(amortized.log_prob, optimized.log_prob) - math.log(2)
    return Gaps(log_prob - optimized.elbo, optimized.elbo - amortized.elbo, best)


def amortization_gap(
    model: object,
    data: Dataset,
    rows: int = 100,
    steps: int = 500,
    split: SplitName = "test",
    particles: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    keep: str | os.PathLike[str] | None = None,
) -> list[Figure]:
    """The approximation gap and the amortization gap of held-out rows, in nats, with standard errors.

    See :func:`inference_gaps`.

    Args:
        rows: how many, the first of the split; all where it has fewer.
        seed: of the draws; the random stream outside is left as it was.
        progress: called with the steps of optimization done, and those in all.
        keep: the beginning of the name of a file in which the rows done are kept, so that the same call continues after
            an interruption, with the same result; it is removed once all are done. None keeps nothing.

    Raises:
        AncestralError: a number is out of range, the split is empty, or q is no diagonal Gaussian.
    """
    if not isinstance(model, LatentVariableModel) or model.q is model.p:
        raise AncestralError(
            f"a {type(model).__name__} has no approximate posterior apart from p, so that there is no gap of it. "
            "Models with one: vae, and any LatentVariableModel with a q of its own."
        )
    check_counts(rows=rows)
    rows = min(rows, len(getattr(data, split)))
    if not rows:
        raise AncestralError(f"{data.name} has no rows in its {split} split. Choose another --split.")
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    identity = [digest_of(model), data.digest(split), str(data.config), split, rows, steps, particles, seed]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    file = Unfinished(Path(f"{os.fspath(keep)}.gaps.unfinished") if keep else None, key)
    names = ("approximation", "amortization")
    parts = [file.read(names, {*range(0, rows, ROWS), rows})]
    done = len(parts[0][names[0]])

    def so_far() -> dict[str, Tensor]:
        return {name: torch.cat([part[name] for part in parts]) for name in names}

    passes = math.ceil(rows / ROWS)
    with torch.random.fork_rng(), evaluating(model):
        for i in range(math.ceil(done / ROWS), passes):
            x, y = next(data.batches(split, ROWS, shuffle=False, device=device, start=i))
            given = {name: value[: rows - done] for name, value in model.given(x, y).items()}
            torch.manual_seed(seed_from(seed, done))
            heard = progress and functools.partial(_tell, progress, i * steps, passes * steps)
            gaps = inference_gaps(model.p, model.q, given, steps, particles, heard)
            parts.append({name: getattr(gaps, name).double().cpu() for name in names})
            done = min(rows, done + ROWS)
            file.write(so_far, last=True)
    file.remove()
    values = so_far()
    words = f"Gaussians of each datapoint optimized in {steps:,} steps, ELBOs by {particles:,} particles"

    def figure(name: str, values: Tensor) -> Figure:
        error = values.std().item() / math.sqrt(rows) if rows > 1 else None
        return Figure(
            name, values.mean().item(), "nats", "estimate", words, error, rows, particles,
            f"{data.name}, {split}, first {counted(rows, 'row')}", data.digest(split), seed,
            model.likelihood(),
        )  # fmt: skip

    return [
        figure("approximation gap", values["approximation"]),
        figure("amortization gap", values["amortization"]),
    ]


def _tell(progress: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    progress(before + done, total)

"""What an approximate posterior misses: the family it is of, and the encoder that all data share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ancestral.core import Trace
from ancestral.data import Dataset
from ancestral.errors import AncestralError
from ancestral.evaluation.figures import Figure
from ancestral.models import LatentVariableModel
from ancestral.models.free_posterior import FreePosterior, freed
from ancestral.objectives import elbo
from ancestral.objectives.hmc import check_counts
from ancestral.objectives.iwae import bounds

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

    Raises:
        AncestralError: a number is out of range, or q is no diagonal Gaussian.

    Source: Cremer, Li and Duvenaud (2018), Inference suboptimality in variational autoencoders, eq. 4 and 5.
    """
    check_counts(steps=steps, particles=particles)
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
    seed = int(torch.randint(2**31, ()))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        amortized = bounds(p, q, given, particles)
        torch.manual_seed(seed)  # the same noise
        optimized = bounds(p, best, given, particles)
    log_prob = torch.logaddexp(amortized.log_prob, optimized.log_prob) - math.log(2)
    return Gaps(log_prob - optimized.elbo, optimized.elbo - amortized.elbo, best)


def amortization_gap(
    model: object,
    data: Dataset,
    rows: int = 100,
    steps: int = 500,
    split: str = "test",
    particles: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Figure]:
    """The approximation gap and the amortization gap of held-out rows, in nats, with standard errors.

    See :func:`inference_gaps`.

    Args:
        rows: how many, the first of the split; all where it has fewer.
        seed: of the draws; the random stream outside is left as it was.
        progress: called with the rows done, and the rows in all.

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
    found: list[Gaps] = []
    done, training = 0, model.training
    try:
        model.eval()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for x, y in data.batches(split, ROWS, shuffle=False, device=device):  # type: ignore[arg-type]
                given = {name: value[: rows - done] for name, value in model.given(x, y).items()}
                found.append(inference_gaps(model.p, model.q, given, steps, particles))
                done = min(rows, done + len(x))
                if progress:
                    progress(done, rows)
                if done == rows:
                    break
    finally:
        model.train(training)
    words = f"Gaussians of each datapoint optimized in {steps:,} steps, ELBOs by {particles:,} particles"

    def figure(name: str, values: Tensor) -> Figure:
        error = values.std().item() / math.sqrt(rows) if rows > 1 else None
        return Figure(
            name, values.mean().item(), "nats", "estimate", words, error, rows, particles,
            f"{data.name}, {split}, first {rows} rows", data.digest(split), seed,  # type: ignore[arg-type]
            model.likelihood(),
        )  # fmt: skip

    return [
        figure("approximation gap", torch.cat([gaps.approximation for gaps in found])),
        figure("amortization gap", torch.cat([gaps.amortization for gaps in found])),
    ]

"""log p(x) of small discrete models, summed over all values of the latent variables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ancestral.core import AncestralSampling, Trace, check_known
from ancestral.distributions.support import base_of, check_support, enumerate_support, is_density
from ancestral.errors import AncestralError, EstimatorError, GraphError
from ancestral.objectives.expectation import batch_of
from ancestral.objectives.log_joint import evaluated

MOST = 1 << 20
"""Joint values of the latent variables."""
CHUNK = 1 << 21
"""Numbers that one pass computes for an observed variable, which bound its memory."""


@torch.no_grad()
def exact_log_prob(p: Callable[[Trace], Any], given: Mapping[str, Tensor], most: int = MOST) -> Tensor:
    r"""log p(x), nothing estimated, in nats, ``[batch]``, float64.

    .. math:: \log p(x) = \log \sum_z p(x, z)

    Args:
        p: the model, a Joint or any module with state, all of whose latent variables are discrete.
        given: the observed values by name, each with the batch first.
        most: joint values of the latent variables that are summed over.

    Dropout and batch normalization are as after training.

    Raises:
        AncestralError: a latent variable has not finitely many values, or there are more than ``most``.
        GraphError: none of the given values is one that p draws, or one is of a name that p does not know.
    """
    with evaluated(p):
        return _summed(p, given, most)


def _summed(p: Callable[[Trace], Any], given: Mapping[str, Tensor], most: int) -> Tensor:
    rows = batch_of(given)
    example = Trace((1, rows), given, AncestralSampling())
    p(example)
    observed = [name for name in example.sites if name not in example.drawn]
    if not observed:
        raise GraphError(f"p draws none of the given {', '.join(given)}: there is no likelihood of them.")
    check_known((p, example))
    for name in observed:
        check_support(name, example.sites[name].distribution, example.sites[name].value)
    supports = {}
    for name in example.drawn:
        distribution = example.sites[name].distribution
        kind = type(base_of(distribution)[0]).__name__
        if is_density(distribution):
            raise AncestralError(
                f"log p(x) can't be summed: the latent variable {name!r}, a {kind}, is continuous. Use iwae or ais."
            )
        try:
            supports[name] = enumerate_support(distribution, most)
        except EstimatorError as error:
            raise AncestralError(
                f"log p(x) can't be summed over {name!r}: {str(error).split('. Use ')[0]}. Use iwae instead of exact."
            ) from None
    sizes = [len(values) for values in supports.values()]
    count = math.prod(sizes)
    if count > most:
        listed = ", ".join(f"{name!r} has {size:,}" for name, size in zip(supports, sizes, strict=True))
        raise AncestralError(
            f"log p(x) can't be summed: the latent variables have {count:,} values together ({listed}), more than "
            f"{most:,}. Use iwae instead of exact."
        )
    device = next(iter(given.values())).device
    total = torch.full((rows,), -math.inf, dtype=torch.float64, device=device)
    step = max(1, CHUNK // max(value.numel() for value in given.values()))
    for begin in range(0, count, step):
        number = torch.arange(begin, min(begin + step, count), device=device)
        places = torch.unravel_index(number, sizes) if sizes else ()
        values = {  # a network that reads nothing else is asked once for each value, not for each datapoint too
            name: support[place][:, None] for (name, support), place in zip(supports.items(), places, strict=True)
        }
        trace = Trace((len(number), rows), {**given, **values})
        p(trace)
        joint = trace.log_prob().double().expand(trace.shape)
        total = torch.logaddexp(total, joint.logsumexp(0))
    return total

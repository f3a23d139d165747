"""The importance-weighted bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ancestral.core import Estimators, Trace
from ancestral.objectives.elbo import check_same_latents, score
from ancestral.objectives.expectation import expectation


def iwae(
    p: Callable[[Trace], Any],
    q: Callable[[Trace], Any],
    given: Mapping[str, Tensor],
    particles: int,
    estimators: Estimators | None = None,
) -> Tensor:
    r"""The importance-weighted bound of log p(x), in nats, one value per datapoint.

    .. math:: L_K(x) = E\left[\log \frac1K \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k | x)}\right],  z_k ∼ q(z | x)

    With one particle it is the ELBO; it rises with K towards log p(x). The weights are per datapoint.

    Args and errors are those of :func:`~ancestral.elbo`; enumerated variables raise ``EstimatorError``.

    Source: Burda, Grosse and Salakhutdinov (2016), eq. 8.
    """
    return expectation(lambda trace: log_weight(p, trace), q, given, particles, estimators, reduction="log-mean-exp")


def log_weight(p: Callable[[Trace], Any], trace: Trace) -> Tensor:
    """log p(x, z) - log q(z | x) at the values of a trace of q, nats, ``(*particles, batch)``."""
    scored = score(p, trace)
    check_same_latents(scored, trace)
    return scored.log_prob() - trace.log_prob(trace.drawn)

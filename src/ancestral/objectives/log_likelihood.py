"""The log-likelihood of a model whose variables are all observed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ancestral.core import Trace, run
from ancestral.errors import GraphError
from ancestral.objectives.elbo import check_same_latents
from ancestral.objectives.expectation import batch_of


def log_likelihood(p: Callable[[Trace], Any], given: Mapping[str, Tensor]) -> Tensor:
    r"""log p(x), or log p(y | x) of a conditional model, in nats, one value per datapoint.

    .. math:: \log p(x) = \sum_i \log p(x_i | parents(x_i))

    Every variable of p is given, so it is exact; to maximize its mean over the data is maximum likelihood. N times the
    mean over a minibatch is an unbiased estimate of the sum over N datapoints.

    Args:
        p: the model, for example ``Joint({"y": prior, "x | y": decoder})``, or ``Joint({"y | x": classifier})``.
        given: the values of all of its variables, and of what it is conditioned on, each with the batch first.

    Returns:
        ``[batch]``, differentiable in the parameters of p.

    Raises:
        GraphError: a variable of p is not given, or a value is given for a name that p does not know.
        ShapeError: a value does not have the shape of its variable.
    """
    trace = run(p, given, (batch_of(given),))
    if trace.drawn:
        raise GraphError(
            f"no value is given for {trace.drawn[0]!r}, and the likelihood of the others is an integral over it. Give "
            "it, or use a bound of that integral: elbo or iwae with an approximate posterior."
        )
    check_same_latents(trace, Trace(trace.shape, given))
    return trace.log_prob()

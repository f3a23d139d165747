"""Wake-sleep: p learns from what q recognizes, q from what p dreams."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from ancestral.core import Trace, check_known
from ancestral.errors import GraphError
from ancestral.objectives.elbo import check_same_latents
from ancestral.objectives.expectation import batch_of


def wake_sleep(
    p: Callable[[Trace], Any], q: Callable[[Trace], Any], given: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    r"""The losses of the two phases, in nats, one value per datapoint each.

    .. math::

        wake = -\log p(x, z),  z ∼ q(z | x)  \qquad  sleep = -\log q(z' | x'),  (x', z') ∼ p(x, z)

    No gradient passes a draw, so any variable with a log-density will do, and neither loss has a gradient in the
    parameters of the other model: their sum trains both. On average over z and the data, the gradient of the first is
    that of the ELBO in p. That of the second is of KL(p(z | x) ‖ q(z | x)) over dreams, where the ELBO has
    KL(q(z | x) ‖ p(z | x)) over the data: together they need not descend on any one function.

    Args:
        p: the model, for example ``Joint({"z": prior, "x | z": decoder})``.
        q: the recognition model, for example ``Joint({"z | x": encoder})``, which draws every latent of p.
        given: the observed values by name, each with the batch first. Those that p draws are dreamt anew in the sleep
            phase, one dream to a datapoint; those that p is conditioned on are kept.

    Returns:
        wake and sleep, ``[batch]`` each.

    Raises:
        GraphError: p is q, q draws a variable that p does not have, or p has a latent that q does not draw.
        ShapeError: see :func:`~ancestral.elbo`.

    Source: Hinton, Dayan, Frey and Neal (1995), "The wake-sleep algorithm for unsupervised neural networks".
    """
    recognized, scored = recognize(p, q, given, particles=1, learn=False)
    wake = -scored.log_prob().expand(scored.shape)[0]
    return wake, sleep_phase(p, q, given, scored, recognized.drawn)


def recognize(
    p: Callable[[Trace], Any], q: Callable[[Trace], Any], given: Mapping[str, Tensor], particles: int, learn: bool
) -> tuple[Trace, Trace]:
    """Draw the latents from q without gradient, and score p there: the traces of q and p, ``(particles, batch)``.

    Args:
        learn: whether the densities of q have a gradient. Those of p have one, which never leads to q.
    """
    if p is q:
        raise GraphError(
            "p and q are one model, but wake-sleep needs a recognition model q apart from p. To train a model whose "
            "latent variables are drawn from their prior, use elbo(p, p, ...)."
        )
    recognized = Trace((particles, batch_of(given)), given)
    with torch.set_grad_enabled(learn and torch.is_grad_enabled()):
        q(recognized)
    # what q computes without drawing would lead back to it
    values = {name: v if v is given.get(name) else v.detach() for name, v in recognized.values.items()}
    scored = Trace(recognized.shape, values)
    p(scored)
    check_known((q, recognized), (p, scored))
    check_same_latents(scored, recognized)
    return recognized, scored


def sleep_phase(
    p: Callable[[Trace], Any],
    q: Callable[[Trace], Any],
    given: Mapping[str, Tensor],
    scored: Trace,
    latents: Collection[str],
) -> Tensor:
    """-log q(z | x) at a draw (x, z) from p for each datapoint, in nats, ``[batch]``.

    Args:
        scored: a run of p at the given values, which tells what it is conditioned on: it has no density of that.
        latents: the variables that q draws.
    """
    kept = {name: value for name, value in given.items() if name not in scored.sites}
    dreamt = Trace(scored.shape[-1:], kept)
    with torch.no_grad():  # of p's deterministic variables too
        p(dreamt)
    asleep = Trace(dreamt.shape, {**kept, **{name: site.value for name, site in dreamt.sites.items()}})
    q(asleep)
    return -asleep.log_prob(latents).expand(asleep.shape)

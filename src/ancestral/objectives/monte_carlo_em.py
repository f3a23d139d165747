"""Monte Carlo EM: maximum likelihood from draws of the posterior itself, without an approximation of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ancestral.core import Trace, check_known
from ancestral.errors import ShapeError
from ancestral.objectives.hmc import STEP, adapted, check_counts, check_target, state_at, transition
from ancestral.objectives.log_joint import LogJoint, at_draws


class Chains(NamedTuple):
    """Where Markov chains in the posteriors of some datapoints are."""

    values: dict[str, Tensor]
    """The latent variables by name, ``[chains, batch, *event]``."""
    position: Tensor
    """The same as real numbers, ``[chains, batch, d]``: what the next draws start from."""
    step: Tensor
    """The step size, ``[1]``."""
    acceptance: Tensor
    """The mean probability of acceptance, ``[]``."""


def posterior_draws(
    p: Callable[[Trace], Any],
    given: Mapping[str, Tensor],
    chains: Chains | int = 1,
    transitions: int = 1,
    leapfrog: int = 10,
    target: float = 0.9,
) -> Chains:
    """The E-step: move chains by Hamiltonian Monte Carlo in p(z | x), which is left as it is.

    Chains that go on from where they were, while p learns slowly, stay near its posterior at one transition a time.
    They may be kept for all data: ``chains._replace(position=kept[:, rows])`` are those of the rows of a minibatch. New
    ones start at p(z), and need many transitions before they are draws of the posterior.

    One step size for all chains and datapoints is adapted after each transition, so that what any one of them does has
    next to no part in it.

    Args:
        p: the model, whose latent variables are continuous.
        given: the observed values by name, each with the batch first.
        chains: those before, or how many new ones there are for each datapoint.
        transitions: how many.
        leapfrog: steps of each.
        target: the probability of acceptance that the step size is adapted to.

    Raises:
        AncestralError: a latent variable is discrete, or a number is out of range.
        GraphError: p has no latent variable, or draws none of the given values.
        ShapeError: the chains are not of this batch.

    Source: Wei and Tanner (1990); Kingma and Welling (2014), appendix E: 10 leapfrog steps, an acceptance of 0.9, and 5
    updates of the weights from each draw. It does not say where a chain starts.
    """
    check_counts(transitions=transitions, leapfrog=leapfrog)
    check_target(target)
    density = LogJoint(p, given)
    if isinstance(chains, int):
        check_counts(chains=chains)
        position = density.draw(chains)
        step = position.new_full((1,), STEP)
    else:
        position, step = chains.position, chains.step
        if tuple(position.shape[1:]) != (density.rows, density.dimensions):
            raise ShapeError(
                f"the chains have shape {tuple(position.shape)}, but the batch of {density.rows} datapoints with "
                f"{density.dimensions} latent dimensions takes (chains, {density.rows}, {density.dimensions}): give "
                "those of its rows, or how many new ones to start."
            )
    state, total = state_at(density, position), torch.zeros((), dtype=position.dtype, device=position.device)
    for _ in range(transitions):
        state, acceptance = transition(density, state, step, leapfrog)
        step = adapted(step, acceptance.reshape(-1, 1), target)
        total = total + acceptance.mean()
    with torch.no_grad():
        values = density.values(state.position)
    return Chains(values, state.position, step, total / transitions)


def monte_carlo_em(p: Callable[[Trace], Any], given: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Tensor:
    r"""The M-step: the loss of p at draws of its posterior, in nats, one value per datapoint.

    .. math:: -\frac1K \sum_{k=1}^K \log p(x, z_k),  z_k ∼ p(z | x)

    On average over the draws its gradient is that of -log p(x), where they are draws of the posterior of p as it is
    now (Fisher's identity). No gradient passes a draw.

    Args:
        p: the model.
        given: the observed values by name, each with the batch first.
        values: those of its latent variables by name, ``[chains, batch, *event]``: :attr:`Chains.values` of
            :func:`posterior_draws`.

    Returns:
        ``[batch]``, differentiable in the parameters of p.

    Raises:
        GraphError: there are no draws, one of a variable that p does not draw, or none of one that it does; or a value
            is given for a name that p does not know.
        ShapeError: a value does not have the shape of its variable.

    Source: Wei and Tanner (1990); Kingma and Welling (2014), appendix E.
    """
    trace = at_draws(p, given, {name: value.detach() for name, value in values.items()})
    check_known((p, trace))
    return -trace.log_prob().expand(trace.shape).mean(0)

"""Hamiltonian Monte Carlo, vectorized over chains and datapoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ancestral.errors import AncestralError

LogDensity = Callable[[Tensor], Tensor]
"""From positions ``[*chains, batch, d]`` to their log-densities in nats, ``[*chains, batch]``; it need not be
normalized. It may be NaN where it can't be computed: nothing goes there."""
STEP = 0.1
"""The step size that adaptation starts at."""
RATE = 0.5
"""By how much the logarithm of the step size changes for an acceptance that is off by 1."""


class State(NamedTuple):
    """Where chains are."""

    position: Tensor
    """``[*chains, batch, d]``"""
    log_density: Tensor
    """``[*chains, batch]``"""
    gradient: Tensor
    """Of the log-density, ``[*chains, batch, d]``."""


def state_at(log_density: LogDensity, position: Tensor) -> State:
    """The state of chains at a position."""
    with torch.enable_grad():
        position = position.detach().requires_grad_()
        value = log_density(position)
        (gradient,) = torch.autograd.grad(value.sum(), position)
    return State(position.detach(), value.detach(), gradient)


def leapfrog(log_density: LogDensity, state: State, momentum: Tensor, step: Tensor, steps: int) -> tuple[State, Tensor]:
    r"""Follow Hamilton's equations for the energy :math:`-\log f(z) + |v|^2 / 2`.

    .. math:: v ← v + \tfrac{ε}{2} ∇\log f(z), \quad z ← z + ε v, \quad v ← v + \tfrac{ε}{2} ∇\log f(z)

    It is reversible, with the sign of the momentum changed, and keeps the volume.

    Args:
        momentum: v, ``[*chains, batch, d]``.
        step: ε, of a shape that broadcasts to ``[*chains, batch]``.
        steps: how many.

    Source: Neal (2011), section 2.3.
    """
    step = step[..., None]
    for _ in range(steps):
        momentum = momentum + step / 2 * state.gradient
        state = state_at(log_density, state.position + step * momentum)
        momentum = momentum + step / 2 * state.gradient
    return state, momentum


def transition(log_density: LogDensity, state: State, step: Tensor, steps: int) -> tuple[State, Tensor]:
    """Draw a momentum, follow it, and accept or stay: a transition that leaves the density as it is, and is reversible.

    Returns:
        The next state, and the probability with which each chain accepted, ``[*chains, batch]``.

    Source: Duane, Kennedy, Pendleton and Roweth (1987); Neal (2011), section 3.
    """
    momentum = torch.randn_like(state.position)
    proposed, last = leapfrog(log_density, state, momentum, step, steps)
    kinetic = (momentum.square().sum(-1) - last.square().sum(-1)) / 2
    # a trajectory that left the numbers is turned down, whatever it is that overflowed
    log_ratio = (proposed.log_density - state.log_density + kinetic).nan_to_num(nan=-torch.inf)
    acceptance = log_ratio.clamp(max=0).exp()
    accepted = torch.rand_like(acceptance) < acceptance
    here = accepted[..., None]
    return State(
        torch.where(here, proposed.position, state.position),
        torch.where(accepted, proposed.log_density, state.log_density),
        torch.where(here, proposed.gradient, state.gradient),
    ), acceptance


def adapted(step: Tensor, acceptance: Tensor, target: float) -> Tensor:
    """The step sizes of the datapoints, ``[batch]``, moved to where chains accept with probability ``target``.

    A chain whose steps follow from where it has been is no longer reversible: adapt only what is thrown away.
    """
    return step * torch.exp(RATE * (over_chains(acceptance) - target))


class Samples(NamedTuple):
    """Draws of :func:`hmc`."""

    positions: Tensor
    """``[draws, *chains, batch, d]``"""
    acceptance: Tensor
    """The mean probability of acceptance after burn-in, ``[batch]``."""
    step: Tensor
    """The step size of each datapoint, ``[batch]``."""


def hmc(
    log_density: LogDensity,
    position: Tensor,
    draws: int,
    burn_in: int = 0,
    steps: int = 10,
    target: float = 0.65,
    step: Tensor | None = None,
) -> Samples:
    """Draw from a density by Hamiltonian Monte Carlo.

    Each datapoint has a step size of its own, adapted towards the target acceptance during burn-in only.

    Args:
        log_density: from positions to log-densities.
        position: where the chains start, ``[*chains, batch, d]``.
        draws: how many are kept of each chain: the position after each transition.
        burn_in: transitions before, which are thrown away.
        steps: leapfrog steps of a transition.
        target: probability of acceptance that the step sizes are adapted to; 0.65 is the best in many dimensions.
        step: step sizes to start from, ``[batch]``.

    Raises:
        AncestralError: a number is out of range.

    Source: Neal (2011), sections 3 and 4.4.
    """
    check_counts(draws=draws, steps=steps)
    check_target(target)
    if burn_in < 0:
        raise AncestralError(f"burn_in is {burn_in}, but it counts transitions: give 0 or more.")
    step = position.new_full(position.shape[-2:-1], STEP) if step is None else step
    state = state_at(log_density, position)
    positions, total, settled = [], torch.zeros_like(step), torch.zeros_like(step)
    for i in range(burn_in + draws):
        state, acceptance = transition(log_density, state, step, steps)
        if i < burn_in:
            step = adapted(step, acceptance, target)
            if i >= burn_in // 2:  # the mean of the second half is free of the noise of single transitions
                settled = settled + step.log() / (burn_in - burn_in // 2)
            if i == burn_in - 1:
                step = settled.exp()
        else:
            positions.append(state.position)
            total = total + over_chains(acceptance)
    return Samples(torch.stack(positions), total / draws, step)


def over_chains(values: Tensor) -> Tensor:
    """The mean over chains, ``[*chains, batch]`` -> ``[batch]``."""
    return values.reshape(-1, values.shape[-1]).mean(0)


def check_counts(**counts: int) -> None:
    """Raise unless each is a whole number above 0."""
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise AncestralError(f"{name} is {count!r}, but at least 1 is needed.")


def check_target(target: float) -> None:
    """Raise unless it is a probability that step sizes can be adapted to."""
    if not 0 < target < 1:
        raise AncestralError(f"the target acceptance is {target}, but it must lie between 0 and 1, as 0.65.")

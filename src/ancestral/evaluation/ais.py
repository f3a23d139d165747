"""Annealed importance sampling: log p(x) by way of distributions between one that is easy and the posterior."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ancestral.core import AncestralSampling, Trace
from ancestral.objectives.hmc import STEP, State, adapted, check_counts, check_target, over_chains, state_at, transition
from ancestral.objectives.log_joint import LogJoint, evaluated
from ancestral.objectives.memory import at_once, bytes_made

SLOPE = 4.0
"""Of the sigmoid schedule: the temperatures lie closer at both ends."""
PILOT = 10
"""One temperature in so many is visited before, to find step sizes; and at least ``FEWEST``."""
FEWEST = 50


@dataclass(frozen=True)
class Annealed:
    """What annealing gives, per datapoint."""

    log_weights: Tensor
    """``[chains, batch]``, float64, nats: each weight has the expectation p(x), or 1 / p(x) where annealing was
    reversed."""
    acceptance: Tensor
    """Mean probability with which a transition was accepted, ``[batch]``, float64; NaN where none was made."""
    reversed: bool = False

    @property
    def log_prob(self) -> Tensor:
        """The estimate of log p(x), ``[batch]``: in expectation from below, or from above where it was reversed."""
        estimate = torch.logsumexp(self.log_weights, 0) - math.log(len(self.log_weights))
        return -estimate if self.reversed else estimate

    @property
    def effective_sample_size(self) -> Tensor:
        """(Σ w)² / Σ w², ``[batch]``: of so many chains there are weights to speak of."""
        return torch.exp(2 * torch.logsumexp(self.log_weights, 0) - torch.logsumexp(2 * self.log_weights, 0))

    @property
    def variance(self) -> Tensor:
        """Of the estimate, from how much the weights differ, ``[batch]``; NaN with a single chain.

        It is too small where no chain has found what has most of the mass.
        """
        return relative_variance(self.log_weights)


def relative_variance(log_values: Tensor) -> Tensor:
    """The variance of the logarithm of a mean over the first dimension, to first order: Var(w) / (n E[w]²)."""
    n = len(log_values)
    if n == 1:
        return torch.full_like(log_values[0], math.nan)
    ratio = torch.exp(log_values - log_values.logsumexp(0) + math.log(n))
    return ratio.var(0) / n


def schedule(temperatures: int) -> list[float]:
    r"""Inverse temperatures from 0 to 1, closer together at both ends.

    .. math:: β_t = \frac{σ(4 (2t / T - 1)) - σ(-4)}{σ(4) - σ(-4)},  t = 0, …, T

    Source: Wu, Burda, Salakhutdinov and Grosse (2017), section 2.2.
    """
    raw = [1 / (1 + math.exp(-SLOPE * (2 * t / temperatures - 1))) for t in range(temperatures + 1)]
    return [(value - raw[0]) / (raw[-1] - raw[0]) for value in raw]


def annealed_importance_sampling(
    p: Callable[[Trace], Any],
    given: Mapping[str, Tensor],
    chains: int = 16,
    temperatures: int = 1000,
    steps: int = 10,
    *,
    q: Callable[[Trace], Any] | None = None,
    exact: Mapping[str, Tensor] | None = None,
    target: float = 0.65,
) -> Annealed:
    r"""Weights whose mean is p(x), from chains that go from p(z), or from q(z | x), to p(z | x).

    .. math:: f_β(z) = π(z)^{1 - β} p(x, z)^β,  \quad
       w = ∏_{t=1}^T \frac{f_{β_t}(z_{t-1})}{f_{β_{t-1}}(z_{t-1})},  \quad  z_0 ∼ π,\; z_t ∼ T_{β_t}(· | z_{t-1})

    where π is p(z), or q(z | x) if it is given, and the transitions are Hamiltonian Monte Carlo. E[w] = p(x) whatever
    the chains do, so that the logarithm of the mean of w is below log p(x) in expectation; more temperatures, and
    chains, bring it closer. The step sizes of each datapoint and temperature are found beforehand, by chains that are
    then thrown away; so they depend on nothing that is weighed.

    With ``exact``, the chains go back from there: the weights have the mean 1 / p(x), and the estimate is above
    log p(x) in expectation. It needs an exact draw from the posterior: where x was drawn from p, the z drawn with it is
    one (:func:`bidirectional`).

    Latent variables must be continuous; several lie in one vector, and those with a bounded support are transformed.
    Chains go in as many at once as the free memory has room for.

    Args:
        p: the model.
        given: the observed values by name, each with the batch first.
        chains: how many for each datapoint.
        temperatures: T.
        steps: leapfrog steps of a transition.
        q: where the chains start instead of the prior. A q that leaves out a mode hides it from few chains.
        exact: values of the latent variables, ``[batch, *event]`` each, drawn from the posterior.
        target: probability of acceptance that step sizes are adapted to.

    Raises:
        AncestralError: a latent variable is discrete, or a number is out of range.
        GraphError: p has no latent variable, q or ``exact`` lacks one, or a name is given that neither p nor q knows.
        ShapeError: ``exact`` does not have the shapes of the latent variables.

    Source: Neal (2001), eq. 4-11; Wu, Burda, Salakhutdinov and Grosse (2017); Grosse, Ghahramani and Adams (2015), the
    reverse.
    """
    check_counts(chains=chains, temperatures=temperatures, steps=steps)
    check_target(target)
    joint = LogJoint(p, given, q)
    path = _Path(joint)
    start = joint.draw(1)
    each = bytes_made(lambda: path.state(start, 1.0))
    size = at_once(chains, each, start.device)
    found = _pilot(path, size, max(FEWEST, temperatures // PILOT), steps, target)
    inverse = schedule(temperatures)
    # the step of a temperature is that of the pilot's nearest
    step = [found[round(t * (len(found) - 1) / temperatures)] for t in range(temperatures + 1)]
    if exact is not None:
        inverse, step = inverse[::-1], step[::-1]
        ends = joint.position({name: value[None] for name, value in exact.items()})
    log_weights, acceptance = [], torch.zeros(joint.rows, dtype=torch.float64, device=start.device)
    for begin in range(0, chains, size):
        count = min(size, chains - begin)
        position = joint.draw(count) if exact is None else ends.expand(count, *ends.shape[1:])
        weights, accepted = _anneal(path, position, inverse, step, steps)
        log_weights.append(weights)
        acceptance += accepted * count / chains
    return Annealed(torch.cat(log_weights), acceptance, exact is not None)


class _Path:
    """The densities from π(z) to p(x, z)."""

    def __init__(self, joint: LogJoint) -> None:
        self.joint, self.q = joint, joint.q

    def parts(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """log π(u) and log p(x, u) - log π(u), ``[chains, batch]`` each."""
        if self.q is None:
            return self.joint.parts(u)
        trace, log_det = self.joint.trace(u)
        names = list(self.joint.places)
        posterior = Trace(trace.shape, {**self.joint.given, **{name: trace[name] for name in names}})
        with evaluated(self.joint.p), evaluated(self.q):
            self.q(posterior)
            base = posterior.log_prob(names) + log_det
            whole = trace.log_prob() + log_det
        return base.expand(u.shape[:-1]), (whole - base).expand(u.shape[:-1])

    def at(self, inverse: float) -> Callable[[Tensor], Tensor]:
        """The density at an inverse temperature, of positions."""

        def log_density(u: Tensor) -> Tensor:
            base, rest = self.parts(u)
            return base + inverse * rest

        return log_density

    def state(self, position: Tensor, inverse: float) -> tuple[State, Tensor]:
        """The state of chains at a position and an inverse temperature, and log p(x, u) - log π(u) there."""
        found: list[Tensor] = []

        def log_density(u: Tensor) -> Tensor:
            base, rest = self.parts(u)
            found.append(rest.detach())
            return base + inverse * rest

        return state_at(log_density, position), found[0]


def _anneal(
    path: _Path, position: Tensor, inverse: list[float], step: list[Tensor], steps: int
) -> tuple[Tensor, Tensor]:
    """Log-weights ``[chains, batch]`` and the mean acceptance ``[batch]`` of chains along the inverse temperatures."""
    total = torch.zeros(position.shape[:-1], dtype=torch.float64, device=position.device)
    acceptance = torch.zeros(position.shape[-2], dtype=torch.float64, device=position.device)
    for t in range(1, len(inverse)):
        state, rest = path.state(position, inverse[t])
        total += (inverse[t] - inverse[t - 1]) * rest
        if t < len(inverse) - 1:
            state, accepted = transition(path.at(inverse[t]), state, step[t], steps)
            position = state.position
            acceptance += over_chains(accepted)
    return total, acceptance / (len(inverse) - 2)  # with a single temperature there is no transition


def _pilot(path: _Path, chains: int, temperatures: int, steps: int, target: float) -> list[Tensor]:
    """Step sizes ``[batch]`` at each temperature, found on the way."""
    position = path.joint.draw(chains)
    step = position.new_full((position.shape[-2],), STEP)
    found = []
    for inverse in schedule(temperatures):
        state, _ = path.state(position, inverse)
        state, accepted = transition(path.at(inverse), state, step, steps)
        position, step = state.position, adapted(step, accepted, target)
        found.append(step)
    return found


@dataclass(frozen=True)
class Bidirectional:
    """Estimates from both sides on draws of the model itself, per datapoint."""

    given: dict[str, Tensor]
    """The data drawn, by name, with what p is conditioned on."""
    lower: Annealed
    upper: Annealed

    @property
    def gap(self) -> Tensor:
        """Upper less lower estimate, nats, ``[batch]``: in expectation, no estimate is off by more."""
        return self.upper.log_prob - self.lower.log_prob


def bidirectional(
    p: Callable[[Trace], Any],
    given: Mapping[str, Tensor],
    chains: int = 16,
    temperatures: int = 1000,
    steps: int = 10,
    *,
    q: Callable[[Trace], Any] | None = None,
    target: float = 0.65,
) -> Bidirectional:
    """Annealing from both sides on data drawn from the model, where an exact draw from the posterior is at hand.

    Args:
        given: values by name, each with the batch first. Those of variables that p draws are drawn anew; any other is
            kept, for p is conditioned on it.

    The other arguments and the errors are those of :func:`annealed_importance_sampling`.

    Source: Grosse, Ghahramani and Adams (2015); Wu, Burda, Salakhutdinov and Grosse (2017), section 2.3.
    """
    joint = LogJoint(p, given, q)
    kept = {name: value for name, value in given.items() if name not in joint.observed}
    with torch.no_grad(), evaluated(p):  # the density that is estimated
        trace = Trace((joint.rows,), kept, AncestralSampling())
        p(trace)
    simulated = {**kept, **{name: trace[name] for name in joint.observed}}
    lower, upper = (
        annealed_importance_sampling(p, simulated, chains, temperatures, steps, q=q, exact=ends, target=target)
        for ends in (None, {name: trace[name] for name in joint.places})
    )
    return Bidirectional(simulated, lower, upper)

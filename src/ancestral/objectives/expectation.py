"""The primitive under every objective with a density: an expectation under q, and its gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ancestral.core import Estimator, Estimators, Joint, Reduction, Site, Trace
from ancestral.errors import AncestralError, EstimatorError, ShapeError, nearest
from ancestral.estimators import Reparameterized
from ancestral.estimators.checks import REDUCTIONS, require_reduction
from ancestral.estimators.values import Fixed, MeanField

Model = Callable[[Trace], Any]


@dataclass(frozen=True)
class Term:
    """One term of a cost, and the variables that it is a function of: a variable answers only for what it changes."""

    value: Tensor
    """Of a shape that broadcasts to ``(*particles, batch)``."""
    variables: frozenset[str]
    weight: float = 1.0


CostFunction = Callable[[Trace], Tensor | Sequence[Term]]


def expectation(
    cost: CostFunction,
    q: Model,
    given: Mapping[str, Tensor],
    particles: int = 1,
    estimators: Estimators | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""E_q[cost] for each datapoint, with the gradient of the chosen estimators.

    .. math:: E_{q(z | x)}[c(x, z)] ≈ \frac1K \sum_k c(x, z_k),  or  \log \frac1K \sum_k \exp c(x, z_k)

    Args:
        cost: from a trace of q to a tensor ``(*particles, batch)``; it may depend on parameters of its own. Or to a
            sequence of :class:`Term`, their sum, of which an estimator counts for a variable only those that depend on
            it. It is called again where an estimator needs the cost at other values.
        q: the model that is sampled.
        given: observed values by name, each with the batch as its first dimension.
        particles: how many draws per datapoint, K.
        estimators: one for all variables or one per name; ``Reparameterized()`` where none is named.
        reduction: ``"mean"`` or ``"log-mean-exp"`` over the particles.

    Returns:
        ``[batch]``: the Monte Carlo value (exact over enumerated variables), differentiable. It is the value of the
        model as it stands whatever the estimators: where they relax a variable, of a second run with draws.

    Raises:
        EstimatorError: an estimator is not valid for its variable or for ``reduction``, or names no variable of q; or
            one normalizes its signal below a variable that carries a gradient.
        AncestralError: the reduction or the number of particles is none.
        ShapeError: the cost is not of shape ``(*particles, batch)``.
    """
    return estimate(cost, q, given, particles, estimators, reduction).value


@dataclass(frozen=True)
class Estimate:
    """An expectation, and the runs of q behind it."""

    value: Tensor
    trace: Trace
    """Whose values carry the gradient."""
    drawn: Trace
    """Whose cost is the value: another run where an estimator has relaxed a variable."""


def estimate(
    cost: CostFunction,
    q: Model,
    given: Mapping[str, Tensor],
    particles: int = 1,
    estimators: Estimators | None = None,
    reduction: Reduction = "mean",
) -> Estimate:
    """:func:`expectation` with its runs, for objectives that report parts. Arguments and errors are the same."""
    if reduction not in REDUCTIONS:
        known = " or ".join(map(repr, REDUCTIONS))
        raise AncestralError(f"reduction is {reduction!r}, but particles are averaged by {known}.")
    problem = _Problem(cost, q, given, particles_of(particles), batch_of(given))
    if isinstance(q, Joint):  # before another variable, the one that was meant, lacks its estimator
        _check_names(estimators, [name for name in q.variables if name not in given])
    run = problem.run(estimators)
    trace = run.trace
    _check_names(estimators, trace.drawn)
    drawn = [(site, site.estimator) for site in trace.sites.values() if site.estimator is not None]
    for site, estimator in drawn:
        require_reduction(estimator, site.name, site.distribution, reduction)
        if getattr(estimator, "normalize", False):
            problem.require_no_path_above(site.name, trace)
    value = average(run.total, trace, reduction)
    valued = trace
    if torch.is_grad_enabled():
        if any(getattr(estimator, "relaxed", False) for _, estimator in drawn):
            with torch.no_grad():  # an estimator relaxes only where there is a gradient to pass
                again = problem.run(estimators)
                valued = again.trace
                exact = average(again.total, valued, reduction)
            value = value + (exact - value.detach())
        for site, estimator in drawn:
            term = estimator.term(site, Downstream(problem, run, site, reduction))
            if term is not None:
                term = _over_particles(term, site, trace, reduction)
                value = value + (term - term.detach())
    return Estimate(value, trace, valued)


def _check_names(estimators: Estimators | None, drawn: Sequence[str]) -> None:
    for name in estimators if isinstance(estimators, Mapping) else ():
        if name not in drawn:
            raise EstimatorError(f"an estimator is given for {name!r}, which q does not draw. " + nearest(name, drawn))


class _Problem:
    """What is averaged, and over what."""

    def __init__(self, cost: CostFunction, q: Model, given: Mapping[str, Tensor], particles: int, batch: int) -> None:
        self.cost, self.q, self.given = cost, q, given
        self.particles, self.batch = particles, batch
        self._at_the_means: tuple[_Run, dict[str, Tensor]] | None = None

    def run(self, estimators: Estimators | None, particles: int | None = None, held: Sequence[Site] = ()) -> _Run:
        """One run of q and its cost; variables that are held keep the distribution of an earlier run."""
        trace = Trace((particles or self.particles, self.batch), self.given, estimators, default=Reparameterized())
        self.q(trace)
        for site in held:  # which a network with dropout would not give again
            trace.sites[site.name].distribution = site.distribution
        return _Run(trace, self.cost(trace))

    def at_the_means(self) -> tuple[_Run, dict[str, Tensor]]:
        """The mean-field run, and the gradient of its cost with respect to the mean of each variable, computed once."""
        if self._at_the_means is None:
            with torch.enable_grad():
                run = self.run(MeanField(), particles=1)
                names = [name for name in run.trace.drawn if run.trace[name].requires_grad]
                values = [run.trace[name] for name in names]
                found: Sequence[Tensor | None] = [None] * len(names)  # a cost without a slope has slope 0
                if run.total.requires_grad:
                    found = torch.autograd.grad(run.total.sum(), values, allow_unused=True)
            self._at_the_means = (
                run,
                {
                    name: torch.zeros_like(value) if gradient is None else gradient
                    for name, value, gradient in zip(names, values, found, strict=True)
                },
            )
        return self._at_the_means

    def descendants(self, name: str, trace: Trace) -> set[str]:
        """The variables of q whose values the named one can change, itself included."""
        if not isinstance(self.q, Joint):  # a model with state: anything it meets later may depend on it
            order = list(trace.values)
            return set(order[order.index(name) :])
        found = {name}
        for variable, parents in self.q.parents.items():  # in ancestral order
            if not found.isdisjoint(parents):
                found.add(variable)
        return found

    def require_no_path_above(self, name: str, trace: Trace) -> None:
        """Raise where the signal of a variable, if it is normalized, would reach another through its score."""
        for other in trace.drawn:
            if other != name and trace[other].requires_grad and name in self.descendants(other, trace):
                raise EstimatorError(
                    f"the estimator of {name!r} divides its signal by its standard deviation, but {other!r}, which it "
                    "depends on, carries a gradient itself, of which only the part through the signal would be "
                    f"divided: leave normalize out, or use LikelihoodRatio() for {other!r} too."
                )

    def parents(self, name: str, trace: Trace) -> tuple[Tensor, ...]:
        if isinstance(self.q, Joint):
            return tuple(trace.values[parent] for parent in self.q.parents[name])
        order = list(trace.values)
        return tuple(trace.values[earlier] for earlier in order[: order.index(name)])


class _Run:
    """One run of q, and its cost."""

    def __init__(self, trace: Trace, cost: Tensor | Sequence[Term]) -> None:
        self.trace = trace
        self.terms = None if isinstance(cost, Tensor) else cost
        self.total = self._expanded(cost if isinstance(cost, Tensor) else _sum(cost))

    def downstream(self, variables: set[str]) -> Tensor:
        """The terms that depend on one of these variables, ``(*enumerated, *particles, batch)``."""
        if self.terms is None:
            return self.total
        return self._expanded(_sum([term for term in self.terms if not variables.isdisjoint(term.variables)]))

    def _expanded(self, costs: Tensor) -> Tensor:
        try:
            return costs if costs.shape == self.trace.shape else costs.expand(self.trace.shape)
        except RuntimeError:
            raise ShapeError(
                f"the cost has shape {tuple(costs.shape)}, but must have (*particles, batch) = "
                f"{self.trace.shape}: sum over the feature dimensions, never over the batch."
            ) from None


def _sum(terms: Sequence[Term]) -> Tensor:
    if not terms:
        return torch.zeros(())
    first, *others = terms
    total = first.value if first.weight == 1 else first.weight * first.value
    for term in others:
        if torch.compiler.is_compiling():  # which takes alpha for a constant of the program, and weights may change
            total = total + term.weight * term.value
        else:
            total = torch.add(total, term.value, alpha=term.weight)
    return total


class Downstream:
    """The cost as the estimator of one variable sees it: see :class:`ancestral.core.Cost`."""

    def __init__(self, problem: _Problem, run: _Run, site: Site, reduction: Reduction) -> None:
        self.reduction = reduction
        self._problem, self._run, self._site = problem, run, site
        self._particles: Tensor | None = None

    @property
    def _variables(self) -> set[str]:
        return self._problem.descendants(self._site.name, self._run.trace)

    def _local(self, run: _Run) -> Tensor:
        """The cost downstream, summed over what was enumerated after the variable."""
        costs = run.downstream(self._variables) if self.reduction == "mean" else run.total
        return _summed(costs, run.trace, run.trace.enumerated[len(self._site.shape) - 2 :])

    @property
    def particles(self) -> Tensor:
        if self._particles is None:
            trace, costs = self._run.trace, self._local(self._run).detach()
            for name, _ in trace.enumerated[: len(self._site.shape) - 2]:
                costs = _of_the_possible(costs, trace.sites[name].log_prob)
            self._particles = costs
        return self._particles

    @property
    def value(self) -> Tensor:
        if self.reduction == "mean":
            return self.particles
        return average(self.particles, self._run.trace, self.reduction).expand(self._site.shape)

    @property
    def parents(self) -> tuple[Tensor, ...]:
        return self._problem.parents(self._site.name, self._run.trace)

    def at(self, value: Tensor, following: Estimator) -> Tensor:
        trace = self._run.trace
        summed, changed = {name for name, _ in trace.enumerated}, self._variables
        chosen: dict[str, Estimator] = {}
        for name in trace.drawn:
            site, own = trace.sites[name], trace.sites[name].estimator
            if name == self._site.name:
                chosen[name] = Fixed(value)
            elif own is not None and name in summed:
                chosen[name] = own
            elif name not in changed:
                chosen[name] = Fixed(site.value)
            else:
                chosen[name] = own if isinstance(own, Reparameterized) else following
        held = [trace.sites[name] for name in trace.drawn if name == self._site.name or name not in changed]
        return self._local(self._problem.run(chosen, held=held))

    def mean_field(self) -> tuple[Tensor, Tensor, Tensor]:
        run, gradients = self._problem.at_the_means()
        name = self._site.name
        if name not in gradients:
            kind = type(self._site.distribution).__name__
            raise EstimatorError(f"the mean of {name!r}, a {kind}, is not known in closed form.")
        costs = run.downstream(self._variables)
        return costs.detach(), run.trace[name].detach(), gradients[name]


def average(costs: Tensor, trace: Trace, reduction: Reduction = "mean") -> Tensor:
    """``(*enumerated, particles, batch)`` -> ``[batch]``: sums weighted by q, then over the particles."""
    costs = _summed(costs, trace, trace.enumerated)
    if reduction == "mean":
        return costs.mean(0)
    return torch.logsumexp(costs, 0) - math.log(costs.shape[0])


def _summed(costs: Tensor, trace: Trace, enumerated: Sequence[tuple[str, int]]) -> Tensor:
    """Sums, weighted by q, over variables that were enumerated, the last of which is the first dimension."""
    for name, _ in reversed(enumerated):
        log_mass = trace.sites[name].log_prob
        costs = (log_mass.exp() * _of_the_possible(costs, log_mass)).sum(0)
    return costs


def _of_the_possible(costs: Tensor, log_mass: Tensor) -> Tensor:
    """The costs, 0 where the mass is 0: there -log q is infinite, but has no part in an expectation."""
    return costs.masked_fill(log_mass.isneginf(), 0.0)


def _over_particles(term: Tensor, site: Site, trace: Trace, reduction: Reduction) -> Tensor:
    """The term of an estimator as a share of the expectation, ``[batch]``."""
    term = term.expand(site.shape)
    for name, _ in reversed(trace.enumerated[: len(site.shape) - 2]):
        term = (trace.sites[name].log_prob.detach().exp() * term).sum(0)
    return term.mean(0) if reduction == "mean" else term.sum(0)


def particles_of(particles: int) -> int:
    """The number of particles, checked."""
    if not isinstance(particles, int) or isinstance(particles, bool) or particles < 1:
        raise AncestralError(f"particles is {particles!r}, but it counts draws per datapoint: give 1 or more.")
    return particles


def batch_of(given: Mapping[str, Tensor]) -> int:
    """The number of datapoints, on which all given values must agree."""
    sizes = {}
    for name, value in given.items():
        if not isinstance(value, Tensor):
            raise AncestralError(
                f"the given value of {name!r} is a {type(value).__name__}: give a torch.Tensor with the "
                "batch as its first dimension."
            )
        if value.dim() == 0:
            raise ShapeError(f"the given value of {name!r} is a scalar: its first dimension must be the batch.")
        sizes[name] = value.shape[0]
    if not sizes:
        raise AncestralError('nothing is given: pass the observed variables, for example {"x": x}.')
    if len(set(sizes.values())) > 1:
        raise ShapeError(f"the given values disagree on the batch size: {sizes}.")
    rows = next(iter(sizes.values()))
    if not rows:
        raise ShapeError(f"the batch is empty: the given {', '.join(sizes)} has no rows. Give at least one.")
    return rows

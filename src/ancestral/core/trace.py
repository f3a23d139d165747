"""A trace: one run of a directed model; every variable has a distribution, a value and a lazy log-density.

A variable whose value is given is scored, any other is drawn. Ancestral sampling, replaying, scoring one
model at another's values and conditioning are therefore one call, :func:`run`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from ancestral.distributions.extension import extended
from ancestral.errors import AncestralError, EstimatorError, GraphError, ShapeError, nearest

Shape = tuple[int, ...]
Conditional = Callable[..., "Distribution | Tensor"]
Reduction = Literal["mean", "log-mean-exp"]


class Estimator(Protocol):
    """How a gradient passes a random variable: how to draw it, and what is then missing from the gradient.

    ``draw`` returns a value of shape ``(*shape, *event)``, where ``shape`` is what the trace asks for.
    ``term`` returns a tensor that broadcasts to the shape of the site, ``(*particles, batch)``. Its value is of no
    account; its gradient, averaged over the particles as the cost is, completes the estimate of ``grad E[cost]``. An
    estimator whose values carry the whole gradient returns ``None``.
    """

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor: ...

    def term(self, site: Site, cost: Cost) -> Tensor | None: ...


class Cost(Protocol):
    """The cost downstream of one variable, as its estimator sees it: only what the variable can change.

    Under ``"mean"`` the term of an estimator is averaged over the particles, under ``"log-mean-exp"`` summed: there
    every particle changes the one value that all share.
    """

    reduction: Reduction

    @property
    def particles(self) -> Tensor:
        """The cost of each particle, without gradient, of the shape of the site."""
        ...

    @property
    def value(self) -> Tensor:
        """What multiplies the score of each particle: ``particles``, or their log-mean-exp, of the same shape."""
        ...

    @property
    def parents(self) -> tuple[Tensor, ...]:
        """The values that the variable was drawn from."""
        ...

    def at(self, value: Tensor, following: Estimator) -> Tensor:
        """The cost of each particle with the variable at another value.

        What was drawn before it stays; what is drawn after it is drawn anew by ``following``, but enumerated and
        reparameterized variables by their own estimators.
        """
        ...

    def mean_field(self) -> tuple[Tensor, Tensor, Tensor]:
        """The cost where every variable has the mean that it has given the means of its parents.

        Returns the cost, ``(1, batch)``, the variable's mean and the gradient of the cost with respect to it,
        ``(1, batch, *event)``, all without gradient.
        """
        ...


Estimators = Estimator | Mapping[str, Estimator]


class Site:
    """One random variable of one run: its distribution, its value, and who drew it (``None`` if given)."""

    def __init__(
        self, name: str, distribution: Distribution, value: Tensor, estimator: Estimator | None, shape: Shape
    ) -> None:
        self.name = name
        self.distribution = distribution
        self.value = value
        self.estimator = estimator
        self.shape = shape
        self._log_prob: Tensor | None = None

    @property
    def log_prob(self) -> Tensor:
        """log p(value | parents) in nats, of a shape that broadcasts to ``(*particles, batch)``.

        Computed when first asked for, so a variable whose divergence is taken in closed form is never scored.
        """
        if self._log_prob is None:
            check_event(self.name, self.distribution, self.value)
            distribution = extended(self.distribution) if self.value.requires_grad else self.distribution
            log_prob = distribution.log_prob(self.value)
            if not _fits(log_prob.shape, self.shape):
                raise ShapeError(
                    f"log p({self.name}) has shape {tuple(log_prob.shape)}, but a log-density must have "
                    f"shape (*particles, batch) = {self.shape}. The distribution has batch shape "
                    f"{tuple(self.distribution.batch_shape)} and event shape "
                    f"{tuple(self.distribution.event_shape)}, the value has shape {tuple(self.value.shape)}. "
                    "Put the feature dimensions inside the distribution: "
                    "torch.distributions.Independent(distribution, k) for k of them."
                )
            self._log_prob = log_prob
        return self._log_prob


def _fits(shape: Collection[int], whole: Shape) -> bool:
    """Whether ``shape`` is the trailing part of ``whole`` (a size 1 stands for any)."""
    shape = tuple(shape)
    if shape == whole:
        return True
    if len(shape) > len(whole):
        return False
    return all(a in (1, b) for a, b in zip(shape, whole[len(whole) - len(shape) :], strict=True))


def check_event(name: str, distribution: Distribution, value: Tensor) -> None:
    """Raise :class:`ShapeError` unless the value ends in the event shape: broadcasting would hide it."""
    event = tuple(distribution.event_shape)
    seen = tuple(value.shape[value.dim() - len(event) :]) if value.dim() >= len(event) else tuple(value.shape)
    if seen != event:
        raise ShapeError(
            f"the value of {name!r} has shape {tuple(value.shape)}, which does not end in the event shape "
            f"{event} of its {type(distribution).__name__}. Make the network's output and the data agree: "
            "one of them has the wrong number of features."
        )


class Trace:
    """One run of a model: ``trace.sample(name, distribution)`` draws or scores, ``trace[name]`` reads.

    Args:
        shape: ``(*particles, batch)``, the shape of every log-density.
        given: values of the variables that are not to be drawn.
        estimators: who draws: one estimator for all variables, or one per name.
        default: who draws a variable that ``estimators`` does not name.
    """

    def __init__(
        self,
        shape: Shape = (),
        given: Mapping[str, Tensor] | None = None,
        estimators: Estimators | None = None,
        default: Estimator | None = None,
    ) -> None:
        self.shape = tuple(shape)
        """``(*enumerated, *particles, batch)``: a variable that is summed over adds a leading dimension."""
        self.values: dict[str, Tensor] = dict(given or {})
        self.sites: dict[str, Site] = {}
        self.enumerated: list[tuple[str, int]] = []
        self._given = frozenset(self.values)
        self._read: set[str] = set()
        self._estimators = estimators
        self._default = default if default is not None else AncestralSampling()

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.values:
            raise GraphError(
                f"the variable {name!r} was read before it was drawn, and no value was given for it. "
                + nearest(name, self.values)
            )
        self._read.add(name)
        return self.values[name]

    def __contains__(self, name: str) -> bool:
        return name in self.values

    @property
    def given(self) -> frozenset[str]:
        """The names of the values given to this run."""
        return self._given

    @property
    def unused(self) -> list[str]:
        """The names of given values that the model has neither scored nor read."""
        met = self._read.union(self.sites)
        return [name for name in self.values if name in self._given and name not in met]

    @property
    def drawn(self) -> list[str]:
        """The names of the variables drawn in this run (the others were given), in ancestral order."""
        return [name for name, site in self.sites.items() if site.estimator is not None]

    def sample(self, name: str, distribution: Distribution | Tensor) -> Tensor:
        """Draw ``name``, or score it where its value is given. A plain tensor is a deterministic variable.

        Raises:
            GraphError: the name was met before in this run.
            ShapeError: the distribution's batch shape is no trailing part of ``(*particles, batch)``.
        """
        if name in self.sites or (name in self.values and name not in self._given):
            raise GraphError(f"the variable {name!r} was sampled twice in one run: give every variable its own name.")
        if isinstance(distribution, Tensor):
            self.values[name] = distribution
            return distribution
        if not isinstance(distribution, Distribution):
            raise AncestralError(
                f"the conditional of {name!r} returned a {type(distribution).__name__}. Return a "
                "torch.distributions.Distribution, or a Tensor for a deterministic variable."
            )
        if not _fits(distribution.batch_shape, self.shape):
            raise ShapeError(
                f"the distribution of {name!r} ({type(distribution).__name__}) has batch shape "
                f"{tuple(distribution.batch_shape)} and event shape {tuple(distribution.event_shape)}, but "
                f"the run has (*particles, batch) = {self.shape}. Put the feature dimensions inside the "
                "distribution: torch.distributions.Independent(distribution, k) for k of them."
            )
        trailing = self.shape[len(self.shape) - len(distribution.batch_shape) :]
        if tuple(distribution.batch_shape) != trailing:  # a size 1 must not make datapoints share one draw
            expanded: Distribution = distribution.expand(torch.Size(trailing))
            distribution = expanded
        estimator = None
        if name not in self.values:
            estimator = self._estimator(name)
            value = estimator.draw(name, distribution, self)
            check_event(name, distribution, value)
            self.values[name] = value
        site = Site(name, distribution, self.values[name], estimator, self.shape)
        self.sites[name] = site
        return site.value

    def _estimator(self, name: str) -> Estimator:
        estimator: object = self._estimators
        if isinstance(self._estimators, Mapping):
            estimator = self._estimators.get(name, self._default)
        elif self._estimators is None:
            return self._default
        if isinstance(estimator, type) or not (hasattr(estimator, "draw") and hasattr(estimator, "term")):
            raise EstimatorError(
                f"the estimator of {name!r} is {estimator!r}, which can't draw: give an estimator, for example "
                "LikelihoodRatio() or MuProp(), or a dict of them by the variable's name."
            )
        return cast("Estimator", estimator)

    def enumerate(self, name: str, count: int) -> None:
        """Give the variable ``name`` a leading dimension of its own, one entry per value."""
        self.enumerated.append((name, count))
        self.shape = (count, *self.shape)

    def missing_shape(self, distribution: Distribution) -> Shape:
        """The sample shape that turns a draw of ``distribution`` into one of shape ``(*shape, *event)``.

        A distribution that does not depend on the particles is evaluated once and drawn once per particle.
        """
        return self.shape[: len(self.shape) - len(distribution.batch_shape)]

    def log_prob(self, names: Collection[str] | None = None) -> Tensor:
        """The sum of log p over the named variables (by default all), in nats, ``(*particles, batch)``."""
        terms = [self.sites[name].log_prob for name in (self.sites if names is None else names)]
        return sum(terms[1:], terms[0]) if terms else torch.zeros(())


class AncestralSampling:
    """Draws from the distribution, without gradient to its parameters: for generation and evaluation.

    Raises:
        EstimatorError: a gradient was asked for after all.
    """

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        with torch.no_grad():
            return distribution.sample(torch.Size(trace.missing_shape(distribution)))

    def term(self, site: Site, cost: Cost) -> Tensor | None:
        if not site.log_prob.requires_grad:  # what it was drawn from has no parameters to learn
            return None
        raise EstimatorError(
            f"{site.name!r} was drawn by AncestralSampling, which passes no gradient; it is for generation. "
            "To learn, use Reparameterized() or another estimator of ancestral.estimators."
        )


def run(
    model: Callable[[Trace], Any],
    given: Mapping[str, Tensor] | None = None,
    shape: Shape = (),
    estimators: Estimators | None = None,
) -> Trace:
    """Run a model once: draw each variable after its parents, score those whose values are given.

    Args:
        model: a :class:`~ancestral.Joint`, or any callable that calls ``trace.sample`` in ancestral order.
        given: values by name, of variables that the model samples or is conditioned on.
        shape: ``(*particles, batch)``.
        estimators: how variables are drawn; by default plain ancestral sampling, without gradients.

    Returns:
        The trace, whose ``values`` hold every variable and whose ``sites`` hold the random ones.

    Raises:
        GraphError: a value is given for a name that the model neither samples nor reads.
    """
    trace = Trace(shape, given, estimators)
    model(trace)
    check_known((model, trace))
    return trace


def check_known(*runs: tuple[Callable[[Trace], Any], Trace]) -> None:
    """Raise for a value given to the first run whose name no model of the runs samples or is conditioned on."""
    for name in runs[0][1].unused:
        # a Joint may declare a variable that no conditional reads
        if any(name not in trace.unused or name in getattr(model, "given", ()) for model, trace in runs):
            continue
        known = [known for model, trace in runs for known in (*trace.sites, *getattr(model, "given", ()))]
        who = "the model neither" if len(runs) == 1 else "neither model"
        raise GraphError(
            f"a value is given for {name!r}, which {who} samples nor is conditioned on. "
            + nearest(name, dict.fromkeys(known))
        )

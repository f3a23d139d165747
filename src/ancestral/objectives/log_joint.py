"""log p(x, z) as a function of one real vector for each datapoint, which holds all continuous latent variables."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Transform, biject_to, constraints

from ancestral.core import AncestralSampling, Cost, Site, Trace, check_known
from ancestral.distributions.support import base_of, check_support, is_density, support_of
from ancestral.errors import AncestralError, GraphError, ShapeError, nearest
from ancestral.objectives.elbo import check_given
from ancestral.objectives.expectation import batch_of


class LogJoint:
    r"""The density, not normalized, of the posterior of continuous latent variables of p.

    .. math:: \log p(x, z(u)) + \log |\det ∂z/∂u|,  u ∈ R^d

    A variable with a bounded support, such as a scale, is a function of real numbers u, so that every vector is
    possible; any other is those numbers themselves. Supports may depend on variables drawn before.

    Args:
        p: the model, a Joint or any module with state.
        given: the observed values by name, each with the batch first.
        q: what :meth:`draw` draws from, given the observed values, instead of p(z).

    Raises:
        AncestralError: a latent variable is discrete, or given values lie outside the support of their likelihood.
        GraphError: p has no latent variable, or none of the given values is one that it draws, or a value is given for
            a name that neither p nor q knows.
    """

    def __init__(
        self, p: Callable[[Trace], Any], given: Mapping[str, Tensor], q: Callable[[Trace], Any] | None = None
    ) -> None:
        self.p, self.given, self.rows, self.q = p, dict(given), batch_of(given), q
        trace = self._drawn(p, 1)
        self.observed = [name for name in trace.sites if name not in trace.drawn]
        """The variables whose values are given and that p has a density of."""
        if not self.observed:
            raise GraphError(f"p draws none of the given {', '.join(given)}: there is no likelihood of them.")
        check_known((p, trace), *([] if q is None else [(q, self._drawn(q, 1))]))
        if not trace.drawn:
            raise GraphError("p has no latent variable: log p(x) is what it says, with nothing to estimate.")
        for name in self.observed:
            check_support(name, trace.sites[name].distribution, trace.sites[name].value)
        self.places: dict[str, _Place] = {}
        """Where each latent variable is in the vector."""
        self.dimensions = 0
        for name in trace.drawn:
            distribution = trace.sites[name].distribution
            if not is_density(distribution):
                raise AncestralError(
                    f"the latent variable {name!r}, a {type(base_of(distribution)[0]).__name__}, is discrete, but "
                    "Hamiltonian Monte Carlo, and with it ais and hmc, follows gradients of continuous ones alone. Use "
                    "exact where the variables have few values, or iwae."
                )
            shape = tuple(_to_reals(trace.sites[name]).shape[2:])
            begin = self.dimensions
            self.dimensions += math.prod(shape)
            self.places[name] = _Place(slice(begin, self.dimensions), shape)

    def __call__(self, u: Tensor) -> Tensor:
        """``[chains, batch, d]`` -> ``[chains, batch]``, in nats."""
        prior, likelihood = self.parts(u)
        return prior + likelihood

    def parts(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """log p(z(u)) + log |det ∂z/∂u| and log p(x | z(u)), ``[chains, batch]`` each."""
        with evaluated(self.p):
            trace, log_det = self._run(u)
            prior, likelihood = trace.log_prob(trace.drawn) + log_det, trace.log_prob(self.observed)
        return prior.expand(u.shape[:-1]), likelihood.expand(u.shape[:-1])

    def trace(self, u: Tensor) -> tuple[Trace, Tensor]:
        """The run of p at a position, and log |det ∂z/∂u|."""
        with evaluated(self.p):
            return self._run(u)

    def _run(self, u: Tensor) -> tuple[Trace, Tensor]:
        values = _At(u, self.places)
        trace = Trace(tuple(u.shape[:-1]), self.given, values)
        self.p(trace)
        return trace, values.log_det

    def values(self, u: Tensor) -> dict[str, Tensor]:
        """The latent variables by name, ``[chains, batch, *event]`` each."""
        trace, _ = self.trace(u)
        return {name: trace[name] for name in self.places}

    @torch.no_grad()
    def position(self, values: Mapping[str, Tensor]) -> Tensor:
        """Where the latent variables have given values, ``[chains, batch, *event]`` each: ``[chains, batch, d]``.

        Raises:
            GraphError, ShapeError: see :func:`at_draws`.
        """
        with evaluated(self.p):
            return self._position(at_draws(self.p, self.given, values))

    @torch.no_grad()
    def draw(self, chains: int) -> Tensor:
        """Draws from q(z | x), or from p(z) without a q, ``[chains, batch, d]``."""
        if self.q is None:
            return self._position(self._drawn(self.p, chains))
        trace = self._drawn(self.q, chains)
        for name in self.places:
            if name not in trace.sites:
                raise GraphError(f"q does not draw {name!r}, a latent variable of p.")
        return self.position({name: trace[name] for name in self.places})

    @torch.no_grad()
    def _drawn(self, model: Callable[[Trace], Any], chains: int) -> Trace:
        trace = Trace((chains, self.rows), self.given, AncestralSampling())
        with evaluated(self.p), evaluated(model):  # networks of p may be a part of q
            model(trace)
        return trace

    def _position(self, trace: Trace) -> Tensor:
        return torch.cat([_to_reals(trace.sites[name]).reshape(*trace.shape, -1) for name in self.places], -1)


def at_draws(p: Callable[[Trace], Any], given: Mapping[str, Tensor], draws: Mapping[str, Tensor]) -> Trace:
    """A run of p at draws of its latent variables, ``[chains, batch, *event]`` each.

    Raises:
        GraphError: there are no draws, one of a variable that p does not draw, or none of one that it does.
        ShapeError: a draw, or a given value, does not have the shape of its variable.
    """
    chains = next((draw.shape[:1] for draw in draws.values()), (0,))
    if 0 in chains:
        raise GraphError(
            "there are no draws of latent variables: give those of each, or use log_likelihood where p has none."
        )
    trace = Trace((*chains, batch_of(given)), given, _Taken(draws))
    p(trace)
    for name in draws:
        if name in given:
            raise GraphError(f"there are draws of {name!r}, which is given too: leave one of them out.")
        if name not in trace.sites:
            raise GraphError(f"there are draws of {name!r}, which p does not draw. " + nearest(name, trace.drawn))
    check_given(trace, given)
    return trace


class _Taken:
    """Takes draws by name instead of drawing, where they have the shape of their variable."""

    def __init__(self, draws: Mapping[str, Tensor]) -> None:
        self.draws = draws

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        if name not in self.draws:
            raise GraphError(f"no value is given for {name!r}, a variable of p: give draws of it too.")
        draws, whole = self.draws[name], (*trace.shape, *distribution.event_shape)
        if tuple(draws.shape) != whole:
            raise ShapeError(
                f"the draws of {name!r} have shape {tuple(draws.shape)}, but its {type(distribution).__name__} in p "
                f"takes (chains, batch, *event) = {whole}: give as many chains of every variable, each of the whole "
                "batch."
            )
        return draws

    def term(self, site: Site, cost: Cost) -> Tensor | None:
        return None


class _Place(NamedTuple):
    """Of one latent variable."""

    columns: slice
    shape: tuple[int, ...]
    """Of the real numbers that it is a function of: not always that of its event, for weights that sum to 1."""


class _At:
    """Takes the values that a position stands for instead of drawing them."""

    def __init__(self, u: Tensor, places: Mapping[str, _Place]) -> None:
        self.u, self.places = u, places
        self.log_det = u.new_zeros(())

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        columns, shape = self.places[name]
        part = self.u[..., columns].reshape(*trace.shape, *shape)
        transform = _transform(name, distribution)
        if transform is None:
            return part
        value: Tensor = transform(part)
        log_det = transform.log_abs_det_jacobian(part, value)  # type: ignore[no-untyped-call]
        self.log_det = self.log_det + log_det.reshape(*trace.shape, -1).sum(-1)
        return value

    def term(self, site: Site, cost: Cost) -> Tensor | None:
        return None


def _transform(name: str, distribution: Distribution) -> Transform | None:
    """From real numbers to the support; None where they are the support, or where it is not known (as of flows)."""
    support = support_of(distribution)
    inner = support
    while isinstance(inner, constraints.independent):
        inner = inner.base_constraint
    if inner is None or inner is constraints.real:
        return None
    try:
        transform: Transform = biject_to(support)
    except NotImplementedError:
        raise AncestralError(
            f"no map is known from real numbers to the support of the latent variable {name!r}, a "
            f"{type(base_of(distribution)[0]).__name__}. Use iwae, or another prior."
        ) from None
    return transform


def _to_reals(site: Site) -> Tensor:
    """The real numbers that a value is a function of."""
    transform = _transform(site.name, site.distribution)
    reals: Tensor = site.value if transform is None else transform.inv(site.value)
    return reals


@contextlib.contextmanager
def evaluated(model: Callable[[Trace], Any]) -> Iterator[None]:
    """As the trajectories of a sampler need a model: no gradient of its parameters, and none of torch's checks.

    It is one density all along: dropout and batch normalization are as after training, whatever the model is doing. A
    trajectory may leave the numbers, which torch would stop at; it is turned down after.
    """
    parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
    training = [module for module in model.modules() if module.training] if isinstance(model, nn.Module) else []
    learned = [parameter for parameter in parameters if parameter.requires_grad and parameter.is_leaf]
    checks = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        for parameter in learned:
            parameter.requires_grad_(False)
        for module in training:
            module.training = False
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_()
        for module in training:
            module.training = True
        Distribution.set_default_validate_args(checks)

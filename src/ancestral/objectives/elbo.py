"""The evidence lower bound."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from ancestral.core import Estimators, Joint, Site, Trace, check_known
from ancestral.errors import AncestralError, EstimatorError, GraphError, ShapeError, nearest
from ancestral.objectives.batch_statistics import check_rows_apart
from ancestral.objectives.expectation import Term, average, estimate
from ancestral.objectives.path_gradient import Gradient, along_the_path, check_gradient


@dataclass
class ElboTerms:
    """The bound and its parts, in nats, ``[batch]`` each; the parts carry no gradient."""

    elbo: Tensor
    log_likelihood: Tensor
    """E_q[log p(x | z)]"""
    kl: dict[str, Tensor]
    """E_q[log q(z | …) - log p(z | …)] of each latent variable, before beta."""
    q: Trace
    p: Trace


def elbo(
    p: Callable[[Trace], Any],
    q: Callable[[Trace], Any],
    given: Mapping[str, Tensor],
    particles: int = 1,
    estimators: Estimators | None = None,
    analytic_kl: Collection[str] = (),
    beta: float = 1.0,
    gradient: Gradient = "total",
) -> Tensor:
    r"""The evidence lower bound of log p(x), in nats, one value per datapoint.

    .. math:: L(x) = E_{q(z | x)}[\log p(x | z) + β (\log p(z) - \log q(z | x))] ≤ \log p(x)  (for β = 1)

    As it stands it is estimator A of Kingma and Welling, with every density at the draws; with ``analytic_kl`` it is
    their estimator B, whose divergences are in closed form. Both have this bound as their mean:

    .. math::

        L^A = \frac1K \sum_k \log p(x, z_k) - \log q(z_k | x)  \qquad
        L^B = -KL(q(z | x) ‖ p(z)) + \frac1K \sum_k \log p(x | z_k)

    Args:
        p: the model, for example ``Joint({"z": prior, "x | z": decoder})``.
        q: the approximate posterior, for example ``Joint({"z | x": encoder})``. It must draw every latent of p. p
            itself is one: what is not given is then drawn from its prior, and the bound is E_p[log p(x | z)].
        given: the observed values by name, each with the batch first.
        particles: draws per datapoint.
        estimators: how the gradient passes the latent variables; one, or one per name.
        analytic_kl: latent variables whose divergence is taken in closed form: all of them are estimator B, none A.
        beta: the weight of the divergences (Higgins et al., 2017).
        gradient: how it passes reparameterized latent variables: ``"total"``, ``"sticking-the-landing"`` (without the
            score of q, whose mean is 0) or ``"doubly-reparameterized"``, which is the same here. See
            :data:`ancestral.objectives.path_gradient.Gradient`.

    Returns:
        ``[batch]``, differentiable in the parameters of p and q.

    Raises:
        GraphError: q draws a variable that p does not have, p has a latent that q does not draw, or the
            closed-form divergence is not valid because a parent of the variable in p is drawn after it in q.
        EstimatorError: a divergence in closed form beside an estimator that normalizes its signal, or batch
            normalization below a variable whose estimator counts the cost of each row alone.
        AncestralError: ``gradient`` is none, or has no effect beside ``analytic_kl`` or where p is q.
        EstimatorError, ShapeError: see :func:`~ancestral.expectation`.

    Source: Kingma and Welling (2014), eq. 2 and 3, the bound; eq. 6 and 7, estimators A and B.
    """
    return elbo_terms(p, q, given, particles, estimators, analytic_kl, beta, gradient).elbo


def elbo_terms(
    p: Callable[[Trace], Any],
    q: Callable[[Trace], Any],
    given: Mapping[str, Tensor],
    particles: int = 1,
    estimators: Estimators | None = None,
    analytic_kl: Collection[str] = (),
    beta: float = 1.0,
    gradient: Gradient = "total",
) -> ElboTerms:
    """:func:`elbo` with its parts, for those who report them. Arguments and errors are the same."""
    parts: dict[Trace, _Parts] = {}
    if gradient != "total" and analytic_kl:
        raise AncestralError(
            f"gradient={gradient!r} is about the density of q at its draws, which a divergence in closed form does "
            "without: leave out the gradient, or analytic_kl."
        )

    def cost(trace: Trace) -> list[Term]:
        check_gradient(gradient, p, q, trace)
        check_rows_apart(p, q, trace)
        scored = score(p, q, trace)
        latents = [] if p is q else trace.drawn
        for name in analytic_kl:
            check_analytic_kl(name, p, scored, trace)
        observed = [name for name in scored.sites if name not in trace.drawn]
        terms = [Term(scored.sites[name].log_prob, scope(name, p, scored)) for name in observed]
        log_likelihood = scored.log_prob(observed)
        kl = {}
        for name in latents:
            posterior, prior = trace.sites[name], scored.sites[name]
            variables, prior_variables = scope(name, q, trace), scope(name, p, scored)
            if name in analytic_kl:
                kl[name] = analytic_divergence(posterior, prior)
                terms.append(Term(kl[name], (variables | prior_variables) - {name}, -beta))
            else:
                kl[name] = posterior.log_prob - prior.log_prob
                terms.append(Term(prior.log_prob, prior_variables, beta))
                if gradient == "total":
                    terms.append(Term(own_log_prob(posterior, trace), variables, -beta))
        if gradient != "total":
            terms.append(Term(along_the_path(trace.log_prob(latents), trace), frozenset(latents), -beta))
        parts[trace] = _Parts(scored, kl, log_likelihood)
        return terms

    estimated = estimate(cost, q, given, particles, estimators)
    trace = estimated.drawn
    with torch.no_grad():
        kl = {name: average(value.expand(trace.shape), trace) for name, value in parts[trace].kl.items()}
        log_likelihood = average(parts[trace].log_likelihood.expand(trace.shape), trace)
    return ElboTerms(estimated.value, log_likelihood, kl, estimated.trace, parts[estimated.trace].scored)


@dataclass(frozen=True)
class _Parts:
    """What one run of q gives besides its cost, ``(*particles, batch)``."""

    scored: Trace
    kl: dict[str, Tensor]
    log_likelihood: Tensor


def own_log_prob(site: Site, trace: Trace) -> Tensor:
    """log q(z | …), whose own gradient is left out where z was drawn without one: E_q[∇ log q(z | …)] = 0."""
    without = not site.value.requires_grad and site.name not in dict(trace.enumerated)
    return site.log_prob.detach() if without else site.log_prob


def scope(name: str, model: Callable[[Trace], Any], trace: Trace) -> frozenset[str]:
    """The variables that log p(name | …) is a function of."""
    if isinstance(model, Joint):
        return frozenset((name, *model.parents[name], *random_parents(name, model, trace)))
    sites = list(trace.sites)  # a model with state: anything it met before the variable may be its parent
    later = sites[sites.index(name) + 1 :]
    return frozenset(variable for variable in trace.values if variable not in later)


def score(p: Callable[[Trace], Any], q: Callable[[Trace], Any], trace: Trace) -> Trace:
    """Run p at the values of a trace of q: every density, nothing drawn.

    Where p is q, the trace holds them already.
    """
    if p is q:
        check_known((q, trace))
        return trace
    scored = Trace(trace.shape, trace.values)  # not run: p need not know every variable of q
    p(scored)
    check_known((q, trace), (p, scored))
    check_same_latents(scored, trace)
    return scored


def check_same_latents(p: Trace, q: Trace) -> None:
    """p and q have the same latents, and shapes agree: else it is no bound of log p(x)."""
    for name in q.drawn:
        if name not in p.sites:
            raise GraphError(
                f"q draws {name!r}, which p does not have, so the bound would not bound log p(x). "
                + nearest(name, p.sites)
            )
        mine, theirs = q.sites[name].distribution.event_shape, p.sites[name].distribution.event_shape
        if mine != theirs:
            raise ShapeError(
                f"{name!r} has event shape {tuple(mine)} in q but {tuple(theirs)} in p: they must be the same variable."
            )
    for name in p.sites:
        if name not in q.given and name not in q.drawn:  # a deterministic variable of q has no density
            raise GraphError(
                f"p has the latent variable {name!r}, which is neither given nor drawn by q. "
                + (nearest(name, q.drawn) if q.drawn else "q draws nothing.")
            )
    check_given(p, {name: q.values[name] for name in q.given})


def check_given(p: Trace, given: Mapping[str, Tensor]) -> None:
    """The given values that p draws have a density in it, and the shapes of their variables."""
    for name, value in given.items():
        if name in p.sites:
            distribution = p.sites[name].distribution
            whole = (p.shape[-1], *distribution.event_shape)
            if tuple(value.shape) != whole:
                raise ShapeError(
                    f"the given value of {name!r} has shape {tuple(value.shape)}, but its "
                    f"{type(distribution).__name__} in p expects (batch, *event) = {whole}. Make the "
                    "network's output and the data agree: one of them has the wrong shape."
                )
        elif p.values[name] is not value:
            raise GraphError(
                f"a value is given for {name!r}, but its conditional in p returned a Tensor, which has no "
                "density. Return a torch.distributions.Distribution, for example bernoulli(network)."
            )


def check_analytic_kl(name: str, p: Callable[[Trace], Any], scored: Trace, trace: Trace) -> None:
    """E_q[log q(z | ·) - log p(z | ·)] has the closed form only if z's parents in p precede z in q."""
    if name not in trace.drawn:
        raise GraphError(f"analytic_kl names {name!r}, which q does not draw. " + nearest(name, trace.drawn))
    if _normalizes(trace.sites[name].estimator):
        raise EstimatorError(
            f"the estimator of {name!r} divides its signal by its standard deviation, and a divergence in closed form, "
            f"which is no part of the signal, would outweigh the likelihood: leave {name!r} out of analytic_kl, or use "
            "an estimator without normalize."
        )
    late = later_parents(name, p, scored, trace)
    if late:
        raise GraphError(
            f"the divergence of {name!r} has no closed form here: its parent {late[0]!r} in p is drawn after "
            f"{name!r} in q, so it depends on {name!r}. Leave {name!r} out of analytic_kl."
        )


def later_parents(name: str, p: Callable[[Trace], Any], scored: Trace, trace: Trace) -> list[str]:
    """The parents of a variable in p that q draws after it."""
    values = list(trace.values)  # in the order in which they were given, computed or drawn
    before = values[: values.index(name)]
    if isinstance(p, Joint):
        parents = random_parents(name, p, scored)
    else:  # a model with state: anything it met before the variable may be its parent
        sites = list(scored.sites)
        parents = sites[: sites.index(name)]
    return [parent for parent in parents if parent not in before]


def closed_form(names: Iterable[str], estimators: Estimators | None) -> list[str]:
    """Those of the variables whose divergence may be taken in closed form beside these estimators.

    An estimator that normalizes its signal shortens what passes it: a divergence that does not would have a larger
    weight than beta.
    """

    def of(name: str) -> object:
        return estimators.get(name) if isinstance(estimators, Mapping) else estimators

    return [name for name in names if not _normalizes(of(name))]


def _normalizes(estimator: object) -> bool:
    return bool(getattr(estimator, "normalize", False))


def random_parents(name: str, p: Joint, scored: Trace) -> list[str]:
    """The parents of a variable in p, with each deterministic one replaced by its own parents."""
    parents = []
    for parent in p.parents[name]:
        deterministic = parent in p.parents and parent not in scored.sites
        parents += random_parents(parent, p, scored) if deterministic else [parent]
    return parents


def analytic_divergence(q: Site, p: Site) -> Tensor:
    """KL(q || p) in closed form, nats, of a shape that broadcasts to ``(*particles, batch)``."""
    try:
        return kl_divergence(*same_batch(q.distribution, p.distribution))
    except NotImplementedError:
        raise AncestralError(
            f"no closed form is known for the divergence of {q.name!r} from {type(q.distribution).__name__} "
            f"to {type(p.distribution).__name__}. Leave {q.name!r} out of analytic_kl."
        ) from None


def same_batch(q: Distribution, p: Distribution) -> tuple[Distribution, Distribution]:
    """Both with their common batch shape: torch's closed forms for discrete variables do not broadcast.

    The trace has seen to it that a batch shape is a trailing part of the whole, so the longer is the common one.
    """
    if len(q.batch_shape) < len(p.batch_shape):
        return q.expand(p.batch_shape), p
    if len(p.batch_shape) < len(q.batch_shape):
        return q, p.expand(q.batch_shape)
    return q, p

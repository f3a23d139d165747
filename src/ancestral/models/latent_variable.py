"""Any pair of joint distributions p(x, z) and q(z | x) as a model with the whole contract."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

from ancestral.configs.data import HIDDEN
from ancestral.core import AncestralSampling, Cost, Estimators, Joint, Site, Trace, run
from ancestral.distributions import base_of, check_support
from ancestral.distributions.support import is_density, kind_of, mean_of
from ancestral.errors import AncestralError, GraphError, nearest
from ancestral.estimators import Enumerate, Reparameterized
from ancestral.estimators.schedules import estimators_at
from ancestral.models.contract import Batch, Player, Scalars, evaluating
from ancestral.objectives import elbo, elbo_terms, iwae
from ancestral.objectives.elbo import later_parents, same_batch, score
from ancestral.objectives.expectation import average
from ancestral.objectives.iwae import bounds
from ancestral.objectives.path_gradient import Gradient
from ancestral.objectives.reweighted_wake_sleep import Phase, reweighted_wake_sleep_terms
from ancestral.objectives.wake_sleep import wake_sleep

Objective = Literal["elbo", "iwae", "wake-sleep", "reweighted-wake-sleep"]
Latents = Tensor | dict[str, Tensor]

ACTIVE = 0.01
"""A latent unit whose :func:`activity` is above this is active (Burda, Grosse and Salakhutdinov, 2016, section 5.2)."""
PATHS, DRAWS = 8, 64
"""Draws in each of the two estimates of a posterior mean: of the variables before a unit; of the unit itself, where its
mean is not known in closed form."""


class _Mean:
    """Takes the mean of a distribution for its value; where it is not known, a draw or an error.

    With ``possible=True`` a discrete variable takes its most probable value instead: a fraction is none of its values,
    and no network that reads it has ever seen one.
    """

    def __init__(self, or_draw: bool = False, possible: bool = False) -> None:
        self.or_draw, self.possible = or_draw, possible

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        mean = mean_of(distribution)
        if mean is not None and self.possible and not is_density(distribution):
            mean = distribution.mode.nan_to_num(1.0)  # torch has none for a bit as probable as not
        if mean is not None:
            return mean.expand(*trace.missing_shape(distribution), *mean.shape)
        if self.or_draw:
            return AncestralSampling().draw(name, distribution, trace)
        raise AncestralError(
            f"the mean of {name!r}, a {type(base_of(distribution)[0]).__name__}, is not known in closed form: ask for "
            "a draw instead (in Python sample=True, or mean=False for sample(); on the command line --draws)."
        )

    def term(self, site: Site, cost: Cost) -> Tensor | None:
        return None


class LatentVariableModel(nn.Module):
    """A model p with latent variables and an approximate posterior q, trained by a bound of log p(x).

    Args:
        p: the model, for example ``Joint({"z": prior, "x | z": decoder})``.
        q: the approximate posterior, for example ``Joint({"z | x": encoder})``; or p itself, whose latent variables are
            then drawn from their prior (a stochastic network that predicts x from what it is given).
        objective: ``"elbo"``, ``"iwae"``, ``"wake-sleep"`` or ``"reweighted-wake-sleep"``.
        estimators: how gradients pass the latent variables: one, or one per name (elbo and iwae).
        particles: draws per datapoint; wake-sleep has one.
        q_phase: what q learns from: ``"wake"``, weighted particles; ``"sleep"``, dreams of p; ``"both"``
            (reweighted-wake-sleep).
        analytic_kl: latent variables whose divergence is taken in closed form (elbo).
        beta: weight of the divergences (elbo).
        kl_warmup: epochs over which that weight rises from 0 (elbo).
        free_bits: nats per latent dimension that cost nothing (elbo): the divergence of a dimension, averaged over the
            batch, counts only above it. Needs ``analytic_kl``.
        gradient: how the gradient of a bound passes reparameterized latent variables: see
            :data:`ancestral.objectives.path_gradient.Gradient`.
        validation_particles: of the importance-weighted bound that :meth:`validation` gives; 0: the objective itself,
            or where that is no bound, ``particles``.
        observed: the variable of p that holds the data.

    A variable named ``y`` that is not ``observed`` and that neither p nor q draws holds the labels, one-hot with
    ``classes`` entries.

    Raises:
        GraphError: ``observed`` is no variable of p.
        AncestralError: a setting is out of range or has no effect with the objective.
    """

    initialized: Tensor

    def __init__(
        self,
        p: nn.Module,
        q: nn.Module,
        objective: Objective = "elbo",
        estimators: Estimators | None = None,
        *,
        particles: int = 1,
        q_phase: Phase = "wake",
        analytic_kl: Collection[str] = (),
        beta: float = 1.0,
        kl_warmup: float = 0.0,
        free_bits: float = 0.0,
        gradient: Gradient = "total",
        validation_particles: int = 0,
        observed: str = "x",
        classes: int = 0,
    ) -> None:
        super().__init__()
        if objective not in get_args(Objective):
            raise AncestralError(
                f"there is no objective {objective!r}. " + nearest(str(objective), get_args(Objective))
            )
        if objective != "elbo" and (beta != 1 or kl_warmup or free_bits or analytic_kl):
            raise AncestralError(f"beta, kl_warmup, free_bits and analytic_kl have no effect with {objective=}.")
        if q is p and (beta != 1 or kl_warmup or free_bits or analytic_kl):
            raise AncestralError(
                "beta, kl_warmup, free_bits and analytic_kl have no effect where q is p: nothing diverges from itself."
            )
        if objective in ("wake-sleep", "reweighted-wake-sleep") and estimators is not None:
            raise AncestralError(f"estimators have no effect with {objective=}, whose gradients pass no draw.")
        if objective == "wake-sleep" and particles != 1:
            raise AncestralError(f"particles is {particles}, but wake-sleep has one. Use reweighted-wake-sleep.")
        if gradient not in get_args(Gradient):
            raise AncestralError(f"there is no gradient {gradient!r}. " + nearest(str(gradient), get_args(Gradient)))
        if gradient != "total" and (objective not in ("elbo", "iwae") or analytic_kl):
            raise AncestralError(
                f"{gradient=} is about the density of q at its draws, in a bound without divergences in closed form: "
                "leave out the gradient, or analytic_kl, or use objective='elbo' or 'iwae'."
            )
        if q_phase != "wake" and objective != "reweighted-wake-sleep":
            raise AncestralError(f"q_phase has no effect with {objective=}: it is for reweighted-wake-sleep.")
        if min(beta, kl_warmup, free_bits, validation_particles) < 0:
            raise AncestralError("beta, kl_warmup, free_bits and validation_particles must be 0 or more.")
        if free_bits and not analytic_kl:
            raise AncestralError("free_bits needs the divergence of each dimension: name the variables in analytic_kl.")
        named = list(estimators.values()) if isinstance(estimators, Mapping) else [estimators]
        if free_bits and any(not isinstance(one, Reparameterized | Enumerate | None) for one in named):
            raise AncestralError(
                "free_bits changes the cost after the estimators have seen it, so that only Reparameterized() and "
                "Enumerate() have the right gradient: leave free_bits out, or the other estimators."
            )
        if isinstance(p, Joint) and observed not in p.variables:
            raise GraphError(f"the observed variable {observed!r} is none of {p}. " + nearest(observed, p.variables))
        self.p = p
        if q is p:
            object.__setattr__(self, "q", p)  # the same parameters, registered once
        else:
            self.q = q
        self.register_buffer("initialized", torch.zeros((), dtype=torch.bool))
        self.objective: Objective = objective
        self.estimators = estimators
        if isinstance(estimators, Mapping):  # a module among them has parameters of its own
            self.own_estimators = nn.ModuleDict({n: e for n, e in estimators.items() if isinstance(e, nn.Module)})
        self.particles, self.q_phase, self.gradient = particles, q_phase, gradient
        self.analytic_kl = tuple(analytic_kl)
        self.beta, self.kl_warmup, self.free_bits = beta, kl_warmup, free_bits
        self.validation_particles = validation_particles
        self.observed = observed
        self.classes = classes
        self.takes_labels = observed != "y" and any("y" in joint.given for joint in (p, q) if isinstance(joint, Joint))
        if classes and not self.takes_labels:
            raise AncestralError(f"classes has no effect: neither {p} nor q is conditioned on labels y.")

    # ---- learning

    def players(self) -> list[Player]:
        modules = [self.estimators, getattr(self, "own_estimators", None)]
        own = [w for module in modules if isinstance(module, nn.Module) for w in module.parameters()]
        return [Player("model", list(self.parameters()), self.loss, apart=own)]

    def beta_at(self, epoch: float) -> float:
        """The weight of the divergences after so many epochs of training."""
        return self.beta * (min(1.0, epoch / self.kl_warmup) if self.kl_warmup else 1.0)

    def given(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """The observed values by name."""
        values = {self.observed: x}
        if self.takes_labels:
            if y is None:
                raise AncestralError(f"{self.p} is conditioned on the labels y, but the data have none.")
            # A GPU would have to be waited for, at every step; where it is compiled, one_hot looks itself.
            if not (y.is_cuda or torch.compiler.is_compiling() or y.is_floating_point()):
                self._check_labels(y)
            values["y"] = F.one_hot(y, self.classes).to(x.dtype) if self.classes else y
        return values

    def data(self, values: Mapping[str, Tensor]) -> Tensor:
        """The datapoints of a run's values, ``[n, *shape]``: what :meth:`given` has taken apart."""
        return values[self.observed]

    def predicted(self, x: Tensor) -> Tensor:
        """The part of datapoints that p draws: all, unless a model is given a part."""
        return x

    def condition(self, n: int) -> dict[str, Tensor]:
        """Values of what p is conditioned on, for n datapoints that are to be drawn: labels, each class as likely.

        Raises:
            GraphError: p is conditioned on labels whose number is not known.
        """
        if not isinstance(self.p, Joint) or "y" not in self.p.given:
            return {}
        if not self.classes:
            raise GraphError(f"{self.p} is conditioned on y: pass given={{'y': ...}}, or build it with classes=....")
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        labels = torch.randint(self.classes, (n,), device=device)
        return {"y": F.one_hot(labels, self.classes).to(torch.get_default_dtype())}

    def conditions(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """The observed values besides x that p knows: what :meth:`decode` takes for ``given``."""
        left_out = (self.observed, *self._example().unused)
        return {name: value for name, value in self.given(x, y).items() if name not in left_out}

    def _check_labels(self, y: Tensor) -> None:
        low, high = int(y.min()), int(y.max())
        if low == HIDDEN:
            raise AncestralError(
                f"the data have rows without a label (-1), but {self.p} is conditioned on labels: leave these rows "
                "out, or give them a label."
            )
        if self.classes and (low < 0 or high >= self.classes):
            raise AncestralError(
                f"the data have a label {high if high >= self.classes else low}, but the model has "
                f"classes={self.classes}: labels run from 0 to {self.classes - 1}."
            )

    def loss(self, batch: Batch) -> Scalars:
        """The loss of the objective, averaged over the batch, in nats per datapoint, with its parts.

        That of a bound is its negative; that of wake-sleep, plain or reweighted, is the sum of the losses of p and q.
        """
        given = self.given(batch.x, batch.y)
        if self.objective == "wake-sleep":
            wake, sleep = (phase.mean() for phase in wake_sleep(self.p, self.q, given))
            return {"loss": wake + sleep, "wake": wake, "sleep": sleep}
        if self.objective == "reweighted-wake-sleep":
            phases = reweighted_wake_sleep_terms(self.p, self.q, given, self.particles, self.q_phase)
            wake, of_q = phases.wake.mean(), phases.q_loss.mean()
            return {
                "loss": wake + of_q,
                "wake": wake,
                "loss of q": of_q,
                "bound": -phases.bound.mean(),
                "effective sample size": phases.effective_sample_size.mean(),
            }
        estimators = estimators_at(self.estimators, batch.epoch)
        if self.objective == "iwae":
            return {"loss": -iwae(self.p, self.q, given, self.particles, estimators, self.gradient).mean()}
        beta = self.beta_at(batch.epoch)
        terms = elbo_terms(self.p, self.q, given, self.particles, estimators, self.analytic_kl, beta, self.gradient)
        loss = -terms.elbo.mean()
        if self.free_bits:
            for name in self.analytic_kl:
                units = kl_per_unit(name, terms.p, terms.q).mean(-1)
                # Σ max(λ, KL_j) = Σ KL_j + Σ max(0, λ - KL_j): the bound already holds the first sum
                loss = loss + beta * F.relu(self.free_bits - units).sum()
        scalars = {"loss": loss, "reconstruction": -terms.log_likelihood.mean()}
        if terms.kl:
            kl = [value.mean() for value in terms.kl.values()]
            scalars["kl"] = sum(kl[1:], kl[0])
        if len(terms.kl) > 1:
            scalars |= {f"kl {name}": value.mean() for name, value in terms.kl.items()}
        if beta != self.beta:
            scalars["beta"] = beta * torch.ones(())
        return scalars

    def validation(self, batch: Batch) -> Scalars:
        """The negative bound itself: no warm-up, no free bits, beta = 1; or that with ``validation_particles``."""
        given = self.given(batch.x, batch.y)
        if self.validation_particles or self.objective in ("wake-sleep", "reweighted-wake-sleep"):
            found = bounds(self.p, self.q, given, self.validation_particles or self.particles)
            scalars = {"loss": -found.log_prob.mean(), "reconstruction": -found.log_likelihood.mean()}
            return scalars if self.q is self.p else scalars | {"kl": found.kl.mean()}
        if self.objective == "iwae":
            return {"loss": -iwae(self.p, self.q, given, self.particles, self.estimators).mean()}
        terms = elbo_terms(self.p, self.q, given, self.particles, self.estimators, self.analytic_kl)
        scalars = {"loss": -terms.elbo.mean(), "reconstruction": -terms.log_likelihood.mean()}
        if terms.kl:
            scalars["kl"] = torch.stack([value.mean() for value in terms.kl.values()]).sum()
        return scalars

    def initialize(self, data: Tensor) -> None:
        """Let the conditional of the observed variable start at the data's mean, if it knows how; once in its life."""
        conditional = self.p.conditionals.get(self.observed) if isinstance(self.p, Joint) else None
        initialize = getattr(conditional, "initialize", None)
        if initialize is not None and not self.initialized:
            initialize(data)
        self.initialized.fill_(True)

    def check(self, batch: Batch) -> None:
        """Every shape, and that the data lie in the support of their likelihood."""
        if self.classes and batch.y is not None:
            self._check_labels(batch.y)
        given = self.given(batch.x, batch.y)
        if self.objective == "wake-sleep":
            wake_sleep(self.p, self.q, given)
        elif self.objective == "reweighted-wake-sleep":
            reweighted_wake_sleep_terms(self.p, self.q, given, self.particles, self.q_phase)
        elif self.objective == "iwae":
            iwae(self.p, self.q, given, self.particles, self.estimators, self.gradient)
        else:
            elbo(self.p, self.q, given, self.particles, self.estimators, self.analytic_kl, gradient=self.gradient)
        with torch.no_grad():
            trace = Trace((1, batch.x.shape[0]), given)
            self.q(trace)
            sites = score(self.p, self.q, trace).sites
        if self.observed not in sites:
            raise GraphError(
                f"p never samples the observed variable {self.observed!r}. " + nearest(self.observed, sites)
            )
        check_support(self.observed, sites[self.observed].distribution, given[self.observed])

    # ---- use

    @torch.no_grad()
    def sample(self, n: int, *, mean: bool = False, given: Mapping[str, Tensor] | None = None) -> Tensor:
        """Draw n datapoints from p by ancestral sampling, ``[n, *event]``.

        Args:
            n: how many.
            mean: give the mean of p(x | z) for the drawn z, instead of a draw of x.
            given: values that are not to be drawn, ``[n, …]`` each. Labels that p is conditioned on are drawn uniformly
                from the classes unless they are given.
        """
        if n < 1:
            raise AncestralError(f"n is {n}, but at least one sample must be drawn.")
        given = dict(given or {})
        if isinstance(self.p, Joint) and not given.keys() >= set(self.p.given):
            given = self.condition(n) | given
        return self.data(run(self.p, given, (n,), {self.observed: _Mean()} if mean else None).values)

    @torch.no_grad()
    def log_prob(self, x: Tensor, *, particles: int = 1, y: Tensor | None = None) -> Tensor:
        """The importance-weighted bound of log p(x) with this many particles, in nats, ``[batch]``, float64.

        A lower bound in expectation, which tends to log p(x) as particles grow (Burda et al., 2016, theorem 1). Memory
        does not grow with the particles.
        """
        return bounds(self.p, self.q, self.given(x, y), particles).log_prob

    @torch.no_grad()
    def encode(self, x: Tensor, *, sample: bool = False, y: Tensor | None = None) -> Latents:
        """The mean of q(z | x), later latents at the means of earlier ones, or a draw: a tensor, or several by name.

        Raises:
            AncestralError: a mean is not known in closed form.
        """
        trace = self._posterior(x, y, None if sample else _Mean())
        latents = {name: trace[name] for name in trace.drawn}
        return next(iter(latents.values())) if len(latents) == 1 else latents

    @torch.no_grad()
    def posterior_means(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """E_{q(u | x)}[u] of each latent variable u by name, ``[batch, *event]``, float64, averaged over draws.

        That of a variable that q draws after others is averaged over draws of those, that of a normalizing flow over
        its own; any other is exact. An index has no mean, and is left out.

        Raises:
            AncestralError: there is no latent variable.
        """
        self._posterior(x[:1], None if y is None else y[:1], None)
        return {name: (first + second) / 2 for name, (first, second) in _means_over_draws(self, x, y).items()}

    def _posterior(self, x: Tensor, y: Tensor | None, estimators: Estimators | None) -> Trace:
        """One run of q, which need not read every given value."""
        trace = Trace((x.shape[0],), self.given(x, y), estimators)
        self.q(trace)
        if not trace.drawn:
            raise AncestralError(f"{self.p} has no latent variable: there is nothing that data could be encoded in.")
        return trace

    @torch.no_grad()
    def decode(
        self,
        z: Latents,
        *,
        sample: bool = False,
        given: Mapping[str, Tensor] | None = None,
        means: Collection[str] = (),
    ) -> Tensor:
        """The mean of p(x | z), or a draw. ``z`` is a tensor ``[batch, …]``, or a dict by name.

        Latent variables that it does not name are drawn from p; those of ``means`` take their mean there, or their
        most probable value where they are discrete.

        Raises:
            GraphError: ``z`` or ``given`` names a variable that p does not know.
            AncestralError: the mean is not known in closed form, or ``z`` is one tensor for several variables.
        """
        if isinstance(z, Tensor):
            names = self.latents()
            if len(names) != 1:
                raise AncestralError(
                    f"the model has the latent variables {', '.join(names)}: give a dict of their values."
                )
            z = {names[0]: z}
        n = next(iter(z.values())).shape[0]
        estimators = {name: _Mean(possible=True) for name in means} | ({} if sample else {self.observed: _Mean()})
        return self.data(run(self.p, {**(given or {}), **z}, (n,), estimators or None).values)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, *, sample: bool = False, y: Tensor | None = None) -> Tensor:
        """The mean of p(x | z) at the mean of q(z | x), or at its most probable value where z is discrete.

        ``sample=True``: at a draw of it, and a draw of x too if that has no mean in closed form.
        """
        z = self._posterior(x, y, None if sample else _Mean(possible=True))
        values = self.conditions(x, y) | {name: z[name] for name in z.drawn}
        return self.data(run(self.p, values, (x.shape[0],), {self.observed: _Mean(or_draw=sample)}).values)

    def latents(self) -> list[str]:
        """The names of the latent variables, in p's order."""
        return list(self.priors())

    def priors(self) -> dict[str, Distribution]:
        """p(z | …) of each latent variable by name, in p's order, of one datapoint at a draw of its parents."""
        example = self._example()
        return {name: example.sites[name].distribution for name in example.drawn if name != self.observed}

    def latent_shape(self) -> tuple[int, ...]:
        """The shape of one value of the only latent variable."""
        names = self.latents()
        if len(names) != 1:
            raise AncestralError(f"the model has the latent variables {', '.join(names)}, not a single one.")
        return tuple(self.priors()[names[0]].event_shape)

    def likelihood(self) -> str:
        """The name of p(x | …), for people to read."""
        return type(base_of(self.likelihood_of_one())[0]).__name__

    def likelihood_of_one(self) -> Distribution:
        """p(x | …) of one datapoint, at a draw of the latent variables; the random stream is left as it was."""
        return self._example().sites[self.observed].distribution

    def _example(self) -> Trace:
        """One run of p that leaves the random stream as it was."""
        training = self.training
        self.eval()  # one row has no statistics for batch normalization
        try:
            with torch.random.fork_rng(), torch.no_grad():
                trace = Trace((1,), {"y": self._no_label()} if self.takes_labels else self.condition(1))
                self.p(trace)
                return trace
        finally:
            self.train(training)

    def _no_label(self) -> Tensor:
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        return torch.zeros(1, self.classes, device=device) if self.classes else torch.zeros(1, device=device).long()

    def extra_repr(self) -> str:
        return f"objective={self.objective}, particles={self.particles}"


@torch.no_grad()
def activity(model: LatentVariableModel, batches: Iterable[tuple[Tensor, Tensor | None]]) -> dict[str, Tensor]:
    r"""The activity of each latent unit, by variable: how much its posterior mean moves with the data.

    .. math:: A_u = Cov_x(E_{q(u | x)}[u])

    The mean of a variable that q draws after others is an expectation over those; that of a normalizing flow is not
    known in closed form. Both are estimated twice, by independent draws, whose covariance over the data is free of
    their noise: an unbiased estimate, which can be negative. That of any other variable is exact. A unit that is a
    one-hot vector has the sum over its classes.

    An index, which has no mean, is left out, and so are all where there is a single datapoint, with which nothing
    moves. The random stream outside is left as it was.

    Args:
        batches: of x and of labels y, as :meth:`ancestral.data.Dataset.batches` gives them.

    Source: Burda, Grosse and Salakhutdinov (2016), section 5.2.
    """
    means: dict[str, list[tuple[Tensor, Tensor]]] = {}
    with torch.random.fork_rng(), evaluating(model):
        torch.manual_seed(0)
        for x, y in batches:
            for name, pair in _means_over_draws(model, x, y).items():
                means.setdefault(name, []).append(pair)
    moves = {}
    for name, pairs in means.items():
        first, second = (torch.cat(values) for values in zip(*pairs, strict=True))
        if len(first) > 1:
            moves[name] = ((first - first.mean(0)) * (second - second.mean(0))).sum(0) / (len(first) - 1)
    one_hot = {name for name, prior in model.priors().items() if kind_of(prior) == "one-hot"} if moves else set()
    return {name: (value.sum(-1) if name in one_hot else value).flatten() for name, value in moves.items()}


def _means_over_draws(model: LatentVariableModel, x: Tensor, y: Tensor | None) -> dict[str, tuple[Tensor, Tensor]]:
    """E_{q(u | x)}[u] by variable, ``[batch, *event]`` in float64, twice: over draws of what q draws before u, or of u
    itself where its mean is not known in closed form."""
    count = max(draws_of_means(model, x[:1], None if y is None else y[:1]).values(), default=1)
    trace = Trace((count, x.shape[0]), model.given(x, y), AncestralSampling())
    model.q(trace)
    pairs = {}
    for name in trace.drawn:
        distribution = trace.sites[name].distribution
        mean = mean_of(distribution)
        if mean is not None:
            mean = mean.expand(*trace.missing_shape(distribution), *mean.shape)
        elif _mean_needs_draws(distribution):
            mean = trace[name]
        if mean is not None:
            mean = mean.double()
            first, second = mean.chunk(2) if len(mean) > 1 else (mean, mean)
            pairs[name] = (first.mean(0), second.mean(0))
    return pairs


def draws_of_means(model: LatentVariableModel, x: Tensor, y: Tensor | None = None) -> dict[str, int]:
    """By how many draws the posterior means are estimated, of those latent variables where they are no closed form."""
    later = drawn_after_others(model)
    trace = Trace((1, x.shape[0]), model.given(x, y), AncestralSampling())
    model.q(trace)
    alone = {name for name in trace.drawn if _mean_needs_draws(trace.sites[name].distribution)}
    count = 2 * (DRAWS if alone else PATHS)
    return {name: count for name in trace.drawn if name in alone | later}


def _mean_needs_draws(distribution: Distribution) -> bool:
    """Whether it is a continuous variable whose mean is not known in closed form, such as a normalizing flow."""
    if kind_of(distribution) != "reparameterizable":
        return False
    try:
        return not isinstance(distribution.mean, Tensor)
    except NotImplementedError:
        return True


def drawn_after_others(model: LatentVariableModel) -> set[str]:
    """The latent variables that q draws given others that it has drawn."""
    if not isinstance(model.q, Joint):  # a model with state: anything it met before may be a parent
        return set(model.latents()[1:])
    after: set[str] = set()
    latents = set(model.latents())
    for name, parents in model.q.parents.items():  # in ancestral order
        if any(parent in latents or parent in after for parent in parents):
            after.add(name)
    return after & latents


@torch.no_grad()
def divergence_per_unit(model: LatentVariableModel, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
    r"""What each latent unit adds to the divergence of the ELBO, in nats, averaged over data and a draw, by variable.

    .. math:: E_q[\log q(z_j | x) - \log p(z_j)]

    each given its parents, and in closed form where these are drawn before it in q. In a hierarchy they are not: there
    q draws z_1 before z_2, but p(z_1 | z_2) depends on z_2, and the term, of which a single one may be negative, is
    taken at the draw. A variable that is not factorised is left out, or whose divergence has no closed form where one
    is needed, and so are all those that are drawn from p itself.
    """
    if model.q is model.p:
        return {}
    trace = Trace((1, x.shape[0]), model.given(x, y), AncestralSampling())
    with evaluating(model):
        model.q(trace)
        scored = score(model.p, model.q, trace)
    divergences = {}
    for name in trace.drawn:
        with contextlib.suppress(AncestralError, NotImplementedError):
            later = later_parents(name, model.p, scored, trace)
            terms = log_ratio_per_unit if later else kl_per_unit
            divergences[name] = terms(name, scored, trace).mean(-1)
    return divergences


def kl_per_unit(name: str, p: Trace, q: Trace) -> Tensor:
    """E_q[KL(q || p)] of each component of a factorised variable, in nats, ``[units, batch]``."""
    posterior, prior, dims = _components(name, p, q)
    return _averaged(kl_divergence(posterior, prior).flatten(-dims), q)


def log_ratio_per_unit(name: str, p: Trace, q: Trace) -> Tensor:
    """E_q[log q - log p] of each component of a factorised variable at the draws, in nats, ``[units, batch]``."""
    posterior, prior, dims = _components(name, p, q)
    value = q[name]
    return _averaged((posterior.log_prob(value) - prior.log_prob(value)).flatten(-dims), q)


def _components(name: str, p: Trace, q: Trace) -> tuple[Distribution, Distribution, int]:
    """The distributions of the components of a factorised variable in q and p, and their number of dimensions."""
    posterior, prior = same_batch(q.sites[name].distribution, p.sites[name].distribution)
    (posterior, dims), (prior, prior_dims) = base_of(posterior), base_of(prior)
    if dims != prior_dims or not dims:
        raise AncestralError(
            "the divergence per dimension needs factorised distributions (torch.distributions.Independent)."
        )
    return posterior, prior, dims


def _averaged(units: Tensor, q: Trace) -> Tensor:
    """Values ``[*particles, batch, units]``, or of a shape that broadcasts to it, as ``[units, batch]``."""
    averaged: Tensor = torch.vmap(lambda unit: average(unit.expand(q.shape), q), in_dims=-1)(units)
    return averaged

"""Gradient estimators compared on one problem: bias, variance, and the time of one gradient."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ancestral.configs import EstimatorSettings
from ancestral.core import Estimator, Estimators, Joint, Trace
from ancestral.distributions import bernoulli, bernoulli_bias
from ancestral.errors import AncestralError, EstimatorError
from ancestral.estimators import Enumerate, LikelihoodRatio, Reparameterized
from ancestral.estimators.schedules import estimators_at
from ancestral.models import LatentVariableModel
from ancestral.models.estimation import make_estimator
from ancestral.networks import linear, mlp
from ancestral.objectives import elbo, expectation, iwae
from ancestral.objectives.elbo import closed_form
from ancestral.objectives.expectation import batch_of
from ancestral.objectives.memory import bytes_made, free_memory

ENUMERATED = 4096
"""Joint values of the latent variables up to which the exact gradient is summed rather than drawn."""
REFERENCE_DRAWS, REFERENCE_PARTICLES = 8, 8
"""Where it is drawn: so many times the draws of one estimator, of so many particles."""
GROUPS = 40
"""Means of draws that are kept of such a reference."""
FITTING_RATE = 0.01
"""Learning rate of Adam for what estimators learn."""
ROUNDING = 100
"""Steps of the machine's precision by which the same gradient, computed in another order, may differ."""
BIASED = 4.0
"""Standard errors above which a bias is taken for one."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Problem:
    """An expectation, and the parameters of what is drawn."""

    name: str
    """In words."""
    loss: Callable[[Estimators, int], Tensor]
    """From estimators and a number of particles to ``[batch]``, differentiable; what is to be lowered."""
    q: nn.Module
    """What draws the latent variables; the gradient is with respect to its parameters."""
    given: Mapping[str, Tensor]
    particles: int
    bound: Literal["elbo", "iwae"] = "elbo"
    """Which of them; a cost is an expectation as the ELBO is, the same for any number of particles."""
    epoch: float = 0.0
    """After which temperatures and slopes that change in training are taken."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.q.parameters() if parameter.requires_grad]

    @torch.no_grad()
    def latents(self) -> Trace:
        """One run of q, for the distributions of its latent variables."""
        trace = Trace((batch_of(self.given),), self.given)
        self.q(trace)
        return trace


def one_bernoulli(target: float = 0.499, mean: float = 0.3, particles: int = 2) -> Problem:
    r"""One Bernoulli variable, whose cost hardly tells its values apart.

    .. math:: E_{b ∼ Bernoulli(σ(l))}[(b - t)^2],  ∂/∂l = σ(l) (1 - σ(l)) (1 - 2 t)

    Args:
        target: t.
        mean: σ(l).

    Raises:
        AncestralError: the mean is not between 0 and 1, or the target is no finite number.

    Source: Tucker, Mnih, Maddison, Lawson and Sohl-Dickstein (2017), section 5.1.
    """
    if not 0 < mean < 1:
        raise AncestralError(f"mean is {mean:g}, but that of a Bernoulli variable must be between 0 and 1.")
    if not math.isfinite(target):
        raise AncestralError(f"target is {target:g}, but it must be a finite number.")
    q = Joint({"b": bernoulli_bias(1)}).double()
    (logit,) = q.parameters()
    nn.init.constant_(logit, math.log(mean) - math.log1p(-mean))
    given = {"x": torch.zeros(1, 1, dtype=torch.float64)}

    def loss(estimators: Estimators, particles: int) -> Tensor:
        return expectation(lambda trace: (trace["b"] - target).square().sum(-1), q, given, particles, estimators)

    return Problem(f"E[(b - {target:g})²], b ~ Bernoulli({mean:g})", loss, q, given, particles)


def two_layers(seed: int = 0, particles: int = 2) -> Problem:
    """The bound of a sigmoid belief network, h2 (2) -> h1 (3) -> x (5), at 11 datapoints; small enough to be summed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        p = Joint({"h2": bernoulli_bias(2), "h1 | h2": bernoulli(linear(2, 3)), "x | h1": bernoulli(mlp(3, 7, 5))})
        q = Joint({"h1 | x": bernoulli(mlp(5, 7, 3)), "h2 | h1": bernoulli(linear(3, 2))})
        model = LatentVariableModel(p, q).double()
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        x = torch.bernoulli(torch.full((11, 5), 0.5, dtype=torch.float64))
    return bound_of(model, x, particles=particles)


def bound_of(
    model: LatentVariableModel, x: Tensor, y: Tensor | None = None, particles: int = 2, epoch: float = 0.0
) -> Problem:
    """The bound that a model is trained by, averaged over a batch of data ``[batch, *shape]``, after so many epochs.

    It is the ELBO of a model that is trained by none.
    """
    given = model.given(x, y)
    bound: Literal["elbo", "iwae"] = "iwae" if model.objective == "iwae" else "elbo"

    def loss(estimators: Estimators, particles: int) -> Tensor:
        if bound == "iwae":
            return -iwae(model.p, model.q, given, particles, estimators)
        analytic_kl = closed_form(model.analytic_kl, estimators)
        return -elbo(model.p, model.q, given, particles, estimators, analytic_kl, model.beta_at(epoch))

    return Problem(f"-{bound.upper()} of {model.p}", loss, model.q, given, particles, bound, epoch)


def own_estimators(model: LatentVariableModel, epoch: float = 0.0) -> Estimators:
    """A copy of those that a model is trained with, after so many epochs, with all that they have learned."""
    return estimators_at(copy.deepcopy(model.estimators), epoch) or Reparameterized()


def by_name(problem: Problem, name: str | EstimatorSettings) -> Estimators:
    """The estimator of that name for the latent variables of a problem, made as training would make it.

    Where some are discrete and others reparameterizable, it is for the discrete ones, as in training.

    Args:
        problem: has the number of particles.
        name: ``"reparameterized"`` or one of :data:`ancestral.configs.estimation.EstimatorName`, with the usual
            settings; or settings themselves, but for their particles.

    Raises:
        AncestralError: there is no such estimator, or it does not suit the objective.
    """
    if name == "reparameterized":
        return Reparameterized()
    settings = EstimatorSettings(estimator=name) if isinstance(name, str) else name  # type: ignore[arg-type]
    settings = dataclasses.replace(settings, particles=problem.particles)
    settings.check_estimator(problem.bound)
    trace = problem.latents()
    discrete = [drawn for drawn in trace.drawn if not trace.sites[drawn].distribution.has_rsample]
    order = list(trace.values)
    like = problem.parameters[0]
    made: dict[str, Estimator] = {}
    for variable in discrete or trace.drawn:
        before = problem.q.parents[variable] if isinstance(problem.q, Joint) else order[: order.index(variable)]
        parents = [tuple(trace.values[parent].shape[1:]) for parent in before]
        estimator = make_estimator(settings, parents, tuple(trace.sites[variable].distribution.event_shape))
        made[variable] = estimator.to(like.device, like.dtype) if isinstance(estimator, nn.Module) else estimator
    return estimators_at(made, problem.epoch) or made


@dataclass(frozen=True)
class Reference:
    """The gradient itself: exact, or the mean of many draws of an unbiased estimator."""

    draws: int
    """Of which it is the mean; 0 where it is exact, summed over all values of the latent variables."""
    estimators: str
    """Which estimators they are of."""
    particles: int
    """How many particles each."""
    first: Tensor
    """``[parameters]``."""
    second: Tensor
    """``[groups, parameters]``, drawn apart from the first; one group where it is exact."""

    @property
    def exact(self) -> bool:
        return not self.draws

    @property
    def gradient(self) -> Tensor:
        return self.first if self.exact else (self.first + self.second.mean(0)) / 2

    @property
    def standard_error(self) -> float:
        """Of the gradient, as the length of a vector; 0 where it is exact."""
        if self.exact:
            return 0.0
        return math.sqrt(self.second.var(0).sum().item() / len(self.second) / 2)

    def along(self, direction: Tensor) -> tuple[float, float]:
        """The second half along a unit vector, and its squared standard error."""
        values = self.second @ direction
        error = 0.0 if self.exact else values.var().item() / len(values)
        return values.mean().item(), error


@dataclass(frozen=True)
class Measured:
    """What was seen of one estimator."""

    name: str
    unbiased: bool
    """What the estimator promises."""
    bias: float
    """How far the mean lies off along the direction in which that of the first half of the draws does: the bias is at
    least so long, up to the standard error."""
    bias_error: float
    """Its standard error, rounding included."""
    variance: float
    """Of one gradient, summed over the parameters."""
    parameters: int
    seconds: float
    """Of one gradient: a tenth of the draws were as fast. What else the machine does can only slow the others."""
    along: list[float]
    """Each draw along the reference: that of a single parameter itself."""

    @property
    def biased(self) -> bool:
        return abs(self.bias) > BIASED * self.bias_error

    @property
    def cost(self) -> float:
        """Variance times seconds: of two unbiased estimators that with less needs less time for the same precision."""
        return self.variance * self.seconds


@dataclass(frozen=True)
class EstimatorComparison:
    """Estimators on one problem."""

    problem: Problem
    reference: Reference
    direction: Tensor
    """The unit vector of :attr:`Measured.along`."""
    measured: list[Measured]
    unfit: dict[str, str]
    """Estimators that can't be used there, and why."""
    own: str = ""
    """Which of them the model is trained with; empty where none is."""

    @property
    def target(self) -> float:
        """Where the draws of an unbiased estimator have their mean, along the reference."""
        return float(self.reference.gradient @ self.direction)


def compare_estimators(
    problem: Problem,
    estimators: Mapping[str, Callable[[], Estimators]],
    draws: int = 400,
    fit: int = 200,
    seed: int = 0,
    progress: Progress | None = None,
    own: str = "",
) -> EstimatorComparison:
    r"""Draw gradients of each estimator, and compare them with the gradient itself.

    The gradient g is that of the loss averaged over the batch. The bias is tested where it is likely to show: with d
    the unit vector from the reference to the mean of the first half of the draws, the second half says

    .. math:: \hat b = d^T (\bar g - ∇) ≤ |E[g] - ∇|  on average,

    with a standard error from the draws, which are independent of d.

    Args:
        problem: what is differentiated.
        estimators: functions that make them, by name.
        draws: gradients of each, 4 or more.
        fit: steps by which baselines and control variates that learn are fitted beforehand.
        seed: of the draws; the random stream outside is left as it was.
        progress: called with the estimator, the gradients drawn, and those in all.
        own: the name of the one that the model is trained with, to be marked.

    Raises:
        AncestralError: too few draws, or nothing to be learned in what is drawn.
    """
    if draws < 4:
        raise AncestralError(f"draws is {draws}, but a variance and its halves need at least 4.")
    if fit < 0:
        raise AncestralError(f"fit is {fit}, but it counts steps: give 0 or more.")
    if not problem.parameters:
        raise AncestralError(
            f"what draws the latent variables of {problem.name} has no parameters, so that there is no gradient to "
            "estimate. Give it a network, or learn its prior."
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        reference = _reference(problem, draws, progress or _silent)
        direction = _unit(reference.gradient)
        measured, unfit = [], {}
        for name, make in estimators.items():
            torch.manual_seed(seed)
            try:
                measured.append(_measure(name, problem, make(), reference, direction, draws, fit, progress or _silent))
            except AncestralError as error:
                unfit[name] = str(error)
    return EstimatorComparison(problem, reference, direction, measured, unfit, own)


def _measure(
    name: str,
    problem: Problem,
    estimators: Estimators,
    reference: Reference,
    direction: Tensor,
    draws: int,
    fit: int,
    progress: Progress,
) -> Measured:
    several = list(estimators.values()) if isinstance(estimators, Mapping) else [estimators]
    modules = [one for one in several if isinstance(one, nn.Module)]
    own = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    learns = any(module.state_dict() for module in modules)
    _require_room(problem, estimators)
    optimizer = torch.optim.Adam(own, FITTING_RATE) if own else None
    for i in range(fit if learns else 0):
        progress(f"fitting {name}", i, fit)
        loss = problem.loss(estimators, problem.particles).mean()
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward(inputs=own)  # type: ignore[no-untyped-call]
            optimizer.step()
    half = draws // 2
    total, mean = reference.gradient.new_zeros(()), torch.zeros_like(reference.gradient)
    along, across, seconds = [], [], []
    away = direction
    for i in range(draws):
        progress(name, i, draws)
        if i == half:
            away = _unit(mean - reference.first)
        started = time.perf_counter()
        gradient = _gradient(problem, estimators, problem.particles, own)
        if gradient.is_cuda:  # or only the calls would be timed
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
        step = gradient - mean
        mean = mean + step / (i + 1)
        total = total + step @ (gradient - mean)
        along.append(gradient @ direction)
        if i >= half:
            across.append(gradient @ away)
    off = torch.stack(across)
    there, error = reference.along(away)
    rounding = ROUNDING * torch.finfo(mean.dtype).eps * float(mean.norm())
    return Measured(
        name,
        unbiased=all(getattr(one, "unbiased", False) for one in several),
        bias=off.mean().item() - there,
        bias_error=math.sqrt(off.var().item() / len(off) + error + rounding**2),
        variance=total.item() / (draws - 1),
        parameters=len(direction),
        seconds=sorted(seconds)[len(seconds) // 10],
        along=torch.stack(along).tolist(),
    )


def _require_room(problem: Problem, estimators: Estimators) -> None:
    """Raise where the particles do not fit into the memory.

    Raises:
        AncestralError: it says how much they would take.
    """
    few = min(2, problem.particles)
    with torch.random.fork_rng():
        each = bytes_made(lambda: _gradient(problem, copy.deepcopy(estimators), few)) / few
    wanted, room = each * problem.particles, free_memory(problem.parameters[0].device)
    if wanted > room:
        raise AncestralError(
            f"particles is {problem.particles:,}, of which one gradient takes about {wanted / 1e9:.3g} GB, and "
            f"{room / 1e9:.3g} are free. Take fewer."
        )


def _gradient(
    problem: Problem, estimators: Estimators, particles: int, own: list[nn.Parameter] | None = None
) -> Tensor:
    """One gradient, ``[parameters]``; that of the estimator's own parameters is computed too, as in training."""
    parameters = problem.parameters
    found = torch.autograd.grad(
        problem.loss(estimators, particles).mean(), [*parameters, *(own or [])], allow_unused=True
    )
    return torch.cat(
        [
            (torch.zeros_like(parameter) if gradient is None else gradient).flatten()
            for parameter, gradient in zip(parameters, found, strict=False)
        ]
    )


def _unit(vector: Tensor) -> Tensor:
    """The vector with length 1; 1 where there is one parameter, and where there is no direction, the first of all."""
    length = vector.norm()
    unit: Tensor = vector / length
    if len(vector) == 1 or length == 0:
        unit = torch.eye(1, len(vector), dtype=vector.dtype, device=vector.device)[0]
    return unit


def _reference(problem: Problem, draws: int, progress: Progress) -> Reference:
    """Summed over all values where there are few, else drawn: with as many of the variables summed over as can be."""
    trace = problem.latents()
    whole = {name: Enumerate(ENUMERATED) for name in trace.drawn}
    exact = _if_valid(problem, whole, 1) if problem.bound == "elbo" else None
    if exact is not None:
        return Reference(0, "Enumerate", 1, exact, exact[None])
    particles = max(problem.particles, REFERENCE_PARTICLES) if problem.bound == "elbo" else problem.particles
    continuous = [name for name in trace.drawn if trace.sites[name].distribution.has_rsample]
    through: dict[str, Estimator] = {name: Reparameterized() for name in continuous}
    chosen: dict[str, Estimator] = {**whole, **through}
    if problem.bound == "iwae" or _if_valid(problem, chosen, particles) is None:
        ratio = LikelihoodRatio() if particles > 1 else LikelihoodRatio(baseline=None)
        chosen = dict.fromkeys(trace.drawn, ratio) | through
    count = REFERENCE_DRAWS * draws // (2 * GROUPS) + 1
    groups = []
    for group in range(2 * GROUPS):
        mean = torch.zeros((), device=problem.parameters[0].device)
        for i in range(count):
            progress("the gradient itself", group * count + i, 2 * GROUPS * count)
            mean = mean + _gradient(problem, chosen, particles) / count
        groups.append(mean)
    names = " and ".join(dict.fromkeys(type(estimator).__name__ for estimator in chosen.values()))
    first, second = torch.stack(groups[:GROUPS]), torch.stack(groups[GROUPS:])
    return Reference(2 * GROUPS * count, names, particles, first.mean(0), second)


def _if_valid(problem: Problem, estimators: Estimators, particles: int) -> Tensor | None:
    """One gradient, or None where an estimator does not suit its variable."""
    try:
        return _gradient(problem, estimators, particles)
    except EstimatorError:
        return None


def _silent(work: str, done: int, total: int) -> None:
    """For nobody."""

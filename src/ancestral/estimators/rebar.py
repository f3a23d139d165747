"""REBAR and RELAX: the cost of a relaxed variable as control variate, tuned to lower the variance."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ancestral.core import Cost, Reduction, Site, Trace
from ancestral.distributions.support import Kind, kind_of
from ancestral.errors import EstimatorError
from ancestral.estimators.checks import flag, module, number, positive, require_kind
from ancestral.estimators.gumbel_softmax import GumbelSoftmax
from ancestral.estimators.own_parameters import minimized
from ancestral.estimators.relaxation import discrete_logits, perturbed_given, relaxed, squash


class REBAR(nn.Module):
    r"""The likelihood ratio with the cost of a relaxed variable as control variate. Unbiased.

    .. math::
        ∇_l E[f(z)] = E[(f(z) - c(\tilde z)) ∇_l \log q(z) + ∇_l c(\bar z) - ∇_l c(\tilde z)],  c(z) = η f(z)

    z̄ is the relaxation of the noise that z came from, z̃ that of noise given z; both at the temperature τ. The two share
    their noise, so they are one point, and the cost is computed once more; they differ as functions of the logits l.
    What is downstream is relaxed with it: c is the cost of a relaxed network. η and τ are learned to lower the
    variance of the gradient with respect to the logits, of which the square of this one draw is an unbiased estimate
    (up to a constant).

    Args:
        temperature: τ, at the start if it is learned.
        scale: η, likewise.
        learned: learn both.

    Raises:
        EstimatorError: the variable, or one downstream, is neither Bernoulli nor one-hot (nor reparameterized); the
            objective is the importance-weighted bound; a temperature is not positive.

    Source: Tucker, Mnih, Maddison, Lawson and Sohl-Dickstein (2017), eq. 7 and 8 and section 3.2.
    """

    kinds: tuple[Kind, ...] = ("binary", "one-hot")
    reductions: tuple[Reduction, ...] = ("mean",)
    unbiased = True

    def __init__(self, temperature: float = 0.5, scale: float = 1.0, *, learned: bool = True) -> None:
        super().__init__()
        start = math.log(positive("the temperature", temperature))
        self.log_temperature = nn.Parameter(torch.tensor(start), requires_grad=flag("learned", learned))
        self.scale = nn.Parameter(torch.tensor(number("the scale", scale)), requires_grad=learned)

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        require_kind(self, name, distribution)
        with torch.no_grad():
            return distribution.sample(torch.Size(trace.missing_shape(distribution)))

    def control(self, value: Tensor, cost: Cost) -> Tensor:
        """c at a relaxed value, ``(*particles, batch)``."""
        following = GumbelSoftmax("learned")
        following.log_temperature = self.log_temperature
        return self.scale * cost.at(value, following)

    def term(self, site: Site, cost: Cost) -> Tensor | None:
        distribution, value = site.distribution, site.value
        event = tuple(range(-len(distribution.event_shape), 0))
        owned = [parameter for parameter in self.parameters() if parameter.requires_grad]
        given_logits = discrete_logits(distribution).expand_as(value)
        logits = given_logits.detach().requires_grad_()
        log_mass = logits if kind_of(distribution) == "binary" else logits.log_softmax(-1)
        # the noise that the value came from and the noise drawn given the value are one, so both relaxations are the
        # same point; they are different functions of the logits
        given = perturbed_given(value, log_mass, distribution)
        free = given.detach() + (log_mass - log_mass.detach())
        point = given.detach().requires_grad_()
        control = self.control(relaxed(point, distribution, self.log_temperature.exp()), cost)
        slope: Tensor | None = None
        if control.requires_grad:
            (slope,) = torch.autograd.grad(control.sum(), point, create_graph=bool(owned), allow_unused=True)
        if slope is None:
            raise EstimatorError(
                f"the cost has no slope in {site.name!r}, but {type(self).__name__} needs one: a step has none, nor "
                f'has a cost that does not read the variable. Use estimators={{"{site.name}": LikelihoodRatio()}}.'
            )
        (path,) = torch.autograd.grad((slope * (free - given)).sum(), logits, create_graph=bool(owned))
        left = (cost.particles - control).reshape(*control.shape, *[1] * len(event))
        gradient = left * (value - squash(logits.detach(), distribution)) + path
        term = gradient.detach() * given_logits
        square = gradient.square()
        if event:
            term, square = term.sum(event), square.sum(event)
        if not owned:
            return term
        slopes = torch.autograd.grad(square.mean(), owned, allow_unused=True)
        loss = [(own * slope).sum() for own, slope in zip(owned, slopes, strict=True) if slope is not None]
        return term + minimized(sum(loss[1:], loss[0]))


class RELAX(REBAR):
    r"""REBAR with a free function besides: a network that is learned to lower the variance. Unbiased.

    .. math:: c(z) = η f(z) + r_ρ(z)

    Args:
        network: r, from the (relaxed) value of the variable to ``[…, 1]``. Each variable needs one of its own.
        temperature: τ, at the start.
        scale: η, at the start; 0 leaves the network alone until η is learned.

    Raises:
        EstimatorError: as :class:`REBAR`, or the network's last dimension is not 1.

    Source: Grathwohl, Choi, Wu, Roeder and Duvenaud (2018), eq. 6 and section 3.
    """

    def __init__(self, network: nn.Module, temperature: float = 0.5, scale: float = 1.0) -> None:
        super().__init__(temperature, scale)
        self.network = module("the network of RELAX", network)

    def control(self, value: Tensor, cost: Cost) -> Tensor:
        output: Tensor = self.network(value)
        if output.shape[-1:] != (1,):
            raise EstimatorError(
                f"the network of RELAX gives shape {tuple(output.shape)}, but a control variate is one number for each "
                "datapoint: make its last dimension 1."
            )
        return super().control(value, cost) + output.squeeze(-1)

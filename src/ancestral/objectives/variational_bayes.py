"""Full variational Bayes: a posterior over the weights, of which there is one for all data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.func import functional_call

from ancestral.core import Trace
from ancestral.distributions.heads import event
from ancestral.errors import AncestralError, GraphError, ShapeError, nearest
from ancestral.estimators import Reparameterized
from ancestral.objectives.elbo import score
from ancestral.objectives.expectation import particles_of
from ancestral.objectives.maximum_a_posteriori import check_rows

Weights = Mapping[str, Tensor]


def variational_bayes(
    log_likelihood: Callable[[Weights], Tensor],
    p: Callable[[Trace], Any],
    q: Callable[[Trace], Any],
    rows: int,
    particles: int = 1,
) -> Tensor:
    r"""The share of each datapoint in the evidence lower bound of log p(x_1, …, x_N), in nats.

    .. math:: E_{q(w)}\left[\log p(x_i | w) + \frac1N (\log p(w) - \log q(w))\right]

    The weights have no batch dimension: a draw of them is one for the whole minibatch. N times the mean over a
    minibatch is an unbiased estimate of the bound over all data, which is log p(x_1, …, x_N) where q is the exact
    posterior.

    Args:
        log_likelihood: from one draw of the weights, by name, to log p(x_i | w) of a minibatch, ``[batch]``, for
            example ``lambda w: log_likelihood(with_weights(network, w), {"x": x, "y": y})``; or to the ELBO of a model
            that has latent variables besides.
        p: the prior p(w), for example ``Joint({"w": prior})`` or :class:`NormalWeights`.
        q: the approximate posterior q(w), which draws what p does, and is reparameterized.
        rows: N, the number of datapoints in the whole set.
        particles: draws of the weights.

    Returns:
        ``[batch]``, differentiable in the parameters of p and q and of ``log_likelihood``.

    Raises:
        AncestralError: ``rows`` is less than the minibatch has, or ``particles`` is below 1.
        EstimatorError: a weight can't be reparameterized.
        GraphError: p and q have not the same variables.
        ShapeError: ``log_likelihood`` does not return one value per datapoint.

    Source: Kingma and Welling (2014), appendix F.
    """
    trace = Trace((particles_of(particles),), default=Reparameterized())
    q(trace)
    log_ratio = score(p, q, trace).log_prob(trace.drawn) - trace.log_prob(trace.drawn)
    drawn = {name: trace.sites[name].value for name in trace.drawn}
    likelihoods = [log_likelihood({name: value[k] for name, value in drawn.items()}) for k in range(particles)]
    shapes = {tuple(one.shape) for one in likelihoods}
    if len(shapes) > 1 or len(likelihoods[0].shape) != 1:
        raise ShapeError(
            f"log_likelihood returned shape {' and '.join(map(str, shapes))}, but it gives one value per datapoint, "
            "[batch]: sum over the features, never over the batch."
        )
    check_rows(rows, len(likelihoods[0]))
    return torch.stack(likelihoods).mean(0) + log_ratio.mean(0) / rows


def with_weights(module: nn.Module, weights: Weights) -> Callable[..., Any]:
    """The module with these values in place of its parameters of the same names; the others are its own.

    Raises:
        GraphError: the module has no parameter of a name.
    """
    parameters = dict(module.named_parameters())
    for name in weights:
        if name not in parameters:
            raise GraphError(
                f"a value is given for {name!r}, which is no parameter of the module. " + nearest(name, parameters)
            )
    return lambda *inputs: functional_call(module, dict(weights), inputs)


class NormalWeights(nn.Module):
    r"""Independent normal distributions of all the parameters of a module: a prior, or a posterior that is learned.

    .. math:: p(w) = ∏ N(w_i; 0, s^2)  \qquad  q(w) = ∏ N(w_i; μ_i, σ_i^2)

    Its variables have the names of ``module.named_parameters()``.

    Args:
        module: whose parameters they are; it is not kept.
        scale: s, the standard deviation, or where σ starts.
        learned: μ and log σ are parameters, and μ starts at the values that the module has.

    Raises:
        AncestralError: the module has no parameters, or the scale is not positive.

    Source: Kingma and Welling (2014), appendix F.
    """

    def __init__(self, module: nn.Module, scale: float = 1.0, learned: bool = False) -> None:
        super().__init__()
        found = dict(module.named_parameters())
        if not found:
            raise AncestralError("the module has no parameters to have a distribution over.")
        if not (math.isfinite(scale) and scale > 0):
            raise AncestralError(f"scale is {scale!r}, but a standard deviation is a positive number.")
        self.names = list(found)
        start = [value.detach().clone() if learned else torch.zeros_like(value) for value in found.values()]
        self.means = nn.ParameterList([nn.Parameter(mean, requires_grad=learned) for mean in start])
        self.log_scales = nn.ParameterList(
            [nn.Parameter(torch.full_like(mean, math.log(scale)), requires_grad=learned) for mean in start]
        )

    def forward(self, trace: Trace) -> None:
        for name, mean, log_scale in zip(self.names, self.means, self.log_scales, strict=True):
            trace.sample(name, event(Normal(mean, log_scale.exp(), validate_args=False), mean.dim()))

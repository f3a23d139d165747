"""Gradients of a bound that follow the path of reparameterized draws alone: at the exact posterior they vanish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ancestral.core import Trace
from ancestral.distributions import FlowedNormal
from ancestral.errors import AncestralError, EstimatorError, nearest
from ancestral.estimators import Reparameterized

Gradient = Literal["total", "sticking-the-landing", "doubly-reparameterized"]
r"""How the gradient of a bound passes reparameterized latent variables z = g(ε, φ) to the parameters φ of q.

``"total"`` is that of the value, by the path and by the score:

.. math:: \sum_k ŵ_k \left(\frac{∂ \log w_k}{∂ z_k} \frac{∂ z_k}{∂ φ} - \frac{∂ \log q_φ(z_k | x)}{∂ φ}\right),
          w_k = \frac{p(x, z_k)}{q_φ(z_k | x)},  ŵ_k = \frac{w_k}{\sum_j w_j}

(with ŵ_k = 1/K for the ELBO). ``"sticking-the-landing"`` leaves out the score, whose mean is 0 under the ELBO, but not
under the importance-weighted bound of several particles: there it is biased. ``"doubly-reparameterized"`` turns the
score into a second path, which is unbiased under both; for the ELBO they are one. (The mean of a score is 0 where
the support of q does not depend on φ: not for a uniform variable.)

.. math:: \sum_k ŵ_k \frac{∂ \log w_k}{∂ z_k} \frac{∂ z_k}{∂ φ},  and
          \sum_k ŵ_k^2 \frac{∂ \log w_k}{∂ z_k} \frac{∂ z_k}{∂ φ}

Where q is the exact posterior, w does not depend on z, and both are 0 for every draw. The doubly reparameterized
gradient of several particles takes :math:`w_k` for a function of :math:`z_k` alone: with batch normalization between
latent variables, through which one particle changes another, it is biased.

Source: Roeder, Wu and Duvenaud (2017), eq. 8; Tucker, Lawson, Gu and Maddison (2019), eq. 8.
"""


def check_gradient(gradient: Gradient, p: Callable[[Trace], Any], q: Callable[[Trace], Any], trace: Trace) -> None:
    """Raise unless there is such a gradient, and it applies to what q has drawn.

    Raises:
        AncestralError: there is no such gradient, or p is q.
        EstimatorError: a latent variable is not reparameterized, or its density is known at its draws alone.
    """
    if gradient not in get_args(Gradient):
        raise AncestralError(f"there is no gradient {gradient!r}. " + nearest(str(gradient), get_args(Gradient)))
    if gradient == "total":
        return
    if p is q:
        raise AncestralError(
            f"gradient={gradient!r} is about the density of q, which has no part in a bound where p is q: leave it out."
        )
    for name in trace.drawn:
        estimator = trace.sites[name].estimator
        if not isinstance(estimator, Reparameterized):
            raise EstimatorError(
                f"gradient={gradient!r} follows the path of reparameterized draws, but {name!r} is drawn by "
                f"{type(estimator).__name__}: leave the gradient out, or draw every latent variable by "
                "Reparameterized()."
            )
        if isinstance(trace.sites[name].distribution, FlowedNormal):
            raise EstimatorError(
                f"gradient={gradient!r} takes the slope of log q in its value, but the density of {name!r}, a flow "
                "without a cheap inverse, is no function of it: leave the gradient out, or use a normal posterior."
            )


def along_the_path(log_q: Tensor, trace: Trace) -> Tensor:
    """log q(z | x) as a function of the values alone: its gradient reaches q's parameters by the draws only.

    Args:
        log_q: at the values of the trace, ``(particles, batch)``.
        trace: of q, whose draws are reparameterized.
    """
    values = _live(trace)
    return log_q.detach() + _followed(slopes(log_q, values), values, trace)


def doubly_reparameterized(log_weight: Tensor, trace: Trace) -> Tensor:
    r"""log w, whose gradient by the path of the draws is :math:`ŵ_k` times what it was; that in p's parameters stays.

    Args:
        log_weight: log p(x, z) - log q(z | x), the second :func:`along_the_path`, ``(particles, batch)``.
        trace: of q, whose draws are reparameterized.
    """
    values = _live(trace)
    change = log_weight.detach().softmax(0) - 1
    return log_weight + change * _followed(slopes(log_weight, values), values, trace)


def slopes(output: Tensor, values: Sequence[Tensor]) -> list[Tensor]:
    r"""∂ output / ∂ value for each of the values, the others held, although later ones are drawn from earlier ones.

    .. math:: \frac{d f}{d z_i} = \sum_{j ≥ i} \frac{∂ f}{∂ z_j} \frac{d z_j}{d z_i},  solved from the last z_j on

    Args:
        output: one number for each particle and datapoint, a function of the values and of parameters.
        values: in the order in which they were drawn, with their graph.

    Returns:
        Of the shapes of the values, without gradient.
    """
    total = output.sum()
    found: list[Tensor] = []
    for i in reversed(range(len(values))):
        (slope,) = torch.autograd.grad(
            [total, *values[i + 1 :]],
            values[i],
            [torch.ones_like(total), *(-later for later in found)],
            retain_graph=True,
            allow_unused=True,
        )
        found.insert(0, torch.zeros_like(values[i]) if slope is None else slope)
    return found


def _live(trace: Trace) -> list[Tensor]:
    """The values that carry a gradient, in the order in which they were drawn."""
    return [trace.sites[name].value for name in trace.drawn if trace.sites[name].value.requires_grad]


def _followed(slopes: Sequence[Tensor], values: Sequence[Tensor], trace: Trace) -> Tensor:
    """Zeros ``(particles, batch)``, whose gradient is that of the values times the slopes."""
    products = [slope * (value - value.detach()) for slope, value in zip(slopes, values, strict=True)]
    parts = [product.reshape(*trace.shape, -1).sum(-1) for product in products]
    return sum(parts[1:], parts[0]) if parts else torch.zeros(())

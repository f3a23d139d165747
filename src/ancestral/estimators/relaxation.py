r"""Discrete variables as functions of noise, and what becomes of them at a temperature.

A Bernoulli variable is 1 where its logit plus logistic noise is above 0; a one-hot vector is 1 where its
log-probability plus Gumbel noise is largest. The *perturbed* logits are these sums; at a temperature τ a sigmoid or
softmax of them divided by τ takes the place of the step.

Source: Maddison, Mnih and Teh (2017), sections 2 and 3; Jang, Gu and Poole (2017), section 2; for the noise given the
outcome, Tucker et al. (2017), appendix.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution

from ancestral.distributions.support import base_of, kind_of


def discrete_logits(distribution: Distribution) -> Tensor:
    """The logits of a Bernoulli variable, or the log-probabilities of a one-hot one, ``[*batch, *event]``.

    That of a class of probability 0 is finite, but so low that the class stays without any: 0 · ∞ is not a number.
    """
    base, _ = base_of(distribution)
    logits: Tensor = base.logits  # type: ignore[attr-defined]
    return logits if kind_of(distribution) == "binary" else logits.clamp_min(_lowest(logits))


def possible(logits: Tensor) -> Tensor:
    """1 for each class that a one-hot vector of these :func:`discrete_logits` can take, 0 for one of logit -inf."""
    return (logits > _lowest(logits)).to(logits.dtype)


def _lowest(logits: Tensor) -> float:
    """Neither its square nor its quotient by a temperature overflows."""
    return -math.sqrt(torch.finfo(logits.dtype).max) / 2


def means(distribution: Distribution, slope: float = 1.0) -> Tensor:
    """The mean with the logits multiplied by ``slope``."""
    return squash(slope * discrete_logits(distribution), distribution)


def squash(logits: Tensor, distribution: Distribution) -> Tensor:
    """Sigmoid or softmax, by the kind of the variable."""
    return torch.sigmoid(logits) if kind_of(distribution) == "binary" else torch.softmax(logits, -1)


def perturbed(logits: Tensor, distribution: Distribution) -> Tensor:
    """Logits plus noise, of the shape of the logits."""
    return logits + (_logistic(logits) if kind_of(distribution) == "binary" else _gumbel(logits))


def perturbed_given(value: Tensor, logits: Tensor, distribution: Distribution) -> Tensor:
    r"""Logits plus noise, given what came of it, differentiable in the logits.

    .. math::
        ±[\log(1 + v e^{±l}) - \log(1 - v)],  + for z = 1;
        -\log(-\log v_k) for the class k that was drawn, -\log(-\log v_i / p_i - \log v_k) for the others

    with v uniform. The logits have the shape of the value; those of one-hot vectors are log-probabilities.
    """
    if kind_of(distribution) == "binary":
        sign = 2 * value - 1
        v = _uniform(logits)
        return sign * (F.softplus(sign * logits + v.log()) - torch.log1p(-v))
    exponential = -_uniform(logits).log()
    drawn = (value * exponential).sum(-1, keepdim=True)
    # -log p_i + log(e_i + p_i e_k): nothing is divided by a probability that may be 0
    others = logits - torch.log(exponential + logits.exp() * drawn)
    return torch.where(value > 0, -drawn.log(), others)


def relaxed(perturbed_logits: Tensor, distribution: Distribution, temperature: Tensor | float) -> Tensor:
    """The relaxed value: hard at temperature 0, all the same at infinity."""
    return squash(perturbed_logits / temperature, distribution)


def hard(perturbed_logits: Tensor, distribution: Distribution) -> Tensor:
    """The value itself, without gradient."""
    if kind_of(distribution) == "binary":
        return (perturbed_logits > 0).to(perturbed_logits.dtype)
    return F.one_hot(perturbed_logits.argmax(-1), perturbed_logits.shape[-1]).to(perturbed_logits.dtype)


def _uniform(like: Tensor) -> Tensor:
    """In the open interval: its logarithm, and that of 1 minus it, are finite."""
    tiny = torch.finfo(like.dtype).eps / 2
    return torch.rand_like(like).clamp(tiny, 1 - tiny)


def _logistic(like: Tensor) -> Tensor:
    u = _uniform(like)
    return u.log() - torch.log1p(-u)


def _gumbel(like: Tensor) -> Tensor:
    return -(-_uniform(like).log()).log()

"""Log-masses as functions of vectors between the corners, which relaxations and Taylor expansions pass through."""

from __future__ import annotations

import torch
from torch.distributions import Distribution, Independent

from ancestral.distributions.bernoulli import Bernoulli
from ancestral.distributions.one_hot import OneHot


def extended(distribution: Distribution) -> Distribution:
    """The same distribution, whose log-mass is differentiable in the value.

    torch's own Bernoulli and one-hot variables refuse what is no corner; without validation, the one-hot one looks up
    the largest entry, which has no gradient.
    """
    if type(distribution) is Independent:
        base = extended(distribution.base_dist)
        if base is distribution.base_dist:
            return distribution
        return Independent(base, distribution.reinterpreted_batch_ndims, validate_args=False)
    if isinstance(distribution, torch.distributions.OneHotCategorical) and not isinstance(distribution, OneHot):
        return OneHot(distribution.logits)
    if type(distribution) is torch.distributions.Bernoulli:
        return Bernoulli(distribution.logits)
    return distribution

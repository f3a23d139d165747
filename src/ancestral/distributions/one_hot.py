"""Class labels as one-hot vectors, whose log-mass is a linear function of the vector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import OneHotCategorical


class OneHot(OneHotCategorical):
    r"""p(z) = softmax(l)_k for the one-hot vector z of class k.

    .. math:: \log p(z) = \sum_k z_k \log softmax(l)_k

    torch's looks up the largest entry, which has no gradient with respect to z; this one extends to vectors between the
    corners, as relaxations and Taylor expansions need it (the logarithm of a Bernoulli mass does so by itself).
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits=logits, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> OneHot:
        return OneHot(self.logits.expand(*batch_shape, *self.event_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) in nats, of the batch shape (broadcast with that of the value)."""
        # a class of mass 0 that was not drawn has log-mass -inf, but no part in the sum
        log_mass = torch.where(value == 0, 0.0, self.logits) if not value.requires_grad else self.logits
        return (value * log_mass).sum(-1)

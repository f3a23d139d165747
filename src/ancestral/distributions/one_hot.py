"""Class labels as one-hot vectors, whose log-mass is a linear function of the vector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import OneHotCategorical, register_kl


class OneHot(OneHotCategorical):
    r"""p(z) = softmax(l)_k for the one-hot vector z of class k.

    .. math:: \log p(z) = \sum_k z_k \log softmax(l)_k

    torch's looks up the largest entry, which has no gradient with respect to z; this one extends to vectors between the
    corners, as relaxations and Taylor expansions need it (the logarithm of a Bernoulli mass does so by itself). A class
    of logit -inf, thus of mass 0, has no part in a vector that leaves it out, nor in its slope.
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits=logits, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> OneHot:
        return OneHot(self.logits.expand(*batch_shape, *self.event_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) in nats, of the batch shape (broadcast with that of the value)."""
        absent = (value == 0) & self.logits.isneginf()
        return (value * torch.where(absent, 0.0, self.logits)).sum(-1)


@register_kl(OneHot, OneHot)  # type: ignore[no-untyped-call, untyped-decorator]
def _divergence(q: OneHot, p: OneHot) -> Tensor:
    """Differentiable beside classes of mass 0, where torch's has the gradient 0 · ∞."""
    return (q.probs * torch.where(q.probs == 0, 0.0, q.logits - p.logits)).sum(-1)

"""Adversarial losses from the discriminator's logits: an implicit model has samples, but no density."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from ancestral.errors import AncestralError, nearest

GeneratorLoss = Literal["non-saturating", "minimax"]


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    r"""The discriminator's loss, in nats, one value per pair of a real and a generated datapoint.

    .. math:: -\log D(x) - \log(1 - D(G(z))) = softplus(-l(x)) + softplus(l(G(z)))

    Args:
        real: logits l of real data, ``[batch]``; D = σ(l).
        fake: logits of generated data, ``[batch]``.

    Source: Goodfellow et al. (2014), eq. 1.
    """
    return F.softplus(-real) + F.softplus(fake)


def generator_loss(fake: Tensor, kind: GeneratorLoss = "non-saturating") -> Tensor:
    r"""The generator's loss, in nats, ``[batch]``.

    .. math:: \log(1 - D(G(z))) = -softplus(l)  (minimax),  -\log D(G(z)) = softplus(-l)  (non-saturating)

    Source: Goodfellow et al. (2014), eq. 1 and section 3.
    """
    if kind == "minimax":
        return -F.softplus(fake)
    if kind == "non-saturating":
        return F.softplus(-fake)
    raise AncestralError(f"there is no generator loss {kind!r}. " + nearest(kind, ("minimax", "non-saturating")))

"""DARN's estimator and the 1/2 estimator: a Taylor expansion of the cost at what was drawn."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from ancestral.core import Cost, Site, Trace
from ancestral.distributions.support import Kind, kind_of
from ancestral.estimators.checks import REDUCTIONS, require_kind
from ancestral.estimators.relaxation import discrete_logits, possible


class DARN:
    r"""The likelihood ratio with a first-order Taylor expansion as baseline, whose own mean is left out. Biased.

    .. math:: b(z) = f(z) + f'(z)^T (\bar z - z)  ⇒  ∇_φ E_q[f(z)] ≈ f'(z)^T (z - \bar z) ∇_φ \log q(z)

    with z̄ = 1/2 for a Bernoulli variable, 1/n in each of n classes (one of logit -inf is none). Of a Bernoulli variable
    its mean is the average of the slopes at 0 and 1: unbiased where the cost is quadratic in each variable, biased
    beyond.

    Raises:
        EstimatorError: the variable is neither Bernoulli nor one-hot.

    Source: Gregor, Danihelka, Mnih, Blundell and Wierstra (2014), section 3; Jang, Gu and Poole (2017), section 3.2.
    """

    kinds: tuple[Kind, ...] = ("binary", "one-hot")
    reductions = REDUCTIONS
    unbiased = False

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        require_kind(self, name, distribution)
        logits = discrete_logits(distribution)
        with torch.no_grad():
            value = distribution.sample(torch.Size(trace.missing_shape(distribution)))
        if kind_of(distribution) == "binary":
            score = (value - torch.sigmoid(logits.detach())) * logits
            center: Tensor | float = 0.5
        else:
            score = (value * logits).sum(-1, keepdim=True)
            center = self.center(possible(logits))
        # exactly zero in value; its gradient multiplies that of the cost with respect to z
        return value + (value - center) * (score - score.detach())

    def center(self, possible: Tensor) -> Tensor:
        """z̄ of a one-hot vector, from the classes that it can take."""
        return possible / possible.sum(-1, keepdim=True)

    def term(self, site: Site, cost: Cost) -> Tensor | None:
        return None


class Half(DARN):
    r"""The 1/2 estimator: :class:`DARN`'s with z̄ = 1/2 in every component. Biased.

    .. math:: ∇_φ E_q[f(z)] ≈ f'(z)^T (z - 1/2) ∇_φ \log q(z)

    On Bernoulli variables the two are the same.

    Source: Gu, Levine, Sutskever and Mnih (2016), section 2.
    """

    def center(self, possible: Tensor) -> Tensor:
        return 0.5 * possible

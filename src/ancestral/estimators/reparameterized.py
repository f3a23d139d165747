"""The reparameterisation estimator: the value is a differentiable function of parameters and noise."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from ancestral.core import Cost, Site, Trace
from ancestral.distributions.support import Kind, base_of, kind_of
from ancestral.errors import EstimatorError
from ancestral.estimators.checks import CURES, REDUCTIONS


class Reparameterized:
    """z = g(ε, φ) with ε free of φ, so the gradient passes through the value itself. Unbiased.

    .. math:: ∇_φ E_q[f(z)] = E_ε[∇_φ f(g(ε, φ))]

    Valid for variables with ``rsample``: normal, logistic, flows and others.

    Raises:
        EstimatorError: the variable can't be reparameterised; nothing is ever detached silently.

    Source: Kingma and Welling (2014), section 2.4; Rezende, Mohamed and Wierstra (2014), section 3.
    """

    kinds: tuple[Kind, ...] = ("reparameterizable",)
    reductions = REDUCTIONS
    unbiased = True

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        if kind_of(distribution) != "reparameterizable":  # a one-hot variable of torch has an rsample that is biased
            base, _ = base_of(distribution)
            raise EstimatorError(
                f"{name!r} is a {type(base).__name__}, which can't be reparameterized, so its gradient would "
                f'be lost. Choose another estimator: estimators={{"{name}": ...}} with {CURES[kind_of(distribution)]}; '
                "Enumerate() sums over few values."
            )
        value: Tensor = distribution.rsample(torch.Size(trace.missing_shape(distribution)))
        return value

    def term(self, site: Site, cost: Cost) -> Tensor | None:
        return None

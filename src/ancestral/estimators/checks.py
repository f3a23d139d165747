"""What an estimator promises, and which variables and objectives it is made for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from torch.distributions import Distribution

from ancestral.core import Estimator, Reduction
from ancestral.distributions.support import Kind, base_of, kind_of
from ancestral.errors import EstimatorError


class Contract(Protocol):
    """The promise of an estimator, from which its errors and the table of :mod:`ancestral.estimators.validity` follow.

    An estimator without these attributes is believed to be valid wherever it is used.
    """

    @property
    def kinds(self) -> Collection[Kind]:
        """The variables that it is made for."""
        ...

    @property
    def reductions(self) -> Collection[Reduction]:
        """``"mean"`` is a plain expectation such as the ELBO, ``"log-mean-exp"`` the importance-weighted bound."""
        ...

    @property
    def unbiased(self) -> bool:
        """Whether the mean of the gradient is the gradient of the mean."""
        ...


KINDS: tuple[Kind, ...] = ("binary", "one-hot", "index", "reparameterizable", "other")
REDUCTIONS: tuple[Reduction, ...] = ("mean", "log-mean-exp")
WORDS: dict[Kind, str] = {
    "binary": "Bernoulli variables",
    "one-hot": "one-hot vectors",
    "index": "class indices",
    "reparameterizable": "variables that are a differentiable function of noise",
    "other": "other variables",
}
CURES: dict[Kind, str] = {
    "binary": "LikelihoodRatio() or GumbelSoftmax()",
    "one-hot": "LikelihoodRatio() or GumbelSoftmax()",
    "index": "LikelihoodRatio(), or make it a one-hot vector, one_hot(network)",
    "reparameterizable": "Reparameterized()",
    "other": "LikelihoodRatio()",
}
"""Estimators that are valid under every objective."""


def require_kind(estimator: Contract, name: str, distribution: Distribution) -> None:
    """Raise unless the variable is of one of the kinds that the estimator is made for.

    Raises:
        EstimatorError: it names the variable, its distribution, and estimators that would do.
    """
    kind = kind_of(distribution)
    if kind not in estimator.kinds:
        base, _ = base_of(distribution)
        wanted = " and ".join(WORDS[one] for one in estimator.kinds)
        raise EstimatorError(
            f"{name!r} is a {type(base).__name__}, but {type(estimator).__name__} is for {wanted}. "
            f'Choose another estimator: estimators={{"{name}": ...}} with {CURES[kind]}.'
        )


def require_reduction(estimator: Estimator, name: str, distribution: Distribution, reduction: Reduction) -> None:
    """Raise under the importance-weighted bound, for an estimator of plain expectations.

    Raises:
        EstimatorError: it names the variable, and estimators that would do.
    """
    if reduction not in getattr(estimator, "reductions", REDUCTIONS):
        raise EstimatorError(
            f"{type(estimator).__name__}, the estimator of {name!r}, is for a plain expectation such as elbo, not for "
            f'the importance-weighted bound. Choose another: estimators={{"{name}": ...}} with '
            f"{CURES[kind_of(distribution)]}; LikelihoodRatio() is VIMCO there."
        )

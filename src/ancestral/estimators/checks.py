"""Which variables an estimator is made for, said before anything is drawn."""

from __future__ import annotations

from collections.abc import Collection

from torch.distributions import Distribution

from ancestral.core import Cost, Site
from ancestral.distributions.support import Kind, base_of, kind_of
from ancestral.errors import EstimatorError

WORDS: dict[Kind, str] = {
    "binary": "Bernoulli variables",
    "one-hot": "one-hot vectors",
    "index": "class indices",
    "reparameterizable": "variables that are a differentiable function of noise",
    "other": "other variables",
}
CURES: dict[Kind, str] = {
    "binary": "LikelihoodRatio(), MuProp() or GumbelSoftmax()",
    "one-hot": "LikelihoodRatio(), MuProp() or GumbelSoftmax()",
    "index": "LikelihoodRatio(), or make it a one-hot vector, one_hot(network)",
    "reparameterizable": "Reparameterized()",
    "other": "LikelihoodRatio()",
}


def require_kind(estimator: object, name: str, distribution: Distribution, kinds: Collection[Kind]) -> None:
    """Raise unless the variable is of one of the kinds that the estimator is made for.

    Raises:
        EstimatorError: it names the variable, its distribution, and estimators that would do.
    """
    kind = kind_of(distribution)
    if kind not in kinds:
        base, _ = base_of(distribution)
        wanted = " and ".join(WORDS[one] for one in kinds)
        raise EstimatorError(
            f"{name!r} is a {type(base).__name__}, but {type(estimator).__name__} is for {wanted}. "
            f'Choose another estimator: estimators={{"{name}": ...}} with {CURES[kind]}.'
        )


def require_mean(estimator: object, site: Site, cost: Cost) -> None:
    """Raise under the importance-weighted bound, for an estimator of plain expectations.

    Raises:
        EstimatorError: it names the variable, and the estimators that would do.
    """
    if cost.reduction != "mean":
        raise EstimatorError(
            f"{type(estimator).__name__}, the estimator of {site.name!r}, is for a plain expectation such as elbo, not "
            "for the importance-weighted bound. Use LikelihoodRatio(), which is VIMCO there, GumbelSoftmax() or "
            "StraightThrough()."
        )

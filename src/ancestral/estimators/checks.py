"""What an estimator promises, and which variables and objectives it is made for."""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Real
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from ancestral.core import Estimator, Reduction
from ancestral.distributions.support import Kind, base_of, kind_of, support_of
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


KINDS: tuple[Kind, ...] = ("binary", "one-hot", "index", "finite", "reparameterizable", "other")
REDUCTIONS: tuple[Reduction, ...] = ("mean", "log-mean-exp")
WORDS: dict[Kind, str] = {
    "binary": "Bernoulli variables",
    "one-hot": "one-hot vectors",
    "index": "class indices",
    "finite": "other variables of finitely many values",
    "reparameterizable": "variables that are a differentiable function of noise",
    "other": "other variables",
}
CURES: dict[Kind, str] = {
    "binary": "LikelihoodRatio() or GumbelSoftmax()",
    "one-hot": "LikelihoodRatio() or GumbelSoftmax()",
    "index": "LikelihoodRatio(), or make it a one-hot vector, one_hot(network)",
    "finite": "LikelihoodRatio()",
    "reparameterizable": "Reparameterized()",
    "other": "LikelihoodRatio()",
}
"""Estimators that are valid under every objective."""


def require_kind(estimator: Contract, name: str, distribution: Distribution) -> None:
    """Raise unless the variable is of one of the kinds that the estimator is made for, and has finite logits.

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
    require_finite_logits(name, distribution)


def require_finite_logits(name: str, distribution: Distribution) -> None:
    """Raise if a Bernoulli variable has an infinite logit, at which its log-mass, and so the gradient, would be NaN.

    Raises:
        EstimatorError: it names the variable, and the cure.
    """
    if kind_of(distribution) != "binary" or torch.compiler.is_compiling():  # no program can stop for its values
        return
    logits: Tensor = base_of(distribution)[0].logits.detach()  # type: ignore[attr-defined]
    if logits.is_cuda:  # which would have to be waited for, at every draw
        return
    if logits.numel() and logits.abs().max() == math.inf:  # a tenth of the time of isinf
        raise EstimatorError(
            f"{name!r} has an infinite logit, at which a Bernoulli variable has no gradient. Bound its logits, for "
            "example logits.clamp(-30, 30)."
        )


def require_fixed_support(estimator: object, name: str, distribution: Distribution) -> None:
    """Raise where the limits of a variable are learned: the likelihood ratio does not see them move.

    Raises:
        EstimatorError: it names the variable, its distribution, and an estimator that would do.
    """
    if kind_of(distribution) not in ("reparameterizable", "other"):
        return
    support = support_of(distribution)
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    limits = [] if support is None else vars(support).values()
    if any(isinstance(limit, Tensor) and limit.requires_grad for limit in limits):
        base, _ = base_of(distribution)
        raise EstimatorError(
            f"the support of {name!r}, a {type(base).__name__}, has a limit that is learned, and "
            f"{type(estimator).__name__} sees how likely a value is, not that it becomes possible: use "
            "Reparameterized(), or a distribution with a fixed support."
        )


def require_reduction(estimator: Estimator, name: str, distribution: Distribution, reduction: Reduction) -> None:
    """Raise under the importance-weighted bound, for an estimator of plain expectations.

    Raises:
        EstimatorError: it names the variable, and estimators that would do.
    """
    if reduction not in getattr(estimator, "reductions", REDUCTIONS):
        called = type(estimator).__name__ + "(normalize=True)" * bool(getattr(estimator, "normalize", False))
        raise EstimatorError(
            f"{called}, the estimator of {name!r}, is for a plain expectation such as elbo, not for "
            f'the importance-weighted bound. Choose another: estimators={{"{name}": ...}} with '
            f"{CURES[kind_of(distribution)]}; LikelihoodRatio() is VIMCO there."
        )


# settings


def number(what: str, value: float) -> float:
    """The value of a setting, checked: finite, and no bool.

    Raises:
        EstimatorError: it names the setting and its value.
    """
    if not (isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)):
        raise EstimatorError(f"{what} is {_shown(value)}, but it must be a number.")
    return float(value)


def positive(what: str, value: float, when: str = "") -> float:
    """The value of a setting, checked: a number above 0.

    Raises:
        EstimatorError: it names the setting and its value.
    """
    if not (isinstance(value, Real) and not isinstance(value, bool) and 0 < value < math.inf):
        raise EstimatorError(f"{what} is {_shown(value)}{when}, but it must be a positive number.")
    return float(value)


def flag(what: str, value: bool) -> bool:
    """The value of a setting, checked: True or False.

    Raises:
        EstimatorError: it names the setting and its value.
    """
    if not isinstance(value, bool):
        raise EstimatorError(f"{what} is {value!r}: give True or False.")
    return value


def module(what: str, value: nn.Module) -> nn.Module:
    """A network, checked, so that its parameters are found and learned.

    Raises:
        EstimatorError: it names what was given in its place.
    """
    if not isinstance(value, nn.Module):
        raise EstimatorError(f"{what} is {value!r}: give an nn.Module, for example mlp(inputs, 100, 1).")
    return value


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, bool) or not isinstance(value, float | int) else f"{value:g}"

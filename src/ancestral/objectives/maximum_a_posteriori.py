"""Maximum a posteriori: the likelihood, and a prior over the parameters."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.distributions import Distribution

from ancestral.core import check_event
from ancestral.errors import AncestralError, ShapeError, nearest
from ancestral.objectives.log_likelihood import log_likelihood

Prior = Distribution | Mapping[str, Distribution]


def maximum_a_posteriori(p: nn.Module, given: Mapping[str, Tensor], prior: Prior, rows: int) -> Tensor:
    r"""The share of each datapoint in log p(x_1, …, x_N, θ), in nats.

    .. math:: \log p(x_i | θ) + \frac1N \log p(θ)

    N times its mean over a minibatch is an unbiased estimate of the log-density of all data and parameters, whatever
    the size of the minibatch: the prior does not count once for each of them.

    Args:
        p: the model; θ are its parameters.
        given: the values of all its variables, as in :func:`~ancestral.log_likelihood`.
        prior: see :func:`log_prior`.
        rows: N, the number of datapoints in the whole set.

    Returns:
        ``[batch]``, differentiable in the parameters of p.

    Raises:
        GraphError, ShapeError: see :func:`~ancestral.log_likelihood` and :func:`log_prior`.
        AncestralError: ``rows`` is less than the minibatch has; see :func:`log_prior`.
    """
    likelihood = log_likelihood(p, given)
    check_rows(rows, len(likelihood))
    return likelihood + log_prior(p, prior) / rows


def log_prior(module: nn.Module, prior: Prior) -> Tensor:
    r"""log p(θ) of a module's parameters, in nats, ``[]``.

    .. math:: \log p(θ) = \sum_{names} \log p(θ_{name})

    With any other objective it makes another regularized one: ``elbo(p, q, {"x": x}) + log_prior(p, prior) / rows``.
    ``Normal(0, s)`` is a weight decay of 1/(2 s²) times the squares.

    Args:
        module: whose parameters they are.
        prior: one distribution for every parameter, or some by name as ``named_parameters()`` has them; the others then
            have a flat prior. A distribution is that of one entry, of the last dimensions, or of all entries.

    Raises:
        AncestralError: the module has no parameters or none of that name, or a prior that validates its
            arguments does not hold a value.
        ShapeError: the prior is not that of a tensor of the parameter's shape.
    """
    parameters = dict(module.named_parameters())
    if not parameters:
        raise AncestralError("the model has no parameters, so that a prior over them has no effect.")
    priors = prior if isinstance(prior, Mapping) else dict.fromkeys(parameters, prior)
    terms = []
    for name, distribution in priors.items():
        if name not in parameters:
            raise AncestralError(
                f"a prior is given for {name!r}, which is no parameter of the model. " + nearest(name, parameters)
            )
        terms.append(_log_density(name, parameters[name], distribution))
    if not terms:
        raise AncestralError("the prior names no parameter: leave it out, which is log_likelihood.")
    return sum(terms[1:], terms[0])


def _log_density(name: str, value: Tensor, distribution: Distribution) -> Tensor:
    check_event(name, distribution, value)
    shape = tuple(distribution.batch_shape + distribution.event_shape)
    trailing = value.shape[value.dim() - len(shape) :]
    if len(shape) > value.dim() or any(a not in (1, b) for a, b in zip(shape, trailing, strict=True)):
        raise ShapeError(
            f"the prior of {name!r} has batch shape {tuple(distribution.batch_shape)} and event shape "
            f"{tuple(distribution.event_shape)}, which together are not the trailing part of the parameter's shape "
            f"{tuple(value.shape)}: give a prior of that shape, or one for every entry alone."
        )
    try:
        density: Tensor = distribution.log_prob(value)
    except ValueError:  # torch's own validation, where it is on
        raise AncestralError(
            f"the parameter {name!r} runs from {value.min().item():g} to {value.max().item():g}, which lies outside "
            f"the support of its prior, a {type(distribution).__name__}. Choose another prior, or keep the parameter "
            "inside."
        ) from None
    return density.sum()


def check_rows(rows: int, batch: int) -> None:
    """Raise unless there can be so many datapoints in the whole set, of which the minibatch is a part."""
    if not isinstance(rows, int) or rows < batch:
        raise AncestralError(
            f"rows is {rows!r}, but it counts the datapoints of the whole set, and the minibatch alone has {batch}. "
            "Give the length of the training data."
        )

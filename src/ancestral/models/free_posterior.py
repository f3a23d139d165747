"""An approximate posterior of each datapoint with parameters of its own, which no encoder computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from ancestral.core import AncestralSampling, Trace
from ancestral.distributions.normal import IndependentNormal
from ancestral.errors import AncestralError, ShapeError
from ancestral.objectives.expectation import batch_of


class FreePosterior(nn.Module):
    r"""A diagonal Gaussian for each datapoint and latent variable, whose means and log-scales are parameters.

    .. math:: q(z_1, …, z_N) = ∏_n N(z_n; μ_n, diag σ_n^2)

    It is a q for some datapoints alone, always the same ones in the same order: ``elbo(p, q, {"x": x})`` is maximized
    in its parameters for each of them, beside those of p or not. An encoder instead shares its parameters among all
    data ("amortized"), and so may miss the best posterior of each: see
    :func:`ancestral.evaluation.inference_gaps`.

    Args:
        means: by latent variable, ``[batch, *event]``, where it starts.
        log_scales: of the same names and shapes.

    Raises:
        ShapeError: names or shapes differ.

    Source: Saul, Jaakkola and Jordan (1996); Hoffman et al. (2013); Cremer, Li and Duvenaud (2018).
    """

    def __init__(self, means: Mapping[str, Tensor], log_scales: Mapping[str, Tensor]) -> None:
        super().__init__()
        shapes = [{name: tuple(v.shape) for name, v in values.items()} for values in (means, log_scales)]
        if shapes[0] != shapes[1]:
            raise ShapeError(
                f"the means have shapes {shapes[0]}, the log-scales {shapes[1]}: give both one, by the same names."
            )
        self.means = nn.ParameterDict({name: nn.Parameter(value.detach().clone()) for name, value in means.items()})
        self.log_scales = nn.ParameterDict(
            {name: nn.Parameter(value.detach().clone()) for name, value in log_scales.items()}
        )

    def forward(self, trace: Trace) -> Trace:
        for name, mean in self.means.items():
            trace.sample(name, IndependentNormal(mean, self.log_scales[name], mean.dim() - 1))
        return trace


@torch.no_grad()
def freed(q: Callable[[Trace], Any], given: Mapping[str, Tensor]) -> FreePosterior:
    """The posteriors that q gives to some datapoints, with parameters of their own from now on.

    Args:
        q: an approximate posterior, all of whose variables are normal with independent components, given what is
            observed alone.
        given: the observed values by name, each with the batch first.

    Raises:
        AncestralError: a variable is not normal, or has other parameters from draw to draw of another.
    """
    rows = batch_of(given)
    trace = Trace((2, rows), given, AncestralSampling())
    q(trace)
    means, log_scales = {}, {}
    for name in trace.drawn:
        distribution = trace.sites[name].distribution
        if not (isinstance(distribution, Independent) and isinstance(distribution.base_dist, Normal)):
            raise AncestralError(
                f"{name!r} is no normal variable with independent components in q, but a "
                f"{type(distribution).__name__}: no posterior of its kind can be freed. Use a model whose q(z | x) is "
                "a diagonal Gaussian, such as a vae with --posterior normal."
            )
        if len(distribution.batch_shape) > 1:
            raise AncestralError(
                f"q draws {name!r} given another latent variable, so that it is no Gaussian given the data alone, and "
                "can't be freed. Use a model with one layer of latent variables."
            )
        shape = (rows, *distribution.event_shape)
        means[name] = distribution.base_dist.mean.expand(shape)
        log_scales[name] = distribution.base_dist.stddev.log().expand(shape)
    if not means:
        raise AncestralError("q draws no variable, so that there is no posterior to free.")
    return FreePosterior(means, log_scales)

"""Walks through the latent space, and maps of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from ancestral.core import Joint
from ancestral.distributions import base_of
from ancestral.distributions.support import kind_of
from ancestral.errors import AncestralError
from ancestral.models import LatentVariableModel
from ancestral.models.contract import CanDecode, CanEncode, evaluating
from ancestral.objectives.memory import at_once, bytes_made


def can_interpolate(model: object) -> bool:
    """Whether the model decodes latent values, has some to begin with, and has others between them."""
    if not isinstance(model, CanDecode) or not (isinstance(model, CanEncode) or hasattr(model, "noise")):
        return False
    if not isinstance(model, LatentVariableModel):
        return True
    priors = model.priors().values()
    return bool(priors) and all(kind_of(prior) != "index" for prior in priors)


@torch.no_grad()
def interpolate(
    model: Any,
    ends: Tensor | dict[str, Tensor],
    steps: int,
    given: Mapping[str, Tensor] | None = None,
    *,
    sample: bool = False,
) -> Tensor:
    """Decode straight lines between the first and second, third and fourth, … latent value.

    Args:
        model: a model with ``decode``.
        ends: latent values ``[2 n, …]``, or a dict of them.
        steps: points of each line, both ends included.
        given: values that the model is conditioned on, ``[2 n, …]`` each, such as labels: a line keeps those of its
            first end.
        sample: draw x, instead of taking its mean.

    Returns:
        ``[n · steps, *shape]``, line after line.

    Raises:
        AncestralError: a latent variable is an index (integers), with nothing between its values. Binary and one-hot
            ones are floating-point numbers, and the line runs through their probabilities.
    """
    single = isinstance(ends, Tensor)
    values = {"": ends} if isinstance(ends, Tensor) else ends
    lines = {}
    for name, value in values.items():
        if not value.is_floating_point():
            raise AncestralError(f"the latent variable {name!r} is an index: there is nothing between its values.")
        pairs = len(value) // 2
        start, end = value[0 : 2 * pairs : 2], value[1 : 2 * pairs : 2]
        weights = torch.linspace(0, 1, steps, dtype=value.dtype, device=value.device)
        weights = weights.reshape(1, steps, *[1] * (value.dim() - 1))
        lines[name] = (start.unsqueeze(1) * (1 - weights) + end.unsqueeze(1) * weights).flatten(0, 1)
    kept = {}
    for name, value in (given or {}).items():
        kept[name] = value[0 : len(value) // 2 * 2 : 2].repeat_interleave(steps, 0)
    x: Tensor = model.decode(lines[""] if single else lines, sample=sample, **({"given": kept} if kept else {}))
    return x


@torch.no_grad()
def latent_grid(model: LatentVariableModel, size: int, given: Mapping[str, Tensor] | None = None) -> Tensor:
    """Decode a grid of a 2-D latent space with a standard normal prior, ``[size · size, *shape]``.

    The points are the prior's quantiles (k + 1/2) / size along each axis, so each stands for the same probability. Rows
    run along the second dimension from high to low.

    Latent variables that depend on the one of the map, the lower layers of a hierarchy, take their means there.

    Args:
        model: with one latent variable besides those that are given or depend on it.
        size: points along each axis.
        given: values that stay, ``[size · size, …]`` each: of other latent variables, or of labels.

    Raises:
        AncestralError: the latent space has not two dimensions or another prior, labels are not given, or the data
            don't depend on it where the others are.

    Source: Kingma and Welling (2014), figure 4.
    """
    if size < 1:
        raise AncestralError(f"size is {size}, but a map has at least 1 point along each axis.")
    given = dict(given or {})
    free = [name for name in drawn_besides_data(model) if name not in given]
    below = _below(model.p, free, given) if isinstance(model.p, Joint) else set()
    tops = [name for name in free if name not in below]
    if len(tops) != 1:
        raise AncestralError(
            f"a map is of one latent variable, but the model has {len(tops)} ({', '.join(tops) or 'all are given'})"
            + (": give the others, --given y=3 for example." if tops else ".")
        )
    (name,) = tops
    prior = model.priors().get(name)
    if prior is None or not is_standard_normal(prior):
        raise AncestralError(
            f"a map follows the quantiles of a standard normal prior, but that of {name} is another: interpolate "
            "instead."
        )
    if tuple(prior.event_shape) != (2,):
        raise AncestralError(
            f"a map needs a latent variable of 2 dimensions, but {name} has shape {tuple(prior.event_shape)}: train "
            "with --latent 2."
        )
    if isinstance(model.p, Joint) and model.observed not in below:
        raise AncestralError(
            f"a map of {name} would show the same everywhere, since {model.observed} depends on nothing but what is "
            f"given, {', '.join(given)}: leave that out."
        )
    if model.takes_labels and "y" not in given and isinstance(model.p, Joint) and "y" in model.p.given:
        raise AncestralError(f"{model.p} is conditioned on labels: give the one that the map is of, y=3 for example.")
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    axis = torch.special.ndtri((torch.arange(size, device=device) + 0.5) / size)
    second, first = torch.meshgrid(axis.flip(0), axis, indexing="ij")
    points = torch.stack([first.flatten(), second.flatten()], 1)

    def decoded(begin: int, end: int) -> Tensor:
        kept = {other: value[begin:end] for other, value in given.items()}
        return model.decode({name: points[begin:end]}, given=kept, means=below.intersection(free))

    with evaluating(model):
        rows = at_once(len(points), bytes_made(lambda: decoded(0, 1)), device)
        return torch.cat([decoded(begin, begin + rows) for begin in range(0, len(points), rows)])


def drawn_besides_data(model: LatentVariableModel) -> list[str]:
    """The variables that p draws besides the data: the latent ones, and a label that it has a conditional of."""
    labels = model.takes_labels and isinstance(model.p, Joint) and "y" in model.p.conditionals
    return [*model.latents(), "y"] if labels else model.latents()


def _below(p: Joint, latents: Collection[str], given: Mapping[str, Tensor]) -> set[str]:
    """What depends on one of the latent variables, directly or by what depends on it, and is not given."""
    found: set[str] = set()
    for variable, parents in p.parents.items():
        if variable not in given and not found.union(latents).isdisjoint(parents):
            found.add(variable)
    return found


def is_standard_normal(prior: Distribution) -> bool:
    """Whether it is N(0, I)."""
    base, _ = base_of(prior)
    return isinstance(base, Normal) and bool((base.loc == 0).all()) and bool((base.scale == 1).all())

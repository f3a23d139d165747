"""``ancestral manifold RUN``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ancestral.cli.arguments import Out, RunArguments, check_size, description, destination, parse, require, write
from ancestral.errors import AncestralError


@dataclasses.dataclass(frozen=True)
class Manifold(RunArguments):
    """Decode a grid over a latent space of two dimensions, at equal steps of the prior's probability."""

    steps: int = 20
    """Points along each axis."""
    given: tuple[str, ...] = ()
    """Set other variables by hand, NAME=VALUE each, such as the class of a label, y=3."""
    out: Out = None
    """Where to: .png, .npz, .npy or .csv. By default manifold.png, or .csv for tables, in the run folder."""


def main(words: Sequence[str]) -> int:
    arguments = parse(Manifold, "manifold", words)
    if arguments.steps < 1:
        raise AncestralError(f"steps is {arguments.steps}, but a map has at least 1 point along each axis.")
    run = arguments.load()
    model = require(run.model, "decode", "manifold")
    data = description(run)
    path = destination(arguments.out, run.path / "manifold", data)
    check_size(arguments.steps**2, path, data, arguments.steps)

    from ancestral.evaluation import latent_grid
    from ancestral.models import LatentVariableModel
    from ancestral.models.by_hand import set_by_hand

    if not isinstance(model, LatentVariableModel):
        raise AncestralError(
            f"a {type(model).__name__} has no prior density, whose quantiles the map would follow: interpolate instead."
        )
    x = latent_grid(model, arguments.steps, set_by_hand(model, arguments.given, arguments.steps**2))
    write(x, path, data, arguments.steps)
    print(f"a map of {arguments.steps} x {arguments.steps} points:  {path}")
    print(f"next:  ancestral interpolate {run.path}" + (f" --model {arguments.model}" if arguments.model else ""))
    return 0

"""``ancestral interpolate RUN``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from ancestral.cli.arguments import Count, Out, RunArguments, description, destination, parse, require, rows, write
from ancestral.errors import AncestralError


@dataclasses.dataclass(frozen=True)
class Interpolate(RunArguments):
    """Walk in straight lines through the latent space: between encoded data, or between draws where nothing encodes."""

    number: Count = 8
    """How many walks, one a row."""
    steps: int = 9
    """Points of each walk, both ends included."""
    split: Literal["train", "validation", "test"] = "test"
    """The rows that the walks join (models that encode)."""
    draws: bool = False
    """Encode by a draw from q(z | x), instead of by its mean (models that encode)."""
    out: Out = None
    """Where to: .png, .npz, .npy or .csv. By default interpolations.png, or .csv for tables, in the run folder."""


def main(words: Sequence[str]) -> int:
    arguments = parse(Interpolate, "interpolate", words)
    if arguments.steps < 2:
        raise AncestralError(f"steps is {arguments.steps}, but a walk has at least its 2 ends.")
    if arguments.number < 1:
        raise AncestralError(f"-n is {arguments.number}, but at least one walk is needed.")
    run = arguments.load()
    model = require(run.model, "decode", "interpolate")
    if not hasattr(model, "noise"):
        require(model, "encode", "interpolate")
    data = description(run)
    path = destination(arguments.out, run.path / "interpolations", data)

    from ancestral.distributions.support import is_density
    from ancestral.evaluation.interpolation import interpolate
    from ancestral.models import LatentVariableModel
    from ancestral.models.contract import CanEncode
    from ancestral.training.pictures import mean_or_draw

    given, of_draws = None, False
    if isinstance(model, CanEncode):
        x, y = rows(run, arguments.split, 2 * arguments.number)
        if len(x) < 2:
            raise AncestralError(f"{run.data.name} has a single row in its {arguments.split} split: a walk joins two.")
        ends, of_draws = mean_or_draw(lambda draw: model.encode(x, sample=arguments.draws or draw, y=y))
        given = model.conditions(x, y) if isinstance(model, LatentVariableModel) else None
    elif arguments.draws:
        raise AncestralError(f"a {type(run.model).__name__} does not encode, so --draws has no effect: leave it out.")
    else:
        ends = model.noise(2 * arguments.number)
    x, drawn = mean_or_draw(lambda draw: interpolate(model, ends, arguments.steps, given, sample=draw))
    write(x, path, data, arguments.steps)
    if isinstance(model, LatentVariableModel):
        discrete = [name for name, prior in model.priors().items() if not is_density(prior)]
        if discrete:
            verb = "is" if len(discrete) == 1 else "are"
            print(
                f"{', '.join(discrete)} {verb} discrete: the walks run through probabilities, between the values that "
                "the model has learned from."
            )
    print(f"{len(x) // arguments.steps} walks of {arguments.steps} points:  {path}")
    if of_draws:
        print("between draws of the latent variables: a mean is not known in closed form")
    if drawn:
        print("draws of x itself: its mean is not known in closed form")
    return 0

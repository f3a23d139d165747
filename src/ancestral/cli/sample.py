"""``ancestral sample RUN``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ancestral.cli.arguments import Count, Out, RunArguments, description, destination, parse, require, write
from ancestral.errors import AncestralError


@dataclasses.dataclass(frozen=True)
class Sample(RunArguments):
    """Draw from a trained model by ancestral sampling."""

    number: Count = 64
    """How many."""
    out: Out = None
    """Where to: .png (a grid), .npz, .npy or .csv. By default samples.png, or .csv for tables, in the run folder."""
    draws: bool = False
    """Draw x itself from p(x | z), instead of showing its mean. Arrays and tables always hold draws."""
    given: tuple[str, ...] = ()
    """Set variables by hand, NAME=VALUE each: the class of a label, y=3; of several variables, z=3,1,4; binary units,
    h1=0110, or those that are 1, h1=1,2; real numbers, z=0.5,-1."""


def main(words: Sequence[str]) -> int:
    arguments = parse(Sample, "sample", words)
    if arguments.number < 1:
        raise AncestralError(f"-n is {arguments.number}, but at least one sample must be drawn.")
    run = arguments.load()
    model = require(run.model, "sample", "sample")
    data = description(run)
    path = destination(arguments.out, run.path / "samples", data)
    by_hand = {}
    if arguments.given:
        from ancestral.models import LatentVariableModel
        from ancestral.models.by_hand import set_by_hand

        if not isinstance(model, LatentVariableModel):
            raise AncestralError(
                f"--given has no effect: a {type(model).__name__} has no variables to set. Leave it out."
            )
        by_hand = {"given": set_by_hand(model, arguments.given, arguments.number)}
    from ancestral.evaluation.interpolation import can_interpolate
    from ancestral.training.pictures import sampled

    if path.suffix.lower() == ".png" and not arguments.draws:
        x, drawn = sampled(model, arguments.number, **by_hand)
    else:
        x, drawn = model.sample(arguments.number, **by_hand), False
    write(x, path, data)
    print(f"{arguments.number} samples:  {path}")
    if drawn:
        print("draws of x itself: its mean is not known in closed form")
    verb = "interpolate" if can_interpolate(model) else "report"
    print(f"next:  ancestral {verb} {run.path}" + (f" --model {arguments.model}" if arguments.model else ""))
    return 0

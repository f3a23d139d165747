"""``ancestral reconstruct RUN``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from ancestral.cli.arguments import Count, Out, RunArguments, description, destination, parse, require, rows, write
from ancestral.errors import AncestralError


@dataclasses.dataclass(frozen=True)
class Reconstruct(RunArguments):
    """Encode data and decode them again: a picture of pairs, the datum left and its reconstruction right."""

    number: Count = 32
    """How many."""
    split: Literal["train", "validation", "test"] = "test"
    """Which rows."""
    draws: bool = False
    """Encode by a draw from q(z | x), instead of by its mean."""
    out: Out = None
    """Where to: .png (pairs), .npz, .npy or .csv (the reconstructions). By default in the run folder."""


def main(words: Sequence[str]) -> int:
    arguments = parse(Reconstruct, "reconstruct", words)
    if arguments.number < 1:
        raise AncestralError(f"-n is {arguments.number}, but at least one row is needed.")
    run = arguments.load()
    model = require(run.model, "reconstruct", "reconstruct")
    data = description(run)
    path = destination(arguments.out, run.path / "reconstructions", data)

    import torch

    from ancestral.training.pictures import pairs, reconstructed

    x, y = rows(run, arguments.split, arguments.number)
    again, drawn = (model.reconstruct(x, sample=True, y=y), False) if arguments.draws else reconstructed(model, x, y)
    write(pairs(x, again) if path.suffix.lower() == ".png" else again, path, data, 8)
    difference = torch.mean((x - again) ** 2).item()
    print(
        f"{len(x)} reconstructions of {run.data.name} ({arguments.split}), mean squared difference {difference:.4g}:  "
        f"{path}"
    )
    if drawn:
        print("of a draw of the latent variables: a mean is not known in closed form")
    print(f"next:  ancestral evaluate {run.path}" + (f" --model {arguments.model}" if arguments.model else ""))
    return 0

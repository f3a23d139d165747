"""``ancestral reconstruct RUN``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from ancestral.cli.arguments import Count, Out, RunArguments, description, parse, require, write
from ancestral.errors import AncestralError


@dataclasses.dataclass(frozen=True)
class Reconstruct(RunArguments):
    """Encode data and decode them again: a picture of pairs, the datum left and its reconstruction right."""

    number: Count = 32
    """How many."""
    split: Literal["train", "validation", "test"] = "test"
    """Which rows."""
    out: Out = None
    """Where to: .png (pairs), .npz, .npy or .csv (the reconstructions). By default in the run folder."""


def main(words: Sequence[str]) -> int:
    arguments = parse(Reconstruct, "reconstruct", words)
    run = arguments.load()
    require(run.model, "reconstruct", "reconstruct")

    import torch

    from ancestral.training.pictures import pairs

    x, y = rows(run, arguments.split, arguments.number)
    again = run.model.reconstruct(x, y=y)
    data = description(run)
    picture = arguments.out.endswith(".png") if arguments.out else len(data.shape) == 3
    path = write(pairs(x, again) if picture else again, arguments.out, run.path / "reconstructions", data, 8)
    difference = torch.mean((x - again) ** 2).item()
    print(f"{len(x)} reconstructions of {run.data.name} ({arguments.split}), mean squared difference {difference:.4g}:  {path}")
    print(f"next:  ancestral evaluate {run.path}" + (f" --model {arguments.model}" if arguments.model else ""))
    return 0


def rows(run, split: str, number: int):  # type: ignore[no-untyped-def]
    """The first rows of a split, on the model's device."""
    if number < 1:
        raise AncestralError(f"-n is {number}, but at least one row is needed.")
    device = next(run.model.parameters()).device
    for x, y in run.data.batches(split, number, shuffle=False, device=device):
        return x, y
    raise AncestralError(f"{run.data.name} has no rows in its {split} split. Choose another --split.")

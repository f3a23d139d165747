"""``ancestral train MODEL DATA``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tyro

from ancestral.cli.arguments import Out, own_model, parse
from ancestral.configs import MODELS, DataConfig, TrainingConfig
from ancestral.errors import AncestralError, nearest

HELP = """usage: ancestral train MODEL DATA [--flags]

MODEL  {models}, or FILE.py:NAME for a LatentVariableModel of your own
DATA   the name of a set (`ancestral list` shows them), or a path to your own
       .npy, .npz, .csv, .parquet or folder of images

`ancestral train vae --help` shows every flag of a model. For example:

  ancestral train vae digits --out runs/first
  ancestral train vae mnist --latent 20 --hidden 400 --epochs 20 --out runs/a
  ancestral train gan mnist --out runs/b
  ancestral train sbn mnist --estimator disarm --out runs/c"""


def main(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(HELP.format(models=", ".join(MODELS)))
        return 0 if words else 2
    name = words[0]
    if name.startswith("-"):
        raise AncestralError(f"the model and the data come before {name}: ancestral train MODEL DATA {name} ...")
    own = ".py" in name
    if not own and name not in MODELS:
        raise AncestralError(f"there is no model {name!r}. {nearest(name, MODELS)} Or FILE.py:NAME for your own.")
    arguments = parse(form(None if own else name), f"train {name}", words[1:])

    import torch

    import ancestral
    from ancestral.training.progress import make_reporter

    torch.manual_seed(arguments.training.seed)  # of which the weights of an own model are a function too
    model = own_model(name) if own else name
    run = ancestral.fit(
        model,  # type: ignore[arg-type]
        arguments.data,
        None if own else arguments.model,
        arguments.data_settings,
        arguments.training,
        arguments.out,
        make_reporter(),
    )
    return report(run, name if own else None)


def form(name: str | None) -> Any:
    """The flags of ``train``: those of the model's config, of the data and of the training."""
    kind, training = MODELS[name] if name else (None, TrainingConfig())
    fields: list[Any] = [
        ("data", tyro.conf.Positional[str]),
        ("out", Out, None),
    ]
    if kind is not None:
        fields.append(("model", kind, dataclasses.field(default_factory=kind)))
    fields += [
        ("data_settings", DataConfig, dataclasses.field(default_factory=DataConfig)),
        ("training", TrainingConfig, dataclasses.field(default_factory=lambda: training)),
    ]
    made = dataclasses.make_dataclass("Train", fields, frozen=True)
    made.__doc__ = f"""{(kind.__doc__ if kind else "Train a model of your own.") or ""}

    Args:
        data: A named set, or a path to your own .npy, .npz, .csv, .parquet or folder of images.
        out: The run folder; by default a new one under runs/.
    """
    return made


def report(run: Any, own: str | None) -> int:
    """Say where things are and what to type next."""
    import json

    from ancestral.models import LatentVariableModel
    from ancestral.models.contract import CanClassify, CanSample

    state = json.loads((run.folder.checkpoint("last") / "state.json").read_text(encoding="utf-8"))
    extra = f" --model {own}" if own else ""
    if not state["finished"]:
        print(f"interrupted; all is saved. Continue:  ancestral resume {run.path}{extra}")
        return 130
    pictures = sorted(run.folder.samples.glob("*.png"))
    if pictures:
        print(f"pictures:  {run.folder.samples}/  (the last: {pictures[-1].name})")
    following = []
    if isinstance(run.model, CanSample):
        following.append(f"sample {run.path}{extra} -n 64 --out samples{'.png' if pictures else '.csv'}")
    if isinstance(run.model, LatentVariableModel) and run.model.latents():
        following.append(f"evaluate {run.path}{extra} --particles 100")
    elif isinstance(run.model, LatentVariableModel | CanClassify):
        following.append(f"evaluate {run.path}{extra}")
    for i, words in enumerate(following):
        print(f"{'' if i else 'next:':10} ancestral {words}")
    return 0

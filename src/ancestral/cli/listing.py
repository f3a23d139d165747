"""``ancestral list``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import tyro

from ancestral.cli.arguments import parse
from ancestral.configs import MODELS
from ancestral.configs.estimation import ESTIMATORS
from ancestral.data import named_sets

Section = Literal["all", "models", "data", "objectives", "estimators", "likelihoods"]


@dataclasses.dataclass(frozen=True)
class List:
    """Show what there is: models, data sets, objectives, estimators, likelihoods."""

    section: tyro.conf.Positional[Section] = "all"
    """Only models, data, objectives, estimators or likelihoods."""


def main(words: Sequence[str]) -> int:
    section = parse(List, "list", words).section
    sections: dict[str, list[tuple[str, str]]] = {
        "models": [
            *((name, (kind.__doc__ or "").splitlines()[0]) for name, (kind, _) in MODELS.items()),
            ("FILE.py:NAME", "Your own p and q: a LatentVariableModel in a Python file."),
        ],
        "data": [
            (named.name, f"{named.description} {named.shape}, {named.train:,} + {named.test:,} rows, {named.license}")
            for named in named_sets()
        ]
        + [("PATH", "your own .npy, .npz, .csv, .parquet, or folder of images")],
        "objectives": [
            ("elbo", "the evidence lower bound (Kingma and Welling, 2014)"),
            ("iwae", "the importance-weighted bound (Burda, Grosse and Salakhutdinov, 2016)"),
            ("adversarial", "minimax and non-saturating (Goodfellow et al., 2014)"),
        ],
        "estimators": [
            ("reparameterized", "through the value: continuous variables; unbiased"),
            *ESTIMATORS.items(),
        ],
        "likelihoods": [
            ("bernoulli", "binary data"),
            ("discretized-logistic", "grey levels"),
            ("normal", "real numbers; grey levels with dequantization"),
            ("continuous-bernoulli", "real numbers in [0, 1]"),
        ],
    }
    for title, entries in sections.items():
        if section in ("all", title):
            print(title)
            width = max(len(name) for name, _ in entries)
            for name, words_ in entries:
                print(f"  {name:{width}}  {words_}")
    return 0

"""Which estimator is valid where: a table that follows from the contracts of the estimators, never kept by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from ancestral.core import Reduction
from ancestral.distributions.support import Kind
from ancestral.estimators.checks import CURES, KINDS, Contract
from ancestral.estimators.darn import DARN, Half
from ancestral.estimators.disarm import DisARM
from ancestral.estimators.enumerate import Enumerate
from ancestral.estimators.gumbel_softmax import GumbelSoftmax
from ancestral.estimators.likelihood_ratio import LikelihoodRatio
from ancestral.estimators.muprop import MuProp
from ancestral.estimators.rebar import REBAR, RELAX
from ancestral.estimators.reparameterized import Reparameterized
from ancestral.estimators.straight_through import StraightThrough

Verdict = Literal["unbiased", "biased", "error"]

OBJECTIVES: dict[str, Reduction] = {"elbo": "mean", "iwae": "log-mean-exp"}
"""Each objective by how it averages over particles."""

ESTIMATORS: dict[str, Contract] = {
    "Reparameterized()": Reparameterized(),
    "Enumerate()": Enumerate(),
    "LikelihoodRatio()": LikelihoodRatio(),
    "LikelihoodRatio(normalize=True)": LikelihoodRatio(normalize=True),
    "MuProp()": MuProp(),
    "MuProp(normalize=True)": MuProp(normalize=True),
    "REBAR()": REBAR(),
    "RELAX(network)": RELAX(nn.Identity()),
    "DisARM()": DisARM(),
    "DARN()": DARN(),
    "Half()": Half(),
    "StraightThrough()": StraightThrough(),
    "GumbelSoftmax()": GumbelSoftmax(),
    "GumbelSoftmax(hard=True)": GumbelSoftmax(hard=True),
}
"""Every estimator, and variants that promise something else."""

HEADINGS: dict[Kind, str] = {
    "binary": "Bernoulli",
    "one-hot": "one-hot",
    "index": "class index",
    "finite": "bounded count",
    "reparameterizable": "reparameterizable",
    "other": "count",
}


@dataclass(frozen=True)
class Cell:
    """What becomes of the gradient of one estimator, under one objective, for one kind of variable."""

    estimator: str
    objective: str
    kind: Kind
    verdict: Verdict
    advice: str = ""
    """Of an error: the estimators that would do."""


def cells() -> list[Cell]:
    """The whole table, row by row: estimators, objectives, kinds of variables."""
    return [
        _cell(name, contract, objective, kind)
        for name, contract in ESTIMATORS.items()
        for objective in OBJECTIVES
        for kind in KINDS
    ]


def _cell(name: str, contract: Contract, objective: str, kind: Kind) -> Cell:
    if kind not in contract.kinds or OBJECTIVES[objective] not in contract.reductions:
        return Cell(name, objective, kind, "error", CURES[kind])
    return Cell(name, objective, kind, "unbiased" if contract.unbiased else "biased")


def markdown(words: Mapping[str, str] | None = None) -> str:
    """The table in Markdown: a row for each estimator, a column for each kind of variable.

    A cell holds one verdict, or two where the objectives differ: ``unbiased / error`` is that of the ELBO, then that of
    the importance-weighted bound.

    Args:
        words: translations of the headings and verdicts; what is left out stays English.
    """
    found = {(cell.estimator, cell.objective, cell.kind): cell.verdict for cell in cells()}
    translate = dict(words or {})

    def row(entries: list[str]) -> str:
        return f"| {' | '.join(entries)} |"

    def verdict(estimator: str, kind: Kind) -> str:
        each = [found[estimator, objective, kind] for objective in OBJECTIVES]
        return " / ".join(translate.get(one, one) for one in dict.fromkeys(each))

    headings = ["estimator", *HEADINGS.values()]
    lines = [
        row([translate.get(heading, heading) for heading in headings]),
        row(["---"] * len(headings)),
        *(row([f"`{name}`", *(verdict(name, kind) for kind in KINDS)]) for name in ESTIMATORS),
    ]
    return "\n".join(lines)

"""Batch normalization below a variable whose estimator counts the cost of its own row alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ancestral.core import Joint, Trace
from ancestral.errors import EstimatorError
from ancestral.estimators import Reparameterized


def check_rows_apart(p: Callable[[Trace], Any], q: Callable[[Trace], Any], trace: Trace) -> None:
    """Raise where a draw moves other rows' costs by batch statistics, and the gradient does not pass through them.

    A gradient by the path of a draw (Reparameterized, StraightThrough, GumbelSoftmax) does. The signal of the others
    is the cost of the row that was drawn, and a sum over values weights them, which batch statistics don't.

    Raises:
        EstimatorError: it names the variable, and the one whose conditional has batch normalization.
    """
    if not torch.is_grad_enabled():
        return
    apart = [name for name in trace.drawn if _takes_rows_apart(name, trace)]
    if not apart:
        return
    for where, network in _below(set(apart), p, q, trace):
        if any(_uses_batch_statistics(module) for module in network.modules()):
            estimator = type(trace.sites[apart[0]].estimator).__name__
            raise EstimatorError(
                f"batch normalization in {where} lets a draw of {apart[0]!r} change the cost of every row, of which "
                f"{estimator} counts one: use LayerNorm or no normalization there, or an estimator whose gradient "
                "passes through it, Reparameterized() or GumbelSoftmax()."
            )


def _takes_rows_apart(name: str, trace: Trace) -> bool:
    site = trace.sites[name]
    by_path = site.value.requires_grad or isinstance(site.estimator, Reparameterized)
    return not by_path or name in dict(trace.enumerated)


def _below(
    moved: set[str], p: Callable[[Trace], Any], q: Callable[[Trace], Any], trace: Trace
) -> Iterator[tuple[str, nn.Module]]:
    """The modules that see one of the variables, or what follows from it; of a model with state, all."""
    for model in (q,) if p is q else (q, p):
        if isinstance(model, Joint):
            for variable, parents in model.parents.items():
                if not moved.isdisjoint(parents):
                    if variable in model.networks:
                        yield f"the conditional of {variable!r}", model.networks[variable]
                    if model is q or variable not in trace:  # deterministic in p
                        moved.add(variable)
        elif isinstance(model, nn.Module):
            yield f"the model {type(model).__name__}", model


def _uses_batch_statistics(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)

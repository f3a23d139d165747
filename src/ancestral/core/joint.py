"""A joint distribution: the product of its conditionals, p(x, z) = p(z) p(x | z)."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping

from torch import nn
from torch.distributions import Distribution

from ancestral.core.trace import Conditional, Trace
from ancestral.errors import GraphError, ShapeError, nearest


class Joint(nn.Module):
    """The product of conditionals, drawn in ancestral order.

    .. math:: p(x_1, …, x_n) = ∏_i p(x_i | parents(x_i))

    ``Joint({"z": prior, "x | z": decoder})`` is p(x, z) = p(z) p(x | z); ``Joint({"z | x": encoder})`` is
    q(z | x). A conditional is any callable from its parents, in the order written, to a
    ``torch.distributions.Distribution`` (or to a Tensor: a deterministic variable): a module, a lambda, a
    flow. The order of the entries is free.

    Args:
        conditionals: from ``"variable | parent, parent"`` to the callable.
        given: the variables conditioned on. Optional: without it, a parent that no entry defines is taken to be one.

    Raises:
        GraphError: duplicate variable, cycle, malformed name, or a parent that is neither defined nor in ``given``.
    """

    def __init__(self, conditionals: Mapping[str, Conditional], given: Iterable[str] | None = None) -> None:
        super().__init__()
        if not conditionals:
            raise GraphError('a Joint needs at least one conditional, for example Joint({"z": prior}).')
        graph: dict[str, tuple[str, ...]] = {}
        functions: dict[str, Conditional] = {}
        for key, conditional in conditionals.items():
            name, parents = _parse(key)
            if name in graph:
                raise GraphError(f"the variable {name!r} has two conditionals: keep one of them.")
            if hasattr(nn.ModuleDict(), name):
                raise GraphError(f"{name!r} is a name that torch's modules use themselves: give the variable another.")
            if not callable(conditional):
                raise GraphError(
                    f"the conditional of {name!r} is a {type(conditional).__name__}, which can't be called. "
                    "Give a callable from the parents to a distribution, for example lambda z: Normal(z, 1.0)."
                )
            graph[name], functions[name] = parents, conditional
        outside = list(dict.fromkeys(p for parents in graph.values() for p in parents if p not in graph))
        if given is not None:
            declared = list(given)
            for name in declared:
                if name in graph:
                    raise GraphError(f"the variable {name!r} is both given and defined: keep one of them.")
            for parent in outside:
                if parent not in declared:
                    child = next(name for name, parents in graph.items() if parent in parents)
                    raise GraphError(
                        f"{child!r} has the parent {parent!r}, which is neither defined nor given. "
                        + nearest(parent, [*graph, *declared])
                    )
            outside = declared
        try:
            order = tuple(name for name in graphlib.TopologicalSorter(graph).static_order() if name in graph)
        except graphlib.CycleError as error:
            cycle = " <- ".join(reversed(error.args[1]))  # graphlib lists parents first
            raise GraphError(f"the graph has a cycle, {cycle}: no variable of it can be drawn first.") from None
        self.variables: tuple[str, ...] = order
        """The variables it defines, each after its parents."""
        self.given: tuple[str, ...] = tuple(outside)
        """The variables it is conditioned on."""
        self.parents = {name: graph[name] for name in order}
        self.conditionals = {name: functions[name] for name in order}
        self.networks = nn.ModuleDict({n: f for n, f in functions.items() if isinstance(f, nn.Module)})

    def forward(self, trace: Trace) -> Trace:
        for name, parents in self.parents.items():
            for parent in parents:
                if parent not in trace:
                    raise GraphError(
                        f"{self}: the variable {parent!r}, a parent of {name!r}, is neither given nor drawn. "
                        + nearest(parent, trace.values)
                    )
            distribution = self.conditionals[name](*[trace[parent] for parent in parents])
            if not parents and isinstance(distribution, Distribution) and any(b != 1 for b in distribution.batch_shape):
                raise ShapeError(
                    f"p({name}) has no parents, so it can't have a batch shape, but it has "
                    f"{tuple(distribution.batch_shape)} (event shape {tuple(distribution.event_shape)}). Put "
                    "the feature dimensions inside the distribution: "
                    f"torch.distributions.Independent(distribution, {len(distribution.batch_shape)})."
                )
            trace.sample(name, distribution)
        return trace

    def __str__(self) -> str:
        conditioned = f" | {', '.join(self.given)}" if self.given else ""
        left = f"p({', '.join(reversed(self.variables))}{conditioned})"
        return left + " = " + " ".join(_factor(name, parents) for name, parents in self.parents.items())

    __repr__ = __str__


def _factor(name: str, parents: tuple[str, ...]) -> str:
    return f"p({name} | {', '.join(parents)})" if parents else f"p({name})"


def _parse(key: str) -> tuple[str, tuple[str, ...]]:
    """``"x | y, z"`` -> ``("x", ("y", "z"))``."""
    left, bar, right = key.partition("|")
    name, parents = left.strip(), tuple(p.strip() for p in right.split(",")) if bar else ()
    for word in (name, *parents):
        if not word.isidentifier():
            raise GraphError(f'{key!r} is no conditional: write "x" or "x | y, z", with names that are identifiers.')
    if name in parents:
        raise GraphError(f"the graph has a cycle, {name} <- {name}: {key!r} makes {name!r} its own parent.")
    if len(set(parents)) < len(parents):
        raise GraphError(f"{key!r} names a parent twice: name each once.")
    return name, parents

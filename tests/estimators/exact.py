"""Tiny models whose bounds are summed over every value of their latents, with nothing of the estimators' code."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ancestral import Cost, Estimator, Joint, Site, Trace, elbo, iwae
from ancestral.distributions import OneHot, enumerate_support
from ancestral.distributions.bernoulli import IndependentBernoulli
from ancestral.distributions.heads import event
from ancestral.objectives import elbo_terms

Kind = Literal["binary", "one-hot"]
Objective = Literal["elbo", "iwae"]
SHAPES: dict[Kind, tuple[tuple[int, ...], ...]] = {"binary": ((3,), (2,)), "one-hot": ((2, 3), (5,))}
PIXELS, HIDDEN = 4, 5


def product(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One product for each row: ``(…, rows, i)`` times ``(rows, i, o)``, where 1 row stands for all."""
    return (inputs.unsqueeze(-2) @ weight).squeeze(-2) + bias


class Layers(nn.Module):
    """p: (h2 ->) h1 -> x, with a tanh layer before x; q: x -> h1 (-> h2). The latents are bits or one-hot vectors.

    Its parameters have a first dimension: 1, or a row for every datapoint, so that one backward pass gives the gradient
    of each. The model can also predict x from c without q: ``elbo(m.p, m.p, m.given)``.
    """

    def __init__(self, kind: Kind, layers: int, seed: int = 0) -> None:
        super().__init__()
        self.kind, self.names = kind, [f"h{i + 1}" for i in range(layers)]
        self.shapes = dict(zip(self.names, SHAPES[kind], strict=False))
        sizes = {name: math.prod(shape) for name, shape in self.shapes.items()}
        random = torch.Generator().manual_seed(seed)
        self.weights = nn.ParameterDict()

        def weight(name: str, inputs: int, outputs: int) -> None:
            for key, shape in ((name, (1, inputs, outputs)), (f"{name} bias", (1, outputs))):
                start = 0.9 * torch.randn(shape, generator=random, dtype=torch.float64)
                self.weights[key] = nn.Parameter(start)

        top = self.names[-1]
        weight("p top", 1, sizes[top])
        weight("p hidden", sizes["h1"], HIDDEN)
        weight("p x", HIDDEN, PIXELS)
        weight("q h1", PIXELS, sizes["h1"])
        if layers > 1:
            weight("p h1", sizes["h2"], sizes["h1"])
            weight("q h2", sizes["h1"], sizes["h2"])
        p: dict[str, Any] = {f"{top} | c": lambda c: self._latent(top, self.affine("p top", c))}
        q: dict[str, Any] = {"h1 | x": lambda x: self._latent("h1", self.affine("q h1", x))}
        if layers > 1:
            p["h1 | h2"] = lambda h2: self._latent("h1", self.affine("p h1", self._flat("h2", h2)))
            q["h2 | h1"] = lambda h1: self._latent("h2", self.affine("q h2", self._flat("h1", h1)))
        p["x | h1"] = lambda h1: IndependentBernoulli(
            self.affine("p x", torch.tanh(2 * self.affine("p hidden", self._flat("h1", h1)))), 1
        )
        self.p, self.q = Joint(p), Joint(q)

    def affine(self, name: str, inputs: Tensor) -> Tensor:
        return product(inputs, self.weights[name], self.weights[f"{name} bias"])

    def _flat(self, name: str, value: Tensor) -> Tensor:
        return value.flatten(-len(self.shapes[name]))

    def _latent(self, name: str, logits: Tensor) -> Distribution:
        shape = self.shapes[name]
        logits = logits.reshape(*logits.shape[:-1], *shape)
        return IndependentBernoulli(logits, 1) if self.kind == "binary" else event(OneHot(logits), len(shape) - 1)

    def rows(self, count: int) -> Layers:
        """The same model, with parameters of its own for each of ``count`` datapoints."""
        other = Layers(self.kind, len(self.names))
        for name, parameter in self.weights.items():
            other.weights[name] = nn.Parameter(parameter.detach().expand(count, *parameter.shape[1:]).clone())
        return other


def data(rows: int) -> dict[str, Tensor]:
    """The given values of :class:`Layers`."""
    random = torch.Generator().manual_seed(3)
    return {
        "x": torch.randint(2, (rows, PIXELS), generator=random).double(),
        "c": torch.randn(rows, 1, generator=random, dtype=torch.float64),
    }


@dataclass(frozen=True)
class Every:
    """Every joint value of the latents of q: ``(values, *event)`` for each name."""

    names: list[str]
    values: dict[str, Tensor]

    @property
    def count(self) -> int:
        return self.values[self.names[0]].shape[0]


def every(q: Callable[[Trace], Any], given: Mapping[str, Tensor]) -> Every:
    rows = next(iter(given.values())).shape[0]
    trace = Trace((rows,), given)
    q(trace)
    supports = {name: enumerate_support(trace.sites[name].distribution) for name in trace.drawn}
    index = torch.cartesian_prod(*[torch.arange(len(support)) for support in supports.values()])
    index = index.reshape(-1, len(supports))
    return Every(trace.drawn, {name: s[index[:, i]] for i, (name, s) in enumerate(supports.items())})


def exact(
    p: Callable[[Trace], Any],
    q: Callable[[Trace], Any],
    given: Mapping[str, Tensor],
    objective: Objective = "elbo",
    particles: int = 1,
    beta: float = 1.0,
) -> Tensor:
    """The bound itself, ``[batch]``: the sum over every value of the latents, of each of the particles."""
    all_values = every(q, given)
    rows = next(iter(given.values())).shape[0]
    shape = (all_values.count, rows)
    spread = {name: value[:, None].expand(*shape, *value.shape[1:]) for name, value in all_values.values.items()}
    log_q = _scored(q, given, spread, shape, all_values.names)
    names = [name for name in _sites(p, given, spread, shape) if name not in spread]
    likelihood = _scored(p, given, spread, shape, names)
    divergence = 0.0 if p is q else beta * (log_q - _scored(p, given, spread, shape, all_values.names))
    weight = likelihood - divergence
    if objective == "elbo":
        return (log_q.exp() * weight).sum(0)
    together, mass = weight, log_q
    for _ in range(particles - 1):
        together = torch.logaddexp(together.unsqueeze(1), weight).flatten(0, 1)
        mass = (mass.unsqueeze(1) + log_q).flatten(0, 1)
    return (mass.exp() * (together - math.log(particles))).sum(0)


def _sites(model: Any, given: Mapping[str, Tensor], values: Mapping[str, Tensor], shape: tuple[int, ...]) -> list[str]:
    trace = Trace(shape, {**given, **values})
    model(trace)
    return list(trace.sites)


def _scored(
    model: Any, given: Mapping[str, Tensor], values: Mapping[str, Tensor], shape: tuple[int, ...], names: Sequence[str]
) -> Tensor:
    trace = Trace(shape, {**given, **values})
    model(trace)
    return trace.log_prob(names).expand(shape)


class Forced(nn.Module):
    """Another estimator, for which the value is set rather than drawn."""

    def __init__(self, estimator: Any, value: Tensor) -> None:
        super().__init__()
        self.estimator, self.value = estimator, value

    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        distribution.sample = lambda sample_shape=(): self.value  # type: ignore[method-assign]
        drawn: Tensor = self.estimator.draw(name, distribution, trace)
        return drawn

    def term(self, site: Site, cost: Cost) -> Tensor | None:
        term: Tensor | None = self.estimator.term(site, cost)
        return term


def forced(
    p: Callable[[Trace], Any],
    q: Callable[[Trace], Any],
    given: Mapping[str, Tensor],
    estimators: Mapping[str, Any],
    objective: Objective = "elbo",
    particles: int = 1,
    **settings: Any,
) -> Tensor:
    """The mean of an estimator without its variance, ``[batch]``: every draw in turn, weighted by its probability.

    The draws are the rows of one batch, so an estimator with a state meets them all in the same state.
    """
    all_values = every(q, given)
    rows = next(iter(given.values())).shape[0]
    index = torch.cartesian_prod(*[torch.arange(all_values.count)] * particles).reshape(-1, particles)
    draws = len(index)
    repeated = {name: value.repeat(draws, *[1] * (value.dim() - 1)) for name, value in given.items()}
    values = {}
    for name, value in all_values.values.items():
        chosen = value[index].transpose(0, 1).unsqueeze(2)  # particles, draws, rows
        values[name] = chosen.expand(-1, -1, rows, *value.shape[1:]).flatten(1, 2)
    shape = (particles, draws * rows)
    mass = _scored(q, repeated, values, shape, all_values.names).sum(0).exp().detach()
    chosen_estimators: dict[str, Estimator] = {
        name: Forced(estimators[name], values[name]) for name in all_values.names
    }
    bound = elbo if objective == "elbo" else iwae
    value = bound(p, q, repeated, particles, estimators=chosen_estimators, **settings)
    return (mass * value).reshape(draws, rows).sum(0)


def gradients(value: Tensor, module: nn.Module) -> list[Tensor]:
    """Of the weighted sum over datapoints, so that one can't stand for another; zeros where there is none."""
    weights = torch.arange(1.0, len(value) + 1, dtype=value.dtype)
    parameters = list(module.parameters())
    found = torch.autograd.grad(value @ weights, parameters, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(parameters, found, strict=True)]


def assert_same_gradients(value: Tensor, wanted: Tensor, module: nn.Module) -> None:
    """Equal to 1e-10; and the gradient is not small, or equality would mean nothing."""
    theirs = gradients(wanted, module)
    assert max(g.abs().max() for g in theirs) > 0.1
    for a, b in zip(gradients(value, module), theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


def samples(
    model: Layers,
    estimators: Any,
    count: int,
    objective: Objective = "elbo",
    particles: int = 1,
    structured: bool = False,
) -> tuple[Tensor, Tensor]:
    """The values and the gradients of so many estimates at one datapoint, ``(count,)`` and ``(count, parameters)``."""
    rows = model.rows(count)
    given = {name: value.expand(count, *value.shape[1:]) for name, value in data(1).items()}
    p, q = rows.p, rows.p if structured else rows.q
    if objective == "elbo":
        value = elbo_terms(p, q, given, particles, estimators).elbo
    else:
        value = iwae(p, q, given, particles, estimators)
    parameters = list(rows.weights.values())
    found = torch.autograd.grad(value.sum(), parameters, allow_unused=True)
    flat = [(torch.zeros_like(w) if g is None else g).flatten(1) for w, g in zip(parameters, found, strict=True)]
    return value.detach(), torch.cat(flat, 1)


def exact_gradient(
    model: Layers, objective: Objective = "elbo", particles: int = 1, structured: bool = False
) -> tuple[Tensor, Tensor]:
    """What the mean of :func:`samples` should be."""
    value = exact(model.p, model.p if structured else model.q, data(1), objective, particles)
    parameters = list(model.weights.values())
    found = torch.autograd.grad(value.sum(), parameters, allow_unused=True)
    flat = [(torch.zeros_like(w) if g is None else g).flatten() for w, g in zip(parameters, found, strict=True)]
    return value.detach(), torch.cat(flat)


def z_scores(drawn: Tensor, wanted: Tensor) -> Tensor:
    """How many standard errors the mean lies from where it should; 0 where nothing varies and it lies there."""
    error = drawn.std(0) / math.sqrt(len(drawn))
    return (drawn.mean(0) - wanted) / error.clamp_min(1e-12)

"""Gradient estimators on a sigmoid belief net, 784-200-200, batches of 100 (MNIST): what each costs, and what it gives.

    python -m benchmarks.estimators --threads 1

The time of one training step of each estimator, relative to the reparameterized twin of the same network, whose units
are normal variables with the means that the layers compute; then, of the net after some training, the variance of one
gradient, and its product with that time. Between two unbiased estimators the smaller product wins.

Pyro and Storchastic train the same net with the estimators that they have. Every candidate draws one particle, but
those that compare particles draw two. Ratios of processor time hold where other work shares the machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from typing import Any, get_args

import numpy as np

from benchmarks import measure
from benchmarks.loops import PIXELS, images

BATCH, UNITS = 100, 200
COMPARING = ("rloo",)
"""Estimators that compare particles."""


def names() -> list[str]:
    """Those that train a net of 200 Bernoulli units a layer by the ELBO."""
    from ancestral.configs.estimation import EstimatorName

    return [name for name in get_args(EstimatorName) if name not in ("vimco", "enumerate")]


def titled(name: str) -> str:
    """With its particles, where they are more than one."""
    return f"{name}, 2 particles" if name in COMPARING else name


def batches(arguments: argparse.Namespace) -> Iterator[Any]:
    """Of bits drawn anew, ``[100, 784]``."""
    import torch

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    levels = torch.from_numpy(images())
    random = np.random.default_rng(0)
    while True:
        for index in torch.randperm(len(levels)).split(BATCH):
            x = levels[index]
            noise = random.integers(0, 2**64, x.numel() // 8, dtype=np.uint64).view(np.uint8)
            yield (torch.from_numpy(noise).view_as(x) < x).float()


def net() -> Any:
    """Ours: p(h2) p(h1 | h2) p(x | h1) and q(h1 | x) q(h2 | h1), linear."""
    from ancestral import Joint, LatentVariableModel, bernoulli, linear
    from ancestral.distributions import bernoulli_bias

    return LatentVariableModel(
        Joint({
            "h2": bernoulli_bias(UNITS), "h1 | h2": bernoulli(linear(UNITS, UNITS)),
            "x | h1": bernoulli(linear(UNITS, PIXELS)),
        }),
        Joint({"h1 | x": bernoulli(linear(PIXELS, UNITS)), "h2 | h1": bernoulli(linear(UNITS, UNITS))}),
    )  # fmt: skip


def twin() -> Any:
    """The same layers, whose outputs are the means of normal variables."""
    import torch
    from torch import nn
    from torch.distributions import Independent, Normal

    from ancestral import Joint, LatentVariableModel, bernoulli, linear, standard_normal

    class Unit(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, parent: Any) -> Any:
            mean = self.network(parent)
            return Independent(Normal(mean, torch.ones_like(mean), validate_args=False), 1, validate_args=False)

    return LatentVariableModel(
        Joint({
            "h2": standard_normal(UNITS), "h1 | h2": Unit(linear(UNITS, UNITS)),
            "x | h1": bernoulli(linear(UNITS, PIXELS)),
        }),
        Joint({"h1 | x": Unit(linear(PIXELS, UNITS)), "h2 | h1": Unit(linear(UNITS, UNITS))}),
    )  # fmt: skip


def ours(arguments: argparse.Namespace, name: str, particles: int = 1) -> Iterator[int]:
    """Loss, gradient, update."""
    from ancestral.training.optimization import keep_freed_memory

    keep_freed_memory()
    for _ in steps(arguments, twin() if name == "reparameterized" else net(), name, particles):
        yield BATCH


def steps(arguments: argparse.Namespace, model: Any, name: str, particles: int) -> Iterator[None]:
    """Train a model, what the estimator learns included."""
    import torch
    from torch import nn

    from ancestral.evaluation.gradients import bound_of, by_name

    data = batches(arguments)
    estimators = by_name(bound_of(model, next(data), particles=particles), name)
    several = estimators.values() if isinstance(estimators, dict) else [estimators]
    own = [w for one in several if isinstance(one, nn.Module) for w in one.parameters()]
    optimizer = torch.optim.Adam([*model.parameters(), *own], 1e-3, fused=True)
    for x in data:
        loss = bound_of(model, x, particles=particles).loss(estimators, particles).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield


def layers() -> Any:
    """The layers for the peers, by name."""
    from torch import nn

    return nn.ModuleDict({
        "q1": nn.Linear(PIXELS, UNITS), "q2": nn.Linear(UNITS, UNITS), "p1": nn.Linear(UNITS, UNITS),
        "px": nn.Linear(UNITS, PIXELS), "prior": nn.Linear(1, UNITS),
    })  # fmt: skip


def pyro(arguments: argparse.Namespace, kind: str) -> Iterator[int]:
    """Pyro: its score function with or without baselines, its relaxations, or the twin; validation off."""
    measure.require("pyro")
    import pyro
    import pyro.distributions as dist
    import torch
    from pyro.infer import SVI, Trace_ELBO, TraceGraph_ELBO
    from torch import nn

    pyro.enable_validation(False)
    own = layers()
    baselines = nn.ModuleDict({
        "h1": nn.Sequential(nn.Linear(PIXELS, 100), nn.Tanh(), nn.Linear(100, 1), nn.Flatten(0)),
        "h2": nn.Sequential(nn.Linear(UNITS, 100), nn.Tanh(), nn.Linear(100, 1), nn.Flatten(0)),
    })  # fmt: skip
    temperature = torch.tensor(0.5)

    def unit(logits: Any) -> Any:
        if kind == "reparameterized":
            return dist.Normal(logits, 1.0).to_event(1)
        if kind == "straight-through-gumbel-softmax":
            return dist.RelaxedBernoulliStraightThrough(temperature, logits=logits).to_event(1)
        return dist.Bernoulli(logits=logits).to_event(1)

    def infer(name: str, parent: Any) -> dict[str, Any]:
        if kind != "nvil":
            return {}
        return {"baseline": {"nn_baseline": baselines[name], "nn_baseline_input": parent.detach(),
                             "use_decaying_avg_baseline": True}}  # fmt: skip

    def prior(logits: Any) -> Any:
        return unit(logits) if kind == "reparameterized" else dist.Bernoulli(logits=logits).to_event(1)

    def model(x: Any) -> None:
        pyro.module("layers", own)
        with pyro.plate("batch", len(x)):
            h2 = pyro.sample("h2", prior(own["prior"].bias.expand(len(x), UNITS)))
            h1 = pyro.sample("h1", prior(own["p1"](h2)))
            pyro.sample("x", dist.Bernoulli(logits=own["px"](h1)).to_event(1), obs=x)

    def guide(x: Any) -> None:
        pyro.module("layers", own)
        if kind == "nvil":
            pyro.module("baselines", baselines)
        with pyro.plate("batch", len(x)):
            h1 = pyro.sample("h1", unit(own["q1"](x)), infer=infer("h1", x))
            pyro.sample("h2", unit(own["q2"](h1)), infer=infer("h2", h1))

    loss = TraceGraph_ELBO() if kind in ("reinforce", "nvil") else Trace_ELBO()
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), loss)
    for x in batches(arguments):
        svi.step(x)
        yield BATCH


def storchastic(arguments: argparse.Namespace, kind: str) -> Iterator[int]:
    """Storchastic: its own method for each layer."""
    measure.require("storch")
    import storch
    import torch
    from torch.distributions import Bernoulli, Normal
    from torch.nn.functional import softplus

    own = layers()
    methods = {
        "reparameterized": lambda name: storch.method.Reparameterization(name),
        "reinforce": lambda name: storch.method.ScoreFunction(name, baseline_factory="none"),
        "rloo": lambda name: storch.method.ScoreFunction(name, n_samples=2, baseline_factory="batch_average"),
        "gumbel-softmax": lambda name: storch.method.GumbelSoftmax(name, initial_temperature=0.5, annealing_rate=0.0),
        "straight-through-gumbel-softmax": lambda name: storch.method.GumbelSoftmax(
            name, initial_temperature=0.5, annealing_rate=0.0, straight_through=True
        ),
        "relax": lambda name: storch.method.RELAX(name, in_dim=UNITS),
    }
    first, second = methods[kind]("h1"), methods[kind]("h2")  # of rloo, two draws of h2 for each of two of h1
    optimizer = torch.optim.Adam([*own.parameters(), *first.parameters(), *second.parameters()], 1e-3)
    continuous = kind == "reparameterized"

    def log_prob(value: Any, logits: Any) -> Any:
        if continuous:
            return -0.5 * (value - logits).square().sum(-1)
        return (value * logits - softplus(logits)).sum(-1)

    for x in batches(arguments):
        optimizer.zero_grad()
        data = storch.denote_independent(x, 0, "data")
        logits1 = own["q1"](data)
        h1 = first(Normal(logits1, torch.ones_like(logits1)) if continuous else Bernoulli(logits=logits1)).float()
        logits2 = own["q2"](h1)
        h2 = second(Normal(logits2, torch.ones_like(logits2)) if continuous else Bernoulli(logits=logits2)).float()
        x_logits = own["px"](h1)
        bound = (
            (data * x_logits - softplus(x_logits)).sum(-1)
            + log_prob(h1, own["p1"](h2)) + log_prob(h2, own["prior"].bias)
            - log_prob(h1, logits1) - log_prob(h2, logits2)
        )  # fmt: skip
        storch.add_cost(-bound, "loss")
        storch.backward()
        optimizer.step()
        yield BATCH


def candidates() -> dict[str, measure.Candidate]:
    found: dict[str, measure.Candidate] = {"reparameterized twin": lambda a: ours(a, "reparameterized")}
    for name in names():
        found[titled(name)] = partial(ours, name=name, particles=2 if name in COMPARING else 1)
    for kind in ("reparameterized", "reinforce", "nvil", "straight-through-gumbel-softmax"):
        found[f"pyro, {kind}"] = partial(pyro, kind=kind)
    for kind in ("reparameterized", "reinforce", "rloo", "gumbel-softmax", "straight-through-gumbel-softmax", "relax"):
        found[f"storchastic, {kind}"] = partial(storchastic, kind=kind)
    return found


def variances(arguments: argparse.Namespace, relative: dict[str, float]) -> str:
    """A table: the variance of one gradient of the net after some training, and its product with the time of a step."""
    import itertools

    from ancestral.evaluation.gradients import bound_of, by_name, compare_estimators

    model = net()
    for _ in itertools.islice(steps(arguments, model, "muprop", 1), arguments.before):
        pass
    x = next(batches(arguments))
    rows = []
    for particles in (1, 2):
        problem = bound_of(model, x, particles=particles)
        titles = {name: titled(name) for name in names() if (name in COMPARING) == (particles == 2)}
        made = {title: partial(by_name, problem, name) for name, title in titles.items() if title in relative}
        rows += [
            (one.name, one, relative[one.name])
            for one in compare_estimators(problem, made, arguments.draws, arguments.fit).measured
        ]
    least = min(one.variance * time for _, one, time in rows if one.unbiased and not one.biased)
    lines = [
        f"{arguments.before} steps of training, {arguments.draws} gradients each at one batch of {BATCH}; variance "
        "summed over the parameters of q; processor time of a step in units of the twin's; product in units of the",
        "smallest of an unbiased estimator",
        "",
        "| estimator | promise | bias | variance | time of a step | product |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for title, one, time in sorted(rows, key=lambda row: row[1].variance * row[2]):
        lines.append(
            f"| {title} | {'unbiased' if one.unbiased else 'biased'} | {one.bias:.2g} ± {one.bias_error:.1g} "
            f"| {one.variance:.3g} | {time:.2f} | {one.variance * time / least:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=int, default=300, help="steps of training before variances are measured")
    parser.add_argument("--draws", type=int, default=100, help="gradients of which a variance is taken")
    parser.add_argument("--fit", type=int, default=300, help="steps by which what estimators learn is fitted before")
    measured = measure.main("benchmarks.estimators", candidates(), parser)
    if measured:
        arguments = parser.parse_known_args()[0]
        first = measured[0]
        times = {one.name: measure.ratio(first.cpu, one.cpu) for one in measured}
        print("\n" + variances(arguments, times))

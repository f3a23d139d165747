"""Learning rules: the time of one training step, relative to that of the ELBO of the same network, on MNIST.

    python -m benchmarks.rules --threads 1

A Helmholtz machine of two layers of 200 sigmoid units, linear between them, and a VAE 784-200-200-50 and back, tanh;
batches of 100 bits drawn anew, the fused Adam. Beside each time stands the ratio of the matrix products, which torch
counts in one more step: what a rule costs beyond it is calls, draws and densities.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks import measure
from benchmarks.estimators import BATCH, batches
from benchmarks.loops import PIXELS

UNITS, LATENT, HIDDEN, PARTICLES = 200, 50, (200, 200), 5
FLOWS = {"planar": 10, "iaf": 4}
LEAPFROG, UPDATES = 10, 5
"""Of Monte Carlo EM: leapfrog steps of a transition, and updates of p after it (Kingma and Welling, 2014)."""


def trained(arguments: argparse.Namespace, model: Any) -> Iterator[int]:
    """A model's own loss."""
    import torch

    from ancestral.models import Batch

    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    for x in batches(arguments):
        update(optimizer, model.loss(Batch(x, None))["loss"])
        yield len(x)


def update(optimizer: Any, loss: Any) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def description() -> Any:
    from ancestral.configs import DataDescription

    return DataDescription((PIXELS,), "binary", 2)


def helmholtz(arguments: argparse.Namespace, **settings: Any) -> Iterator[int]:
    from ancestral.configs import HelmholtzConfig
    from ancestral.models import helmholtz_machine

    return trained(arguments, helmholtz_machine(HelmholtzConfig(layers=(UNITS, UNITS), **settings), description()))


def gaussian(posterior: str = "normal") -> Any:
    """p and q of the VAE."""
    from ancestral.configs import VAEConfig
    from ancestral.models import variational_autoencoder

    flows = {"flows": FLOWS[posterior]} if posterior in FLOWS else {}
    config = VAEConfig(latent=LATENT, hidden=HIDDEN, likelihood="bernoulli", posterior=posterior, **flows)  # type: ignore[arg-type]
    return variational_autoencoder(config, description())


def vae(arguments: argparse.Namespace, posterior: str = "normal", **settings: Any) -> Iterator[int]:
    from ancestral import LatentVariableModel

    built = gaussian(posterior)
    return trained(arguments, LatentVariableModel(built.p, built.q, **settings))


def monte_carlo_em(arguments: argparse.Namespace) -> Iterator[int]:
    """One transition of the chains of a batch, and the updates of p from where they then are."""
    import torch

    from ancestral.objectives import monte_carlo_em, posterior_draws

    p = gaussian().p
    optimizer = torch.optim.Adam(p.parameters(), 1e-3, fused=True)
    chains: Any = 1
    for x in batches(arguments):
        chains = posterior_draws(p, {"x": x}, chains, leapfrog=LEAPFROG)
        for _ in range(UPDATES):
            update(optimizer, monte_carlo_em(p, {"x": x}, chains.values).mean())
        yield len(x)


def free_posterior(arguments: argparse.Namespace) -> Iterator[int]:
    """p, and the means and scales of every datapoint of one batch."""
    import torch

    from ancestral import elbo
    from ancestral.models import freed

    built = gaussian()
    x = next(batches(arguments))
    q = freed(built.q, {"x": x})
    optimizer = torch.optim.Adam([*built.p.parameters(), *q.parameters()], 1e-3, fused=True)
    while True:
        update(optimizer, -elbo(built.p, q, {"x": x}, analytic_kl=["z"]).mean())
        yield len(x)


Rule = Callable[[argparse.Namespace], Iterator[int]]
WEIGHTED: dict[str, Any] = {"objective": "reweighted-wake-sleep", "particles": PARTICLES}
BOUND: dict[str, Any] = {"objective": "iwae", "particles": PARTICLES}
FAMILIES: dict[str, dict[str, Rule]] = {
    "Helmholtz machine 200-200-784": {
        "elbo, nvil": partial(helmholtz, objective="elbo", estimator="nvil"),
        "wake-sleep": partial(helmholtz, objective="wake-sleep"),
        "reweighted wake-sleep, K = 5, q wake": partial(helmholtz, **WEIGHTED),
        "reweighted wake-sleep, K = 5, q both": partial(helmholtz, **WEIGHTED, q_phase="both"),
        "iwae, vimco, K = 5": partial(helmholtz, **BOUND, estimator="vimco"),
    },
    "VAE 784-200-200-50": {
        "elbo, estimator B (closed form)": partial(vae, analytic_kl=["z"]),
        "elbo, estimator A": vae,
        "wake-sleep": partial(vae, objective="wake-sleep"),
        "reweighted wake-sleep, K = 5, q wake": partial(vae, **WEIGHTED),
        "reweighted wake-sleep, K = 5, q both": partial(vae, **WEIGHTED, q_phase="both"),
        "iwae, K = 5": partial(vae, **BOUND),
        "iwae, K = 5, sticking the landing": partial(vae, **BOUND, gradient="sticking-the-landing"),
        "iwae, K = 5, doubly reparameterized": partial(vae, **BOUND, gradient="doubly-reparameterized"),
        "Monte Carlo EM, 10 leapfrog steps, 5 updates": monte_carlo_em,
        "elbo, 10 planar flows": partial(vae, posterior="planar"),
        "elbo, 4 inverse autoregressive flows": partial(vae, posterior="iaf"),
        "elbo, free posteriors": free_posterior,
    },
}
RULES = {f"{family}: {name}": rule for family, rules in FAMILIES.items() for name, rule in rules.items()}


def measured_alone(rule: Rule, arguments: argparse.Namespace) -> Iterator[int]:
    from ancestral.training.optimization import keep_freed_memory

    keep_freed_memory()
    return rule(arguments)


def multiplications(rule: Rule, arguments: argparse.Namespace) -> int:
    """Of the matrix products of one step."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    def by_onednn(x: Any, weight: Any, *rest: Any, **other: Any) -> int:
        return 2 * math.prod(x) * int(weight[0])  # shapes

    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.mkldnn._linear_pointwise: by_onednn})
    steps = rule(arguments)
    next(steps)
    with counter:
        next(steps)
    return int(counter.get_total_flops()) // 2


def table(family: str, measured: list[measure.Measured], arguments: argparse.Namespace) -> str:
    """The time of each step relative to the first, and the ratio that products alone would give."""
    first, least = None, 0
    lines = [
        f"{family}, batches of {BATCH}; time of a step relative to the first's",
        "",
        "| rule | processor time | by the clock | matrix products |",
        "| --- | ---: | ---: | ---: |",
    ]
    for one in measured:
        name = one.name.removeprefix(f"{family}: ")
        if name == one.name:
            continue
        count = multiplications(RULES[one.name], arguments)
        if first is None:
            first, least = one, count
        lines.append(
            f"| {name} | {measure.ratio(first.cpu, one.cpu):.2f} | {measure.ratio(first.wall, one.wall):.2f} "
            f"| {count / least:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measured = measure.main("benchmarks.rules", {n: partial(measured_alone, r) for n, r in RULES.items()}, parser)
    if measured:
        for family in FAMILIES:
            if any(one.name.startswith(f"{family}: ") for one in measured):
                print("\n" + table(family, measured, parser.parse_args()))

"""Likelihoods of a VAE 784-200-200-50 and back, tanh (untrained), on MNIST: L_5000, and annealed importance sampling.

    python -m benchmarks.likelihoods --threads 1

L_5000 in draws (an image and a particle), AIS in gradients (of one chain: log p(x, z) and its slope in z), each against
the matrix products alone. Ours are ``ancestral.evaluation.evaluate`` and ``annealed_importance_sampling`` as they
stand, with their seeds and step sizes.

NumPyro has no AIS with accepted transitions, and Pyro none at all. What is nearest stands in for them: Pyro's and
NumPyro's HMC kernels at one temperature, all chains as one; and NumPyro's AutoDAIS, whose chains are not corrected.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks import measure
from benchmarks.iwae import HIDDEN, LATENT, networks
from benchmarks.loops import PIXELS, images, products

IMAGES, PARTICLES, CHUNK = 100, 5000, 50
"""A batch by hand, and how many of the particles it takes at once."""
CHAINS, TEMPERATURES, LEAPFROG = 16, 1000, 10
ANNEALED = 20
"""Images of one pass of AIS."""
DECODER = [(LATENT, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, PIXELS)]
DECODED = [(IMAGES * CHUNK // 2, *layer, "y") for layer in DECODER]
SLOPES = [(ANNEALED * CHAINS, *layer, "yx") for layer in DECODER]


def bits() -> Any:
    """Images, ``[60000, 784]``."""
    return (images() > 127).astype(np.float32)


def model() -> Any:
    """Ours."""
    import torch

    from ancestral.configs import DataDescription, VAEConfig
    from ancestral.models import variational_autoencoder
    from ancestral.training.optimization import keep_freed_memory

    keep_freed_memory()
    torch.manual_seed(0)
    config = VAEConfig(latent=LATENT, hidden=(HIDDEN, HIDDEN), likelihood="bernoulli")
    return variational_autoencoder(config, DataDescription((1, 28, 28), "binary", 2))


def decoder(tuned: bool) -> Any:
    """The network by hand, without gradients of its weights."""
    from ancestral.networks import Linear
    from ancestral.training.optimization import keep_freed_memory

    if tuned:
        keep_freed_memory()
    made = networks(Linear if tuned else None)
    for network in made:
        network.requires_grad_(False)
    return made


# ---- the importance-weighted bound


def ours(arguments: argparse.Namespace, particles: int = PARTICLES, compiled: bool = False) -> Iterator[int]:
    """``evaluate``, a row after the other; the first of them shows it what a pass may hold, or compiles it."""
    import torch

    from ancestral.configs import DataConfig
    from ancestral.data import load
    from ancestral.evaluation import evaluate

    torch.set_num_threads(arguments.threads)
    data, built = load("mnist", DataConfig(binarization="threshold")), model()

    def rows(tell: Callable[[int], None]) -> None:
        before = 0

        def progress(done: int, total: int, mean: float) -> None:
            nonlocal before
            tell((done - before) * particles)
            before = done

        evaluate(built, data, particles, progress=progress, compile=compiled)

    return measure.in_turns(rows)


def by_hand(arguments: argparse.Namespace, tuned: bool = False) -> Iterator[int]:
    """A loop over batches of images and parts of the particles."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(arguments.threads)
    encode, decode = decoder(tuned)
    data = torch.from_numpy(bits())
    with torch.no_grad():
        for x in data.split(IMAGES):
            mean, log_scale = encode(x).chunk(2, -1)
            weights = []
            for _ in range(PARTICLES // CHUNK):
                noise = torch.randn(CHUNK, *mean.shape)
                z = mean + log_scale.exp() * noise
                logits = decode(z)
                losses = F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none")
                weights.append(-losses.sum(-1) + (log_scale - 0.5 * z.square() + 0.5 * noise.square()).sum(-1))
                yield CHUNK * len(x)
            torch.cat(weights).logsumexp(0).sum().item()


def pyro(arguments: argparse.Namespace) -> Iterator[int]:
    """Pyro: all the particles of one image at once."""
    measure.require("pyro")
    import pyro
    import torch
    from pyro.infer.importance import vectorized_importance_weights

    torch.set_num_threads(arguments.threads)
    pyro.enable_validation(False)
    generate, guide = in_pyro()
    with torch.no_grad():
        for x in torch.from_numpy(bits()).split(1):
            log_weights, *_ = vectorized_importance_weights(
                generate, guide, x, num_samples=PARTICLES, max_plate_nesting=1
            )
            log_weights.logsumexp(0).item()
            yield PARTICLES


def in_pyro() -> tuple[Any, Any]:
    """p and q."""
    import pyro
    import pyro.distributions as dist
    import torch

    encode, decode = networks()

    def generate(x: Any) -> None:
        pyro.module("decoder", decode)
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(LATENT), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decode(z)).to_event(1), obs=x)

    def guide(x: Any) -> None:
        pyro.module("encoder", encode)
        mean, log_scale = encode(x).chunk(2, -1)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(mean, log_scale.exp()).to_event(1))

    return generate, guide


def numpyro(arguments: argparse.Namespace) -> Iterator[int]:
    """NumPyro: RenyiELBO with alpha = 0, which is this bound; image after image in one compiled program."""
    measure.require("numpyro")
    import jax
    from numpyro.infer import RenyiELBO

    generate, guide = in_numpyro()
    bound, images_at_once = RenyiELBO(alpha=0, num_particles=PARTICLES), 5

    @jax.jit
    def evaluate(key: Any, x: Any) -> Any:
        return jax.lax.map(lambda one: -bound.loss(one[0], {}, generate, guide, one[1][None]), (key, x))

    data = bits()
    for i in range(0, len(data), images_at_once):
        x = data[i : i + images_at_once]
        evaluate(jax.random.split(jax.random.PRNGKey(i), len(x)), x).block_until_ready()
        yield len(x) * PARTICLES


def in_numpyro() -> tuple[Any, Any]:
    """p and q."""
    import jax
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    keys = iter(jax.random.split(jax.random.PRNGKey(0), 6))

    def layers(*sizes: int) -> Any:
        return [
            (jax.random.uniform(next(keys), pair, minval=-1, maxval=1) / pair[0] ** 0.5, jnp.zeros(pair[1]))
            for pair in itertools.pairwise(sizes)
        ]

    encoder, weights = layers(PIXELS, HIDDEN, HIDDEN, 2 * LATENT), layers(LATENT, HIDDEN, HIDDEN, PIXELS)

    def network(layers: Any, x: Any) -> Any:
        for w, b in layers[:-1]:
            x = jnp.tanh(x @ w + b)
        w, b = layers[-1]
        return x @ w + b

    def generate(x: Any) -> None:
        with numpyro.plate("batch", x.shape[0]):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(LATENT), 1).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=network(weights, z)).to_event(1), obs=x)

    def guide(x: Any) -> None:
        mean, log_scale = jnp.split(network(encoder, x), 2, -1)
        with numpyro.plate("batch", x.shape[0]):
            numpyro.sample("z", dist.Normal(mean, jnp.exp(log_scale)).to_event(1))

    return generate, guide


# ---- annealed importance sampling


def ais(arguments: argparse.Namespace, chains: int = CHAINS, free: float = 0.0) -> Iterator[int]:
    """``annealed_importance_sampling`` in a thread, held between turns where it runs the model.

    ``free``: bytes that the memory is said to have left.
    """
    import torch
    from torch import nn

    from ancestral.evaluation import annealed_importance_sampling
    from ancestral.objectives import memory

    torch.set_num_threads(arguments.threads)
    if free:
        memory.free_memory = lambda device: free
        memory.FAST = int(free)

    class Paced(nn.Module):
        """p, which hands over how many gradients were computed, and waits to be told to go on."""

        def __init__(self, p: nn.Module, tell: Callable[[int], None]) -> None:
            super().__init__()
            self.p, self.tell = p, tell

        def forward(self, trace: Any) -> Any:
            if torch.is_grad_enabled():
                self.tell(trace.shape[0] * trace.shape[1])
            return self.p(trace)

    x = torch.from_numpy(bits()[:ANNEALED]).view(-1, 1, 28, 28)

    def anneal(tell: Callable[[int], None]) -> None:
        annealed_importance_sampling(Paced(model().p, tell), {"x": x}, chains, 100 * TEMPERATURES, LEAPFROG)

    return measure.in_turns(anneal)


def ais_by_hand(arguments: argparse.Namespace, tuned: bool = False) -> Iterator[int]:
    """The loop one would write, with one step size; gradients are computed once at each position."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(arguments.threads)
    _, decode = decoder(tuned)
    x = torch.from_numpy(bits()[:ANNEALED])
    rows, step = CHAINS * ANNEALED, 0.05

    def parts(z: Any, inverse: float) -> tuple[Any, Any, Any]:
        z = z.detach().requires_grad_()
        logits = decode(z)
        likelihood = -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
        density = inverse * likelihood - 0.5 * z.square().sum(-1)
        (slope,) = torch.autograd.grad(density.sum(), z)
        return density.detach(), likelihood.detach(), slope

    while True:
        z = torch.randn(CHAINS, ANNEALED, LATENT)
        total = torch.zeros(CHAINS, ANNEALED)
        for t in range(1, TEMPERATURES):
            density, likelihood, slope = parts(z, t / TEMPERATURES)
            yield rows
            total += likelihood / TEMPERATURES
            momentum = torch.randn_like(z)
            place, kinetic = z, 0.5 * momentum.square().sum(-1)
            before = density
            for _ in range(LEAPFROG):
                momentum = momentum + step / 2 * slope
                place = place + step * momentum
                density, _, slope = parts(place, t / TEMPERATURES)
                momentum = momentum + step / 2 * slope
                yield rows
            accepted = torch.rand_like(density).log() < density - before + kinetic - 0.5 * momentum.square().sum(-1)
            z = torch.where(accepted[..., None], place, z)


def pyro_hmc(arguments: argparse.Namespace) -> Iterator[int]:
    """Pyro's HMC kernel at one temperature."""
    measure.require("pyro")
    import pyro
    import torch
    from pyro.infer import HMC

    torch.set_num_threads(arguments.threads)
    pyro.enable_validation(False)
    generate, _ = in_pyro()
    x = torch.from_numpy(bits()[:ANNEALED]).repeat(CHAINS, 1)
    kernel = HMC(generate, step_size=0.01, num_steps=LEAPFROG, adapt_step_size=False, adapt_mass_matrix=False)
    kernel.setup(0, x)
    place = kernel.initial_params
    while True:
        place = kernel.sample(place)
        yield LEAPFROG * len(x)


def numpyro_hmc(arguments: argparse.Namespace) -> Iterator[int]:
    """NumPyro's HMC kernel at one temperature, compiled."""
    measure.require("numpyro")
    import jax
    from numpyro.infer import HMC

    generate, _ = in_numpyro()
    x = np.tile(bits()[:ANNEALED], (CHAINS, 1))
    kernel = HMC(generate, step_size=0.01, num_steps=LEAPFROG, adapt_step_size=False, adapt_mass_matrix=False)
    state = kernel.init(jax.random.PRNGKey(0), 0, None, (x,), {})
    step = jax.jit(lambda state: kernel.sample(state, (x,), {}))
    while True:
        state = step(state)
        state.potential_energy.block_until_ready()
        yield LEAPFROG * len(x)


def numpyro_dais(arguments: argparse.Namespace) -> Iterator[int]:
    """The bound of NumPyro's AutoDAIS: one uncorrected leapfrog step at each temperature, compiled."""
    measure.require("numpyro")
    import jax
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.infer.autoguide import AutoDAIS
    from numpyro.optim import Adam

    generate, _ = in_numpyro()
    x, steps = np.tile(bits()[:ANNEALED], (CHAINS, 1)), 4 * LEAPFROG
    svi = SVI(generate, AutoDAIS(generate, K=steps), Adam(1e-3), Trace_ELBO())
    state = svi.init(jax.random.PRNGKey(0), x)
    evaluate = jax.jit(svi.evaluate)
    while True:
        evaluate(state, x).block_until_ready()
        yield steps * len(x)


FLOOR = "matrix products"
BOUND: dict[str, measure.Candidate] = {
    f"L: {FLOOR}": lambda a: products(a, DECODED, DECODED[0][0]),
    "L: by hand": by_hand,
    "L: by hand, tuned": partial(by_hand, tuned=True),
    "L: ours": ours,
    "L: ours, compiled": partial(ours, compiled=True),
    "L: ours, 50,000 particles": partial(ours, particles=50_000),
    "L: pyro, vectorized_importance_weights": pyro,
    "L: numpyro, RenyiELBO": numpyro,
}
ANNEALING: dict[str, measure.Candidate] = {
    f"AIS: {FLOOR}": lambda a: products(a, SLOPES, SLOPES[0][0]),
    "AIS: by hand": ais_by_hand,
    "AIS: by hand, tuned": partial(ais_by_hand, tuned=True),
    "AIS: ours": ais,
    "AIS: ours, 4,000 chains": partial(ais, chains=4000),
    "AIS: ours, 4,000 chains, 400 MB free": partial(ais, chains=4000, free=4e8),
    "AIS: pyro, HMC": pyro_hmc,
    "AIS: numpyro, HMC": numpyro_hmc,
    "AIS: numpyro, AutoDAIS": numpyro_dais,
}


def table(measured: list[measure.Measured], kind: str, unit: str, whole: Callable[[float], str]) -> str:
    """Each as a share of the floor in the same round; ``whole``: the time of the whole from that of one."""
    group = [one for one in measured if one.name.startswith(kind)]
    lines = [
        f"| candidate | {unit} | share of the products | by the clock | peak MiB |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for one in group:
        lines.append(
            f"| {one.name.removeprefix(kind)} | {whole(1 / statistics.median(one.cpu))} "
            f"| {measure.ratio(one.cpu, group[0].cpu):.2f} | {measure.ratio(one.wall, group[0].wall):.2f} "
            f"| {one.memory:,.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measured = measure.main("benchmarks.likelihoods", BOUND | ANNEALING, parser)
    if measured:
        minutes = "processor minutes for 10,000 images"
        print("\n" + table(measured, "L: ", minutes, lambda one: f"{one * 10_000 * PARTICLES / 60:.1f}"))
        print("\n" + table(measured, "AIS: ", "gradients/CPU-s", lambda one: f"{1 / one:,.0f}"))

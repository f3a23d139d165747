"""The importance-weighted bound, k = 50, 784-200-200-50 and back, tanh, batches of 20 (Burda et al., 2016), on MNIST.

    python -m benchmarks.iwae --threads 1

The same candidates as in ``benchmarks.vae``; bits are drawn anew for every batch.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import measure
from benchmarks.loops import PIXELS, images, ours, products

BATCH, HIDDEN, LATENT, PARTICLES = 20, 200, 50, 50
ROWS = BATCH * PARTICLES
LAYERS = [(BATCH, PIXELS, HIDDEN, "yw"), (BATCH, HIDDEN, HIDDEN, "ywx"), (BATCH, HIDDEN, 2 * LATENT, "ywx"),
          (ROWS, LATENT, HIDDEN, "ywx"), (ROWS, HIDDEN, HIDDEN, "ywx"), (ROWS, HIDDEN, PIXELS, "ywx")]  # fmt: skip


def networks(linear: Any = None) -> tuple[Any, Any]:
    from torch import nn

    linear = linear or nn.Linear

    def network(*sizes: int) -> Any:
        layers: list[Any] = []
        for inward, outward in itertools.pairwise(sizes):
            layers += [linear(inward, outward), nn.Tanh()]
        return nn.Sequential(*layers[:-1])

    return network(PIXELS, HIDDEN, HIDDEN, 2 * LATENT), network(LATENT, HIDDEN, HIDDEN, PIXELS)


def by_hand(
    arguments: argparse.Namespace, tuned: bool = False, layer: bool = False, bf16: bool = False
) -> Iterator[int]:
    """The loop one would write without a library; ``tuned``: fused Adam, kept memory, bits from random bytes."""
    import torch
    import torch.nn.functional as F

    from ancestral.networks import Linear
    from ancestral.training.optimization import keep_freed_memory

    torch.set_num_threads(arguments.threads)
    if tuned:
        keep_freed_memory()
    levels = torch.from_numpy(images())
    data = levels if tuned else levels.float() / 255
    encoder, decoder = networks(Linear if layer else None)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3, fused=tuned)
    random = np.random.default_rng(0)
    while True:
        for index in torch.randperm(len(data)).split(BATCH):
            x = data[index]
            if tuned:
                noise = random.integers(0, 2**64, x.numel() // 8, dtype=np.uint64).view(np.uint8)
                x = (torch.from_numpy(noise).view_as(x) < x).float()
            else:
                x = (torch.rand_like(x) < x).float()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                mean, log_scale = encoder(x).float().chunk(2, -1)
                noise_of_z = torch.randn(PARTICLES, *mean.shape)
                z = mean + torch.exp(log_scale) * noise_of_z
                logits = decoder(z).float()
            log_likelihood = -F.binary_cross_entropy_with_logits(
                logits, x.expand_as(logits), reduction="none"
            ).sum(-1)
            log_ratio = (log_scale - 0.5 * z.square() + 0.5 * noise_of_z.square()).sum(-1)  # log p(z) - log q(z | x)
            loss = -(torch.logsumexp(log_likelihood + log_ratio, 0) - math.log(PARTICLES)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield len(x)


def numpyro(arguments: argparse.Namespace) -> Iterator[int]:
    """NumPyro: RenyiELBO with alpha = 0, which is this bound, the step compiled."""
    measure.require("numpyro")
    import jax
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import SVI, RenyiELBO

    data = jnp.asarray(images().astype(np.float32) / 255)
    keys = iter(jax.random.split(jax.random.PRNGKey(0), 6))

    def layers(*sizes: int) -> Any:
        return [
            (jax.random.uniform(next(keys), pair, minval=-1, maxval=1) / pair[0] ** 0.5, jnp.zeros(pair[1]))
            for pair in itertools.pairwise(sizes)
        ]

    start = {"encoder": layers(PIXELS, HIDDEN, HIDDEN, 2 * LATENT), "decoder": layers(LATENT, HIDDEN, HIDDEN, PIXELS)}

    def network(weights: Any, x: Any) -> Any:
        for w, b in weights[:-1]:
            x = jnp.tanh(x @ w + b)
        w, b = weights[-1]
        return x @ w + b

    def model(x: Any) -> None:
        weights = numpyro.param("decoder", start["decoder"])
        with numpyro.plate("batch", x.shape[0]):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(LATENT), 1).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=network(weights, z)).to_event(1), obs=x)

    def guide(x: Any) -> None:
        weights = numpyro.param("encoder", start["encoder"])
        mean, log_scale = jnp.split(network(weights, x), 2, -1)
        with numpyro.plate("batch", x.shape[0]):
            numpyro.sample("z", dist.Normal(mean, jnp.exp(log_scale)).to_event(1))

    svi = SVI(model, guide, numpyro.optim.Adam(1e-3), RenyiELBO(alpha=0, num_particles=PARTICLES))
    state = svi.init(jax.random.PRNGKey(1), data[:BATCH])

    @jax.jit
    def step(state: Any, index: Any) -> Any:
        x = jax.random.bernoulli(state.rng_key, data[index]).astype(jnp.float32)
        return svi.update(state, x)

    random = np.random.default_rng(0)
    while True:
        order = random.permutation(len(data))
        for i in range(0, len(data), BATCH):
            state, loss = step(state, order[i : i + BATCH])
            loss.block_until_ready()
            yield BATCH


NETWORK: dict[str, Any] = {
    "latent": LATENT, "hidden": (HIDDEN, HIDDEN), "activation": "tanh", "bound": "iwae", "particles": PARTICLES,
    "binarization": "dynamic",
}  # fmt: skip

CANDIDATES: dict[str, measure.Candidate] = {
    "by hand, default Adam": by_hand,
    "by hand, tuned": lambda a: by_hand(a, tuned=True),
    "by hand, tuned, our affine layer": lambda a: by_hand(a, tuned=True, layer=True),
    "ours": lambda a: ours(a, "vae", BATCH, **NETWORK),
    "by hand, tuned, bfloat16": lambda a: by_hand(a, tuned=True, bf16=True),
    "ours, bfloat16": lambda a: ours(a, "vae", BATCH, precision="bfloat16", **NETWORK),
    "matrix products": lambda a: products(a, LAYERS, BATCH),
    "numpyro": numpyro,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measure.main("benchmarks.iwae", CANDIDATES, parser)

"""A variational autoencoder, 784-400-20, batches of 128 (MNIST): our whole loop beside hand-written loops and peers.

    python -m benchmarks.vae --threads 1
    python -m benchmarks.vae --binarization dynamic

"ours" is ``ancestral.train``: data, metrics, pictures, checkpoints, all. The hand-written loops hold the same
arithmetic and nothing else. ``matrix products`` is the floor: the eleven products of a step, no more.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import measure
from benchmarks.loops import PIXELS, images, ours, products

BATCH, HIDDEN, LATENT = 128, 400, 20
LAYERS = [(BATCH, PIXELS, HIDDEN, "yw"), (BATCH, HIDDEN, 2 * LATENT, "ywx"), (BATCH, LATENT, HIDDEN, "ywx"),
          (BATCH, HIDDEN, PIXELS, "ywx")]  # fmt: skip


def prepared(arguments: argparse.Namespace) -> Any:
    """The training images as a float tensor: bits, or grey levels for binarization in each batch."""
    import torch

    levels = torch.from_numpy(images()).float() / 255
    return (levels > 0.5).float() if arguments.binarization == "threshold" else levels


def networks(linear: Any = None) -> tuple[Any, Any]:
    from torch import nn

    linear = linear or nn.Linear
    encoder = nn.Sequential(linear(PIXELS, HIDDEN), nn.ReLU(), linear(HIDDEN, 2 * LATENT))
    decoder = nn.Sequential(linear(LATENT, HIDDEN), nn.ReLU(), linear(HIDDEN, PIXELS))
    return encoder, decoder


def by_hand(
    arguments: argparse.Namespace,
    fused: bool = False,
    keep_memory: bool = False,
    bits: bool = False,
    layer: bool = False,
    bf16: bool = False,
) -> Iterator[int]:
    """The loop one would write without a library. Each argument is one trick; ``layer`` is our affine layer."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(arguments.threads)
    if keep_memory:
        from ancestral.training.optimization import keep_freed_memory

        keep_freed_memory()
    dynamic = arguments.binarization == "dynamic"
    data = torch.from_numpy(images()) if bits else prepared(arguments)
    if bits and not dynamic:
        data = (data > 127).to(torch.uint8)
    from ancestral.networks import Linear

    encoder, decoder = networks(Linear if layer else None)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-3, fused=fused)
    random = np.random.default_rng(0)
    while True:
        for index in torch.randperm(len(data)).split(BATCH):
            x = data[index]
            if dynamic and bits:
                noise = random.integers(0, 2**64, x.numel() // 8, dtype=np.uint64).view(np.uint8)
                x = torch.from_numpy(noise).view_as(x) < x
            elif dynamic:
                x = torch.rand_like(x) < x
            x = x.float()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                mean, log_variance = encoder(x).float().chunk(2, -1)
                z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
                logits = decoder(z).float()
            reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
            divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
            loss = (reconstruction + divergence) / len(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield len(x)


def numpyro(arguments: argparse.Namespace) -> Iterator[int]:
    """NumPyro: stochastic variational inference, the step compiled."""
    measure.require("numpyro")
    import jax
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import SVI, Trace_ELBO

    data = jnp.asarray(prepared(arguments).numpy())
    keys = jax.random.split(jax.random.PRNGKey(0), 4)

    def layer(key: Any, inward: int, outward: int) -> Any:
        return jax.random.uniform(key, (inward, outward), minval=-1, maxval=1) / inward**0.5, jnp.zeros(outward)

    start = {
        "encoder": [layer(keys[0], PIXELS, HIDDEN), layer(keys[1], HIDDEN, 2 * LATENT)],
        "decoder": [layer(keys[2], LATENT, HIDDEN), layer(keys[3], HIDDEN, PIXELS)],
    }

    def network(weights: Any, x: Any) -> Any:
        (w1, b1), (w2, b2) = weights
        return jax.nn.relu(x @ w1 + b1) @ w2 + b2

    def model(x: Any) -> None:
        weights = numpyro.param("decoder", start["decoder"])
        with numpyro.plate("batch", x.shape[0]):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(LATENT), 1).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=network(weights, z)).to_event(1), obs=x)

    def guide(x: Any) -> None:
        weights = numpyro.param("encoder", start["encoder"])
        mean, log_variance = jnp.split(network(weights, x), 2, -1)
        with numpyro.plate("batch", x.shape[0]):
            numpyro.sample("z", dist.Normal(mean, jnp.exp(0.5 * log_variance)).to_event(1))

    svi = SVI(model, guide, numpyro.optim.Adam(1e-3), Trace_ELBO())
    state = svi.init(jax.random.PRNGKey(1), data[:BATCH])
    dynamic = arguments.binarization == "dynamic"

    @jax.jit
    def step(state: Any, index: Any) -> Any:
        x = data[index]
        if dynamic:
            x = jax.random.bernoulli(state.rng_key, x).astype(jnp.float32)
        return svi.update(state, x)

    random = np.random.default_rng(0)
    while True:
        order = random.permutation(len(data))
        for i in range(0, len(data) - BATCH + 1, BATCH):
            state, loss = step(state, order[i : i + BATCH])
            loss.block_until_ready()
            yield BATCH


def pyro(arguments: argparse.Namespace) -> Iterator[int]:
    """Pyro: stochastic variational inference with the closed-form divergence, validation off."""
    measure.require("pyro")
    import pyro
    import pyro.distributions as dist
    import torch
    from pyro.infer import SVI, TraceMeanField_ELBO

    torch.set_num_threads(arguments.threads)
    pyro.enable_validation(False)
    data, (encoder, decoder) = prepared(arguments), networks()

    def model(x: Any) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(LATENT), 1).expand((LATENT,)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x: Any) -> None:
        pyro.module("encoder", encoder)
        mean, log_variance = encoder(x).chunk(2, -1)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(mean, torch.exp(0.5 * log_variance)).to_event(1))

    svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), TraceMeanField_ELBO())
    while True:
        for index in torch.randperm(len(data)).split(BATCH):
            x = data[index]
            svi.step(torch.bernoulli(x) if arguments.binarization == "dynamic" else x)
            yield len(x)


def pixyz(arguments: argparse.Namespace) -> Iterator[int]:
    """Pixyz: its VAE model class."""
    measure.require("pixyz")
    import torch
    from pixyz import distributions
    from pixyz.losses import KullbackLeibler
    from pixyz.models import VAE

    torch.set_num_threads(arguments.threads)
    data, (encoder, decoder) = prepared(arguments), networks()

    class Inference(distributions.Normal):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(cond_var=["x"], var=["z"], name="q")
            self.network = encoder

        def forward(self, x: Any) -> dict[str, Any]:
            mean, log_variance = self.network(x).chunk(2, -1)
            return {"loc": mean, "scale": torch.exp(0.5 * log_variance)}

    class Generator(distributions.Bernoulli):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(cond_var=["z"], var=["x"], name="p")
            self.network = decoder

        def forward(self, z: Any) -> dict[str, Any]:
            return {"probs": torch.sigmoid(self.network(z))}

    p, q = Generator(), Inference()
    prior = distributions.Normal(
        loc=torch.tensor(0.0), scale=torch.tensor(1.0), var=["z"], features_shape=[LATENT], name="prior"
    )
    model = VAE(q, p, regularizer=KullbackLeibler(q, prior), optimizer=torch.optim.Adam, optimizer_params={"lr": 1e-3})
    while True:
        for index in torch.randperm(len(data)).split(BATCH):
            x = data[index]
            model.train({"x": torch.bernoulli(x) if arguments.binarization == "dynamic" else x})
            yield len(x)


def pythae(arguments: argparse.Namespace) -> Iterator[int]:
    """Pythae: its model, with the plainest loop around it (its own trainer adds to that)."""
    measure.require("pythae")
    import torch
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    torch.set_num_threads(arguments.threads)
    data, (encoder, decoder) = prepared(arguments), networks()

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = encoder

        def forward(self, x: Any) -> Any:
            mean, log_variance = self.network(x).chunk(2, -1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = decoder

        def forward(self, z: Any) -> Any:
            return ModelOutput(reconstruction=torch.sigmoid(self.network(z)))

    config = VAEConfig(input_dim=(PIXELS,), latent_dim=LATENT, reconstruction_loss="bce")
    model = VAE(config, Encoder(), Decoder())
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    while True:
        for index in torch.randperm(len(data)).split(BATCH):
            x = data[index]
            output = model({"data": torch.bernoulli(x) if arguments.binarization == "dynamic" else x})
            optimizer.zero_grad()
            output.loss.backward()
            optimizer.step()
            yield len(x)


TUNED = {"fused": True, "keep_memory": True, "bits": True}
NETWORK: dict[str, Any] = {"latent": LATENT, "hidden": (HIDDEN,), "activation": "relu", "before": 2500}

CANDIDATES: dict[str, measure.Candidate] = {
    "by hand, default Adam": by_hand,
    "... fused Adam": lambda a: by_hand(a, fused=True),
    "... kept memory": lambda a: by_hand(a, keep_memory=True),
    "... bytes": lambda a: by_hand(a, bits=True),
    "... our affine layer": lambda a: by_hand(a, layer=True),
    "by hand, tuned": lambda a: by_hand(a, **TUNED),
    "by hand, tuned, our affine layer": lambda a: by_hand(a, **TUNED, layer=True),
    "ours": lambda a: ours(a, "vae", BATCH, binarization=a.binarization, **NETWORK),
    "ours, compiled": lambda a: ours(a, "vae", BATCH, binarization=a.binarization, compile=True, **NETWORK),
    "by hand, tuned, bfloat16": lambda a: by_hand(a, **TUNED, bf16=True),
    "ours, bfloat16": lambda a: ours(a, "vae", BATCH, binarization=a.binarization, precision="bfloat16", **NETWORK),
    "ours, compiled, bfloat16": lambda a: ours(
        a, "vae", BATCH, binarization=a.binarization, compile=True, precision="bfloat16", **NETWORK
    ),
    "matrix products": lambda a: products(a, LAYERS, BATCH),
    "numpyro": numpyro,
    "pyro": pyro,
    "pixyz": pixyz,
    "pythae": pythae,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binarization", choices=("threshold", "dynamic"), default="threshold")
    measure.main("benchmarks.vae", CANDIDATES, parser)

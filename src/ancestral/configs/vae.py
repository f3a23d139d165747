"""The variational autoencoder's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ancestral.configs.bound import PathSettings
from ancestral.configs.likelihood import LikelihoodSettings
from ancestral.configs.training import TrainingConfig
from ancestral.errors import AncestralError, nearest


@dataclass(frozen=True)
class VAEConfig(PathSettings, LikelihoodSettings):
    """Variational autoencoder: p(x, z) = p(z) p(x | z), q(z | x) (Kingma and Welling, 2014)."""

    validates: ClassVar[bool] = True  # has a loss that means something on held-out rows

    latent: int = 50
    """Dimensions of the latent variable z."""
    network: Literal["mlp", "conv"] = "mlp"
    """Multilayer perceptrons, or convolutions (images only)."""
    hidden: tuple[int, ...] = (200, 200)
    """Units of each hidden layer of the encoder, and of the decoder in reverse (mlp)."""
    channels: tuple[int, ...] = (32, 64)
    """Channels of each convolution of the encoder, and of the decoder in reverse (conv)."""
    activation: Literal["tanh", "relu", "leaky-relu", "softplus", "silu"] = "tanh"
    """Between the layers."""
    particles: int = 1
    """Draws of z per datapoint."""
    beta: float = 1.0
    """Weight of the divergence KL(q(z | x) || p(z)) (elbo)."""
    posterior: Literal["normal", "planar", "radial", "iaf"] = "normal"
    """q(z | x): a diagonal Gaussian, or one moved by normalizing flows: planar or radial ones (Rezende and Mohamed,
    2015), or inverse autoregressive ones (Kingma et al., 2016)."""
    flows: int = 4
    """How many flows (planar, radial, iaf)."""
    flow_hidden: int = 200
    """Units of the hidden layer of each flow (iaf)."""
    free_bits: float = 0.0
    """Nats of divergence per latent dimension that cost nothing (elbo; Kingma et al., 2016, eq. 15)."""

    def __post_init__(self) -> None:
        sizes = {
            "latent": (self.latent,),
            "hidden": self.hidden,
            "channels": self.channels,
            "particles": (self.particles,),
            "flows": (self.flows,),
            "flow_hidden": (self.flow_hidden,),
        }
        for name, values in sizes.items():
            if any(v < 1 for v in values):
                raise AncestralError(f"{name} is {getattr(self, name)}, but sizes are 1 or more.")
        for name in ("beta", "free_bits"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise AncestralError(f"{name} is {getattr(self, name)}, but it must be 0 or more.")
        for field, options in (
            ("network", ("mlp", "conv")),
            ("posterior", ("normal", "planar", "radial", "iaf")),
            ("activation", ("tanh", "relu", "leaky-relu", "softplus", "silu")),
        ):
            if getattr(self, field) not in options:
                value = str(getattr(self, field))
                raise AncestralError(f"there is no {field} {value!r}. " + nearest(value, options))
        self.check_bound()
        self.check_likelihood()
        if self.bound == "iwae":
            if self.free_bits:
                raise AncestralError("free_bits has no effect with the iwae bound: use --bound elbo.")
            if self.beta != 1:
                raise AncestralError("beta has no effect with the iwae bound: use --bound elbo.")
        if self.beta == 0:
            for name in ("kl_warmup", "free_bits"):
                if getattr(self, name):
                    raise AncestralError(
                        f"{name} has no effect where beta is 0 and the divergence costs nothing: give a beta above 0, "
                        f"or leave {name} out."
                    )
        if not (self.channels if self.network == "conv" else self.hidden) and self.activation != "tanh":
            raise AncestralError("activation has no effect without hidden layers: leave it out, or give some.")
        if self.posterior == "normal" and self.flows != VAEConfig.flows:
            raise AncestralError("flows has no effect with a normal posterior: use --posterior planar, radial or iaf.")
        if self.posterior != "iaf" and self.flow_hidden != VAEConfig.flow_hidden:
            raise AncestralError("flow_hidden has no effect but with --posterior iaf: leave it out.")
        if self.posterior != "normal" and self.gradient != "total":
            raise AncestralError(
                f"gradient is {self.gradient}, which takes the slope of log q in its value, and the density of the "
                f"{self.posterior} posterior is known at its draws alone: leave it out, or use --posterior normal."
            )
        if self.gradient != "total" and self.free_bits:
            raise AncestralError(
                f"free_bits needs the divergence in closed form, which gradient {self.gradient} does without: leave "
                "one of them out."
            )
        if self.posterior != "normal" and self.free_bits:
            raise AncestralError(
                f"free_bits needs the divergence of each dimension, which is not known in closed form for the "
                f"{self.posterior} posterior: leave free_bits out, or use --posterior normal."
            )
        if self.network == "mlp" and self.channels != (32, 64):
            raise AncestralError("channels has no effect with mlp networks: use --network conv, or --hidden.")
        if self.network == "conv" and self.hidden != (200, 200):
            raise AncestralError("hidden has no effect with conv networks: use --channels.")


TRAINING = TrainingConfig(epsilon=1e-4)

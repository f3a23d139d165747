"""The settings of variational autoencoders with several layers of Gaussian latent variables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ancestral.configs.bound import PathSettings
from ancestral.configs.likelihood import LikelihoodSettings
from ancestral.configs.training import TrainingConfig
from ancestral.errors import AncestralError, nearest


@dataclass(frozen=True)
class HierarchySettings(PathSettings, LikelihoodSettings):
    """Layers of latent variables and the networks between them."""

    validates: ClassVar[bool] = True

    layers: tuple[int, ...] = (100, 50)
    """Dimensions of each latent layer; the first is next to the data."""
    hidden: tuple[int, ...] = (200, 100)
    """Units of both hidden layers of the network below each latent layer, up and down."""
    activation: Literal["tanh", "relu", "leaky-relu", "softplus", "silu"] = "tanh"
    """Between the layers."""
    normalization: Literal["none", "batch"] = "none"
    """Of the hidden units: none, or over the batch (Ioffe and Szegedy, 2015)."""
    particles: int = 1
    """Draws of the latent variables per datapoint."""
    beta: float = 1.0
    """Weight of the divergences (elbo)."""

    def __post_init__(self) -> None:
        if len(self.layers) < 2:
            raise AncestralError(
                f"layers is {self.layers}, but there are two layers or more: give --layers 100 50, or train vae."
            )
        if len(self.hidden) != len(self.layers):
            raise AncestralError(
                f"hidden is {self.hidden}, but there is one network below each of the {len(self.layers)} latent "
                f"layers: give {len(self.layers)} sizes, the first next to the data."
            )
        for name, values in (("layers", self.layers), ("hidden", self.hidden), ("particles", (self.particles,))):
            if any(v < 1 for v in values):
                raise AncestralError(f"{name} is {getattr(self, name)}, but sizes are 1 or more.")
        if not 0 <= self.beta < float("inf"):
            raise AncestralError(f"beta is {self.beta}, but it must be 0 or more.")
        for field, options in (
            ("activation", ("tanh", "relu", "leaky-relu", "softplus", "silu")),
            ("normalization", ("none", "batch")),
        ):
            if getattr(self, field) not in options:
                value = str(getattr(self, field))
                raise AncestralError(f"there is no {field} {value!r}. " + nearest(value, options))
        self.check_bound()
        self.check_likelihood()
        if self.bound == "iwae" and self.gradient == "doubly-reparameterized" and self.normalization == "batch":
            raise AncestralError(
                "the doubly reparameterized gradient of the iwae bound takes each weight for a function of its own "
                "particle, but through batch normalization every particle changes all: use --gradient total, or "
                "--normalization none."
            )
        if self.bound == "iwae" and self.beta != 1:
            raise AncestralError("beta has no effect with the iwae bound: use --bound elbo.")
        if self.beta == 0 and self.kl_warmup:
            raise AncestralError("kl_warmup has no effect where beta is 0: use --kl-warmup 0, or a --beta above 0.")


@dataclass(frozen=True)
class HierarchicalVAEConfig(HierarchySettings):
    """Hierarchical variational autoencoder: each latent layer given the one above (Rezende et al., 2014)."""


@dataclass(frozen=True)
class LadderVAEConfig(HierarchySettings):
    """Ladder variational autoencoder: q corrects what p expects of each layer (Sønderby et al., 2016)."""

    layers: tuple[int, ...] = (64, 32, 16)
    """Dimensions of each latent layer; the first is next to the data."""
    hidden: tuple[int, ...] = (512, 256, 128)
    """Units of both hidden layers of the network below each latent layer, up and down."""
    activation: Literal["tanh", "relu", "leaky-relu", "softplus", "silu"] = "leaky-relu"
    """Between the layers."""
    normalization: Literal["none", "batch"] = "batch"
    """Of the hidden units: none, or over the batch (Ioffe and Szegedy, 2015)."""
    kl_warmup: float = 10.0
    """Epochs over which the weight of the divergences rises from 0 (elbo)."""


TRAINING = TrainingConfig()

"""The variational autoencoder's settings."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from ancestral.configs.data import DataConfig, DataDescription
from ancestral.configs.training import TrainingConfig
from ancestral.errors import AncestralError, nearest

Likelihood = Literal["auto", "bernoulli", "normal", "discretized-logistic", "continuous-bernoulli"]


@dataclass(frozen=True)
class VAEConfig:
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
    likelihood: Likelihood = "auto"
    """p(x | z); auto: bernoulli for binary data, discretized-logistic for grey levels, normal for real numbers."""
    scale: Literal["learned", "shared"] = "learned"
    """Standard deviation of a normal likelihood: computed by the decoder, or one learned number for all."""
    mean: Literal["identity", "sigmoid"] = "identity"
    """What squashes the mean of a normal likelihood."""
    bound: Literal["elbo", "iwae"] = "elbo"
    """What is maximised."""
    particles: int = 1
    """Draws of z per datapoint."""
    beta: float = 1.0
    """Weight of the divergence KL(q(z | x) || p(z)) (elbo)."""
    kl_warmup: float = 0.0
    """Epochs over which that weight rises from 0 (elbo)."""
    free_bits: float = 0.0
    """Nats of divergence per latent dimension that cost nothing (elbo; Kingma et al., 2016, eq. 15)."""

    def __post_init__(self) -> None:
        sizes = {
            "latent": (self.latent,),
            "hidden": self.hidden,
            "channels": self.channels,
            "particles": (self.particles,),
        }
        for name, values in sizes.items():
            if any(v < 1 for v in values):
                raise AncestralError(f"{name} is {getattr(self, name)}, but sizes are 1 or more.")
        for name in ("beta", "kl_warmup", "free_bits"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise AncestralError(f"{name} is {getattr(self, name)}, but it must be 0 or more.")
        for field, options in (
            ("network", ("mlp", "conv")),
            ("activation", ("tanh", "relu", "leaky-relu", "softplus", "silu")),
            ("likelihood", Likelihood.__args__),  # type: ignore[attr-defined]
            ("scale", ("learned", "shared")),
            ("mean", ("identity", "sigmoid")),
            ("bound", ("elbo", "iwae")),
        ):
            if getattr(self, field) not in options:
                value = str(getattr(self, field))
                raise AncestralError(f"there is no {field} {value!r}. " + nearest(value, options))
        if self.bound == "iwae":
            for name in ("kl_warmup", "free_bits"):
                if getattr(self, name):
                    raise AncestralError(f"{name} has no effect with the iwae bound: use --bound elbo.")
            if self.beta != 1:
                raise AncestralError("beta has no effect with the iwae bound: use --bound elbo.")
        if self.beta == 0:
            for name in ("kl_warmup", "free_bits"):
                if getattr(self, name):
                    raise AncestralError(
                        f"{name} has no effect where beta is 0 and the divergence costs nothing: give a beta above 0, "
                        f"or leave {name} out."
                    )
        if self.likelihood not in ("auto", "normal") and (self.scale != "learned" or self.mean != "identity"):
            raise AncestralError(
                f"scale and mean have no effect with a {self.likelihood} likelihood: use --likelihood normal."
            )
        if not (self.channels if self.network == "conv" else self.hidden) and self.activation != "tanh":
            raise AncestralError("activation has no effect without hidden layers: leave it out, or give some.")
        if self.network == "mlp" and self.channels != (32, 64):
            raise AncestralError("channels has no effect with mlp networks: use --network conv, or --hidden.")
        if self.network == "conv" and self.hidden != (200, 200):
            raise AncestralError("hidden has no effect with conv networks: use --channels.")

    def resolve(self, data: DataConfig, raw: DataDescription, usual_binarization: str) -> tuple[VAEConfig, DataConfig]:
        """Choose the likelihood that suits the data, and the preparation of the data that suits the likelihood.

        Args:
            raw: the data as stored: binary, grey levels, or continuous.
            usual_binarization: what the literature does with this set.

        Raises:
            AncestralError: the likelihood contradicts the data. A density of bits or of grey levels without noise is
                refused because it has no bound: a standard deviation that shrinks around the few values there are
                raises it forever, and says nothing of their probability (Theis, van den Oord and Bethge, 2016,
                section 3.1).
        """
        likelihood, binarization = self.likelihood, data.binarization
        if binarization == "auto":
            wants_binary = likelihood in ("auto", "bernoulli") and raw.kind == "levels" and data.dequantize != "yes"
            usual = usual_binarization if likelihood == "auto" else "dynamic"
            binarization = usual if wants_binary else "none"  # type: ignore[assignment]
        binary = (raw.kind == "binary" and data.dequantize != "yes") or binarization != "none"
        shaped = self.scale != "learned" or self.mean != "identity"
        if likelihood == "auto":
            if binary:
                likelihood = "bernoulli"
            else:
                likelihood = "discretized-logistic" if raw.kind == "levels" and data.dequantize != "yes" else "normal"
            if likelihood != "normal" and shaped:
                other = raw.kind == "levels" and data.binarization in ("auto", "none") and data.dequantize == "auto"
                raise AncestralError(
                    f"scale and mean have no effect with the {likelihood} likelihood chosen for these data: "
                    + ("add --likelihood normal, or leave them out." if other else "leave them out.")
                )
        density = likelihood in ("normal", "continuous-bernoulli")
        dequantize = data.dequantize
        if dequantize == "auto":
            dequantize = "yes" if density and raw.kind == "levels" and not binary else "no"
        if density and raw.kind != "continuous" and dequantize != "yes":
            if binary:
                values, cure = "zeros and ones", "Use --likelihood bernoulli"
                cure += "." if raw.kind == "binary" else ", or --binarization none for the grey levels."
            else:
                values = "grey levels without noise"
                cure = "Use --dequantize yes, or --likelihood discretized-logistic."
            raise AncestralError(
                f"a {likelihood} likelihood is a density, and of {values} a density has no bound: it is no likelihood "
                f"of them. {cure}"
            )
        if likelihood == "bernoulli" and not binary:
            if raw.kind == "continuous":
                seen, cure = "real numbers", "--likelihood normal"
            elif dequantize == "yes":
                seen, cure = "dequantized", "--dequantize no, or --likelihood normal"
            else:
                seen = "grey levels without binarization"
                cure = "--binarization dynamic, or --likelihood discretized-logistic"
            raise AncestralError(f"a bernoulli likelihood needs binary data, but these are {seen}. Use {cure}.")
        if likelihood == "discretized-logistic" and (raw.kind == "continuous" or dequantize == "yes"):
            raise AncestralError(
                "a discretized-logistic likelihood needs grey levels, but these data are continuous. Use "
                "--likelihood normal."
            )
        if raw.scale and likelihood == "continuous-bernoulli":
            raise AncestralError(
                "a continuous-bernoulli likelihood is of numbers in [0, 1], but the columns of a table are "
                "standardized to mean 0 and variance 1. Use --likelihood normal."
            )
        if raw.scale and self.mean == "sigmoid":
            raise AncestralError(
                "mean sigmoid lies in (0, 1), which can't follow the columns of a table: they are standardized to mean "
                "0 and variance 1. Use --mean identity."
            )
        return (
            dataclasses.replace(self, likelihood=likelihood),
            dataclasses.replace(data, binarization=binarization, dequantize=dequantize),
        )


TRAINING = TrainingConfig(epsilon=1e-4)

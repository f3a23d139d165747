"""The settings of the variational autoencoder with discrete latent variables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ancestral.configs.bound import BoundSettings
from ancestral.configs.estimation import EstimatorSettings
from ancestral.configs.likelihood import LikelihoodSettings
from ancestral.configs.training import TrainingConfig
from ancestral.errors import AncestralError, nearest


@dataclass(frozen=True)
class CategoricalVAEConfig(EstimatorSettings, BoundSettings, LikelihoodSettings):
    """Variational autoencoder with discrete latent variables: p(z) is uniform over classes (Jang et al., 2017)."""

    validates: ClassVar[bool] = True

    latents: int = 20
    """Number of latent variables."""
    classes: int = 10
    """Classes of each; 2 makes them binary."""
    prior: Literal["uniform", "learned"] = "uniform"
    """p(z): each class as likely, or the probabilities are parameters."""
    encoder_hidden: tuple[int, ...] = (200, 200)
    """Units of each hidden layer of the encoder q(z | x)."""
    decoder_hidden: tuple[int, ...] = (200, 200)
    """Units of each hidden layer of the decoder p(x | z)."""
    activation: Literal["tanh", "relu", "leaky-relu", "softplus", "silu"] = "tanh"
    """Between the layers."""

    def __post_init__(self) -> None:
        for name in ("encoder_hidden", "decoder_hidden"):
            if any(v < 1 for v in getattr(self, name)):
                raise AncestralError(f"{name} is {getattr(self, name)}, but sizes are 1 or more.")
        if self.latents < 1:
            raise AncestralError(f"latents is {self.latents}, but it must be 1 or more.")
        if self.classes < 2:
            raise AncestralError(f"classes is {self.classes}, but a variable has 2 or more: make it at least 2.")
        for field, options in (
            ("prior", ("uniform", "learned")),
            ("activation", ("tanh", "relu", "leaky-relu", "softplus", "silu")),
        ):
            if getattr(self, field) not in options:
                value = str(getattr(self, field))
                raise AncestralError(f"there is no {field} {value!r}. " + nearest(value, options))
        if not (self.encoder_hidden or self.decoder_hidden) and self.activation != "tanh":
            raise AncestralError("activation has no effect without hidden layers: leave it out, or give some.")
        self.check_bound()
        self.check_likelihood()
        self.check_estimator(self.bound, self.classes)


TRAINING = TrainingConfig(learning_rate=3e-3)

"""The generative adversarial network's settings."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from ancestral.configs.data import DataConfig, DataDescription
from ancestral.configs.training import TrainingConfig
from ancestral.errors import AncestralError, nearest


@dataclass(frozen=True)
class GANConfig:
    """Generative adversarial network of multilayer perceptrons (Goodfellow et al., 2014)."""

    validates: ClassVar[bool] = False  # neither player's loss says how good the samples are

    latent: int = 100
    """Dimensions of the noise z, uniform on (-1, 1)."""
    hidden: tuple[int, ...] = (1200, 1200)
    """Rectified units of each hidden layer of the generator."""
    discriminator_hidden: tuple[int, ...] = (240, 240)
    """Maxout units of each hidden layer of the discriminator."""
    pieces: int = 5
    """Affine maps per maxout unit."""
    dropout: float = 0.5
    """Part of the discriminator's hidden units dropped."""
    input_dropout: float = 0.2
    """Part of the discriminator's inputs dropped."""
    generator_loss: Literal["non-saturating", "minimax"] = "non-saturating"
    """The generator maximises log D(G(z)), or minimises log(1 - D(G(z)))."""
    discriminator_steps: int = 1
    """Updates of the discriminator for each of the generator."""
    discriminator_learning_rate: float = 0.0
    """Learning rate of the discriminator; 0 takes that of the generator."""

    def __post_init__(self) -> None:
        for name in ("latent", "pieces", "discriminator_steps"):
            if getattr(self, name) < 1:
                raise AncestralError(f"{name} is {getattr(self, name)}, but it must be 1 or more.")
        for name in ("hidden", "discriminator_hidden"):
            if any(v < 1 for v in getattr(self, name)):
                raise AncestralError(f"{name} is {getattr(self, name)}, but sizes are 1 or more.")
        for name in ("dropout", "input_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise AncestralError(f"{name} is {getattr(self, name)}, but it must be at least 0 and below 1.")
        if not 0 <= self.discriminator_learning_rate < float("inf"):
            raise AncestralError(
                f"discriminator_learning_rate is {self.discriminator_learning_rate}, but it must be 0 or more."
            )
        if self.generator_loss not in ("non-saturating", "minimax"):
            raise AncestralError(
                f"there is no generator_loss {self.generator_loss!r}. "
                + nearest(self.generator_loss, ("non-saturating", "minimax"))
            )
        for name, usual in (("pieces", 5), ("dropout", 0.5)):
            if not self.discriminator_hidden and getattr(self, name) != usual:
                raise AncestralError(f"{name} has no effect without maxout layers: give --discriminator-hidden.")

    def resolve(self, data: DataConfig, raw: DataDescription, usual_binarization: str) -> tuple[GANConfig, DataConfig]:
        """A GAN has no likelihood to suit: the data stay as they are unless the user binarizes them."""
        binarization = "none" if data.binarization == "auto" else data.binarization
        dequantize = "no" if data.dequantize == "auto" else data.dequantize
        return self, dataclasses.replace(data, binarization=binarization, dequantize=dequantize)


# Not the paper's optimiser: under gradient descent at 0.1 with momentum 0.5 the discriminator was right about every
# image after three epochs on MNIST, also with its weights' norms bounded; longer runs were not tried. Adam at this rate
# and beta1 is what later work settled on (Radford, Metz and Chintala, 2016, section 4).
TRAINING = TrainingConfig(epochs=50, optimizer="adam", learning_rate=2e-4, beta1=0.5, schedule="constant")

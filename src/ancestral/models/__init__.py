"""Models, one file per system of the literature."""

from collections.abc import Callable
from typing import Any

from torch import nn

from ancestral.configs import DataDescription
from ancestral.models.contract import Batch, Model, Player
from ancestral.models.gan import GAN
from ancestral.models.latent_variable import LatentVariableModel
from ancestral.models.vae import variational_autoencoder

BUILDERS: dict[str, Callable[[Any, DataDescription], nn.Module]] = {"vae": variational_autoencoder, "gan": GAN}
"""How a model known by name is built from its settings and the description of the data."""

__all__ = ["BUILDERS", "GAN", "Batch", "LatentVariableModel", "Model", "Player", "variational_autoencoder"]

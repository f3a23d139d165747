"""Every ``Config``, once: the Python signature, the command line's flags and the run folder's file are all it.

Nothing here imports torch, so that ``ancestral train vae --help`` answers at once.
"""

from __future__ import annotations

from ancestral.configs import gan, vae
from ancestral.configs.data import DataConfig, DataDescription
from ancestral.configs.gan import GANConfig
from ancestral.configs.training import TrainingConfig
from ancestral.configs.vae import VAEConfig

ModelConfig = VAEConfig | GANConfig

MODELS: dict[str, tuple[type[VAEConfig] | type[GANConfig], TrainingConfig]] = {
    "vae": (VAEConfig, vae.TRAINING),
    "gan": (GANConfig, gan.TRAINING),
}
"""The models known by name: their settings, and the training that suits them."""

__all__ = ["MODELS", "DataConfig", "DataDescription", "GANConfig", "ModelConfig", "TrainingConfig", "VAEConfig"]

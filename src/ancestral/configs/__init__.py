"""Every ``Config``, once: the Python signature, the command line's flags and the run folder's file are all it.

Nothing here imports torch, so that ``ancestral train vae --help`` answers at once.
"""

from __future__ import annotations

from ancestral.configs import bayes_classifier, categorical_vae, classifier, gan, helmholtz, hierarchy, m2, sbn, vae
from ancestral.configs.bayes_classifier import BayesClassifierConfig
from ancestral.configs.bound import BoundSettings
from ancestral.configs.categorical_vae import CategoricalVAEConfig
from ancestral.configs.classifier import ClassifierConfig
from ancestral.configs.data import DataConfig, DataDescription
from ancestral.configs.estimation import EstimatorSettings
from ancestral.configs.gan import GANConfig
from ancestral.configs.helmholtz import HelmholtzConfig
from ancestral.configs.hierarchy import HierarchicalVAEConfig, LadderVAEConfig
from ancestral.configs.likelihood import LikelihoodSettings
from ancestral.configs.m2 import M2Config
from ancestral.configs.network import NetworkSettings
from ancestral.configs.sbn import SBNConfig
from ancestral.configs.training import TrainingConfig
from ancestral.configs.vae import VAEConfig

ModelConfig = (
    VAEConfig
    | GANConfig
    | SBNConfig
    | CategoricalVAEConfig
    | M2Config
    | HelmholtzConfig
    | HierarchicalVAEConfig
    | LadderVAEConfig
    | BayesClassifierConfig
    | ClassifierConfig
)

MODELS: dict[str, tuple[type[ModelConfig], TrainingConfig]] = {
    "vae": (VAEConfig, vae.TRAINING),
    "gan": (GANConfig, gan.TRAINING),
    "sbn": (SBNConfig, sbn.TRAINING),
    "categorical-vae": (CategoricalVAEConfig, categorical_vae.TRAINING),
    "m2": (M2Config, m2.TRAINING),
    "helmholtz": (HelmholtzConfig, helmholtz.TRAINING),
    "hierarchical-vae": (HierarchicalVAEConfig, hierarchy.TRAINING),
    "ladder-vae": (LadderVAEConfig, hierarchy.TRAINING),
    "bayes-classifier": (BayesClassifierConfig, bayes_classifier.TRAINING),
    "classifier": (ClassifierConfig, classifier.TRAINING),
}
"""The models known by name: their settings, and the training that suits them."""

__all__ = [
    "MODELS",
    "BayesClassifierConfig",
    "BoundSettings",
    "CategoricalVAEConfig",
    "ClassifierConfig",
    "DataConfig",
    "DataDescription",
    "EstimatorSettings",
    "GANConfig",
    "HelmholtzConfig",
    "HierarchicalVAEConfig",
    "LadderVAEConfig",
    "LikelihoodSettings",
    "M2Config",
    "ModelConfig",
    "NetworkSettings",
    "SBNConfig",
    "TrainingConfig",
    "VAEConfig",
]

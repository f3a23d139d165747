"""Models, one file per system of the literature."""

from collections.abc import Callable
from typing import Any

from torch import nn

from ancestral.configs import DataDescription
from ancestral.models.bayes_classifier import BayesClassifier, NaiveBayes, generative_classifier
from ancestral.models.categorical_vae import categorical_variational_autoencoder
from ancestral.models.classifier import Classifier
from ancestral.models.contract import Batch, Model, Player
from ancestral.models.estimation import make_estimator
from ancestral.models.free_posterior import FreePosterior, freed
from ancestral.models.gan import GAN
from ancestral.models.helmholtz import helmholtz_machine
from ancestral.models.hierarchical_vae import hierarchical_variational_autoencoder
from ancestral.models.ladder_vae import ladder_variational_autoencoder
from ancestral.models.latent_variable import LatentVariableModel
from ancestral.models.m2 import SemiSupervised, semi_supervised_vae
from ancestral.models.sbn import StructuredPrediction, sigmoid_belief_net
from ancestral.models.vae import variational_autoencoder

BUILDERS: dict[str, Callable[[Any, DataDescription], nn.Module]] = {
    "vae": variational_autoencoder,
    "gan": GAN,
    "sbn": sigmoid_belief_net,
    "categorical-vae": categorical_variational_autoencoder,
    "m2": semi_supervised_vae,
    "helmholtz": helmholtz_machine,
    "hierarchical-vae": hierarchical_variational_autoencoder,
    "ladder-vae": ladder_variational_autoencoder,
    "bayes-classifier": generative_classifier,
    "classifier": Classifier,
}
"""How a model known by name is built from its settings and the description of the data."""

__all__ = [
    "BUILDERS",
    "GAN",
    "Batch",
    "BayesClassifier",
    "Classifier",
    "FreePosterior",
    "LatentVariableModel",
    "Model",
    "NaiveBayes",
    "Player",
    "SemiSupervised",
    "StructuredPrediction",
    "categorical_variational_autoencoder",
    "freed",
    "generative_classifier",
    "helmholtz_machine",
    "hierarchical_variational_autoencoder",
    "ladder_variational_autoencoder",
    "make_estimator",
    "semi_supervised_vae",
    "sigmoid_belief_net",
    "variational_autoencoder",
]

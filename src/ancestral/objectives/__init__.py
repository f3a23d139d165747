"""Objectives, one file per learning rule: pure functions of models and data, one value per datapoint."""

from ancestral.objectives.adversarial import discriminator_loss, generator_loss
from ancestral.objectives.elbo import ElboTerms, elbo, elbo_terms
from ancestral.objectives.expectation import expectation
from ancestral.objectives.iwae import iwae, log_weight

__all__ = [
    "ElboTerms",
    "discriminator_loss",
    "elbo",
    "elbo_terms",
    "expectation",
    "generator_loss",
    "iwae",
    "log_weight",
]

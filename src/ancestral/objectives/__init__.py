"""Objectives, one file per learning rule: pure functions of models and data, one value per datapoint."""

from ancestral.objectives.adversarial import discriminator_loss, generator_loss
from ancestral.objectives.elbo import ElboTerms, elbo, elbo_terms
from ancestral.objectives.expectation import expectation
from ancestral.objectives.iwae import iwae, log_weight
from ancestral.objectives.reweighted_wake_sleep import (
    ReweightedWakeSleepTerms,
    reweighted_wake_sleep,
    reweighted_wake_sleep_terms,
)
from ancestral.objectives.wake_sleep import wake_sleep

__all__ = [
    "ElboTerms",
    "ReweightedWakeSleepTerms",
    "discriminator_loss",
    "elbo",
    "elbo_terms",
    "expectation",
    "generator_loss",
    "iwae",
    "log_weight",
    "reweighted_wake_sleep",
    "reweighted_wake_sleep_terms",
    "wake_sleep",
]

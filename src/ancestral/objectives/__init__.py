"""Objectives, one file per learning rule: pure functions of models and data, one value per datapoint."""

from ancestral.objectives.adversarial import discriminator_loss, generator_loss
from ancestral.objectives.elbo import ElboTerms, elbo, elbo_terms
from ancestral.objectives.expectation import expectation
from ancestral.objectives.iwae import iwae, log_weight
from ancestral.objectives.log_likelihood import log_likelihood
from ancestral.objectives.maximum_a_posteriori import log_prior, maximum_a_posteriori
from ancestral.objectives.monte_carlo_em import Chains, monte_carlo_em, posterior_draws
from ancestral.objectives.reweighted_wake_sleep import (
    ReweightedWakeSleepTerms,
    reweighted_wake_sleep,
    reweighted_wake_sleep_terms,
)
from ancestral.objectives.variational_bayes import NormalWeights, variational_bayes, with_weights
from ancestral.objectives.wake_sleep import wake_sleep

__all__ = [
    "Chains",
    "ElboTerms",
    "NormalWeights",
    "ReweightedWakeSleepTerms",
    "discriminator_loss",
    "elbo",
    "elbo_terms",
    "expectation",
    "generator_loss",
    "iwae",
    "log_likelihood",
    "log_prior",
    "log_weight",
    "maximum_a_posteriori",
    "monte_carlo_em",
    "posterior_draws",
    "reweighted_wake_sleep",
    "reweighted_wake_sleep_terms",
    "variational_bayes",
    "wake_sleep",
    "with_weights",
]

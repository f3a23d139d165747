"""Objectives, one file per learning rule: pure functions of models and data, one value per datapoint."""

from ancestral.objectives.elbo import ElboTerms, elbo, elbo_terms
from ancestral.objectives.expectation import expectation
from ancestral.objectives.iwae import iwae

__all__ = ["ElboTerms", "elbo", "elbo_terms", "expectation", "iwae"]

"""Evaluation: figures with provenance."""

from ancestral.evaluation.ais import Annealed, Bidirectional, annealed_importance_sampling, bidirectional
from ancestral.evaluation.classification import accuracy
from ancestral.evaluation.exact import exact_log_prob
from ancestral.evaluation.figures import Figure
from ancestral.evaluation.hmc_density import HMCDensity, hmc_density
from ancestral.evaluation.interpolation import interpolate, is_standard_normal, latent_grid
from ancestral.evaluation.latents import active_units, activity
from ancestral.evaluation.likelihood import bounds, evaluate
from ancestral.evaluation.neighbors import nearest_training_rows

__all__ = [
    "Annealed",
    "Bidirectional",
    "Figure",
    "HMCDensity",
    "accuracy",
    "active_units",
    "activity",
    "annealed_importance_sampling",
    "bidirectional",
    "bounds",
    "evaluate",
    "exact_log_prob",
    "hmc_density",
    "interpolate",
    "is_standard_normal",
    "latent_grid",
    "nearest_training_rows",
]

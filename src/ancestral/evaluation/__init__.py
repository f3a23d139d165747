"""Evaluation: figures with provenance."""

from ancestral.evaluation.classification import accuracy
from ancestral.evaluation.figures import Figure
from ancestral.evaluation.interpolation import interpolate, latent_grid
from ancestral.evaluation.latents import active_units, activity
from ancestral.evaluation.likelihood import bounds, evaluate
from ancestral.evaluation.neighbors import nearest_training_rows

__all__ = [
    "Figure",
    "accuracy",
    "active_units",
    "activity",
    "bounds",
    "evaluate",
    "interpolate",
    "latent_grid",
    "nearest_training_rows",
]

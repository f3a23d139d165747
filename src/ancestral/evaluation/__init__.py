"""Evaluation: figures with provenance."""

from ancestral.evaluation.ais import Annealed, Bidirectional, annealed_importance_sampling, bidirectional
from ancestral.evaluation.amortization import Gaps, amortization_gap, inference_gaps
from ancestral.evaluation.classification import classification, expected_calibration_error, temperature
from ancestral.evaluation.effective_sample_size import effective_sample_size
from ancestral.evaluation.exact import exact_log_prob
from ancestral.evaluation.figures import Figure
from ancestral.evaluation.hmc_density import HMCDensity, hmc_density
from ancestral.evaluation.interpolation import drawn_besides_data, interpolate, is_standard_normal, latent_grid
from ancestral.evaluation.latents import active_units, activity
from ancestral.evaluation.likelihood import bounds, evaluate
from ancestral.evaluation.mutual_information import Information, information, mutual_information
from ancestral.evaluation.neighbors import nearest_training_rows
from ancestral.evaluation.outliers import auroc, out_of_distribution

__all__ = [
    "Annealed",
    "Bidirectional",
    "Figure",
    "Gaps",
    "HMCDensity",
    "Information",
    "active_units",
    "activity",
    "amortization_gap",
    "annealed_importance_sampling",
    "auroc",
    "bidirectional",
    "bounds",
    "classification",
    "drawn_besides_data",
    "effective_sample_size",
    "evaluate",
    "exact_log_prob",
    "expected_calibration_error",
    "hmc_density",
    "inference_gaps",
    "information",
    "interpolate",
    "is_standard_normal",
    "latent_grid",
    "mutual_information",
    "nearest_training_rows",
    "out_of_distribution",
    "temperature",
]

"""Ancestral: deep generative models as directed graphs of conditional distributions.

    p = Joint({"z": standard_normal(20), "x | z": bernoulli(mlp(20, 400, 784))})
    q = Joint({"z | x": normal(mlp(784, 400, 2 * 20))})
    loss = -elbo(p, q, {"x": x}, analytic_kl=["z"]).mean()

Importing the package imports nothing heavy: each name is fetched when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "AncestralError": "ancestral.errors",
    "EstimatorError": "ancestral.errors",
    "GraphError": "ancestral.errors",
    "ShapeError": "ancestral.errors",
    "AncestralSampling": "ancestral.core",
    "Estimator": "ancestral.core",
    "Joint": "ancestral.core",
    "Site": "ancestral.core",
    "Trace": "ancestral.core",
    "run": "ancestral.core",
    "Enumerate": "ancestral.estimators",
    "Reparameterized": "ancestral.estimators",
    "elbo": "ancestral.objectives",
    "expectation": "ancestral.objectives",
    "iwae": "ancestral.objectives",
    "DiscretizedLogistic": "ancestral.distributions",
    "bernoulli": "ancestral.distributions",
    "bernoulli_bias": "ancestral.distributions",
    "bits_per_dimension": "ancestral.distributions",
    "categorical": "ancestral.distributions",
    "continuous_bernoulli": "ancestral.distributions",
    "discretized_logistic": "ancestral.distributions",
    "normal": "ancestral.distributions",
    "one_hot": "ancestral.distributions",
    "standard_normal": "ancestral.distributions",
    "linear": "ancestral.networks",
    "mlp": "ancestral.networks",
    "GAN": "ancestral.models",
    "LatentVariableModel": "ancestral.models",
    "variational_autoencoder": "ancestral.models",
    "Run": "ancestral.runs",
    "fit": "ancestral.runs",
    "load": "ancestral.runs",
    "resume": "ancestral.runs",
    "train": "ancestral.runs",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'ancestral' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

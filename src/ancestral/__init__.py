"""Ancestral: deep generative models as directed graphs of conditional distributions.

    p = Joint({"z": standard_normal(20), "x | z": bernoulli(mlp(20, 400, 784))})
    q = Joint({"z | x": normal(mlp(784, 400, 2 * 20))})
    loss = -elbo(p, q, {"x": x}, analytic_kl=["z"]).mean()

Importing the package imports nothing heavy: each name, and each room such as ``ancestral.data``, is fetched when it
is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ancestral import (
        cli as cli,
        configs as configs,
        core as core,
        data as data,
        distributions as distributions,
        errors as errors,
        estimators as estimators,
        evaluation as evaluation,
        models as models,
        networks as networks,
        objectives as objectives,
        report as report,
        runs as runs,
        training as training,
    )
    from ancestral.core import (
        AncestralSampling as AncestralSampling,
        Cost as Cost,
        Estimator as Estimator,
        Joint as Joint,
        Site as Site,
        Trace as Trace,
        run as run,
    )
    from ancestral.distributions import (
        DiscretizedLogistic as DiscretizedLogistic,
        bernoulli as bernoulli,
        bernoulli_bias as bernoulli_bias,
        bits_per_dimension as bits_per_dimension,
        categorical as categorical,
        continuous_bernoulli as continuous_bernoulli,
        darn as darn,
        discretized_logistic as discretized_logistic,
        nade as nade,
        normal as normal,
        one_hot as one_hot,
        one_hot_bias as one_hot_bias,
        standard_normal as standard_normal,
    )
    from ancestral.errors import (
        AncestralError as AncestralError,
        EstimatorError as EstimatorError,
        GraphError as GraphError,
        ShapeError as ShapeError,
    )
    from ancestral.estimators import (
        DARN as DARN,
        REBAR as REBAR,
        RELAX as RELAX,
        Constant as Constant,
        DisARM as DisARM,
        Enumerate as Enumerate,
        GumbelSoftmax as GumbelSoftmax,
        Half as Half,
        InputDependent as InputDependent,
        LeaveOneOut as LeaveOneOut,
        LikelihoodRatio as LikelihoodRatio,
        MovingAverage as MovingAverage,
        MuProp as MuProp,
        Reparameterized as Reparameterized,
        StraightThrough as StraightThrough,
        exponential as exponential,
        nvil as nvil,
    )
    from ancestral.models import (
        GAN as GAN,
        LatentVariableModel as LatentVariableModel,
        categorical_variational_autoencoder as categorical_variational_autoencoder,
        helmholtz_machine as helmholtz_machine,
        hierarchical_variational_autoencoder as hierarchical_variational_autoencoder,
        ladder_variational_autoencoder as ladder_variational_autoencoder,
        sigmoid_belief_net as sigmoid_belief_net,
        variational_autoencoder as variational_autoencoder,
    )
    from ancestral.networks import linear as linear, mlp as mlp
    from ancestral.objectives import (
        elbo as elbo,
        expectation as expectation,
        iwae as iwae,
        log_likelihood as log_likelihood,
        log_prior as log_prior,
        maximum_a_posteriori as maximum_a_posteriori,
        monte_carlo_em as monte_carlo_em,
        posterior_draws as posterior_draws,
        reweighted_wake_sleep as reweighted_wake_sleep,
        variational_bayes as variational_bayes,
        wake_sleep as wake_sleep,
    )
    from ancestral.runs import Run as Run, fit as fit, load as load, resume as resume, train as train

__version__ = "0.1.0"

_HOME = {
    "AncestralError": "ancestral.errors",
    "EstimatorError": "ancestral.errors",
    "GraphError": "ancestral.errors",
    "ShapeError": "ancestral.errors",
    "AncestralSampling": "ancestral.core",
    "Cost": "ancestral.core",
    "Estimator": "ancestral.core",
    "Joint": "ancestral.core",
    "Site": "ancestral.core",
    "Trace": "ancestral.core",
    "run": "ancestral.core",
    "DARN": "ancestral.estimators",
    "REBAR": "ancestral.estimators",
    "RELAX": "ancestral.estimators",
    "Constant": "ancestral.estimators",
    "DisARM": "ancestral.estimators",
    "Enumerate": "ancestral.estimators",
    "GumbelSoftmax": "ancestral.estimators",
    "Half": "ancestral.estimators",
    "InputDependent": "ancestral.estimators",
    "LeaveOneOut": "ancestral.estimators",
    "LikelihoodRatio": "ancestral.estimators",
    "MovingAverage": "ancestral.estimators",
    "MuProp": "ancestral.estimators",
    "Reparameterized": "ancestral.estimators",
    "StraightThrough": "ancestral.estimators",
    "exponential": "ancestral.estimators",
    "nvil": "ancestral.estimators",
    "elbo": "ancestral.objectives",
    "expectation": "ancestral.objectives",
    "iwae": "ancestral.objectives",
    "log_likelihood": "ancestral.objectives",
    "log_prior": "ancestral.objectives",
    "maximum_a_posteriori": "ancestral.objectives",
    "monte_carlo_em": "ancestral.objectives",
    "posterior_draws": "ancestral.objectives",
    "reweighted_wake_sleep": "ancestral.objectives",
    "variational_bayes": "ancestral.objectives",
    "wake_sleep": "ancestral.objectives",
    "DiscretizedLogistic": "ancestral.distributions",
    "bernoulli": "ancestral.distributions",
    "bernoulli_bias": "ancestral.distributions",
    "bits_per_dimension": "ancestral.distributions",
    "categorical": "ancestral.distributions",
    "continuous_bernoulli": "ancestral.distributions",
    "darn": "ancestral.distributions",
    "discretized_logistic": "ancestral.distributions",
    "nade": "ancestral.distributions",
    "normal": "ancestral.distributions",
    "one_hot": "ancestral.distributions",
    "one_hot_bias": "ancestral.distributions",
    "standard_normal": "ancestral.distributions",
    "linear": "ancestral.networks",
    "mlp": "ancestral.networks",
    "GAN": "ancestral.models",
    "LatentVariableModel": "ancestral.models",
    "categorical_variational_autoencoder": "ancestral.models",
    "helmholtz_machine": "ancestral.models",
    "hierarchical_variational_autoencoder": "ancestral.models",
    "ladder_variational_autoencoder": "ancestral.models",
    "sigmoid_belief_net": "ancestral.models",
    "variational_autoencoder": "ancestral.models",
    "Run": "ancestral.runs",
    "fit": "ancestral.runs",
    "load": "ancestral.runs",
    "resume": "ancestral.runs",
    "train": "ancestral.runs",
}

_ROOMS = (
    "cli",
    "configs",
    "core",
    "data",
    "distributions",
    "errors",
    "estimators",
    "evaluation",
    "models",
    "networks",
    "objectives",
    "report",
    "runs",
    "training",
)

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"ancestral.{name}")
    raise AttributeError(f"module 'ancestral' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted((*__all__, *_ROOMS))

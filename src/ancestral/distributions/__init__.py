"""What ``torch.distributions`` lacks, and heads: from a network's output to a distribution."""

from ancestral.distributions.autoregressive import NADE, LinearAutoregressive
from ancestral.distributions.continuous_bernoulli import ContinuousBernoulli
from ancestral.distributions.discretized_logistic import DiscretizedLogistic
from ancestral.distributions.flows import (
    FlowedNormal,
    InverseAutoregressive,
    flow_parameters,
    flowed,
    inverse_autoregressive,
    planar,
    radial,
)
from ancestral.distributions.heads import (
    Head,
    bernoulli,
    bernoulli_bias,
    categorical,
    continuous_bernoulli,
    darn,
    discretized_logistic,
    nade,
    normal,
    one_hot,
    one_hot_bias,
    standard_normal,
)
from ancestral.distributions.one_hot import OneHot
from ancestral.distributions.support import base_of, check_support, enumerate_support
from ancestral.distributions.units import bits_per_dimension

__all__ = [
    "NADE",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "FlowedNormal",
    "Head",
    "InverseAutoregressive",
    "LinearAutoregressive",
    "OneHot",
    "base_of",
    "bernoulli",
    "bernoulli_bias",
    "bits_per_dimension",
    "categorical",
    "check_support",
    "continuous_bernoulli",
    "darn",
    "discretized_logistic",
    "enumerate_support",
    "flow_parameters",
    "flowed",
    "inverse_autoregressive",
    "nade",
    "normal",
    "one_hot",
    "one_hot_bias",
    "planar",
    "radial",
    "standard_normal",
]

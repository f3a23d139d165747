"""Networks: how a conditional is computed."""

from ancestral.networks.batch_norm import BatchNorm
from ancestral.networks.bias import Bias
from ancestral.networks.conv import ConvDecoder, ConvEncoder
from ancestral.networks.linear_layer import Linear
from ancestral.networks.masked import MaskedPerceptron
from ancestral.networks.maxout import Maxout
from ancestral.networks.mlp import MLP, activation, glorot, linear, mlp

__all__ = [
    "MLP",
    "BatchNorm",
    "Bias",
    "ConvDecoder",
    "ConvEncoder",
    "Linear",
    "MaskedPerceptron",
    "Maxout",
    "activation",
    "glorot",
    "linear",
    "mlp",
]

"""Gradient estimators, one file each: how a gradient passes a random variable, chosen at learning time."""

from ancestral.estimators.baselines import Constant, InputDependent, LeaveOneOut, MovingAverage
from ancestral.estimators.darn import DARN, Half
from ancestral.estimators.disarm import DisARM
from ancestral.estimators.enumerate import Enumerate
from ancestral.estimators.gumbel_softmax import GumbelSoftmax
from ancestral.estimators.likelihood_ratio import LikelihoodRatio, nvil
from ancestral.estimators.muprop import MuProp
from ancestral.estimators.rebar import REBAR, RELAX
from ancestral.estimators.reparameterized import Reparameterized
from ancestral.estimators.schedules import exponential
from ancestral.estimators.straight_through import StraightThrough

__all__ = [
    "DARN",
    "REBAR",
    "RELAX",
    "Constant",
    "DisARM",
    "Enumerate",
    "GumbelSoftmax",
    "Half",
    "InputDependent",
    "LeaveOneOut",
    "LikelihoodRatio",
    "MovingAverage",
    "MuProp",
    "Reparameterized",
    "StraightThrough",
    "exponential",
    "nvil",
]

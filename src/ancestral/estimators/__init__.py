"""Gradient estimators, one file each: how a gradient passes a random variable, chosen at learning time."""

from ancestral.estimators.enumerate import Enumerate
from ancestral.estimators.reparameterized import Reparameterized

__all__ = ["Enumerate", "Reparameterized"]

"""Units: the one place where nats become bits per dimension."""

from __future__ import annotations

import math
from typing import TypeVar

Number = TypeVar("Number")


def bits_per_dimension(log_prob: Number, dimensions: int, levels: int = 0) -> Number:
    r"""Nats per datapoint to bits per dimension.

    .. math:: -\frac{\log p(x)}{D \log 2}

    plus log₂ L for a density on [0, 1]^D of data with L levels.

    Args:
        log_prob: log p(x) in nats, a number or a tensor.
        dimensions: D, the number of components of a datapoint.
        levels: L, for a *density* of dequantized data scaled by 1/L into [0, 1]; 0 for a mass function.

    Source: Theis, van den Oord and Bethge (2016), section 3.1.
    """
    offset = math.log2(levels) if levels else 0.0
    bits: Number = -log_prob / (dimensions * math.log(2)) + offset  # type: ignore[operator]
    return bits

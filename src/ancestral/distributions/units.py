"""Units: the one place where nats become bits per dimension."""

from __future__ import annotations

import math
from typing import TypeVar

Number = TypeVar("Number")


def bits_per_dimension(log_prob: Number, dimensions: int, levels: int = 0) -> Number:
    r"""Nats per datapoint to bits per dimension.

    .. math:: -\frac{\log p(x)}{D \log 2} \; (+ \log_2 L \text{ for a density on } [0, 1]^D \text{ of data with } L \text{ levels})

    Args:
        log_prob: log p(x) in nats, a number or a tensor.
        dimensions: D, the number of components of a datapoint.
        levels: L, for a *density* of dequantized data scaled by 1/L into [0, 1]; 0 for a mass function.

    Source: Theis, van den Oord and Bethge (2016), section 3.1.
    """
    bits = -log_prob / (dimensions * math.log(2))  # type: ignore[operator]
    return bits + math.log2(levels) if levels else bits

"""Multilayer perceptrons or convolutions: for every model whose networks of x end in hidden layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ancestral.errors import AncestralError, nearest


@dataclass(frozen=True)
class NetworkSettings:
    """The networks and their sizes: a model has them among its own settings, by inheritance, and checks them."""

    network: Literal["mlp", "conv"] = "mlp"
    """Multilayer perceptrons, or convolutions (images only)."""
    hidden: tuple[int, ...] = (500,)
    """Units of the hidden layers, after convolutions if there are any; in reverse where a network ends at x."""
    channels: tuple[int, ...] = (16, 32, 64)
    """Channels of each convolution from x, and in reverse of those to x (conv)."""
    activation: Literal["tanh", "relu", "leaky-relu", "softplus", "silu"] = "relu"
    """Between the layers."""

    def check_network(self) -> None:
        """Raise where a setting is out of range, or has no effect with the kind of network.

        Raises:
            AncestralError: it names the setting and the flag to turn.
        """
        for name in ("hidden", "channels"):
            if not getattr(self, name) or any(v < 1 for v in getattr(self, name)):
                raise AncestralError(f"{name} is {getattr(self, name)}, but sizes are 1 or more.")
        for field, options in (
            ("network", ("mlp", "conv")),
            ("activation", ("tanh", "relu", "leaky-relu", "softplus", "silu")),
        ):
            if getattr(self, field) not in options:
                value = str(getattr(self, field))
                raise AncestralError(f"there is no {field} {value!r}. " + nearest(value, options))
        if self.network == "mlp" and self.channels != NetworkSettings.channels:
            raise AncestralError("channels has no effect with mlp networks: use --network conv, or --hidden.")

"""What is maximized, and what validation judges by: for every model with a choice of bounds of log p(x)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ancestral.errors import AncestralError, nearest


@dataclass(frozen=True)
class BoundSettings:
    """The bound and its settings: a model has them among its own, by inheritance, and checks them."""

    bound: Literal["elbo", "iwae"] = "elbo"
    """What is maximised."""
    kl_warmup: float = 0.0
    """Epochs over which the weight of the divergence rises from 0 (elbo)."""
    validation_particles: int = 0
    """Particles of the importance-weighted bound by which validation chooses the best weights, whatever was trained;
    0: the bound of training."""

    def check_bound(self) -> None:
        """Raise where a setting is out of range, or has no effect with the bound.

        Raises:
            AncestralError: it names the setting and the flag to turn.
        """
        if self.bound not in ("elbo", "iwae"):
            raise AncestralError(f"there is no bound {self.bound!r}. " + nearest(str(self.bound), ("elbo", "iwae")))
        if not 0 <= self.kl_warmup < float("inf"):
            raise AncestralError(f"kl_warmup is {self.kl_warmup}, but it must be 0 or more.")
        if self.kl_warmup and self.bound == "iwae":
            raise AncestralError(
                f"kl_warmup is {self.kl_warmup}, which has no effect with the iwae bound: use --kl-warmup 0, or "
                "--bound elbo."
            )
        if self.validation_particles < 0:
            raise AncestralError(
                f"validation_particles is {self.validation_particles}: give a number of particles, or 0 for the bound "
                "of training."
            )


@dataclass(frozen=True)
class PathSettings(BoundSettings):
    """The same for models with reparameterized latent variables alone, whose gradient can pass them in several ways."""

    gradient: Literal["total", "sticking-the-landing", "doubly-reparameterized"] = "total"
    """How the gradient passes the draws of q: by path and score; without the score (Roeder et al., 2017); or with the
    score as a second path (Tucker et al., 2019), which does not get lost in noise with many particles (iwae)."""

    def check_bound(self) -> None:
        super().check_bound()
        known = ("total", "sticking-the-landing", "doubly-reparameterized")
        if self.gradient not in known:
            raise AncestralError(f"there is no gradient {self.gradient!r}. " + nearest(str(self.gradient), known))

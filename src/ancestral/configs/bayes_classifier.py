"""The settings of class-conditional generative models that classify by Bayes' rule."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar, Self

from ancestral.configs.bound import BoundSettings
from ancestral.configs.data import DataConfig, DataDescription, check_labels
from ancestral.configs.likelihood import LikelihoodSettings
from ancestral.configs.network import NetworkSettings
from ancestral.configs.training import TrainingConfig
from ancestral.errors import AncestralError


@dataclass(frozen=True)
class BayesClassifierConfig(NetworkSettings, BoundSettings, LikelihoodSettings):
    """Class-conditional generative model p(y) p(x | y) that classifies by Bayes' rule (Ng and Jordan, 2002)."""

    validates: ClassVar[bool] = True  # has a loss that means something on held-out rows

    latent: int = 50
    """Dimensions of the latent variable z of a class-conditional variational autoencoder, p(z) p(x | y, z); 0: none, so
    that the components of x are independent given y, and all is exact (naive Bayes): a model without hidden layers,
    which is learned soonest with a --learning-rate of 0.05."""
    hidden: tuple[int, ...] = (500,)
    """Units of the hidden layers of q(z | x, y), after convolutions if there are any, and in reverse of p(x | y, z).
    The label enters at the last of them, and at the first of p(x | y, z)."""
    particles: int = 1
    """Draws of z per datapoint."""
    class_particles: int = 10
    """Particles of the importance-weighted bound of log p(x | y), of each class, by which it classifies."""
    prior_scale: float = 0.0
    """Standard deviation of a normal prior over every weight of p, whose density counts once for all rows: maximum a
    posteriori; 0: a flat prior, maximum likelihood."""

    def __post_init__(self) -> None:
        self.check_network()
        self.check_bound()
        self.check_likelihood()
        if self.latent < 0:
            raise AncestralError(f"latent is {self.latent}, but it counts dimensions: give 0 or more.")
        for name in ("particles", "class_particles"):
            if getattr(self, name) < 1:
                raise AncestralError(f"{name} is {getattr(self, name)}, but at least one is needed.")
        if not 0 <= self.prior_scale < float("inf"):
            raise AncestralError(
                f"prior_scale is {self.prior_scale}: give a standard deviation, or 0 for a flat prior."
            )
        if not self.latent:
            without_effect = [field.name for kind in (NetworkSettings, BoundSettings) for field in fields(kind)]
            for name in [*without_effect, "particles", "class_particles"]:
                if getattr(self, name) != getattr(BayesClassifierConfig, name):
                    raise AncestralError(
                        f"{name} has no effect with latent 0, where p(x | y) has no latent variable: leave it out, or "
                        "give --latent."
                    )

    def resolve(self, data: DataConfig, raw: DataDescription, usual_binarization: str) -> tuple[Self, DataConfig]:
        """Choose the likelihood and the preparation of the data: see :meth:`LikelihoodSettings.resolve`.

        Raises:
            AncestralError: they contradict each other, or there are no labels, of two classes at least.
        """
        check_labels(raw, "bayes-classifier")
        return super().resolve(data, raw, usual_binarization)


TRAINING = TrainingConfig(learning_rate=1e-3)

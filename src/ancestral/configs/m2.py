"""The semi-supervised variational autoencoder's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from ancestral.configs.data import DataConfig, DataDescription, check_labels
from ancestral.configs.estimation import EstimatorName, EstimatorSettings
from ancestral.configs.likelihood import LikelihoodSettings
from ancestral.configs.network import NetworkSettings
from ancestral.configs.training import TrainingConfig
from ancestral.errors import AncestralError


@dataclass(frozen=True)
class M2Config(NetworkSettings, EstimatorSettings, LikelihoodSettings):
    """Semi-supervised variational autoencoder: p(x, y, z) = p(y) p(z) p(x | y, z) (Kingma et al., 2014, model M2)."""

    validates: ClassVar[bool] = True  # has a loss that means something on held-out rows
    few_labels: ClassVar[bool] = True  # learns from rows whose label is hidden too

    estimator: EstimatorName = "enumerate"
    """How the gradient passes the label where it is not known. enumerate sums over the classes; rloo compares
    particles; reinforce has no baseline but those of --baseline; nvil is reinforce with both baselines, normalized."""
    latent: int = 50
    """Dimensions of the latent variable z."""
    alpha: float = 0.1
    """Weight of -log q(y | x) of a row with a label, where the bound of all rows has weight 1 (Kingma et al., 2014, eq.
    9, divided by the number of rows). An estimator that normalizes its signal (nvil, --normalize) makes the rows
    without a label say less, as a larger alpha would."""
    hidden: tuple[int, ...] = (500,)
    """Units of the hidden layers of q(y | x) and q(z | x, y), after convolutions if there are any, and in reverse of
    p(x | y, z). The label enters at the last of them, and at the first of p(x | y, z)."""
    dropout: float = 0.0
    """Part of the last hidden units of q(y | x) dropped in training: of few labels, a classifier is soon too sure."""

    def __post_init__(self) -> None:
        self.check_estimator("elbo", classes=0)
        self.check_likelihood()
        self.check_network()
        if self.latent < 1:
            raise AncestralError(f"latent is {self.latent}, but sizes are 1 or more.")
        if not 0 <= self.alpha < float("inf"):
            raise AncestralError(f"alpha is {self.alpha}, but it must be 0 or more.")
        if not 0 <= self.dropout < 1:
            raise AncestralError(f"dropout is {self.dropout}, but it must be at least 0 and below 1.")

    def resolve(self, data: DataConfig, raw: DataDescription, usual_binarization: str) -> tuple[Self, DataConfig]:
        """Choose the likelihood and the preparation of the data: see :meth:`LikelihoodSettings.resolve`.

        Raises:
            AncestralError: they contradict each other, or there are no labels, of two classes at least.
        """
        check_labels(raw, "m2")
        return super().resolve(data, raw, usual_binarization)


TRAINING = TrainingConfig(learning_rate=1e-3)

"""The settings of a classifier p(y | x)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Self

from ancestral.configs.data import DataConfig, DataDescription, check_labels
from ancestral.configs.network import NetworkSettings
from ancestral.configs.training import TrainingConfig
from ancestral.errors import AncestralError


@dataclass(frozen=True)
class ClassifierConfig(NetworkSettings):
    """Conditional model p(y | x), a classifier without a density of x: what generative ones compete with."""

    validates: ClassVar[bool] = True  # has a loss that means something on held-out rows
    few_labels: ClassVar[bool] = True  # rows whose label is hidden are left out

    dropout: float = 0.0
    """Part of the last hidden units dropped in training."""

    def __post_init__(self) -> None:
        self.check_network()
        if not 0 <= self.dropout < 1:
            raise AncestralError(f"dropout is {self.dropout}, but it must be at least 0 and below 1.")

    def resolve(self, data: DataConfig, raw: DataDescription, usual_binarization: str) -> tuple[Self, DataConfig]:
        """The data stay as they are, unless it is asked otherwise.

        Raises:
            AncestralError: there are no labels, of two classes at least.
        """
        check_labels(raw, "classifier")
        binarization = "none" if data.binarization == "auto" else data.binarization
        dequantize = "no" if data.dequantize == "auto" else data.dequantize
        return self, dataclasses.replace(data, binarization=binarization, dequantize=dequantize)


TRAINING = TrainingConfig(learning_rate=1e-3)

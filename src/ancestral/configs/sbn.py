"""The sigmoid belief net's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ancestral.configs.bound import BoundSettings
from ancestral.configs.data import DataConfig, DataDescription
from ancestral.configs.estimation import EstimatorSettings
from ancestral.configs.likelihood import as_bits
from ancestral.configs.training import TrainingConfig
from ancestral.errors import AncestralError, nearest


@dataclass(frozen=True)
class SBNConfig(EstimatorSettings, BoundSettings):
    """Sigmoid belief net: layers of binary or categorical units, each drawn given the layer above (Neal, 1992)."""

    validates: ClassVar[bool] = True

    layers: tuple[int, ...] = (200, 200)
    """Units of each stochastic layer; the first is next to the data."""
    classes: int = 2
    """Classes of each unit; 2 makes them binary."""
    hidden: tuple[int, ...] = ()
    """Tanh units of each deterministic layer between one stochastic layer and the next; none: linear."""
    units: Literal["symmetric", "binary"] = "symmetric"
    """What a layer sees of a bit: -1 or 1 (symmetric), or 0 or 1 (binary). The models are the same, but around 0 they
    are learned faster."""
    task: Literal["generation", "structured-prediction"] = "generation"
    """generation: of whole data, with q(h | x) the other way; structured-prediction: of the lower half of an image from
    its upper half, with no q."""

    def __post_init__(self) -> None:
        if not self.layers:
            raise AncestralError("layers is empty, but there is at least one stochastic layer: give --layers 200.")
        for name in ("layers", "hidden"):
            if any(v < 1 for v in getattr(self, name)):
                raise AncestralError(f"{name} is {getattr(self, name)}, but sizes are 1 or more.")
        if self.classes < 2:
            raise AncestralError(f"classes is {self.classes}, but a unit has 2 or more: make --classes at least 2.")
        for field, options in (
            ("units", ("symmetric", "binary")),
            ("task", ("generation", "structured-prediction")),
        ):
            if getattr(self, field) not in options:
                value = str(getattr(self, field))
                raise AncestralError(f"there is no {field} {value!r}. " + nearest(value, options))
        self.check_bound()
        if self.kl_warmup and self.task != "generation":
            raise AncestralError(
                f"kl_warmup is {self.kl_warmup}, which has no effect where there is no divergence: leave it out, or "
                "use --task generation."
            )
        self.check_estimator(self.bound, self.classes)

    def resolve(self, data: DataConfig, raw: DataDescription, usual_binarization: str) -> tuple[SBNConfig, DataConfig]:
        """The data are made zeros and ones: by default anew at each epoch, as the literature does.

        Raises:
            AncestralError: real numbers, or structured prediction of what has no upper and lower half.
        """
        if self.task == "structured-prediction" and (len(raw.shape) != 3 or raw.shape[1] < 2):
            raise AncestralError(
                f"structured prediction is of the lower half of an image, but these data have shape {raw.shape}. Use "
                "--task generation."
            )
        return self, as_bits(data, raw, usual_binarization)


TRAINING = TrainingConfig(learning_rate=3e-3)

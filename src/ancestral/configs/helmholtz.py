"""The Helmholtz machine's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ancestral.configs.data import DataConfig, DataDescription
from ancestral.configs.estimation import EstimatorName, EstimatorSettings
from ancestral.configs.likelihood import as_bits
from ancestral.configs.training import TrainingConfig
from ancestral.errors import AncestralError, nearest

Layer = Literal["sigmoid", "darn", "nade"]
OF_ANY_MASS = ("reinforce", "rloo", "vimco", "nvil", "enumerate")
"""Estimators that need no more of a variable than its mass."""

PARTICLES = {"reweighted-wake-sleep": 10, "iwae": 5}
"""Where none are asked for: those of Bornschein and Bengio (2015), and of Burda, Grosse and Salakhutdinov (2016)."""


@dataclass(frozen=True)
class HelmholtzConfig(EstimatorSettings):
    """Helmholtz machine: layers of binary units, and a recognition model the other way (Dayan et al., 1995)."""

    validates: ClassVar[bool] = True

    layers: tuple[int, ...] = (200, 200)
    """Units of each stochastic layer; the first is next to the data."""
    layer: Layer = "sigmoid"
    """The units of a layer of p, given the layer above: independent (sigmoid belief net), or each given those before it
    too, linearly (darn) or by a hidden layer that all share (nade)."""
    recognition: Layer = "sigmoid"
    """The same of q, given the layer below."""
    hidden: tuple[int, ...] = ()
    """Tanh units of each deterministic layer between one stochastic layer and the next; none: linear."""
    nade_hidden: int = 200
    """Units of the hidden layer of each layer that is nade."""
    units: Literal["symmetric", "binary"] = "symmetric"
    """What a layer sees of a bit of another: -1 or 1 (symmetric), or 0 or 1 (binary)."""
    objective: Literal["wake-sleep", "reweighted-wake-sleep", "elbo", "iwae"] = "wake-sleep"
    """The learning rule: wake-sleep; the same with weighted particles; or a bound by a gradient estimator."""
    q_phase: Literal["wake", "sleep", "both"] = "wake"
    """What q learns from: weighted particles of the data, dreams of p, or both (reweighted-wake-sleep)."""
    estimator: EstimatorName = "nvil"
    """How the gradient passes the layers (elbo, iwae); `ancestral list estimators` says what each is."""
    particles: int = 0
    """Draws of the latent variables per datapoint; 0: 10 with reweighted-wake-sleep, 5 with iwae, 1 with the others."""
    kl_warmup: float = 0.0
    """Epochs over which the weight of the divergences rises from 0 (elbo)."""
    validation_particles: int = 0
    """Particles of the importance-weighted bound by which validation chooses the best weights, whatever was trained;
    0: as many as in training."""

    def __post_init__(self) -> None:
        if self.particles == 0:
            object.__setattr__(self, "particles", PARTICLES.get(self.objective, 1))
        if not self.layers:
            raise AncestralError("layers is empty, but there is at least one stochastic layer: give --layers 200.")
        for name in ("layers", "hidden"):
            if any(v < 1 for v in getattr(self, name)):
                raise AncestralError(f"{name} is {getattr(self, name)}, but sizes are 1 or more.")
        if self.nade_hidden < 1:
            raise AncestralError(f"nade_hidden is {self.nade_hidden}, but sizes are 1 or more.")
        if not 0 <= self.kl_warmup < float("inf"):
            raise AncestralError(f"kl_warmup is {self.kl_warmup}, but it must be 0 or more.")
        if self.kl_warmup and self.objective != "elbo":
            raise AncestralError(
                f"kl_warmup is {self.kl_warmup}, which has no effect with {self.objective}: leave it out, or use "
                "--objective elbo."
            )
        if self.validation_particles < 0:
            raise AncestralError(
                f"validation_particles is {self.validation_particles}: give a number of particles, or 0 for those of "
                "training."
            )
        for field, options in (
            ("layer", ("sigmoid", "darn", "nade")),
            ("recognition", ("sigmoid", "darn", "nade")),
            ("units", ("symmetric", "binary")),
            ("objective", ("wake-sleep", "reweighted-wake-sleep", "elbo", "iwae")),
            ("q_phase", ("wake", "sleep", "both")),
        ):
            if getattr(self, field) not in options:
                value = str(getattr(self, field))
                raise AncestralError(f"there is no {field} {value!r}. " + nearest(value, options))
        if "nade" not in (self.layer, self.recognition) and self.nade_hidden != HelmholtzConfig.nade_hidden:
            raise AncestralError("nade_hidden has no effect without such a layer: use --layer nade, or leave it out.")
        if self.q_phase != "wake" and self.objective != "reweighted-wake-sleep":
            raise AncestralError(
                f"q_phase is {self.q_phase}, which has no effect with {self.objective}: it is for --objective "
                "reweighted-wake-sleep."
            )
        if self.objective in ("elbo", "iwae"):
            self.check_estimator(self.objective, 2)
            if self.recognition != "sigmoid" and self.estimator not in OF_ANY_MASS:
                raise AncestralError(
                    f"the estimator {self.estimator} is for units that are independent given the layer below, but "
                    f"recognition is {self.recognition}: use one of {', '.join(OF_ANY_MASS)}, or --recognition sigmoid."
                )
        else:
            self._check_wake_sleep()

    def _check_wake_sleep(self) -> None:
        usual = EstimatorSettings(estimator=HelmholtzConfig.estimator)
        for name in EstimatorSettings.__dataclass_fields__:
            if name != "particles" and getattr(self, name) != getattr(usual, name):
                raise AncestralError(
                    f"{name} is {getattr(self, name)}, which has no effect with {self.objective}, whose gradients pass "
                    "no draw: leave it out, or use --objective elbo or iwae."
                )
        if self.objective == "wake-sleep" and self.particles != 1:
            raise AncestralError(
                f"particles is {self.particles}, but wake-sleep has one: leave it out, or use --objective "
                "reweighted-wake-sleep."
            )
        if self.objective == "reweighted-wake-sleep" and self.particles < 2:
            raise AncestralError(
                f"particles is {self.particles}, but reweighted wake-sleep weighs particles against each other: use "
                "--particles 2 or more, or --objective wake-sleep."
            )

    def resolve(
        self, data: DataConfig, raw: DataDescription, usual_binarization: str
    ) -> tuple[HelmholtzConfig, DataConfig]:
        """The data are made zeros and ones: by default anew at each epoch, as the literature does.

        Raises:
            AncestralError: real numbers.
        """
        return self, as_bits(data, raw, usual_binarization)


TRAINING = TrainingConfig(learning_rate=3e-3)

r"""The sigmoid belief net: layers of binary units, or of one-hot ones, each drawn given the layer above it.

.. math::
    p(x, h) = p(h_L) ∏_{l<L} p(h_l | h_{l+1}) p(x | h_1),  q(h | x) = q(h_1 | x) ∏_{l<L} q(h_{l+1} | h_l)

Between one layer and the next is an affine map (linear), or a perceptron with tanh layers (non-linear). For structured
prediction, the lower half of an image from its upper half, the net itself is the distribution of its latent variables:

.. math:: \log p(bottom | top) ≥ E_{p(h | top)}[\log p(bottom | h_1)],  p(h | top) = p(h_L | top) ∏ p(h_l | h_{l+1})

Sources: Neal (1992); Mnih and Gregor (2014) for the bound; Raiko, Berglund, Alain and Dinh (2015) for structured
prediction; categorical layers: Gu, Levine, Sutskever and Mnih (2016), section 5.2; Jang, Gu and Poole (2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ancestral.configs import DataDescription, SBNConfig
from ancestral.core import Estimator, Joint
from ancestral.core.trace import Conditional
from ancestral.distributions import bernoulli, bernoulli_bias, one_hot, one_hot_bias
from ancestral.models.estimation import Shape, make_estimator
from ancestral.models.latent_variable import LatentVariableModel, Objective
from ancestral.networks import mlp
from ancestral.objectives.elbo import closed_form

KEPT = 64
"""Upper halves that a model of structured prediction keeps, to show what it makes of them."""


def sigmoid_belief_net(config: SBNConfig, data: DataDescription) -> LatentVariableModel:
    """Build the model for data of that shape."""
    layers: dict[str, Shape] = {
        f"h{i}": (units,) if config.classes == 2 else (units, config.classes)
        for i, units in enumerate(config.layers, start=1)
    }
    top = f"h{len(layers)}"
    if config.task == "structured-prediction":
        channels, height, width = data.shape
        upper, lower = (channels, height // 2, width), (channels, height - height // 2, width)
        hidden = {"top": upper, **dict(reversed(layers.items()))}
        p = Joint(chain(config, {**hidden, "bottom": lower}))
        return StructuredPrediction(
            p,
            upper,
            config.bound,
            estimators(config, hidden),
            particles=config.particles,
            validation_particles=config.validation_particles,
        )
    prior = bernoulli_bias(config.layers[-1]) if config.classes == 2 else one_hot_bias(*layers[top])
    upwards = {"x": data.shape, **layers}
    chosen = estimators(config, upwards)
    return LatentVariableModel(
        p=Joint({top: prior, **chain(config, dict(reversed(upwards.items())))}),
        q=Joint(chain(config, upwards)),
        objective=config.bound,
        estimators=chosen,
        particles=config.particles,
        analytic_kl=closed_form([top], chosen) if config.bound == "elbo" else [],
        kl_warmup=config.kl_warmup,
        validation_particles=config.validation_particles,
    )


def chain(config: SBNConfig, shapes: Mapping[str, Shape]) -> dict[str, Conditional]:
    """Each variable but the first given the one before it."""
    conditionals: dict[str, Conditional] = {}
    for (parent, inward), (name, event) in pairwise(shapes.items()):
        network = between(config.hidden, config.units, inward, event)
        conditionals[f"{name} | {parent}"] = (
            one_hot(network, 1) if is_one_hot(event) else bernoulli(network, len(event))
        )
    return conditionals


def between(hidden: Sequence[int], units: str, inward: Shape, event: Shape) -> nn.Module:
    """The network from one layer to another, or to the parameters of its units: linear, or with tanh layers."""
    network: nn.Module = mlp(inward, *hidden, event)
    if units == "symmetric":
        network = Symmetric(network, inward[1] if is_one_hot(inward) else 2)
    return network


def is_one_hot(shape: Shape) -> bool:
    """Whether a value of that shape holds one-hot vectors: images have three dimensions, and rows of a table one."""
    return len(shape) == 2


class Symmetric(nn.Module):
    """A network that sees 2 (z - 1/K) of units with K classes, -1 or 1 of bits (Maddison et al., 2017, section 5)."""

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network, self.classes = network, classes

    def forward(self, z: Tensor) -> Tensor:
        output: Tensor = self.network(2 * z - 2 / self.classes)
        return output


def estimators(config: SBNConfig, shapes: Mapping[str, Shape]) -> dict[str, Estimator]:
    """That of each variable but the first, which is drawn given the one before it."""
    return {name: make_estimator(config, [inward], event) for (_, inward), (name, event) in pairwise(shapes.items())}


class StructuredPrediction(LatentVariableModel):
    """p(bottom | top) of the halves of an image, with latent variables drawn from p(h | top) itself.

    Data are whole images: every method takes and gives them. What is drawn is the lower half, below the upper half of
    data, or of :attr:`tops` where none is given.
    """

    tops: Tensor
    """Upper halves of training data, ``[64, *upper]``, those that ``sample`` completes."""

    def __init__(
        self,
        p: Joint,
        upper: Shape,
        objective: Objective,
        estimators: Mapping[str, Estimator],
        *,
        particles: int = 1,
        validation_particles: int = 0,
    ) -> None:
        super().__init__(
            p, p, objective, estimators,
            particles=particles, validation_particles=validation_particles, observed="bottom",
        )  # fmt: skip
        self.register_buffer("tops", torch.zeros(KEPT, *upper))

    def given(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """The two halves by name."""
        rows = self.tops.shape[2]
        return {"top": x[:, :, :rows], "bottom": x[:, :, rows:]}

    def data(self, values: Mapping[str, Tensor]) -> Tensor:
        """The two halves as one image."""
        return torch.cat([values["top"], values["bottom"]], 2)

    def predicted(self, x: Tensor) -> Tensor:
        """The lower halves."""
        return self.given(x)["bottom"]

    def condition(self, n: int) -> dict[str, Tensor]:
        """Upper halves of training data, the same ones in turn."""
        return {"top": self.tops[torch.arange(n, device=self.tops.device) % len(self.tops)]}

    def initialize(self, data: Tensor) -> None:
        """Keep some upper halves, and let p(bottom | h) start at the mean of the lower ones."""
        halves = self.given(data)
        if not self.initialized:
            self.tops.copy_(halves["top"][torch.arange(len(self.tops)) % len(data)])
        super().initialize(halves["bottom"])

r"""The Helmholtz machine: layers of binary units that generate, and a recognition model that finds their causes.

.. math::
    p(x, h) = p(h_L) ∏_{l<L} p(h_l | h_{l+1}) p(x | h_1),  q(h | x) = q(h_1 | x) ∏_{l<L} q(h_{l+1} | h_l)

Within a layer the units are independent given the layer above (a sigmoid belief net), or drawn one after another (DARN
and NADE layers). The same two models learn by any rule:

- wake-sleep: p from what q recognizes in the data, q from what p dreams;
- reweighted wake-sleep: the same with several particles, weighted by how well they explain the data;
- a bound of log p(x), the ELBO or the importance-weighted one, with a gradient estimator for the units.

Sources: Dayan, Hinton, Neal and Zemel (1995); Hinton, Dayan, Frey and Neal (1995); Gregor et al. (2014) for DARN
layers; Bornschein and Bengio (2015) for reweighted wake-sleep and for NADE layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

from torch import nn

from ancestral.configs import DataDescription, HelmholtzConfig
from ancestral.configs.helmholtz import Layer
from ancestral.core import Joint
from ancestral.core.trace import Conditional
from ancestral.distributions import bernoulli, darn, nade
from ancestral.models.estimation import Shape, make_estimator
from ancestral.models.latent_variable import LatentVariableModel
from ancestral.models.sbn import between
from ancestral.networks import Bias


def helmholtz_machine(config: HelmholtzConfig, data: DataDescription) -> LatentVariableModel:
    """Build the model for data of that shape."""
    layers: dict[str, Shape] = {f"h{i}": (units,) for i, units in enumerate(config.layers, start=1)}
    upwards: dict[str, Shape] = {"x": data.shape, **layers}
    top = f"h{len(layers)}"
    bound = config.objective in ("elbo", "iwae")
    estimators = {
        name: make_estimator(config, [inward], event) for (_, inward), (name, event) in pairwise(upwards.items())
    }
    downwards = dict(reversed(upwards.items()))
    return LatentVariableModel(
        p=Joint({top: layer(config, config.layer, None, layers[top]), **chain(config, config.layer, downwards)}),
        q=Joint(chain(config, config.recognition, upwards)),
        objective=config.objective,
        estimators=estimators if bound else None,
        particles=config.particles,
        q_phase=config.q_phase,
        kl_warmup=config.kl_warmup,
        validation_particles=config.validation_particles,
    )


def chain(config: HelmholtzConfig, kind: Layer, shapes: Mapping[str, Shape]) -> dict[str, Conditional]:
    """Each variable but the first given the one before it."""
    return {
        f"{name} | {parent}": layer(config, kind, inward, event)
        for (parent, inward), (name, event) in pairwise(shapes.items())
    }


def layer(config: HelmholtzConfig, kind: Layer, inward: Shape | None, event: Shape) -> Conditional:
    """The bits of one layer given those of another, or given nothing."""

    def network(output: Shape) -> nn.Module:
        return Bias(*output) if inward is None else between(config.hidden, config.units, inward, output)

    bits, dims = math.prod(event), len(event)
    if kind == "darn":
        return darn(network(event), bits, dims)
    if kind == "nade":
        return nade(network(event), network((config.nade_hidden,)), bits, config.nade_hidden, dims)
    return bernoulli(network(event), dims)

r"""The hierarchical variational autoencoder: layers of Gaussian latent variables, recognized from the data upwards.

.. math::
    p(x, z) = p(z_L) ∏_{l<L} p(z_l | z_{l+1}) p(x | z_1),  q(z | x) = q(z_1 | x) ∏_{l<L} q(z_{l+1} | z_l)

Each conditional of a latent variable is a diagonal Gaussian whose mean and log-scale are perceptrons with two hidden
layers. The divergence of the top layer is taken in closed form; that of the others has none, since what a layer is
drawn from in p is drawn after it in q.

Sources: Rezende, Mohamed and Wierstra (2014); the networks of two layers: Burda, Grosse and Salakhutdinov (2016),
section 5.
"""

from __future__ import annotations

from itertools import pairwise

import torch

from ancestral.configs import DataDescription, HierarchicalVAEConfig
from ancestral.configs.hierarchy import HierarchySettings
from ancestral.core import Joint
from ancestral.core.trace import Conditional
from ancestral.distributions import normal, standard_normal
from ancestral.models.latent_variable import LatentVariableModel
from ancestral.models.vae import likelihood
from ancestral.networks import MLP, mlp
from ancestral.networks.mlp import Size


def hierarchical_variational_autoencoder(config: HierarchicalVAEConfig, data: DataDescription) -> LatentVariableModel:
    """Build the model for data of that shape. ``config.likelihood`` must be resolved (``config.resolve``).

    Raises:
        AncestralError: a likelihood still ``"auto"``.
    """
    sizes: list[Size] = [data.shape, *config.layers]
    names = ["x", *latent_names(config)]
    q: dict[str, Conditional] = {
        f"{above} | {below}": normal(at_scale_one(config, network(config, inward, width, 2 * units)))
        for (below, above), inward, width, units in zip(
            pairwise(names), sizes, config.hidden, config.layers, strict=False
        )
    }
    return LatentVariableModel(
        p=generative(config, data),
        q=Joint(q),
        objective=config.bound,
        particles=config.particles,
        analytic_kl=names[-1:] if config.bound == "elbo" and config.gradient == "total" else [],
        gradient=config.gradient,
        beta=config.beta,
        kl_warmup=config.kl_warmup,
        validation_particles=config.validation_particles,
    )


def latent_names(config: HierarchySettings) -> list[str]:
    """z1, next to the data, to the top."""
    return [f"z{i}" for i in range(1, len(config.layers) + 1)]


def generative(config: HierarchySettings, data: DataDescription) -> Joint:
    """p(x, z), of which every layer is given the one above it."""
    names, layers, hidden = latent_names(config), config.layers, config.hidden
    conditionals: dict[str, Conditional] = {names[-1]: standard_normal(layers[-1])}
    for i in reversed(range(len(layers) - 1)):
        conditionals[f"{names[i]} | {names[i + 1]}"] = normal(
            at_scale_one(config, network(config, layers[i + 1], hidden[i + 1], 2 * layers[i]))
        )
    conditionals["x | z1"] = likelihood(config, data, lambda shape: network(config, layers[0], hidden[0], shape))
    return Joint(conditionals)


def at_scale_one(config: HierarchySettings, network: MLP) -> MLP:
    """After batch normalization, the log-scales start at 0.

    There every hidden unit varies by 1, so that scales would start between e^-6 and e^6, and divergences at millions.
    """
    if config.normalization == "batch":
        with torch.no_grad():
            network.output.weight[len(network.output.weight) // 2 :].zero_()
    return network


def network(config: HierarchySettings, inward: Size, width: int, outward: Size) -> MLP:
    """Two hidden layers of one width."""
    return mlp(inward, width, width, outward, activation=config.activation, batch_norm=config.normalization == "batch")

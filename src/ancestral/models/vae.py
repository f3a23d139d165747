r"""The variational autoencoder.

.. math::
    p(x, z) = p(z) p(x | z),  p(z) = N(0, I),  q(z | x) = N(μ(x), diag σ²(x))

    L(x) = E_{q(z | x)}[\log p(x | z)] - β KL(q(z | x) \| p(z)) ≤ \log p(x)

or the importance-weighted bound of it. Decoder and encoder are multilayer perceptrons or convolutions.

Sources: Kingma and Welling (2014); Rezende, Mohamed and Wierstra (2014); Burda, Grosse and Salakhutdinov (2016) for the
importance-weighted bound; Higgins et al. (2017) for β; Kingma et al. (2016), eq. 15, for free bits.
"""

from __future__ import annotations

import torch
from torch import nn

from ancestral.configs import DataDescription, VAEConfig
from ancestral.core import Joint
from ancestral.distributions import (
    Head,
    bernoulli,
    continuous_bernoulli,
    discretized_logistic,
    normal,
    standard_normal,
)
from ancestral.errors import AncestralError
from ancestral.models.latent_variable import LatentVariableModel
from ancestral.networks import ConvDecoder, ConvEncoder, mlp


def variational_autoencoder(config: VAEConfig, data: DataDescription) -> LatentVariableModel:
    """Build the model for data of that shape. ``config.likelihood`` must be resolved (``config.resolve``).

    Raises:
        AncestralError: convolutions for a table, or a likelihood still ``"auto"``.
    """
    elbo = config.bound == "elbo"
    return LatentVariableModel(
        p=Joint({"z": standard_normal(config.latent), "x | z": decoder(config, data)}),
        q=Joint({"z | x": normal(encoder(config, data))}),
        objective=config.bound,
        particles=config.particles,
        analytic_kl=["z"] if elbo else [],
        beta=config.beta,
        kl_warmup=config.kl_warmup,
        free_bits=config.free_bits,
    )


def encoder(config: VAEConfig, data: DataDescription) -> nn.Module:
    """From x to the mean and log-scale of z."""
    if config.network == "conv":
        return ConvEncoder(data.shape, config.channels, 2 * config.latent, config.activation)
    return mlp(data.shape, *config.hidden, 2 * config.latent, activation=config.activation)


def decoder(config: VAEConfig, data: DataDescription) -> Head:
    """From z to p(x | z)."""
    event_dims = len(data.shape)
    two = config.likelihood == "discretized-logistic" or (config.likelihood == "normal" and config.scale == "learned")
    first = data.shape[0] * (2 if two else 1)
    network: nn.Module
    if config.network == "conv":
        network = ConvDecoder(config.latent, data.shape, config.channels, first, config.activation)
    else:
        network = mlp(config.latent, *reversed(config.hidden), (first, *data.shape[1:]), activation=config.activation)
    if config.likelihood == "bernoulli":
        return bernoulli(network, event_dims)
    if config.likelihood == "continuous-bernoulli":
        return continuous_bernoulli(network, event_dims)
    if config.likelihood == "discretized-logistic":
        return discretized_logistic(network, event_dims, data.levels)
    if config.likelihood == "normal":
        return normal(network, event_dims, config.scale, torch.sigmoid if config.mean == "sigmoid" else None)
    raise AncestralError(
        f"the likelihood is {config.likelihood!r}: choose bernoulli, normal, discretized-logistic or "
        "continuous-bernoulli, or let VAEConfig.resolve choose."
    )

r"""The variational autoencoder.

.. math::
    p(x, z) = p(z) p(x | z),  p(z) = N(0, I),  q(z | x) = N(μ(x), diag σ²(x))

    L(x) = E_{q(z | x)}[\log p(x | z)] - β KL(q(z | x) \| p(z)) ≤ \log p(x)

or the importance-weighted bound of it; or q(z | x) is such a Gaussian moved by normalizing flows. Decoder and encoder
are multilayer perceptrons or convolutions.

Sources: Kingma and Welling (2014); Rezende, Mohamed and Wierstra (2014); Burda, Grosse and Salakhutdinov (2016) for the
importance-weighted bound; Higgins et al. (2017) for β; Kingma et al. (2016), eq. 15, for free bits; Rezende and Mohamed
(2015) and Kingma et al. (2016) for posteriors by flows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ancestral.configs import DataDescription, LikelihoodSettings, VAEConfig
from ancestral.core import Joint
from ancestral.core.trace import Conditional
from ancestral.distributions import (
    Head,
    InverseAutoregressive,
    bernoulli,
    continuous_bernoulli,
    discretized_logistic,
    flow_parameters,
    flowed,
    normal,
    standard_normal,
)
from ancestral.errors import AncestralError
from ancestral.models.latent_variable import LatentVariableModel
from ancestral.networks import MLP, ConvDecoder, ConvEncoder, MaskedPerceptron, mlp

CONTEXT = 50
"""Numbers of the encoder that every inverse autoregressive flow sees."""


def variational_autoencoder(config: VAEConfig, data: DataDescription) -> LatentVariableModel:
    """Build the model for data of that shape. ``config.likelihood`` must be resolved (``config.resolve``).

    Raises:
        AncestralError: convolutions for a table, or a likelihood still ``"auto"``.
    """
    closed = config.bound == "elbo" and config.posterior == "normal" and config.gradient == "total"
    return LatentVariableModel(
        p=Joint({"z": standard_normal(config.latent), "x | z": decoder(config, data)}),
        q=Joint({"z | x": posterior(config, data)}),
        objective=config.bound,
        particles=config.particles,
        analytic_kl=["z"] if closed else [],
        gradient=config.gradient,
        beta=config.beta,
        kl_warmup=config.kl_warmup,
        validation_particles=config.validation_particles,
        free_bits=config.free_bits,
    )


def posterior(config: VAEConfig, data: DataDescription) -> Conditional:
    """q(z | x): a diagonal Gaussian, or a flow."""
    d = config.latent
    if config.posterior == "normal":
        return normal(encoder(config, data, 2 * d))
    if config.posterior == "iaf":
        steps = [MaskedPerceptron(d, config.flow_hidden, CONTEXT, reverse=bool(i % 2)) for i in range(config.flows)]
        for step in steps:
            step.start_at(torch.tensor([0.0, 1.5]))  # the gates start open, and the flow near the identity
        return InverseAutoregressive(encoder(config, data, 2 * d + CONTEXT), d, steps)
    numbers = flow_parameters(config.posterior, d, config.flows)
    network = encoder(config, data, numbers)
    q = flowed(network, d, config.posterior, config.flows)
    q.start_at_the_gaussian(network.output)
    return q


def encoder(config: VAEConfig, data: DataDescription, outputs: int) -> MLP | ConvEncoder:
    """From x to the parameters of q(z | x)."""
    if config.network == "conv":
        return ConvEncoder(data.shape, config.channels, outputs, config.activation)
    return mlp(data.shape, *config.hidden, outputs, activation=config.activation)


def decoder(config: VAEConfig, data: DataDescription) -> Head:
    """From z to p(x | z)."""

    def network(shape: tuple[int, ...]) -> nn.Module:
        if config.network == "conv":
            return ConvDecoder(config.latent, data.shape, config.channels, shape[0], config.activation)
        return mlp(config.latent, *reversed(config.hidden), shape, activation=config.activation)

    return likelihood(config, data, network)


def likelihood(
    settings: LikelihoodSettings, data: DataDescription, network: Callable[[tuple[int, ...]], nn.Module]
) -> Head:
    """The conditional p(x | ...) of a resolved likelihood, from a function that makes a network of an output shape."""
    event_dims = len(data.shape)
    scaled = settings.likelihood == "normal" and settings.scale == "learned"
    two = scaled or settings.likelihood == "discretized-logistic"
    made = network((data.shape[0] * (2 if two else 1), *data.shape[1:]))
    if settings.likelihood == "bernoulli":
        return bernoulli(made, event_dims)
    if settings.likelihood == "continuous-bernoulli":
        return continuous_bernoulli(made, event_dims)
    if settings.likelihood == "discretized-logistic":
        return discretized_logistic(made, event_dims, data.levels)
    if settings.likelihood == "normal":
        return normal(made, event_dims, settings.scale, torch.sigmoid if settings.mean == "sigmoid" else None)
    raise AncestralError(
        f"the likelihood is {settings.likelihood!r}: choose bernoulli, normal, discretized-logistic or "
        "continuous-bernoulli, or let the config's resolve choose."
    )

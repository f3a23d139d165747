r"""The variational autoencoder with discrete latent variables: N one-hot vectors of K classes, or N bits.

.. math::
    p(x, z) = p(x | z) ∏_n p(z_n),  p(z_n) = 1/K,  q(z | x) = ∏_n Categorical(z_n; softmax l_n(x))

    L(x) = E_{q(z | x)}[\log p(x | z)] - \sum_n KL(q(z_n | x) ‖ p(z_n))

The divergence is that of the discrete distributions, in closed form, whatever estimator passes the gradient through z;
but where the estimator normalizes its signal it is part of that signal, which it would outweigh.
Encoder and decoder are multilayer perceptrons.

Source: Jang, Gu and Poole (2017), section 4.2; Maddison, Mnih and Teh (2017), section 5.
"""

from __future__ import annotations

from ancestral.configs import CategoricalVAEConfig, DataDescription
from ancestral.core import Joint
from ancestral.distributions import bernoulli, bernoulli_bias, one_hot, one_hot_bias
from ancestral.models.estimation import make_estimator
from ancestral.models.latent_variable import LatentVariableModel
from ancestral.models.vae import likelihood
from ancestral.networks import mlp
from ancestral.objectives.elbo import closed_form


def categorical_variational_autoencoder(config: CategoricalVAEConfig, data: DataDescription) -> LatentVariableModel:
    """Build the model for data of that shape. ``config.likelihood`` must be resolved (``config.resolve``).

    Raises:
        AncestralError: a likelihood still ``"auto"``.
    """
    shape = (config.latents,) if config.classes == 2 else (config.latents, config.classes)
    learned, binary = config.prior == "learned", config.classes == 2
    encoder = mlp(data.shape, *config.encoder_hidden, shape, activation=config.activation)
    decoder = likelihood(
        config, data, lambda output: mlp(shape, *config.decoder_hidden, output, activation=config.activation)
    )
    prior = bernoulli_bias(config.latents, learned) if binary else one_hot_bias(*shape, learned=learned)
    estimators = {"z": make_estimator(config, [data.shape], shape)}
    return LatentVariableModel(
        p=Joint({"z": prior, "x | z": decoder}),
        q=Joint({"z | x": bernoulli(encoder) if binary else one_hot(encoder, 1)}),
        objective=config.bound,
        estimators=estimators,
        particles=config.particles,
        analytic_kl=closed_form(["z"], estimators) if config.bound == "elbo" else [],
        kl_warmup=config.kl_warmup,
        validation_particles=config.validation_particles,
    )

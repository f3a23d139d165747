r"""The ladder variational autoencoder: q comes down the same way as p, and corrects what p expects of each layer.

.. math::
    d_1 = f_1(x),  d_{l+1} = f_{l+1}(d_l),  \hat{μ}_l, \hat{σ}_l \text{ from } d_l

    q(z_L | x) = N(\hat{μ}_L, \hat{σ}_L²),  q(z_l | z_{l+1}, x) = N(μ_l, σ_l²)

    σ_l^{-2} = \hat{σ}_l^{-2} + σ_{p,l}^{-2},  μ_l = σ_l² (\hat{μ}_l \hat{σ}_l^{-2} + μ_{p,l} σ_{p,l}^{-2})

where p(z_l | z_{l+1}) = N(μ_p, σ_p²) is the model's own conditional, whose parameters q shares. Since q draws each
layer after the one above it, as p does, every divergence is taken in closed form.

Source: Sønderby, Raiko, Maaløe, Sønderby and Winther (2016), "Ladder variational autoencoders", eq. 10 to 15.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ancestral.configs import DataDescription, LadderVAEConfig
from ancestral.core import Joint
from ancestral.core.trace import Conditional
from ancestral.distributions import normal
from ancestral.distributions.heads import soft_limit
from ancestral.distributions.normal import IndependentNormal
from ancestral.models.hierarchical_vae import at_scale_one, generative, latent_names
from ancestral.models.latent_variable import LatentVariableModel
from ancestral.networks import BatchNorm, activation, linear, mlp
from ancestral.networks.mlp import Size


def ladder_variational_autoencoder(config: LadderVAEConfig, data: DataDescription) -> LatentVariableModel:
    """Build the model for data of that shape. ``config.likelihood`` must be resolved (``config.resolve``).

    Raises:
        AncestralError: a likelihood still ``"auto"``.
    """
    p, names = generative(config, data), latent_names(config)
    q: dict[str, Conditional] = {}
    below, inward = "x", list[Size]([data.shape, *config.hidden])
    for i, width in enumerate(config.hidden):
        deterministic = f"d{i + 1}"
        q[f"{deterministic} | {below}"] = upwards(config, inward[i], width)
        below = deterministic
    for i in reversed(range(len(names))):
        parameters = at_scale_one(config, linear(config.hidden[i], 2 * config.layers[i]))
        if i == len(names) - 1:
            q[f"{names[i]} | d{i + 1}"] = normal(parameters)
        else:
            q[f"{names[i]} | d{i + 1}, {names[i + 1]}"] = Corrected(parameters, p.conditionals[names[i]])
    return LatentVariableModel(
        p=p,
        q=Joint(q),
        objective=config.bound,
        particles=config.particles,
        analytic_kl=names if config.bound == "elbo" and config.gradient == "total" else [],
        gradient=config.gradient,
        beta=config.beta,
        kl_warmup=config.kl_warmup,
        validation_particles=config.validation_particles,
    )


def upwards(config: LadderVAEConfig, inward: Size, width: int) -> nn.Module:
    """From one deterministic layer to the next: two layers, the second with its activation."""
    network = mlp(inward, width, width, activation=config.activation, batch_norm=config.normalization == "batch")
    normalized = [BatchNorm(width)] if config.normalization == "batch" else []
    return nn.Sequential(network, *normalized, activation(config.activation))


class Corrected(nn.Module):
    """q(z_l | d_l, z_{l+1}): the product of a Gaussian computed from the data and of p(z_l | z_{l+1}).

    Args:
        parameters: from d_l to the mean and log-scale of the first.
        expected: the conditional of p, which remains p's: its parameters are not registered here again.
    """

    def __init__(self, parameters: nn.Module, expected: Conditional) -> None:
        super().__init__()
        self.parameters_of_data = parameters
        self._expected = (expected,)  # in a tuple, that no module registers it

    def forward(self, deterministic: Tensor, above: Tensor) -> Distribution:
        loc, log_scale = self.parameters_of_data(deterministic).chunk(2, -1)
        log_scale = soft_limit(log_scale)
        expected = self._expected[0](above)
        assert isinstance(expected, IndependentNormal)
        return product(IndependentNormal(loc, log_scale, 1), expected)


def product(first: IndependentNormal, second: IndependentNormal) -> IndependentNormal:
    """The normalized product of two Gaussian densities of vectors: precisions add up, and weigh the means."""
    loc, log_scale, other, other_log_scale = torch.broadcast_tensors(
        first.loc, first.log_scale, second.loc, second.log_scale
    )  # type: ignore[no-untyped-call]
    # log σ² = -log(e^-2a + e^-2b), and the share of the first precision is a logistic function of their difference
    log_precision = torch.logaddexp(-2 * log_scale, -2 * other_log_scale)
    share = torch.sigmoid(2 * (other_log_scale - log_scale))
    return IndependentNormal(share * loc + (1 - share) * other, -log_precision / 2, 1)

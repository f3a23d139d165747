r"""The generative adversarial network.

.. math:: \min_G \max_D  E_{x}[\log D(x)] + E_{z}[\log(1 - D(G(z)))],  z ∼ U(-1, 1)

The generator is a rectifier network, the discriminator a maxout network with dropout. The generator maximises
log D(G(z)) instead (non-saturating) unless told otherwise. There is no density: the model can sample, and no more.

Sources: Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville and Bengio (2014); maxout: Goodfellow,
Warde-Farley, Mirza, Courville and Bengio (2013).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from ancestral.configs import DataDescription, GANConfig
from ancestral.errors import AncestralError
from ancestral.models.contract import Batch, Player, Scalars
from ancestral.networks import Linear, Maxout, glorot
from ancestral.objectives import discriminator_loss, generator_loss


class GAN(nn.Module):
    """Generator and discriminator, two players of one game."""

    def __init__(self, config: GANConfig, data: DataDescription) -> None:
        super().__init__()
        self.config = config
        self.shape = data.shape
        features = math.prod(data.shape)
        layers: list[nn.Module] = []
        for inward, outward in pairwise((config.latent, *config.hidden)):
            layers += [Linear(inward, outward), nn.ReLU()]
        layers.append(Linear((config.latent, *config.hidden)[-1], features))
        if data.kind != "continuous" or data.levels:
            layers.append(nn.Sigmoid())  # pixels lie in [0, 1]
        self.generator = nn.Sequential(*layers, nn.Unflatten(-1, data.shape))
        layers = [nn.Flatten(), nn.Dropout(config.input_dropout)]
        widths = (features, *config.discriminator_hidden)
        for inward, outward in pairwise(widths):
            layers += [Maxout(inward, outward, config.pieces), nn.Dropout(config.dropout)]
        self.discriminator = nn.Sequential(*layers, Linear(widths[-1], 1), nn.Flatten(0))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                # The paper's own much smaller start leaves z with little effect on G(z): samples began alike, and were
                # still so after two epochs on MNIST.
                glorot(module)

    def players(self) -> list[Player]:
        return [
            Player(
                "discriminator",
                list(self.discriminator.parameters()),
                self.discriminator_loss,
                learning_rate=self.config.discriminator_learning_rate or None,
            ),
            Player(
                "generator", list(self.generator.parameters()), self.generator_loss, self.config.discriminator_steps
            ),
        ]

    def noise(self, n: int) -> Tensor:
        """z ∼ U(-1, 1), ``[n, latent]``."""
        weight = next(self.generator.parameters())
        return torch.rand(n, self.config.latent, dtype=weight.dtype, device=weight.device) * 2 - 1

    def discriminator_loss(self, batch: Batch) -> Scalars:
        """-log D(x) - log(1 - D(G(z))), and how often the discriminator is right about each."""
        n = batch.x.shape[0]
        with torch.no_grad():
            fake_x = self.generator(self.noise(n))
        # one pass over both halves costs less than two
        real, fake = self.discriminator(torch.cat([batch.x, fake_x.to(batch.x)])).float().split([n, n])
        return {
            "loss": discriminator_loss(real, fake).mean(),
            "accuracy on data": (real > 0).float().mean(),
            "accuracy on samples": (fake < 0).float().mean(),
        }

    def generator_loss(self, batch: Batch) -> Scalars:
        """-log D(G(z)), or log(1 - D(G(z)))."""
        fake = self.discriminator(self.generator(self.noise(batch.x.shape[0]))).float()
        return {"loss": generator_loss(fake, self.config.generator_loss).mean()}

    def initialize(self, data: Tensor) -> None:
        """The generator's output bias starts at the data's marginals."""
        last = [module for module in self.generator if isinstance(module, nn.Linear)][-1]
        mean = data.double().mean(0).flatten()
        if any(isinstance(module, nn.Sigmoid) for module in self.generator):
            mean = mean.clamp(0.01, 0.99)
            mean = torch.log(mean) - torch.log1p(-mean)
        with torch.no_grad():
            last.bias.copy_(mean.to(last.bias))

    @torch.no_grad()
    def sample(self, n: int, *, mean: bool = False) -> Tensor:
        """G(z) for n draws of z, ``[n, *shape]``. The generator is deterministic, so ``mean`` changes nothing."""
        if n < 1:
            raise AncestralError(f"n is {n}, but at least one sample must be drawn.")
        return self.decode(self.noise(n))

    @torch.no_grad()
    def decode(self, z: Tensor, *, sample: bool = False) -> Tensor:
        """G(z), ``[n, *shape]``."""
        x: Tensor = self.generator(z)
        return x

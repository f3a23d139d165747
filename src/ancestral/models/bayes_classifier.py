r"""Class-conditional generative models that classify by Bayes' rule.

.. math:: p(y | x) = p(y) p(x | y) / p(x),  \log p(x) = \log \sum_y p(y) p(x | y)

Without latent variables the components of x are independent given y (naive Bayes) and every density is exact: with
normal components of one shared scale it is linear discriminant analysis, with scales of each class a quadratic one,
whose covariances are diagonal. With a latent variable it is a class-conditional variational autoencoder,

.. math::
    p(x | y) = ∫ p(z) p(x | y, z) dz,  q(z | x, y)

    \log p(y, x) ≥ \log p(y) + E\left[\log \frac1K \sum_{k=1}^K \frac{p(z_k) p(x | y, z_k)}{q(z_k | x, y)}\right],
    z_k ∼ q(z | x, y)

and the bound stands for the density in Bayes' rule. It learns p(x, y), by maximum likelihood or with a prior over
parameters, and never p(y | x) itself: so it knows too how likely x is, whatever its class.

Sources: Ng and Jordan (2002), On discriminative vs. generative classifiers; Hastie, Tibshirani and Friedman (2009),
section 4.3; Burda, Grosse and Salakhutdinov (2016) for the bound.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal

from ancestral.configs import BayesClassifierConfig, DataDescription
from ancestral.core import Joint
from ancestral.distributions import normal, one_hot_bias, standard_normal
from ancestral.models.contract import Batch, Scalars
from ancestral.models.latent_variable import LatentVariableModel, Objective
from ancestral.models.m2 import Joined, from_data, to_data
from ancestral.models.vae import likelihood
from ancestral.networks import linear
from ancestral.objectives import log_prior
from ancestral.objectives.iwae import bounds
from ancestral.objectives.maximum_a_posteriori import check_rows


class BayesClassifier(LatentVariableModel):
    """A model p(x, y), with or without latent variables, that classifies by Bayes' rule.

    Args:
        p: with conditionals of y, one-hot, and of x.
        q: of the latent variables given x and y; p itself where there are none.
        objective: ``"elbo"`` or ``"iwae"``; both are log p(x, y) where there are no latent variables.
        classes: how many.
        particles: draws of the latent variables per datapoint.
        class_particles: of the importance-weighted bound of log p(x | y), of each class.
        prior_scale: the standard deviation of a normal prior over the parameters of p; 0: a flat prior.
    """

    def __init__(
        self,
        p: Joint,
        q: Joint,
        objective: Objective = "elbo",
        *,
        classes: int,
        particles: int = 1,
        class_particles: int = 10,
        prior_scale: float = 0.0,
        kl_warmup: float = 0.0,
        validation_particles: int = 0,
    ) -> None:
        analytic_kl = [] if q is p or objective != "elbo" else ["z"]
        super().__init__(
            p, q, objective,
            particles=particles, analytic_kl=analytic_kl, kl_warmup=kl_warmup,
            validation_particles=validation_particles,
        )  # fmt: skip
        self.takes_labels, self.classes = True, classes
        self.class_particles, self.prior_scale = class_particles, prior_scale
        of_bounds = "" if q is p else f", {class_particles} particles of each class"
        self.classifier = f"p(y | x) by Bayes' rule{of_bounds}"

    def loss(self, batch: Batch) -> Scalars:
        """The negative bound of log p(x, y), less the share of each datapoint in the log-density of the parameters.

        Raises:
            AncestralError: there is a prior, and the batch does not say how many training rows there are.
        """
        scalars = super().loss(batch)
        if self.prior_scale:
            check_rows(batch.rows, len(batch.x))
            prior = -log_prior(self.p, Normal(0.0, self.prior_scale)) / batch.rows
            scalars |= {"loss": scalars["loss"] + prior, "prior": prior}
        return scalars

    def validation(self, batch: Batch) -> Scalars:
        """The negative bound, and for each row whether it is put into its class, by one particle of each class."""
        scalars = super().validation(batch)  # which needs labels
        assert batch.y is not None
        return scalars | {"accuracy": (self.log_joint(batch.x, 1).argmax(-1) == batch.y).double()}

    @torch.no_grad()
    def log_joint(self, x: Tensor, particles: int | None = None) -> Tensor:
        """log p(x, y) of each class, or its importance-weighted bound, in nats, ``[batch, classes]``, float64.

        Args:
            x: ``[batch, *shape]``.
            particles: of each class; by default ``class_particles``.
        """
        rows = x.shape[0]
        given = {
            "x": x.repeat(self.classes, *[1] * (x.dim() - 1)),
            "y": F.one_hot(torch.arange(self.classes, device=x.device).repeat_interleave(rows), self.classes).to(x),
        }
        particles = 1 if self.q is self.p else particles or self.class_particles  # nothing is drawn
        return bounds(self.p, self.q, given, particles).log_prob.view(self.classes, rows).T

    @torch.no_grad()
    def log_prob(self, x: Tensor, *, particles: int = 1, y: Tensor | None = None) -> Tensor:
        """log p(x), or log p(x, y) with labels, in nats, ``[batch]``, float64; or a bound of it.

        That of log p(x) has so many particles of each class.
        """
        if y is None:
            return self.log_joint(x, particles).logsumexp(-1)
        return super().log_prob(x, particles=1 if self.q is self.p else particles, y=y)

    def log_classify(self, x: Tensor) -> Tensor:
        """log p(y | x) of each class, in nats, ``[batch, classes]``, float64."""
        return self.log_joint(x).log_softmax(-1)

    def classify(self, x: Tensor) -> Tensor:
        """p(y | x), the probability of each class, ``[batch, classes]``, float64."""
        return self.log_classify(x).exp()


class NaiveBayes(BayesClassifier):
    """Without latent variables: nothing is encoded, and every density is exact.

    Args:
        p: with conditionals of y, one-hot, and of x given y.
        classes: how many.
        prior_scale: see :class:`BayesClassifier`.
    """

    encode = decode = reconstruct = None  # type: ignore[assignment]  # so that no verb asks for them

    def __init__(self, p: Joint, *, classes: int, prior_scale: float = 0.0) -> None:
        super().__init__(p, p, classes=classes, prior_scale=prior_scale)


def generative_classifier(config: BayesClassifierConfig, data: DataDescription) -> BayesClassifier:
    """Build the model for data of that shape, with as many classes.

    Raises:
        AncestralError: convolutions for a table.
    """
    classes, latent, width, named = data.classes, config.latent, config.hidden[-1], config.activation
    prior = one_hot_bias(classes)

    def decoder(shape: tuple[int, ...]) -> nn.Module:
        return Joined([linear(classes, width), linear(latent, width)], named, to_data(config, data, shape))

    if not latent:
        x = likelihood(config, data, lambda shape: linear(classes, shape))
        return NaiveBayes(Joint({"y": prior, "x | y": x}), classes=classes, prior_scale=config.prior_scale)
    x = likelihood(config, data, decoder)
    encoder = Joined([from_data(config, data), linear(classes, width)], named, linear(width, 2 * latent))
    return BayesClassifier(
        Joint({"y": prior, "z": standard_normal(latent), "x | y, z": x}), Joint({"z | x, y": normal(encoder)}),
        config.bound,
        classes=classes, particles=config.particles, class_particles=config.class_particles,
        prior_scale=config.prior_scale, kl_warmup=config.kl_warmup, validation_particles=config.validation_particles,
    )  # fmt: skip

r"""The semi-supervised variational autoencoder, model M2.

.. math::
    p(x, y, z) = p(y) p(z) p(x | y, z),  p(y) uniform,  p(z) = N(0, I)

    q(y, z | x) = q(y | x) q(z | x, y)

A row with a label, and one without, have the bounds

.. math::
    -L(x, y) = E_{q(z | x, y)}[\log p(x | y, z) + \log p(y)] - KL(q(z | x, y) \| p(z)) ≤ \log p(x, y)

    -U(x) = E_{q(y | x)}[-L(x, y)] + H(q(y | x)) ≤ \log p(x)

where the expectation over y is a sum over the classes, or is estimated like any other. The labels teach the classifier
q(y | x) too. Of N rows, N_l of them with a label,

.. math::
    J^α / N = \frac1N \Big(∑_{labeled} L(x, y) + ∑_{unlabeled} U(x)\Big)
              + \frac{α}{N_l} ∑_{labeled} -\log q(y | x)

is minimized, in nats per datapoint. The α here, which does not change with the number of rows, is the paper's divided
by N: its experiments have 0.1.

Source: Kingma, Rezende, Mohamed and Welling (2014), Semi-supervised learning with deep generative models, eq. 6 to 9;
Jang, Gu and Poole (2017), section 4.3, for labels that are drawn by Gumbel-Softmax.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import OneHotCategorical

from ancestral.configs import DataDescription, M2Config, NetworkSettings
from ancestral.configs.data import HIDDEN
from ancestral.core import Estimator, Joint, Trace
from ancestral.distributions import normal, one_hot, one_hot_bias, standard_normal
from ancestral.errors import AncestralError
from ancestral.estimators import Reparameterized
from ancestral.estimators.schedules import estimators_at
from ancestral.models.contract import Batch, Scalars
from ancestral.models.estimation import make_estimator
from ancestral.models.latent_variable import LatentVariableModel
from ancestral.models.vae import likelihood
from ancestral.networks import ConvDecoder, ConvEncoder, activation, linear, mlp
from ancestral.objectives import ElboTerms, elbo_terms
from ancestral.objectives.elbo import closed_form


class SemiSupervised(LatentVariableModel):
    """A model p(x, y, z) of data and their labels, which learns from rows with a label and from rows without.

    Args:
        p: with conditionals of y, one-hot, z and x.
        q: q(y | x) and q(z | x, y).
        estimator: how the gradient passes y where it is not known.
        classes: how many.
        alpha: the weight of -log q(y | x).
        labeled: the part of the training rows whose label is known, N_l / N, whatever the part of a batch.
        particles: draws of the latent variables per datapoint.
    """

    classifier = "q(y | x)"

    def __init__(
        self,
        p: Joint,
        q: Joint,
        estimator: Estimator,
        *,
        classes: int,
        alpha: float,
        labeled: float,
        particles: int = 1,
    ) -> None:
        estimators = {"y": estimator, "z": Reparameterized()}
        analytic_kl = closed_form(estimators, estimators)
        super().__init__(p, q, "elbo", estimators, particles=particles, analytic_kl=analytic_kl)
        self.classes, self.alpha, self.labeled = classes, alpha, labeled

    def loss(self, batch: Batch) -> Scalars:
        """J^α / N of a batch, which is reconstruction + kl + α classification, and its parts.

        ``classification`` is the mean of -log q(y | x), ``reconstruction`` has -log p(y) of a label that is known, and
        ``kl`` that of z and of a label that is not. A batch without rows of one kind leaves out what those would bring.

        Raises:
            AncestralError: the data have no labels, or the batch no rows.
        """
        known = self._known(batch)
        assert batch.y is not None
        rows, others = known.nonzero()[:, 0], (~known).nonzero()[:, 0]
        estimators = estimators_at(self.estimators, batch.epoch)
        assert isinstance(estimators, dict)
        parts: list[tuple[float, ElboTerms]] = []
        scalars: Scalars = {}
        if len(others):
            parts.append((1 - self.labeled, self._bound({"x": batch.x[others]}, estimators)))
        if len(rows):
            y = F.one_hot(batch.y[rows], self.classes).to(batch.x.dtype)
            terms = self._bound({"x": batch.x[rows], "y": y}, {"z": estimators["z"]})
            parts.append((self.labeled, terms))
            scalars["classification"] = -terms.q.sites["y"].log_prob.mean()
        loss = torch.stack([-weight * terms.elbo.mean() for weight, terms in parts]).sum()
        if len(rows):
            loss = loss + self.alpha * scalars["classification"]
        reconstruction = torch.stack([-weight * terms.log_likelihood.mean() for weight, terms in parts]).sum()
        kl = torch.stack([weight * kl.mean() for weight, terms in parts for kl in terms.kl.values()]).sum()
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl, **scalars}

    def _bound(self, given: dict[str, Tensor], estimators: dict[str, Estimator]) -> ElboTerms:
        """-U(x), or -L(x, y) where y is given."""
        return elbo_terms(self.p, self.q, given, self.particles, estimators, closed_form(estimators, estimators))

    def _known(self, batch: Batch) -> Tensor:
        """Which rows have a label."""
        if batch.y is None:
            raise AncestralError("m2 learns from labels, but the data have none. Use vae.")
        if not len(batch.x):
            raise AncestralError("a batch has no rows, of which a mean could be taken: give at least one.")
        return batch.y != HIDDEN

    def validation(self, batch: Batch) -> Scalars:
        """U(x), as of rows without a label, and for each row with one whether q(y | x) puts it into its class."""
        scalars = super().validation(Batch(batch.x))
        if batch.y is not None:
            known = batch.y != HIDDEN
            scalars["accuracy"] = (self.classify(batch.x).argmax(-1) == batch.y)[known].double()
        return scalars

    def check(self, batch: Batch) -> None:
        """Every shape, that the data lie in the support of their likelihood, and that labels are classes."""
        known = self._known(batch)
        super().check(Batch(batch.x))
        if known.any():
            assert batch.y is not None
            self._check_labels(batch.y[known])

    @torch.no_grad()
    def log_classify(self, x: Tensor) -> Tensor:
        """log q(y | x) of each class, in nats, ``[batch, classes]``."""
        return log_classes(self.q, x)

    def classify(self, x: Tensor) -> Tensor:
        """q(y | x), the probability of each class, ``[batch, classes]``."""
        return self.log_classify(x).exp()


def log_classes(model: nn.Module, x: Tensor) -> Tensor:
    """log p(y | x) of each class by a model that draws y, one-hot, from x: in nats, ``[batch, classes]``."""
    trace = Trace((x.shape[0],), {"x": x})
    model(trace)
    distribution = trace.sites["y"].distribution
    assert isinstance(distribution, OneHotCategorical)
    logits: Tensor = distribution.logits
    return logits


def semi_supervised_vae(config: M2Config, data: DataDescription) -> SemiSupervised:
    """Build the model for data of that shape, with as many classes.

    Raises:
        AncestralError: convolutions for a table.
    """
    classes, width, named = data.classes, config.hidden[-1], config.activation

    def decoder(shape: tuple[int, ...]) -> nn.Module:
        return Joined([linear(classes, width), linear(config.latent, width)], named, to_data(config, data, shape))

    p = Joint(
        {
            "y": one_hot_bias(classes, learned=False),
            "z": standard_normal(config.latent),
            "x | y, z": likelihood(config, data, decoder),
        }
    )
    classifier: nn.Module = linear(width, classes)
    if config.dropout:
        classifier = nn.Sequential(nn.Dropout(config.dropout), classifier)
    q = Joint(
        {
            "y | x": one_hot(Joined([from_data(config, data)], named, classifier)),
            "z | x, y": normal(
                Joined([from_data(config, data), linear(classes, width)], named, linear(width, 2 * config.latent))
            ),
        }
    )
    estimator = make_estimator(config, [data.shape], (classes,))
    return SemiSupervised(
        p, q, estimator, classes=classes, alpha=config.alpha, labeled=data.labeled, particles=config.particles
    )


class Joined(nn.Module):
    """f(a(Σ_i f_i(v_i))): what several variables say of a layer of units is added up, as in a network of all of them.

    Each network sees its own variable alone, so that a network of x runs once for all classes that y is given.
    """

    def __init__(self, networks: Sequence[nn.Module], activation_name: str, output: nn.Module) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.activation = activation(activation_name)
        self.output = output

    def forward(self, *values: Tensor) -> Tensor:
        units = [network(_once(value)) for network, value in zip(self.networks, values, strict=True)]
        out: Tensor = self.output(self.activation(sum(units[1:], units[0])))
        return out


def _once(value: Tensor) -> Tensor:
    """Without the copies along leading dimensions that are one value seen many times (``expand``): size 1 instead."""
    strides = value.stride()[:-1]
    return value[tuple(slice(None if stride else 1) for stride in strides)] if 0 in strides else value


def from_data(config: NetworkSettings, data: DataDescription) -> nn.Module:
    """From x to the last hidden layer, before its activation."""
    if config.network == "mlp":
        return mlp(data.shape, *config.hidden, activation=config.activation)
    first = ConvEncoder(data.shape, config.channels, config.hidden[0], config.activation)
    if len(config.hidden) == 1:
        return first
    return nn.Sequential(first, activation(config.activation), mlp(*config.hidden, activation=config.activation))


def to_data(config: NetworkSettings, data: DataDescription, shape: tuple[int, ...]) -> nn.Module:
    """From the first hidden layer, after its activation, to the parameters of x."""
    sizes = tuple(reversed(config.hidden))
    if config.network == "mlp":
        return mlp(*sizes, shape, activation=config.activation)
    last = ConvDecoder(sizes[-1], data.shape, config.channels, shape[0], config.activation)
    if len(sizes) == 1:
        return last
    return nn.Sequential(mlp(*sizes, activation=config.activation), activation(config.activation), last)

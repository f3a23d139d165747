r"""The conditional model p(y | x), learned by itself: what a generative classifier competes with.

.. math:: \max \frac1N \sum_i \log p(y_i | x_i)

It has no density of x: it can't draw data, and how unlike the training data a datapoint is, it can only tell from how
unsure it is of the class.

Source: Ng and Jordan (2002), On discriminative vs. generative classifiers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ancestral.configs import ClassifierConfig, DataDescription
from ancestral.configs.data import HIDDEN
from ancestral.core import Joint
from ancestral.distributions import one_hot
from ancestral.errors import AncestralError
from ancestral.models.contract import Batch, Player, Scalars
from ancestral.models.m2 import from_data, log_classes
from ancestral.networks import activation, linear
from ancestral.objectives import log_likelihood


class Classifier(nn.Module):
    """p(y | x) by a multilayer perceptron or convolutions. Rows whose label is not known are left out.

    Raises:
        AncestralError: convolutions for a table.
    """

    classifier = "p(y | x)"

    def __init__(self, config: ClassifierConfig, data: DataDescription) -> None:
        super().__init__()
        self.classes = data.classes
        last = linear(config.hidden[-1], data.classes)
        self.p = Joint(
            {
                "y | x": one_hot(
                    nn.Sequential(
                        from_data(config, data), activation(config.activation), nn.Dropout(config.dropout), last
                    )
                )
            }
        )

    def players(self) -> list[Player]:
        return [Player("classifier", list(self.parameters()), self.loss)]

    def loss(self, batch: Batch) -> Scalars:
        """The mean of -log p(y | x) over rows with a label, in nats.

        Raises:
            AncestralError: the data have no labels, or the batch none.
        """
        values, known = self._losses(batch)
        if not torch.compiler.is_compiling() and not known.any():
            raise AncestralError("a batch has no row with a label: give more rows a label, or a larger --batch-size.")
        return {"loss": (values * known).sum() / known.sum()}

    def validation(self, batch: Batch) -> Scalars:
        """-log p(y | x) in nats, and whether the row is put into its class, of each row with a label."""
        values, known = self._losses(batch)
        assert batch.y is not None
        right = self.log_classify(batch.x).argmax(-1) == batch.y
        return {"loss": values[known], "accuracy": right[known].double()}

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """-log p(y | x) of each row, ``[batch]``, and whether its label is known: else the value has no meaning."""
        if batch.y is None:
            raise AncestralError("a classifier learns from labels, but the data have none. Use vae.")
        y = F.one_hot(batch.y.clamp(min=0), self.classes).to(batch.x.dtype)
        return -log_likelihood(self.p, {"x": batch.x, "y": y}), batch.y != HIDDEN

    def check(self, batch: Batch) -> None:
        """That labels are classes.

        Raises:
            AncestralError: one is none.
        """
        if batch.y is not None and int(batch.y.max()) >= self.classes:
            raise AncestralError(
                f"the data have a label {int(batch.y.max())}, but the model has {self.classes} classes, from 0."
            )

    @torch.no_grad()
    def log_classify(self, x: Tensor) -> Tensor:
        """log p(y | x) of each class, in nats, ``[batch, classes]``."""
        return log_classes(self.p, x)

    def classify(self, x: Tensor) -> Tensor:
        """p(y | x), the probability of each class, ``[batch, classes]``."""
        return self.log_classify(x).exp()

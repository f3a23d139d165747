"""What the training loop and the verbs know of a model.

A model is a plain ``nn.Module`` with ``players()``. What else it can do is said by the small Protocols below: a verb
asks for one of them, and says which models have it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

Scalars = dict[str, Tensor]
"""Named scalars in nats per datapoint. ``loss`` is what is minimised; ``reconstruction`` is -E_q[log p(x | z)], ``kl``
a divergence: the name fixes the sign."""


@dataclass(frozen=True)
class Batch:
    """What a loss sees."""

    x: Tensor
    """``[batch, *shape]``, as the data's description says."""
    y: Tensor | None = None
    """Labels, int64 ``[batch]``, where the data have them."""
    epoch: float = 0.0
    """Passes over the training data so far, for weights that change in time."""
    rows: int = 0
    """Training rows in all, for what counts once for all of them, such as a prior over parameters."""


@dataclass(frozen=True)
class Player:
    """Who is optimised: the parameters, the loss they minimise, and how often."""

    name: str
    parameters: list[nn.Parameter]
    loss: Callable[[Batch], Scalars]
    every: int = 1
    """Updated at every so many batches."""
    learning_rate: float | None = None
    """Its own learning rate; None takes the training's."""
    apart: list[nn.Parameter] = field(default_factory=list)
    """Those of the parameters whose gradient is clipped by a norm of its own: what a gradient estimator learns for
    itself has no part in how far the model moves."""


@runtime_checkable
class Model(Protocol):
    """What the loop needs: an ``nn.Module`` whose ``players()`` say who is optimised, in the order of a round."""

    def players(self) -> list[Player]: ...


@runtime_checkable
class CanInitialize(Protocol):
    """Sets its start from training data ``[n, *shape]`` (biases at the data's log-odds)."""

    def initialize(self, data: Tensor) -> None: ...


@runtime_checkable
class CanCheck(Protocol):
    """Raises a clear error at the first batch, before any time is spent."""

    def check(self, batch: Batch) -> None: ...


@runtime_checkable
class CanValidate(Protocol):
    """Has a loss that means something on held-out data; lower is better.

    A value is the mean over the batch, or one number for each of those rows that have it, ``[rows]``.
    """

    def validation(self, batch: Batch) -> Scalars: ...


@runtime_checkable
class CanSample(Protocol):
    """Draws from p(x). ``mean=True`` gives the mean of the last conditional instead of a draw from it."""

    def sample(self, n: int, *, mean: bool = False) -> Tensor: ...


@runtime_checkable
class CanLogProb(Protocol):
    """log p(x), or a lower bound of it, in nats, ``[batch]``."""

    def log_prob(self, x: Tensor, *, particles: int = 1, y: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class CanEncode(Protocol):
    """From data to the mean of the latent variables (``sample=True``: a draw)."""

    def encode(self, x: Tensor, *, sample: bool = False, y: Tensor | None = None) -> Any: ...


@runtime_checkable
class CanDecode(Protocol):
    """From latent variables to the mean of the data (``sample=True``: a draw)."""

    def decode(self, z: Any, *, sample: bool = False) -> Tensor: ...


@runtime_checkable
class CanReconstruct(Protocol):
    """decode(encode(x)); ``sample=True``: of a draw of the latent variables."""

    def reconstruct(self, x: Tensor, *, sample: bool = False, y: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class CanClassify(Protocol):
    """Says how probable each class is."""

    classifier: str
    """What :meth:`classify` gives, in words: p(y | x), or an approximation of it."""

    def classify(self, x: Tensor) -> Tensor:
        """The probability of each class, ``[batch, classes]``."""
        ...

    def log_classify(self, x: Tensor) -> Tensor:
        """The logarithm of it, in nats, which is finite where the probability is too small for a number."""
        ...


CAPABILITIES: dict[str, type] = {
    "sample": CanSample,
    "encode": CanEncode,
    "decode": CanDecode,
    "reconstruct": CanReconstruct,
}
"""The capability of each method that a verb calls. ``evaluate`` needs p and q themselves, a LatentVariableModel."""


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Batch normalization and dropout are as after training: what is measured neither sees nor changes their state."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)

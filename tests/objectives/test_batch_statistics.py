"""Batch normalization below a drawn variable: only a gradient that passes through it is right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ancestral import (
    DARN,
    REBAR,
    DisARM,
    Enumerate,
    EstimatorError,
    GumbelSoftmax,
    Joint,
    LikelihoodRatio,
    MuProp,
    StraightThrough,
    bernoulli,
    elbo,
    iwae,
    linear,
    mlp,
    standard_normal,
)
from ancestral.core import Trace
from ancestral.distributions import normal

X, H, BATCH = 5, 3, 7
SIGNALS = [LikelihoodRatio(), DisARM(), MuProp(), REBAR(), Enumerate()]


def fair(count: int) -> Any:
    return lambda: torch.distributions.Independent(torch.distributions.Bernoulli(logits=torch.zeros(count)), 1)


def decoder(norm: type[nn.Module] = nn.BatchNorm1d) -> nn.Module:
    class Flat(nn.Module):
        """Over particles and batch alike."""

        def __init__(self) -> None:
            super().__init__()
            self.norm = norm(X)

        def forward(self, h: Tensor) -> Tensor:
            result: Tensor = self.norm(h.reshape(-1, X)).reshape(h.shape)
            return result

    return nn.Sequential(linear(H, X), Flat())


def pair(network: nn.Module) -> tuple[Joint, Joint, dict[str, Tensor]]:
    torch.manual_seed(0)
    p = Joint({"h": fair(H), "x | h": bernoulli(network)})
    return p, Joint({"h | x": bernoulli(linear(X, H))}), {"x": torch.ones(BATCH, X)}


@pytest.mark.parametrize("estimator", SIGNALS, ids=lambda one: type(one).__name__)
def test_a_signal_of_one_row_is_refused(estimator: Any) -> None:
    p, q, given = pair(decoder())
    with pytest.raises(EstimatorError, match="batch normalization in the conditional of 'x' lets a draw of 'h' change"):
        elbo(p, q, given, 2, estimator)
    with torch.no_grad():
        assert elbo(p, q, given, 2, LikelihoodRatio()).isfinite().all()  # a value is one whatever comes of it
    p.eval()
    elbo(p, q, given, 2, estimator).sum().backward()  # type: ignore[no-untyped-call]


def test_it_is_refused_under_the_importance_weighted_bound() -> None:
    with pytest.raises(EstimatorError, match="batch normalization in the conditional of 'x'"):
        iwae(*pair(decoder()), 2, LikelihoodRatio())


@pytest.mark.parametrize("estimator", [GumbelSoftmax(), StraightThrough(), DARN()], ids=lambda one: type(one).__name__)
def test_a_gradient_by_the_path_passes_through_it(estimator: Any) -> None:
    p, q, given = pair(decoder())
    elbo(p, q, given, 2, estimator).sum().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in q.parameters())


def test_rows_are_apart_in_layer_normalization_and_above_the_draw() -> None:
    p, q, given = pair(decoder(nn.LayerNorm))
    elbo(p, q, given, 2, LikelihoodRatio())
    q = Joint({"h | x": bernoulli(mlp(X, 11, H, batch_norm=True))})
    elbo(p, q, given, 2, LikelihoodRatio())


def test_what_follows_from_the_draw_is_below_it() -> None:
    given = {"x": torch.ones(BATCH, X)}
    p = Joint({"h": fair(H), "z": standard_normal(2), "x | h, z": bernoulli(linear(H + 2, X))})
    q = Joint({"h | x": bernoulli(linear(X, H)), "z | h": normal(mlp(H, 11, 4, batch_norm=True))})
    with pytest.raises(EstimatorError, match="in the conditional of 'z' lets a draw of 'h'"):
        elbo(p, q, given, 2, {"h": LikelihoodRatio()})
    p = Joint({"h": fair(H), "features | h": mlp(H, 11, 11, batch_norm=True), "x | features": bernoulli(linear(11, X))})
    q = Joint({"h | x": bernoulli(linear(X, H))})
    with pytest.raises(EstimatorError, match="in the conditional of 'features' lets a draw of 'h'"):
        elbo(p, q, given, 2, LikelihoodRatio())


def test_in_a_model_with_state_it_may_be_anywhere() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = decoder()

        def forward(self, trace: Trace) -> None:
            h = trace.sample("h", fair(H)())
            trace.sample("x", bernoulli(self.network)(h))

    _, q, given = pair(decoder())
    with pytest.raises(EstimatorError, match="batch normalization in the model Model"):
        elbo(Model(), q, given, 2, LikelihoodRatio())

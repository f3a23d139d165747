"""Sums over all values of the latent variables, against sums by hand."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Binomial, Independent, Normal, OneHotCategorical, Poisson

from ancestral import Joint, Trace, bernoulli, bernoulli_bias, linear, standard_normal
from ancestral.errors import AncestralError, GraphError, ShapeError
from ancestral.evaluation import exact, exact_log_prob


def bits(size: int) -> Tensor:
    """All binary vectors of a size, ``[2^size, size]``."""
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=size)), dtype=torch.float64)


def test_two_layers_of_bits(two_layers: Any) -> None:
    x = bits(4)
    found = exact_log_prob(two_layers.p, {"x": x})
    torch.testing.assert_close(found, two_layers.by_hand(x)[0].detach(), atol=1e-12, rtol=0)
    assert found.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert found.dtype == torch.float64
    assert not found.requires_grad


def test_classes(mixture: Any) -> None:
    x = bits(4)
    torch.testing.assert_close(
        exact_log_prob(mixture.p, {"x": x}), mixture.log_joint(x).logsumexp(1).detach(), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("chunk", [1, 16 * 4 * 3, 16 * 4 * 31])
def test_a_part_after_the_other_gives_the_same(two_layers: Any, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = exact_log_prob(two_layers.p, {"x": bits(4)})
    monkeypatch.setattr(exact, "CHUNK", chunk)
    torch.testing.assert_close(exact_log_prob(two_layers.p, {"x": bits(4)}), whole, atol=1e-12, rtol=0)


def test_a_model_that_is_being_trained_is_summed_as_after_training() -> None:
    torch.manual_seed(0)
    p = Joint({"h": bernoulli_bias(3), "x | h": bernoulli(nn.Sequential(linear(3, 7), nn.Dropout(), linear(7, 4)))})
    expected = exact_log_prob(p.double().eval(), {"x": bits(4)})
    assert expected.exp().sum().item() == pytest.approx(1, abs=1e-12)
    found = exact_log_prob(p.train(), {"x": bits(4)})
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    assert all(module.training for module in p.modules())


class Counted(nn.Module):
    """Binomial counts n ~ Bin(3, 0.3), then a class given n and y: a model with state, conditioned on y."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Parameter(torch.randn(4, 5, dtype=torch.float64))
        self.x = nn.Parameter(torch.randn(5, 2, dtype=torch.float64))

    def forward(self, trace: Trace) -> None:
        n = trace.sample("n", Binomial(3, torch.tensor(0.3).double()))
        logits = self.table[n.long()] + trace["y"]
        c = trace.sample("c", OneHotCategorical(logits=logits))
        trace.sample("x", Independent(torch.distributions.Bernoulli(logits=c @ self.x), 1))


def test_counts_and_one_hot_vectors_of_a_model_with_state_given_labels() -> None:
    model = Counted()
    x, y = bits(2), torch.randn(4, 5, dtype=torch.float64)
    by_hand = torch.zeros(4, dtype=torch.float64)
    for n, binomial in enumerate((0.343, 0.441, 0.189, 0.027)):
        classes = (model.table[n] + y).softmax(-1)
        for c in range(5):
            pixels = torch.sigmoid(model.x[c])
            by_hand = by_hand + binomial * classes[:, c] * (pixels**x * (1 - pixels) ** (1 - x)).prod(-1)
    torch.testing.assert_close(exact_log_prob(model, {"x": x, "y": y}), by_hand.log().detach(), atol=1e-7, rtol=0)


def test_without_latent_variables_it_is_the_density_itself() -> None:
    p = Joint({"x": bernoulli_bias(4)}).double()
    x = bits(4)
    torch.testing.assert_close(exact_log_prob(p, {"x": x}), torch.full((16,), 16.0).double().log().neg())


def test_a_network_that_reads_latent_variables_alone_is_asked_once_for_each_value() -> None:
    seen: list[int] = []

    class Decoder(nn.Module):
        def forward(self, h: Tensor) -> Tensor:
            seen.append(h[..., 0].numel())
            return torch.cat([h, h], -1)

    p = Joint({"h": bernoulli_bias(3), "x | h": bernoulli(Decoder())})
    exact_log_prob(p, {"x": torch.zeros(11, 6)})
    assert seen == [11, 8]  # an example of each row, to know the variables; then the values


@pytest.mark.parametrize(
    ("p", "words"),
    [
        ({"z": standard_normal(2), "x | z": bernoulli(linear(2, 4))}, "'z', a .*Normal, is continuous.*iwae"),
        ({"h": bernoulli_bias(21), "x | h": bernoulli(linear(21, 4))}, r"'h'.*2\^21 values.*iwae"),
        (
            {"h": bernoulli_bias(11), "k | h": bernoulli(linear(11, 10)), "x | k": bernoulli(linear(10, 4))},
            r"2,097,152 values together \('h' has 2,048, 'k' has 1,024\), more than 1,048,576",
        ),
        ({"n": lambda: Independent(Poisson(torch.ones(2)), 1), "x | n": bernoulli(linear(2, 4))}, "'n'.*Poisson"),
    ],
    ids=["continuous", "large", "large together", "endless"],
)
def test_what_can_not_be_summed_is_an_error(p: dict[str, Any], words: str) -> None:
    with pytest.raises(AncestralError, match=words):
        exact_log_prob(Joint(p), {"x": torch.zeros(3, 4)})


def test_the_most_values_can_be_set(two_layers: Any) -> None:
    assert exact_log_prob(two_layers.p, {"x": bits(4)}, most=32).shape == (16,)
    with pytest.raises(AncestralError, match="more than 31"):
        exact_log_prob(two_layers.p, {"x": bits(4)}, most=31)


def test_data_that_p_does_not_draw_or_that_lie_outside_are_errors(two_layers: Any) -> None:
    with pytest.raises(GraphError, match="draws none of the given w"):
        exact_log_prob(Joint({"h": bernoulli_bias(3)}), {"w": bits(3)})
    with pytest.raises(AncestralError, match="outside the support"):
        exact_log_prob(two_layers.p, {"x": bits(4) + 0.3})
    with pytest.raises(ShapeError, match="the batch is empty"):
        exact_log_prob(two_layers.p, {"x": bits(4)[:0]})
    with pytest.raises(GraphError, match="a value is given for 'w', which the model neither samples"):
        exact_log_prob(two_layers.p, {"x": bits(4), "w": bits(4)})


def test_a_conditional_of_labels_alone() -> None:
    """p(y, x) with both given is a sum of one term."""
    p = Joint(
        {"y": lambda: OneHotCategorical(logits=torch.zeros(3)), "x | y": lambda y: Independent(Normal(y, 1.0), 1)}
    )
    y = torch.eye(3)
    found = exact_log_prob(p, {"x": torch.zeros(3, 3), "y": y})
    expected = Normal(0.0, 1.0).log_prob(torch.tensor([1.0, 0, 0])).sum() - torch.tensor(3.0).log()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(found, expected.expand(3).double())

"""Estimators with continuous noise: unbiased by z-scores over many draws, and what they learn lowers their variance."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from exact import Kind, Layers, exact_gradient, samples, z_scores
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent

from ancestral import Enumerate, Estimator, Joint, Trace, expectation
from ancestral.distributions import OneHot
from ancestral.estimators import REBAR, RELAX, DisARM, GumbelSoftmax, LikelihoodRatio, MuProp, Reparameterized


def network(event_dims: int) -> nn.Module:
    """For RELAX: one number from a (relaxed) value."""
    flat: list[nn.Module] = [nn.Flatten(-event_dims)] if event_dims > 1 else []
    return nn.Sequential(*flat, nn.LazyLinear(5), nn.Tanh(), nn.Linear(5, 1)).double()


Make = Callable[[int], Any]
MAKE: dict[str, Make] = {
    "REBAR": lambda dims: REBAR(learned=False),
    "REBAR, learned": lambda dims: REBAR(0.3, 0.6),
    "RELAX": lambda dims: RELAX(network(dims)),
    "RELAX, network alone": lambda dims: RELAX(network(dims), scale=0.0),
    "DisARM": lambda dims: DisARM(),
    "likelihood ratio": lambda dims: LikelihoodRatio(None),
    "MuProp": lambda dims: MuProp(),
    "enumeration": lambda dims: Enumerate(),
}
ONE_LAYER: list[tuple[Kind, str]] = [
    ("binary", "REBAR"),
    ("binary", "REBAR, learned"),
    ("binary", "RELAX"),
    ("binary", "DisARM"),
    ("one-hot", "REBAR"),
    ("one-hot", "REBAR, learned"),
    ("one-hot", "RELAX"),
    ("one-hot", "RELAX, network alone"),
]
TWO_LAYERS: list[tuple[Kind, str, str]] = [
    ("binary", "REBAR", "REBAR"),
    ("binary", "RELAX", "RELAX"),
    ("binary", "DisARM", "DisARM"),
    ("binary", "DisARM", "REBAR, learned"),
    ("binary", "REBAR", "MuProp"),
    ("binary", "enumeration", "REBAR"),
    ("binary", "DisARM", "enumeration"),
    ("one-hot", "REBAR, learned", "REBAR, learned"),
    ("one-hot", "RELAX", "likelihood ratio"),
    ("one-hot", "likelihood ratio", "REBAR"),
    ("one-hot", "REBAR", "enumeration"),
]


def assert_unbiased(model: Layers, names: tuple[str, ...], count: int, **settings: Any) -> None:
    torch.manual_seed(0)
    estimators = {n: MAKE[made](len(model.shapes[n])) for n, made in zip(model.names, names, strict=True)}
    values, drawn = samples(model, estimators, count, **settings)
    value, wanted = exact_gradient(model, structured=settings.get("structured", False))
    assert abs(z_scores(values[:, None], value)) < 4
    assert wanted.abs().max() > 0.1
    assert z_scores(drawn, wanted).abs().max() < 4.5


@pytest.mark.parametrize(("kind", "name"), ONE_LAYER)
def test_one_layer_is_unbiased(kind: Kind, name: str) -> None:
    assert_unbiased(Layers(kind, 1), (name,), 100_003)


@pytest.mark.parametrize(("kind", "first", "second"), TWO_LAYERS)
def test_two_layers_and_mixtures_are_unbiased(kind: Kind, first: str, second: str) -> None:
    assert_unbiased(Layers(kind, 2), (first, second), 50_021)


@pytest.mark.parametrize("name", ["REBAR", "DisARM"])
def test_latents_that_are_drawn_from_p_itself_are_unbiased(name: str) -> None:
    assert_unbiased(Layers("binary", 2), (name, name), 30_011, structured=True)


@pytest.mark.parametrize("name", ["REBAR", "DisARM"])
def test_several_particles_are_averaged(name: str) -> None:
    assert_unbiased(Layers("binary", 2), (name, name), 20_011, particles=3)


class Mixed(nn.Module):
    """b is a bit, z a normal variable given b, reparameterized; the cost is a function of both with a known mean."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.full((rows, 2), 0.4, dtype=torch.float64))
        self.shift = nn.Parameter(torch.full((rows,), 1.3, dtype=torch.float64))
        self.q = Joint({"b | x": lambda x: Independent(Bernoulli(logits=self.logit), 1), "z | b": self.normal})

    def normal(self, b: Tensor) -> torch.distributions.Normal:
        return torch.distributions.Normal(self.shift * b[..., 0] - b[..., 1], 0.7)

    def cost(self, trace: Trace) -> Tensor:
        return trace["z"] ** 2 * (1 + trace["b"][..., 0])

    def exact(self) -> Tensor:
        total = torch.zeros(len(self.logit), dtype=torch.float64)
        for b in itertools.product([0.0, 1.0], repeat=2):
            bits = torch.tensor(b, dtype=torch.float64)
            mass = Bernoulli(logits=self.logit).log_prob(bits.expand_as(self.logit)).sum(-1).exp()
            total = total + mass * ((self.shift * bits[0] - bits[1]) ** 2 + 0.49) * (1 + bits[0])
        return total


@pytest.mark.parametrize("estimator", [REBAR(learned=False), DisARM(), MuProp()], ids=lambda e: type(e).__name__)
def test_a_reparameterized_variable_downstream_keeps_its_own_gradient(estimator: Any) -> None:
    torch.manual_seed(0)
    count = 100_003
    m, one = Mixed(count), Mixed(1)
    estimators = {"b": estimator, "z": Reparameterized()}
    value = expectation(m.cost, m.q, {"x": torch.zeros(count, 1)}, 1, estimators)
    wanted = torch.autograd.grad(one.exact().sum(), list(one.parameters()))
    for drawn, expected in zip(torch.autograd.grad(value.sum(), list(m.parameters())), wanted, strict=True):
        assert expected.abs().min() > 0.1
        assert z_scores(drawn.reshape(count, -1), expected.flatten()).abs().max() < 4.5


# what REBAR and RELAX learn


class Toy(nn.Module):
    """E[c(h)] of one vector whose logits are those of every row; the estimator's gradient is that of each row."""

    def __init__(self, kind: Kind, rows: int, layers: int = 1) -> None:
        super().__init__()
        start = torch.tensor([0.4, -1.1, 0.9], dtype=torch.float64)
        self.logits = start.expand(rows, 3).clone().requires_grad_()
        self.kind, self.rows = kind, rows
        conditionals: dict[str, Any] = {"h | x": lambda x: self.latent(self.logits)}
        if layers > 1:
            conditionals["k | h"] = lambda h: self.latent(2 * h.flip(-1) - 1)
        self.q = Joint(conditionals)

    def latent(self, logits: Tensor) -> Any:
        return Independent(Bernoulli(logits=logits), 1) if self.kind == "binary" else OneHot(logits)

    def cost(self, trace: Trace) -> Tensor:
        weights = torch.tensor([1.3, -0.7, 2.1], dtype=torch.float64)
        last = trace["k"] if "k" in trace else trace["h"]
        return torch.sin(2 * (trace["h"] * weights).sum(-1)) + ((last - 0.45) ** 2 * weights.flip(0)).sum(-1)

    def squares(self, estimator: REBAR, seed: int) -> tuple[Tensor, list[Tensor]]:
        """The mean square of the gradient of the logits of h, and the gradients of what the estimator owns."""
        torch.manual_seed(seed)
        estimators: dict[str, Estimator] = {"h": estimator}
        if "k" in self.q.variables:
            estimators["k"] = LikelihoodRatio(None)
        value = expectation(self.cost, self.q, {"x": torch.zeros(self.rows, 1)}, 1, estimators)
        owned = list(estimator.parameters())
        drawn, *learned = torch.autograd.grad(value.mean(), [self.logits, *owned])
        return (self.rows * drawn).square().sum(-1).mean(), learned


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", ["binary", "one-hot"])
@pytest.mark.parametrize("make", [lambda: REBAR(0.7, 0.6), lambda: RELAX(nn.Linear(3, 1), 0.7, 0.6)])
def test_the_gradient_of_what_is_learned_is_that_of_the_variance(
    make: Callable[[], REBAR], kind: Kind, layers: int
) -> None:
    """With the same noise the variance is a smooth function of it, so finite differences show its slope."""
    torch.manual_seed(5)
    toy, estimator = Toy(kind, 211, layers), make().double()
    _, learned = toy.squares(estimator, seed=3)
    step = 1e-5
    for parameter, slope in zip(estimator.parameters(), learned, strict=True):
        flat = parameter.data.view(-1)
        for i in range(len(flat)):
            around = []
            for sign in (1, -1):
                flat[i] += sign * step
                around.append(toy.squares(estimator, seed=3)[0])
                flat[i] -= sign * step
            numeric = (around[0] - around[1]) / (2 * step)
            assert numeric.abs() > 1e-3
            torch.testing.assert_close(slope.view(-1)[i], numeric, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("sign", [1, -1], ids=["the expectation is lowered", "it is raised"])
@pytest.mark.parametrize(
    ("make", "target", "share"),
    [
        (lambda: RELAX(nn.Linear(1, 1), 0.1, 0.0), 0.499, 0.01),
        (lambda: REBAR(0.1, 0.0), 0.2, 0.3),
        (lambda: REBAR(0.1, 1.0), 0.499, 1.1),  # at first 6 times as much; here nothing of the kind helps
    ],
    ids=["RELAX", "REBAR", "REBAR, badly begun"],
)
def test_learning_lowers_the_variance_on_the_toy_of_the_papers(
    make: Callable[[], nn.Module], target: float, share: float, sign: int
) -> None:
    """E[(b - t)²], where the likelihood ratio sees almost the same cost for both values if t is 0.499."""
    torch.manual_seed(1)
    rows = 211
    logits = torch.zeros(rows, 1, dtype=torch.float64, requires_grad=True)
    q = Joint({"b | x": lambda x: Independent(Bernoulli(logits=logits), 1)})

    def gradient(estimator: Any) -> Tensor:
        given = {"x": torch.zeros(rows, 1)}
        value = expectation(lambda t: ((t["b"] - target) ** 2).sum(-1), q, given, 1, estimator)
        logits.grad = None
        (sign * value.mean()).backward()
        assert logits.grad is not None
        return rows * logits.grad

    estimator = make().double()
    optimizer = torch.optim.Adam(estimator.parameters(), lr=0.05)
    for _ in range(120):
        optimizer.zero_grad()
        gradient(estimator)
        optimizer.step()

    def variance(of: Any) -> float:
        return sum(gradient(of).var().item() for _ in range(20))

    assert variance(estimator) < share * variance(LikelihoodRatio(None))
    if share > 1:
        assert variance(make().double()) > 4 * variance(estimator)


def test_what_is_fixed_is_not_learned() -> None:
    assert not any(parameter.requires_grad for parameter in REBAR(learned=False).parameters())
    assert all(parameter.requires_grad for parameter in REBAR().parameters())


@pytest.mark.parametrize("estimator", [REBAR(0.2), DisARM(), GumbelSoftmax()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("logit", [80.0, -80.0])
def test_saturated_logits_leave_gradients_finite(estimator: Any, logit: float) -> None:
    torch.manual_seed(0)
    logits = torch.full((101, 3), logit, requires_grad=True)
    q = Joint({"h | x": lambda x: Independent(Bernoulli(logits=logits), 1)})
    value = expectation(lambda t: (t["h"] ** 2).sum(-1), q, {"x": torch.zeros(101, 1)}, 1, {"h": estimator})
    value.sum().backward()
    assert value.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("estimator", [REBAR(0.2), GumbelSoftmax()], ids=lambda e: type(e).__name__)
def test_classes_without_any_probability_leave_gradients_finite(estimator: Any) -> None:
    torch.manual_seed(0)
    logits = torch.tensor([80.0, -80.0, 0.0]).expand(101, 3).clone().requires_grad_()
    q = Joint({"h | x": lambda x: OneHot(logits)})
    value = expectation(lambda t: (t["h"] ** 2).sum(-1), q, {"x": torch.zeros(101, 1)}, 1, {"h": estimator})
    value.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", ["DisARM", "REBAR", "RELAX", "MuProp", "likelihood ratio"])
def test_dropout_in_q_is_the_same_where_the_cost_is_computed_again(name: str) -> None:
    """The exact gradient is the mean over the masks of two inputs; the cost holds log q, as an ELBO does."""
    rows, weight = 20_011, torch.tensor([[0.9, -0.4], [-0.7, 0.6]], dtype=torch.float64)
    dropout, x = nn.Dropout(0.5), torch.ones(rows, 2, dtype=torch.float64)

    def bound(trace: Trace) -> Tensor:
        return trace["h"].prod(-1) - trace.log_prob(["h"])

    def gradient(estimator: Any, inputs: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        w = weight.expand(len(x), 2, 2).clone().requires_grad_()
        q = Joint({"h | x": lambda x: Independent(Bernoulli(logits=(w @ inputs(x).unsqueeze(-1)).squeeze(-1)), 1)})
        return torch.autograd.grad(expectation(bound, q, {"x": x}, 1, estimator).sum(), w)[0]

    masks = 2 * torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 2)
    exact = gradient(Enumerate(), lambda masks: masks, masks).mean(0)
    torch.manual_seed(0)
    found = gradient(MAKE[name](1), dropout, x)
    scores = (found.mean(0) - exact) / (found.std(0) / rows**0.5)
    assert scores.abs().max() < 4.5

"""Wake-sleep: the mean gradients are those of sums written by hand, and no gradient reaches the other model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from forced import Forced, assert_same_gradients, bits
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from ancestral import (
    GraphError,
    Joint,
    ShapeError,
    Trace,
    bernoulli,
    bernoulli_bias,
    elbo,
    linear,
    normal,
    one_hot,
    standard_normal,
    wake_sleep,
)


def pair(m: Any) -> tuple[nn.Module, nn.Module]:
    """The parameters of p and those of q."""
    return nn.ModuleList([m.prior, m.middle, m.decoder]), nn.ModuleList([m.q_first, m.q_second])


def test_the_mean_gradient_of_the_wake_phase_is_the_sum_over_what_q_recognizes(two_layers: Any) -> None:
    m, x = two_layers, torch.tensor([[0, 1, 1, 0], [1, 1, 0, 1], [0, 0, 0, 1]]).double()
    value, wanted = torch.zeros(3), torch.zeros(3)
    for h1 in bits(3):
        for h2 in bits(2):
            h1s, h2s = h1.expand(1, 3, 3), h2.expand(1, 3, 2)
            mass = m.log_q(x, h1, h2).exp().detach()
            wake, _ = wake_sleep(m.p, Forced(m.q, {"h1": h1s, "h2": h2s}), {"x": x})
            value = value + mass * wake
            wanted = wanted - mass * m.log_joint(x, h1.expand(3, 3), h2.expand(3, 2))
    torch.testing.assert_close(value, wanted)
    assert_same_gradients(value, wanted, pair(m)[0])
    # which is that of the ELBO in p
    assert_same_gradients(-value, m.by_hand(x)[1], pair(m)[0])


def test_the_mean_gradient_of_the_sleep_phase_is_the_sum_over_all_dreams(two_layers: Any) -> None:
    m = two_layers
    dreams = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 9)
    x, h1, h2 = dreams.split([4, 3, 2], 1)
    _, sleep = wake_sleep(Forced(m.p, {"x": x, "h1": h1, "h2": h2}), m.q, {"x": torch.zeros_like(x)})
    mass = m.log_joint(x, h1, h2).exp().detach()
    assert mass.sum().item() == pytest.approx(1.0)
    wanted = -m.log_q(x, h1, h2)
    torch.testing.assert_close(sleep, wanted)
    assert_same_gradients((mass * sleep).sum()[None], (mass * wanted).sum()[None], pair(m)[1])


def test_an_exact_posterior_has_nothing_to_learn_from_dreams(mixture: Any) -> None:
    m = mixture
    x = bits(4).repeat_interleave(5, 0)
    y = torch.arange(5).repeat(16)
    table = m.log_joint(x).detach().requires_grad_()  # the logits of q, a row for every dream
    q = Joint({"y | x": lambda x: torch.distributions.Categorical(logits=table)})
    _, sleep = wake_sleep(Forced(m.p, {"x": x, "y": y}), q, {"x": torch.zeros_like(x)})
    mass = m.log_joint(x).gather(1, y[:, None])[:, 0].exp().detach()
    (gradient,) = torch.autograd.grad((mass * sleep).sum(), table)
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(gradient.reshape(16, 5, 5).sum(1), torch.zeros(16, 5, dtype=torch.float64))


class Conditional:
    """p(z, x | y) and q(z | x, y), each with a deterministic variable in between, once as a Joint, once with a state.

    The deterministic variables of the two have the same name, so that what one computes could stand for the other's.
    """

    def __init__(self, stateful: bool) -> None:
        torch.manual_seed(0)
        p = {
            "z | y": normal(linear(2, 6)),
            "h | z": linear(3, 7),
            "k | y": linear(2, 7),
            "x | h, k": normal(linear(14, 10)),
        }
        q = {"h | x, y": linear(7, 11), "a | h": linear(11, 3), "z | a": normal(linear(3, 6))}
        self.p: Any = Stateful(p) if stateful else Joint(p)
        self.q: Any = Stateful(q) if stateful else Joint(q)
        self.given = {"x": torch.randn(13, 5), "y": torch.randn(13, 2)}


class Stateful(nn.Module):
    """The same in an ordinary loop, with a state: each variable's parents are those that its key names."""

    def __init__(self, conditionals: dict[str, nn.Module]) -> None:
        super().__init__()
        self.keys = list(conditionals)
        self.networks = nn.ModuleList(conditionals.values())

    def forward(self, trace: Trace) -> None:
        for key, network in zip(self.keys, self.networks, strict=True):
            name, parents = key.split(" | ")
            trace.sample(name, network(*[trace[parent] for parent in parents.split(", ")]))


@pytest.mark.parametrize("stateful", [False, True])
def test_no_gradient_of_one_model_reaches_the_other(stateful: bool) -> None:
    m = Conditional(stateful)
    wake, sleep = wake_sleep(m.p, m.q, m.given)
    for loss, mine, other in ((wake, m.p, m.q), (sleep, m.q, m.p)):
        own, foreign = list(mine.parameters()), list(other.parameters())
        found = torch.autograd.grad(loss.sum(), own + foreign, allow_unused=True)
        assert all(g is not None and g.abs().max() > 0 for g in found[: len(own)])
        assert all(g is None for g in found[len(own) :])


def test_a_dream_keeps_what_p_is_conditioned_on() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def recognition(x: Tensor, y: Tensor) -> Distribution:
        seen.append((x, y))
        return Independent(Normal(x[..., :3], 1.0), 1)

    p = Joint({"z": standard_normal(3), "x | z, y": lambda z, y: Independent(Normal(y, 1e-4).expand((7, 5)), 1)})
    given = {"x": torch.randn(7, 5), "y": torch.arange(7.0)[:, None].expand(7, 5)}
    wake_sleep(p, Joint({"z | x, y": recognition}), given)
    (awake, _), (dreamt, y) = seen
    assert awake is given["x"]
    assert y is given["y"]
    torch.testing.assert_close(dreamt, y, atol=1e-3, rtol=0)


def test_the_loss_of_each_dream_is_that_of_its_own_latents() -> None:
    torch.manual_seed(0)
    p = Joint({"z": standard_normal(3), "x | z": lambda z: Independent(Normal(z @ torch.ones(3, 5), 0.1), 1)})
    seen: list[Trace] = []

    def q(trace: Trace) -> None:
        trace.sample("z", Independent(Normal(trace["x"][..., :3], 0.7), 1))
        seen.append(trace)

    _, sleep = wake_sleep(p, q, {"x": torch.randn(7, 5)})
    x, z = seen[1]["x"], seen[1]["z"]
    assert x.shape == (7, 5)
    torch.testing.assert_close(sleep, -Normal(x[:, :3], 0.7).log_prob(z).sum(-1))
    torch.testing.assert_close(x, z @ torch.ones(3, 5), atol=0.5, rtol=0)


def test_there_is_one_value_per_datapoint_whatever_the_kind_of_the_variables() -> None:
    p = Joint({"y": lambda: one_hot(nn.Identity())(torch.zeros(3)), "h": bernoulli_bias(2), "x | y, h": _decoder()})
    q = Joint({"y | x": one_hot(linear(5, 3)), "h | x, y": bernoulli(linear(8, 2))})
    for rows in (1, 2, 7):
        for loss in wake_sleep(p, q, {"x": torch.ones(rows, 5)}):
            assert loss.shape == (rows,)
            assert loss.requires_grad


def _decoder() -> nn.Module:
    return bernoulli(linear(5, 5))


def test_without_a_gradient_the_losses_have_none(two_layers: Any) -> None:
    with torch.no_grad():
        losses = wake_sleep(two_layers.p, two_layers.q, {"x": torch.ones(7, 4).double()})
    assert not any(loss.requires_grad for loss in losses)


def test_one_model_for_both_is_an_error_that_names_the_objective_for_it(two_layers: Any) -> None:
    with pytest.raises(GraphError, match=r"p and q are one model.*use elbo\(p, p"):
        wake_sleep(two_layers.p, two_layers.p, {"x": torch.ones(7, 4).double()})


def test_p_and_q_must_have_the_same_latents() -> None:
    p = Joint({"z": standard_normal(3), "x | z": normal(linear(3, 10))})
    x = torch.ones(7, 5)
    with pytest.raises(GraphError, match="q draws 'w', which p does not have"):
        wake_sleep(p, Joint({"w | x": normal(linear(5, 6))}), {"x": x})
    other = Joint({"z": standard_normal(2), "x | z": normal(linear(3, 10))})
    with pytest.raises(ShapeError, match=r"'z' has event shape \(3,\) in q but \(2,\) in p"):
        wake_sleep(other, Joint({"z | x": normal(linear(5, 6))}), {"x": x})
    with pytest.raises(GraphError, match="'x', a parent of 'z', is neither given nor drawn"):
        wake_sleep(p, Joint({"z | x": normal(linear(5, 6))}), {"y": x})
    with pytest.raises(GraphError, match="a value is given for 'y', which neither model samples"):
        wake_sleep(p, Joint({"z | x": normal(linear(5, 6))}), {"x": x, "y": x})


def test_the_sum_of_the_losses_learns_a_model_that_q_can_invert() -> None:
    """Factor analysis with two pixels that share a cause: the likelihood rises, and q comes near the posterior."""
    torch.manual_seed(0)
    z = torch.randn(4_001, 1)
    x = z @ torch.tensor([[1.3, -0.7]]) + 0.5 * torch.randn(4_001, 2)
    p = Joint({"z": standard_normal(1), "x | z": normal(linear(1, 2), scale=0.5)})
    q = Joint({"z | x": normal(linear(2, 2))})
    optimizer = torch.optim.Adam([*p.parameters(), *q.parameters()], lr=0.05)
    with torch.no_grad():
        before = elbo(p, q, {"x": x}, 11).mean()
    for _ in range(200):
        wake, sleep = wake_sleep(p, q, {"x": x[torch.randint(4_001, (307,))]})
        optimizer.zero_grad()
        (wake + sleep).mean().backward()
        optimizer.step()
    with torch.no_grad():
        after = elbo(p, q, {"x": x}, 11).mean()
    covariance = torch.tensor([[1.3**2 + 0.25, -1.3 * 0.7], [-1.3 * 0.7, 0.7**2 + 0.25]])
    best = torch.distributions.MultivariateNormal(torch.zeros(2), covariance).log_prob(x).mean()
    assert before < best - 0.5
    assert abs(after - best) < 0.1

"""Hamiltonian Monte Carlo against densities whose moments are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from ancestral.errors import AncestralError
from ancestral.objectives.hmc import hmc, leapfrog, state_at, transition

MEAN = torch.tensor([1.3, -0.7, 0.4], dtype=torch.float64)
FACTOR = torch.tensor([[0.7, 0.0, 0.0], [0.5, 1.1, 0.0], [-0.3, 0.2, 0.4]], dtype=torch.float64)
COVARIANCE = FACTOR @ FACTOR.T
NORMAL = MultivariateNormal(MEAN, COVARIANCE)


def quartic(z: Tensor) -> Tensor:
    """A density that is no Gaussian and couples the dimensions."""
    return -(z.square().sum(-1).square() / 4 + z[..., 0] * z[..., 1])


def step(size: float, rows: int) -> Tensor:
    return torch.full((rows,), size, dtype=torch.float64)


def test_leapfrog_goes_back_where_it_came_from_with_the_momentum_turned_around() -> None:
    torch.manual_seed(0)
    start = state_at(quartic, torch.randn(5, 7, 3, dtype=torch.float64))
    momentum = torch.randn_like(start.position)
    there, last = leapfrog(quartic, start, momentum, step(0.13, 7), 11)
    assert (there.position - start.position).abs().min() > 1e-3
    back, first = leapfrog(quartic, there, -last, step(0.13, 7), 11)
    torch.testing.assert_close(back.position, start.position, atol=1e-11, rtol=0)
    torch.testing.assert_close(-first, momentum, atol=1e-11, rtol=0)


def test_leapfrog_keeps_the_volume_of_position_and_momentum() -> None:
    torch.manual_seed(1)
    here = torch.randn(6, dtype=torch.float64)

    def move(both: Tensor) -> Tensor:
        """Written without the library: the gradient of the quartic by hand, so that it can be differentiated again."""

        def gradient(z: Tensor) -> Tensor:
            return -(z.square().sum() * z + torch.stack([z[1], z[0], torch.zeros_like(z[0])]))

        z, v = both[:3], both[3:]
        for _ in range(7):
            v = v + 0.2 / 2 * gradient(z)
            z = z + 0.2 * v
            v = v + 0.2 / 2 * gradient(z)
        return torch.cat([z, v])

    there, last = leapfrog(quartic, state_at(quartic, here[:3].view(1, 1, 3)), here[3:].view(1, 1, 3), step(0.2, 1), 7)
    torch.testing.assert_close(torch.cat([there.position.flatten(), last.flatten()]), move(here), atol=1e-12, rtol=0)
    jacobian = torch.autograd.functional.jacobian(move, here)  # type: ignore[no-untyped-call]
    assert torch.linalg.det(jacobian).item() == pytest.approx(1, abs=1e-10)


def test_smaller_steps_are_accepted_more_and_in_the_limit_always() -> None:
    torch.manual_seed(2)
    start = state_at(NORMAL.log_prob, NORMAL.sample(torch.Size((211, 5))))
    refused = [
        1 - transition(NORMAL.log_prob, start, step(size, 5), 5)[1].mean().item() for size in (0.6, 0.3, 0.03, 0.003)
    ]
    assert refused[0] > refused[1] > refused[2] > refused[3]
    assert refused[2] < 1e-3
    assert refused[3] < 1e-5


@pytest.mark.parametrize(("size", "steps"), [(0.2, 3), (0.62, 2), (0.75, 5)])
def test_a_transition_leaves_the_density_as_it_is(size: float, steps: int) -> None:
    """Even where half of the proposals are refused: mean, covariance and fourth moments after three transitions."""
    torch.manual_seed(3)
    n = 20_011
    state = state_at(NORMAL.log_prob, NORMAL.sample(torch.Size((n, 1))))
    for _ in range(3):
        state, acceptance = transition(NORMAL.log_prob, state, step(size, 1), steps)
    if size > 0.7:
        assert acceptance.mean() < 0.8
    white = torch.linalg.solve_triangular(FACTOR, (state.position[:, 0] - MEAN).T, upper=False).T
    moments = {
        "first": (white, 0.0, 1.0),
        "second": (white.square(), 1.0, 2.0),
        "mixed": (white * white.roll(1, 1), 0.0, 1.0),
        "fourth": (white**4, 3.0, 96.0),
    }
    for name, (values, mean, variance) in moments.items():
        z = (values.mean(0) - mean) / math.sqrt(variance / n)
        assert z.abs().max() < 4, name


def test_as_many_chains_go_from_one_place_to_another_as_back() -> None:
    """Detailed balance: of independent stationary chains, the moves between two regions balance."""
    torch.manual_seed(4)
    n = 40_009
    before = state_at(NORMAL.log_prob, NORMAL.sample(torch.Size((n, 1))))
    after, _ = transition(NORMAL.log_prob, before, step(0.6, 1), 2)
    a, b = before.position[:, 0], after.position[:, 0]
    odd = (
        (a[:, 0] ** 3 * b[:, 1] - b[:, 0] ** 3 * a[:, 1])
        + torch.tanh(a[:, 2]) * b[:, 0]
        - torch.tanh(b[:, 2]) * a[:, 0]
    )
    assert abs(odd.mean().item()) < 4 * odd.std().item() / math.sqrt(n)
    there = ((a[:, 0] < 1) & (b[:, 0] > 2)).sum().item()
    back = ((b[:, 0] < 1) & (a[:, 0] > 2)).sum().item()
    assert there > 100
    assert abs(there - back) < 4 * math.sqrt(there + back)


def test_a_chain_that_stays_keeps_the_density_and_the_gradient_of_where_it_is() -> None:
    torch.manual_seed(8)
    before = state_at(quartic, torch.randn(53, 7, 3, dtype=torch.float64))
    after, acceptance = transition(quartic, before, step(0.8, 7), 5)
    stayed = (after.position == before.position).all(-1)
    assert 20 < stayed.sum() < 351
    assert ((acceptance == 1) <= ~stayed).all()
    for found, expected in zip(after, state_at(quartic, after.position), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_each_datapoint_finds_a_step_size_of_its_own() -> None:
    """Scales a hundred times apart, and the moments of each are right."""
    torch.manual_seed(5)
    scale = torch.tensor([0.03, 1.0, 3.0], dtype=torch.float64)

    def log_density(z: Tensor) -> Tensor:
        return -((z / scale[:, None]).square().sum(-1)) / 2

    start = scale[:, None] * torch.randn(53, 3, 5, dtype=torch.float64)
    found = hmc(log_density, start, draws=30, burn_in=60, steps=5, target=0.8)
    assert found.positions.shape == (30, 53, 3, 5)
    assert ((found.acceptance - 0.8).abs() < 0.1).all()
    torch.testing.assert_close(found.step / scale, (found.step / scale).mean().expand(3), rtol=0.25, atol=0)
    white = (found.positions / scale[:, None]).square().mean((0, 3))  # one number for each chain, which are independent
    error = white.std(0) / math.sqrt(53)
    assert ((white.mean(0) - 1).abs() < 4 * error).all()


def test_the_step_size_stays_once_burn_in_is_over() -> None:
    torch.manual_seed(6)
    found = hmc(quartic, torch.randn(3, 2, 3, dtype=torch.float64), draws=7, step=step(0.17, 2))
    assert torch.equal(found.step, step(0.17, 2))
    assert found.positions.shape == (7, 3, 2, 3)


def test_what_can_not_be_computed_is_never_gone_to() -> None:
    torch.manual_seed(7)

    def half(z: Tensor) -> Tensor:
        """Exponential: NaN below 0."""
        return torch.where(z[..., 0] > 0, -z[..., 0], torch.nan)

    found = hmc(half, torch.ones(101, 1, 1, dtype=torch.float64), draws=200, burn_in=50, steps=3)
    assert (found.positions > 0).all()
    each = found.positions.mean((0, 2, 3))
    assert abs(each.mean().item() - 1) < 4 * each.std().item() / math.sqrt(101)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"draws": 0}, "draws is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"draws": True}, "draws is True"),
        ({"burn_in": -1}, "burn_in is -1"),
        ({"target": 1.0}, "target acceptance is 1.0"),
        ({"target": math.nan}, "target acceptance is nan"),
    ],
)
def test_settings_out_of_range_are_errors(options: dict[str, float], words: str) -> None:
    with pytest.raises(AncestralError, match=words):
        hmc(quartic, torch.zeros(1, 1, 3), **{"draws": 1, **options})  # type: ignore[arg-type]

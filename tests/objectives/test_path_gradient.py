"""Sticking the landing and doubly reparameterized gradients: by hand for every draw, and their bias by quadrature."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from forced import Bound, Grid
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, Uniform

from ancestral import (
    AncestralError,
    EstimatorError,
    GumbelSoftmax,
    Joint,
    LikelihoodRatio,
    Trace,
    bernoulli,
    elbo,
    iwae,
    linear,
    normal,
    standard_normal,
)
from ancestral.objectives import elbo_terms

GRADIENTS: list[Any] = ["sticking-the-landing", "doubly-reparameterized"]


class Chain:
    """p: c -> b -> a -> x and x's own; q: x -> a -> b -> c, each of q's with all that came before for its parents.

    The scales of q depend on the parents too, and b is drawn through a deterministic variable.
    """

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(3)

        def weight(*shape: int) -> Tensor:
            return (0.5 * torch.randn(*shape, generator=random, dtype=torch.float64)).requires_grad_()

        self.phi = {"a": weight(4, 6), "h": weight(7, 3), "b": weight(10, 4), "c": weight(9, 10)}
        self.theta = {"b": weight(5, 2), "a": weight(2, 3), "x": weight(3, 4)}
        self.x = torch.randn(7, 4, generator=random, dtype=torch.float64)
        self.p = Joint(
            {
                "c": lambda: self.at(torch.zeros(5, dtype=torch.float64)),
                "b | c": lambda c: self.at(torch.tanh(c) @ self.theta["b"]),
                "a | b": lambda b: self.at(torch.tanh(b) @ self.theta["a"]),
                "x | a": lambda a: self.at(torch.tanh(a) @ self.theta["x"]),
            }
        )
        self.q = self.recognition(self.phi)

    @staticmethod
    def at(mean: Tensor) -> Distribution:
        return Independent(Normal(mean, 0.8), 1)

    @staticmethod
    def recognition(phi: dict[str, Tensor]) -> Joint:
        def scaled(parents: list[Tensor], weight: Tensor) -> Distribution:
            shape = torch.broadcast_shapes(*[parent.shape[:-1] for parent in parents])
            joined = torch.cat([parent.expand(*shape, parent.shape[-1]) for parent in parents], -1)
            mean, log_scale = (torch.tanh(joined) @ weight).chunk(2, -1)
            return Independent(Normal(mean, (log_scale - 0.5).exp()), 1)

        def feature(a: Tensor, x: Tensor) -> Tensor:
            return torch.tanh(torch.cat([a, x.expand(*a.shape[:-1], 4)], -1) @ phi["h"])

        return Joint(
            {
                "a | x": lambda x: scaled([x], phi["a"]),
                "h | a, x": feature,
                "b | a, h, x": lambda a, h, x: scaled([a, h, x], phi["b"]),
                "c | a, b, x": lambda a, b, x: scaled([a, b, x], phi["c"]),
            }
        )

    def by_hand(self, particles: int) -> tuple[Tensor, list[list[Tensor]]]:
        """log w without a path through q's parameters but by the values; and its gradient for each draw alone."""
        trace = Trace((particles, 7), {"x": self.x}, _Draw())
        self.q(trace)
        again = Trace(trace.shape, {name: trace[name] for name in ("x", "a", "b", "c")})
        self.recognition({name: weight.detach() for name, weight in self.phi.items()})(again)
        scored = Trace(trace.shape, again.values)
        self.p(scored)
        log_weight = scored.log_prob() - again.log_prob()
        alone = [
            list(torch.autograd.grad(log_weight[k, i], list(self.phi.values()), retain_graph=True))
            for k, i in itertools.product(range(particles), range(7))
        ]
        return log_weight, alone


class _Draw:
    def draw(self, name: str, distribution: Distribution, trace: Trace) -> Tensor:
        value: Tensor = distribution.rsample(torch.Size(trace.missing_shape(distribution)))
        return value

    def term(self, site: Any, cost: Any) -> None:
        return None


@pytest.mark.parametrize("power", [0, 1, 2])
def test_in_a_chain_every_draw_has_the_gradient_written_by_hand(power: int) -> None:
    """Weights of each particle to the power 0 (the ELBO, 1/K), 1 (sticking the landing) and 2 (doubly)."""
    m, particles = Chain(), 3
    torch.manual_seed(1)
    log_weight, alone = m.by_hand(particles)
    weights = log_weight.detach().softmax(0) ** power / (particles if power == 0 else 1)
    wanted = [sum(w * alone[i][j] for i, w in enumerate(weights.flatten().tolist())) for j in range(len(m.phi))]
    for gradient in GRADIENTS[power - 1 : power] or GRADIENTS:
        torch.manual_seed(1)
        if power:
            value = iwae(m.p, m.q, {"x": m.x}, particles, gradient=gradient)
        else:
            value = elbo(m.p, m.q, {"x": m.x}, particles, gradient=gradient)
        found = torch.autograd.grad(value.sum(), list(m.phi.values()))
        for a, b in zip(found, wanted, strict=True):
            assert isinstance(b, Tensor)
            assert b.abs().max() > 0.1
            torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("bound", [elbo, iwae])
def test_the_value_and_the_gradient_in_p_are_those_of_the_bound(bound: Bound, gradient: Any) -> None:
    m, results = Chain(), []
    for one in ("total", gradient):
        torch.manual_seed(1)
        value = bound(m.p, m.q, {"x": m.x}, 3, gradient=one)
        results.append((value, *torch.autograd.grad(value.sum(), list(m.theta.values()))))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(
    ("bound", "gradient"),
    [(elbo, "sticking-the-landing"), (elbo, "doubly-reparameterized"), (iwae, "doubly-reparameterized")],
)
def test_the_mean_is_the_gradient_of_the_bound(bound: Bound, gradient: Any) -> None:
    grid = Grid()
    (value, mine, _), (wanted_value, wanted, _) = grid.mean(bound, gradient=gradient), grid.exact(bound is iwae)
    torch.testing.assert_close(value, wanted_value, atol=1e-12, rtol=1e-12)
    assert wanted.abs().min() > 0.1
    torch.testing.assert_close(mine, wanted, atol=1e-10, rtol=1e-10)


def test_sticking_the_landing_is_biased_under_the_importance_weighted_bound() -> None:
    grid = Grid()
    (value, mine, _), (wanted_value, wanted, _) = grid.mean(iwae, gradient="sticking-the-landing"), grid.exact(True)
    torch.testing.assert_close(value, wanted_value)
    assert ((mine - wanted).abs() > 0.05 * wanted.abs()).any()


def test_with_one_particle_all_bounds_have_one_gradient() -> None:
    m, found = Chain(), []
    for bound, gradient in itertools.product((elbo, iwae), GRADIENTS):
        torch.manual_seed(1)
        found.append(torch.autograd.grad(bound(m.p, m.q, {"x": m.x}, 1, gradient=gradient).sum(), [*m.phi.values()]))
    for other in found[1:]:
        torch.testing.assert_close(found[0], other)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("bound", [elbo, iwae])
def test_at_the_exact_posterior_they_are_zero_for_every_draw(linear_gaussian: Any, bound: Bound, gradient: Any) -> None:
    m = linear_gaussian
    mean = m.posterior_mean(m.x).requires_grad_()
    factor = torch.linalg.cholesky(m.covariance).expand(7, 3, 3).clone().requires_grad_()
    q = Joint({"z | x": lambda x: MultivariateNormal(mean, scale_tril=factor)})
    total, path = (
        torch.autograd.grad(bound(m.p, q, {"x": m.x}, 11, gradient=one).sum(), [mean, factor])
        for one in ("total", gradient)
    )
    assert min(g.abs().max() for g in total) > 0.1
    for found in path:
        torch.testing.assert_close(found, torch.zeros_like(found), atol=1e-10, rtol=0)


@pytest.mark.parametrize(("bound", "gradient"), [(elbo, GRADIENTS[0]), (iwae, GRADIENTS[1])])
def test_in_a_chain_they_are_unbiased(bound: Bound, gradient: Any) -> None:
    torch.manual_seed(0)
    m, count = Chain(), 20_011
    x = m.x[:1].expand(count, 4)
    drawn = []
    for one in ("total", gradient):
        rows = {"a": m.phi["a"].detach().expand(count, 4, 6).clone().requires_grad_()}
        q = Joint(
            {
                "a | x": lambda x, weight=rows["a"]: _of_rows(x, weight),
                **{key: m.q.conditionals[key[0]] for key in ("h | a, x", "b | a, h, x", "c | a, b, x")},
            }
        )
        value = bound(m.p, q, {"x": x}, 5, gradient=one)
        drawn.append(torch.autograd.grad(value.sum(), rows["a"])[0])
    total, path = drawn
    error = ((total.var(0) + path.var(0)) / count).sqrt()
    assert ((total.mean(0) - path.mean(0)).abs() / error).max() < 4.5


def test_the_signal_of_the_total_gradient_is_lost_among_many_particles_and_that_of_the_double_one_is_not(
    linear_gaussian: Any,
) -> None:
    torch.manual_seed(0)
    m, count = linear_gaussian, 5_003
    rough = m.rough_posterior(m.x[:1]).base_dist

    def measured(particles: int, gradient: Any) -> Tensor:
        """Of the mean of q: the length of the mean gradient in standard deviations."""
        mean = rough.mean.expand(count, 3).clone().requires_grad_()
        q = Joint({"z | x": lambda x: Independent(Normal(mean, rough.scale.expand(count, 3)), 1)})
        value = iwae(m.p, q, {"x": m.x[:1].expand(count, 5)}, particles, gradient=gradient)
        (drawn,) = torch.autograd.grad(value.sum(), mean)
        signal: Tensor = drawn.mean(0).norm() / drawn.std(0).norm()
        return signal

    assert measured(64, "total") < 0.6 * measured(4, "total")
    assert measured(64, "doubly-reparameterized") > 1.5 * measured(4, "doubly-reparameterized")


def _of_rows(x: Tensor, weight: Tensor) -> Distribution:
    mean, log_scale = torch.einsum("ni,nio->no", torch.tanh(x), weight).chunk(2, -1)
    return Independent(Normal(mean, (log_scale - 0.5).exp()), 1)


def test_the_weight_of_the_divergences_weighs_the_path_too() -> None:
    """E[log p(x | z)] - β KL, whose gradient is the first alone where β is 0."""
    m, found = Chain(), []
    for gradient in ("total", GRADIENTS[0]):
        torch.manual_seed(1)
        value = elbo(m.p, m.q, {"x": m.x}, 3, beta=0.0, gradient=gradient)
        found.append(torch.autograd.grad(value.sum(), m.phi["a"])[0])
    torch.testing.assert_close(*found)


def test_the_parts_of_the_bound_are_the_same() -> None:
    m, terms = Chain(), []
    for gradient in ("total", GRADIENTS[0]):
        torch.manual_seed(1)
        terms.append(elbo_terms(m.p, m.q, {"x": m.x}, 3, beta=0.4, gradient=gradient))
    torch.testing.assert_close(terms[0].kl, terms[1].kl)
    torch.testing.assert_close(terms[0].log_likelihood, terms[1].log_likelihood)
    torch.testing.assert_close(terms[0].elbo, terms[1].elbo)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("bound", [elbo, iwae])
def test_without_a_gradient_there_is_the_value(bound: Bound, gradient: Any) -> None:
    m = Chain()
    with torch.no_grad():
        value = bound(m.p, m.q, {"x": m.x}, 3, gradient=gradient)
    assert not value.requires_grad


@pytest.mark.parametrize("bound", [elbo, iwae])
def test_a_q_without_parameters_has_no_path(linear_gaussian: Any, bound: Bound) -> None:
    m = linear_gaussian
    m.W.requires_grad_()
    q = Joint({"z | x": lambda x: Independent(Normal(x[:, :3], 1.0), 1)})
    found = []
    for gradient in ("total", *GRADIENTS):
        torch.manual_seed(1)
        found.append(torch.autograd.grad(bound(m.p, q, {"x": m.x}, 3, gradient=gradient).sum(), m.W)[0])
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])


def test_a_density_that_does_not_depend_on_its_value_has_no_slope() -> None:
    high = torch.full((7,), 1.3, requires_grad=True)
    p = Joint({"z": lambda: Normal(torch.tensor(0.0), 1.0), "x | z": lambda z: Normal(2 * z, 1.0)})
    q = Joint({"z | x": lambda x: Uniform(torch.zeros(7), high, validate_args=False)})
    torch.manual_seed(0)
    value = elbo(p, q, {"x": torch.ones(7)}, gradient=GRADIENTS[0])
    (found,) = torch.autograd.grad(value.sum(), high)
    torch.manual_seed(0)
    z = (torch.rand(1, 7) * 1.3)[0]
    torch.testing.assert_close(found, (-z + 2 * (1 - 2 * z)) * z / 1.3)


@pytest.mark.parametrize("bound", [elbo, iwae])
def test_what_has_no_path_is_an_error_that_says_so(bound: Bound) -> None:
    x = torch.ones(7, 5)
    p = Joint({"z": standard_normal(3), "x | z": bernoulli(linear(3, 5))})
    q = Joint({"z | x": normal(linear(5, 6))})
    with pytest.raises(AncestralError, match=r"no gradient 'sticking'. Did you mean 'sticking-the-landing'"):
        bound(p, q, {"x": x}, 2, gradient="sticking")
    with pytest.raises(EstimatorError, match=r"'z' is drawn by LikelihoodRatio.*leave the gradient out"):
        bound(p, q, {"x": x}, 2, LikelihoodRatio(), gradient=GRADIENTS[1])
    binary = Joint({"z": lambda: bernoulli(nn.Identity())(torch.zeros(3)), "x | z": bernoulli(linear(3, 5))})
    with pytest.raises(EstimatorError, match="'z' is drawn by GumbelSoftmax"):
        bound(binary, Joint({"z | x": bernoulli(linear(5, 3))}), {"x": x}, 2, GumbelSoftmax(), gradient=GRADIENTS[0])
    with pytest.raises(AncestralError, match="has no part in a bound where p is q"):
        bound(p, p, {"x": x}, 2, gradient=GRADIENTS[0])


def test_a_divergence_in_closed_form_leaves_nothing_to_a_gradient_by_the_path() -> None:
    p = Joint({"z": standard_normal(3), "x | z": bernoulli(linear(3, 5))})
    q = Joint({"z | x": normal(linear(5, 6))})
    with pytest.raises(AncestralError, match="leave out the gradient, or analytic_kl"):
        elbo(p, q, {"x": torch.ones(7, 5)}, analytic_kl=["z"], gradient=GRADIENTS[0])

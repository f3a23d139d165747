"""Gaps of the ELBO against a linear-Gaussian model, whose best diagonal posterior is known in closed form."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from ancestral import Joint, LatentVariableModel, bernoulli, bernoulli_bias, elbo, linear, standard_normal
from ancestral.configs import DataConfig
from ancestral.data.dataset import Dataset, Rows
from ancestral.data.loading import assemble
from ancestral.data.raw import Raw
from ancestral.errors import AncestralError, ShapeError
from ancestral.evaluation import Figure, amortization, amortization_gap, inference_gaps
from ancestral.models import FreePosterior, freed
from ancestral.objectives import memory


def best_gaussian(known: Any, x: Tensor) -> Independent:
    """Of the independent ones, the nearest to the posterior in KL(q || p): its mean, and 1 / diag of its precision."""
    scale = torch.linalg.inv(known.covariance).diagonal().rsqrt()
    return Independent(Normal(known.posterior_mean(x), scale.expand(len(x), 3)), 1)


def divergence(known: Any, q: Independent, x: Tensor) -> Tensor:
    """KL(q || p(z | x)), ``[batch]``."""
    full = MultivariateNormal(q.base_dist.mean, torch.diag_embed(q.base_dist.variance))
    return kl_divergence(full, known.posterior(x))


def test_the_gaps_of_a_linear_gaussian_model_are_those_in_closed_form(linear_gaussian: Any) -> None:
    known, x = linear_gaussian, linear_gaussian.x
    q = Joint({"z | x": known.rough_posterior})
    torch.manual_seed(0)
    gaps = inference_gaps(known.p, q, {"x": x}, steps=400, particles=20_000)
    approximation = divergence(known, best_gaussian(known, x), x)
    amortization = divergence(known, known.rough_posterior(x), x) - approximation
    assert approximation.min().item() > 0.05
    assert amortization.min().item() > 0.05
    torch.testing.assert_close(gaps.approximation, approximation, atol=0.04, rtol=0)
    torch.testing.assert_close(gaps.amortization, amortization, atol=0.04, rtol=0)
    found = gaps.posterior
    torch.testing.assert_close(found.means["z"].detach(), known.posterior_mean(x), atol=0.05, rtol=0)
    expected = best_gaussian(known, x).base_dist.stddev.log()
    torch.testing.assert_close(found.log_scales["z"].detach(), expected, atol=0.05, rtol=0)


def test_an_encoder_that_gives_the_best_gaussians_has_no_amortization_gap(linear_gaussian: Any) -> None:
    known, x = linear_gaussian, linear_gaussian.x
    torch.manual_seed(0)
    gaps = inference_gaps(
        known.p, Joint({"z | x": lambda x: best_gaussian(known, x)}), {"x": x}, steps=100, particles=20_000
    )
    assert gaps.amortization.abs().max().item() < 0.01
    torch.testing.assert_close(gaps.approximation, divergence(known, best_gaussian(known, x), x), atol=0.03, rtol=0)


def test_log_p_of_x_is_estimated_with_the_draws_of_both(linear_gaussian: Any) -> None:
    """With one particle it is the logarithm of the mean of the two weights, whose logarithms are the ELBOs."""
    known = linear_gaussian
    gaps = inference_gaps(known.p, Joint({"z | x": known.rough_posterior}), {"x": known.x}, steps=5, particles=1)
    assert gaps.amortization.abs().min().item() > 1e-3
    torch.testing.assert_close(gaps.approximation, torch.log((1 + torch.exp(-gaps.amortization)) / 2))


def test_the_gaps_of_a_model_in_training_are_those_after_training() -> None:
    torch.manual_seed(0)
    p = Joint({"z": standard_normal(2), "x | z": bernoulli(nn.Sequential(linear(2, 7), nn.Dropout(), linear(7, 5)))})
    q = Joint({"z | x": Gaussian(nn.Sequential(linear(5, 7), nn.BatchNorm1d(7), linear(7, 4)))})
    found, x = [], torch.rand(3, 5).round()
    for training in (False, True):
        torch.manual_seed(1)
        found.append(inference_gaps(p.train(training), q.train(training), {"x": x}, steps=2, particles=3))
    torch.testing.assert_close(found[1].approximation, found[0].approximation)
    torch.testing.assert_close(found[1].amortization, found[0].amortization)


def test_both_bounds_have_the_same_noise_in_several_passes_too(
    linear_gaussian: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = linear_gaussian
    monkeypatch.setattr(amortization, "LEARNING_RATE", 0.0)  # q* stays q
    monkeypatch.setattr(memory, "FAST", 30_000)
    q = Joint({"z | x": known.rough_posterior})
    sizes: list[int] = []
    known.p.register_forward_hook(lambda module, arguments, output: sizes.append(arguments[0].shape[0]))
    gaps = inference_gaps(known.p, q, {"x": known.x}, steps=1, particles=101)
    assert len(set(sizes)) > 1
    assert max(sizes) < 101
    assert gaps.amortization.abs().max().item() < 1e-6


def test_the_model_is_left_as_it_is() -> None:
    torch.manual_seed(0)
    p = Joint({"z": Gaussian(linear(1, 4)), "x | z": bernoulli(linear(2, 5))})
    q = Joint({"z | x": Gaussian(linear(5, 4))})
    before = [parameter.detach().clone() for parameter in [*p.parameters(), *q.parameters()]]
    inference_gaps(p, q, {"x": torch.ones(3, 5)}, steps=3, particles=7)
    for parameter, value in zip([*p.parameters(), *q.parameters()], before, strict=True):
        assert torch.equal(parameter, value)
        assert parameter.grad is None


class Gaussian(torch.nn.Module):
    """Two normal variables, whose parameters a network gives; that of a constant where there are no parents."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *parents: Tensor) -> Independent:
        mean, log_scale = self.network(*(parents or (torch.ones(1),))).chunk(2, -1)
        return Independent(Normal(mean, log_scale.exp()), 1)


def gaussian_data(known: Any, n: int = 41) -> Dataset:
    torch.manual_seed(1)
    z = known.m + known.s * torch.randn(n, 3, dtype=torch.float64)
    x = known.b + z @ known.W.T + known.sigma * torch.randn(n, 5, dtype=torch.float64)
    return assemble("gaussian", Raw(Rows(x.float().numpy()), levels=0), DataConfig(test=0.7))


def test_figures_are_means_over_the_first_rows_with_standard_errors(linear_gaussian: Any) -> None:
    known, data = linear_gaussian, gaussian_data(linear_gaussian)
    model = LatentVariableModel(known.p, Joint({"z | x": known.rough_posterior}))
    seen: list[tuple[int, int]] = []
    state = torch.get_rng_state()
    figures = amortization_gap(
        model, data, rows=13, steps=300, particles=5000, progress=lambda *done: seen.append(done)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert seen == [(done, 300) for done in range(1, 301)]
    x = data.rows("test", np.arange(13)).double()
    best = divergence(known, best_gaussian(known, x), x)
    gap = divergence(known, known.rough_posterior(x), x) - best
    for figure, name, values in zip(figures, ("approximation gap", "amortization gap"), (best, gap), strict=True):
        assert figure.name == name
        assert figure.value == pytest.approx(values.mean().item(), abs=0.04)
        assert (figure.datapoints, figure.particles, figure.unit) == (13, 5000, "nats")
        assert figure.standard_error is not None
        assert figure.standard_error < 0.1
        assert figure.digest == data.digest("test")
    torch.manual_seed(0)
    again = inference_gaps(known.p, model.q, {"x": data.rows("test", np.arange(13))}, steps=300, particles=5000)
    assert [figure.value for figure in figures] == [again.approximation.mean().item(), again.amortization.mean().item()]


def test_gaps_that_were_interrupted_continue_with_the_same_result(
    linear_gaussian: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = gaussian_data(linear_gaussian)
    model = LatentVariableModel(linear_gaussian.p, Joint({"z | x": linear_gaussian.rough_posterior}))
    monkeypatch.setattr(amortization, "ROWS", 5)
    seen: list[int] = []

    def stop(done: int, total: int) -> None:
        seen.append(done)
        if done == 29:  # in the third pass
            raise KeyboardInterrupt

    def gaps(keep: Path | None, **settings: Any) -> list[Figure]:
        return amortization_gap(model, data, 13, steps=11, particles=7, keep=keep, **settings)

    whole = gaps(None)
    with pytest.raises(KeyboardInterrupt):
        gaps(tmp_path / "e", progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["e.gaps.unfinished"]
    seen.clear()
    assert gaps(tmp_path / "e", progress=lambda done, total: seen.append(done)) == whole
    assert seen == list(range(23, 34))
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        gaps(tmp_path / "e", progress=stop)
    seen.clear()
    assert gaps(tmp_path / "e", seed=1, progress=lambda done, total: seen.append(done)) != whole
    assert seen == list(range(1, 34))  # what was kept is of another seed


def test_a_free_posterior_is_one_gaussian_for_each_datapoint(linear_gaussian: Any) -> None:
    known, x = linear_gaussian, linear_gaussian.x
    q = freed(Joint({"z | x": known.rough_posterior}), {"x": x})
    rough = known.rough_posterior(x)
    torch.testing.assert_close(q.means["z"].detach(), rough.mean)
    torch.testing.assert_close(q.log_scales["z"].detach(), rough.stddev.log())
    torch.manual_seed(0)
    bound = elbo(known.p, q, {"x": x}, 4000)
    expected = known.log_prob(x) - divergence(known, rough, x)
    torch.testing.assert_close(bound.detach(), expected, atol=0.15, rtol=0)
    bound[2].backward()  # type: ignore[no-untyped-call]
    moved = q.means["z"].grad.abs().sum(-1) > 0
    assert moved.tolist() == [i == 2 for i in range(len(x))]


def test_what_can_not_be_freed_is_an_error() -> None:
    given = {"x": torch.ones(3, 5)}
    with pytest.raises(AncestralError, match="no normal variable"):
        freed(Joint({"z | x": bernoulli(linear(5, 2))}), given)
    layered = Joint({"a | x": Gaussian(linear(5, 4)), "b | a": Gaussian(linear(2, 4))})
    with pytest.raises(AncestralError, match="'b' given another latent"):
        freed(layered, given)
    with pytest.raises(AncestralError, match="draws no variable"):
        freed(Joint({"h | x": lambda x: x}), given)
    with pytest.raises(ShapeError, match="give both one"):
        FreePosterior({"z": torch.zeros(3, 2)}, {"z": torch.zeros(3, 5)})


def test_numbers_out_of_range_and_models_without_q_are_errors(linear_gaussian: Any) -> None:
    data = gaussian_data(linear_gaussian)
    model = LatentVariableModel(linear_gaussian.p, Joint({"z | x": linear_gaussian.rough_posterior}))
    for numbers in ({"rows": 0}, {"steps": 0}, {"particles": 0}):
        with pytest.raises(AncestralError, match=f"{next(iter(numbers))} is 0"):
            amortization_gap(model, data, **numbers)  # type: ignore[arg-type]
    p = Joint({"h": bernoulli_bias(2), "x | h": bernoulli(linear(2, 5))})
    with pytest.raises(AncestralError, match="no approximate posterior apart from p"):
        amortization_gap(LatentVariableModel(p, p), data)
    assert math.isfinite(amortization_gap(model, data, rows=1, steps=1, particles=2)[0].value)

"""Figures of the likelihood against models whose log p(x) is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from ancestral import (
    GAN,
    Joint,
    LatentVariableModel,
    bernoulli,
    bits_per_dimension,
    linear,
    mlp,
    normal,
    one_hot,
    standard_normal,
)
from ancestral.configs import DataConfig, DataDescription, GANConfig, VAEConfig
from ancestral.data.dataset import Dataset, Rows
from ancestral.data.loading import assemble
from ancestral.data.raw import Raw
from ancestral.errors import AncestralError, GraphError
from ancestral.evaluation import Figure, bounds, evaluate, likelihood
from ancestral.models import variational_autoencoder
from ancestral.objectives import memory
from ancestral.objectives.iwae import bounds as iwae_bounds


def dataset(x: np.ndarray, levels: int = 2, **config: Any) -> Dataset:
    """All rows are test rows; a few of them are training rows too."""
    raw = Raw(Rows(x[:3]), test=Rows(x), levels=levels, note="for tests")
    return assemble("small", raw, DataConfig(validation=0, **config))


IMAGES = np.array([[(i >> k) & 1 for k in range(4)] for i in range(16)], dtype=np.uint8).reshape(16, 1, 2, 2)


@pytest.fixture
def tiny() -> LatentVariableModel:
    """A Bernoulli VAE with one latent dimension over images of 2x2."""
    torch.manual_seed(2)
    config = VAEConfig(latent=1, hidden=(5,), likelihood="bernoulli")
    model = variational_autoencoder(config, DataDescription((1, 2, 2), "binary", 2))
    for parameter in model.p.parameters():
        parameter.data.mul_(2).add_(0.1)
    return model


def integrated(model: LatentVariableModel, x: Tensor) -> Tensor:
    """log p(x) by integration over a grid of z, ``[batch]``."""
    z = torch.linspace(-9, 9, 2_003)[:, None]
    log_prior = Normal(0.0, 1.0).log_prob(z[:, 0])
    log_joint = model.p.conditionals["x"](z[:, None]).log_prob(x) + log_prior[:, None]
    return torch.logsumexp(log_joint.double(), 0) + math.log(18 / 2_002)


def named(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures}


@torch.no_grad()
def test_the_estimate_agrees_with_the_integral(tiny: LatentVariableModel) -> None:
    data = dataset(IMAGES)
    log_p = integrated(tiny, torch.from_numpy(IMAGES).float())
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-5)
    values = torch.tensor([named(evaluate(tiny, data, 1009, seed=seed))["log p(x)"].value for seed in range(7)])
    error = values.std().item() / math.sqrt(7)
    assert abs(values.mean().item() - log_p.mean().item()) < 4 * error + 1e-3
    assert error < 0.01


@torch.no_grad()
def test_more_particles_raise_the_bound_to_the_truth(tiny: LatentVariableModel) -> None:
    x = torch.from_numpy(np.repeat(IMAGES, 53, 0)).float()
    torch.manual_seed(0)
    rising = [bounds(tiny, x, particles).log_prob.mean().item() for particles in (1, 5, 53)]
    assert rising[0] < rising[1] < rising[2] < integrated(tiny, x).mean().item() + 0.01


@torch.no_grad()
def test_the_bound_is_the_likelihood_term_less_the_divergence(tiny: LatentVariableModel) -> None:
    figures = named(evaluate(tiny, dataset(IMAGES), 11))
    elbo, term, kl = (figures[name].value for name in ("ELBO", "E[log p(x | z)]", "KL(q(z | x) || p(z))"))
    assert elbo == pytest.approx(term - kl, abs=1e-9)
    assert elbo < figures["log p(x)"].value
    assert {name: figure.kind for name, figure in figures.items()} == {
        "log p(x)": "lower bound",
        "bits per dimension": "upper bound",
        "ELBO": "lower bound",
        "E[log p(x | z)]": "part of a bound",
        "KL(q(z | x) || p(z))": "part of a bound",
    }
    x = torch.from_numpy(IMAGES).float()
    mean, log_scale = tiny.q.networks["z"].network(x).chunk(2, -1)
    scale = torch.exp(7 * torch.tanh(log_scale / 7))
    exact = (0.5 * (mean**2 + scale**2 - 1) - scale.log()).sum(-1).mean().item()
    estimate = named(evaluate(tiny, dataset(IMAGES), 20_011))["KL(q(z | x) || p(z))"].value
    assert estimate == pytest.approx(exact, abs=0.02)


def test_with_one_particle_the_estimate_is_the_bound(tiny: LatentVariableModel) -> None:
    figures = named(evaluate(tiny, dataset(IMAGES), 1))
    assert figures["log p(x)"].value == pytest.approx(figures["ELBO"].value, abs=1e-12)


class Counting(nn.Module):
    """N(0, 1) for z whatever x is; counts the draws."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn = 0
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, trace: Any) -> None:
        self.drawn += trace.shape[0]
        trace.sample("z", Independent(Normal(torch.zeros(trace.shape[-1], 2), 1.0), 1))


@pytest.mark.parametrize("particles", [1, 2, 53, 250])
def test_exactly_as_many_particles_are_drawn_as_asked_for(particles: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "FAST", 20_000)
    q = Counting()
    model = LatentVariableModel(Joint({"z": standard_normal(2), "x | z": bernoulli(mlp(2, (1, 2, 2)), 3)}), q)
    bounds(model, torch.from_numpy(IMAGES).float(), particles)
    assert q.drawn == particles
    figure = evaluate(model, dataset(IMAGES), particles)[0]
    assert figure.particles == particles
    assert f"{particles} particles" in figure.estimator


@pytest.mark.parametrize("room", [0, 3, 17])
@torch.no_grad()
def test_streaming_over_particles_gives_what_one_pass_gives(
    tiny: LatentVariableModel, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    tiny.q.register_forward_hook(lambda module, arguments, output: seen.append(arguments[0].shape[0]))
    x = torch.from_numpy(IMAGES).float()  # 16 rows: torch's normal numbers come in blocks of 16
    torch.manual_seed(0)
    whole = vars(bounds(tiny, x, 53))
    assert seen == [1, 52]
    seen.clear()
    one = memory.bytes_made(lambda: bounds(tiny, x, 1))
    monkeypatch.setattr(memory, "free_memory", lambda device: room * one / memory.SHARE)
    seen.clear()
    torch.manual_seed(0)
    for name, value in vars(bounds(tiny, x, 53)).items():
        torch.testing.assert_close(value, whole[name], rtol=1e-5, atol=0)
    assert sum(seen) == 53
    # a power of two, and "one" counts what each pass makes but once, too
    assert max(1, room / 2) <= max(seen) <= max(1, 1.5 * room)


@torch.no_grad()
def test_the_particles_of_a_pass_may_be_chosen(tiny: LatentVariableModel) -> None:
    seen: list[int] = []
    tiny.q.register_forward_hook(lambda module, arguments, output: seen.append(arguments[0].shape[0]))
    iwae_bounds(tiny.p, tiny.q, {"x": torch.from_numpy(IMAGES).float()}, 23, size=7)
    assert seen == [7, 7, 7, 2]


def test_free_memory_that_changes_meanwhile_does_not_change_the_draws(
    tiny: LatentVariableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = []
    for room in (
        [1e5] * 9,  # the first three show what there is room for
        [1e5, 1e5, 1e5, 1e3, 2e4, 1e3, 9e4, 1e3, 3e3],
    ):
        left = iter(room)
        monkeypatch.setattr(memory, "free_memory", lambda device, left=left: next(left, 1e4))
        figures.append(evaluate(tiny, dataset(IMAGES), 23))
    assert figures[0] == figures[1]


def test_values_that_p_does_not_draw_are_no_data(tiny: LatentVariableModel) -> None:
    q = Joint({"z | y": normal(linear(2, 2))})
    with pytest.raises(GraphError, match="p draws none of the given y"):
        iwae_bounds(Joint({"z": standard_normal(1)}), q, {"y": torch.ones(3, 2)}, 5)


@torch.no_grad()
def test_a_row_with_many_particles_goes_alone(tiny: LatentVariableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What q computes once for each row and pass is then computed least often."""
    seen: list[tuple[int, ...]] = []
    one = memory.bytes_made(lambda: bounds(tiny, torch.from_numpy(IMAGES[:1]).float(), 1))
    monkeypatch.setattr(memory, "free_memory", lambda device: 2 * 53 * one / memory.SHARE)
    tiny.q.register_forward_hook(lambda module, arguments, output: seen.append(arguments[0].shape))
    for particles, rows in ((1009, 1), (53, 2), (3, 16)):
        seen.clear()
        evaluate(tiny, dataset(IMAGES), particles)
        assert max(shape[1] for shape in seen) == rows


def test_evaluation_is_repeatable_and_leaves_the_random_stream_and_the_model_alone(tiny: LatentVariableModel) -> None:
    tiny.train()
    state = torch.get_rng_state()
    first = evaluate(tiny, dataset(IMAGES), 5)
    torch.randn(7)
    assert evaluate(tiny, dataset(IMAGES), 5) == first
    torch.set_rng_state(state)
    evaluate(tiny, dataset(IMAGES), 5)
    assert torch.equal(torch.get_rng_state(), state)
    assert tiny.training
    assert evaluate(tiny, dataset(IMAGES), 5, seed=1)[0].value != first[0].value


@torch.no_grad()
def test_a_datapoint_has_its_own_weights_whatever_others_share_its_batch(linear_gaussian: Any) -> None:
    m = linear_gaussian
    model = LatentVariableModel(m.p, Joint({"z | x": m.rough_posterior}))
    torch.manual_seed(0)
    together = bounds(model, m.x, 10_007).log_prob
    alone = torch.cat([bounds(model, m.x[i : i + 1], 10_007).log_prob for i in range(7)])
    backwards = bounds(model, m.x.flip(0), 10_007).log_prob.flip(0)
    exact = m.log_prob(m.x)
    for estimate in (together, alone, backwards):
        torch.testing.assert_close(estimate, exact, atol=0.1, rtol=0)
    one_for_all = bounds(model, m.x, 1).log_prob.sum()
    assert one_for_all < exact.sum()


@torch.no_grad()
def test_the_exact_posterior_gives_the_exact_likelihood_with_one_particle(linear_gaussian: Any) -> None:
    m = linear_gaussian
    model = LatentVariableModel(m.p, Joint({"z | x": m.posterior}))
    torch.testing.assert_close(bounds(model, m.x, 1).log_prob, m.log_prob(m.x), atol=1e-9, rtol=0)


def test_the_standard_error_is_that_of_the_mean_over_datapoints(tiny: LatentVariableModel) -> None:
    data = dataset(IMAGES)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = bounds(tiny, torch.from_numpy(IMAGES).float(), 5)
    figures = named(evaluate(tiny, data, 5))
    for name, values in (("log p(x)", parts.log_prob), ("ELBO", parts.elbo)):
        mean = values.detach().numpy()
        assert figures[name].value == pytest.approx(mean.mean(), rel=1e-9)
        assert figures[name].standard_error == pytest.approx(mean.std(ddof=1) / 4, rel=1e-9)
    assert evaluate(tiny, data, 5, limit=1)[0].standard_error is None


def test_bits_per_dimension_of_a_mass_function(tiny: LatentVariableModel) -> None:
    figures = named(evaluate(tiny, dataset(IMAGES), 5))
    assert figures["bits per dimension"].unit == "bits"
    assert figures["bits per dimension"].value == pytest.approx(-figures["log p(x)"].value / (4 * math.log(2)))


def test_bits_per_dimension_of_dequantized_levels_count_the_width_of_a_level() -> None:
    x = np.random.default_rng(0).integers(0, 17, (11, 1, 2, 3), dtype=np.uint8)
    data = dataset(x, levels=17, dequantize="yes")
    p = Joint({"z": standard_normal(2), "x | z": normal(mlp(2, (2, 2, 3)), 3)})
    model = LatentVariableModel(p, Joint({"z | x": normal(mlp((1, 2, 3), 4))}))
    figures = named(evaluate(model, data, 5))
    by_hand = -figures["log p(x)"].value / (6 * math.log(2)) + math.log2(17)
    assert figures["bits per dimension"].value == pytest.approx(by_hand)
    assert bits_per_dimension(figures["log p(x)"].value, 6, 17) == pytest.approx(by_hand)
    assert "dequantized" in figures["log p(x)"].data


def test_a_uniform_density_costs_as_many_bits_as_there_are_levels() -> None:
    assert bits_per_dimension(0.0, 7, 256) == pytest.approx(8)


def test_a_figure_says_what_it_is_of(tiny: LatentVariableModel) -> None:
    data = dataset(IMAGES)
    seen: list[tuple[int, int, float]] = []
    figure = evaluate(tiny, data, 5, seed=3, limit=11, progress=lambda *state: seen.append(state))[0]
    assert (figure.unit, figure.datapoints, figure.particles, figure.seed) == ("nats", 11, 5, 3)
    assert figure.likelihood == "Bernoulli"
    assert figure.digest == data.digest("test")
    assert figure.data == "small, test, first 11 rows, binarization none (for tests)"
    assert seen == [(11, 11, pytest.approx(figure.value))]
    assert evaluate(tiny, data, 5)[0].data.startswith("small, test, 16 rows")
    assert evaluate(tiny, data, 5, split="train")[0].datapoints == 3
    assert evaluate(tiny, data, 5, split="train")[0].digest != figure.digest


def test_a_limit_takes_the_first_rows(tiny: LatentVariableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "ROWS", 5)
    assert evaluate(tiny, dataset(IMAGES), 3, limit=7)[0].datapoints == 7
    assert evaluate(tiny, dataset(IMAGES), 3, limit=7)[0].value == evaluate(tiny, dataset(IMAGES[:7]), 3)[0].value
    assert evaluate(tiny, dataset(IMAGES), 3, limit=101)[0].datapoints == 16


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "tset"}, "tset.*test"),
        ({"split": "validation"}, "no rows in its validation split"),
        ({"particles": 0}, "particles is 0"),
        ({"limit": -1}, "limit is -1"),
    ],
)
def test_what_can_not_be_evaluated_is_an_error(tiny: LatentVariableModel, options: dict[str, Any], words: str) -> None:
    with pytest.raises(AncestralError, match=words):
        evaluate(tiny, dataset(IMAGES), **options)


def test_no_particles_are_no_estimate(tiny: LatentVariableModel) -> None:
    with pytest.raises(AncestralError, match="particles is 0"):
        bounds(tiny, torch.zeros(5, 1, 2, 2), 0)


def test_a_gan_has_no_density_and_says_which_models_have() -> None:
    config = GANConfig(latent=2, hidden=(5,), discriminator_hidden=(3,), pieces=2)
    with pytest.raises(AncestralError, match=r"GAN is no LatentVariableModel.*vae"):
        evaluate(GAN(config, DataDescription((1, 2, 2), "binary", 2)), dataset(IMAGES))


def test_a_latent_that_q_does_not_draw_is_an_error() -> None:
    p = Joint({"z": standard_normal(2), "w": standard_normal(2), "x | z, w": bernoulli(mlp(4, (1, 2, 2)), 3)})
    model = LatentVariableModel(p, Joint({"z | x": normal(mlp((1, 2, 2), 4))}))
    with pytest.raises(AncestralError, match="'w'"):
        evaluate(model, dataset(IMAGES), 3)


def test_labels_are_given_where_the_model_is_conditioned_on_them() -> None:
    y = np.arange(16) % 3
    rows = IMAGES.reshape(16, 4)
    data = assemble("small", Raw(Rows(rows[:3], y[:3]), test=Rows(rows, y), levels=2), DataConfig())
    p = Joint({"z": standard_normal(2), "x | z, y": bernoulli(mlp(5, 4), 1)})
    model = LatentVariableModel(p, Joint({"z | x": normal(linear(4, 4))}), classes=3)
    assert evaluate(model, data, 3)[0].datapoints == 16


class Bias(nn.Module):
    """Logits without parents."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(size))

    def forward(self) -> Tensor:
        return self.logits


def labelled() -> Dataset:
    y = np.arange(16) % 3
    rows = IMAGES.reshape(16, 4)
    return assemble("small", Raw(Rows(rows[:3], y[:3]), test=Rows(rows, y), levels=2), DataConfig())


@pytest.mark.parametrize(
    ("p", "q", "names"),
    [
        (
            {"z": standard_normal(2), "x | z, y": bernoulli(mlp(5, 4))},
            {"z | x, y": normal(mlp(7, 4))},
            ["log p(x | y)", "bits per dimension", "ELBO", "E[log p(x | z, y)]", "KL(q(z | x, y) || p(z))"],
        ),
        (
            {"z": standard_normal(2), "y": one_hot(Bias(3)), "x | z, y": bernoulli(mlp(5, 4))},
            {"z | x, y": normal(mlp(7, 4))},
            ["log p(x, y)", "ELBO", "E[log p(x, y | z)]", "KL(q(z | x, y) || p(z))"],
        ),
        (
            {"y": one_hot(Bias(3)), "z | y": normal(linear(3, 4)), "x | z": bernoulli(linear(2, 4))},
            {"z | x, y": normal(mlp(7, 4))},
            ["log p(x, y)", "ELBO", "E[log p(x, y, z) - log p(z | y)]", "KL(q(z | x, y) || p(z | y))"],
        ),
        (
            {"h": standard_normal(3), "z | h": normal(linear(3, 4)), "x | z": bernoulli(linear(2, 4))},
            {"z | x": normal(linear(4, 4)), "h | z": normal(linear(2, 6))},
            ["log p(x)", "bits per dimension", "ELBO", "E[log p(x | z, h)]", "KL(q(z, h | x) || p(z, h))"],
        ),
    ],
    ids=["conditioned on y", "y too", "z depends on y", "two latents"],
)
def test_figures_are_named_by_what_they_bound(p: dict[str, Any], q: dict[str, Any], names: list[str]) -> None:
    joint = Joint(p)
    model = LatentVariableModel(joint, Joint(q), classes=3 if "y" in str(joint) else 0)
    assert [figure.name for figure in evaluate(model, labelled(), 2)] == names


def test_a_model_with_state_names_its_figures_too() -> None:
    q = Counting()
    model = LatentVariableModel(Looped(), q)
    names = [figure.name for figure in evaluate(model, dataset(IMAGES), 2)]
    assert names == ["log p(x)", "bits per dimension", "ELBO", "E[log p(x | z)]", "KL(q(z) || p(z))"]


class Looped(nn.Module):
    """p(z) p(x | z) written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.prior, self.decoder = standard_normal(2), bernoulli(mlp(2, (1, 2, 2)), 3)

    def forward(self, trace: Any) -> None:
        trace.sample("x", self.decoder(trace.sample("z", self.prior())))


def test_real_values_have_no_bits_and_say_that_they_are_standardized() -> None:
    x = np.random.default_rng(0).normal(3.0, 7.0, (53, 5))
    data = assemble("table", Raw(Rows(x), levels=0, standardize=True), DataConfig())
    model = LatentVariableModel(
        Joint({"z": standard_normal(2), "x | z": normal(mlp(2, 10))}), Joint({"z | x": normal(linear(5, 4))})
    )
    figures = named(evaluate(model, data, 3))
    assert "bits per dimension" not in figures
    assert "standardized columns" in figures["log p(x)"].data


@pytest.mark.parametrize("levels", [2, 17])
def test_a_density_of_discrete_values_is_bounded_by_nothing(levels: int) -> None:
    p = Joint({"z": standard_normal(2), "x | z": normal(mlp(2, (2, 2, 2)), 3)})
    model = LatentVariableModel(p, Joint({"z | x": normal(mlp((1, 2, 2), 4))}))
    with pytest.raises(AncestralError, match=r"Normal likelihood is a density.*dequantize='yes'"):
        evaluate(model, dataset(IMAGES, levels, dequantize="no"), 3)


def test_data_outside_the_support_are_not_evaluated(tiny: LatentVariableModel) -> None:
    with pytest.raises(AncestralError, match="outside the support of its Bernoulli"):
        bounds(tiny, torch.full((5, 1, 2, 2), 0.3), 3)

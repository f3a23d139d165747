"""The variational autoencoder: shapes, likelihoods, the bound and its weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from ancestral.configs import DataConfig, DataDescription, VAEConfig
from ancestral.errors import AncestralError
from ancestral.models import Batch, LatentVariableModel, variational_autoencoder
from ancestral.models.contract import CAPABILITIES

SHAPES = [(1, 28, 28), (1, 28, 20), (1, 8, 8), (1, 48, 48), (3, 32, 32), (7,)]
LIKELIHOODS = ["bernoulli", "normal", "discretized-logistic", "continuous-bernoulli"]


def data_for(likelihood: str, shape: tuple[int, ...], n: int = 11) -> tuple[DataDescription, Tensor]:
    """A description, and n datapoints whose marginals differ."""
    random = torch.Generator().manual_seed(3)
    x = torch.rand(n, *shape, generator=random) * torch.linspace(0.3, 1.0, shape[-1])
    if likelihood == "bernoulli":
        return DataDescription(shape, "binary", 2), (x > 0.4).float()
    if likelihood == "discretized-logistic":
        return DataDescription(shape, "levels", 17), (x * 16).round() / 16
    if likelihood == "continuous-bernoulli":
        return DataDescription(shape, "continuous", 256), x
    return DataDescription(shape, "continuous", 0), 3.0 + 2.0 * x


def small(
    likelihood: str, shape: tuple[int, ...], network: str = "mlp", **settings: Any
) -> tuple[LatentVariableModel, Tensor]:
    torch.manual_seed(0)
    description, x = data_for(likelihood, shape)
    sizes: dict[str, Any] = {"hidden": (13,)} if network == "mlp" else {"network": "conv", "channels": (3, 5)}
    config = VAEConfig(latent=3, likelihood=likelihood, **{**sizes, **settings})  # type: ignore[arg-type]
    return variational_autoencoder(config, description), x


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_every_shape_of_data_is_learned_and_given_back(network: str, shape: tuple[int, ...]) -> None:
    if network == "conv" and len(shape) == 1:
        with pytest.raises(AncestralError, match="images"):
            small("normal", shape, network)
        return
    model, x = small("bernoulli", shape, network)
    model.initialize(x)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    random = torch.get_rng_state()
    losses = []
    for _ in range(7):
        torch.set_rng_state(random)  # the same draws, so that the loss may only fall
        loss = model.loss(Batch(x))["loss"]
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in model.parameters())
        optimizer.step()
    assert losses[-1] < losses[0]
    z = model.encode(x)
    assert isinstance(z, Tensor)
    assert z.shape == (11, 3)
    assert model.sample(5).shape == model.sample(5, mean=True).shape == (5, *shape)
    assert model.decode(z).shape == model.decode(z, sample=True).shape == model.reconstruct(x).shape == x.shape
    assert model.log_prob(x).shape == model.log_prob(x, particles=5).shape == (11,)
    for mean in (model.sample(5, mean=True), model.decode(z), model.reconstruct(x)):
        assert 0 <= mean.min() <= mean.max() <= 1
    assert set(model.sample(5).unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_likelihood_is_finite_named_and_draws_what_the_data_hold(likelihood: str, network: str) -> None:
    model, x = small(likelihood, (1, 5, 7), network)
    loss = model.loss(Batch(x))["loss"]
    loss.backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    assert model.likelihood().lower() == likelihood.replace("-", "")
    drawn = model.sample(5)
    assert drawn.shape == (5, 1, 5, 7)
    if likelihood == "discretized-logistic":
        torch.testing.assert_close(drawn * 16, (drawn * 16).round(), atol=1e-5, rtol=0)
    if likelihood != "normal":
        assert 0 <= drawn.min() <= drawn.max() <= 1


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_untrained_decoder_starts_at_the_mean_of_the_data(likelihood: str, network: str) -> None:
    model, x = small(likelihood, (1, 5, 7), network)
    model.initialize(x)
    mean = model.decode(torch.zeros(1, 3))[0]  # odd activations without biases: z = 0 leaves the output's bias alone
    if network == "conv":  # one bias for each channel
        mean, x = mean.mean((1, 2)), x.mean((2, 3))
    # half a count keeps logits finite; a clipped logistic's mean is a little off its location, convolutions have biases
    tolerance = 1e-4 if (likelihood, network) == ("normal", "mlp") else 0.05
    torch.testing.assert_close(mean, x.mean(0), atol=tolerance, rtol=1e-4)


@pytest.mark.parametrize("mean", ["identity", "sigmoid"])
@pytest.mark.parametrize("scale", ["learned", "shared"])
def test_the_scale_and_the_mean_of_a_normal_likelihood_are_chosen(scale: str, mean: str) -> None:
    model, _ = small("normal", (7,), scale=scale, mean=mean)
    trace_mean = model.decode(10 * torch.randn(5, 3))
    assert (trace_mean.min() >= 0 and trace_mean.max() <= 1) == (mean == "sigmoid")
    shared = [name for name, _ in model.named_parameters() if name.endswith("log_scale")]
    assert bool(shared) == (scale == "shared")


def test_a_likelihood_that_was_not_resolved_is_an_error() -> None:
    with pytest.raises(AncestralError, match="resolve"):
        variational_autoencoder(VAEConfig(), data_for("normal", (7,))[0])


def test_the_loss_is_reconstruction_plus_divergence() -> None:
    model, x = small("bernoulli", (7,))
    parts = model.loss(Batch(x))
    torch.testing.assert_close(parts["loss"], parts["reconstruction"] + parts["kl"])
    torch.testing.assert_close(parts["kl"], divergence(model, x).sum(-1).mean())


def divergence(model: LatentVariableModel, x: Tensor) -> Tensor:
    """KL(q(z_j | x) || p(z_j)), ``[batch, latent]``, by the formula for two normals."""
    mean, log_scale = model.q.networks["z"].network(x).chunk(2, -1)
    log_scale = 7 * torch.tanh(log_scale / 7)
    return 0.5 * (mean**2 + torch.exp(2 * log_scale) - 1) - log_scale


@pytest.mark.parametrize(("epoch", "weight"), [(0.0, 0.0), (2.0, 0.5), (4.0, 1.0), (9.0, 1.0)])
def test_warm_up_raises_the_weight_of_the_divergence_from_nothing(epoch: float, weight: float) -> None:
    model, x = small("bernoulli", (7,), kl_warmup=4.0, beta=0.6)
    parts = model.loss(Batch(x, epoch=epoch))
    torch.testing.assert_close(parts["loss"], parts["reconstruction"] + 0.6 * weight * parts["kl"])
    if weight < 1:
        assert parts["beta"].item() == pytest.approx(0.6 * weight)
    else:
        assert "beta" not in parts


def test_free_bits_charge_each_unit_at_least_their_price() -> None:
    free = 0.3
    model, x = small("bernoulli", (7,), free_bits=free, beta=0.7)
    torch.manual_seed(1)
    parts = model.loss(Batch(x))
    units = divergence(model, x).mean(0)
    assert units.min() < free < units.max()
    by_hand = parts["reconstruction"] + 0.7 * units.clamp(min=free).sum()
    torch.testing.assert_close(parts["loss"], by_hand)


def test_units_below_the_free_bits_feel_no_pull_to_the_prior() -> None:
    model, x = small("bernoulli", (7,), free_bits=0.3)
    model.double()
    x = x.double()
    units = divergence(model, x).mean(0)
    below = units < 0.3
    assert below.any()
    assert not below.all()
    output = model.q.networks["z"].network.layers[-1]

    def gradient(beta: float) -> Tensor:
        """Of the price of the latents in the rows of the encoder's last layer that make the means."""
        model.beta = beta
        model.zero_grad()
        torch.manual_seed(1)
        model.loss(Batch(x))["loss"].backward()
        return output.weight.grad[:3].clone()

    pull = gradient(1.0) - gradient(0.0)
    assert pull[below].abs().max() < 1e-12
    assert pull[~below].abs().max() > 1e-3


def test_validation_knows_neither_warm_up_nor_weights_nor_free_bits() -> None:
    plain, x = small("bernoulli", (7,))
    changed, _ = small("bernoulli", (7,), free_bits=0.3, beta=0.7, kl_warmup=3.0)
    changed.load_state_dict(plain.state_dict())
    found = []
    for model in (plain, changed):
        torch.manual_seed(1)
        found.append(model.validation(Batch(x)))
    assert found[0].keys() == found[1].keys() == {"loss", "reconstruction", "kl"}
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], atol=0, rtol=0)
    torch.testing.assert_close(found[0]["loss"], found[0]["reconstruction"] + found[0]["kl"])


def test_one_particle_makes_the_importance_weighted_bound_the_evidence_lower_bound() -> None:
    elbo, x = small("bernoulli", (7,))
    iwae, _ = small("bernoulli", (7,), bound="iwae")
    iwae.load_state_dict(elbo.state_dict())
    # the ELBO's divergence is in closed form here, so they agree only on average over many draws
    many = x[:1].expand(20_011, 7)
    expected = elbo.loss(Batch(many))["loss"]
    torch.testing.assert_close(iwae.loss(Batch(many))["loss"], expected, atol=0.05, rtol=0)
    torch.testing.assert_close(iwae.validation(Batch(many))["loss"], expected, atol=0.05, rtol=0)


def test_the_mean_embedding_is_the_same_at_every_call_and_a_draw_is_not() -> None:
    model, x = small("bernoulli", (7,))
    assert torch.equal(model.encode(x), model.encode(x))
    assert torch.equal(model.encode(x), model.q.networks["z"].network(x)[:, :3])
    assert not torch.equal(model.encode(x, sample=True), model.encode(x, sample=True))
    assert torch.equal(model.reconstruct(x), model.reconstruct(x))


def test_the_model_has_every_capability_and_prints_as_its_factorisation() -> None:
    model, _ = small("bernoulli", (7,))
    assert all(isinstance(model, capability) for capability in CAPABILITIES.values())
    assert "p(x, z) = p(z) p(x | z)" in str(model.p)
    assert model.latent_shape() == (3,)
    with pytest.raises(AncestralError, match="at least one sample"):
        model.sample(0)


def test_the_sum_of_the_probabilities_of_all_images_is_one() -> None:
    torch.manual_seed(2)
    description = DataDescription((1, 2, 2), "binary", 2)
    config, _ = VAEConfig(latent=1, hidden=(5,)).resolve(DataConfig(), description, "none")
    model = variational_autoencoder(config, description).double()
    for parameter in model.parameters():
        parameter.data.mul_(2).add_(0.1)
    images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 4).view(16, 1, 2, 2)
    z = torch.linspace(-9, 9, 2_003, dtype=torch.float64)[:, None]
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z[:, 0])
    likelihood = torch.stack([model.p.conditionals["x"](z).log_prob(image) for image in images], 1)
    log_p = torch.logsumexp(likelihood + prior[:, None], 0) + torch.log(z[1, 0] - z[0, 0])
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-9)
    estimate = model.log_prob(images, particles=20_011)
    torch.testing.assert_close(estimate, log_p, atol=0.05, rtol=0)


def test_settings_reach_the_model() -> None:
    config = VAEConfig(latent=3, hidden=(5,), likelihood="bernoulli", bound="iwae", particles=7)
    model = variational_autoencoder(config, DataDescription((11,), "binary", 2))
    assert (model.objective, model.particles, model.analytic_kl) == ("iwae", 7, ())
    elbo = dataclasses.replace(config, bound="elbo", beta=0.5, kl_warmup=3.0, free_bits=0.2)
    model = variational_autoencoder(elbo, DataDescription((11,), "binary", 2))
    assert (model.beta, model.kl_warmup, model.free_bits, model.analytic_kl) == (0.5, 3.0, 0.2, ("z",))

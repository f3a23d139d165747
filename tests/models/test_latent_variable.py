"""Any pair of joint distributions has the whole contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import zuko
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Independent,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
    kl_divergence,
)
from torch.distributions.transforms import ExpTransform

import ancestral
from ancestral import (
    AncestralError,
    Enumerate,
    EstimatorError,
    GraphError,
    Joint,
    LatentVariableModel,
    Trace,
    bernoulli,
    bernoulli_bias,
    categorical,
    linear,
    mlp,
    normal,
    one_hot,
    standard_normal,
)
from ancestral.configs import DataConfig
from ancestral.data.dataset import Dataset, Rows
from ancestral.data.loading import assemble
from ancestral.data.raw import Raw
from ancestral.evaluation import active_units, evaluate
from ancestral.models import Batch
from ancestral.models.contract import CAPABILITIES
from ancestral.objectives import memory


def bits(n: int = 53, features: int = 7, labels: bool = False, classes: int = 3) -> Dataset:
    random = np.random.default_rng(1)
    y = random.permutation(np.arange(n) % classes) if labels else None
    return assemble("bits", Raw(Rows(random.integers(0, 2, (n, features), dtype=np.uint8), y), levels=2), DataConfig())


def rows(n: int = 11, features: int = 7) -> Tensor:
    return torch.from_numpy(np.random.default_rng(2).integers(0, 2, (n, features))).float()


def test_ones_own_p_and_q_are_trained_on_digits_and_then_used(tmp_path: Path) -> None:
    torch.manual_seed(0)
    p = Joint({"z": standard_normal(3), "x | z": bernoulli(mlp(3, 11, (1, 8, 8)), 3)})
    q = Joint({"z | x": normal(mlp((1, 8, 8), 11, 6))})
    model = LatentVariableModel(p, q, analytic_kl=["z"])
    run = ancestral.train(model, "digits", out=tmp_path / "run", epochs=2, train_limit=101)

    x = run.data.rows("test", range(5))
    assert run.model.sample(7).shape == (7, 1, 8, 8)
    assert run.model.encode(x).shape == (5, 3)
    assert torch.equal(run.model.reconstruct(x), run.model.decode(run.model.encode(x)))
    assert run.model.log_prob(x, particles=3).shape == (5,)
    assert next(figure.name for figure in run.evaluate(particles=3, limit=5)) == "log p(x)"
    # ------------------------------------------------------------------ that is all a user writes
    assert run.metrics[-1]["validation loss"] < run.metrics[0]["loss"]
    assert all(isinstance(model, capability) for capability in CAPABILITIES.values())
    twin = LatentVariableModel(p, q, analytic_kl=["z"])
    assert ancestral.load(tmp_path / "run", model=twin).model is twin
    with pytest.raises(AncestralError, match=r"pass model=.*--model"):
        ancestral.load(tmp_path / "run")


def two_layers(**settings: Any) -> LatentVariableModel:
    torch.manual_seed(0)
    p = Joint({"h2": standard_normal(2), "h1 | h2": normal(linear(2, 6)), "x | h1": bernoulli(mlp(3, 5, 7))})
    q = Joint({"h1 | x": normal(linear(7, 6)), "h2 | h1": normal(linear(3, 4))})
    return LatentVariableModel(p, q, **settings)


def test_two_stochastic_layers_are_trained_and_known_by_name(tmp_path: Path) -> None:
    model, x = two_layers(), rows()
    run = ancestral.train(model, bits(), out=tmp_path / "run", epochs=2)
    assert {"kl", "kl h1", "kl h2"} <= run.metrics[0].keys()
    assert run.metrics[0]["kl"] == pytest.approx(run.metrics[0]["kl h1"] + run.metrics[0]["kl h2"], rel=1e-5)
    latents = model.encode(x)
    assert isinstance(latents, dict)
    assert {name: tuple(value.shape) for name, value in latents.items()} == {"h1": (11, 3), "h2": (11, 2)}
    assert model.reconstruct(x).shape == x.shape
    assert model.log_prob(x, particles=5).shape == (11,)
    assert model.sample(5).shape == model.sample(5, mean=True).shape == (5, 7)
    assert [f.name for f in run.evaluate(particles=2)][-5:-1] == [
        "active units of h1", "active units of h2",
        "mutual information of x and h1", "mutual information of h1 and h2",
    ]  # fmt: skip
    for ask in (lambda: model.decode(torch.zeros(5, 3)), model.latent_shape):
        with pytest.raises(AncestralError, match="h2, h1"):
            ask()


@pytest.mark.parametrize("objective", ["elbo", "iwae"])
@pytest.mark.parametrize("gradient", ["sticking-the-landing", "doubly-reparameterized"])
def test_the_gradient_passes_the_draws_as_is_asked_at_the_same_loss(objective: Any, gradient: Any) -> None:
    x, found = rows(), []
    for chosen in ("total", gradient):
        model = two_layers(objective=objective, particles=3, gradient=chosen)
        torch.manual_seed(1)
        loss = model.loss(Batch(x))["loss"]
        loss.backward()
        of_p, of_q = (
            torch.cat([parameter.grad.flatten() for parameter in part.parameters() if parameter.grad is not None])
            for part in (model.p, model.q)
        )
        found.append((loss.detach(), of_p, of_q))
    for one, other in zip(found[0][:2], found[1][:2], strict=True):
        torch.testing.assert_close(one, other)
    assert not torch.allclose(found[0][2], found[1][2], rtol=0.01)


def test_validation_is_the_bound_of_training_or_that_of_so_many_particles() -> None:
    model, chosen, x = two_layers(), two_layers(validation_particles=13), rows()
    torch.manual_seed(1)
    parts = chosen.validation(Batch(x))
    torch.manual_seed(1)
    assert parts["loss"] == -model.log_prob(x, particles=13).mean()
    assert parts.keys() == model.validation(Batch(x)).keys() == {"loss", "reconstruction", "kl"}
    assert parts["loss"] < parts["reconstruction"] + parts["kl"]  # more particles, a tighter bound


def test_the_embedding_of_a_later_layer_is_taken_at_the_mean_of_the_earlier() -> None:
    model, x = two_layers(), rows()
    latents = model.encode(x)
    h1 = model.q.networks["h1"].network(x)[:, :3]
    assert isinstance(latents, dict)
    assert torch.equal(latents["h1"], h1)
    assert torch.equal(latents["h2"], model.q.networks["h2"].network(h1)[:, :2])


def test_a_discrete_latent_variable_is_summed_over_exactly(tmp_path: Path) -> None:
    torch.manual_seed(0)
    p = Joint({"c": one_hot(Bias(5)), "x | c": bernoulli(linear(5, 7))})
    q = Joint({"c | x": one_hot(linear(7, 5))})
    model = LatentVariableModel(p, q, estimators=Enumerate())
    x = rows()
    assert model.loss(Batch(x))["loss"] == model.loss(Batch(x))["loss"]  # nothing is drawn
    run = ancestral.train(model, bits(), out=tmp_path / "run", epochs=2)
    probabilities = model.encode(x)
    assert isinstance(probabilities, Tensor)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(11))
    assert set(model.encode(x, sample=True).unique().tolist()) == {0.0, 1.0}  # type: ignore[union-attr]
    assert model.reconstruct(x).shape == x.shape
    assert bool((model.log_prob(x, particles=5) < 0).all())
    assert run.evaluate(particles=3)[0].value < 0


class Bias(nn.Module):
    """Logits without parents."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.linspace(-1, 1, size))

    def forward(self) -> Tensor:
        return self.logits


def test_an_index_has_no_mean_to_embed() -> None:
    def decoder(c: Tensor) -> Any:
        return bernoulli(nn.Identity())(c[..., None].expand(*c.shape, 7).float())

    p = Joint({"c": categorical(Bias(5)), "x | c": decoder})
    model = LatentVariableModel(p, Joint({"c | x": categorical(linear(7, 5))}), estimators=Enumerate())
    with pytest.raises(AncestralError, match="mean of 'c', a Categorical"):
        model.encode(rows())
    assert model.encode(rows(), sample=True).shape == (11,)  # type: ignore[union-attr]


def conditional(**settings: Any) -> LatentVariableModel:
    """p(x | z, y) with labels in 3 classes."""
    torch.manual_seed(0)
    p = Joint({"z": standard_normal(2), "x | z, y": bernoulli(mlp(5, 11, 7))})
    q = Joint({"z | x, y": normal(mlp(10, 11, 4))})
    return LatentVariableModel(p, q, **{"analytic_kl": ["z"], "classes": 3, **settings})


def test_labels_condition_the_model(tmp_path: Path) -> None:
    model, x, y = conditional(), rows(), torch.arange(11) % 3
    ancestral.train(model, bits(labels=True), out=tmp_path / "run", epochs=2)
    assert not torch.equal(model.encode(x, y=y), model.encode(x, y=(y + 1) % 3))
    one = F.one_hot(y, 3).float()
    torch.testing.assert_close(model.reconstruct(x, y=y), model.decode(model.encode(x, y=y), given={"y": one}))
    assert model.log_prob(x, particles=3, y=y).shape == (11,)
    assert model.sample(11, given={"y": one}).shape == (11, 7)
    assert model.sample(5, mean=True).shape == (5, 7)  # labels drawn uniformly
    assert model.likelihood() == "Bernoulli"
    with pytest.raises(AncestralError, match="labels y, but the data have none"):
        model.encode(x)


def test_pictures_of_a_model_conditioned_on_labels_are_made(tmp_path: Path) -> None:
    p = Joint({"z": standard_normal(2), "x | z, y": bernoulli(mlp(12, 11, (1, 8, 8)), 3)})
    q = Joint({"z | x, y": normal(Both(64 + 10, 4))})
    model = LatentVariableModel(p, q, classes=10)
    ancestral.train(model, "digits", out=tmp_path / "run", epochs=1, train_limit=101)
    assert (tmp_path / "run" / "samples" / "samples-100-percent.png").exists()
    assert (tmp_path / "run" / "samples" / "reconstructions-100-percent.png").exists()


class Both(nn.Module):
    """An image and a label to the parameters of z."""

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inward, outward)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        out: Tensor = self.layer(torch.cat([x.flatten(-3), y], -1))
        return out


def test_labels_that_do_not_suit_the_model_are_errors(tmp_path: Path) -> None:
    with pytest.raises(AncestralError, match="labels y, but the data have none"):
        ancestral.train(conditional(), bits(), out=tmp_path / "unlabelled")
    with pytest.raises(AncestralError, match=r"label [34].*classes=3"):
        ancestral.train(conditional(), bits(labels=True, classes=5), out=tmp_path / "five")
    with pytest.raises(GraphError, match="conditioned on y"):
        conditional(classes=0).sample(5)
    with pytest.raises(AncestralError, match="classes has no effect"):
        two_layers(classes=3)


def test_labels_without_classes_reach_the_networks_as_they_are() -> None:
    def decoder(z: Tensor, y: Tensor) -> Independent:
        return Independent(Bernoulli(logits=(z.sum(-1) + y)[..., None].expand(*z.shape[:-1], 7)), 1)

    p = Joint({"z": standard_normal(2), "x | z, y": decoder})
    model = LatentVariableModel(p, Joint({"z | x": normal(linear(7, 4))}))
    assert torch.equal(model.given(rows(), torch.arange(11))["y"], torch.arange(11))
    assert model.loss(Batch(rows(), torch.arange(11)))["loss"].shape == ()


def test_the_observed_variable_has_any_name(tmp_path: Path) -> None:
    p = Joint({"z": standard_normal(2), "pixels | z": bernoulli(mlp(2, 5, 7))})
    q = Joint({"z | pixels": normal(mlp(7, 5, 4))})
    model = LatentVariableModel(p, q, observed="pixels", particles=3)
    run = ancestral.train(model, bits(), out=tmp_path / "run", epochs=1)
    assert model.reconstruct(rows()).shape == (11, 7)
    assert run.evaluate(particles=2)[0].likelihood == "Bernoulli"
    with pytest.raises(GraphError, match=r"'pixel' is none of.*pixels"):
        LatentVariableModel(p, q, observed="pixel")


class Chain(nn.Module):
    """A model with state, written as a loop; its latents are named when it runs."""

    def __init__(self, posterior: bool) -> None:
        super().__init__()
        self.posterior = posterior
        self.step, self.out = nn.Linear(9 if posterior else 2, 4), nn.Linear(2, 7)

    def forward(self, trace: Trace) -> None:
        batch = trace.shape[-1]
        state = torch.zeros(*trace.shape, 2) if not self.posterior else torch.zeros(batch, 2)
        for i in range(2):
            seen = torch.cat([trace["x"].expand(*state.shape[:-1], 7), state], -1) if self.posterior else state
            mean, log_scale = self.step(seen).chunk(2, -1)
            state = state + trace.sample(f"z{i}", Independent(Normal(mean, log_scale.exp()), 1))
        if not self.posterior:
            trace.sample("x", Independent(Bernoulli(logits=self.out(state), validate_args=False), 1))


def test_a_model_written_as_a_loop_has_every_method_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LatentVariableModel(Chain(posterior=False), Chain(posterior=True))
    ancestral.train(model, bits(), out=tmp_path / "run", epochs=2)
    latents = model.encode(rows())
    assert isinstance(latents, dict)
    assert list(latents) == ["z0", "z1"]
    assert model.reconstruct(rows()).shape == (11, 7)
    assert model.sample(5, mean=True).shape == (5, 7)
    assert model.likelihood() == "Bernoulli"
    with pytest.raises(AncestralError, match="z0, z1"):
        model.decode(torch.zeros(5, 2))


class LatentsOnly(nn.Module):
    def forward(self, trace: Trace) -> None:
        trace.sample("z", Independent(Normal(torch.zeros(2), 1.0), 1))


def test_a_model_that_never_samples_the_observed_variable_is_found_at_the_first_batch() -> None:
    model = LatentVariableModel(LatentsOnly(), Joint({"z | x": normal(linear(7, 4))}))
    with pytest.raises(GraphError, match=r"never samples.*'x'"):
        model.check(Batch(rows()))


@pytest.mark.parametrize("settings", [{"beta": 0.5}, {"kl_warmup": 2.0}, {"analytic_kl": ["z"]}])
def test_where_q_is_p_nothing_diverges(settings: dict[str, Any]) -> None:
    p = Joint({"z | top": normal(linear(3, 4)), "x | z": bernoulli(linear(2, 7))})
    with pytest.raises(AncestralError, match="have no effect where q is p"):
        LatentVariableModel(p, p, **settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"objective": "elbow"}, "elbow.*elbo"),
        ({"objective": "iwae", "beta": 0.5}, "beta.*no effect"),
        ({"objective": "iwae", "kl_warmup": 1.0}, "kl_warmup.*no effect"),
        ({"objective": "iwae", "analytic_kl": ["h1"]}, "analytic_kl.*no effect"),
        ({"objective": "iwae", "free_bits": 1.0}, "free_bits.*no effect"),
        ({"beta": -1.0}, "beta.*0 or more"),
        ({"kl_warmup": -1.0}, "kl_warmup.*0 or more"),
        ({"free_bits": -1.0}, "free_bits.*0 or more"),
        ({"validation_particles": -1}, "validation_particles.*0 or more"),
        ({"gradient": "doubly"}, "there is no gradient 'doubly'. Known: doubly-reparameterized"),
        (
            {"gradient": "sticking-the-landing", "analytic_kl": ["h2"]},
            "gradient=.*leave out the gradient",
        ),
        ({"gradient": "sticking-the-landing", "objective": "wake-sleep"}, "gradient=.*objective='elbo' or 'iwae'"),
        ({"free_bits": 1.0}, "analytic_kl"),
    ],
)
def test_a_setting_that_is_wrong_or_without_effect_is_an_error(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(AncestralError, match=words):
        two_layers(**settings)


def test_free_bits_count_every_unit_of_a_latent_variable_with_two_dimensions() -> None:
    torch.manual_seed(0)
    p = Joint({"z": standard_normal(2, 3), "x | z": lambda z: Independent(Normal(z.flatten(-2), 1.0), 1)})
    q = Joint({"z | x": normal(linear(6, (4, 3)), event_dims=2)})
    model = LatentVariableModel(p, q, analytic_kl=["z"], free_bits=0.4)
    x = torch.randn(5, 6)
    parts = model.loss(Batch(x))
    mean, log_scale = q.networks["z"].network(x).chunk(2, -2)
    log_scale = 7 * torch.tanh(log_scale / 7)  # the head's soft limit
    units = (0.5 * (mean**2 + torch.exp(2 * log_scale) - 1) - log_scale).mean(0)
    assert units.shape == (2, 3)
    torch.testing.assert_close(parts["loss"], parts["reconstruction"] + units.clamp(min=0.4).sum())


def test_free_bits_need_factorised_distributions() -> None:
    p = Joint({"z": lambda: MultivariateNormal(torch.zeros(2), torch.eye(2)), "x | z": bernoulli(linear(2, 7))})
    q = Joint({"z | x": lambda x: MultivariateNormal(x[..., :2], torch.eye(2))})
    with pytest.raises(AncestralError, match="factorised"):
        LatentVariableModel(p, q, analytic_kl=["z"], free_bits=0.4).loss(Batch(rows()))


def test_a_parameter_hidden_in_a_lambda_is_found_before_training(tmp_path: Path) -> None:
    hidden = mlp(2, 5, 7)
    p = Joint({"z": standard_normal(2), "x | z": lambda z: bernoulli(hidden)(z)})
    model = LatentVariableModel(p, Joint({"z | x": normal(linear(7, 4))}))
    with pytest.raises(AncestralError, match=r"does not own.*lambda"):
        ancestral.train(model, bits(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_that_owns_nothing_can_not_be_trained(tmp_path: Path) -> None:
    hidden, other = bernoulli(linear(2, 7)), normal(linear(7, 4))
    p = Joint({"z": standard_normal(2), "x | z": lambda z: hidden(z)})
    model = LatentVariableModel(p, Joint({"z | x": lambda x: other(x)}))
    with pytest.raises(AncestralError, match="owns no parameters"):
        ancestral.train(model, bits(), out=tmp_path / "run")


def test_data_outside_the_support_are_found_at_the_first_batch(tmp_path: Path) -> None:
    p = Joint({"z": standard_normal(2), "x | z": bernoulli(mlp(2, 5, 7))})
    model = LatentVariableModel(p, Joint({"z | x": normal(linear(7, 4))}))
    np.save(tmp_path / "table.npy", np.random.default_rng(0).normal(size=(53, 7)))
    with pytest.raises(AncestralError, match=r"support of its Bernoulli.*seen -\d.* to \d"):
        ancestral.train(model, tmp_path / "table.npy", out=tmp_path / "run")
    with pytest.raises(AncestralError, match="mean"):
        model.initialize(torch.full((5, 7), 3.0))


def test_data_of_the_wrong_size_are_found_before_training(tmp_path: Path) -> None:
    p = Joint({"z": standard_normal(2), "x | z": normal(mlp(2, 5, 22))})
    model = LatentVariableModel(p, Joint({"z | x": normal(linear(7, 4))}))
    with pytest.raises(AncestralError, match="shape"):
        ancestral.train(model, bits(), out=tmp_path / "run")


def test_a_discrete_latent_without_an_estimator_is_an_error_and_never_silent(tmp_path: Path) -> None:
    p = Joint({"h": bernoulli_bias(3), "x | h": bernoulli(linear(3, 7))})
    model = LatentVariableModel(p, Joint({"h | x": bernoulli(linear(7, 3))}))
    with pytest.raises(EstimatorError, match="'h'"):
        ancestral.train(model, bits(), out=tmp_path / "run")


class LogNormal(nn.Module):
    """A posterior whose mean torch does not know: exp of a normal variable, as a transformed distribution."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 2)

    def forward(self, x: Tensor) -> Any:
        base = Independent(Normal(self.layer(x.flatten(-3)), 1.0), 1)
        return TransformedDistribution(base, [ExpTransform()])


def test_reconstructions_by_a_posterior_without_a_known_mean_are_pictures_of_its_draws(tmp_path: Path) -> None:
    torch.manual_seed(0)
    p = Joint({"z": LogNormalPrior(), "x | z": bernoulli(mlp(2, 5, (1, 8, 8)), 3)})
    model = LatentVariableModel(p, Joint({"z | x": LogNormal()}))
    said = Listener()
    ancestral.train(model, "digits", out=tmp_path / "run", epochs=1, train_limit=101, reporter=said)
    assert not any("picture is missing" in message for message in said.messages)
    for name in ("samples-000-percent.png", "samples-100-percent.png", "reconstructions-100-percent.png"):
        assert (tmp_path / "run" / "samples" / name).exists()
    with pytest.raises(AncestralError, match=r"mean of 'z'.*sample=True"):
        model.encode(torch.zeros(5, 1, 8, 8))
    assert model.encode(torch.zeros(5, 1, 8, 8), sample=True).shape == (5, 2)  # type: ignore[union-attr]


class LogNormalImages(nn.Module):
    """A likelihood whose mean torch does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = mlp(2, 5, (1, 8, 8))

    def forward(self, z: Tensor) -> Any:
        return TransformedDistribution(Independent(Normal(self.layer(z), 1.0), 3), [ExpTransform()])


def test_samples_of_a_likelihood_without_a_known_mean_are_pictures_of_its_draws(tmp_path: Path) -> None:
    p = Joint({"z": standard_normal(2), "x | z": LogNormalImages()})
    model = LatentVariableModel(p, Joint({"z | x": normal(mlp((1, 8, 8), 5, 4))}))
    said = Listener()
    data = {"binarization": "none", "dequantize": "yes"}
    ancestral.train(model, "digits", out=tmp_path / "run", epochs=1, train_limit=101, reporter=said, **data)
    assert not any("picture is missing" in message for message in said.messages)
    assert (tmp_path / "run" / "samples" / "samples-100-percent.png").exists()
    assert (tmp_path / "run" / "samples" / "reconstructions-100-percent.png").exists()


class Prompted(LatentVariableModel):
    """A model that draws nothing by itself."""

    def sample(self, n: int, **given: Any) -> Tensor:
        raise AncestralError("there is no prompt: give one.")


def test_a_model_that_can_not_be_drawn_from_is_trained_without_pictures(tmp_path: Path) -> None:
    p = Joint({"z": standard_normal(2), "x | z": bernoulli(mlp(2, 5, (1, 8, 8)), 3)})
    model, said = Prompted(p, Joint({"z | x": normal(mlp((1, 8, 8), 5, 4))})), Listener()
    ancestral.train(model, "digits", out=tmp_path / "run", epochs=1, train_limit=101, reporter=said)
    assert any("a picture is missing: there is no prompt: give one." in message for message in said.messages)
    assert not list((tmp_path / "run" / "samples").glob("*.png"))


class LogNormalPrior(nn.Module):
    def forward(self) -> Any:
        return TransformedDistribution(Independent(Normal(torch.zeros(2), 1.0), 1), [ExpTransform()])


class Listener:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def begin(self, total: int, done: int) -> None: ...

    def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None: ...

    def say(self, message: str) -> None:
        self.messages.append(message)

    def end(self) -> None: ...


def test_free_bits_average_an_enumerated_variable_by_q() -> None:
    torch.manual_seed(0)
    p = Joint({"h": bernoulli_bias(2), "z | h": normal(linear(2, 6)), "x | z": bernoulli(linear(3, 7))})
    q = Joint({"h | x": bernoulli(linear(7, 2)), "z | x": normal(linear(7, 6))})
    settings: dict[str, Any] = {"estimators": {"h": Enumerate()}, "analytic_kl": ["h", "z"], "particles": 5}
    free, x = 0.3, rows()
    torch.manual_seed(1)
    plain = LatentVariableModel(p, q, **settings).loss(Batch(x))["loss"]
    torch.manual_seed(1)
    loss = LatentVariableModel(p, q, free_bits=free, **settings).loss(Batch(x))["loss"]

    h = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    posterior = q.conditionals["h"](x)
    weights = posterior.log_prob(h[:, None]).exp()  # [4, batch]
    kl_z = torch.stack([kl_divergence(q.conditionals["z"](x).base_dist, p.conditionals["z"](v).base_dist) for v in h])
    units = torch.cat(
        [
            kl_divergence(posterior.base_dist, Bernoulli(logits=torch.zeros(11, 2))).mean(0),
            (weights[..., None] * kl_z).sum(0).mean(0),
        ]
    )
    assert bool((units < free).any())
    torch.testing.assert_close(loss, plain + F.relu(free - units).sum())


def indexed() -> LatentVariableModel:
    """A real-valued latent, an index, and a real-valued one that depends on it."""
    torch.manual_seed(0)

    def with_index(network: nn.Module) -> Any:
        class Reads(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.network = network

            def forward(self, c: Tensor) -> Any:
                return normal(self.network)(c[..., None].float())

        return Reads()

    p = Joint(
        {"z": standard_normal(2), "c": categorical(Bias(5)), "w": standard_normal(3), "x | z, w": bernoulli(mlp(5, 7))}
    )
    q = Joint({"c | x": categorical(linear(7, 5)), "z | x": normal(linear(7, 4)), "w | c": with_index(linear(1, 6))})
    return LatentVariableModel(p, q, estimators={"c": Enumerate()})


def test_units_are_counted_where_the_posterior_mean_is_known(tmp_path: Path) -> None:
    model, x = indexed(), rows()
    means = model.posterior_means(x)
    assert list(means) == ["z", "w"]
    torch.testing.assert_close(means["z"], model.q.conditionals["z"](x).mean.double())
    counted = active_units(model, bits())  # of w too, whose mean is known at each index that c may take
    assert [(figure.name, figure.kind) for figure in counted] == [
        ("active units of z", "exact"), ("active units of w", "estimate")
    ]  # fmt: skip
    run = ancestral.train(model, bits(), out=tmp_path / "run", epochs=1)
    assert run.evaluate(particles=3)[0].kind == "lower bound"


def test_without_a_posterior_mean_a_draw_is_reconstructed() -> None:
    model, x = indexed(), rows()
    with pytest.raises(AncestralError, match=r"mean of 'c'.*sample=True.*--draws"):
        model.reconstruct(x)
    again = model.reconstruct(x, sample=True)
    assert again.shape == x.shape
    assert bool(((again > 0) & (again < 1)).all())  # the mean of p(x | z)


def test_a_normalizing_flow_as_posterior_has_its_units_counted_by_draws() -> None:
    torch.manual_seed(0)
    p = Joint({"z": standard_normal(2), "x | z": bernoulli(linear(2, 7))})
    model = LatentVariableModel(p, Joint({"z | x": zuko.flows.NSF(2, 7, transforms=1, hidden_features=(5,))}))
    assert evaluate(model, bits(), 3)[0].name == "log p(x)"
    (figure,) = active_units(model, bits())
    assert (figure.name, figure.unit, figure.kind) == ("active units of z", "of 2", "estimate")
    assert figure.estimator == "variance over data of the posterior mean above 0.01, by 128 draws"
    assert model.reconstruct(rows(), sample=True).shape == (11, 7)


def test_a_misspelled_latent_variable_is_an_error() -> None:
    model = two_layers()
    with pytest.raises(GraphError, match=r"'hh1'.*neither samples nor is conditioned on.*h1"):
        model.decode({"hh1": torch.zeros(5, 3)})
    with pytest.raises(GraphError, match=r"'H2'.*h2"):
        model.sample(5, given={"H2": torch.zeros(5, 2)})
    chain = LatentVariableModel(Chain(posterior=False), Chain(posterior=True))
    with pytest.raises(GraphError, match=r"'z2'.*z1"):
        chain.decode({"z0": torch.zeros(5, 2), "z2": torch.zeros(5, 2)})


def test_labels_out_of_range_are_found_in_every_batch() -> None:
    for label, words in ((3, "a label 3"), (-2, "a label -2"), (-1, "rows without a label")):
        with pytest.raises(AncestralError, match=words):
            conditional().loss(Batch(rows(), torch.tensor([0, 1, 2, 0, 1, label, 0, 1, 2, 0, 1])))


def test_labels_that_are_indices_reach_an_embedding() -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(3, 7)

        def forward(self, z: Tensor, y: Tensor) -> Independent:
            return Independent(Bernoulli(logits=self.table(y) + z.sum(-1, keepdim=True)), 1)

    p = Joint({"z": standard_normal(2), "x | z, y": Embedded()})
    model = LatentVariableModel(p, Joint({"z | x": normal(linear(7, 4))}))
    assert model.likelihood() == "Bernoulli"
    assert model.reconstruct(rows(), y=torch.arange(11) % 3).shape == (11, 7)


def test_a_posterior_may_read_labels_that_the_model_does_not() -> None:
    p = Joint({"z": standard_normal(2), "x | z": bernoulli(linear(2, 7))})
    model = LatentVariableModel(p, Joint({"z | x, y": normal(mlp(10, 4))}), classes=3)
    y = torch.arange(11) % 3
    assert model.conditions(rows(), y) == {}
    assert torch.equal(model.reconstruct(rows(), y=y), model.decode(model.encode(rows(), y=y)))


def test_the_bound_of_many_particles_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "FAST", 1 << 18)
    widest: list[int] = []

    class Watched(nn.Module):
        def forward(self, z: Tensor) -> Any:
            widest.append(z.shape[0] * z.shape[1])
            return Independent(Bernoulli(logits=z[..., :1].expand(*z.shape[:-1], 7)), 1)

    model = LatentVariableModel(
        Joint({"z": standard_normal(2), "x | z": Watched()}), Joint({"z | x": normal(linear(7, 4))})
    )
    assert model.log_prob(rows(), particles=5003).shape == (11,)
    assert max(widest) <= (1 << 18) // (7 * 4)  # no more logits than there is room for
    assert sum(widest) == 5003 * 11


def test_a_decoder_with_batch_normalization_can_be_asked_for_its_likelihood() -> None:
    norm = nn.BatchNorm1d(7)
    p = Joint({"z": standard_normal(2), "x | z": bernoulli(nn.Sequential(nn.Linear(2, 7), norm))})
    model = LatentVariableModel(p, Joint({"z | x": normal(linear(7, 4))}))
    before = norm.running_mean.clone()  # type: ignore[union-attr]
    assert model.likelihood() == "Bernoulli"
    assert model.latents() == ["z"]
    assert torch.equal(norm.running_mean, before)  # type: ignore[arg-type]
    assert model.training

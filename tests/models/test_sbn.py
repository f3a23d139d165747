"""The sigmoid belief net, of whole data and of the lower half of an image: its graph, its bound, its use."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import ancestral
from ancestral import AncestralError
from ancestral.configs import DataConfig, DataDescription, SBNConfig
from ancestral.evaluation import evaluate
from ancestral.models import Batch, StructuredPrediction, sigmoid_belief_net
from ancestral.models.contract import CAPABILITIES
from ancestral.models.latent_variable import activity, divergence_per_unit
from ancestral.training.health import posterior_collapse

SHAPE = (1, 3, 2)
PIXELS = 6


def net(shape: tuple[int, ...] = SHAPE, **settings: Any) -> Any:
    """A small net, in double precision, with weights that matter."""
    model = sigmoid_belief_net(SBNConfig(**{"layers": (3, 2), **settings}), DataDescription(shape, "binary", 2))
    random = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.data.copy_(0.2 + torch.randn(parameter.shape, generator=random))
    return model.double()


def completion(**settings: Any) -> Any:
    model = net(task="structured-prediction", **settings)
    assert isinstance(model, StructuredPrediction)
    return model


def vectors(size: int) -> Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=size)), dtype=torch.float64)


def one_hots(units: int, classes: int) -> Tensor:
    """Every value of some one-hot vectors, ``[classes^units, units, classes]``."""
    numbers = torch.tensor(list(itertools.product(range(classes), repeat=units)))
    return F.one_hot(numbers, classes).double()


def images() -> Tensor:
    return vectors(PIXELS).reshape(-1, *SHAPE)


def log_mass(model: Any, name: str, value: Tensor, *parents: Tensor) -> Tensor:
    """log p(value | parents) by the network's own output, written without the library's distributions."""
    conditional = model.p.conditionals[name]
    logits = conditional.network(*parents) if parents else conditional.logits
    if logits.dim() - bool(parents) == 2:  # one-hot vectors
        return torch.sum(value * logits.log_softmax(-1), (-1, -2))
    return torch.sum((value * logits - F.softplus(logits)).flatten(1), -1)


# ---- the graph


def test_a_net_and_its_posterior_are_chains_of_layers() -> None:
    model = net(layers=(5, 3, 2))
    assert str(model.p) == "p(x, h1, h2, h3) = p(h3) p(h2 | h3) p(h1 | h2) p(x | h1)"
    assert str(model.q) == "p(h3, h2, h1 | x) = p(h1 | x) p(h2 | h1) p(h3 | h2)"
    assert {name: prior.event_shape for name, prior in model.priors().items()} == {"h3": (2,), "h2": (3,), "h1": (5,)}


def test_structured_prediction_draws_its_latent_variables_from_p_itself() -> None:
    model = completion(layers=(5, 3))
    assert str(model.p) == "p(bottom, h1, h2 | top) = p(h2 | top) p(h1 | h2) p(bottom | h1)"
    assert model.q is model.p
    assert len(list(model.parameters())) == 6  # registered once


@pytest.mark.parametrize("task", ["generation", "structured-prediction"])
def test_layers_of_classes_are_one_hot_vectors(task: str) -> None:
    model = net(task=task, classes=5, layers=(3, 2))
    drawn = model.encode(images()[:7], sample=True)
    assert isinstance(drawn, dict)
    assert {name: tuple(value.shape) for name, value in drawn.items()} == {"h1": (7, 3, 5), "h2": (7, 2, 5)}
    assert all(bool((value.sum(-1) == 1).all()) for value in drawn.values())


def test_deterministic_layers_lie_between_stochastic_ones() -> None:
    linear, deep = net(units="binary"), net(units="binary", hidden=(7, 11))
    for joint, names in ((0, ("h1", "x")), (1, ("h1", "h2"))):
        for name in names:
            layers = [(m.p, m.q)[joint].conditionals[name].network.layers for m in (linear, deep)]
            assert [len(found) for found in layers] == [1, 5]
            assert [type(layer).__name__ for layer in layers[1]] == ["Linear", "Tanh"] * 2 + ["Linear"]
            assert [layers[1][0].out_features, layers[1][2].out_features] == [7, 11]


@pytest.mark.parametrize("classes", [2, 3])
def test_symmetric_units_are_seen_around_zero(classes: int) -> None:
    symmetric, binary = net(classes=classes), net(classes=classes, units="binary")
    symmetric.load_state_dict({
        name: binary.state_dict()[re.sub(r"network\.network", "network", name)] for name in symmetric.state_dict()
    })  # fmt: skip
    for joint, name, shape in (("q", "h1", SHAPE), ("p", "x", (3, classes) if classes > 2 else (3,))):
        of_bits = name == "h1" or classes == 2
        z = torch.rand(5, *shape).double()
        seen, plain = (getattr(model, joint).conditionals[name].network for model in (symmetric, binary))
        torch.testing.assert_close(seen(z), plain(2 * z - 1 if of_bits else 2 * z - 2 / 3))


def test_one_layer_is_a_net_too() -> None:
    model = net(layers=(3,))
    assert str(model.p) == "p(x, h1) = p(h1) p(x | h1)"
    assert isinstance(model.encode(images()), Tensor)
    assert str(completion(layers=(3,)).p) == "p(bottom, h1 | top) = p(h1 | top) p(bottom | h1)"


# ---- the bound


@pytest.mark.parametrize(("classes", "values"), [(2, vectors), (3, lambda units: one_hots(units, 3))])
def test_the_bound_is_that_of_a_sum_over_all_layers_by_hand(classes: int, values: Any) -> None:
    model, x = net(estimator="enumerate", classes=classes, layers=(2, 1)), images()[::7]
    expected = torch.zeros(len(x), dtype=torch.float64)
    for h1 in values(2):
        for h2 in values(1):
            h1s, h2s = h1.expand(len(x), *h1.shape), h2.expand(len(x), *h2.shape)
            log_p = log_mass(model, "h2", h2s) + log_mass(model, "h1", h1s, h2s) + log_mass(model, "x", x, h1s)
            logits1 = model.q.conditionals["h1"].network(x)
            logits2 = model.q.conditionals["h2"].network(h1s)
            log_q = torch.zeros(())
            for h, logits in ((h1s, logits1), (h2s, logits2)):
                part = h * logits - F.softplus(logits) if classes == 2 else h * logits.log_softmax(-1)
                log_q = log_q + part.flatten(1).sum(-1)
            expected += log_q.exp() * (log_p - log_q)
    scalars = model.loss(Batch(x))
    torch.testing.assert_close(scalars["loss"], -expected.mean(), atol=1e-12, rtol=0)
    torch.testing.assert_close(scalars["loss"], scalars["reconstruction"] + scalars["kl"], atol=1e-12, rtol=0)


def test_the_bound_of_structured_prediction_is_that_of_a_sum_by_hand() -> None:
    model, x = completion(estimator="enumerate"), images()[::7]
    top, bottom = x[:, :, :1], x[:, :, 1:]  # of three rows, one is above
    expected = torch.zeros(len(x), dtype=torch.float64)
    exact = []
    for h2 in vectors(2):
        for h1 in vectors(3):
            h1s, h2s = h1.expand(len(x), 3), h2.expand(len(x), 2)
            log_h = log_mass(model, "h2", h2s, top) + log_mass(model, "h1", h1s, h2s)
            likelihood = log_mass(model, "bottom", bottom, h1s)
            expected += log_h.exp() * likelihood
            exact.append(log_h + likelihood)
    scalars = model.loss(Batch(x))
    assert scalars.keys() == {"loss", "reconstruction"}  # nothing diverges
    torch.testing.assert_close(scalars["loss"], -expected.mean(), atol=1e-12, rtol=0)
    torch.manual_seed(1)
    estimate = model.log_prob(x, particles=20_011)
    torch.testing.assert_close(estimate, torch.stack(exact).logsumexp(0), atol=0.05, rtol=0)
    # validation can be by that, though the bound is what is trained
    model.validation_particles = 20_011
    torch.manual_seed(1)
    validated = model.validation(Batch(x))
    assert validated["loss"].item() == pytest.approx(-estimate.mean().item(), abs=1e-12)
    assert validated["reconstruction"].item() == pytest.approx(-expected.mean().item(), abs=0.05)
    assert scalars["loss"] - validated["loss"] > 0.05  # another number


def test_the_masses_of_all_lower_halves_below_one_upper_half_sum_to_one() -> None:
    torch.manual_seed(1)
    model, bottoms = completion(), vectors(4).reshape(-1, 1, 2, 2)
    x = torch.cat([torch.tensor([1.0, 0.0], dtype=torch.float64).expand(16, 1, 1, 2), bottoms], 2)
    assert model.log_prob(x, particles=20_011).exp().sum().item() == pytest.approx(1, abs=0.02)


def test_settings_reach_the_model() -> None:
    model = net(bound="iwae", particles=5, estimator="vimco")
    assert (model.objective, model.particles, model.analytic_kl) == ("iwae", 5, ())
    assert [make(validation_particles=7).validation_particles for make in (net, completion)] == [7, 7]
    model = net(kl_warmup=3.0)
    assert (model.objective, model.kl_warmup, model.analytic_kl) == ("elbo", 3.0, ("h2",))
    assert net(estimator="nvil").analytic_kl == ()  # in closed form it would outweigh a signal that is normalized
    model = completion(bound="iwae", particles=5, estimator="vimco")
    assert (model.objective, model.particles, model.observed) == ("iwae", 5, "bottom")


def test_the_untrained_net_starts_at_the_mean_of_the_data() -> None:
    random = torch.Generator().manual_seed(3)
    x = (torch.rand(97, *SHAPE, generator=random) < torch.linspace(0.1, 0.9, PIXELS).reshape(SHAPE)).double()
    tasks: Any = (("generation", slice(0, None)), ("structured-prediction", slice(1, None)))
    for task, part in tasks:
        model = sigmoid_belief_net(SBNConfig(layers=(3, 2), task=task), DataDescription(SHAPE, "binary", 2)).double()
        model.initialize(x)
        means = {"h1": torch.full((1, 3), 0.5).double(), "h2": torch.full((1, 2), 0.5).double()}
        mean = model.decode(means, given=model.condition(1))[0]
        torch.testing.assert_close(mean[:, part], x.mean(0)[:, part], atol=0.01, rtol=0)


# ---- its use


def test_a_net_has_every_capability() -> None:
    for model in (net(), completion()):
        assert all(isinstance(model, capability) for capability in CAPABILITIES.values())
        x = images()[:7]
        latents = model.encode(x)
        assert model.sample(5).shape == model.sample(5, mean=True).shape == (5, *SHAPE)
        assert model.decode(latents, given=model.conditions(x)).shape == model.reconstruct(x).shape == x.shape
        assert set(model.sample(11).unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 5, 7), (3, 2, 5)])
def test_what_is_completed_has_the_upper_half_that_was_given(shape: tuple[int, int, int]) -> None:
    model = net(shape, task="structured-prediction")
    x = torch.rand(11, *shape, generator=torch.Generator().manual_seed(1)).round().double()
    rows = shape[1] // 2
    again, drawn = model.reconstruct(x), model.reconstruct(x, sample=True)
    assert again.shape == drawn.shape == x.shape
    assert torch.equal(again[:, :, :rows], x[:, :, :rows])
    assert torch.equal(drawn[:, :, :rows], x[:, :, :rows])
    other = x.clone()
    other[:, :, rows:] = 1 - other[:, :, rows:]
    assert torch.equal(again, model.reconstruct(other))  # the lower half is not looked at
    assert not torch.equal(again[:, :, rows:], again[:1, :, rows:].expand(11, -1, -1, -1))  # the upper half is


def test_samples_complete_upper_halves_of_training_data_that_the_model_keeps() -> None:
    model, x = completion(), images()
    model.initialize(x[3:29])
    kept = model.tops.clone()
    model.initialize(x[30:])
    assert torch.equal(model.tops, kept)
    assert torch.equal(kept[:26], x[3:29, :, :1])
    assert torch.equal(kept[26:52], kept[:26])  # 26 rows, in turn
    samples = model.sample(67)
    assert torch.equal(samples[:64, :, :1], kept)
    assert torch.equal(samples[64:, :, :1], kept[:3])
    given = model.sample(5, given={"top": x[40:45, :, :1]})
    assert torch.equal(given[:, :, :1], x[40:45, :, :1])


@pytest.mark.parametrize("task", ["generation", "structured-prediction"])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_net_is_trained_loaded_and_evaluated(tmp_path: Path, task: str, classes: int) -> None:
    run = ancestral.train(
        "sbn", "digits", out=tmp_path / "run", layers=(7, 5), task=task, classes=classes, epochs=3, learning_rate=0.01,
        estimator="muprop", train_limit=401,
    )  # fmt: skip
    losses = [row["validation loss"] for row in run.metrics if "validation loss" in row]
    assert losses[-1] < losses[0]
    again, trained = ancestral.load(run.path), cast("Any", run.model)
    torch.manual_seed(1)
    model: Any = again.model
    samples = model.sample(5)
    torch.manual_seed(1)
    assert torch.equal(samples, trained.sample(5))
    assert not torch.equal(samples[0], samples[1])
    names = [figure.name for figure in again.evaluate(particles=3, limit=7)]
    if task == "generation":
        assert names[0] == "log p(x)"
        assert names[4] == "KL(q(h1, h2 | x) || p(h1, h2))"
    else:
        assert names == [
            "log p(bottom | top)", "bits per dimension", "ELBO", "active units of h2", "active units of h1"
        ]  # fmt: skip
    units = {figure.name: figure.unit for figure in again.evaluate(particles=3, limit=7)}
    assert units["active units of h2"] == "of 5"


def test_bits_are_per_dimension_of_what_is_predicted() -> None:
    data = ancestral.data.load("digits", DataConfig(binarization="static"))
    model = sigmoid_belief_net(SBNConfig(layers=(3,), task="structured-prediction"), data.description)
    log_prob, bits = evaluate(model, data, particles=3, limit=11)[:2]
    assert bits.value == pytest.approx(-log_prob.value / (32 * 0.6931471805599453))


def test_the_activity_of_a_one_hot_unit_is_summed_over_its_classes() -> None:
    model, x = net(classes=3, layers=(5,)), images()
    moves = activity(model, [(x[:20], None), (x[20:], None)])["h1"]
    probabilities = model.q.conditionals["h1"].network(x).softmax(-1)
    torch.testing.assert_close(moves, probabilities.var(0).sum(-1))
    assert divergence_per_unit(model, x)["h1"].shape == moves.shape == (5,)


def test_the_activity_of_a_later_layer_is_that_of_its_mean_over_the_earlier_one() -> None:
    model, x = net(layers=(2, 3)), images()
    for parameter in model.q.parameters():
        parameter.data.mul_(7)  # so that it moves
    q1, q2 = (model.q.conditionals[name].network for name in ("h1", "h2"))
    first, second = q1(x).sigmoid(), torch.zeros(())
    for h1 in vectors(2):
        mass = (h1 * first + (1 - h1) * (1 - first)).prod(-1, keepdim=True)
        second = second + mass * q2(h1).sigmoid()
    state = torch.random.get_rng_state()
    moves = activity(model, [(x, None)] * 101)  # many rows, that the draws of h1 average out
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.testing.assert_close(moves["h1"], first.repeat(101, 1).var(0))
    torch.testing.assert_close(moves["h2"], second.repeat(101, 1).var(0), atol=0.002, rtol=0.1)
    at_the_mean = q2(first).sigmoid().var(0)
    assert bool(((moves["h2"] - at_the_mean).abs() > 0.01).any())  # which would be another number


def test_a_unit_that_is_deaf_to_the_data_has_no_activity_however_it_is_drawn() -> None:
    model, x = net(layers=(5, 3)), images()
    for parameter in model.q.conditionals["h1"].parameters():
        parameter.data.zero_()
    for parameter in model.q.conditionals["h2"].parameters():
        parameter.data.mul_(17)  # q(h2 | h1) moves with h1, but h1 with nothing
    moves = activity(model, [(x, None)] * 101)
    assert moves["h1"].abs().max() < 1e-12
    assert moves["h2"].abs().max() < 0.01


@pytest.mark.parametrize("classes", [2, 3])
def test_reconstructions_are_made_of_values_that_the_layers_can_take(classes: int) -> None:
    model, x = net(classes=classes), images()
    q1, q2 = (model.q.conditionals[name].network for name in ("h1", "h2"))

    def most_probable(logits: Tensor) -> Tensor:
        return (logits > 0).to(logits) if classes == 2 else F.one_hot(logits.argmax(-1), classes).to(logits)

    h1 = most_probable(q1(x))
    expected = model.decode({"h1": h1, "h2": most_probable(q2(h1))})
    assert torch.equal(model.reconstruct(x), expected)


def test_a_bit_as_probable_as_not_is_reconstructed_too() -> None:
    model, x = net(), images()
    for parameter in model.q.parameters():
        parameter.data.zero_()
    assert bool(model.reconstruct(x).isfinite().all())


def test_what_is_drawn_from_p_itself_has_no_divergence() -> None:
    assert divergence_per_unit(completion(), images()) == {}


def test_a_collapsed_net_is_advised_by_flags_that_it_has() -> None:
    for task, advice in (("generation", "--kl-warmup 10"), ("structured-prediction", "try another estimator")):
        model = net(task=task)
        for parameter in model.parameters():
            parameter.data.zero_()
        found = posterior_collapse(model, [(images(), None)], (), "sbn")
        assert found is not None
        assert advice in found
        assert "free" not in found


@pytest.mark.parametrize(
    ("raw", "data", "settings", "words"),
    [
        (DataDescription((7,), "continuous"), {}, {}, "zeros and ones.*real numbers"),
        (DataDescription(SHAPE, "levels", 17), {"binarization": "none"}, {}, "17 levels.*--binarization dynamic"),
        (DataDescription(SHAPE, "levels", 17), {"dequantize": "yes"}, {}, "dequantized.*--dequantize"),
        (DataDescription((7,), "binary", 2), {}, {"task": "structured-prediction"}, "image.*--task generation"),
        (DataDescription((1, 1, 7), "binary", 2), {}, {"task": "structured-prediction"}, "image.*--task generation"),
    ],
)
def test_data_that_do_not_suit_a_net_are_refused(
    raw: DataDescription, data: dict[str, Any], settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(AncestralError, match=words):
        SBNConfig(**settings).resolve(DataConfig(**data), raw, "dynamic")


@pytest.mark.parametrize(
    ("raw", "asked", "chosen"),
    [
        (DataDescription(SHAPE, "binary", 2), "auto", "none"),
        (DataDescription(SHAPE, "levels", 17), "auto", "dynamic"),
        (DataDescription(SHAPE, "levels", 17), "static", "static"),
    ],
)
def test_data_are_made_bits(raw: DataDescription, asked: Any, chosen: str) -> None:
    config, data = SBNConfig().resolve(DataConfig(binarization=asked), raw, "none")
    assert (config, data.binarization, data.dequantize) == (SBNConfig(), chosen, "no")

"""The semi-supervised variational autoencoder: its objective by hand, hidden labels, classes, every verb."""

from __future__ import annotations

import math
import signal
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ancestral
from ancestral import Joint, LatentVariableModel, bernoulli, mlp, normal, standard_normal
from ancestral.configs import DataConfig, DataDescription, M2Config
from ancestral.configs.data import HIDDEN
from ancestral.configs.estimation import EstimatorName
from ancestral.data.splitting import labeled, stream
from ancestral.errors import AncestralError
from ancestral.evaluation import classification
from ancestral.models import Batch, SemiSupervised, semi_supervised_vae
from ancestral.models.m2 import Joined
from ancestral.report.sections import latent
from ancestral.training.progress import Silent

ROWS, PIXELS, CLASSES, LATENT = 11, 7, 3, 2
KNOWN = torch.tensor([2, HIDDEN, 0, HIDDEN, HIDDEN, 2, HIDDEN, 1, HIDDEN, HIDDEN, HIDDEN])
SMALL: dict[str, Any] = {"latent": LATENT, "hidden": (5,)}


def small(shape: tuple[int, ...] = (PIXELS,), labeled: float = 0.3, **settings: Any) -> SemiSupervised:
    torch.manual_seed(1)
    description = DataDescription(shape, "binary", 2, classes=CLASSES, labeled=labeled)
    model = semi_supervised_vae(M2Config(likelihood="bernoulli", **{**SMALL, **settings}), description)
    for parameter in model.parameters():
        parameter.data.mul_(1.5).add_(0.1 * torch.randn_like(parameter))
    return model


def rows(*shape: int) -> Tensor:
    random = torch.Generator().manual_seed(3)
    return (torch.rand(ROWS, *(shape or (PIXELS,)), generator=random) < 0.4).float()


# ---- the objective


def by_hand(model: SemiSupervised, x: Tensor, known: Tensor, alpha: float, labeled: float) -> dict[str, Tensor]:
    """J^α / N, row by row and class by class, from the outputs of the networks."""
    eye = torch.eye(CLASSES, dtype=x.dtype)
    networks_q, networks_p = model.q.networks, model.p.networks
    others, few = (known == HIDDEN).nonzero()[:, 0].tolist(), (known != HIDDEN).nonzero()[:, 0].tolist()
    noises = [
        torch.randn(CLASSES, 1, len(others), LATENT, dtype=x.dtype),
        torch.randn(1, len(few), LATENT, dtype=x.dtype),
    ]

    def bound(row: Tensor, y: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """E[log p(x | y, z)] at one draw, and KL(q(z | x, y) || p(z))."""
        mean, log_scale = networks_q["z"].network(row[None], y[None])[0].chunk(2)
        log_scale = 7 * torch.tanh(log_scale / 7)
        logits = networks_p["x"].network(y[None], (mean + log_scale.exp() * noise)[None])[0]
        likelihood = (row * logits - torch.log1p(logits.exp())).sum()
        return likelihood, (0.5 * (mean**2 + torch.exp(2 * log_scale) - 1) - log_scale).sum()

    unlabeled, labeled_bound, classification, reconstruction, kl = [], [], [], [], []
    for i, row in enumerate(others):
        log_q = torch.log_softmax(networks_q["y"].network(x[row][None])[0], -1)
        terms = [bound(x[row], eye[k], noises[0][k, 0, i]) for k in range(CLASSES)]
        likelihood = sum(log_q[k].exp() * terms[k][0] for k in range(CLASSES))
        divergence = sum(
            log_q[k].exp() * (terms[k][1] + log_q[k] + math.log(CLASSES)) for k in range(CLASSES)
        )  # of y, and of z given y
        unlabeled.append(divergence - likelihood)
        reconstruction.append(-(1 - labeled) * likelihood / len(others))
        kl.append((1 - labeled) * divergence / len(others))
    for i, row in enumerate(few):
        k = int(known[row])
        likelihood, divergence = bound(x[row], eye[k], noises[1][0, i])
        likelihood = likelihood - math.log(CLASSES)
        labeled_bound.append(divergence - likelihood)
        classification.append(-torch.log_softmax(networks_q["y"].network(x[row][None])[0], -1)[k])
        reconstruction.append(-labeled * likelihood / len(few))
        kl.append(labeled * divergence / len(few))
    parts = {
        "classification": torch.stack(classification).mean(),
        "reconstruction": torch.stack(reconstruction).sum(),
        "kl": torch.stack(kl).sum(),
    }
    parts["loss"] = (
        labeled * torch.stack(labeled_bound).mean()
        + (1 - labeled) * torch.stack(unlabeled).mean()
        + alpha * parts["classification"]
    )
    return parts


@pytest.mark.parametrize("hidden", [(5,), (5, 13)])
def test_the_loss_and_its_gradient_are_those_of_a_sum_over_rows_and_classes_by_hand(hidden: tuple[int, ...]) -> None:
    model = small(alpha=0.7, labeled=0.3, hidden=hidden).double()
    x = rows().double()
    torch.manual_seed(5)
    parts = model.loss(Batch(x, KNOWN))
    parameters = list(model.parameters())
    gradient = torch.autograd.grad(parts["loss"], parameters)
    torch.manual_seed(5)
    expected = by_hand(model, x, KNOWN, 0.7, 0.3)
    assert parts.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-12, atol=0)
    for found, wanted in zip(gradient, torch.autograd.grad(expected["loss"], parameters), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_the_parts_of_the_loss_add_up_to_it() -> None:
    parts = small(alpha=0.7).loss(Batch(rows(), KNOWN))
    torch.testing.assert_close(parts["loss"], parts["reconstruction"] + parts["kl"] + 0.7 * parts["classification"])


def test_the_weight_of_rows_with_a_label_is_their_part_of_the_data_whatever_their_part_of_the_batch() -> None:
    model = small(alpha=0.0, labeled=0.3).double()
    x = rows().double()
    once, twice = torch.arange(ROWS), torch.cat([torch.arange(ROWS), (KNOWN != HIDDEN).nonzero()[:, 0]])
    means = []
    for chosen in (once, twice):
        torch.manual_seed(7)
        many = chosen.repeat(1999)  # so that the draws of z hardly matter
        means.append(model.loss(Batch(x[many], KNOWN[many]))["loss"].item())
    assert means[0] == pytest.approx(means[1], abs=0.02)


@pytest.mark.parametrize(
    ("known", "labeled", "named"),
    [
        (torch.full((ROWS,), HIDDEN), 0.3, {"loss", "reconstruction", "kl"}),
        (torch.arange(ROWS) % CLASSES, 1.0, {"loss", "reconstruction", "kl", "classification"}),
    ],
)
def test_a_batch_of_rows_of_one_kind_has_a_finite_loss(known: Tensor, labeled: float, named: set[str]) -> None:
    parts = small(labeled=labeled).loss(Batch(rows(), known))
    assert parts.keys() == named
    parts["loss"].backward()
    assert torch.isfinite(parts["loss"])


def test_one_row_is_a_batch() -> None:
    for known in (HIDDEN, 1):
        assert torch.isfinite(small().loss(Batch(rows()[:1], torch.tensor([known])))["loss"])


@pytest.mark.parametrize("name", [name for name in get_args(EstimatorName) if name not in ("vimco", "disarm")])
def test_every_estimator_teaches_the_classifier_by_rows_without_a_label(name: str) -> None:
    many = {"particles": 2} if name == "rloo" else {}
    model = small(estimator=name, alpha=0.0, **many)
    torch.manual_seed(2)
    loss = model.loss(Batch(rows(), torch.full((ROWS,), HIDDEN)))["loss"]
    loss.backward()
    classifier = [parameter.grad for parameter in model.q.networks["y"].parameters()]
    assert torch.isfinite(loss)
    assert all(gradient is not None and bool(torch.isfinite(gradient).all()) for gradient in classifier)
    assert sum(gradient.abs().sum() for gradient in classifier if gradient is not None) > 1e-3


@pytest.mark.parametrize("name", ["gumbel-softmax", "straight-through-gumbel-softmax", "reinforce"])
def test_a_sampled_label_has_the_value_of_the_sum_on_average(name: str) -> None:
    exact, drawn = small(), small(estimator=name)
    drawn.load_state_dict(exact.state_dict())
    x = rows()[:1].expand(20_011, PIXELS)
    known = torch.full((len(x),), HIDDEN)
    found = [model.loss(Batch(x, known))["loss"].item() for model in (exact, drawn)]
    assert found[0] == pytest.approx(found[1], abs=0.05)


def test_disarm_is_refused_because_a_label_is_a_one_hot_vector() -> None:
    with pytest.raises(AncestralError, match="disarm is for binary variables, but labels are one-hot vectors"):
        small(estimator="disarm")


# ---- the networks


class Counted(nn.Module):
    """The rows that a network has seen."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.rows = network, 0

    def forward(self, value: Tensor) -> Tensor:
        self.rows += math.prod(value.shape[:-1])
        out: Tensor = self.network(value)
        return out


def test_a_network_of_the_data_runs_once_for_all_classes_and_one_of_the_label_once_for_all_rows() -> None:
    model = small()
    encoder, decoder = model.q.networks["z"].network, model.p.networks["x"].network
    assert isinstance(encoder, Joined)
    for joined in (encoder, decoder):
        joined.networks = nn.ModuleList([Counted(network) for network in joined.networks])
    model.loss(Batch(rows(), torch.full((ROWS,), HIDDEN)))
    assert [network.rows for network in encoder.networks] == [ROWS, CLASSES]
    assert [network.rows for network in decoder.networks] == [CLASSES, CLASSES * ROWS]


def test_joined_networks_are_the_layer_of_the_joined_variables() -> None:
    torch.manual_seed(0)
    joined = Joined([nn.Linear(5, 7), nn.Linear(3, 7)], "tanh", nn.Linear(7, 2))
    whole = nn.Linear(8, 7)
    first, second = joined.networks
    whole.weight.data = torch.cat([first.weight, second.weight], 1)  # type: ignore[list-item]
    whole.bias.data = first.bias + second.bias  # type: ignore[operator]
    x, y = torch.randn(11, 5), torch.randn(13, 1, 11, 3)
    expected = joined.output(torch.tanh(whole(torch.cat([x.expand(13, 1, 11, 5), y], -1))))
    torch.testing.assert_close(joined(x, y), expected)
    constant = torch.eye(3)[:, None, None].expand(3, 1, 11, 3)
    expected = joined.output(torch.tanh(whole(torch.cat([x.expand(3, 1, 11, 5), constant], -1))))
    torch.testing.assert_close(joined(x, constant), expected)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 5), (1, 28, 28)])
@pytest.mark.parametrize("hidden", [(5,), (5, 13)])
@pytest.mark.parametrize("estimator", ["enumerate", "gumbel-softmax"])
def test_convolutions_take_images_of_every_shape(
    shape: tuple[int, ...], hidden: tuple[int, ...], estimator: str
) -> None:
    model = small(shape, network="conv", channels=(2, 3, 5), hidden=hidden, estimator=estimator)
    x = rows(*shape)
    model.check(Batch(x, KNOWN))
    model.initialize(x)
    losses = []
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    random = torch.get_rng_state()
    for _ in range(5):
        torch.set_rng_state(random)
        loss = model.loss(Batch(x, KNOWN))["loss"]
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in model.parameters())
        optimizer.step()
    assert losses[-1] < losses[0]
    assert model.reconstruct(x).shape == x.shape
    assert model.sample(5).shape == (5, *shape)


# ---- use


def test_the_classifier_gives_the_probabilities_of_the_classes() -> None:
    model = small()
    x = rows()
    found = model.classify(x)
    assert found.shape == (ROWS, CLASSES)
    torch.testing.assert_close(found, torch.softmax(model.q.networks["y"].network(x), -1))
    encoded = model.encode(x)
    assert isinstance(encoded, dict)
    assert {name: tuple(value.shape) for name, value in encoded.items()} == {"y": (ROWS, CLASSES), "z": (ROWS, LATENT)}
    torch.testing.assert_close(encoded["y"], found)


def test_units_are_dropped_in_training_alone() -> None:
    model = small(dropout=0.5)
    x = rows()
    assert not torch.equal(model.classify(x), model.classify(x))
    model.eval()
    assert torch.equal(model.classify(x), model.classify(x))
    network = model.q.networks["y"].network
    hidden = network.activation(network.networks[0](x))
    torch.testing.assert_close(model.classify(x), torch.softmax(network.output[1](hidden), -1))


def test_a_class_that_is_given_is_the_one_that_is_drawn() -> None:
    model = small()
    model.p.networks["x"].network.networks[0].layers[0].weight.data[:, 1] = 50.0  # the units of class 1 are far up
    given = {"y": torch.eye(CLASSES)[[0, 1]]}
    torch.manual_seed(0)
    drawn = model.sample(2, mean=True, given=given)
    torch.manual_seed(0)
    z = model.p.conditionals["z"]().sample((2,))
    logits = model.p.networks["x"].network(given["y"], z)
    torch.testing.assert_close(drawn, torch.sigmoid(logits))
    assert not torch.allclose(drawn[0], drawn[1], atol=0.1)


def test_validation_is_the_bound_of_rows_without_a_label_and_the_part_that_is_classified_rightly() -> None:
    model = small(alpha=3.0)
    x, y = rows(), torch.arange(ROWS) % CLASSES
    with torch.no_grad():
        torch.manual_seed(1)
        found = model.validation(Batch(x, y))
        torch.manual_seed(1)
        expected = model.loss(Batch(x, torch.full((ROWS,), HIDDEN)))
    torch.testing.assert_close(found["loss"] * (1 - 0.3), expected["loss"])
    right = (model.classify(x).argmax(-1) == y).sum().item()
    assert found["accuracy"].shape == (ROWS,)
    assert found["accuracy"].mean().item() == pytest.approx(right / ROWS)
    few = model.validation(Batch(x, KNOWN))["accuracy"]
    known = KNOWN != HIDDEN
    assert few.tolist() == (model.classify(x).argmax(-1) == KNOWN)[known].tolist()
    assert "accuracy" not in model.validation(Batch(x))


def test_the_sum_over_classes_and_many_particles_is_the_probability_of_the_data() -> None:
    model = small((4,)).double()
    for parameter in model.q.networks["z"].network.output.parameters():
        parameter.data.zero_()  # the prior, whose weights vary little
    images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 4)
    total = model.log_prob(images, particles=400_009).exp().sum().item()
    assert total == pytest.approx(1, abs=0.01)


# ---- errors


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"alpha": -0.1}, "alpha is -0.1"),
        ({"alpha": math.inf}, "alpha is inf"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"latent": 0}, "latent is 0"),
        ({"hidden": ()}, "hidden is ()"),
        ({"hidden": (5, 0)}, "hidden is"),
        ({"channels": (), "network": "conv"}, "channels is"),
        ({"channels": (3,)}, "channels has no effect with mlp"),
        ({"network": "cnn"}, "there is no network 'cnn'"),
        ({"activation": "gelu"}, "there is no activation 'gelu'"),
        ({"estimator": "gumbel"}, "there is no estimator 'gumbel'.*gumbel-softmax"),
        ({"estimator": "vimco", "particles": 3}, "--estimator rloo"),
        ({"likelihood": "bernouli"}, "there is no likelihood"),
        ({"temperature": 0.7}, "no effect with the estimator enumerate"),
    ],
)
def test_a_setting_that_is_out_of_range_or_without_effect_is_an_error(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(AncestralError, match=words.replace("()", r"\(\)")):
        M2Config(**settings)


def test_labels_of_two_classes_are_needed() -> None:
    for classes, words in ((0, "these data have none"), (1, "all have one label")):
        with pytest.raises(AncestralError, match=words):
            M2Config().resolve(DataConfig(), DataDescription((PIXELS,), "binary", 2, classes=classes), "none")
    model = small()
    for learn in (model.loss, model.check):
        with pytest.raises(AncestralError, match="the data have none"):
            learn(Batch(rows()))
    with pytest.raises(AncestralError, match="a batch has no rows"):
        model.loss(Batch(rows()[:0], KNOWN[:0]))
    description = DataDescription((PIXELS,), "binary", 2, classes=CLASSES, labeled=0.0)
    with pytest.raises(AncestralError, match="none of the training rows has one"):
        M2Config().resolve(DataConfig(), description, "none")


def test_a_label_that_is_no_class_is_an_error_before_any_time_is_spent() -> None:
    known = KNOWN.clone()
    known[0] = CLASSES
    with pytest.raises(AncestralError, match="a label 3"):
        small().check(Batch(rows(), known))
    small().check(Batch(rows(), KNOWN))


# ---- data with few labels, from the file to the figures


def saved(place: Path, y: np.ndarray[Any, Any] | None = None, n: int = 97) -> Path:
    """Images of 5x4 whose class is the row of pixels that is bright."""
    draw = np.random.default_rng(2)
    labels = draw.integers(0, CLASSES, n)
    x = draw.integers(0, 100, (n, 5, 4), dtype=np.uint8)
    x[np.arange(n), labels] = 255
    np.savez(place, x=x, y=labels if y is None else y)
    return place


TRAINED: dict[str, Any] = {**SMALL, "labels": 11, "labels_per_batch": 5, "epochs": 3, "batch_size": 13}


def test_labels_that_are_hidden_change_nothing(tmp_path: Path) -> None:
    data = saved(tmp_path / "data.npz")
    run = ancestral.train("m2", data, out=tmp_path / "run", **TRAINED)
    split = run.data.train
    assert split.y is not None
    with np.load(data) as file:
        y = file["y"]
    # the rows that follow the last that was chosen, in the order in which they were looked at, could have any label
    assert int((split.y != HIDDEN).sum()) == 11
    np.testing.assert_array_equal(split.y[split.y != HIDDEN], y[split.index[split.y != HIDDEN]])
    config = run.data.config
    generator = stream("labels", config.split_seed)
    generator.permutation(CLASSES)
    order = generator.permutation(len(split))
    last = int(np.flatnonzero(split.y[order] != HIDDEN).max())
    late = split.index[order[last + 1 :]]
    assert len(late) > 20
    changed = y.copy()
    changed[late] = (y[late] + 1 + np.arange(len(late)) % (CLASSES - 1)) % CLASSES
    assert (changed != y).sum() == len(late)
    np.testing.assert_array_equal(labeled(changed[split.index], config, ""), split.y != HIDDEN)
    again = ancestral.train("m2", saved(tmp_path / "changed.npz", changed), out=tmp_path / "again", **TRAINED)
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


class Stop(Silent):
    """Interrupts training after so many updates, as Ctrl-C does."""

    def __init__(self, after: int) -> None:
        self.after = after

    def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None:
        if done == self.after:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("estimator", ["enumerate", "gumbel-softmax", "nvil"])
def test_a_resumed_run_is_the_same_to_the_last_bit(estimator: str, tmp_path: Path) -> None:
    data = saved(tmp_path / "data.npz")
    settings = {**TRAINED, "estimator": estimator}
    whole = ancestral.train("m2", data, out=tmp_path / "whole", **settings)
    ancestral.train("m2", data, out=tmp_path / "run", reporter=Stop(8), **settings)
    run = ancestral.resume(tmp_path / "run")
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, run.model.state_dict()[name]), name
    assert [{**row, "seconds": 0} for row in whole.metrics] == [{**row, "seconds": 0} for row in run.metrics]


def test_few_labels_are_enough_to_tell_classes_apart(tmp_path: Path) -> None:
    settings = {**TRAINED, "hidden": (23,), "labels": 6, "epochs": 9, "alpha": 3.0, "learning_rate": 0.02}
    run = ancestral.train("m2", saved(tmp_path / "data.npz", n=199), out=tmp_path / "run", **settings)
    figures = {figure.name: figure for figure in run.evaluate(particles=5)}
    found = figures["accuracy"]
    assert found.value > 95
    assert (found.unit, found.kind, found.datapoints, found.digest) == ("%", "exact", 30, run.data.digest("test"))
    assert "log p(x)" in figures


def test_the_accuracy_is_that_of_a_count_by_hand(tmp_path: Path) -> None:
    run = ancestral.train("m2", saved(tmp_path / "data.npz"), out=tmp_path / "run", **{**TRAINED, "epochs": 1})
    for split, count in (("test", 15), ("train", 11)):
        part = getattr(run.data, split)
        x = run.data.rows(split, np.arange(len(part)))  # type: ignore[arg-type]
        known = part.y != HIDDEN
        right = (run.model.classify(x).argmax(-1).numpy() == part.y)[known]  # type: ignore[operator]
        figure = classification(run.model, run.data, split)[0]
        assert figure.datapoints == len(right) == count
        assert figure.value == pytest.approx(100 * right.mean())
        error = 100 * right.std() / math.sqrt(count)
        assert figure.standard_error == pytest.approx(error)
    with pytest.raises(AncestralError, match=r"can't classify.*m2"):
        classification(nn.Linear(2, 3), run.data)


def test_labels_are_hidden_from_a_model_that_learns_with_few_alone(tmp_path: Path) -> None:
    data = saved(tmp_path / "data.npz")
    for model in ("vae", "gan"):
        with pytest.raises(AncestralError, match=rf"labels is 11, which has no effect: {model} does not learn"):
            ancestral.train(model, data, out=tmp_path / "run", labels=11)


# ---- data of which some rows have no label from the start


def partly_labeled(place: Path, every: int = 5, n: int = 1201) -> Path:
    """The same images, of which one in five keeps its label."""
    with np.load(saved(place, n=n)) as file:
        x, y = file["x"], file["y"]
    np.savez(place, x=x, y=np.where(np.arange(n) % every, -1, y))
    return place


class Said(Silent):
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


def test_rows_without_a_label_are_learned_from_and_figures_are_of_those_with_one(tmp_path: Path) -> None:
    data = partly_labeled(tmp_path / "data.npz")
    settings = {**TRAINED, "labels": 0, "validation": 0.5, "epochs": 2}  # 600 rows, in two batches
    said = Said()
    run = ancestral.train("m2", data, out=tmp_path / "run", reporter=said, **settings)
    known = np.count_nonzero(run.data.train.y != HIDDEN)
    assert f"labels: known of {known} of the {len(run.data.train)} training rows" in said.lines
    assert run.config["description"]["classes"] == CLASSES
    assert run.config["description"]["labeled"] == run.model.labeled == pytest.approx(0.2, abs=0.05)
    figure = classification(run.model, run.data, "validation")[0]
    assert figure.datapoints == np.count_nonzero(run.data.validation.y != HIDDEN) < 200
    validations = [row["validation accuracy"] for row in run.metrics if "validation accuracy" in row]
    assert 100 * validations[-1] == pytest.approx(figure.value)
    again = ancestral.train("m2", data, out=tmp_path / "again", **{**settings, "labels": 7, "epochs": 1})
    assert np.count_nonzero(again.data.train.y != HIDDEN) == 7


def test_a_model_that_learns_nothing_from_labels_is_trained_as_if_all_were_known(tmp_path: Path) -> None:
    partly_labeled(tmp_path / "partly.npz", n=97)
    saved(tmp_path / "whole.npz")
    settings: dict[str, Any] = {"latent": 2, "hidden": (5,), "epochs": 2, "batch_size": 13}
    runs = [
        ancestral.train("vae", tmp_path / f"{name}.npz", out=tmp_path / name, **settings)
        for name in ("partly", "whole")
    ]
    for name, value in runs[0].model.state_dict().items():
        assert torch.equal(value, runs[1].model.state_dict()[name]), name
    with pytest.raises(AncestralError, match="labels_per_batch is 3, which has no effect: vae does not learn"):
        ancestral.train("vae", tmp_path / "partly.npz", out=tmp_path / "run", labels_per_batch=3, **settings)


def test_labels_of_which_none_is_known_or_only_one_are_too_few(tmp_path: Path) -> None:
    for y, words in (
        (np.full(97, -1), "these data have none"),
        (np.where(np.arange(97) % 2, -1, 1), r"all have one label, if any \(-1 says"),
    ):
        with pytest.raises(AncestralError, match=words):
            ancestral.train("m2", saved(tmp_path / "data.npz", y), out=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("classes", [CLASSES, 0])
def test_a_model_conditioned_on_labels_is_not_trained_on_rows_without_one(classes: int, tmp_path: Path) -> None:
    def decoder(z: Tensor, y: Tensor) -> Any:
        return bernoulli(nn.Identity(), 3)(z[..., :1, None, None].expand(*z.shape[:-1], 1, 5, 4))

    p = Joint({"z": standard_normal(2), "x | z, y": decoder})
    model = LatentVariableModel(p, Joint({"z | x": normal(mlp((1, 5, 4), 4))}), classes=classes)
    data = ancestral.data.load(partly_labeled(tmp_path / "data.npz", n=97), DataConfig(binarization="threshold"))
    with pytest.raises(AncestralError, match=r"conditioned on the labels y, but \d+ of the 77 training rows"):
        ancestral.train(model, data, out=tmp_path / "run", epochs=1)
    with pytest.raises(AncestralError, match="rows without a label"):
        model.log_prob(torch.zeros(2, 1, 5, 4), y=torch.tensor([0, HIDDEN]))


def test_the_map_of_a_report_tells_rows_without_a_label_from_a_class(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"latent": 2, "hidden": (5,), "epochs": 1, "batch_size": 13}
    run = ancestral.train("vae", partly_labeled(tmp_path / "data.npz", 2, 97), out=tmp_path / "run", **settings)
    found = latent(run)
    assert isinstance(found, dict)
    assert [entry["words"].en for entry in found["legend"]] == ["label 0", "label 1", "label 2", "no label"]
    assert {HIDDEN} < {point["color"] for point in found["variables"][0]["map"]["points"]} <= {HIDDEN, 0, 1, 2}
    assert not any("-1" in point["words"].en for point in found["variables"][0]["map"]["points"])

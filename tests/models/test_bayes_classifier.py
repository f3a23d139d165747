"""Class-conditional models against posteriors that are enumerated and discriminant analysis in closed form."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, MultivariateNormal, Normal

import ancestral
from ancestral import Joint, bernoulli, linear, one_hot_bias
from ancestral.configs import BayesClassifierConfig, ClassifierConfig, DataDescription
from ancestral.errors import AncestralError
from ancestral.models import Batch, BayesClassifier, Classifier
from ancestral.models.bayes_classifier import generative_classifier
from ancestral.models.contract import CanClassify, CanDecode, CanEncode, CanReconstruct

CLASSES, PIXELS = 3, 5
BITS = DataDescription((PIXELS,), "binary", 2, CLASSES)


def moved(model: Any) -> Any:
    """The model in double precision, with weights that are nowhere 0."""
    model.double()
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.1 + 0.7 * torch.randn_like(parameter))
        for parameter in model.q.parameters() if hasattr(model, "q") and model.q is not model.p else ():
            parameter.mul_(0.2)  # near the prior, so that no weight is far above the others
    return model.eval()


def all_bits() -> Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=PIXELS)), dtype=torch.float64)


def test_the_posterior_of_naive_bayes_is_that_of_a_sum_over_classes() -> None:
    model = moved(generative_classifier(BayesClassifierConfig(latent=0, likelihood="bernoulli"), BITS))
    x = all_bits()
    network = model.p.conditionals["x"].network
    prior = model.p.conditionals["y"].logits.log_softmax(-1)
    pixels = Bernoulli(logits=network(torch.eye(CLASSES, dtype=torch.float64)))
    joint = torch.stack([prior[c] + pixels.log_prob(row[None]).sum(-1)[c] for row in x for c in range(CLASSES)])
    joint = joint.view(len(x), CLASSES).detach()
    torch.testing.assert_close(model.log_joint(x), joint)
    torch.testing.assert_close(model.classify(x), joint.exp() / joint.exp().sum(-1, keepdim=True))
    torch.testing.assert_close(model.log_classify(x), joint - joint.logsumexp(-1, keepdim=True))
    torch.testing.assert_close(model.log_prob(x), joint.logsumexp(-1))
    assert model.log_prob(x).exp().sum().item() == pytest.approx(1)
    y = torch.arange(len(x)) % CLASSES
    torch.testing.assert_close(model.log_prob(x, y=y), joint.gather(-1, y[:, None])[:, 0])
    loss = model.loss(Batch(x, y))["loss"]
    assert loss.item() == pytest.approx(-joint.gather(-1, y[:, None]).mean().item())


def enumerable() -> BayesClassifier:
    """p(y) p(z) p(x | y, z) with z of two bits, and a q that is not its posterior."""
    p = Joint({"y": one_hot_bias(CLASSES), "z": ancestral.bernoulli_bias(2), "x | y, z": bernoulli(Both())})
    q = Joint({"z | x, y": bernoulli(Both(PIXELS, CLASSES, 2))})
    return BayesClassifier(p, q, "iwae", classes=CLASSES, class_particles=7)


class Both(torch.nn.Module):
    """A linear function of two vectors."""

    def __init__(self, first: int = CLASSES, second: int = 2, out: int = PIXELS) -> None:
        super().__init__()
        self.first, self.second = linear(first, out), linear(second, out)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        output: Tensor = self.first(first) + self.second(second)
        return output


def test_the_bound_of_each_class_tends_to_the_posterior_of_an_enumerable_model() -> None:
    model = moved(enumerable())
    x = all_bits()[[3, 11, 17, 30]]
    prior = model.p.conditionals["y"].logits.log_softmax(-1)
    exact = torch.empty(len(x), CLASSES, dtype=torch.float64)
    for c in range(CLASSES):
        y = torch.eye(CLASSES, dtype=torch.float64)[c]
        terms = []
        for bits in itertools.product([0.0, 1.0], repeat=2):
            z = torch.tensor(bits, dtype=torch.float64)
            log_z = Bernoulli(logits=model.p.conditionals["z"].logits).log_prob(z).sum()
            logits = model.p.conditionals["x"].network(y, z)
            terms.append(log_z + Bernoulli(logits=logits).log_prob(x).sum(-1))
        exact[:, c] = prior[c] + torch.stack(terms).logsumexp(0)
    torch.manual_seed(1)
    close = model.log_joint(x, 20_000)
    torch.testing.assert_close(close, exact, atol=0.03, rtol=0)
    torch.testing.assert_close(model.log_prob(x, particles=20_000), exact.logsumexp(-1), atol=0.03, rtol=0)
    rough = torch.stack([model.log_joint(x) for _ in range(300)]).mean(0)  # of 7 particles: a lower bound
    assert bool((rough < exact + 0.02).all())
    assert bool((exact - rough).sum() > 0.02)


def blobs(n: int = 61) -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    y = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), n, replacement=True)
    scale = torch.tensor([[0.7, 1.3], [1.1, 0.6], [0.9, 1.7]], dtype=torch.float64)
    center = torch.tensor([[0.5, -1.0], [2.0, 0.3], [-1.2, 1.4]], dtype=torch.float64)
    return center[y] + scale[y] * torch.randn(n, 2, dtype=torch.float64), y


def fit(model: BayesClassifier, x: Tensor, y: Tensor) -> None:
    """To the optimum of its loss."""
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=1500, tolerance_grad=1e-11, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> Any:
        optimizer.zero_grad()
        loss = model.loss(Batch(x, y, rows=len(x)))["loss"]
        loss.backward()
        return loss

    optimizer.step(closure)


@pytest.mark.parametrize("scale", ["learned", "shared"])
def test_gaussian_naive_bayes_at_its_optimum_is_discriminant_analysis(scale: str) -> None:
    x, y = blobs()
    data = DataDescription((2,), "continuous", 0, CLASSES)
    model = moved(generative_classifier(BayesClassifierConfig(latent=0, likelihood="normal", scale=scale), data))
    fit(model, x, y)
    log_joint = torch.empty(len(x), CLASSES, dtype=torch.float64)
    within = torch.stack([(x[y == c] - x[y == c].mean(0)).square().sum(0) for c in range(CLASSES)])
    for c in range(CLASSES):
        rows = x[y == c]
        variance = within[c] / len(rows) if scale == "learned" else (within.sum() / (2 * len(x))).expand(2)
        density = MultivariateNormal(rows.mean(0), torch.diag(variance))
        log_joint[:, c] = math.log(len(rows) / len(x)) + density.log_prob(x)
    torch.testing.assert_close(model.log_classify(x), log_joint.log_softmax(-1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.log_prob(x), log_joint.logsumexp(-1), atol=1e-5, rtol=1e-5)
    if scale == "shared":  # linear: log-odds are an affine function of x
        odds = model.log_classify(torch.tensor([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]], dtype=torch.float64))
        odds = odds[:, 0] - odds[:, 1]
        assert (odds[0] + odds[2] - 2 * odds[1]).abs().item() < 1e-9


def test_a_prior_counts_once_for_all_rows_whatever_the_batches() -> None:
    x, y = blobs()
    data = DataDescription((2,), "continuous", 0, CLASSES)
    settings: dict[str, Any] = {"latent": 0, "likelihood": "normal"}
    model = moved(generative_classifier(BayesClassifierConfig(**settings, prior_scale=1.7), data))
    n = len(x)
    parts = sum(
        len(rows) * model.loss(Batch(x[rows], y[rows], rows=n))["loss"].item() for rows in torch.arange(n).split(17)
    )
    prior = Normal(0.0, 1.7)
    of_parameters = sum(prior.log_prob(parameter).sum().item() for parameter in model.p.parameters())
    assert parts == pytest.approx(-model.log_prob(x, y=y).sum().item() - of_parameters)
    with pytest.raises(AncestralError, match="rows is 0"):
        model.loss(Batch(x, y))


def test_a_latent_variable_has_the_elbo_of_data_and_label() -> None:
    model = moved(generative_classifier(BayesClassifierConfig(latent=2, hidden=(7,), likelihood="bernoulli"), BITS))
    x, y = all_bits(), torch.arange(32) % CLASSES
    torch.manual_seed(0)
    losses = model.loss(Batch(x, y))
    assert losses["loss"].item() == pytest.approx((losses["reconstruction"] + losses["kl"]).item())
    many = model.log_prob(x, particles=3000, y=y).mean().item()
    torch.manual_seed(0)
    bound = -sum(model.loss(Batch(x, y))["loss"].item() for _ in range(100)) / 100
    assert bound < many + 0.01
    exact = model.log_prob(x, particles=3000).exp().sum().item()
    assert exact == pytest.approx(1, abs=0.02)  # over all x: the bounds of the classes are put together rightly


def test_validation_says_how_often_it_is_right() -> None:
    model = moved(generative_classifier(BayesClassifierConfig(latent=0, likelihood="bernoulli"), BITS))
    x, y = all_bits(), torch.arange(32) % CLASSES
    found = model.validation(Batch(x, y))
    assert torch.equal(found["accuracy"], (model.classify(x).argmax(-1) == y).double())
    assert found["loss"].item() == pytest.approx(-model.log_prob(x, y=y).mean().item())


def test_without_latent_variables_there_is_nothing_to_encode() -> None:
    model = generative_classifier(BayesClassifierConfig(latent=0, likelihood="bernoulli"), BITS)
    for capability in (CanEncode, CanDecode, CanReconstruct):
        assert not isinstance(model, capability)
        assert isinstance(
            generative_classifier(BayesClassifierConfig(latent=2, likelihood="bernoulli"), BITS), capability
        )
    with pytest.raises(AncestralError, match="no latent variable"):
        model.posterior_means(all_bits().float(), torch.arange(32) % CLASSES)


def test_a_class_can_be_drawn() -> None:
    model = moved(generative_classifier(BayesClassifierConfig(latent=0, likelihood="bernoulli"), BITS))
    y = torch.eye(CLASSES, dtype=torch.float64)[2].expand(4000, CLASSES)
    torch.manual_seed(0)
    x = model.sample(4000, given={"y": y})
    mean = model.p.conditionals["x"].network(y[:1]).sigmoid()[0]
    assert (x.mean(0) - mean).abs().max().item() < 4 * 0.5 / math.sqrt(4000)
    prior = model.p.conditionals["y"].logits.softmax(-1)
    drawn = ancestral.run(model.p, {}, (4000,))["y"].mean(0)
    assert (drawn - prior).abs().max().item() < 4 * 0.5 / math.sqrt(4000)


def test_labels_that_are_hidden_or_no_class_are_errors() -> None:
    model = generative_classifier(BayesClassifierConfig(latent=0, likelihood="bernoulli"), BITS)
    x = all_bits().float()[:5]
    for y, words in ((torch.tensor([0, 1, -1, 2, 0]), "without a label"), (torch.full((5,), 3), "a label 3")):
        with pytest.raises(AncestralError, match=words):
            model.check(Batch(x, y))
    with pytest.raises(AncestralError, match="the data have none"):
        model.check(Batch(x))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"latent": -1}, "latent is -1"),
        ({"class_particles": 0}, "class_particles is 0"),
        ({"prior_scale": -1.0}, "prior_scale is -1.0"),
        ({"latent": 0, "hidden": (7,)}, "hidden has no effect with latent 0"),
        ({"latent": 0, "class_particles": 3}, "class_particles has no effect with latent 0"),
        ({"latent": 0, "particles": 3}, "particles has no effect with latent 0"),
        ({"latent": 0, "bound": "iwae"}, "bound has no effect with latent 0"),
        ({"network": "con"}, "no network 'con'"),
        ({"channels": (3,)}, "channels has no effect"),
        ({"hidden": ()}, "hidden is"),
    ],
)
def test_settings_out_of_range_or_without_effect_are_errors(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(AncestralError, match=words):
        BayesClassifierConfig(**settings)


# ---- the conditional model


def test_a_classifier_is_logistic_regression_on_its_hidden_layer() -> None:
    model = moved(Classifier(ClassifierConfig(hidden=(7,)), BITS))
    x, y = all_bits(), torch.arange(32) % CLASSES
    logits = model.p.conditionals["y"].network(x)
    torch.testing.assert_close(model.log_classify(x), logits.log_softmax(-1).detach())
    expected = -Categorical(logits=logits).log_prob(y).mean().item()
    assert model.loss(Batch(x, y))["loss"].item() == pytest.approx(expected)
    assert isinstance(model, CanClassify)


def test_a_classifier_leaves_out_rows_without_a_label() -> None:
    model = moved(Classifier(ClassifierConfig(hidden=(7,)), BITS))
    x, y = all_bits(), torch.arange(32) % CLASSES
    hidden = torch.where(torch.arange(32) < 13, y, -1)
    few = model.loss(Batch(x[:13], y[:13]))["loss"].item()
    assert model.loss(Batch(x, hidden))["loss"].item() == pytest.approx(few)
    found = model.validation(Batch(x, hidden))
    assert found["loss"].shape == found["accuracy"].shape == (13,)
    for batch, words in ((Batch(x, torch.full((32,), -1)), "no row with a label"), (Batch(x), "the data have none")):
        with pytest.raises(AncestralError, match=words):
            model.loss(batch)
    with pytest.raises(AncestralError, match="a label 3"):
        model.check(Batch(x, y + 1))
    with pytest.raises(AncestralError, match="dropout is 1"):
        ClassifierConfig(dropout=1.0)


def test_the_least_loss_of_a_classifier_needs_labels_to_validate(tmp_path: Any) -> None:
    x = np.random.default_rng(0).integers(0, 2, (53, 5), dtype=np.uint8)
    y = np.where(np.arange(53) < 5, np.arange(53) % 3, -1)
    np.savez(tmp_path / "few.npz", x=x, y=y)
    with pytest.raises(AncestralError, match=r"none of the validation rows of .* has a label"):
        ancestral.train(
            "classifier", tmp_path / "few.npz", out=tmp_path / "run", hidden=(3,), epochs=1, labels_per_batch=2,
            validation=0.02,
        )  # fmt: skip

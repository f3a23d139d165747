"""What is rejected, and how a likelihood and a preparation of the data are chosen to suit each other."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest

from ancestral.configs import (
    MODELS,
    CategoricalVAEConfig,
    DataConfig,
    DataDescription,
    GANConfig,
    HelmholtzConfig,
    SBNConfig,
    TrainingConfig,
    VAEConfig,
)
from ancestral.configs.estimation import OF_EXPECTATIONS, USED, EstimatorName
from ancestral.errors import AncestralError

BINARY = DataDescription((1, 5, 7), "binary", 2)
LEVELS = DataDescription((1, 5, 7), "levels", 17)
CONTINUOUS = DataDescription((7,), "continuous", 0)
TABLE = DataDescription((2,), "continuous", 0, offset=(3.0, 5.0), scale=(0.7, 1.1))


@pytest.mark.parametrize(
    ("raw", "usual", "asked", "data", "expected"),
    [
        (BINARY, "none", {}, {}, ("bernoulli", "none", "no")),
        (LEVELS, "none", {}, {}, ("discretized-logistic", "none", "no")),
        (LEVELS, "dynamic", {}, {}, ("bernoulli", "dynamic", "no")),
        (LEVELS, "dynamic", {}, {"binarization": "none"}, ("discretized-logistic", "none", "no")),
        (LEVELS, "none", {}, {"binarization": "static"}, ("bernoulli", "static", "no")),
        (LEVELS, "none", {}, {"dequantize": "yes"}, ("normal", "none", "yes")),
        (LEVELS, "dynamic", {}, {"dequantize": "yes"}, ("normal", "none", "yes")),
        (LEVELS, "none", {"likelihood": "bernoulli"}, {}, ("bernoulli", "dynamic", "no")),
        (
            LEVELS,
            "dynamic",
            {"likelihood": "bernoulli"},
            {"binarization": "threshold"},
            ("bernoulli", "threshold", "no"),
        ),
        (LEVELS, "dynamic", {"likelihood": "discretized-logistic"}, {}, ("discretized-logistic", "none", "no")),
        (LEVELS, "dynamic", {"likelihood": "normal"}, {}, ("normal", "none", "yes")),
        (LEVELS, "dynamic", {"likelihood": "normal", "mean": "sigmoid"}, {}, ("normal", "none", "yes")),
        (LEVELS, "none", {"likelihood": "continuous-bernoulli"}, {}, ("continuous-bernoulli", "none", "yes")),
        (BINARY, "none", {"likelihood": "normal"}, {"dequantize": "yes"}, ("normal", "none", "yes")),
        (BINARY, "none", {}, {"dequantize": "yes"}, ("normal", "none", "yes")),
        (CONTINUOUS, "none", {"likelihood": "continuous-bernoulli"}, {}, ("continuous-bernoulli", "none", "no")),
        (CONTINUOUS, "none", {"likelihood": "normal", "mean": "sigmoid"}, {}, ("normal", "none", "no")),
        (TABLE, "none", {}, {}, ("normal", "none", "no")),
        (CONTINUOUS, "none", {}, {}, ("normal", "none", "no")),
        (CONTINUOUS, "none", {"likelihood": "normal", "scale": "shared"}, {}, ("normal", "none", "no")),
    ],
)
def test_likelihood_and_preparation_suit_each_other(
    raw: DataDescription, usual: str, asked: dict[str, Any], data: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    config, prepared = VAEConfig(**asked).resolve(DataConfig(**data), raw, usual)
    assert (config.likelihood, prepared.binarization, prepared.dequantize) == expected


def test_all_other_settings_stay_as_they_were() -> None:
    config, data = VAEConfig(latent=3, beta=0.5).resolve(DataConfig(split_seed=5), LEVELS, "none")
    assert (config.latent, config.beta, data.split_seed) == (3, 0.5, 5)


@pytest.mark.parametrize(
    ("raw", "asked", "data", "word"),
    [
        (LEVELS, {"likelihood": "bernoulli"}, {"binarization": "none"}, "binary.*Use --binarization dynamic, or"),
        (LEVELS, {"likelihood": "bernoulli"}, {"dequantize": "yes"}, "binary.*Use --dequantize no, or"),
        (CONTINUOUS, {"likelihood": "bernoulli"}, {}, r"binary.*real numbers\. Use --likelihood normal\.$"),
        (CONTINUOUS, {"likelihood": "discretized-logistic"}, {}, "grey levels"),
        (LEVELS, {"likelihood": "discretized-logistic"}, {"dequantize": "yes"}, "grey levels"),
        (LEVELS, {"scale": "shared"}, {}, "scale.*add --likelihood normal, or leave them out"),
        (LEVELS, {"scale": "shared"}, {"binarization": "dynamic"}, "scale.*chosen for these data: leave them out"),
        (BINARY, {"mean": "sigmoid"}, {}, "mean.*chosen for these data: leave them out"),
        (TABLE, {"likelihood": "continuous-bernoulli"}, {}, r"in \[0, 1\].*standardized.*Use --likelihood normal"),
        (TABLE, {"mean": "sigmoid"}, {}, "standardized.*Use --mean identity"),
    ],
)
def test_a_likelihood_that_contradicts_the_data_is_an_error(
    raw: DataDescription, asked: dict[str, Any], data: dict[str, Any], word: str
) -> None:
    with pytest.raises(AncestralError, match=word):
        VAEConfig(**asked).resolve(DataConfig(**data), raw, "none")


@pytest.mark.parametrize("likelihood", ["normal", "continuous-bernoulli"])
@pytest.mark.parametrize(
    ("raw", "data", "cure"),
    [
        (BINARY, {}, r"zeros and ones.*Use --likelihood bernoulli\.$"),
        (LEVELS, {"binarization": "static"}, "zeros and ones.*Use --likelihood bernoulli, or --binarization none"),
        (LEVELS, {"dequantize": "no"}, "grey levels without noise.*Use --dequantize yes, or .*discretized-logistic"),
    ],
)
def test_a_density_of_discrete_values_is_no_likelihood(
    likelihood: Any, raw: DataDescription, data: dict[str, Any], cure: str
) -> None:
    with pytest.raises(AncestralError, match=cure):
        VAEConfig(likelihood=likelihood).resolve(DataConfig(**data), raw, "none")


def test_a_gan_takes_the_data_as_they_are_unless_told_otherwise() -> None:
    assert GANConfig().resolve(DataConfig(), LEVELS, "dynamic")[1].binarization == "none"
    assert GANConfig().resolve(DataConfig(), LEVELS, "dynamic")[1].dequantize == "no"
    assert GANConfig().resolve(DataConfig(binarization="static"), LEVELS, "none")[1].binarization == "static"
    assert GANConfig().resolve(DataConfig(dequantize="yes"), LEVELS, "none")[1].dequantize == "yes"


PARTICLES: dict[str, dict[str, Any]] = {"rloo": {"particles": 2}, "vimco": {"particles": 2, "bound": "iwae"}}
"""What an estimator needs besides."""
GUMBEL = {"estimator": "gumbel-softmax", "temperature": 0.9}
OTHERWISE: dict[str, Any] = {
    "baseline": ("network",), "normalize": True, "temperature": 0.7, "temperature_rate": 0.1, "temperature_end": 0.3,
    "learn_temperature": True, "slope": 1.5, "slope_rate": 0.1, "slope_end": 3.0,
}  # fmt: skip
"""Settings of estimators at other values than the default."""
REJECTED: list[tuple[type, dict[str, Any], str]] = [
    *[(VAEConfig, {name: 0}, name) for name in ("latent", "particles", "flows", "flow_hidden")],
    *[(VAEConfig, {name: (5, 0)}, name) for name in ("hidden", "channels")],
    *[
        (VAEConfig, {name: value}, name)
        for name in ("beta", "kl_warmup", "free_bits")
        for value in (-0.1, float("nan"))
    ],
    *[
        (VAEConfig, {name: "nothing"}, name)
        for name in ("network", "activation", "likelihood", "scale", "mean", "bound", "posterior")
    ],
    *[(GANConfig, {name: 0}, name) for name in ("latent", "pieces", "discriminator_steps")],
    *[(GANConfig, {name: (5, 0)}, name) for name in ("hidden", "discriminator_hidden")],
    *[(GANConfig, {name: value}, name) for name in ("dropout", "input_dropout") for value in (-0.1, 1.0)],
    (VAEConfig, {"posterior": "iaf", "free_bits": 0.1}, "free_bits.*not known in closed form for the iaf posterior"),
    (VAEConfig, {"gradient": "stl"}, "there is no gradient 'stl'"),
    (VAEConfig, {"gradient": "sticking-the-landing", "free_bits": 0.1}, "free_bits needs the divergence"),
    (VAEConfig, {"gradient": "sticking-the-landing", "posterior": "planar"}, "known at its draws alone"),
    (GANConfig, {"discriminator_learning_rate": -1.0}, "discriminator_learning_rate"),
    (GANConfig, {"generator_loss": "minmax"}, "generator_loss.*minimax"),
    (SBNConfig, {"layers": ()}, "layers is empty"),
    *[(SBNConfig, {name: (5, 0)}, name) for name in ("layers", "hidden")],
    *[(SBNConfig, {name: "nothing"}, name) for name in ("units", "task", "bound")],
    *[(CategoricalVAEConfig, {"latents": value}, "latents") for value in (0, -1)],
    *[(CategoricalVAEConfig, {name: (5, 0)}, name) for name in ("encoder_hidden", "decoder_hidden")],
    *[
        (CategoricalVAEConfig, {name: "nothing"}, name)
        for name in ("prior", "activation", "bound", "likelihood", "scale", "mean")
    ],
    *[(kind, {"classes": 1}, "classes") for kind in (SBNConfig, CategoricalVAEConfig)],
    *[
        (kind, {"kl_warmup": value}, "kl_warmup")
        for kind in (SBNConfig, CategoricalVAEConfig)
        for value in (-0.1, float("nan"), float("inf"))
    ],
    *[
        (kind, {"validation_particles": -1}, "validation_particles is -1")
        for kind in (VAEConfig, SBNConfig, CategoricalVAEConfig)
    ],
    *[
        case
        for kind in (SBNConfig, CategoricalVAEConfig)
        for case in (
            (kind, {"estimator": "mupro"}, "no estimator 'mupro'. Did you mean 'muprop'"),
            (kind, {"estimator": "muprop", "baseline": ("netwrok",)}, "no baseline 'netwrok'. Did you mean 'network'"),
            (kind, {"estimator": "muprop", "baseline": ("network", "network")}, "baseline names network 2 times"),
            (kind, {"particles": 0}, "particles"),
            (kind, {"estimator": "rloo", "normalize": True}, "normalize"),
            (kind, {"estimator": "rebar", "learn_temperature": True}, "learn_temperature"),
            *[
                (kind, {"estimator": estimator, name: value}, name)
                for estimator, name in (
                    ("gumbel-softmax", "temperature"), ("gumbel-softmax", "temperature_end"),
                    ("straight-through", "slope"), ("straight-through", "slope_end"),
                )
                for value in (0.0, -0.5, float("nan"), float("inf"))
            ],
            *[
                (kind, {"estimator": estimator, name: value}, name)
                for estimator, name in (("gumbel-softmax", "temperature_rate"), ("straight-through", "slope_rate"))
                for value in (-0.5, float("nan"), float("inf"))
            ],
        )
    ],
    *[(TrainingConfig, {name: 0}, name) for name in ("epochs", "batch_size", "learning_rate", "epsilon")],
    *[
        (TrainingConfig, {name: -1}, name)
        for name in (
            "final_learning_rate", "learning_rate_warmup", "weight_decay", "gradient_clip", "checkpoint_seconds",
            "patience", "validate_every", "threads", "seed",
        )
    ],
    *[
        (TrainingConfig, {name: value}, name)
        for name in ("beta1", "beta2", "momentum", "ema")
        for value in (-0.1, 1.0, float("nan"))
    ],
    *[(TrainingConfig, {name: "nothing"}, name) for name in ("optimizer", "schedule", "precision")],
    (TrainingConfig, {"trackers": ("nothing",)}, "tracker"),
    *[(DataConfig, {name: "nothing"}, name) for name in ("binarization", "dequantize")],
    *[(DataConfig, {name: value}, name) for name in ("validation", "test") for value in (-0.1, 1.0)],
    *[(DataConfig, {name: -1}, name) for name in ("split_seed", "train_limit", "labels")],
    *[(DataConfig, {"labels": 7, "labels_per_batch": value}, "labels_per_batch") for value in (0, 8)],
    (DataConfig, {"validation": 0.5, "test": 0.5}, "validation.*test"),
]  # fmt: skip

WITHOUT_EFFECT: list[tuple[type, dict[str, Any], str]] = [
    (VAEConfig, {"bound": "iwae", "beta": 0.5}, "beta"),
    (VAEConfig, {"bound": "iwae", "kl_warmup": 1.0}, "kl_warmup"),
    (VAEConfig, {"bound": "iwae", "free_bits": 0.1}, "free_bits"),
    (VAEConfig, {"beta": 0.0, "kl_warmup": 1.0}, "kl_warmup"),
    (VAEConfig, {"flows": 3}, "flows"),
    (VAEConfig, {"posterior": "planar", "flow_hidden": 7}, "flow_hidden"),
    (VAEConfig, {"beta": 0.0, "free_bits": 0.1}, "free_bits"),
    (VAEConfig, {"likelihood": "bernoulli", "scale": "shared"}, "scale"),
    (VAEConfig, {"likelihood": "discretized-logistic", "mean": "sigmoid"}, "mean"),
    (VAEConfig, {"channels": (3, 5)}, "channels"),
    (VAEConfig, {"network": "conv", "hidden": (11,)}, "hidden"),
    (GANConfig, {"discriminator_hidden": (), "pieces": 2}, "pieces"),
    (GANConfig, {"discriminator_hidden": (), "dropout": 0.1}, "dropout"),
    (SBNConfig, {"bound": "iwae", "estimator": "reinforce", "kl_warmup": 1.0}, "kl_warmup"),
    (SBNConfig, {"task": "structured-prediction", "kl_warmup": 1.0}, "kl_warmup"),
    *[
        (HelmholtzConfig, {"objective": objective, "particles": particles, "kl_warmup": 1.0}, "kl_warmup")
        for objective, particles in (("wake-sleep", 1), ("reweighted-wake-sleep", 3), ("iwae", 3))
    ],
    (CategoricalVAEConfig, {"bound": "iwae", "kl_warmup": 1.0}, "kl_warmup"),
    (CategoricalVAEConfig, {"likelihood": "bernoulli", "scale": "shared"}, "scale"),
    (CategoricalVAEConfig, {"encoder_hidden": (), "decoder_hidden": (), "activation": "silu"}, "activation"),
    *[
        (SBNConfig, {"estimator": estimator, name: value, **PARTICLES.get(estimator, {})}, name)
        for estimator in get_args(EstimatorName)
        for name, value in OTHERWISE.items()
        if name not in USED.get(estimator, ())
    ],
    (SBNConfig, {**GUMBEL, "temperature_end": 0.3}, "temperature_end"),
    (SBNConfig, {**GUMBEL, "temperature": 0.5, "temperature_rate": 0.1}, "temperature_rate"),
    (SBNConfig, {**GUMBEL, "learn_temperature": True, "temperature_rate": 0.1}, "temperature_rate"),
    (SBNConfig, {"estimator": "straight-through", "slope_end": 3.0}, "slope_end"),
    (SBNConfig, {"estimator": "straight-through", "slope": 5.0, "slope_rate": 0.1}, "slope_rate"),
    (TrainingConfig, {"schedule": "constant", "final_learning_rate": 1e-4}, "final_learning_rate"),
    (TrainingConfig, {"schedule": "iwae", "final_learning_rate": 1e-4}, "final_learning_rate"),
    (TrainingConfig, {"momentum": 0.5}, "momentum"),
    (TrainingConfig, {"optimizer": "sgd", "beta1": 0.5}, "beta1"),
    (TrainingConfig, {"optimizer": "rmsprop", "beta2": 0.5}, "beta2"),
    (TrainingConfig, {"optimizer": "sgd", "epsilon": 0.1}, "epsilon"),
]


@pytest.mark.parametrize(("kind", "values", "word"), REJECTED)
def test_a_value_out_of_range_is_an_error_that_names_its_field(kind: type, values: dict[str, Any], word: str) -> None:
    with pytest.raises(AncestralError, match=word):
        kind(**values)


@pytest.mark.parametrize(("kind", "values", "word"), WITHOUT_EFFECT)
def test_a_setting_without_effect_is_an_error(kind: type, values: dict[str, Any], word: str) -> None:
    with pytest.raises(AncestralError, match=f"{word}.*no effect"):
        kind(**values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        *[
            ({"estimator": name, "bound": "iwae"}, f"{name} is for a plain expectation.*vimco")
            for name in OF_EXPECTATIONS
        ],
        ({"estimator": "nvil", "bound": "iwae", "particles": 2}, "nvil divides its signal.*--estimator vimco"),
        (
            {"estimator": "reinforce", "normalize": True, "bound": "iwae", "particles": 2},
            "reinforce divides its signal.*--estimator vimco",
        ),
        ({"estimator": "rloo", "bound": "iwae", "particles": 2}, "called vimco under the iwae.*--estimator vimco"),
        ({"estimator": "vimco", "particles": 2}, "called rloo under the elbo.*--estimator rloo"),
        ({"estimator": "rloo"}, "particles is 1, but rloo compares.*--particles 2"),
        ({"estimator": "vimco", "bound": "iwae"}, "particles is 1, but vimco compares.*--particles 2"),
        ({"estimator": "disarm", "classes": 3}, "disarm is for binary.*3 classes.*--classes 2"),
    ],
)
@pytest.mark.parametrize("kind", [SBNConfig, CategoricalVAEConfig])
def test_an_estimator_that_does_not_suit_the_model_is_an_error(kind: type, values: dict[str, Any], words: str) -> None:
    with pytest.raises(AncestralError, match=words):
        kind(**{"classes": 2, **values})


@pytest.mark.parametrize("estimator", get_args(EstimatorName))
def test_every_setting_that_an_estimator_uses_can_be_changed(estimator: str) -> None:
    for name in USED.get(estimator, ()):
        besides = {"temperature_end": {"temperature_rate": 0.1}, "slope_end": {"slope_rate": 0.1}}.get(name, {})
        besides |= {"temperature_rate": {"temperature": 0.9}}.get(name, {})
        settings: dict[str, Any] = {"estimator": estimator, "classes": 2, name: OTHERWISE[name], **besides}
        for kind in (SBNConfig, CategoricalVAEConfig):
            assert getattr(kind(**settings), name) == OTHERWISE[name]


def test_the_default_epsilon_of_a_model_is_no_hindrance_to_sgd() -> None:
    for _, training in MODELS.values():
        changed = dataclasses.replace(training, optimizer="sgd", beta1=0.9)
        assert changed.epsilon == training.epsilon


def test_the_exponential_schedule_needs_an_end_above_zero() -> None:
    with pytest.raises(AncestralError, match="exponential"):
        TrainingConfig(schedule="exponential")


def test_every_field_that_can_be_wrong_is_tested() -> None:
    tested = {(kind, name) for kind, values, _ in REJECTED for name in values}
    free = {"device"}  # whether a device is there is known only when training starts
    for kind in (VAEConfig, GANConfig, SBNConfig, CategoricalVAEConfig, TrainingConfig, DataConfig):
        for field in dataclasses.fields(kind):
            yes_or_no = field.type == "bool"
            assert (kind, field.name) in tested or field.name in free or yes_or_no, f"{kind.__name__}.{field.name}"

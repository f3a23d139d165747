"""Models with discrete latent variables: every verb works with them, and their variables can be set by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ancestral import load

TINY = ("--epochs", 1, "--batch-size", 239, "--seed", 3)
SIZES: dict[str, tuple[object, ...]] = {
    "net": ("sbn", "--layers", 5, 3),
    "classes": ("sbn", "--layers", 5, 3, "--classes", 4),
    "halves": ("sbn", "--layers", 5, 3, "--task", "structured-prediction"),
    "categories": ("categorical-vae", "--latents", 3, "--classes", 5, "--encoder-hidden", 7, "--decoder-hidden", 11),
    "machine": ("helmholtz", "--layers", 5, 3),
    "bits": ("categorical-vae", "--latents", 3, "--classes", 2, "--encoder-hidden", 7, "--decoder-hidden", 11),
}
NAMES = tuple(SIZES)


@pytest.fixture(scope="session")
def discrete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs on the digits, one of each name."""
    from ancestral.cli import main

    place = tmp_path_factory.mktemp("discrete")
    for name, (model, *words) in SIZES.items():
        typed = ["train", model, "digits", *words, *TINY, "--out", place / name]
        assert main([str(word) for word in typed]) == 0
    return place


def pixels(path: Path) -> Any:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("name", NAMES)
def test_every_verb_works(command: Any, discrete: Path, name: str) -> None:
    run = discrete / name
    for verb, words in (
        ("sample", ("-n", 7, "--out", "samples.png")),
        ("sample", ("-n", 7, "--draws", "--out", "draws.npz")),
        ("reconstruct", ("-n", 5, "--out", "reconstructions.png")),
        ("reconstruct", ("-n", 5, "--draws", "--out", "reconstructions.npz")),
        ("interpolate", ("-n", 2, "--steps", 3, "--out", "walks.png")),
        ("evaluate", ("--particles", 3, "--limit", 7, "--json", "figures.json")),
        ("report", ("--particles", 3, "--limit", 17, "--out", "report.html")),
    ):
        ended = command(verb, run, *words)
        assert (ended.status, ended.err) == (0, ""), (verb, ended.err)
    for picture in ("samples.png", "reconstructions.png", "walks.png"):
        assert pixels(Path(picture)).std() > 3
    assert set(np.unique(np.load("draws.npz")["x"])) == {0, 16}  # as the digits are stored
    figures = {figure["name"]: figure for figure in json.loads(Path("figures.json").read_text())["figures"]}
    first = "log p(bottom | top)" if name == "halves" else "log p(x)"
    assert first in figures
    assert {key for key in figures if key.startswith("KL")} == (set() if name == "halves" else {
        "KL(q(z | x) || p(z))" if name in ("categories", "bits") else "KL(q(h1, h2 | x) || p(h1, h2))"
    })  # fmt: skip
    page = Path("report.html").read_text(encoding="utf-8")
    kind = {
        "sbn": "Sigmoid belief net", "helmholtz": "Helmholtz machine",
        "categorical-vae": "Variational autoencoder with discrete latent variables",
    }[str(SIZES[name][0])]  # fmt: skip
    assert kind in page
    assert "None latent dimensions" not in page
    if name == "categories":
        assert "likelihood and 3 x 5 latent dimensions" in page
    for variable in ("z",) if name in ("categories", "bits") else ("h1", "h2"):
        assert f"Map of {variable}" in page
    assert ("What each layer decides" in page) == (name not in ("categories", "bits"))
    for words in (
        "h2, h1 are drawn from p itself, given top alone", "The model is given top and has not seen bottom",
        "only bottom, which it draws, is compared",
    ):  # fmt: skip
        assert (words in page) == (name == "halves")
    walked = command("interpolate", run, "-n", 1, "--steps", 3, "--out", "walks.png").out
    assert f"{'z is' if name in ('categories', 'bits') else 'h2, h1 are'} discrete: the walks run through" in walked


def test_the_report_pairs_the_divergence_of_a_variable_with_its_activity(command: Any, discrete: Path) -> None:
    assert command("report", discrete / "categories", "--particles", 3, "--limit", 17, "--out", "r.html").status == 0
    page = Path("r.html").read_text(encoding="utf-8")
    assert len(set(re.findall(r"unit (\d+): KL", page))) in (0, 3)
    assert "of 3 units of z" in page


def test_what_training_reports_is_named_by_layer(discrete: Path) -> None:
    rows = load(discrete / "net").metrics
    assert {"loss", "reconstruction", "kl", "kl h1", "kl h2"} <= rows[0].keys()
    assert "kl" not in load(discrete / "halves").metrics[0]


# ---- variables set by hand


def test_variables_set_by_hand_shape_the_samples(command: Any, discrete: Path) -> None:
    run = discrete / "categories"
    model: Any = load(run).model
    assert command("sample", run, "-n", 1, "--given", "z=3,1,4", "--out", "one.png").status == 0
    assert command("sample", run, "-n", 1, "--given", "z=314", "--seed", 5, "--out", "again.png").status == 0
    assert command("sample", run, "-n", 1, "--given", "z=0,2,2", "--out", "other.png").status == 0
    one, again, other = (pixels(Path(f"{name}.png")) for name in ("one", "again", "other"))
    assert np.array_equal(one, again)  # of a mean, nothing is left to chance
    assert not np.array_equal(one, other)
    from ancestral.models.by_hand import set_by_hand

    mean = model.sample(1, mean=True, given=set_by_hand(model, ["z=314"], 1))
    assert abs(one[2:58, 2:58].mean() / 255 - mean.mean().item()) < 0.01


def test_several_variables_are_set_with_one_flag(command: Any, discrete: Path) -> None:
    words = ("sample", discrete / "net", "-n", 5, "--given", "h1=01101", "h2=2", "--out", "x.npz")
    assert command(*words).status == 0
    assert np.load("x.npz")["x"].shape == (5, 1, 8, 8)


def test_the_layers_of_structured_prediction_are_set_above_its_own_upper_halves(command: Any, discrete: Path) -> None:
    assert command("sample", discrete / "halves", "-n", 67, "--given", "h1=01101", "--out", "x.npz").status == 0
    x = np.load("x.npz")["x"]
    assert np.array_equal(x[:3, :, :4], x[64:, :, :4])  # 64 are kept
    assert not np.array_equal(x[:1, :, :4], x[1:2, :, :4])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("w=3",), "no variable 'w' to set. Known: z"), (("z",), "write NAME=VALUE, such as z=3"),
        (("z=3,1",), "z=3,1 has 2 classes, but 'z' takes one for each of its 3 variables"),
        (("z=3,1,5",), "'5' is no class of 'z'.*from 0 to 4"),
        (("z=a,b,c",), "'a' is no class"), (("z=0,0,0", "z=0,0,0"), "'z' is set twice"), (("x=0",), "no variable 'x'"),
    ],
)  # fmt: skip
def test_what_can_not_be_set_is_answered_with_the_cure(
    command: Any, discrete: Path, given: tuple[str, ...], words: str
) -> None:
    ended = command("sample", discrete / "categories", "--given", *given, "--out", "x.png")
    assert (ended.status, ended.out) == (1, "")
    assert re.search(words, ended.err)
    assert not Path("x.png").exists()


def test_a_game_has_no_variables_to_set(command: Any, runs: Any) -> None:
    ended = command("sample", runs.gan, "--given", "z=1", "--out", "x.png")
    assert ended.status == 1
    assert "--given has no effect: a GAN has no variables to set. Leave it out." in ended.err


def test_real_numbers_are_set_too(command: Any, runs: Any) -> None:
    assert command("sample", runs.vae, "-n", 2, "--given", "z=0.5,-1,2", "--out", "x.png").status == 0
    ended = command("sample", runs.vae, "--given", "z=0.5", "--out", "y.png")
    assert "'z' has 3: give as many" in ended.err


# ---- what can't be trained is said before any time is spent


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (("--estimator", "rloo"), "--particles 2"), (("--estimator", "disarm", "--classes", 4), "--classes 2"),
        (("--estimator", "muprop", "--bound", "iwae"), "--estimator vimco"),
        (("--estimator", "muprop", "--temperature", 0.7), "temperature is 0.7, which has no effect"),
        (("--estimator", "enumerate", "--layers", 23), "2^23 values"),
        (("--estimator", "enumerate", "--layers", 9, 8), "together 131,072"),
        (("--binarization", "none"), "--binarization dynamic"),
    ],
)  # fmt: skip
def test_settings_that_do_not_suit_each_other_are_refused(command: Any, words: tuple[object, ...], seen: str) -> None:
    ended = command("train", "sbn", "digits", *words, *TINY, "--out", "new")
    assert (ended.status, ended.out) == (1, "")
    assert seen in ended.err
    assert not Path("new").exists()


def test_a_sum_that_can_not_fit_into_memory_is_refused(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ancestral.runs.memory_bytes", lambda: 10_000_000)
    words = ("--layers", 9, "--estimator", "enumerate", *TINY, "--out", "new")
    ended = command("train", "sbn", "digits", *words)
    assert ended.status == 1
    assert "239 rows with 1 particles and 512 values of the latent variables needs more than" in ended.err
    assert "use another --estimator" in ended.err


def test_tables_have_no_halves(command: Any) -> None:
    np.save("bits.npy", np.random.default_rng(2).integers(0, 2, (53, 7), dtype=np.uint8))
    ended = command("train", "sbn", "bits.npy", "--task", "structured-prediction", "--out", "new")
    assert ended.status == 1
    assert "lower half of an image, but these data have shape (7,). Use --task generation." in ended.err


def test_layers_without_a_mean_are_shown_by_draws(command: Any, tmp_path: Path) -> None:
    words = ("--layers", 5, 3, "--layer", "darn", "--epochs", 1, "--batch-size", 719, "--out", "run")
    ended = command("train", "helmholtz", "digits", *words)
    assert (ended.status, "picture is missing" in ended.out + ended.err) == (0, False)
    assert Path("run/samples/samples-100-percent.png").exists()
    for verb, said in (("sample", "draws of x itself"), ("reconstruct", "of a draw of the latent variables")):
        assert said in command(verb, "run").out
        assert said not in command(verb, "run", "--draws").out

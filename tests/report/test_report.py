"""The report of a run, without a browser: what it holds, where that comes from, and that it is safe."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import re
import shutil
import string
import tomllib
from collections.abc import Callable
from inspect import get_annotations
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.distributions import Independent, Normal

import ancestral
from ancestral import Joint, LatentVariableModel, bernoulli, mlp, normal, standard_normal
from ancestral.cli import main
from ancestral.errors import AncestralError
from ancestral.evaluation import Figure, bounds
from ancestral.report import write_report
from ancestral.report.charts import Chart, Line, drawn, scalars_of, span, tendency, thinned, ticks
from ancestral.report.pictures import mosaic, picture
from ancestral.report.published import differences, published_for
from ancestral.report.report import dreams_help, figure_row, ladder, silent, verdict
from ancestral.report.sections import (
    LAYER_COLUMNS,
    LAYER_ROWS,
    generalization,
    latent,
    layers,
    neighbors,
    reconstructions,
    take,
    worse_than_uniform,
)
from ancestral.report.story import Story, digests_of, read_figures, read_story
from ancestral.report.words import ENGLISH, JAPANESE, Text, counted, known, say
from ancestral.runs import Run
from ancestral.training import RunFolder, health

KINDS = ("flat", "deep", "gan", "own", "color", "table", "unfinished")
HOSTILE = '<script>alert("x")</script>'
SECTIONS = ("losses", "frames", "reconstructions", "latent", "neighbors", "figures", "origin")


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def section(page: str, name: str) -> str:
    """The HTML of one section."""
    found = re.search(rf'<section id="{name}">.*?</section>', page, re.DOTALL)
    assert found is not None, name
    return found[0]


def story_of(path: Path) -> Story:
    folder = RunFolder(path)
    return read_story(folder, folder.config())


# ---- words


def test_both_languages_have_the_same_phrases_with_the_same_values() -> None:
    assert ENGLISH.keys() == JAPANESE.keys()
    for key in ENGLISH:
        english, japanese = ({name for _, name, _, _ in string.Formatter().parse(words[key]) if name}
                             for words in (ENGLISH, JAPANESE))  # fmt: skip
        assert english == japanese, key


def test_counts_agree_with_their_nouns() -> None:
    assert [counted(n, "epoch").en for n in (1, 2, 2.5, 1.01)] == ["1 epoch", "2 epochs", "2.5 epochs", "1 epoch"]
    assert counted(12345, "update") == Text("12,345 updates", "12,345 回の更新")


def test_a_phrase_within_a_phrase_is_in_the_same_language() -> None:
    whole = say("title", model=say("model_vae"), data="digits")
    assert whole.en == "variational autoencoder on digits"
    assert whole.ja == "digits を学習した変分オートエンコーダ"


# ---- every kind of run


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_one_file_that_asks_nothing_of_a_network(pages: dict[str, Path], kind: str) -> None:
    page = pages[kind].read_text(encoding="utf-8")
    assert len(page.encode()) < 2_000_000
    assert set(re.findall(r"https?://[^\s\"'<]*", page)) <= {"http://www.w3.org/2000/svg"}
    assert all(source.startswith("data:image/") for source in re.findall(r'(?:src|href)="([^"#]+)"', page)[1:])
    assert "default-src 'none'" in page
    assert "@import" not in page


@pytest.mark.parametrize("kind", KINDS)
def test_every_section_is_there_or_says_why_not_in_both_languages(pages: dict[str, Path], kind: str) -> None:
    page = pages[kind].read_text(encoding="utf-8")
    for name in SECTIONS:
        words = section(page, name)
        content = re.search(r"<svg|<img|<table|<dl>|median distance", words)
        reason = re.search(r'class="missing"><span lang="en">Not here: .+?</span><span lang="ja">.+?</span>', words)
        assert content or reason, name


def test_what_a_run_can_not_have_is_said_and_what_it_has_is_shown(pages: dict[str, Path]) -> None:
    assert "no encoder" in section(read(pages["gan"]), "reconstructions")
    assert "has no posterior" in section(read(pages["gan"]), "latent")
    assert "no density" in section(read(pages["gan"]), "figures")
    assert "generator loss" in section(read(pages["gan"]), "losses")
    assert "How often the discriminator is right" in section(read(pages["gan"]), "losses")
    assert "the discriminator was right about" in read(pages["gan"])
    assert "the data are no images" in section(read(pages["table"]), "frames")
    assert "größe" in section(read(pages["table"]), "reconstructions")
    assert 'class="manifold"' in section(read(pages["flat"]), "latent")
    assert "exactly two latent dimensions" in section(read(pages["deep"]), "latent")
    assert "unit of <span" not in section(read(pages["own"]), "latent")
    assert section(read(pages["own"]), "latent").count('class="map"') == 2
    for name in ("reconstructions", "latent", "neighbors", "figures"):
        assert "no checkpoint yet" in section(read(pages["unfinished"]), name)


def test_a_hostile_name_is_shown_and_not_run(runs: Any, tmp_path: Path) -> None:
    run = runs.copy("deep", tmp_path / f"run & {HOSTILE.replace('/', '')}")
    plain = write_report(runs.deep, tmp_path / "plain.html", limit=7, particles=1).read_text(encoding="utf-8")
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    environment["data"]["name"] = environment["data"]["note"] = environment["git"] = HOSTILE
    environment["command"] = ["ancestral", "train", "vae", HOSTILE, "--out", "</code></pre>" + HOSTILE]
    environment["versions"] = {HOSTILE: HOSTILE}
    (run / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    row = {"step": 1, "epoch": 1.0, "loss": 3.0, HOSTILE: 2.0, f"validation {HOSTILE}": 2.0, "</script>": 1.0}
    (run / "metrics.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    finding = {"check": HOSTILE, "step": 1, "epoch": 0.5, "message": HOSTILE}
    (run / "health.json").write_text(json.dumps([finding]), encoding="utf-8")
    (run / "MODEL_CARD.md").write_text(HOSTILE, encoding="utf-8")
    texts = {field.name: HOSTILE for field in dataclasses.fields(Figure) if field.type == "str"}
    figure = {"value": 1.0, "standard_error": None, "datapoints": 3, "particles": 2, "seed": 0, **texts}
    (run / "evaluation.json").write_text(json.dumps({"weights": HOSTILE, "figures": [figure]}), encoding="utf-8")
    page = write_report(run, tmp_path / "page.html", flags=HOSTILE).read_text(encoding="utf-8")
    assert page.count("alert(") > 15
    assert "<script>alert" not in page
    # the charts alone have scripts of data: loss, the two hostile ones
    assert page.count("<script") == plain.count("<script")
    assert page.count("</script") == plain.count("</script")


# ---- figures


def test_the_figures_are_those_of_the_library(runs: Any, tmp_path: Path) -> None:
    page = write_report(runs.deep, tmp_path / "page.html", particles=3, limit=17, seed=5).read_text(encoding="utf-8")
    for figure in ancestral.load(runs.deep).evaluate(3, seed=5, limit=17):
        assert figure.name.replace(">", "&gt;") in section(page, "figures")
        assert figure.digest in page
        assert (f"{figure.value:.4f}" if figure.unit in ("nats", "bits") else f"{figure.value:g}") in page
    assert "17 rows, 3 particles, best weights" in section(page, "figures")


def test_an_evaluation_that_was_made_is_used_unless_another_is_asked_for(runs: Any, tmp_path: Path) -> None:
    run = runs.copy("deep", tmp_path / "run")
    assert main(["evaluate", str(run), "--particles", "2", "--limit", "19"]) == 0
    stored = section(write_report(run).read_text(encoding="utf-8"), "figures")
    assert "From evaluation.json, best weights" in stored
    assert "2 particles from q" in stored
    again = section(write_report(run, particles=3, limit=5).read_text(encoding="utf-8"), "figures")
    assert "3 particles from q" in again
    assert "first 5 rows" in again
    assert "100 particles, last weights" in section(read(write_report(run, which="last")), "figures")


def test_an_evaluation_of_other_weights_is_left_aside_and_a_new_date_changes_nothing(runs: Any, tmp_path: Path) -> None:
    run = runs.copy("deep", tmp_path / "run")
    assert main(["evaluate", str(run), "--particles", "2", "--limit", "19"]) == 0
    newer = (run / "evaluation.json").stat().st_mtime + 10
    for which in ("last", "best"):
        os.utime(run / f"checkpoints/{which}/state.json", (newer, newer))
    assert "From evaluation.json" in section(read(write_report(run)), "figures")
    shutil.rmtree(run / "checkpoints/best")
    shutil.copytree(runs.place / "flat/checkpoints/best", run / "checkpoints/best")
    figures, weights, digest = read_figures(RunFolder(run))
    assert (len(figures), weights) == (8, "best")
    assert digest not in digests_of(RunFolder(run), "best")
    assert digest in digests_of(RunFolder(runs.deep), "best")
    shutil.rmtree(run / "checkpoints/best")
    page = section(read(write_report(run)), "figures")
    assert "evaluation.json is not of the weights that the run has now" in page
    assert "last weights" in page


@pytest.mark.parametrize("missing", ["checkpoints", "weights_digest"])
def test_an_evaluation_with_nothing_to_compare_it_with_is_shown_and_says_so(
    runs: Any, tmp_path: Path, missing: str
) -> None:
    run = runs.copy("deep", tmp_path / "run")
    assert main(["evaluate", str(run), "--particles", "2", "--limit", "19"]) == 0
    assert "can&#39;t be checked" not in section(read(write_report(run)), "figures")
    if missing == "checkpoints":
        shutil.rmtree(run / "checkpoints")
    else:
        record = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
        record.pop(missing)
        (run / "evaluation.json").write_text(json.dumps(record), encoding="utf-8")
    page = section(read(write_report(run)), "figures")
    assert "From evaluation.json, best weights. Whether these figures are of the weights that the run has now" in page
    assert "can&#39;t be checked" in page
    assert "2 particles from q" in page


def test_the_weights_before_are_those_of_an_evaluation_where_the_best_are_missing(runs: Any, tmp_path: Path) -> None:
    run = runs.copy("deep", tmp_path / "run")
    before = digests_of(RunFolder(run), "best")
    (run / "checkpoints/best").rename(run / "checkpoints/best.old")
    assert digests_of(RunFolder(run), "best") == before != []
    assert digests_of(RunFolder(run), "../last") == []


@pytest.mark.parametrize("name", ["value", "name", "datapoints", "seed"])
def test_what_a_figure_must_have_is_not_null(runs: Any, tmp_path: Path, name: str) -> None:
    run = runs.copy("deep", tmp_path / "run")
    record = {"weights": "best", "figures": [dataclasses.asdict(ESTIMATE)]}
    (run / "evaluation.json").write_text(json.dumps(record), encoding="utf-8")
    assert read_figures(RunFolder(run))[0] == [ESTIMATE]  # whose errors may be null
    record["figures"] = [dataclasses.asdict(ESTIMATE) | {name: None}]
    (run / "evaluation.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(AncestralError, match=r"is not as it was written\. Make it anew, with `ancestral evaluate`"):
        read_figures(RunFolder(run))
    assert "is not as it was written" in section(read(write_report(run)), "figures")


@pytest.mark.parametrize("content", ["{", '{"figures": [{"name": "x"}], "weights": "best"}', "[]", '"\\ud800"'])
def test_a_damaged_evaluation_is_named_with_the_cure(runs: Any, tmp_path: Path, content: str) -> None:
    run = runs.copy("deep", tmp_path / "run")
    (run / "evaluation.json").write_text(content, encoding="utf-8")
    figures = section(write_report(run).read_text(encoding="utf-8"), "figures")
    assert "evaluation.json" in figures
    assert re.search("Make it anew|Restore it", figures)


IWAE_CONFIG: dict[str, Any] = {
    "model": "vae",
    "data": "mnist",
    "settings": {
        "latent": 50, "network": "mlp", "hidden": [200, 200], "activation": "tanh", "likelihood": "bernoulli",
        "bound": "iwae", "particles": 5, "beta": 1.0, "kl_warmup": 0.0, "free_bits": 0.0,
    },
    "data_settings": {"binarization": "dynamic"},
}  # fmt: skip
ESTIMATE = Figure(
    "log p(x)", -90.0, "nats", "lower bound", "importance-weighted, 100 particles from q", 0.2, 1000, 100,
    "mnist, test, first 1000",
)  # fmt: skip


def test_a_published_figure_is_shown_with_what_differs() -> None:
    found = published_for(IWAE_CONFIG, ESTIMATE)
    assert found is not None
    assert (found.value, found.active_units) == (-85.54, 22)
    assert (found.kind, found.estimator) == ("lower bound", "importance-weighted, 5000 particles from q")
    ours = {"batch_size": 100, "optimizer": "adamax", "epsilon": 1e-8, "learning_rate": 2e-3, "schedule": "cosine"}
    texts = [text.en for text in differences(found, ESTIMATE, 20.0, ours, 57_000)]
    assert texts == [
        "published after 3,280 passes in batches of 20, this run made 20 in batches of 100",
        "published with optimizer adam, epsilon 0.0001, here optimizer adamax, epsilon 1e-08",
        "published with learning_rate 0.001, schedule iwae, here learning_rate 0.002, schedule cosine",
        "published with 60,000 training images, here 57,000",
        "published with 5,000 particles per image, here 100",
        "published on 10,000 test images, here on 1,000",
        "test images binarized by other draws",
    ]
    same = dataclasses.replace(ESTIMATE, datapoints=10_000, particles=5000)
    theirs = {"batch_size": 20, "optimizer": "adam", "epsilon": 1e-4, "learning_rate": 1e-3, "schedule": "iwae"}
    assert len(differences(found, same, 3280.0, theirs, 60_000)) == 1


def test_a_published_figure_is_shown_with_its_kind_and_estimator(runs: Any, tmp_path: Path) -> None:
    run = runs.copy("deep", tmp_path / "run")
    config = tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))
    config |= {"data": "mnist", "settings": config["settings"] | IWAE_CONFIG["settings"]}
    config["data_settings"]["binarization"] = "dynamic"
    story = dataclasses.replace(story_of(run), config=config)
    published = figure_row(story, ESTIMATE)["published"]
    assert published["words"].en == (
        "-85.54 nats, a lower bound, importance-weighted, 5000 particles from q, 22 active units "
        "(Burda et al., 2016, table 1)"
    )
    assert "下界、重点サンプリング、q からの 5000 粒子" in published["words"].ja


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        ("settings", "latent", 20), ("settings", "hidden", [200]), ("settings", "beta", 2.0),
        ("settings", "particles", 7), ("settings", "activation", "relu"), ("data_settings", "binarization", "static"),
    ],
)  # fmt: skip
def test_a_published_figure_of_another_model_is_not_shown(where: str, key: str, value: object) -> None:
    assert published_for({**IWAE_CONFIG, where: {**IWAE_CONFIG[where], key: value}}, ESTIMATE) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "ELBO"), ("data", "mnist, validation, 5"), ("kind", "estimate"), ("unit", "bits"),
        ("estimator", "annealed importance sampling, 1,000 temperatures"),
    ],
)  # fmt: skip
def test_a_published_figure_is_not_put_beside_another_quantity(field: str, value: str) -> None:
    assert published_for(IWAE_CONFIG, dataclasses.replace(ESTIMATE, **{field: value})) is None  # type: ignore[arg-type]


# ---- what the model is asked


def test_reconstructions_are_ranked_by_their_likelihood(runs: Any) -> None:
    run = ancestral.load(runs.deep)
    torch.manual_seed(7)
    found = reconstructions(run, silent)
    assert not isinstance(found, Text)
    torch.manual_seed(7)
    held, model = take(run, 500), cast("Any", run.model)
    likelihoods = []
    for begin in range(0, len(held.x), 50):
        likelihoods.append(bounds(model, held.x[begin : begin + 50], 20).log_likelihood)
    values = torch.cat(likelihoods)
    order = [f"{value:.1f} nats" for value in values.sort(descending=True).values]
    best, median, worst = ([row["words"].en for row in group["rows"]] for group in found["groups"])
    assert best == order[:5]
    assert worst == order[-5:]
    assert median == order[len(order) // 2 - 2 : len(order) // 2 + 3]


def test_the_map_of_two_dimensions_shows_the_posterior_means_as_they_are(runs: Any) -> None:
    run = ancestral.load(runs.flat)
    found = latent(run)
    assert not isinstance(found, Text)
    held = take(run, 400)
    means = run.model.encode(held.x)  # type: ignore[operator]
    points = found["variables"][0]["map"]["points"]
    places = torch.tensor([[point["x"], -point["y"]] for point in points])
    for axis in (0, 1):
        slope = torch.corrcoef(torch.stack([places[:, axis], means[:, axis].cpu()]))[0, 1]
        assert slope > 0.9999
    scale = places.std(0) / means.std(0)
    assert torch.allclose(scale[0], scale[1], rtol=0.01)
    assert [point["color"] for point in points] == held.y.tolist()  # type: ignore[union-attr]
    assert "the two dimensions of z as they are" in found["variables"][0]["map"]["about"].en


def test_the_map_of_more_dimensions_shows_principal_components_and_their_share(runs: Any) -> None:
    run = ancestral.load(runs.deep)
    found = latent(run)
    assert not isinstance(found, Text)
    means = run.model.encode(take(run, 400).x).double()  # type: ignore[operator]
    spectrum = torch.linalg.eigvalsh(torch.cov(means.T)).flip(0)
    share = 100 * (spectrum[:2].sum() / spectrum.sum()).item()
    assert f"which hold {share:.0f} % of their variance" in found["variables"][0]["map"]["about"].en
    places = torch.tensor([[point["x"], point["y"]] for point in found["variables"][0]["map"]["points"]]).double()
    cov = torch.cov(places.T)
    assert abs(cov[0, 1]) < 0.01 * cov[0, 0]
    assert torch.allclose(cov[0, 0] / cov[1, 1], spectrum[0] / spectrum[1], rtol=0.01)


def test_the_map_of_a_layer_shows_means_over_the_layers_drawn_before_it(tmp_path: Path) -> None:
    tiny: dict[str, Any] = {"epochs": 1, "batch_size": 239, "seed": 3}
    run = ancestral.train("hierarchical-vae", "digits", out=tmp_path / "run", layers=(3, 2), hidden=(7, 5), **tiny)
    found = latent(run)
    assert not isinstance(found, Text)
    first, second = ({one["name"]: one["averaged"] for one in found["variables"]}[name] for name in ("z1", "z2"))
    assert first == ""
    assert second.en == "Each is averaged over 16 draws of the variables that q draws before z2."
    assert second.ja == "どれも、q が z2 より先に抽出する変数の、16 回の抽出についての平均です。"
    x, model = take(run, 400).x, cast("Any", run.model)
    with torch.no_grad():
        draws = model.q.conditionals["z1"](x).sample((501,))
        many = model.q.conditionals["z2"](draws).mean.mean(0).double()
    off = model.posterior_means(x)["z2"] - many
    assert off.std() < 0.2 * many.std() + 0.15
    assert off.mean().abs() < 0.03
    flat = section(read(write_report(run.path, particles=2, limit=7)), "latent")
    assert "mutual information of x and z1: " in flat
    assert "mutual information of z1 and z2: " in flat
    assert "z1 と z2 の相互情報量：" in flat


def test_the_posterior_of_a_flow_is_mapped_by_its_draws(tmp_path: Path) -> None:
    tiny: dict[str, Any] = {"epochs": 1, "batch_size": 239, "seed": 3, "latent": 2, "hidden": (7,)}
    run = ancestral.train("vae", "digits", out=tmp_path / "run", posterior="planar", flows=2, **tiny)
    found = latent(run)
    assert not isinstance(found, Text)
    assert found["variables"][0]["averaged"].en == "Each is averaged over 128 draws."
    page = read(write_report(run.path, particles=2, limit=7))
    assert "right the mean of p(x | z) at a draw of q(z | x)" in page
    assert "右が q(z | x) から引いた値における p(x | z) の平均です" in page


def test_pictures_of_a_helmholtz_machine_are_its_dreams(runs: Any, tmp_path: Path) -> None:
    tiny: dict[str, Any] = {"epochs": 1, "batch_size": 239, "seed": 3}
    run = ancestral.train("helmholtz", "digits", out=tmp_path / "run", layers=(5, 3), **tiny)
    dreams = section(read(write_report(run.path, particles=2, limit=7)), "frames")
    others = section(read(write_report(runs.flat, tmp_path / "flat.html", particles=2, limit=7)), "frames")
    for words in ("Dreams over training", "学習中の夢", "drawn from p from the top layer down"):
        assert words in dreams
        assert words not in others
    assert "Samples" not in dreams
    assert "Samples over training" in others
    assert "q learns in the sleep phase" in dreams
    assert "睡眠フェーズ" in dreams


@pytest.mark.parametrize(
    ("objective", "q_phase", "sleeps"),
    [
        ("wake-sleep", "wake", True), ("reweighted-wake-sleep", "wake", False),
        ("reweighted-wake-sleep", "sleep", True), ("reweighted-wake-sleep", "both", True),
        ("elbo", "wake", False), ("iwae", "wake", False),
    ],
)  # fmt: skip
def test_only_a_machine_that_sleeps_learns_from_its_dreams(
    runs: Any, objective: str, q_phase: str, sleeps: bool
) -> None:
    story = story_of(runs.flat)
    settings = {"objective": objective, "q_phase": q_phase}
    words = dreams_help(dataclasses.replace(story, config={**story.config, "model": "helmholtz", "settings": settings}))
    assert ("q learns in the sleep phase" in words.en) == ("睡眠フェーズ" in words.ja) == sleeps


def test_a_layer_stays_along_a_row_and_those_below_it_do_not(tmp_path: Path) -> None:
    torch.manual_seed(5)
    image = (1, 8, 8)
    p = Joint({
        "c": standard_normal(2),
        "b | c": lambda c: Independent(Normal(c, 1.0), 1),
        "a | b": lambda b: Independent(Normal(b, 1e-6), 1),  # as good as certain, given b
        "x | a": bernoulli(mlp(2, 5, image), event_dims=3),
    })  # fmt: skip
    for weights in p.networks["x"].parameters():
        nn.init.normal_(weights)
    q = Joint({"a | x": normal(mlp(image, 4)), "b | a": normal(mlp(2, 4)), "c | b": normal(mlp(2, 4))})
    run = ancestral.train(LatentVariableModel(p, q), "digits", out=tmp_path, epochs=1, batch_size=1439, seed=3)
    found = layers(run)
    assert not isinstance(found, Text)
    assert [one["about"].en.partition(", and")[0] for one in found] == [
        "Each row has one draw of c, which stays", "Each row has one draw of c, b, which stays"
    ]  # fmt: skip
    drawn_anew, the_same = (tiles_of(one["picture"]) for one in found)
    assert (drawn_anew[:, 1:] - drawn_anew[:, :1]).std() > 30
    assert np.abs(the_same[:, 1:] - the_same[:, :1]).max() <= 1
    assert the_same[:, 0].std(0).mean() > 10


def tiles_of(address: str) -> np.ndarray[Any, Any]:
    """The grey levels of the tiles of a picture of layers, ``[rows, columns, height, width]``."""
    kind, content = address.split(";base64,")
    assert kind == "data:image/png"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))), float)
    height, width = pixels.shape[0] // LAYER_ROWS, pixels.shape[1] // LAYER_COLUMNS
    return pixels.reshape(LAYER_ROWS, height, LAYER_COLUMNS, width).swapaxes(1, 2)


def test_the_units_divergences_are_sorted_and_sum_to_that_of_the_evaluation(runs: Any) -> None:
    run = ancestral.load(runs.deep)
    found = latent(run)
    assert not isinstance(found, Text)
    bars = found["variables"][0]["units"]["bars"]
    values = [float(bar["kl"]) for bar in bars]
    assert values == sorted(values, reverse=True)
    assert sorted(bar["unit"] for bar in bars) == [1, 2, 3, 4, 5]
    kl = next(figure for figure in run.evaluate(50) if figure.name.startswith("KL"))
    assert abs(sum(values) - kl.value) < 5 * (kl.standard_error or 0) + 0.01


def test_the_nearest_training_rows_are_beside_the_samples(runs: Any) -> None:
    found = neighbors(ancestral.load(runs.deep))
    assert not isinstance(found, Text)
    assert len(found["rows"]) == 16
    assert all(len(row["pair"]) == 2 for row in found["rows"])
    assert "median distance to the nearest training row" in found["about"].en


class Resampled(nn.Module):
    """Draws that are given rows, one after another."""

    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        self.rows = rows

    def sample(self, n: int, *, mean: bool = False) -> torch.Tensor:
        return self.rows[torch.arange(n) % len(self.rows)]


def wrong_with(runs: Any, draws: Callable[[ancestral.data.Dataset], torch.Tensor]) -> dict[str, Text]:
    """What the section of neighbors finds wrong with draws."""
    run = ancestral.load(runs.gan)
    model = Resampled(draws(run.data))
    found = neighbors(Run(run.folder, model, run.config, "last", run.data))
    assert not isinstance(found, Text)
    return cast("dict[str, Text]", found["wrong"])


def test_draws_like_new_data_are_not_faulted(runs: Any) -> None:
    assert wrong_with(runs, lambda data: data.rows("test", range(100, 200))) == {}


def test_draws_that_repeat_training_rows_are_near(runs: Any) -> None:
    assert list(wrong_with(runs, lambda data: data.rows("train", range(100)))) == ["near"]


def test_draws_that_are_nearly_one_picture_are_alike(runs: Any) -> None:
    torch.manual_seed(3)
    wrong = wrong_with(runs, lambda data: data.rows("test", [5] * 95 + [6] * 5) + 0.01 * torch.rand(100, 1, 8, 8))
    assert list(wrong) == ["alike"]
    assert re.search(r"two of them are 0\.\d+ apart, two rows of the data [23]\.\d+ ", wrong["alike"].en)


def test_draws_that_are_noise_are_far_off_the_data(runs: Any) -> None:
    torch.manual_seed(3)
    assert list(wrong_with(runs, lambda _: torch.rand(100, 1, 8, 8))) == ["far"]


def test_no_distance_clears_a_model(pages: dict[str, Path]) -> None:
    for kind in ("deep", "gan", "table"):
        words = section(read(pages[kind]), "neighbors")
        assert "does not repeat" not in words
        assert "distances alone clear no model" in words


@pytest.mark.parametrize(
    ("kind", "levels", "bits", "nats"),
    [("levels", 17, 4.1, "-181.3"), ("binary", 17, 1.01, "-44.36"), ("continuous", 256, 8.1, "0")],
)
def test_a_bound_below_a_uniform_guess_is_wrong(kind: str, levels: int, bits: float, nats: str) -> None:
    description = {"kind": kind, "levels": levels, "shape": [1, 8, 8]}
    figure = dataclasses.replace(ESTIMATE, name="bits per dimension", unit="bits", value=bits)
    wrong = worse_than_uniform([ESTIMATE, figure], description)
    assert f"would give {nats} nats" in wrong["uniform"].en
    assert worse_than_uniform([dataclasses.replace(figure, value=bits - 0.2)], description) == {}
    assert worse_than_uniform([ESTIMATE], description) == {}


# ---- the verdict


def verdict_of(page: str) -> str:
    found = re.search(r'<section class="verdict (\w+)".*?</section>', page, re.DOTALL)
    assert found is not None
    return found[0]


def test_the_verdict_of_a_run_without_weights_is_to_resume_it(pages: dict[str, Path], runs: Any) -> None:
    words = verdict_of(read(pages["unfinished"]))
    assert 'class="verdict bad"' in words
    assert "It has not come to its first checkpoint." in words
    assert f"ancestral resume {runs.unfinished}" in words


def test_the_verdict_of_a_run_without_validation_says_so(pages: dict[str, Path]) -> None:
    assert "No rows were held out for validation" in verdict_of(read(pages["table"]))
    assert "A game has no validation loss" in verdict_of(read(pages["gan"]))
    assert "No rows were held out" not in verdict_of(read(pages["deep"]))


def with_validation(run: Path, losses: list[float], finished: str | None = None) -> None:
    """Rewrite what a run's files tell of its training."""
    rows = [{"step": i + 1, "epoch": i + 1.0, "loss": 3.0, "validation loss": loss} for i, loss in enumerate(losses)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (run / "health.json").unlink(missing_ok=True)
    if finished is not None:
        place = run / "checkpoints/last/state.json"
        state = json.loads(place.read_text(encoding="utf-8"))
        place.write_text(json.dumps({**state, "finished": finished}), encoding="utf-8")


FALLING = [50 - 10 * i**0.5 for i in range(30)]
RISING = [50 - 0.5 * i for i in range(20)] + [40 + 0.5 * i for i in range(20)]
FLAT = [40 + 10 * 2.0**-i + 0.01 * (-1) ** i for i in range(30)]


def test_where_a_validation_loss_was_going() -> None:
    def of(values: list[float]) -> str:
        return tendency([(float(i), value) for i, value in enumerate(values)])

    noisy = (40 + torch.randn(40, generator=torch.Generator().manual_seed(7))).tolist()
    assert of(RISING) == "rising"
    assert of(FALLING) == "falling"
    assert of(FLAT) == "flat"
    assert of(noisy) == "flat"
    assert of([3.0, 2.0, 1.0]) == "short"


def test_the_verdict_says_that_validation_rose_and_which_weights_are_used(runs: Any, tmp_path: Path) -> None:
    run = runs.copy("deep", tmp_path / "run")
    with_validation(run, RISING, "stopped early at epoch 40: 7 validations without improvement on the best")
    page = write_report(run, particles=1, limit=3).read_text(encoding="utf-8")
    words = verdict_of(page)
    assert "The best validation loss is 40 nats, at epoch 21." in words
    assert "After that validation rose, to 49.5 nats" in words
    assert "7 validations in a row brought no improvement" in words
    assert "7 回の検証が続けて改善しなかった" in words
    assert "stopped early</text>" in section(page, "losses")
    assert "best validation, 40</text>" in section(page, "losses")


def test_a_run_that_was_still_falling_is_told_the_command_with_more_epochs(runs: Any, tmp_path: Path) -> None:
    run = runs.copy("deep", tmp_path / "run")
    with_validation(run, FALLING)
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    environment["command"] = [
        "/bin/ancestral",
        "train",
        "vae",
        "digits",
        "--epochs",
        "3",
        "--out=runs/a",
        "--latent",
        "5",
    ]
    (run / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    page = write_report(run, particles=1, limit=3).read_text(encoding="utf-8")
    assert "<code>ancestral train vae digits --latent 5 --epochs 6</code>" in verdict_of(page)
    assert "<code>ancestral train vae digits --epochs 3 --out=runs/a --latent 5</code>" in section(page, "origin")


def test_a_run_of_few_validations_is_not_called_done(pages: dict[str, Path]) -> None:
    words = verdict_of(read(pages["deep"]))
    assert 'class="verdict care"' in words
    assert "There are too few validations to say where it was going." in words


def test_what_training_noticed_lowers_the_verdict(runs: Any, tmp_path: Path) -> None:
    run = runs.copy("deep", tmp_path / "run")
    with_validation(run, FLAT)
    calm = verdict_of(write_report(run, particles=1, limit=3).read_text(encoding="utf-8"))
    assert 'class="verdict good"' in calm
    finding = {"check": "leaked_rows", "step": 7, "epoch": 2.0, "message": "use --patience 5"}
    (run / "health.json").write_text(json.dumps([finding]), encoding="utf-8")
    page = write_report(run, particles=1, limit=3).read_text(encoding="utf-8")
    assert 'class="verdict care"' in verdict_of(page)
    assert "use --patience 5" in section(page, "findings")


def test_a_collapsed_posterior_is_not_to_be_used(runs: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ancestral.train("vae", "digits", latent=2, hidden=(5,), beta=1e4, epochs=20, out=out, learning_rate=0.01)
    page = write_report(out, particles=1, limit=3).read_text(encoding="utf-8")
    assert 'class="verdict bad"' in verdict_of(page)
    assert "0 of 2 units of z are active" in verdict_of(page)


OVERFITTED = {"check": "overfitting", "step": 7, "epoch": 30.0, "message": "give --patience 5"}
TYPED = ["/bin/ancestral", "train", "vae", "digits", "--epochs", "40", "--out", "runs/a"]


def told(run: Path, validation: list[float], *findings: dict[str, Any]) -> tuple[Story, dict[str, Any]]:
    """A run's story and its verdict in words, after a validation loss and what training noticed."""
    with_validation(run, validation)
    (run / "health.json").write_text(json.dumps(findings), encoding="utf-8")
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    (run / "environment.json").write_text(json.dumps({**environment, "command": TYPED}), encoding="utf-8")
    story = story_of(run)
    return story, verdict(story, ancestral.load(run), say("latent_game"), say("no_figures"), {}, "here")


def test_a_finding_overrides_what_the_last_validations_suggest(runs: Any, tmp_path: Path) -> None:
    run = runs.copy("deep", tmp_path / "run")
    words = told(run, FALLING)[1]
    assert "longer training would help" in words["words"].en
    assert "--epochs" in words["next"]
    words = told(run, FALLING, {**OVERFITTED, "check": "leaked_rows"})[1]
    assert "longer training would help" not in words["words"].en
    assert "--epochs" not in words["next"]
    words = told(run, FLAT, OVERFITTED)[1]
    assert "the last weights are overfitted" in words["words"].en
    assert words["next"] == "ancestral train vae digits --epochs 40 --patience 5"


def test_a_finding_that_training_has_withdrawn_is_qualified_and_no_other(runs: Any, tmp_path: Path) -> None:
    run = runs.copy("deep", tmp_path / "run")
    words = told(run, FLAT, {**OVERFITTED, "epoch": 2.0, "withdrawn": 3.0})[1]
    assert words["level"] == "good"
    assert "What looked wrong on the way no longer holds" in words["words"].en
    later = section(read(write_report(run, particles=1, limit=3)), "findings")
    assert "Training withdrew this at epoch 3: it no longer holds." in later
    for losses, epoch in ((RISING, 30.0), (FLAT, 2.0)):
        assert "no longer holds" not in told(run, losses, {**OVERFITTED, "epoch": epoch})[1]["words"].en


def test_a_model_that_knows_its_training_rows_by_heart_is_not_to_be_used(runs: Any, tmp_path: Path) -> None:
    run = ancestral.load(runs.memorized)
    found = generalization(run)
    assert not isinstance(found, Text)
    assert "memorized" in found["wrong"]
    assert generalization(ancestral.load(runs.flat))["wrong"] == {}  # type: ignore[index]
    page = read(write_report(runs.memorized, tmp_path / "page.html", particles=2, limit=19))
    words = verdict_of(page)
    assert 'class="verdict bad"' in words
    assert "less likely under it than 95 % of 11 rows of the training data" in words
    assert "A uniform guess over the 17 levels of each value would give -181.3 nats" in words
    assert "The median log p(x) is" in section(page, "neighbors")


@pytest.mark.parametrize(
    ("name", "level", "phrase"),
    [("alike", "bad", "mode has collapsed"), ("far", "care", "unlike the data"), ("near", "bad", "may be repeating")],
)
def test_what_is_wrong_with_the_samples_is_in_the_verdict(runs: Any, name: str, level: str, phrase: str) -> None:
    values = dict.fromkeys(("samples", "data", "held"), "3")
    wrong = {name: say(name, **values)}
    words = verdict(story_of(runs.gan), ancestral.load(runs.gan), say("latent_game"), say("no_figures"), wrong, "here")
    assert words["level"] == level
    assert phrase in words["trust"].en
    assert wrong[name].en in words["words"].en


def test_a_game_that_has_collapsed_is_advised_to_go_on(runs: Any, tmp_path: Path) -> None:
    run = runs.copy("gan", tmp_path / "run")
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    typed = ["/bin/ancestral", "train", "gan", "digits", "--out", "runs/a"]
    (run / "environment.json").write_text(json.dumps({**environment, "command": typed}), encoding="utf-8")
    story, wrong = story_of(run), {"alike": say("alike", samples="1", data="3")}
    words = verdict(story, ancestral.load(run), say("latent_game"), say("no_figures"), wrong, "here")
    assert words["next"] == f"ancestral train gan digits --epochs {3 * story.planned:g}"


def test_the_verdict_says_what_is_to_be_known_of_the_data(runs: Any) -> None:
    note = "a video, split in blocks of adjoining frames: neighbors are near copies, so that the standard error of an "
    note += "average over frames is too small"
    figure = dataclasses.replace(ESTIMATE, data=f"frey-faces, test, 7 rows, binarization none ({note})")
    figures = {"figures": [figure], "stored": True}
    words = verdict(story_of(runs.deep), ancestral.load(runs.deep), say("latent_game"), figures, {}, "here")["words"]
    assert f"± 0.20 nats (100 particles). Of the data: {note}." in words.en
    assert "標準誤差は小さすぎます" in words.ja


# ---- in Japanese


def test_what_figures_are_called_is_translated() -> None:
    assert known("active units of z").ja == "z の活性ユニット数"
    assert known("mean over 20 draws from q").ja == "q から抽出した 20 個についての平均"
    data = "digits, test, first 17 rows, binarization dynamic, standardized columns (the first 7 images only)"
    assert known(data).ja == "digits、テスト、最初の 17 行、動的な二値化、列ごとに標準化（the first 7 images only）"
    assert known(data).en == data
    path = "/tmp/a, test (b)/c.csv, validation, 7 rows, dequantized"
    assert known(path).ja == "/tmp/a, test (b)/c.csv、検証、7 行、逆量子化"
    assert known("log p(x)") == Text("log p(x)", "log p(x)")


def test_every_word_of_an_evaluation_has_its_japanese(runs: Any) -> None:
    for kind in ("flat", "table"):
        for figure in ancestral.load(runs.place / kind).evaluate(2, limit=5):
            for words in (figure.estimator, figure.data, figure.unit):
                left = known(words).ja.replace(str(runs.place / "table.csv"), "").replace("digits", "")
                assert not re.search("[a-z]{2,}", left), words
            assert f"kind_{figure.kind}" in JAPANESE


def test_every_health_check_has_a_headline() -> None:
    checks = [
        name for name, value in vars(health).items()
        if callable(value) and not name.startswith("_") and get_annotations(value).get("return") == "str | None"
    ]  # fmt: skip
    assert len(checks) > 8
    assert {f"check_{name}" for name in [*checks, "not_finite"]} <= ENGLISH.keys()


def test_a_message_in_english_alone_is_marked_as_such(runs: Any, tmp_path: Path) -> None:
    run = runs.copy("deep", tmp_path / "run")
    (run / "health.json").write_text(json.dumps([OVERFITTED]), encoding="utf-8")
    (run / "samples/samples-000-percent.png").write_bytes(b"")
    page = read(write_report(run, particles=1, limit=3))
    assert '<span lang="ja">過学習</span>' in section(page, "findings")
    assert "give --patience 5（英語）" in section(page, "findings")
    assert re.search("Remove it.（英語）</span>", section(page, "frames"))


# ---- charts


def test_the_first_rows_do_not_flatten_the_chart() -> None:
    points = [(0.1, 900.0), *((float(i), 100.0 + i / 100) for i in range(1, 101))]
    assert span(points)[1] < 102
    assert span(points, whole=True) == (100.01, 900.0)


def test_what_is_no_number_is_left_out_of_the_charts() -> None:
    rows: list[dict[str, Any]] = [
        {"epoch": 1, "loss": 2.0, "kl": float("nan"), "words": "x", "flag": True, "huge": 10**400, "step": 3},
        {"epoch": None, "loss": 7.0},
        {"loss": 9.0},
        {"epoch": 2, "loss": float("inf")},
    ]
    assert scalars_of(rows) == {"loss": [(1.0, 2.0)]}
    assert len(scalars_of([{"epoch": 1, **{f"name {i}": 1.0 for i in range(1000)}}])) == 24


def test_a_long_line_is_thinned_and_keeps_its_ends() -> None:
    points = [(float(i), float(-i)) for i in range(12345)]
    assert len(thinned(points)) == 400
    assert (thinned(points)[0], thinned(points)[-1]) == (points[0], points[-1])


def test_ticks_are_round_numbers_within_the_range() -> None:
    assert ticks(0, 97) == [0, 20, 40, 60, 80]
    assert ticks(-0.31, 0.31) == pytest.approx([-0.2, 0, 0.2])
    assert ticks(5, 5) == [5]


def test_one_row_of_metrics_makes_a_chart() -> None:
    chart = drawn(Chart(Text("a", "b"), [Line("loss", [(0.0, 0.0)], 0)]))
    assert "nan" not in json.dumps(chart["numbers"] | {"ticks": chart["y_ticks"], "path": chart["lines"][0]["path"]})


# ---- pictures


def test_a_picture_never_takes_more_than_it_may() -> None:
    noise = torch.rand(64, 3, 91, 91, generator=torch.Generator().manual_seed(2))
    for most in (200, 5_000, 28_000):
        assert len(picture(mosaic(noise, 8), most)) <= most * 4 / 3 + 30
    exact = picture(mosaic(torch.zeros(1, 1, 8, 8), 1), 5000)
    assert exact.startswith("data:image/png")


def test_columns_reconstructed_from_draws_are_said_to_be(runs: Any, pages: dict[str, Path], tmp_path: Path) -> None:
    """The mean of a posterior with flows is not known."""
    data, words = str(runs.place / "table.csv"), "whose mean is not known in closed form"
    ancestral.train(
        "vae", data, out=tmp_path / "run", latent=3, hidden=(5,), posterior="planar", flows=2, epochs=2, validation=0.0
    )
    page = write_report(tmp_path / "run", particles=3, limit=17)
    assert words in section(read(page), "reconstructions")
    assert words not in section(read(pages["table"]), "reconstructions")


def test_a_mosaic_has_its_images_row_by_row() -> None:
    images = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 1, 2, 3) / 5
    whole = np.asarray(mosaic(images, 4))
    assert whole.shape == (4, 12)
    assert whole[0, ::3].tolist() == [0, 51, 102, 153]
    assert whole[2, ::3].tolist() == [204, 255, 0, 0]


def test_a_picture_that_is_none_is_named(runs: Any, tmp_path: Path) -> None:
    run = runs.copy("deep", tmp_path / "run")
    (run / "samples/samples-000-percent.png").write_bytes(b"<svg onload=alert(1)>")
    frames = section(write_report(run, particles=1, limit=3).read_text(encoding="utf-8"), "frames")
    assert "can&#39;t read the picture" in frames
    Image.new("L", (9001, 9001)).save(run / "samples/samples-000-percent.png")
    frames = section(write_report(run, particles=1, limit=3).read_text(encoding="utf-8"), "frames")
    assert "9001 x 9001 pixels, too many" in frames


@pytest.mark.skipif(os.name == "nt", reason="links need rights")
def test_a_picture_that_is_a_link_keeps_no_other_section_from_the_page(runs: Any, tmp_path: Path) -> None:
    run = runs.copy("deep", tmp_path / "run")
    (tmp_path / "private.png").write_bytes((run / "samples/samples-100-percent.png").read_bytes())
    (run / "samples/samples-000-percent.png").unlink()
    (run / "samples/samples-000-percent.png").symlink_to(tmp_path / "private.png")
    page = read(write_report(run, particles=1, limit=3))
    assert "samples-000-percent.png is a link, or no file. Remove it." in section(page, "frames")
    assert "<img" not in section(page, "frames")
    for name in ("losses", "reconstructions", "latent", "neighbors", "figures", "origin"):
        assert "Not here: can" not in section(page, name)
        assert re.search("<svg|<img|<table|<dl>", section(page, name))


# ---- errors, and the command


def test_files_that_are_too_large_are_refused(runs: Any, tmp_path: Path) -> None:
    run = runs.copy("deep", tmp_path / "run")
    with (run / "metrics.jsonl").open("r+b") as file:
        file.truncate(2**26 + 1)
    with pytest.raises(AncestralError, match=r"metrics.jsonl is larger than"):
        write_report(run)
    run = runs.copy("deep", tmp_path / "other")
    with (run / "health.json").open("wb") as file:
        file.truncate(2**22 + 1)
    with pytest.raises(AncestralError, match=r"health.json is larger than"):
        write_report(run)


@pytest.mark.parametrize(
    ("settings", "seen"),
    [
        ({"particles": 0}, "particles is 0.*--particles"),
        ({"limit": -1}, "limit is -1.*--limit"),
        ({"language": "fr"}, "no language 'fr'"),
        ({"out": "page.pdf"}, r"ending '\.pdf'.*--out FILE.html"),
    ],
)
def test_a_wrong_setting_is_named_with_the_cure(runs: Any, settings: dict[str, Any], seen: str) -> None:
    with pytest.raises(AncestralError, match=seen):
        write_report(runs.unfinished, **settings)
    assert not (runs.unfinished / "report.html").exists()


def test_a_place_that_can_not_be_written_is_named(runs: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AncestralError, match=r"can't write .* Give another --out"):
        write_report(runs.unfinished, tmp_path / "file/page.html")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(AncestralError, match="is a folder"):
        write_report(runs.unfinished, tmp_path / "folder.html")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AncestralError, match="no run folder"):
        write_report(tmp_path)


def test_a_checkpoint_that_is_asked_for_and_absent_is_an_error(runs: Any) -> None:
    with pytest.raises(AncestralError, match="no checkpoint 'best'"):
        write_report(runs.unfinished, which="best")


def test_the_random_stream_outside_is_left_as_it_was(runs: Any, tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = write_report(runs.deep, tmp_path / "a.html", particles=1, limit=3).read_text(encoding="utf-8")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    second = write_report(runs.deep, tmp_path / "b.html", particles=1, limit=3).read_text(encoding="utf-8")
    assert re.sub(r"\d+ (s|秒)\b", "", first) == re.sub(r"\d+ (s|秒)\b", "", second)


def test_the_command_says_where_the_page_is(runs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs.copy("deep", tmp_path / "run")
    assert main(["report", str(run), "--particles", "1", "--limit", "3", "--language", "ja"]) == 0
    page = run / "report.html"
    assert f"page:  {page}  ({page.stat().st_size / 1000:,.0f} kB" in capsys.readouterr().out
    assert '<html lang="ja"' in page.read_text(encoding="utf-8")
    assert main(["report", str(runs.own)]) == 1
    assert "--model FILE.py:NAME" in capsys.readouterr().err
    assert main(["report", str(run), "--seed", "-1"]) == 1
    assert "seed is -1" in capsys.readouterr().err


def test_the_ladder_of_likelihoods_is_from_the_lowest_up_on_one_scale() -> None:
    def figure(
        name: str, value: float, error: float | None, kind: str = "lower bound", unit: str = "nats",
        monte_carlo: float | None = None,
    ) -> Figure:  # fmt: skip
        return Figure(name, value, unit, kind, f"by {name}", error, monte_carlo_error=monte_carlo)

    figures = [
        figure("log p(x)", -80.0, 97.0, monte_carlo=3.0),
        figure("bits per dimension", 0.1, 0.01, unit="bits"),
        figure("ELBO", -90.0, 2.0),
        figure("KL(q(z | x) || p(z))", 25.0, 1.0, "part of a bound"),
        figure("log p(x)", -72.0, 2.0, "exact", monte_carlo=5.0),
        figure("log p(x)", float("nan"), 2.0),
    ]
    found = ladder(figures)
    assert found is not None
    rungs = found["rungs"]
    assert [(rung["value"], rung["error"]) for rung in rungs] == [
        ("-90.0000", ""), ("-80.0000", "± 3.0000"), ("-72.0000", "± 5.0000")
    ]  # fmt: skip
    assert [rung["at"] for rung in rungs] == [pytest.approx(100 * part / 23, abs=0.01) for part in (0, 10, 18)]
    assert [rung["reach"] for rung in rungs] == [pytest.approx(100 * part / 23, abs=0.01) for part in (0, 3, 5)]
    assert "The standard error over the rows, up to 97.0000 nats" in found["about"].en  # once, for all of them
    assert ladder(figures[:4]) is None  # one way to log p(x) alone


def test_the_ladder_of_a_page_shows_where_estimates_agree(runs: Any, tmp_path: Path) -> None:
    run = runs.copy("flat", tmp_path / "run")
    asked = ["--likelihood", "iwae", "ais", "--particles", "2", "--limit", "7", "--chains", "3", "--temperatures", "5"]
    assert main(["evaluate", str(run), *asked]) == 0
    page = section(read(write_report(run)), "figures")
    rungs = [one for one in read_figures(RunFolder(run))[0] if one.name in ("log p(x)", "ELBO")]
    rungs.sort(key=lambda one: one.value)
    assert any(one.monte_carlo_error is not None for one in rungs)
    bands = [(float(left), float(right)) for left, right in re.findall(r'reach" x1="([\d.]+)" x2="([\d.]+)"', page)]
    assert len(bands) == len(rungs) == 3
    scale = 100 / (max(map(upper, rungs)) - min(map(lower, rungs)))
    for one, (left, right) in zip(rungs, bands, strict=True):
        assert right - left == pytest.approx(scale * (upper(one) - lower(one)), abs=0.05)
        if one.monte_carlo_error is not None:
            assert f"{one.value:.4f} ± {one.monte_carlo_error:.4f}</p>" in page
    assert (min(min(bands)), max(map(max, bands))) == pytest.approx((2, 102), abs=0.05)  # the axis is used to its ends


def lower(figure: Figure) -> float:
    return figure.value - (figure.monte_carlo_error or 0)


def upper(figure: Figure) -> float:
    return figure.value + (figure.monte_carlo_error or 0)

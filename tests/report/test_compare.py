"""Runs side by side: figures share a table only where they can be compared."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

import ancestral
from ancestral.cli import main
from ancestral.errors import AncestralError
from ancestral.evaluation import Figure
from ancestral.report import write_comparison
from ancestral.report.compare import Compared, Comparison, comparable, differing, meaning, table_of
from ancestral.report.story import Story, read_story
from ancestral.training import RunFolder

FIGURE = Figure(
    "log p(x)", -23.0, "nats", "lower bound", "importance-weighted, 3 particles from q", 0.5, 17, 3,
    "digits, test, 17 rows", "a1" * 32, 0, "Bernoulli",
)  # fmt: skip


def story(path: Path) -> Story:
    folder = RunFolder(path)
    return read_story(folder, folder.config())


def compared(runs: Any, label: str, *figures: Figure) -> Compared:
    return Compared(label, story(runs.deep), list(figures), None)


def labels(groups: list[list[Compared]]) -> list[list[str]]:
    return [[run.label for run in group] for group in groups]


def read(comparison: Comparison) -> str:
    return comparison.path.read_text(encoding="utf-8")


def section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}">.*?</section>', page, re.DOTALL)
    assert found is not None
    return found[0]


def test_runs_evaluated_alike_stand_in_one_table(runs: Any, tmp_path: Path) -> None:
    comparison = write_comparison([runs.flat, runs.deep], tmp_path / "c.html", particles=3, limit=17)
    assert labels(comparison.groups) == [[str(runs.flat), str(runs.deep)]]
    assert comparison.reasons == []
    figures = section(read(comparison), "figures")
    assert figures.count('<table class="figures">') == 1
    for place in (runs.flat, runs.deep):
        for figure in ancestral.load(place).evaluate(3, limit=17)[:2]:
            assert f"{figure.value:.4f}" in figures
    assert "2 of 2" in " ".join(figures.split()) or "of 2" in figures


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("name", "log p(bottom | top)", "what is measured: log p(x) / log p(bottom | top)"),
        ("digest", "b2" * 32, "the rows themselves (SHA-256): a1a1a1a1a1a1 / b2b2b2b2b2b2"),
        ("data", "digits, test, 17 rows, binarization static", "data and their preparation: digits, test, 17 rows / "),
        ("likelihood", "Normal", "likelihood: Bernoulli / Normal"),
        ("particles", 5000, "particles: 3 / 5000"),
        ("datapoints", 18, "number of rows: 17 / 18"),
    ],
)
def test_what_can_not_be_compared_is_apart_and_says_why(runs: Any, field: str, value: Any, reason: str) -> None:
    other = dataclasses.replace(FIGURE, **{field: value})
    groups, reasons = comparable([compared(runs, "a", FIGURE), compared(runs, "b", other), compared(runs, "c", FIGURE)])
    assert labels(groups) == [["a", "c"], ["b"]]
    assert len(reasons) == 1
    assert reason in reasons[0].en


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", "log p(x, y)"), ("unit", "bits"), ("kind", "upper bound"), ("estimator", "annealed importance sampling")],
)
def test_another_quantity_has_a_line_of_its_own(runs: Any, field: str, value: Any) -> None:
    other = dataclasses.replace(FIGURE, **{field: value})
    table = table_of([compared(runs, "a", FIGURE), compared(runs, "b", other)])
    assert table == [[FIGURE, None], [None, other]]


def test_active_units_of_models_of_other_sizes_share_a_line(runs: Any) -> None:
    two, eight = (
        dataclasses.replace(FIGURE, name="active units of z", value=n, unit=f"of {n}", kind="exact") for n in (2, 8)
    )
    assert table_of([compared(runs, "a", two), compared(runs, "b", eight)]) == [[two, eight]]


def test_stored_evaluations_with_other_particles_are_apart_until_all_are_made_anew(
    runs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = runs.copy("flat", tmp_path / "a"), runs.copy("deep", tmp_path / "b")
    assert main(["evaluate", str(first), "--particles", "2", "--limit", "11"]) == 0
    assert main(["evaluate", str(second), "--particles", "3", "--limit", "11"]) == 0
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(["compare", str(first), str(second)]) == 0
    out = capsys.readouterr().out
    assert "these can't be compared with one another: particles: 2 / 3" in out
    assert "page:  compare.html" in out
    figure = r"^log p\(x\) +lower bound +-[\d.]+ ± [\d.]+ nats +importance-weighted, 2 particles from q$"
    assert re.search(figure, out, re.MULTILINE)
    assert not any(str(first) in line and str(second) in line for line in out.splitlines())
    assert main(["compare", str(first), str(second), "--particles", "2", "--limit", "11"]) == 0
    out = capsys.readouterr().out
    assert "can't be compared" not in out
    assert any(str(first) in line and str(second) in line for line in out.splitlines())


def test_every_kind_of_run_has_its_place_or_its_reason(runs: Any, own_model: Any, tmp_path: Path) -> None:
    kinds = ("flat", "gan", "own", "table", "unfinished")
    comparison = write_comparison(
        [runs.place / kind for kind in kinds], tmp_path / "c.html", model=own_model, particles=2, limit=7
    )
    reasons = {Path(run.label).name: run.without.en for run in comparison.runs if run.without is not None}
    assert reasons.keys() == {"gan", "unfinished"}
    assert "no density" in reasons["gan"]
    page = read(comparison)
    assert len(page.encode()) < 2_000_000
    assert "the data are no images" in section(page, "samples")
    assert "columns below" not in page
    assert section(page, "samples").count("<img") == 4
    apart = "These runs differ in: a model of your own, whose loss may be anything, model, data, "
    assert f"charts of their own. {apart}" in section(page, "losses")
    assert page.count("Not here") >= 3


def test_a_model_of_your_own_without_its_code_has_no_figures_and_says_how(runs: Any, tmp_path: Path) -> None:
    comparison = write_comparison([runs.flat, runs.own], tmp_path / "c.html", particles=2, limit=7)
    assert comparison.runs[1].without is not None
    assert "--model FILE.py:NAME" in comparison.runs[1].without.en


def test_losses_share_a_chart_only_where_they_mean_the_same(runs: Any, tmp_path: Path) -> None:
    def lines_of(second: Path) -> dict[str, list[list[str]]]:
        page = read(write_comparison([runs.flat, second], tmp_path / "c.html", particles=1, limit=3))
        found: dict[str, list[list[str]]] = {}
        for title, data in re.findall(
            r'<figcaption>.*?lang="en">(.*?)</span>.*?<script type="application/json">(.*?)</script>', page, re.DOTALL
        ):
            found.setdefault(title.split(",")[0], []).append([line["name"] for line in json.loads(data)["lines"]])
        return found

    same = lines_of(runs.deep)
    assert [len(chart) for chart in same["loss"]] == [2]
    assert [len(chart) for chart in same["validation loss"]] == [2]
    weighted = runs.copy("deep", tmp_path / "weighted")
    config = (weighted / "config.toml").read_text(encoding="utf-8")
    (weighted / "config.toml").write_text(config.replace("beta = 1.0", "beta = 2.0"), encoding="utf-8")
    other = lines_of(weighted)
    assert [len(chart) for chart in other["loss"]] == [1, 1]
    assert [len(chart) for chart in other["validation loss"]] == [2]
    assert all(len(chart) == 1 for charts in lines_of(runs.table).values() for chart in charts)


def test_charts_apart_say_what_differs_and_nothing_else(runs: Any) -> None:
    def differs(first: Path, second: Path) -> set[str]:
        one, two = (meaning(Compared(str(path), story(path), [], None), "loss") for path in (first, second))
        return {key for key in one if one[key] != two[key]}

    assert differs(runs.flat, runs.deep) == set()
    assert differs(runs.flat, runs.own) == {"own", "model", "likelihood", "bound", "weights"}
    assert {"data", "digest"} <= differs(runs.flat, runs.color)
    assert "own" not in differs(runs.flat, runs.color)


def test_charts_beyond_what_a_page_holds_are_named(runs: Any, tmp_path: Path) -> None:
    names = [f"part {i}" for i in range(20)]
    for i, beta in enumerate(("1.0", "2.0")):
        run = runs.copy("unfinished", tmp_path / f"{i}")
        config = (run / "config.toml").read_text(encoding="utf-8").replace("beta = 1.0", f"beta = {beta}")
        config = config.replace('likelihood = "bernoulli"', f'likelihood = "{("bernoulli", "normal")[i]}"')
        (run / "config.toml").write_text(config, encoding="utf-8")
        row = {"step": 1, "epoch": 1.0, **dict.fromkeys([*names, "loss", "validation loss"], 3.0)}
        (run / "metrics.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    losses = section(read(write_comparison([tmp_path / "0", tmp_path / "1"], tmp_path / "c.html")), "losses")
    titles = re.findall(r'<figcaption><span lang="en">(.*?), nats', losses)
    assert titles[:4] == ["validation loss"] * 2 + ["loss"] * 2
    assert len(titles) == 24
    left_out = re.search("Left out, to keep the page small: (.*?)\\.", losses)
    assert left_out is not None
    assert left_out[1].split(", ") == [name for name in names if name not in titles]


def test_the_weights_and_the_seed_of_each_evaluation_are_told(
    runs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = runs.copy("flat", tmp_path / "a"), runs.copy("deep", tmp_path / "b")
    alike = ["--particles", "2", "--limit", "11"]
    assert main(["evaluate", str(first), *alike, "--seed", "5"]) == 0
    assert main(["evaluate", str(second), *alike, "--checkpoint", "last", "--seed", "7"]) == 0
    capsys.readouterr()
    assert main(["compare", str(first), str(second), "--out", str(tmp_path / "c.html")]) == 0
    out = capsys.readouterr().out
    assert re.search("^weights +best +last$", out, re.MULTILINE)
    assert re.search("^seed +5 +7$", out, re.MULTILINE)
    page = section((tmp_path / "c.html").read_text(encoding="utf-8"), "figures")
    assert '<td class="n">best</td><td class="n">last</td>' in page
    assert '<td class="n">5</td><td class="n">7</td>' in page


def test_only_settings_that_differ_are_listed(runs: Any) -> None:
    both = [Compared(str(place), story(place), [], None) for place in (runs.flat, runs.deep)]
    assert dict(differing(both)) == {"latent": ["2", "5"], "epochs": ["7", "3"]}


@pytest.mark.parametrize(
    ("names", "seen"),
    [
        (["deep"], "number of run folders given is 1"),
        (["deep"] * 13, "2 to 12"),
        (["deep", "flat", "deep"], "named more than once"),
        (["deep", "nowhere"], "no run folder"),
    ],
)
def test_what_is_no_comparison_is_refused(runs: Any, tmp_path: Path, names: list[str], seen: str) -> None:
    with pytest.raises(AncestralError, match=seen):
        write_comparison([runs.place / name for name in names], tmp_path / "c.html", particles=1, limit=3)
    assert not (tmp_path / "c.html").exists()

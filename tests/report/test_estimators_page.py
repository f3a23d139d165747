"""The page about gradient estimators, its pictures, and the figures beside it."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ancestral.configs.estimation import from_word
from ancestral.errors import AncestralError
from ancestral.evaluation.gradients import by_name, compare_estimators, one_bernoulli, two_layers
from ancestral.report import write_estimators
from ancestral.report.estimators import Picture, relaxation, spread, wrong_sign

NAMES = ("reinforce", "disarm", "gumbel-softmax", "reparameterized")


@pytest.fixture(scope="module")
def comparisons() -> list[Any]:
    return [
        compare_estimators(problem, {name: partial(by_name, problem, name) for name in NAMES}, draws=29)
        for problem in (one_bernoulli(0.31, 0.23), two_layers())
    ]


def written(comparisons: list[Any], place: Path, **options: Any) -> tuple[Path, Path]:
    return write_estimators(
        comparisons, place, 0.31, 0.23, {"seed": 3, "versions": {"torch": "2"}}, "next <one>", **options
    )


def points(picture: Picture, color: str) -> list[tuple[float, float]]:
    """Of the line of that color."""
    (line,) = [shape for tag, shape in picture.shapes if tag == "polyline" and shape["stroke"] == color]
    return [tuple(map(float, pair.split(","))) for pair in line["points"].split()]  # type: ignore[misc]


def test_the_page_is_one_file_in_two_languages_with_every_estimator(comparisons: list[Any], tmp_path: Path) -> None:
    page, _ = written(comparisons, tmp_path / "e.html")
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"'<]*", text)) <= {"http://www.w3.org/2000/svg"}
    assert text.count('<figure class="drawing">') == 4
    assert "next &lt;one&gt;" in text
    for phrase in ("no bias seen", "偏りは見られない", "E[(b - 0.31)²], b ~ Bernoulli(0.23)", *NAMES):
        assert phrase in text
    assert re.search("<dt>reparameterized</dt><dd>.*?can&#39;t be reparameterized", text)
    for tag in re.findall(r"<(?:rect|line|path|polyline|text)[^>]*>", text):
        assert "nan" not in tag
        assert "inf" not in tag


def test_the_figures_beside_it_are_those_measured_with_what_they_depend_on(
    comparisons: list[Any], tmp_path: Path
) -> None:
    _, figures = written(comparisons, tmp_path / "e.html")
    assert figures == tmp_path / "e.json"
    record = json.loads(figures.read_text(encoding="utf-8"))
    assert record["seed"] == 3
    problem, other = record["problems"]
    assert problem["reference"] == {
        "exact": True, "draws": 0, "estimators": "Enumerate", "particles": 1, "standard_error": 0.0,
        "norm": pytest.approx(0.23 * 0.77 * 0.38),
    }  # fmt: skip
    assert [one["name"] for one in problem["estimators"]] == list(NAMES[:3])
    assert problem["not_measured"].keys() == {"reparameterized"}
    measured = comparisons[1].measured[1]
    assert other["estimators"][1]["variance"] == measured.variance
    assert other["estimators"][1]["variance_per_parameter"] == measured.variance / 74
    assert other["estimators"][1]["variance_times_seconds"] == measured.variance * measured.seconds


def test_the_spread_has_a_dot_for_each_draw_and_the_gradient_where_it_is(comparisons: list[Any]) -> None:
    picture = spread(comparisons[1])
    dots = [shape["d"].count("M") for tag, shape in picture.shapes if tag == "path"]
    assert dots == [29, 29, 29]
    assert [words for words, _ in picture.labels[-4:]] == [*NAMES[:3], "∇"]
    means = [shape["x1"] for tag, shape in picture.shapes if tag == "line" and shape.get("stroke-width") == 4]
    (exact,) = [shape["x1"] for _, shape in picture.shapes if shape.get("stroke-dasharray")]
    assert abs(means[1] - exact) < abs(means[1] - 740)
    assert all(222 <= place <= 740 for place in [*means, exact])


def test_the_estimator_that_a_run_was_trained_with_is_marked_and_a_setting_has_a_line_of_its_own(
    tmp_path: Path,
) -> None:
    problem, own = two_layers(), "rebar:temperature=0.1"
    names = ("disarm", own, "reparameterized")
    made = {name: partial(by_name, problem, from_word(name) if ":" in name else name) for name in names}
    for marked in (own, "reparameterized"):
        comparison = compare_estimators(problem, made, draws=5, fit=1, own=marked)
        page, figures = written([comparison], tmp_path / "e.html")
        text = page.read_text(encoding="utf-8")
        assert text.count("as the run was trained") == text.count("学習時の設定") == 1
        before = text.split("as the run was trained")[0]
        assert before.rindex(marked.partition(":")[0]) > before.rindex("disarm")
        (record,) = json.loads(figures.read_text(encoding="utf-8"))["problems"]
        assert [one["own"] for one in record["estimators"]] == [False, marked == own]
    lines = [words for words, _ in spread(comparison).labels]
    assert lines[lines.index("disarm") :] == ["disarm", "rebar", "temperature=0.1", "∇"]


def test_the_likelihood_ratio_has_two_values_whose_mean_is_the_gradient() -> None:
    picture = wrong_sign(0.31, 0.23)
    # the chart of c0 on the left has b = 1; that on the right is drawn in the same color, so it is left out here
    lines = [shape["points"] for tag, shape in picture.shapes if tag == "polyline"]
    heights = [[float(pair.split(",")[1]) for pair in line.split()] for line in lines]
    one, zero, gradient, wrong = heights
    for i in range(0, 101, 10):
        mu = i / 100
        assert gradient[i] == pytest.approx(mu * one[i] + (1 - mu) * zero[i], abs=0.11)
    assert wrong[0] < wrong[-1]  # upwards on the screen: sure where the mean is small


@pytest.mark.parametrize(("target", "mean", "chance"), [(0.499, 0.3, 70), (0.6, 0.3, 30), (0.5, 0.3, 0)])
def test_the_chance_of_the_wrong_sign_is_told(target: float, mean: float, chance: int) -> None:
    words = wrong_sign(target, mean).about.en
    assert f"that is {chance} % of the draws" in words


def test_relaxed_samples_are_near_the_corners_when_cold_and_alike_when_hot() -> None:
    picture = relaxation()
    bars = [shape["height"] for tag, shape in picture.shapes if tag == "rect"]
    assert len(bars) == 5 * 4 * 5
    one_hot, coldest, *_, hottest = [bars[i : i + 20] for i in range(0, 100, 20)]
    for row in (one_hot[5:10], coldest[5:10]):
        assert max(row) > 0.9 * 54
    assert max(hottest) < 0.35 * 54
    assert one_hot[:5] == pytest.approx([54 * p for p in (0.08, 0.17, 0.4, 0.25, 0.1)], abs=1)


def test_places_that_can_not_be_written_are_refused(comparisons: list[Any], tmp_path: Path) -> None:
    (tmp_path / "taken.json").mkdir()
    (tmp_path / "taken.json/e.html").touch()
    for name, message in (
        ("e.png", "--out FILE.html"),
        ("taken.html", "taken.json is a folder"),
        ("taken.json/e.html/e.html", "can't write"),
    ):
        with pytest.raises(AncestralError, match=message):
            written(comparisons, tmp_path / name)
    with pytest.raises(AncestralError, match="Did you mean 'ja'"):
        written(comparisons, tmp_path / "e.html", language="jp")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken.json"]

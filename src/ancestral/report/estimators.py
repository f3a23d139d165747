"""A page about gradient estimators: what was measured on each problem, and two pictures of how they work."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ancestral.distributions import OneHot
from ancestral.errors import AncestralError
from ancestral.estimators.relaxation import hard, perturbed, relaxed
from ancestral.evaluation.gradients import EstimatorComparison, Measured
from ancestral.report.charts import COLORS, ticks
from ancestral.report.page import checked_destination, write_page
from ancestral.report.words import Text, counted, say, untranslated
from ancestral.training.folder import write_atomically

TEMPERATURES = (0.1, 0.5, 1.0, 10.0)
CLASSES = (0.08, 0.17, 0.4, 0.25, 0.1)
"""Probabilities of the variable whose relaxation is shown."""
DOTS = 200
"""Draws of one estimator that are shown, at most."""
WIDTH = 760.0


@dataclass
class Picture:
    """Shapes of SVG, each a tag with its attributes, and labels that need no translation."""

    title: Text
    about: Text
    height: float
    width: float = WIDTH
    shapes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    labels: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def draw(self, tag: str, **attributes: Any) -> None:
        self.shapes.append((tag, _attributes(attributes)))

    def label(self, words: str, x: float, y: float, anchor: str = "start", color: str = "var(--quiet)") -> None:
        self.labels.append((words, _attributes({"x": x, "y": y, "text-anchor": anchor, "style": f"fill:{color}"})))


def _attributes(found: Mapping[str, Any]) -> dict[str, Any]:
    names = {name.replace("_", "-"): value for name, value in found.items()}
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in names.items()}


def write_estimators(
    comparisons: Sequence[EstimatorComparison],
    out: str | os.PathLike[str],
    target: float,
    mean: float,
    provenance: Mapping[str, Any],
    next_command: str,
    language: str = "auto",
) -> tuple[Path, Path]:
    """Write the page, self-contained and in English and Japanese, and the figures beside it as JSON.

    Args:
        comparisons: one for each problem.
        out: FILE.html; the figures go to FILE.json.
        target, mean: of the Bernoulli variable in the picture of the likelihood ratio.
        provenance: what the figures depend on besides: versions, seed, data.
        next_command: what to type next.
        language: which language shows first.

    Returns:
        Both places.

    Raises:
        AncestralError: a place that can't be written, or an unknown language.
    """
    place = checked_destination(out, Path("estimators.html"))
    figures = place.with_suffix(".json")
    if figures.is_dir():
        raise AncestralError(f"{figures} is a folder, where the figures would go: give another --out.")
    page = {
        "kind": "estimators",
        "title": say("gradient_estimators"),
        "place": "; ".join(comparison.problem.name for comparison in comparisons),
        "problems": [_problem(comparison) for comparison in comparisons],
        "wrong_sign": wrong_sign(target, mean),
        "relaxation": relaxation(),
        "origin": [(name, _plain(value)) for name, value in provenance.items()],
        "next": next_command,
    }
    write_page(page, place, language)
    record = {**provenance, "problems": [as_record(comparison) for comparison in comparisons]}
    try:
        write_atomically(figures, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise AncestralError(f"can't write {figures}: {error.strerror}. Give another --out.") from None
    return place, figures


def as_record(comparison: EstimatorComparison) -> dict[str, Any]:
    """What was measured, as JSON holds it."""
    reference = comparison.reference
    return {
        "problem": comparison.problem.name,
        "particles": comparison.problem.particles,
        "reference": {
            "exact": reference.exact,
            "draws": reference.draws,
            "estimators": reference.estimators,
            "particles": reference.particles,
            "norm": reference.gradient.norm().item(),
            "standard_error": reference.standard_error,
        },
        "estimators": [
            {
                **{key: value for key, value in dataclasses.asdict(one).items() if key != "along"},
                "own": one.name == comparison.own,
                "biased": one.biased,
                "variance_per_parameter": one.variance / one.parameters,
                "variance_times_seconds": one.cost,
            }
            for one in comparison.measured
        ],
        "not_measured": comparison.unfit,
    }


def bias_in_words(one: Measured) -> str:
    """What was seen of the bias, with its standard error."""
    return f"{one.bias:.2g} ± {one.bias_error:.1g}, " + ("biased" if one.biased else "no bias seen")


def _plain(value: object) -> str:
    """A value of the provenance, for people to read."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _problem(comparison: EstimatorComparison) -> dict[str, Any]:
    reference = comparison.reference
    norm = f"{reference.gradient.norm().item():.4g}"
    how = say(
        "reference_exact" if reference.exact else "reference_drawn",
        norm=norm, draws=f"{reference.draws:,}", estimators=reference.estimators,
        particles=counted(reference.particles, "particle"), error=f"{reference.standard_error:.2g}",
    )  # fmt: skip
    parameters = len(comparison.direction)
    return {
        "name": comparison.problem.name,
        "how": how,
        "about": say("measured_help", parameters=f"{parameters:,}", particles=comparison.problem.particles),
        "rows": [
            {
                "name": one.name.split(":"),
                "own": one.name == comparison.own,
                "color": i % COLORS,
                "promise": say("unbiased" if one.unbiased else "biased"),
                "bias": f"{one.bias:.2g} ± {one.bias_error:.1g}",
                "verdict": say("biased" if one.biased else "no_bias_seen"),
                "variance": f"{one.variance:.3g}",
                "each": f"{one.variance / one.parameters:.3g}",
                "time": f"{1e3 * one.seconds:.2f}",
                "cost": f"{1e3 * one.cost:.3g}",
            }
            for i, one in enumerate(comparison.measured)
        ],
        "unfit": [
            (name.split(":"), name == comparison.own, untranslated(why)) for name, why in comparison.unfit.items()
        ],
        "spread": spread(comparison) if comparison.measured else None,
    }


# ---- the pictures


def spread(comparison: EstimatorComparison) -> Picture:
    """The draws of each estimator along the gradient itself: a dot each, their mean, and where that should be."""
    names = [one.name.split(":") for one in comparison.measured]  # a line for each setting
    row, left, right, top = max(30.0, 14.0 * max(map(len, names)) + 6), 222.0, 20.0, 14.0
    bottom = top + row * len(comparison.measured)
    picture = Picture(
        say("spread"), say("spread_help" if len(comparison.direction) > 1 else "spread_help_one"), bottom + 30
    )
    shown = [one.along[:: math.ceil(len(one.along) / DOTS)] for one in comparison.measured]
    ordered = [sorted(values) for values in shown]
    low = min(comparison.target, *(values[len(values) // 50] for values in ordered))
    high = max(comparison.target, *(values[-1 - len(values) // 50] for values in ordered))
    room = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    low, high = low - room, high + room

    def x(value: float) -> float:
        return left + (min(max(value, low), high) - low) / (high - low) * (WIDTH - left - right)

    for tick in ticks(low, high, 6):
        picture.draw("line", x1=x(tick), x2=x(tick), y1=top, y2=bottom, stroke="var(--rule)")
        picture.label(f"{tick:.6g}", x(tick), bottom + 18, "middle")
    jitter = [(0.618 * i % 1 - 0.5) * row * 0.62 for i in range(DOTS)]  # spread evenly, however many are drawn
    for i, (one, values) in enumerate(zip(comparison.measured, shown, strict=True)):
        middle, color = top + row * (i + 0.5), f"var(--c{i % COLORS})"
        dots = "".join(f"M{x(value):.1f},{middle + up:.1f}h0" for value, up in zip(values, jitter, strict=False))
        picture.draw(
            "path", d=dots, stroke=color, stroke_width=4, stroke_linecap="round", stroke_opacity=0.35, fill="none"
        )
        mean = x(sum(one.along) / len(one.along))
        picture.draw("line", x1=mean, x2=mean, y1=middle - 12, y2=middle + 12, stroke=color, stroke_width=4)
        for line, words in enumerate(names[i]):
            picture.label(words, left - 12, middle + 4 + 14 * (line - (len(names[i]) - 1) / 2), "end", "var(--ink)")
    exact = x(comparison.target)
    picture.draw("line", x1=exact, x2=exact, y1=top, y2=bottom + 4, stroke="var(--ink)", stroke_dasharray="5 4")
    picture.label("∇", exact, top - 2, "middle", color="var(--ink)")
    return picture


def wrong_sign(target: float, mean: float) -> Picture:
    r"""The likelihood ratio of E[(b - t)²] with respect to the logit: its two values, and how often the sign is wrong.

    .. math:: (1 - μ) f(1) with probability μ, -μ f(0) with probability 1 - μ;  ∇ = μ (1 - μ) (f(1) - f(0))
    """
    one, zero = (1 - target) ** 2, target**2
    points = [i / 100 for i in range(101)]
    values = {
        "b = 1": [(mu, (1 - mu) * one) for mu in points],
        "b = 0": [(mu, -mu * zero) for mu in points],
        "∇": [(mu, mu * (1 - mu) * (one - zero)) for mu in points],
    }

    def wrong(mu: float) -> float:
        sign = one - zero
        return mu * ((1 - mu) * one * sign < 0) + (1 - mu) * (-mu * zero * sign < 0)

    picture = Picture(
        say("wrong_sign"),
        say("wrong_sign_help", target=f"{target:g}", mean=f"{mean:g}", chance=f"{100 * wrong(mean):.0f}"),
        300.0,
    )
    heights = [value for line in values.values() for _, value in line]
    _lines(picture, 58, 360, values, (min(heights), max(heights)), mean)
    chances = {"P(sign ≠ sign ∇)": [(mu, wrong(mu)) for mu in points[1:-1]]}
    _lines(picture, 434, 736, chances, (0.0, 1.0), mean)
    return picture


def _lines(
    picture: Picture,
    left: float,
    right: float,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    span: tuple[float, float],
    mark: float,
) -> None:
    """Lines over means between 0 and 1, with their names beside them, and one mean marked."""
    top, bottom = 24.0, picture.height - 30
    low, high = span
    room = (high - low) * 0.05 or 1.0
    low, high = low - room, high + room

    def x(value: float) -> float:
        return left + value * (right - left)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    for tick in ticks(low, high):
        picture.draw("line", x1=left, x2=right, y1=y(tick), y2=y(tick), stroke="var(--rule)")
        picture.label(f"{tick:.4g}", left - 8, y(tick) + 4, "end")
    for tick in ticks(0, 1):
        picture.label(f"{tick:.2g}", x(tick), bottom + 20, "middle")
    picture.label("μ", right + 14, bottom + 20)
    picture.draw("line", x1=x(mark), x2=x(mark), y1=top, y2=bottom, stroke="var(--ink)", stroke_dasharray="3 4")
    for i, (name, points) in enumerate(lines.items()):
        color = f"var(--c{i})"
        path = " ".join(f"{x(mu):.1f},{y(value):.1f}" for mu, value in points)
        picture.draw("polyline", points=path, fill="none", stroke=color, stroke_width=2.4)
        mu, value = points[len(points) // 2]
        picture.label(name, x(mu) + 6, y(value) - 8, color=color)


def relaxation() -> Picture:
    """Draws from the Gumbel-Softmax distribution at several temperatures, from the same noise, and their mean."""
    logits = torch.tensor(CLASSES, dtype=torch.float64).log()
    distribution = OneHot(logits)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        noisy = perturbed(logits.expand(10_000, -1), distribution)
    draws = 3
    row, top, left = 74.0, 30.0, 66.0
    wide = (WIDTH - left) / (len(TEMPERATURES) + 1)
    picture = Picture(say("relaxation"), say("relaxation_help"), top + row * (draws + 1) + 8)
    columns = [("z", hard(noisy, distribution))]
    columns += [(f"τ = {temperature:g}", relaxed(noisy, distribution, temperature)) for temperature in TEMPERATURES]
    for j, (title, values) in enumerate(columns):
        start = left + wide * j + 10
        picture.label(title, start + (wide - 20) / 2, 16, "middle", color="var(--ink)")
        for i, bars in enumerate([values.mean(0), *values[:draws]]):
            base = top + row * (i + 1) - 12
            picture.draw("line", x1=start, x2=start + wide - 20, y1=base, y2=base, stroke="var(--quiet)")
            each = (wide - 20) / len(CLASSES)
            for k, height in enumerate(bars.tolist()):
                tall = max(height * (row - 20), 0.5)
                picture.draw(
                    "rect", x=start + each * k + 2, y=base - tall, width=each - 4, height=tall,
                    fill=f"var(--c{0 if i else 1})",
                )  # fmt: skip
    for i, name in enumerate(["E[z]", *[f"z{'₁₂₃'[i]}" for i in range(draws)]]):
        picture.label(name, left - 14, top + row * (i + 1) - 34, "end")
    return picture

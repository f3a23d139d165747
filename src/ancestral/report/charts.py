"""Line charts of named scalars, drawn as SVG: readable as they are, and what the page's script draws anew."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ancestral.report.words import Text

POINTS = 400
"""Points of one line at most."""
LINES = 24
"""Lines of one page at most; a name is cut to NAME characters."""
NAME = 60
COLORS = 10
"""Colors of the style sheet."""
WIDTH, HEIGHT = 760.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 14.0, 40.0, 34.0

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One named scalar over epochs."""

    name: str
    points: Points
    color: int
    heavy: bool = False
    """Drawn strong, as validation is; training is thin."""


@dataclass(frozen=True)
class Mark:
    """A moment worth seeing: a vertical line with words, and a dot if it has a value."""

    epoch: float
    words: Text
    value: float | None = None


@dataclass(frozen=True)
class Chart:
    """Lines on one pair of axes."""

    title: Text
    lines: list[Line]
    marks: list[Mark] = field(default_factory=list)


def finite(value: object) -> float | None:
    """A number of an untrusted file as a float; None if it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and abs(number) < 1e30 else None


def scalars_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, Points]:
    """The named scalars of metrics.jsonl as points ``(epoch, value)``, at most LINES names, in the order they came in.

    What is no finite number is left out.
    """
    found: dict[str, Points] = {}
    for row in rows:
        epoch = finite(row.get("epoch"))
        if epoch is None or epoch < 0:
            continue
        for name, value in row.items():
            number = finite(value)
            if name in ("step", "epoch", "seconds") or number is None:
                continue
            if name in found or len(found) < LINES:
                found.setdefault(name, []).append((epoch, number))
    return found


def thinned(points: Points) -> Points:
    """At most POINTS of the points, evenly taken, the last among them."""
    if len(points) <= POINTS:
        return points
    return [points[round(i * (len(points) - 1) / (POINTS - 1))] for i in range(POINTS)]


def span(points: Points, whole: bool = False) -> tuple[float, float]:
    """Between which values a line is drawn.

    The first twentieth of training, and the rarest values, would flatten all that follows: they are left out unless
    ``whole``.
    """
    ordered = sorted(value for _, value in points)
    if whole or len(points) < 10:
        return ordered[0], ordered[-1]
    last = points[-1][0]
    ordered = sorted(value for epoch, value in points if epoch >= last / 20) or ordered
    return ordered[len(ordered) // 200], ordered[-1 - len(ordered) // 200]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from low to high."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 5) if factor * power >= rough), 10 * power)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def drawn(chart: Chart) -> dict[str, Any]:
    """What the template needs of a chart: paths and ticks in a box of WIDTH by HEIGHT, and numbers for the script."""
    spans = [(*span(line.points), *span(line.points, whole=True)) for line in chart.lines]
    low, high = min(s[0] for s in spans), max(s[1] for s in spans)
    room = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    low, high = low - room, high + room
    last = max(line.points[-1][0] for line in chart.lines) or 1.0

    def x(epoch: float) -> float:
        return round(LEFT + epoch / last * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    kept = [thinned(line.points) for line in chart.lines]
    looks = [{"name": line.name, "color": line.color % COLORS, "heavy": line.heavy} for line in chart.lines]
    return {
        "title": chart.title,
        "box": {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
        "lines": [
            look
            | {
                "path": " ".join(f"{x(e)},{max(-1e4, min(1e4, y(v)))}" for e, v in points),
                "last": f"{points[-1][1]:.5g}",
            }
            for look, points in zip(looks, kept, strict=True)
        ],
        "x_ticks": [(x(tick), f"{tick:g}") for tick in ticks(0, last)],
        "y_ticks": [(y(tick), f"{tick:.6g}") for tick in ticks(low, high)],
        "marks": [
            {"x": x(mark.epoch), "y": None if mark.value is None else y(mark.value), "words": mark.words}
            for mark in chart.marks
        ],
        "numbers": {
            "lines": [
                look
                | {
                    "points": [[round(e, 4), float(f"{v:.6g}")] for e, v in points],
                    "span": [float(f"{v:.6g}") for v in limits],
                }
                for look, points, limits in zip(looks, kept, spans, strict=True)
            ],
            "marks": [
                {"epoch": mark.epoch, "value": mark.value, "en": mark.words.en, "ja": mark.words.ja}
                for mark in chart.marks
            ],
        },
    }


def tendency(points: Sequence[tuple[float, float]]) -> str:
    """Where a validation loss was going at the end: ``rising``, ``falling``, ``flat``, or ``short`` if nobody can say.

    Means of three validations are compared, because the least of many noisy values is always below the last. A change
    counts if it is twice what the loss wavers from one validation to the next in the second half; a fall, if the last
    fifth of the validations also brought a twentieth of the whole of it.
    """
    if len(points) < 5:
        return "short"
    values = [value for _, value in points]
    steps = sorted(abs(after - before) for before, after in pairwise(values[len(values) // 2 :]))
    wavers = 2 * steps[len(steps) // 2]
    means = [sum(values[i : i + 3]) / 3 for i in range(len(values) - 2)]
    if means[-1] - min(means) > wavers:
        return "rising"
    fall = means[-1 - min(len(means) - 1, max(2, len(values) // 5))] - means[-1]
    return "falling" if fall > max(wavers, (means[0] - means[-1]) / 20) else "flat"

"""Runs side by side: settings that differ, losses, samples; and figures, in one table only where they compare."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ancestral.errors import AncestralError
from ancestral.evaluation import Figure
from ancestral.report.charts import COLORS, NAME, Chart, Line, Mark, drawn
from ancestral.report.page import checked_destination, write_page
from ancestral.report.pictures import frames
from ancestral.report.report import check_evaluation, load_if_trained, shown, silent, title_of
from ancestral.report.sections import Evaluation, Progress, figures_of
from ancestral.report.story import Story, plain, read_story, shortened
from ancestral.report.words import Text, known, say, untranslated
from ancestral.runs import OWN
from ancestral.training import RunFolder
from ancestral.training.loop import choose_device

MOST_RUNS = 12
CHARTS = 24
"""Charts of one page at most."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Compared:
    """One of the runs."""

    label: str
    """Its folder, as it was given."""
    story: Story
    figures: list[Figure]
    without: Text | None
    """Why there are no figures, if there are none."""
    weights: str = ""
    """Which weights the figures are of: ``best`` or ``last``."""


@dataclass(frozen=True)
class Comparison:
    """What came of comparing runs."""

    path: Path
    runs: list[Compared]
    groups: list[list[Compared]]
    """Runs whose figures can be compared with one another, and with those of no other group."""
    reasons: list[Text]
    """Why there is more than one group: what differs, and between which values."""


def write_comparison(
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] = "compare.html",
    *,
    model: nn.Module | None = None,
    which: str = "auto",
    device: str = "cpu",
    language: str = "auto",
    particles: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Write a page that puts runs side by side, self-contained and in English and Japanese.

    Figures come from each run's evaluation.json; for a run without one, or where ``particles`` or ``limit`` are given,
    they are computed on the way. Figures stand in one table only if they are of the same rows (SHA-256), preparation,
    likelihood, kind of bound and number of particles.

    Args:
        paths: the run folders, 2 to 12.
        out: the page.
        model: for the runs whose model is your own.
        which, device: as for :func:`ancestral.load`.
        language: which language shows first: ``"en"``, ``"ja"``, or ``"auto"``, that of the reader's browser.
        particles, limit, seed: of new evaluations, as for :func:`ancestral.report.write_report`.
        progress: hears of long work.

    Raises:
        AncestralError: fewer than two runs or too many, one twice, no run folder, a damaged one, a device that is not
            there, or a place that can't be written.
    """
    if not 2 <= len(paths) <= MOST_RUNS:
        raise AncestralError(
            f"the number of run folders given is {len(paths)}, but a comparison is of 2 to {MOST_RUNS}: name as many."
        )
    configs = [RunFolder(path).config() for path in paths]
    resolved = [Path(path).resolve() for path in paths]
    for path, place in zip(paths, resolved, strict=True):
        if resolved.count(place) > 1:
            raise AncestralError(f"{path} is named more than once: name each run folder once.")
    destination = checked_destination(out, Path("compare.html"))
    check_evaluation(particles, limit)
    device = choose_device(device)
    runs = []
    for path, config in zip(paths, configs, strict=True):
        story = read_story(RunFolder(path), config)
        evaluation = Evaluation(particles, limit, seed, which)
        found = _figures(story, evaluation, model, which, device, progress or silent)
        if isinstance(found, Text):
            runs.append(Compared(str(path), story, [], found))
        else:
            runs.append(Compared(str(path), story, found["figures"], None, found["weights"]))
    groups, reasons = comparable([run for run in runs if run.figures])
    write_page(_page(runs, groups, reasons), destination, language)
    return Comparison(destination, runs, groups, reasons)


def _figures(
    story: Story, evaluation: Evaluation, model: nn.Module | None, which: str, device: str, progress: Progress
) -> dict[str, Any] | Text:
    """The figures of one run, or why it has none. The model is built only if it must be evaluated."""
    own = story.config["model"] == OWN

    def load() -> Any:
        return load_if_trained(story.folder, model if own else None, None, which, device)

    try:
        with torch.random.fork_rng():
            return figures_of(story, load, evaluation, progress)
    except AncestralError as error:
        return untranslated(str(error))


# ---- what can be compared


def conditions(run: Compared) -> dict[str, Hashable]:
    """What must agree for the figures of two runs to be compared."""
    first = run.figures[0]
    return {
        "quantity": first.name,  # a bound of log p(bottom | top) is none of log p(x)
        "data": first.data,
        "digest": first.digest,
        "likelihood": first.likelihood,
        "datapoints": first.datapoints,
        "particles": first.particles,
    }


def comparable(runs: Sequence[Compared]) -> tuple[list[list[Compared]], list[Text]]:
    """Runs with figures, in groups within which they can be compared; and what differs between the groups."""
    groups = grouped(runs, lambda run: tuple(conditions(run).values()))
    reasons = []
    for key in conditions(runs[0]) if len(groups) > 1 else ():
        values = [str(conditions(group[0])[key]) for group in groups]
        if len(set(values)) > 1:
            distinct = [known(value[:12] if key == "digest" else value) for value in dict.fromkeys(values)]
            listed = Text(" / ".join(text.en for text in distinct), " / ".join(text.ja for text in distinct))
            reasons.append(say("differs", what=say(f"key_{key}"), values=listed))
    return groups, reasons


def grouped(items: Iterable[Item], key: Callable[[Item], Hashable]) -> list[list[Item]]:
    """Items with the same key together, in the order they came in."""
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def quantity(figure: Figure) -> tuple[str, str, str, str]:
    """What a figure measures and how: figures stand in one row only if this agrees.

    Of the unit the first word counts: ``of 2`` and ``of 8`` latent units are one quantity, nats and bits are two.
    """
    return figure.name, (figure.unit.split() or [""])[0], figure.kind, figure.estimator


def table_of(group: Sequence[Compared]) -> list[list[Figure | None]]:
    """The figures of comparable runs: one line for each quantity, one figure or None for each run."""
    names = dict.fromkeys(quantity(figure) for run in group for figure in run.figures)
    return [
        [next((figure for figure in run.figures if quantity(figure) == name), None) for run in group] for name in names
    ]


def meaning(run: Compared, name: str) -> dict[str, Hashable]:
    """What decides the meaning of a loss of this name: losses of two runs share a chart only if all of it is the same.

    A model of your own may compute anything under a name, so that its losses are never beside those of another run.
    """
    config = run.story.config
    settings, prepared = config["settings"], config["data_settings"]
    seen: dict[str, Any] = {
        "own": run.label if config["model"] == OWN else "",
        "model": config["model"],
        "data": config["data"],
        "digest": run.story.split("train", "digest"),
        "preparation": [prepared.get("binarization"), prepared.get("dequantize")],
        "likelihood": settings.get("likelihood"),
        "bound": [settings.get("bound"), settings.get("particles") if settings.get("bound") == "iwae" else None],
    }
    if name == "loss":  # of validation, beta is 1 and the rest 0
        seen["weights"] = [settings.get("beta"), settings.get("kl_warmup"), settings.get("free_bits")]
    return {key: json.dumps(value, default=str) for key, value in seen.items()}


# ---- the page


def _page(runs: list[Compared], groups: list[list[Compared]], reasons: list[Text]) -> dict[str, Any]:
    colors = {run.label: i % COLORS for i, run in enumerate(runs)}
    charts, apart, left_out = _charts(runs, colors)
    return {
        "kind": "comparison",
        "title": say("comparison_of", n=len(runs)),
        "place": " ".join(run.label for run in runs),
        "runs": [_summary(run, colors[run.label]) for run in runs],
        "differing": differing(runs),
        "losses": charts or say("no_rows"),
        "apart": apart,
        "left_out": left_out,
        "samples": [_last_picture(run) for run in runs],
        "groups": [_table(group) for group in groups],
        "reasons": reasons,
        "without": [say("run_without", run=run.label, why=run.without) for run in runs if run.without is not None],
    }


def _summary(run: Compared, color: int) -> dict[str, Any]:
    best = run.story.best
    return {
        "label": run.label,
        "color": color,
        "what": run.story.title,
        "ended": say(f"ended_word_{run.story.ending}"),
        "best": "" if best is None else say("at_epoch", value=f"{best[1]:.4g}", epoch=f"{best[0]:.3g}"),
        "findings": len(run.story.findings),
        "command": f"ancestral report {shlex.quote(run.label)}",
    }


def differing(runs: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    """Each setting whose value is not the same in all runs, and its values; an en dash where a run has no such one."""
    tables = []
    for run in runs:
        config = run.story.config
        table = {"model": config["model"], "data": config["data"]}
        for section in ("settings", "data_settings", "training"):
            table |= {key: plain(value) for key, value in config[section].items()}
        tables.append(table)
    keys = list(dict.fromkeys(key for table in tables for key in table))
    lines = [(shortened(key, NAME), [table.get(key, "–") for table in tables]) for key in keys[:200]]
    return [(key, values) for key, values in lines if len(set(values)) > 1]


def _charts(runs: Sequence[Compared], colors: dict[str, int]) -> tuple[list[dict[str, Any]], Text | None, Text | None]:
    """A chart for each named loss, more where it means different things: why that is so, and which are left out.

    First come the validation loss and the loss of all runs, then what most runs have.
    """
    having = {name: [run for run in runs if name in run.story.scalars] for run in runs for name in run.story.scalars}
    names = sorted(having, key=lambda name: (name != "validation loss", name != "loss", -len(having[name])))
    charts: list[dict[str, Any]] = []
    apart: set[str] = set()
    left_out: list[str] = []
    for name in names:
        meanings = {run.label: meaning(run, name) for run in having[name]}
        apart |= {key for key in meanings[having[name][0].label] if len({m[key] for m in meanings.values()}) > 1}
        groups = grouped(having[name], lambda run: tuple(meanings[run.label].values()))  # noqa: B023
        if len(charts) + len(groups) > CHARTS:
            left_out.append(shortened(name, NAME))
            continue
        for group in groups:
            lines = [
                Line(shortened(run.label, NAME), run.story.scalars[name], colors[run.label], "validation" in name)
                for run in group
            ]
            marks = []
            for run in group if name == "validation loss" else ():
                if run.story.best is not None:
                    epoch, value = run.story.best
                    marks.append(Mark(epoch, Text(f"{value:.4g}", f"{value:.4g}"), value))
            charts.append(drawn(Chart(title_of(name), lines, marks)))
    reasons = [say(f"meaning_{key}") for key in meaning(runs[0], "loss") if key in apart]
    what = Text(", ".join(reason.en for reason in reasons), "、".join(reason.ja for reason in reasons))
    return (
        charts,
        say("charts_apart", what=what) if apart else None,
        say("charts_left_out", names=", ".join(left_out)) if left_out else None,
    )


def _last_picture(run: Compared) -> dict[str, Any]:
    """The last samples of a run, or why there are none."""
    try:
        found = frames(run.story)
    except AncestralError as error:
        found = untranslated(str(error))
    if isinstance(found, Text):
        return {"label": run.label, "missing": found}
    last = next((frame for frame in reversed(found) if frame["samples"]), None)
    if last is None:
        return {"label": run.label, "missing": say("no_frames")}
    percent = last["percent"]
    return {
        "label": run.label,
        "missing": None,
        "picture": last["samples"],
        "words": say("last_frame", percent=percent),
        "alt": say("samples_at", percent=percent),
    }


def _table(group: Sequence[Compared]) -> dict[str, Any]:
    first = group[0].figures[0]
    lines = []
    for figures in table_of(group):
        one = next(figure for figure in figures if figure is not None)
        lines.append({"about": shown(one), "cells": [figure and shown(figure) for figure in figures]})
    return {
        "labels": [run.label for run in group],
        "weights": [run.weights for run in group],
        "seeds": [run.figures[0].seed for run in group],
        "lines": lines,
        "data": known(first.data),
        "digest": first.digest,
        "likelihood": first.likelihood,
    }

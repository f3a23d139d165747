"""The report of a run: one page, one file, that opens from the disk and asks nothing of a network."""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ancestral.data import Dataset
from ancestral.errors import AncestralError
from ancestral.evaluation import Figure
from ancestral.report.charts import NAME, Chart, Line, Mark, drawn, finite, tendency
from ancestral.report.page import checked_destination, write_page
from ancestral.report.pictures import frames, is_image
from ancestral.report.published import differences, published_for
from ancestral.report.sections import (
    Evaluation,
    Progress,
    columns,
    figures_of,
    generalization,
    latent,
    layers,
    manifold,
    neighbors,
    reconstructions,
    worse_than_uniform,
)
from ancestral.report.story import Story, command_of, plain, read_story, shortened
from ancestral.report.words import ENGLISH, Text, counted, duration, joined, known, say, untranslated
from ancestral.runs import Run, load
from ancestral.training import RunFolder
from ancestral.training.checkpoint import has_checkpoint


def write_report(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    model: nn.Module | None = None,
    data: Dataset | None = None,
    which: str = "auto",
    device: str = "cpu",
    language: str = "auto",
    particles: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    flags: str = "",
    progress: Progress | None = None,
) -> Path:
    """Write the report of a run, one self-contained HTML page of less than 2 MB in English and Japanese.

    Figures are those of evaluation.json; without one, where it is of other weights, or where ``particles`` or ``limit``
    are given, the run is evaluated on the way. The random stream outside is left as it was.

    Args:
        path: the run folder.
        out: the page; by default report.html in the run folder.
        model, data, which, device: as for :func:`ancestral.load`.
        language: which language shows first: ``"en"``, ``"ja"``, or ``"auto"``, that of the reader's browser.
        particles: draws of z per datapoint of a new evaluation, by default 100.
        limit: test rows of a new evaluation, by default the first 1,000; 0 takes all.
        seed: of every draw.
        flags: what the commands that the page names need besides, such as ``--model FILE.py:NAME``.
        progress: hears of long work.

    Returns:
        The path of the page.

    Raises:
        AncestralError: no run folder, a damaged one, a setting out of range, or a place that can't be written.
    """
    folder = RunFolder(path)
    config = folder.config()
    destination = checked_destination(out, folder.path / "report.html")
    check_evaluation(particles, limit)
    with torch.random.fork_rng():
        run = load_if_trained(folder, model, data, which, device)
        torch.manual_seed(seed)
        page = _page(folder, config, run, Evaluation(particles, limit, seed, which), flags, progress or silent)
    return write_page(page, destination, language)


def check_evaluation(particles: int | None, limit: int | None) -> None:
    """Raise if no evaluation can be made with these numbers."""
    if particles is not None and particles < 1:
        raise AncestralError(f"particles is {particles}, but at least one is needed: give --particles 1 or more.")
    if limit is not None and limit < 0:
        raise AncestralError(f"limit is {limit}: give --limit a number of rows, or 0 for all.")


def load_if_trained(
    folder: RunFolder, model: nn.Module | None = None, data: Dataset | None = None, which: str = "auto",
    device: str = "cpu",
) -> Run | None:  # fmt: skip
    """The run with its weights; None if it has not come to its first checkpoint and no particular one is asked for."""
    if which == "auto" and not any(has_checkpoint(folder.checkpoint(name)) for name in ("best", "last")):
        return None
    return load(folder.path, model, data, which, device)


def silent(what: str, done: int, total: int) -> None:
    """Hears of no progress."""


def _page(
    folder: RunFolder, config: dict[str, Any], run: Run | None, evaluation: Evaluation, flags: str, progress: Progress
) -> dict[str, Any]:
    story = read_story(folder, config)
    images = is_image(config["description"].get("shape", ()))
    no_frames = joined(say("no_frames_table"), say("see_columns"))
    sections: dict[str, Any] = {
        "frames": _or_why(lambda: frames(story)) if images else no_frames, "losses": losses(story)
    }  # fmt: skip
    asked: dict[str, Callable[[Run], Any]] = {
        "reconstructions": (lambda run: reconstructions(run, progress)) if images else columns,
        "latent": latent,
        "manifold": manifold,
        "layers": layers,
        "neighbors": neighbors,
        "generalization": generalization,
    }
    sections["figures"] = _or_why(lambda: figures_of(story, lambda: run, evaluation, progress))
    for i, (name, section) in enumerate(asked.items()):
        progress(name, i, len(asked))
        sections[name] = say("no_weights") if run is None else _or_why(partial(section, run))
    figures, wrong = sections["figures"], {}
    if not isinstance(figures, Text):
        wrong = worse_than_uniform(figures["figures"], config["description"])
        figures["rows"] = [figure_row(story, figure) for figure in figures["figures"]]
        figures["ladder"] = ladder(figures["figures"])
        if not isinstance(sections["latent"], Text):
            sections["latent"]["information"] = information(figures["figures"])
    for name in ("generalization", "neighbors"):
        if not isinstance(sections[name], Text):
            wrong |= sections[name]["wrong"]
    here = shlex.quote(str(folder.path)) + (f" {flags}" if flags else "")
    return {
        "kind": "report",
        "images": images,
        "dreams": "dreams_" if config["model"] == "helmholtz" else "",
        "dreams_help": dreams_help(story),
        "title": story.title,
        "place": str(folder.path),
        "verdict": verdict(story, run, sections["latent"], figures, wrong, here),
        "findings": [_finding(entry) for entry in story.findings],
        "notes": [] if run is None else [untranslated(note) for note in run.notes],
        "evaluate": f"ancestral evaluate {here} --particles 5000",
        "origin": origin(story, run),
        **sections,
    }


def _or_why(section: Callable[[], Any]) -> Any:
    """A section, or why there is none."""
    try:
        return section()
    except AncestralError as error:
        return untranslated(str(error))


def _finding(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One line of health.json, as text."""
    epoch, check = finite(entry.get("epoch")), shortened(str(entry.get("check", "")), 60)
    return {
        "check": say(f"check_{check}") if f"check_{check}" in ENGLISH else check,
        "epoch": "" if epoch is None else f"{epoch:.3g}",
        "message": untranslated(shortened(str(entry.get("message", "")), 1000)),
        "withdrawn": None if holds(entry) else say("finding_withdrawn", epoch=f"{finite(entry['withdrawn']) or 0:.3g}"),
    }


def holds(entry: Mapping[str, Any]) -> bool:
    """Whether what training noticed is still so: it withdraws what no longer is."""
    return "withdrawn" not in entry


def dreams_help(story: Story) -> Text:
    """What the dreams of a Helmholtz machine are, and that q learns from such where it does."""
    asleep = story.setting("objective") == "wake-sleep" or story.setting("q_phase") in ("sleep", "both")
    return joined(say("dreams_help"), say("dreams_taught")) if asleep else say("dreams_help")


def losses(story: Story) -> list[dict[str, Any]] | Text:
    """The named scalars as charts, the losses first; what is validated beside what is trained."""
    if not story.scalars:
        return say("no_rows")
    charts: dict[str, list[Line]] = {"loss": []}
    for name, points in story.scalars.items():
        bare = name.removeprefix("validation ")
        kind = next((kind for kind in ("accuracy", "loss") if kind in bare), (bare.split() or [""])[0])
        lines = charts.setdefault(kind, [])
        bares = list(dict.fromkeys([*(line.name.removeprefix("validation ") for line in lines), shortened(bare, NAME)]))
        lines.append(Line(shortened(name, NAME), points, bares.index(shortened(bare, NAME)), heavy=bare != name))
    return [
        drawn(Chart(title_of(kind), lines, marks_of(story, lines)))
        for kind, lines in charts.items() if lines
    ]  # fmt: skip


def title_of(name: str) -> Text:
    """The title of a chart of a named scalar: what is no share and no weight is in nats."""
    if "accuracy" in name:
        return say("chart_share")
    if name.startswith("effective"):
        return say("chart_particles")
    return say("chart_weight") if name == "beta" else say("chart_of", name=shortened(name, NAME))


def marks_of(story: Story, lines: Sequence[Line]) -> list[Mark]:
    """The best validation, on the line of the validation loss, and where training stopped early."""
    marks = []
    if story.best is not None:
        epoch, value = story.best
        here = any(line.name == "validation loss" for line in lines)
        words = say("mark_best", value=f"{value:.4g}") if here else say("mark_best_bare")
        marks.append(Mark(epoch, words, value if here else None))
    if story.stopped_early:
        marks.append(Mark(story.epoch, say("mark_stop")))
    return marks


def verdict(
    story: Story, run: Run | None, latents: dict[str, Any] | Text, figures: dict[str, Any] | Text,
    wrong: Mapping[str, Text], here: str,
) -> dict[str, Any]:  # fmt: skip
    """In words: what was trained on what, how it ended, and whether to trust it; and the command to type next.

    ``wrong`` is what the sections found, by name: see :data:`WRONG`.
    """
    description = story.config["description"]
    rows = finite(story.split("train", "rows"))
    likelihood: Text | str = ""
    if story.setting("likelihood"):
        likelihood = say("with_likelihood", likelihood=plain(story.setting("likelihood")), latent=_dimensions(story))
    shape = " x ".join(map(str, description.get("shape", ())))
    sentences = [
        say("trained_on", model=story.model, data=story.name, rows=counted(rows or 0, "row"), shape=shape,
            likelihood=likelihood),
        how_it_ended(story),
    ]  # fmt: skip
    standing = [str(entry.get("check", "")) for entry in story.findings if holds(entry)]
    going = "none"
    if story.best is not None:
        epoch, value = story.best
        sentences.append(say("best_validation", value=f"{value:.4g}", epoch=f"{epoch:.3g}"))
        going = "rising" if "overfitting" in standing else tendency(story.validation)
        longer = "_still" if going == "falling" and (standing or wrong) else ""
        sentences.append(say(f"validation_{going}{longer}", value=f"{story.validation[-1][1]:.4g}"))
    elif story.scalars:
        sentences.append(say("game" if story.config["model"] == "gan" else "no_validation"))
    sentences += _discriminator(story)
    collapsed = False
    if not isinstance(figures, Text):
        bound = next((f for f in figures["figures"] if f.name.startswith("log p(") and f.kind == "lower bound"), None)
        if bound is not None and bound.standard_error is not None:
            parts = bound.data.split(", ")
            split = parts[1] if len(parts) > 1 and parts[1] in ("test", "validation", "train") else "test"
            sentences.append(
                say("bound", rows=counted(bound.datapoints, "row"), split=say(f"split_{split}"), quantity=bound.name,
                    value=f"{bound.value:.2f}", error=f"{bound.standard_error:.2f}",
                    particles=counted(bound.particles, "particle"))
            )  # fmt: skip
            note = bound.data.partition(" (")[2].removesuffix(")")
            if note:
                sentences.append(say("data_note", note=known(note)))
    if not isinstance(latents, Text):
        for variable in latents["variables"]:
            sentences.append(
                say("active_units", active=variable["active"], units=variable["count"], name=variable["name"])
            )
        collapsed = not any(variable["active"] for variable in latents["variables"])
    sentences += [wrong[name] for name in WRONG if name in wrong]
    if story.findings:
        count = len(standing)
        sentences.append(say({0: "finding_past", 1: "finding_one"}.get(count, "finding_many"), n=count))
    level, trust = _trust(story, run, going, collapsed, wrong, standing)
    return {"level": level, "word": say(f"level_{level}"), "words": joined(*sentences), "trust": say(trust),
            "next": _next_command(story, going, collapsed, wrong, standing, figures, here)}  # fmt: skip


def how_it_ended(story: Story) -> Text:
    """One sentence."""
    epochs, planned = counted(story.epoch, "epoch"), counted(story.planned, "epoch")
    words = {"updates": counted(story.step, "update"), "time": duration(story.seconds)}
    if story.ending == "none":
        return say("ended_no_start")
    if story.ending == "not":
        return say("ended_not", epochs=epochs, planned=planned, **words)
    if story.ending == "early":
        count = re.search(r": (\d+) validations", story.finished)
        validations = counted(int(count[1]) if count else 0, "validation_count")
        return say("ended_early", epochs=epochs, validations=validations, **words)
    if story.finished.startswith("all "):
        return say("ended_all", epochs=planned, **words)
    return say("ended_other", epochs=epochs, finished=untranslated(story.finished), **words)


def _discriminator(story: Story) -> list[Text]:
    """How often a discriminator was right at the end, if there is one."""
    shares = []
    for name in ("discriminator accuracy on data", "discriminator accuracy on samples"):
        points = story.scalars.get(name, [])
        late = [value for _, value in points[-max(1, len(points) // 10) :]]
        if late:
            shares.append(f"{100 * sum(late) / len(late):.0f} %")
    return [say("discriminator", data=shares[0], samples=shares[1])] if len(shares) == 2 else []


WRONG = {"memorized": "bad", "uniform": "bad", "alike": "bad", "near": "bad", "far": "care"}
"""What a section can find wrong with a model, the worst first, and the level that the verdict then has."""


def _dimensions(story: Story) -> str:
    """Of the latent variables: of one, of each layer, or variables by classes."""
    if story.setting("layers"):
        return " + ".join(map(str, story.setting("layers")))
    if story.setting("latents"):
        return f"{story.setting('latents')} x {story.setting('classes')}"
    return str(story.setting("latent"))


def _trust(
    story: Story, run: Run | None, going: str, collapsed: bool, wrong: Mapping[str, Text], standing: Sequence[str]
) -> tuple[str, str]:
    """How far the model can be trusted: a level, and the key of the sentence that says why."""
    if run is None:
        return "bad", "trust_no_weights"
    if collapsed:
        return "bad", "trust_collapsed"
    if story.ending == "not":
        return "care", "trust_unfinished"
    worst = next((name for name in WRONG if name in wrong), None)
    if worst is not None:
        return WRONG[worst], f"trust_{worst}"
    if standing:
        return "care", "trust_findings"
    if story.config["model"] == "gan":
        return "care", "trust_game"
    if not story.validation:
        return "care", "trust_unvalidated"
    if going in ("falling", "short"):
        return "care", f"trust_{going}"
    return "good", "trust_rising" if going == "rising" else "trust_good"


def _next_command(
    story: Story, going: str, collapsed: bool, wrong: Mapping[str, Text], standing: Sequence[str],
    figures: dict[str, Any] | Text, here: str,
) -> str:  # fmt: skip
    """The command that helps most now."""
    if story.ending in ("none", "not"):
        return f"ancestral resume {here}"
    words, ours = command_of(story)
    if ours and words[1:2] == ["train"]:
        if collapsed and story.setting("kl_warmup") == 0 and story.setting("bound") == "elbo":
            return shlex.join(_again(words, "--kl-warmup", "10"))
        if "overfitting" in standing:
            return shlex.join(_again(words, "--patience", "5"))
        if "memorized" in wrong and story.planned >= 2:
            return shlex.join(_again(words, "--epochs", f"{story.planned // 2:g}"))
        if "alike" in wrong:  # the players of a game may yet leave it
            return shlex.join(_again(words, "--epochs", f"{3 * story.planned:g}"))
        if going == "falling" and not story.stopped_early and not wrong and not standing:
            return shlex.join(_again(words, "--epochs", f"{2 * story.planned:g}"))
    if not isinstance(figures, Text) and not figures["stored"]:
        return f"ancestral evaluate {here} --particles 5000"
    ending = "png" if is_image(story.config["description"].get("shape", ())) else "csv"
    return f"ancestral sample {here} -n 64 --out samples.{ending}"


def _again(words: Sequence[str], flag: str, value: str) -> list[str]:
    """A command with another value of a flag, and without its run folder, which is taken."""
    kept, left_out = [], False
    for word in words:
        if not left_out and word.partition("=")[0] not in (flag, "--out"):
            kept.append(word)
        left_out = word in (flag, "--out")
    return [*kept, flag, value]


def figure_row(story: Story, figure: Figure) -> dict[str, Any]:
    """A line of the table of figures."""
    published = published_for(story.config, figure)
    beside = None
    if published is not None:
        rows = finite(story.split("train", "rows"))
        beside = {
            "words": say(
                "published_at", value=f"{published.value:.2f}", source=published.source,
                kind=kind_of(published.kind), estimator=known(published.estimator),
                units=say("published_units", units=published.active_units),
            ),
            "differences": differences(
                published, figure, story.epoch, story.config["training"], None if rows is None else int(rows)
            ),
        }  # fmt: skip
    return {**shown(figure), "published": beside}


def ladder(figures: Sequence[Figure]) -> dict[str, Any] | None:
    """The estimates of log p(x) and the ELBO from the lowest up, on one scale; none where there is but one way.

    Positions are parts of a hundred: of the value, and of its Monte Carlo error to either side. The standard error over
    the rows, which all share, says nothing of how the rungs differ, and would hide it: it is in the words.
    """
    rungs = [figure for figure in figures if figure.unit == "nats" and figure.name.startswith(("ELBO", "log p("))]
    rungs = sorted((rung for rung in rungs if math.isfinite(rung.value)), key=lambda rung: rung.value)
    if sum(rung.name.startswith("log p(") for rung in rungs) < 2:
        return None
    ends = [rung.value + side * (rung.monte_carlo_error or 0) for rung in rungs for side in (-1, 1)]
    low, high = min(ends), max(ends)
    width = max(high - low, 1e-9)
    over_rows = max((rung.standard_error for rung in rungs if rung.standard_error is not None), default=None)
    about = say("ladder_help")
    return {
        "about": about if over_rows is None else joined(about, say("ladder_rows", error=f"{over_rows:.4f}")),
        "rungs": [
            {
                "name": known(rung.name),
                "estimator": known(rung.estimator),
                "kind": kind_of(rung.kind),
                "value": f"{rung.value:.4f}",
                "error": "" if rung.monte_carlo_error is None else f"± {rung.monte_carlo_error:.4f}",
                "at": round(100 * (rung.value - low) / width, 2),
                "reach": round(100 * (rung.monte_carlo_error or 0) / width, 2),
            }
            for rung in rungs
        ],
    }


def information(figures: Sequence[Figure]) -> list[Text]:
    """How much the latent variables say of the data, one sentence for each layer."""
    found = [shown(figure) for figure in figures if figure.name.startswith("mutual information")]
    return [say("information", **{**row, "error": f" {row['error']}".rstrip()}) for row in found]


def shown(figure: Figure) -> dict[str, Any]:
    """A figure with its numbers as they are printed."""
    exact = figure.unit not in ("nats", "bits")
    return {
        "name": known(figure.name),
        "value": f"{figure.value:g}" if exact else f"{figure.value:.4f}",
        "error": "" if figure.standard_error is None else f"± {figure.standard_error:.4f}",
        "unit": known(figure.unit),
        "kind": kind_of(figure.kind),
        "estimator": known(figure.estimator),
        "likelihood": figure.likelihood,
        "data": known(figure.data),
        "digest": figure.digest,
        "seed": figure.seed,
    }


def kind_of(kind: str) -> Text:
    """The kind of a figure; of a stranger's file, as it is there."""
    return say(f"kind_{kind}") if f"kind_{kind}" in ENGLISH else Text(kind, kind)


def origin(story: Story, run: Run | None) -> dict[str, Any]:
    """The command, the settings, versions and digests."""
    words, ours = command_of(story)
    notes: list[tuple[Text | str, str]] = []
    if run is not None:
        notes.append((say("parameters"), f"{sum(parameter.numel() for parameter in run.model.parameters()):,}"))
    versions = story.environment.get("versions")
    if isinstance(versions, dict):
        notes += [(shortened(str(name), 60), plain(version)) for name, version in list(versions.items())[:20]]
    for key in ("platform", "git"):
        if story.environment.get(key):
            notes.append((say(key), plain(story.environment[key])))
    for split in ("train", "test"):
        digest = story.split(split, "digest")
        if digest:
            notes.append((say("rows_digest", split=say(f"split_{split}")), plain(digest)))
    if story.noted("note"):
        notes.append(("", plain(story.noted("note"))))
    settings = [
        (shortened(str(key), 60), plain(value))
        for section in ("settings", "data_settings", "training")
        for key, value in list(story.config[section].items())[:100]
    ]
    return {"command": shlex.join(words), "own_program": not ours, "settings": settings, "notes": notes,
            "card": _card(story)}  # fmt: skip


def _card(story: Story) -> str:
    """MODEL_CARD.md as it is, empty if there is none."""
    path = story.folder.path / "MODEL_CARD.md"
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(20_000)
    except OSError:
        return ""

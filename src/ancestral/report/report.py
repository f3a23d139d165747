"""The report of a run: one page, one file, that opens from the disk and asks nothing of a network."""

from __future__ import annotations

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
    latent,
    manifold,
    neighbors,
    reconstructions,
)
from ancestral.report.story import Story, command_of, plain, read_story, shortened
from ancestral.report.words import Text, counted, duration, joined, say
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

    Figures are those of evaluation.json; without one, or where ``particles`` or ``limit`` are given, the run is
    evaluated on the way. The random stream outside is left as it was.

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
        page = _page(folder, config, run, Evaluation(particles, limit, seed), flags, progress or silent)
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
    sections: dict[str, Any] = {"frames": _or_why(lambda: frames(story)), "losses": losses(story)}
    images = is_image(config["description"].get("shape", ()))
    asked: dict[str, Callable[[Run], Any]] = {
        "reconstructions": (lambda run: reconstructions(run, progress)) if images else columns,
        "latent": latent,
        "manifold": manifold,
        "neighbors": neighbors,
    }
    sections["figures"] = _or_why(lambda: figures_of(story, lambda: run, evaluation, progress))
    for i, (name, section) in enumerate(asked.items()):
        progress(name, i, len(asked))
        sections[name] = say("no_weights") if run is None else _or_why(partial(section, run))
    figures = sections["figures"]
    if not isinstance(figures, Text):
        figures["rows"] = [_row(story, figure) for figure in figures["figures"]]
    here = shlex.quote(str(folder.path)) + (f" {flags}" if flags else "")
    return {
        "kind": "report",
        "images": images,
        "title": story.title,
        "place": str(folder.path),
        "verdict": verdict(story, run, sections["latent"], figures, here),
        "findings": [_finding(entry) for entry in story.findings],
        "notes": [] if run is None else run.notes,
        "evaluate": f"ancestral evaluate {here} --particles 5000",
        "origin": origin(story, run),
        **sections,
    }


def _or_why(section: Callable[[], Any]) -> Any:
    """A section, or why there is none."""
    try:
        return section()
    except AncestralError as error:
        return Text(str(error), str(error))


def _finding(entry: Mapping[str, Any]) -> dict[str, str]:
    """One line of health.json, as text."""
    epoch = finite(entry.get("epoch"))
    return {
        "check": shortened(str(entry.get("check", "")), 60),
        "epoch": "" if epoch is None else f"{epoch:.3g}",
        "message": shortened(str(entry.get("message", "")), 1000),
    }


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
    story: Story, run: Run | None, latents: dict[str, Any] | Text, figures: dict[str, Any] | Text, here: str
) -> dict[str, Any]:
    """In words: what was trained on what, how it ended, and whether to trust it; and the command to type next."""
    description = story.config["description"]
    rows = finite(story.split("train", "rows"))
    likelihood: Text | str = ""
    if story.setting("likelihood"):
        likelihood = say(
            "with_likelihood", likelihood=plain(story.setting("likelihood")), latent=story.setting("latent")
        )
    shape = " x ".join(map(str, description.get("shape", ())))
    sentences = [
        say("trained_on", model=story.model, data=story.name, rows=counted(rows or 0, "row"), shape=shape,
            likelihood=likelihood),
        how_it_ended(story),
    ]  # fmt: skip
    going = "none"
    if story.best is not None:
        epoch, value = story.best
        sentences.append(say("best_validation", value=f"{value:.4g}", epoch=f"{epoch:.3g}"))
        going = tendency(story.validation)
        sentences.append(say(f"validation_{going}", value=f"{story.validation[-1][1]:.4g}"))
    elif story.scalars:
        sentences.append(say("game" if story.config["model"] == "gan" else "no_validation"))
    sentences += _discriminator(story)
    collapsed = False
    if not isinstance(figures, Text):
        bound = next((f for f in figures["figures"] if f.name == "log p(x)" and f.kind == "lower bound"), None)
        if bound is not None and bound.standard_error is not None:
            parts = bound.data.split(", ")
            split = parts[1] if len(parts) > 1 and parts[1] in ("test", "validation", "train") else "test"
            sentences.append(
                say("bound", rows=counted(bound.datapoints, "row"), split=say(f"split_{split}"),
                    value=f"{bound.value:.2f}", error=f"{bound.standard_error:.2f}",
                    particles=counted(bound.particles, "particle"))
            )  # fmt: skip
    if not isinstance(latents, Text):
        for variable in latents["variables"]:
            sentences.append(
                say("active_units", active=variable["active"], units=variable["count"], name=variable["name"])
            )
        collapsed = not any(variable["active"] for variable in latents["variables"])
    if story.findings:
        sentences.append(say("finding_one" if len(story.findings) == 1 else "finding_many", n=len(story.findings)))
    level, trust = _trust(story, run, going, collapsed)
    return {"level": level, "word": say(f"level_{level}"), "words": joined(*sentences), "trust": say(trust),
            "next": _next_command(story, going, collapsed, figures, here)}  # fmt: skip


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
    return say("ended_other", epochs=epochs, finished=story.finished, **words)


def _discriminator(story: Story) -> list[Text]:
    """How often a discriminator was right at the end, if there is one."""
    shares = []
    for name in ("discriminator accuracy on data", "discriminator accuracy on samples"):
        points = story.scalars.get(name, [])
        late = [value for _, value in points[-max(1, len(points) // 10) :]]
        if late:
            shares.append(f"{100 * sum(late) / len(late):.0f} %")
    return [say("discriminator", data=shares[0], samples=shares[1])] if len(shares) == 2 else []


def _trust(story: Story, run: Run | None, going: str, collapsed: bool) -> tuple[str, str]:
    """How far the model can be trusted: a level, and the key of the sentence that says why."""
    if run is None:
        return "bad", "trust_no_weights"
    if collapsed:
        return "bad", "trust_collapsed"
    if story.ending == "not":
        return "care", "trust_unfinished"
    if story.findings:
        return "care", "trust_findings"
    if story.config["model"] == "gan":
        return "care", "trust_game"
    if not story.validation:
        return "care", "trust_unvalidated"
    if going in ("falling", "short"):
        return "care", f"trust_{going}"
    return "good", "trust_rising" if going == "rising" else "trust_good"


def _next_command(story: Story, going: str, collapsed: bool, figures: dict[str, Any] | Text, here: str) -> str:
    """The command that helps most now."""
    if story.ending in ("none", "not"):
        return f"ancestral resume {here}"
    words, ours = command_of(story)
    if collapsed and ours and story.setting("kl_warmup") == 0 and story.setting("bound") == "elbo":
        return shlex.join(_again(words, "--kl-warmup", "10"))
    if going == "falling" and not story.stopped_early and ours and words[1:2] == ["train"]:
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


def _row(story: Story, figure: Figure) -> dict[str, Any]:
    """A line of the table of figures."""
    published = published_for(story.config, figure)
    beside = None
    if published is not None:
        rows, batch = finite(story.split("train", "rows")), story.config["training"].get("batch_size")
        units = say("published_units", units=published.active_units)
        beside = {
            "words": say("published_at", value=f"{published.value:.2f}", units=units, source=published.source),
            "differences": differences(published, figure, story.epoch, batch, None if rows is None else int(rows)),
        }
    return {**shown(figure), "published": beside}


def shown(figure: Figure) -> dict[str, Any]:
    """A figure with its numbers as they are printed."""
    exact = figure.unit not in ("nats", "bits")
    kinds = ("exact", "lower bound", "upper bound", "estimate", "part of a bound")
    return {
        "name": figure.name,
        "value": f"{figure.value:g}" if exact else f"{figure.value:.4f}",
        "error": "" if figure.standard_error is None else f"± {figure.standard_error:.4f}",
        "unit": figure.unit,
        "kind": say(f"kind_{figure.kind}") if figure.kind in kinds else figure.kind,
        "estimator": figure.estimator,
        "likelihood": figure.likelihood,
        "data": figure.data,
        "digest": figure.digest,
        "seed": figure.seed,
    }


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

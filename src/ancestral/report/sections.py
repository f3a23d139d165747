"""The sections of a report that ask the model: figures, reconstructions, latent space, neighbors.

Each gives what the template shows, or a ``Text`` that says why there is nothing to show.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ancestral.configs.data import HIDDEN
from ancestral.core import Joint, run as run_model
from ancestral.data import Dataset
from ancestral.data.dataset import SplitName
from ancestral.errors import AncestralError
from ancestral.evaluation import (
    Figure,
    activity,
    bounds,
    drawn_besides_data,
    is_standard_normal,
    latent_grid,
    nearest_training_rows,
)
from ancestral.models import LatentVariableModel
from ancestral.models.contract import CanClassify, CanReconstruct, CanSample
from ancestral.models.latent_variable import ACTIVE, divergence_per_unit, drawn_after_others, draws_of_means
from ancestral.objectives.iwae import Bounds
from ancestral.report.charts import ticks
from ancestral.report.pictures import MANIFOLD_BYTES, SPRITE_BYTES, is_image, mosaic, picture, thumbnail
from ancestral.report.story import BARS, Story, digests_of, read_figures, shortened
from ancestral.report.words import Text, counted, joined, say
from ancestral.runs import Run
from ancestral.training.pictures import reconstructed, sampled

PARTICLES, ROWS = 100, 1000
"""Of the evaluation that is made where the run has none."""
RANKED, SHOWN, RECONSTRUCTION_PARTICLES = 500, 5, 20
"""Rows that are ranked by their reconstruction, rows shown of each kind, and draws of z for each."""
MAPPED = 400
"""Rows on the map of the latent space."""
NEIGHBORS, DRAWS = 16, 100
"""Samples shown beside their nearest training rows, and draws whose distances are compared."""
NEAR, FAR = 0.5, 2.0
"""Times the distance of new data from their nearest training rows: nearer is too near, farther is far off the data."""
ALIKE = 0.5
"""Times the distance of two rows of data: draws that lie nearer to each other are too much alike."""
COMPARED, ENOUGH, TAIL = 100, 10, 0.05
"""Rows of the training and of the held-out data whose log p(x) is compared; how many of each are enough to judge by;
and the part of the training rows below which half of the held-out ones must not lie."""
MANIFOLD = 15
"""Steps of the grid over a 2-D latent space along each axis."""
LAYER_ROWS, LAYER_COLUMNS, LAYERS_BYTES = 6, 10, 40_000
"""Draws of the upper layers, draws below each, and what each picture may take."""
MAP = 400.0
"""Side of the map, in units of its own."""
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Evaluation:
    """How a run is evaluated for a page; None leaves evaluation.json its say."""

    particles: int | None
    limit: int | None
    seed: int
    which: str = "auto"
    """The weights that are asked for, ``best`` or ``last``; ``auto`` leaves evaluation.json its say."""

    @property
    def asked(self) -> bool:
        return self.particles is not None or self.limit is not None

    def make(self, run: Run, progress: Progress) -> list[Figure]:
        """The figures of a run."""
        data = run.data
        return run.evaluate(
            PARTICLES if self.particles is None else self.particles,
            held_out(data),
            seed=self.seed,
            limit=ROWS if self.limit is None else self.limit,
            progress=lambda done, total, mean: progress(f"log p(x) {mean:.2f}", done, total),
        )


def figures_of(
    story: Story, load_run: Callable[[], Run | None], evaluation: Evaluation, progress: Progress
) -> dict[str, Any] | Text:
    """The figures of evaluation.json, or new ones of the run, which is then loaded; and whence they come, in words."""
    stale = False
    if not evaluation.asked:
        figures, weights, digest = read_figures(story.folder)
        # Where the checkpoints were removed, or the figures are older than digests, there is nothing to compare.
        compared = bool(digest) and any(digests_of(story.folder, which) for which in ("best", "last"))
        stale = bool(figures) and compared and digest not in digests_of(story.folder, weights)
        if figures and not stale and evaluation.which in ("auto", weights):
            note = say("figures_stored", weights=weights)
            note = note if compared else joined(note, say("figures_not_compared"))
            return {"figures": figures, "weights": weights, "note": note, "stored": True}
    run = load_run()
    if run is None:
        return say("no_weights")
    if not isinstance(run.model, LatentVariableModel | CanClassify):
        return say("no_figures")
    started = time.monotonic()
    figures = evaluation.make(run, progress)
    note = say(
        "figures_quick", rows=counted(figures[0].datapoints, "row"),
        particles=counted(figures[0].particles, "particle"),
        weights=run.which, seconds=f"{time.monotonic() - started:.0f}",
    )  # fmt: skip
    note = joined(say("figures_stale"), note) if stale else note
    return {"figures": figures, "weights": run.which, "note": note, "stored": False}


def held_out(data: Dataset) -> SplitName:
    """The split that a model is judged by: the test rows; without any, those of validation; without any, training's."""
    splits: tuple[SplitName, ...] = ("test", "validation", "train")
    return next(split for split in splits if len(getattr(data, split)))


@dataclass(frozen=True)
class Held:
    """Rows spread evenly over a split."""

    data: Dataset
    split: SplitName
    index: np.ndarray[Any, np.dtype[np.int64]]
    x: Tensor
    y: Tensor | None

    @property
    def split_words(self) -> Text:
        return say(f"split_{self.split}")

    @property
    def count(self) -> Text:
        return counted(len(self.x), "row")


def take(run: Run, most: int, split: SplitName | None = None) -> Held:
    """Up to so many rows of a split, by default the held-out one, on the model's device."""
    data = run.data
    split = split or held_out(data)
    part = getattr(data, split)
    index = np.linspace(0, len(part) - 1, min(most, len(part))).round().astype(np.int64)
    device = next((parameter.device for parameter in run.model.parameters()), torch.device("cpu"))
    y = None if part.y is None else torch.as_tensor(part.y[index]).to(device)
    return Held(data, split, index, data.rows(split, index).to(device), y)


def reconstructions(run: Run, progress: Progress) -> dict[str, Any] | Text:
    """The rows that are reconstructed best, in the middle and worst, ranked by E[log p(x | z)]."""
    model = run.model
    if not isinstance(model, CanReconstruct):
        return say("no_encoder")
    if not isinstance(model, LatentVariableModel):
        return say("no_density")
    held = take(run, RANKED)
    values = []
    for found in _bounds(model, held):
        values.append(found.log_likelihood.cpu())
        progress("reconstructions", sum(map(len, values)), len(held.x))
    likelihood = torch.cat(values)
    order = likelihood.argsort(descending=True)
    n = len(order)
    count = max(1, min(SHOWN, n // 3))
    middle = max(0, n // 2 - count // 2)
    groups = []
    for name, chosen in (
        ("best", order[:count]),
        ("median", order[middle : middle + count]),
        ("worst", order[-count:]),
    ):
        x = held.x[chosen]
        again, drawn = reconstructed(model, x, None if held.y is None else held.y[chosen])
        rows = []
        for i, position in enumerate(chosen.tolist()):
            value = f"{likelihood[position]:.1f}"
            words = say("original_and_reconstruction", row=int(held.index[position]), value=value)
            rows.append(
                {"pair": [thumbnail(x[i]), thumbnail(again[i])], "alt": words, "words": say("nats", value=value)}
            )
        groups.append({"name": say(name), "rows": rows})
    about = say(
        "reconstructions_help", where=say("at_a_draw" if drawn else "at_the_mean"), rows=held.count,
        split=held.split_words, particles=counted(RECONSTRUCTION_PARTICLES, "particle"),
    )  # fmt: skip
    if model.q is model.p:
        about = joined(about, say("prediction_help", **_roles(model, held)))
    return {"about": about, "groups": groups, "side": _side(held.x.shape[2:])}


def _bounds(model: LatentVariableModel, held: Held) -> Iterator[Bounds]:
    """The bounds of some rows, a few at a time."""
    for begin in range(0, len(held.x), 50):
        part = slice(begin, begin + 50)
        yield bounds(model, held.x[part], RECONSTRUCTION_PARTICLES, None if held.y is None else held.y[part])


def _side(shape: Sequence[int]) -> int:
    """How many screen pixels wide a small image is shown."""
    return round(72 * shape[1] / max(shape))


def columns(run: Run) -> dict[str, Any] | Text:
    """For data that are no images: each column of the data, of samples, and how well it is reconstructed."""
    model = run.model
    held = take(run, ROWS)
    names = held.data.description.columns

    def original(x: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
        return held.data.to_original(x).reshape(len(x), -1).astype(np.float64)

    x = original(held.x)
    samples = original(model.sample(len(held.x))) if isinstance(model, CanSample) else None
    error, drawn = None, False
    if isinstance(model, CanReconstruct):
        parts = []
        for i in range(0, len(held.x), 100):
            part, drawn = reconstructed(model, held.x[i : i + 100], None if held.y is None else held.y[i : i + 100])
            parts.append(part)
        again = torch.cat(parts)
        error = np.sqrt(((original(again) - x) ** 2).mean(0))
    rows = []
    for i in range(min(x.shape[1], BARS)):
        spread = x[:, i].std()
        rows.append({
            "name": shortened(names[i], 60) if i < len(names) else str(i + 1),
            "data": f"{x[:, i].mean():.4g} ± {spread:.3g}",
            "samples": f"{samples[:, i].mean():.4g} ± {samples[:, i].std():.3g}" if samples is not None else None,
            "error": f"{error[i]:.3g}" if error is not None else None,
            "share": f"{error[i] / spread:.2f}" if error is not None and spread > 0 else None,
        })  # fmt: skip
    about = say(
        "columns_help" if error is not None else "columns_help_samples", rows=held.count, split=held.split_words
    )
    if drawn:
        about = joined(about, say("columns_drawn"))
    if x.shape[1] > BARS:
        about = joined(about, say("columns_more", shown=BARS, all=f"{x.shape[1]:,}"))
    return {"about": about, "rows": rows, "errors": error is not None, "sampled": samples is not None}


def latent(run: Run) -> dict[str, Any] | Text:
    """Each latent variable: a map of the posterior means, and the divergence of its units."""
    model = run.model
    if not isinstance(model, LatentVariableModel):
        return say("latent_game")
    held = take(run, MAPPED)
    means = model.posterior_means(held.x, held.y)
    if not means:
        return say("latent_no_means")
    variances = activity(model, held.data, held.split)
    draws, later = draws_of_means(model, held.x[:1], None if held.y is None else held.y[:1]), drawn_after_others(model)
    classes = held.data.description.classes
    colored = held.y is not None and 0 < classes <= 10
    if held.y is None:
        colors = say("map_no_labels")
    else:
        colors = say("map_colored") if colored else say("map_many_classes", classes=classes)
    variables = []
    for name in list(means)[:3]:
        values, variance = means[name].flatten(1).double().cpu(), variances[name].cpu()
        variables.append({
            "name": name,
            "map": _map(name, values, held, colored),
            "colors": colors,
            "averaged": _averaged(name, draws[name], name in later) if name in draws else "",
            "units": _units(model, name, held, variance),
            "active": int((variance > ACTIVE).sum()),
            "threshold": ACTIVE,
            "count": variance.numel(),
        })  # fmt: skip
    sprite = None
    if is_image(held.x.shape[1:]):
        across = math.ceil(math.sqrt(len(held.x)))
        sprite = {
            "picture": picture(mosaic(held.x, across, side=32), SPRITE_BYTES),
            "columns": across,
            "rows": math.ceil(len(held.x) / across),
            "ratio": held.x.shape[3] / held.x.shape[2],
        }
    legend = [{"color": label, "words": say("class", label=label)} for label in range(classes)] if colored else []
    if colored and held.y is not None and (held.y == HIDDEN).any():
        legend.append({"color": HIDDEN, "words": say("without_class")})
    note = say("latent_of_p", **_roles(model, held)) if model.q is model.p else None
    return {"variables": variables, "sprite": sprite, "legend": legend, "note": note, "information": []}


def _averaged(name: str, draws: int, later: bool) -> Text:
    """What a posterior mean is an average over, where it is no closed form."""
    return say("map_averaged", draws=draws, before=say("map_before" if later else "map_own", name=name))


def _roles(model: LatentVariableModel, held: Held) -> dict[str, str]:
    """The names of what is drawn, given and observed, of a model whose latent variables are drawn from p itself."""
    given = list(model.conditions(held.x[:1], None if held.y is None else held.y[:1]))
    return {"drawn": ", ".join(model.latents()), "given": ", ".join(given) or "nothing", "observed": model.observed}


def _map(name: str, values: Tensor, held: Held, colored: bool) -> dict[str, Any] | Text:
    """Where each row lies: its two dimensions, or the first two principal components of more."""
    units = values.shape[1]
    if units < 2:
        return say("map_one", name=name)
    centered = values - values.mean(0)
    variance = (centered**2).sum().item()
    if not math.isfinite(variance) or variance < 1e-12:
        return say("map_still")
    words = {"rows": held.count, "split": held.split_words, "name": name, "units": units}
    if units == 2:
        places, about = values, say("map_direct", **words)
        axes = [say("unit_axis", name=name, n=1), say("unit_axis", name=name, n=2)]
    else:
        _, sizes, directions = torch.linalg.svd(centered, full_matrices=False)
        places = centered @ directions[:2].T
        share = f"{100 * (sizes[:2] ** 2).sum().item() / variance:.0f} %"
        about = say("map_components", share=share, **words)
        axes = [say("component", n=1), say("component", n=2)]
    middle = (places.max(0).values + places.min(0).values) / 2
    reach = 1.06 * (places - middle).abs().max().item()
    margin = 36

    def across(value: float, axis: int) -> float:
        part = (value - middle[axis].item() + reach) / (2 * reach)
        return round(margin + (part if axis == 0 else 1 - part) * (MAP - 2 * margin), 1)

    points = []
    for i, place in enumerate(places.tolist()):
        row = int(held.index[i])
        label = None if held.y is None else int(held.y[i])
        words_of = say("point", row=row) if label in (None, HIDDEN) else say("point_class", row=row, label=label)
        color = label if colored else 0
        points.append({"x": across(place[0], 0), "y": across(place[1], 1), "i": i, "color": color, "words": words_of})
    grid = [
        [(across(tick, axis), f"{tick:g}") for tick in ticks(middle[axis].item() - reach, middle[axis].item() + reach)]
        for axis in (0, 1)
    ]
    return {"about": about, "axes": axes, "points": points, "x_ticks": grid[0], "y_ticks": grid[1], "side": MAP}


def _units(model: LatentVariableModel, name: str, held: Held, variance: Tensor) -> dict[str, Any] | Text:
    """The divergence of each unit, the largest first."""
    found = divergence_per_unit(model, held.x, held.y).get(name)
    if found is None:
        return say("kl_none")
    divergence = found.flatten().cpu()
    order = divergence.argsort(descending=True)[:BARS].tolist()
    top = max(divergence.max().item(), 1e-9)
    bars = []
    for i in order:
        kl, moves = divergence[i].item(), variance[i].item()
        active = moves > ACTIVE
        state = say("active" if active else "inactive")
        words = say("kl_unit", unit=i + 1, kl=f"{kl:.3f}", activity=f"{moves:.3g}", state=state)
        bars.append({
            "unit": i + 1, "kl": f"{kl:.3f}", "activity": f"{moves:.3g}", "active": active, "state": state,
            "height": round(max(0.0, kl) / top * 100, 2), "words": words,
        })  # fmt: skip
    more = say("kl_more", shown=len(bars), units=variance.numel()) if variance.numel() > len(bars) else None
    return {"bars": bars, "top": f"{top:.3g}", "more": more}


def manifold(run: Run) -> dict[str, Any] | Text:
    """What is decoded over a grid of a 2-D latent space with a standard normal prior."""
    model = run.model
    if not isinstance(model, LatentVariableModel):
        return say("latent_game")
    if not is_image(run.config["description"]["shape"]):
        return say("manifold_table")
    if len(drawn_besides_data(model)) != 1 or model.latent_shape() != (2,):
        return say("manifold_only_two")
    if not is_standard_normal(next(iter(model.priors().values()))):
        return say("manifold_prior")
    x = latent_grid(model, MANIFOLD)
    return {"about": say("manifold_help"), "picture": picture(mosaic(x, MANIFOLD, side=48), MANIFOLD_BYTES)}


def layers(run: Run) -> list[dict[str, Any]] | Text:
    """What is left open below each latent variable: its draws stay along a row, those of the ones below it do not."""
    model = run.model
    if not isinstance(model, LatentVariableModel):
        return say("latent_game")
    if not is_image(run.config["description"]["shape"]):
        return say("manifold_table")
    names = model.latents()
    if len(names) < 2 or not isinstance(model.p, Joint):
        return say("layers_one")
    held = take(run, LAYER_ROWS)
    kept = _conditions(model, held, LAYER_ROWS).get("given") or model.condition(LAYER_ROWS)
    drawn = run_model(model.p, kept, (LAYER_ROWS,)).values
    pictures = []
    for i in range(1, len(names)):
        stay = {name: drawn[name] for name in (*kept, *names[:i])}
        given = {name: value.repeat_interleave(LAYER_COLUMNS, 0) for name, value in stay.items()}
        x, _ = sampled(model, LAYER_ROWS * LAYER_COLUMNS, given=given)
        about = say("layers_help", above=", ".join(names[:i]), below=", ".join(names[i:]))
        pictures.append({"about": about, "picture": picture(mosaic(x, LAYER_COLUMNS, side=48), LAYERS_BYTES)})
    return pictures


def neighbors(run: Run) -> dict[str, Any] | Text:
    """Samples beside their nearest training rows; and what is wrong where they lie too near, too far or together.

    A draw from p(x | z) is noisy, so that one around a training row can lie as far from it as new data do: where the
    means of p(x | z) are known, they are measured too.
    """
    model = run.model
    if not isinstance(model, CanSample):
        return say("no_density")
    images = is_image(run.config["description"]["shape"])
    held = take(run, DRAWS)
    given = _conditions(model, held, DRAWS)
    part: Callable[[Tensor], Tensor] = model.predicted if isinstance(model, LatentVariableModel) else lambda x: x
    draws = model.sample(DRAWS, **given).cpu()
    means = draws[:0]
    if isinstance(model, LatentVariableModel):
        with contextlib.suppress(AncestralError):  # no mean in closed form
            means = model.sample(DRAWS, mean=True, **given).cpu()
    shown = (means if len(means) else draws)[: NEIGHBORS if images else 0]
    nearest_rows, of_shown = nearest_training_rows(shown, held.data, part)
    rows = [
        {
            "pair": [thumbnail(shown[i]), thumbnail(nearest_rows[i])],
            "alt": say("sample_and_nearest", distance=f"{of_shown[i]:.2f}"),
            "words": Text(*[f"{of_shown[i]:.2f}"] * 2),
        }
        for i in range(len(shown))
    ]
    notes = [say("neighbors_help") if images else say("neighbors_table")]
    if images and len(means):
        notes.append(say("neighbors_mean"))
    if isinstance(model, LatentVariableModel) and part(held.x).shape != held.x.shape:
        notes.append(say("neighbors_part", **_roles(model, held)))
    wrong: dict[str, Text] = {}
    if held.split != "train":
        asked = (draws, means if len(means) else draws, held.x)
        of_draws, of_means, of_held = (nearest_training_rows(x, held.data, part)[1].median().item() for x in asked)
        words = {"samples": f"{of_draws:.3g}", "held": f"{of_held:.3g}"}
        beside = say("neighbors_means", means=f"{of_means:.3g}") if len(means) else Text("", "")
        notes.append(
            say("neighbors_distance", draws=DRAWS, means=beside, rows=held.count, split=held.split_words, **words)
        )
        notes.append(say("neighbors_far_from_proof"))
        if min(of_draws, of_means) < NEAR * of_held:
            wrong["near"] = say("near")
        if min(of_draws, of_means) > FAR * of_held > 0:
            wrong["far"] = say("far", **words | {"samples": f"{min(of_draws, of_means):.3g}"})
    apart, of_data = (torch.pdist(part(x).flatten(1).float().cpu()).median().item() for x in (draws, held.x))
    words = {"samples": f"{apart:.3g}", "data": f"{of_data:.3g}"}
    notes.append(say("neighbors_variety", split=held.split_words, **words))
    if apart < ALIKE * of_data:
        wrong["alike"] = say("alike", **words)
    return {"about": joined(*notes), "rows": rows, "wrong": wrong, "side": _side(shown.shape[2:]) if images else 0}


def _conditions(model: Any, held: Held, n: int) -> dict[str, Any]:
    """What n samples are conditioned on: that of rows which training has not seen, as samples from the model's own
    might repeat a part of its training rows."""
    if not isinstance(model, LatentVariableModel) or not isinstance(model.p, Joint) or not model.p.given:
        return {}
    rows = torch.arange(n, device=held.x.device) % len(held.x)
    values = model.conditions(held.x, held.y)
    return {"given": {name: values[name][rows] for name in model.p.given if name in values}}


def generalization(run: Run) -> dict[str, Any] | Text:
    """log p(x) of training rows beside that of held-out rows; and what is wrong where they have little in common."""
    model, held = run.model, take(run, COMPARED)
    if not isinstance(model, LatentVariableModel):
        return say("no_density")
    if held.split == "train":
        return say("no_held_out")
    train = take(run, COMPARED, "train")
    of_train, of_held = (torch.cat([found.log_prob.cpu() for found in _bounds(model, rows)]) for rows in (train, held))
    words = {
        "held": held.count, "split": held.split_words, "held_median": f"{of_held.median().item():.4g}",
        "train": train.count, "train_median": f"{of_train.median().item():.4g}",
    }  # fmt: skip
    enough = min(len(of_train), len(of_held)) >= ENOUGH
    wrong = {"memorized": say("memorized", **words)} if enough and of_held.median() < of_train.quantile(TAIL) else {}
    particles = counted(RECONSTRUCTION_PARTICLES, "particle")
    return {"about": say("neighbors_density", particles=particles, **words), "wrong": wrong}


def worse_than_uniform(figures: Sequence[Figure], description: Mapping[str, Any]) -> dict[str, Text]:
    """What is wrong where bits per dimension are more than a uniform guess over the levels of each value needs."""
    levels = 2 if description.get("kind") == "binary" else description.get("levels")
    bits = next((figure.value for figure in figures if figure.unit == "bits"), None)
    if bits is None or not isinstance(levels, int) or levels < 2 or bits <= math.log2(levels):
        return {}
    # Of dequantized data log p(x) is a density on [0, 1] in each dimension, where the uniform one is 1.
    dimensions = 0 if description.get("kind") == "continuous" else math.prod(description["shape"])
    return {"uniform": say("uniform", levels=levels, value=f"{-dimensions * math.log(levels):.4g}")}

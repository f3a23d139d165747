"""``ancestral estimators [RUN]``."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import tyro

from ancestral.cli.arguments import Out, Own, RunArguments, aligned, check_seed, parse, progress_bar, rows
from ancestral.configs import MODELS
from ancestral.configs.estimation import EstimatorName, EstimatorSettings
from ancestral.errors import AncestralError, nearest

if TYPE_CHECKING:
    from ancestral.evaluation.gradients import EstimatorComparison, Problem
    from ancestral.runs import Run

NAMES: tuple[str, ...] = (*get_args(EstimatorName), "reparameterized")
TARGET, MEAN, ROWS = 0.499, 0.3, 20


@dataclasses.dataclass(frozen=True)
class Estimators:
    """Compare gradient estimators: bias, variance, and time for one gradient.

    Without a run, on E[(b - t)²] of one Bernoulli variable, and on a sigmoid belief network small enough to be summed;
    with a run, on the bound of its model at rows of data, with respect to the parameters of q.
    """

    run: tyro.conf.Positional[str | None] = None
    """The run folder, of a model with latent variables."""
    estimators: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME...")] = NAMES
    """Which to compare."""
    draws: int = 400
    """Gradients drawn of each."""
    fit: int = 200
    """Steps by which baselines and control variates that learn are fitted before."""
    particles: int | None = None
    """Draws of the latent variables for each gradient; by default 2, or as many as the run has if those are more."""
    target: float | None = None
    """t, without a run; by default 0.499."""
    mean: float | None = None
    """Of the Bernoulli variable, without a run; by default 0.3."""
    split: Literal["train", "validation", "test"] = "test"
    """The rows of a run."""
    rows: int | None = None
    """Rows of a run whose bound is averaged; by default 20."""
    out: Out = None
    """Where the page goes: FILE.html, and the figures beside it: FILE.json. By default estimators.html, in the run
    folder if there is one."""
    language: Literal["auto", "en", "ja"] = "auto"
    """Which language of the page shows first; auto: that of the reader's browser."""
    checkpoint: Literal["auto", "best", "last"] = "auto"
    """Which weights of the run: the best by validation, or the last. auto: the best if there are any."""
    model: Own = None
    """For a run with a model of your own: FILE.py:NAME, a model or a function that makes it."""
    device: str = "auto"
    """Of a run; auto takes the GPU if there is one."""
    seed: int = 0
    """Of the draws."""


def main(words: Sequence[str]) -> int:
    arguments = parse(Estimators, "estimators", words)
    check_seed(arguments.seed)
    for name in arguments.estimators:
        if name not in NAMES:
            raise AncestralError(f"there is no estimator {name!r}. " + nearest(name, NAMES))
        if arguments.estimators.count(name) > 1:
            raise AncestralError(f"estimators names {name} {arguments.estimators.count(name)} times: once is enough.")
    if not arguments.estimators:
        raise AncestralError("estimators names none: give some, for example --estimators muprop nvil.")
    for name in ("rows", "particles"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise AncestralError(f"{name} is {value}, but it must be 1 or more.")
    _check_effects(arguments)

    from pathlib import Path

    from ancestral.evaluation.gradients import by_name, compare_estimators
    from ancestral.report import write_estimators
    from ancestral.report.page import checked_destination

    run, problems = _problems(arguments)
    default = Path("estimators.html") if run is None else run.path / "estimators.html"
    place = checked_destination(arguments.out, default)
    comparisons = []
    with progress_bar() as progress:
        for problem in problems:
            made = {name: partial(by_name, problem, name) for name in arguments.estimators}
            comparisons.append(
                compare_estimators(problem, made, arguments.draws, arguments.fit, arguments.seed, progress)
            )
    for comparison in comparisons:
        print(in_words(comparison) + "\n")
    following = _next(arguments, run, comparisons[-1])
    target, mean = _target_and_mean(arguments)
    page, figures = write_estimators(
        comparisons, place, target, mean, _provenance(arguments, run), following, arguments.language
    )
    print(f"page:  {page}  ({page.stat().st_size / 1000:,.0f} kB; open it in a browser)")
    print(f"as JSON:  {figures}")
    print(f"next:  {following}")
    return 0


def _target_and_mean(arguments: Estimators) -> tuple[float, float]:
    """Of the Bernoulli variable."""
    return (
        TARGET if arguments.target is None else arguments.target,
        MEAN if arguments.mean is None else arguments.mean,
    )


def _check_effects(arguments: Estimators) -> None:
    """A flag that is only for a run, or only for none, is refused with the other."""
    ignored = ("target", "mean") if arguments.run is not None else ("split", "rows", "checkpoint", "model", "device")
    for name in ignored:
        value = getattr(arguments, name)
        if value != getattr(Estimators, name):
            where = "with a run" if arguments.run is not None else "without a run"
            raise AncestralError(f"{name} is {value}, which has no effect {where}: leave --{name} out.")


def _problems(arguments: Estimators) -> tuple[Run | None, list[Problem]]:
    """The bound of a run, or the two toys."""
    from ancestral.evaluation.gradients import bound_of, one_bernoulli, two_layers
    from ancestral.models import LatentVariableModel

    if arguments.run is None:
        particles = 2 if arguments.particles is None else arguments.particles
        target, mean = _target_and_mean(arguments)
        return None, [one_bernoulli(target, mean, particles), two_layers(particles=particles)]
    found = RunArguments(arguments.run, arguments.checkpoint, arguments.model, arguments.device, arguments.seed)
    run = found.load()
    model = run.model
    if not isinstance(model, LatentVariableModel):
        raise AncestralError(
            f"a {type(model).__name__} has no latent variables with a bound, through which a gradient would be "
            "estimated. Give a run of a LatentVariableModel: vae, sbn, categorical-vae, m2 or one of your own."
        )
    x, y = rows(run, arguments.split, ROWS if arguments.rows is None else arguments.rows)
    particles = max(2, model.particles) if arguments.particles is None else arguments.particles
    return run, [bound_of(model, x, y, particles)]


def in_words(comparison: EstimatorComparison) -> str:
    """What was measured on one problem, as lines of words."""
    from ancestral.report.estimators import bias_in_words

    reference, problem = comparison.reference, comparison.problem
    norm = reference.gradient.norm().item()
    how = "exact" if reference.exact else (
        f"± {reference.standard_error:.2g}, the mean of {reference.draws:,} unbiased ones ({reference.estimators}, "
        f"{reference.particles} particles)"
    )  # fmt: skip
    heading = ("estimator", "in theory", "bias", "variance", "per parameter", "ms", "variance x ms")
    lines = [
        (
            one.name,
            "unbiased" if one.unbiased else "biased",
            bias_in_words(one),
            f"{one.variance:.3g}",
            f"{one.variance / one.parameters:.3g}",
            f"{1e3 * one.seconds:.2f}",
            f"{1e3 * one.cost:.3g}",
        )
        for one in comparison.measured
    ]
    parts = [
        problem.name,
        f"particles: {problem.particles}, parameters: {len(comparison.direction):,}; "
        f"length of the gradient: {norm:.4g}, {how}",
        "",
        aligned([heading, *lines], ("<", "<", "<", ">", ">", ">", ">")),
        *(f"{name}: {why}" for name, why in comparison.unfit.items()),
    ]
    return "\n".join(parts)


def _provenance(arguments: Estimators, run: Run | None) -> dict[str, Any]:
    """What the figures depend on."""
    from ancestral.runs import environment

    found: dict[str, Any] = {"seed": arguments.seed, "draws": arguments.draws, "fit": arguments.fit}
    if run is not None:
        count = ROWS if arguments.rows is None else arguments.rows
        found |= {"run": str(run.path), "weights": run.which, "weights_digest": run.digest}
        found |= {"rows": f"{run.data.name}, {arguments.split}, first {count}"}
        found |= {"rows_digest": run.data.digest(arguments.split)}
    return found | environment(None if run is None else run.data)


def _next(arguments: Estimators, run: Run | None, comparison: EstimatorComparison) -> str:
    """Train with the estimator that reaches the same precision soonest, where the model takes one by name."""
    sound = [one for one in comparison.measured if one.unbiased and not one.biased and (run or one.variance)]
    model = "sbn" if run is None else str(run.config["model"])
    data = "digits" if run is None else str(run.config["data"])
    takes = run is None or "estimator" in run.config["settings"]
    if not sound or not takes:
        return "ancestral list estimators" if run is None else f"ancestral evaluate {shlex.quote(str(run.path))}"
    # an exact sum has no variance at any price: it is for those who can wait, and named only where it costs no more
    drawn = [one for one in sound if one.variance] or sound
    best = min(drawn, key=lambda one: one.cost)
    exact = [one for one in sound if not one.variance and one.seconds <= best.seconds]
    chosen = (exact or [best])[0].name
    particles = comparison.problem.particles
    words = ["ancestral", "train", model, data, "--estimator", chosen]
    if particles > 1 and chosen != "enumerate":
        words += ["--particles", str(particles)]
    if run is not None:  # the same model but for its estimator
        others = {field.name for field in dataclasses.fields(EstimatorSettings)}
        for field in dataclasses.fields(MODELS[model][0]):
            value = run.config["settings"].get(field.name, field.default)
            value = tuple(value) if isinstance(value, list) else value
            if field.name not in others and value != field.default:
                flag = field.name.replace("_", "-")
                if isinstance(value, bool):
                    words.append(f"--{flag}" if value else f"--no-{flag}")
                else:
                    words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else [value])]
    return shlex.join(words)

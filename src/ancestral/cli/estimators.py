"""``ancestral estimators [RUN]``."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Container, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import tyro

from ancestral.cli.arguments import Out, Own, RunArguments, aligned, check_seed, parse, progress_bar, rows
from ancestral.configs import MODELS, DataConfig
from ancestral.configs.estimation import EstimatorName, EstimatorSettings, as_word, from_word
from ancestral.errors import AncestralError, nearest

if TYPE_CHECKING:
    from ancestral.evaluation.gradients import EstimatorComparison, Problem
    from ancestral.models import LatentVariableModel
    from ancestral.runs import Run

REPARAMETERIZED = "reparameterized"
NAMES: tuple[str, ...] = (*get_args(EstimatorName), REPARAMETERIZED)
Choice = EstimatorSettings | str
"""Settings, or the name of what has none."""
CHANGES = ("temperature_rate", "slope_rate")
"""Settings by which others change in training."""
BOUNDS = ("elbo", "iwae")
"""Objectives whose gradient passes draws of the latent variables."""
OWN = " *"
"""Marks the estimator that a run was trained with."""
TARGET, MEAN, ROWS = 0.499, 0.3, 20


def usually(value: object) -> Any:
    """What the help says of a flag that is left out."""
    return tyro.conf.arg(help_behavior_hint=f"(default: {value})")


@dataclasses.dataclass(frozen=True)
class Estimators:
    """Compare gradient estimators: bias, variance, and time for one gradient.

    Without a run, on E[(b - t)²] of one Bernoulli variable, and on a sigmoid belief network small enough to be summed;
    with a run, on the bound of its model at rows of data, with respect to the parameters of q, and beside the estimator
    that it was trained with.
    """

    run: Annotated[tyro.conf.Positional[str | None], usually("none")] = None
    """The run folder, of a model with latent variables."""
    estimators: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME...")] = NAMES
    """Which to compare; `ancestral list estimators` says what each is. Settings, as `ancestral train` has them, follow
    after colons: gumbel-softmax:temperature=0.1, or muprop:baseline=moving-average,network:normalize. A name can be
    there several times, with other settings."""
    draws: int = 400
    """Gradients drawn of each."""
    fit: int = 200
    """Steps by which baselines and control variates that learn are fitted before."""
    particles: Annotated[int | None, usually("2, or as many as the run has if those are more")] = None
    """Draws of the latent variables for each gradient."""
    target: Annotated[float | None, usually(TARGET)] = None
    """t, without a run."""
    mean: Annotated[float | None, usually(MEAN)] = None
    """P(b = 1), without a run."""
    split: Literal["train", "validation", "test"] = "test"
    """The rows of a run."""
    rows: Annotated[int | None, usually(ROWS)] = None
    """Rows of a run whose bound is averaged."""
    out: Annotated[Out, usually("estimators.html, in the run folder if there is one")] = None
    """Where the page goes: FILE.html, and the figures beside it: FILE.json."""
    language: Literal["auto", "en", "ja"] = "auto"
    """Which language of the page shows first; auto: that of the reader's browser."""
    checkpoint: Literal["auto", "best", "last"] = "auto"
    """Which weights of the run: the best by validation, or the last. auto: the best if there are any."""
    model: Annotated[Own, usually("none")] = None
    """For a run with a model of your own: FILE.py:NAME, a model or a function that makes it."""
    device: str = "auto"
    """Of a run; auto takes the GPU if there is one."""
    seed: int = 0
    """Of the draws."""


def main(words: Sequence[str]) -> int:
    arguments = parse(Estimators, "estimators", words)
    check_seed(arguments.seed)
    asked = _asked(arguments)
    for name in ("rows", "particles"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise AncestralError(f"{name} is {value}, but it must be 1 or more.")
    _check_effects(arguments)

    from ancestral.evaluation.gradients import by_name, compare_estimators, own_estimators
    from ancestral.report import write_estimators
    from ancestral.report.page import checked_destination

    run, problems = _problems(arguments)
    default = Path("estimators.html") if run is None else run.path / "estimators.html"
    place = checked_destination(arguments.out, default)
    choices, own = _with_own(asked, run)
    comparisons = []
    with progress_bar() as progress:
        for problem in problems:
            made = {
                name: partial(own_estimators, _model(run), run.epoch)
                if run is not None and name == own
                else partial(by_name, problem, choice)
                for name, choice in choices.items()
            }
            comparisons.append(
                compare_estimators(problem, made, arguments.draws, arguments.fit, arguments.seed, progress, own)
            )
    for comparison in comparisons:
        print(in_words(comparison) + "\n")
    following = _next(run, comparisons[-1], choices)
    target, mean = _target_and_mean(arguments)
    page, figures = write_estimators(
        comparisons, place, target, mean, _provenance(arguments, run), following, arguments.language
    )
    print(f"page:  {page}  ({page.stat().st_size / 1000:,.0f} kB; open it in a browser)")
    print(f"as JSON:  {figures}")
    print(f"next:  {following}")
    return 0


def _asked(arguments: Estimators) -> dict[str, Choice]:
    """What the words name.

    Raises:
        AncestralError: there is no such estimator or setting, or it has no effect, or two words are the same.
    """
    if not arguments.estimators:
        raise AncestralError("estimators names none: give some, for example --estimators muprop nvil.")
    found: dict[str, Choice] = {}
    for word in arguments.estimators:
        name, colon, _ = word.partition(":")
        if name not in NAMES and Path(word).is_dir():
            raise AncestralError(f"{word} is a folder, not an estimator: a run comes before --estimators.")
        if name not in NAMES:
            raise AncestralError(f"there is no estimator {name!r}. " + nearest(name, NAMES))
        if name == REPARAMETERIZED and colon:
            raise AncestralError(f"{word!r}: {name} has no settings. Write {name} alone.")
        choice = REPARAMETERIZED if name == REPARAMETERIZED else from_word(word)
        for before, other in found.items():
            if other == choice:
                raise AncestralError(
                    f"estimators names {word} {arguments.estimators.count(word)} times: once is enough."
                    if before == word
                    else f"estimators names {before} and {word}, which are the same: once is enough."
                )
        for setting in CHANGES:
            if arguments.run is None and isinstance(choice, EstimatorSettings) and getattr(choice, setting):
                raise AncestralError(
                    f"{word!r}: {setting} is {getattr(choice, setting):g}, which has no effect without a run, as no "
                    f"epoch has passed: leave it out, and give the {setting.removesuffix('_rate')} to be compared."
                )
        found[word] = choice
    return found


def _with_own(asked: dict[str, Choice], run: Run | None) -> tuple[dict[str, Choice], str]:
    """What is asked, and first, unless it is among them, the estimator that the run was trained with; and its name."""
    from ancestral.estimators import Reparameterized

    if run is None or _model(run).objective not in BOUNDS:
        return asked, ""
    given = _model(run).estimators or Reparameterized()
    kinds = [type(one) for one in (given.values() if isinstance(given, Mapping) else [given])]
    choice: Choice = " and ".join(dict.fromkeys(kind.__name__ for kind in kinds))
    if "estimator" in run.config["settings"]:
        fields = {field.name for field in dataclasses.fields(EstimatorSettings)} - {"particles"}
        values = {key: value for key, value in run.config["settings"].items() if key in fields}
        choice = EstimatorSettings(**{**values, "baseline": tuple(values.get("baseline", ()))})
    elif set(kinds) == {Reparameterized}:
        choice = REPARAMETERIZED
    name = as_word(choice) if isinstance(choice, EstimatorSettings) else choice
    for word, other in asked.items():
        if other == choice:
            return asked, word
    return {name: choice, **asked}, name


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

    if arguments.run is None:
        particles = 2 if arguments.particles is None else arguments.particles
        target, mean = _target_and_mean(arguments)
        return None, [one_bernoulli(target, mean, particles), two_layers(particles=particles)]
    found = RunArguments(arguments.run, arguments.checkpoint, arguments.model, arguments.device, arguments.seed)
    run = found.load()
    model = _model(run)
    x, y = rows(run, arguments.split, ROWS if arguments.rows is None else arguments.rows)
    particles = max(2, model.particles) if arguments.particles is None else arguments.particles
    return run, [bound_of(model, x, y, particles, run.epoch)]


def _model(run: Run) -> LatentVariableModel:
    """That of the run.

    Raises:
        AncestralError: it has no bound.
    """
    from ancestral.models import LatentVariableModel

    if not isinstance(run.model, LatentVariableModel) or not run.model.latents():
        raise AncestralError(
            f"a {type(run.model).__name__} has no latent variables with a bound, through which a gradient would be "
            "estimated. Give a run of a LatentVariableModel: vae, sbn, categorical-vae, m2 or one of your own."
        )
    return run.model


def in_words(comparison: EstimatorComparison) -> str:
    """What was measured on one problem, as lines of words."""
    from ancestral.report.estimators import bias_in_words

    reference, problem = comparison.reference, comparison.problem
    norm = reference.gradient.norm().item()
    how = "exact" if reference.exact else (
        f"± {reference.standard_error:.2g}, the mean of {reference.draws:,} unbiased ones ({reference.estimators}, "
        f"{reference.particles} particle{'s' * (reference.particles > 1)})"
    )  # fmt: skip
    heading = ("estimator", "in theory", "bias", "variance", "per parameter", "ms", "variance x ms")
    lines = [
        (
            one.name + OWN * (one.name == comparison.own),
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
        *(f"{name}{OWN * (name == comparison.own)}: {why}" for name, why in comparison.unfit.items()),
        *([f"{OWN.strip()} as the run was trained"] if comparison.own else []),
    ]
    return "\n".join(parts)


def _provenance(arguments: Estimators, run: Run | None) -> dict[str, Any]:
    """What the figures depend on."""
    from ancestral.runs import environment

    found: dict[str, Any] = {"seed": arguments.seed, "draws": arguments.draws, "fit": arguments.fit}
    if run is not None:
        count = min(ROWS if arguments.rows is None else arguments.rows, len(getattr(run.data, arguments.split)))
        found |= {"run": str(run.path), "weights": run.which, "weights_digest": run.digest}
        found |= {"rows": f"{run.data.name}, {arguments.split}, first {count}"}
        found |= {"rows_digest": run.data.digest(arguments.split)}
    return found | environment(None if run is None else run.data)


def _next(run: Run | None, comparison: EstimatorComparison, choices: dict[str, Choice]) -> str:
    """Train with the estimator that reaches the same precision soonest, where the model takes one by name."""
    sound = [one for one in comparison.measured if one.unbiased and not one.biased and (run or one.variance)]
    model = "sbn" if run is None else str(run.config["model"])
    data = "digits" if run is None else str(run.config["data"])
    takes = run is None or ("estimator" in run.config["settings"] and _model(run).objective in BOUNDS)
    if not sound or not takes:
        return "ancestral list estimators" if run is None else f"ancestral evaluate {shlex.quote(str(run.path))}"
    # an exact sum has no variance at any price: it is for those who can wait, and named only where it costs no more
    drawn = [one for one in sound if one.variance] or sound
    best = min(drawn, key=lambda one: one.cost)
    exact = [one for one in sound if not one.variance and one.seconds <= best.seconds]
    chosen = choices[(exact or [best])[0].name]
    assert isinstance(chosen, EstimatorSettings)
    particles = comparison.problem.particles
    words = ["ancestral", "train", model, data, "--estimator", chosen.estimator]
    if particles > 1 and chosen.estimator != "enumerate":
        words += ["--particles", str(particles)]
    words += _flags(EstimatorSettings, dataclasses.asdict(chosen), leave_out={"estimator", "particles"})
    if run is not None:  # the same model of the same data but for its estimator
        others = {field.name for field in dataclasses.fields(EstimatorSettings)}
        words += _flags(MODELS[model][0], run.config["settings"], leave_out=others)
        words += _flags(DataConfig, run.config["data_settings"])
    return shlex.join(words)


def _flags(kind: type[Any], values: Mapping[str, Any], leave_out: Container[str] = ()) -> list[str]:
    """The flags of those settings that are not as they are by default."""
    words = []
    for field in dataclasses.fields(kind):
        value = values.get(field.name, field.default)
        value = tuple(value) if isinstance(value, list) else value
        if field.name not in leave_out and value != field.default:
            flag = field.name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else [value])]
    return words

"""``ancestral evaluate RUN``."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from itertools import islice
from typing import Any, Literal

from ancestral.cli.arguments import Out, RunArguments, aligned, parse, progress_bar
from ancestral.errors import AncestralError


@dataclasses.dataclass(frozen=True)
class Evaluate(RunArguments):
    """log p(x) on held-out data: the importance-weighted bound, the ELBO and its parts, and other estimates beside.

    Of a model that classifies, also how often it is right, and how far its probabilities can be believed.

    Interrupted, the same command continues. Figures that evaluation.json has of the same weights and rows, computed in
    other ways, stay beside the new ones.
    """

    likelihood: tuple[Literal["iwae", "exact", "ais", "hmc"], ...] = ("iwae",)
    """How, once or several: iwae, the importance-weighted bound; exact, a sum over all values of few discrete latent
    variables; ais, annealed importance sampling for continuous ones, slower and closer; hmc, a density fitted to
    posterior draws, in fewer than 5 dimensions."""
    particles: int | None = None
    """Draws of z per datapoint (iwae), by default 100; memory does not grow with them."""
    chains: int | None = None
    """Markov chains per datapoint (ais, hmc), by default 16."""
    temperatures: int | None = None
    """Distributions on the way to the posterior (ais), by default 1,000: the more, the closer to log p(x)."""
    leapfrog: int | None = None
    """Leapfrog steps of a transition (ais, hmc), by default 10."""
    start: Literal["prior", "posterior"] = "prior"
    """Where chains start (ais, hmc): at the prior p(z), or at q(z | x), sooner there but blind to what q leaves out."""
    split: Literal["train", "validation", "test"] = "test"
    """Which rows."""
    limit: int = 0
    """Evaluate only the first so many rows; 0 takes all."""
    compile: bool = False
    """Make the bound one program first, for seconds, and a third faster then (iwae); needs a C++ compiler."""
    gaps: bool = False
    """Also how much of the bound is lost by the family of q(z | x), and by its encoder: the posteriors of the first 100
    rows, or of --limit of them, are optimized one by one."""
    against: str | None = None
    """Other data, by name or path, that are no such data: how well -log p(x), or how unsure a classifier is, tells them
    apart."""
    json: Out = None
    """Where the figures go besides the screen. By default evaluation.json in the run folder."""

    def options(self) -> dict[str, Any]:
        """The settings of the steps of the ladder that are not the usual ones.

        Raises:
            AncestralError: one can have no effect.
        """
        users = {
            "particles": ("iwae",),
            "compile": ("iwae",),
            "chains": ("ais", "hmc"),
            "temperatures": ("ais",),
            "leapfrog": ("ais", "hmc"),
            "start": ("ais", "hmc"),
        }
        for name in ("chains", "temperatures", "leapfrog"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise AncestralError(f"--{name} is {value}, but it must be 1 or more.")
        given = {name: getattr(self, name) for name in users if getattr(self, name) != getattr(Evaluate, name)}
        for name in given:
            if not set(users[name]) & set(self.likelihood):
                raise AncestralError(
                    f"--{name} has no effect with --likelihood {' '.join(self.likelihood)}: add "
                    f"{' or '.join(users[name])}, or leave it out."
                )
        return given


def main(words: Sequence[str]) -> int:
    arguments = parse(Evaluate, "evaluate", words)
    options = arguments.options()
    run = arguments.load()

    from pathlib import Path

    path = Path(arguments.json) if arguments.json else run.path / "evaluation.json"
    if path.is_dir():
        raise AncestralError(f"{path} is a folder: give the name of a file.")

    from ancestral.cli.arguments import description
    from ancestral.evaluation.figures import beside
    from ancestral.models import LatentVariableModel
    from ancestral.models.contract import CanClassify, CanReconstruct
    from ancestral.report.story import read_figures
    from ancestral.training.folder import write_atomically
    from ancestral.training.health import posterior_collapse

    if isinstance(run.model, CanClassify) and not isinstance(run.model, LatentVariableModel):
        of_density = {"likelihood": arguments.likelihood != Evaluate.likelihood, **options, "gaps": arguments.gaps}
        of_density["limit"] = arguments.limit and arguments.against is None
        for name, asked in of_density.items():
            if asked:
                raise AncestralError(
                    f"--{name} has no effect: a {type(run.model).__name__} has no density of x, and the figures of its "
                    "classes are of all rows. Leave it out."
                )
    if isinstance(run.model, LatentVariableModel) and not run.model.latents():
        for name in ("particles", "compile"):
            if name in options:
                raise AncestralError(
                    f"--{name} has no effect: the model has no latent variables to draw. Leave it out."
                )
    with progress_bar() as show:
        figures = run.evaluate(
            split=arguments.split,
            seed=arguments.seed,
            limit=arguments.limit,
            likelihood=arguments.likelihood,
            progress=lambda done, total, mean: show(f"log p(x) {mean:.2f}", done, total),
            progress_beside=show,
            keep=path.with_suffix(""),
            gaps=arguments.gaps,
            against=arguments.against,
            **options,
        )
    if not arguments.json:
        with contextlib.suppress(AncestralError):  # what is no evaluation is written over
            before, _, digest = read_figures(run.folder)
            figures = beside(before if digest and digest == run.digest else [], figures)
    print(table(figures))
    for figure in figures:
        if figure.monte_carlo_error is not None:
            accepted = "" if figure.acceptance is None else f", acceptance {figure.acceptance:.2f}"
            way = figure.estimator.partition(",")[0]
            print(f"{figure.name}, {way}: ± {figure.monte_carlo_error:.4f} by another seed{accepted}")
    if isinstance(run.model, LatentVariableModel):
        device = next((parameter.device for parameter in run.model.parameters()), "cpu")
        batches = run.data.batches(arguments.split, 500, shuffle=False, device=device)
        warning = posterior_collapse(run.model, islice(batches, 1), (), run.config["model"])
        if warning is not None:
            print(f"\n{warning}")
    first = figures[0]
    print(f"\n{f'likelihood {first.likelihood}; ' if first.likelihood else ''}data {first.data}")
    print(f"sha256 {first.digest}, {run.which} weights, seed {first.seed}")
    for data in dict.fromkeys(figure.data for figure in figures if figure.digest not in ("", first.digest)):
        print(f"{', '.join(figure.name for figure in figures if figure.data == data)}: data {data}")
    record = {
        "run": str(run.path),
        "weights": run.which,
        "weights_digest": run.digest,
        "shape": list(description(run).shape),
        "figures": [dataclasses.asdict(figure) for figure in figures],
    }
    try:
        write_atomically(path, (json.dumps(record, indent=2) + "\n").encode())
    except OSError as error:
        raise AncestralError(f"can't write {path}: {error.strerror}.") from None
    print(f"as JSON:  {path}")
    verb = "reconstruct" if isinstance(run.model, CanReconstruct) else "report"
    print(f"next:  ancestral {verb} {run.path}" + (f" --model {arguments.model}" if arguments.model else ""))
    return 0


def table(figures: Sequence[object]) -> str:
    """The figures as lines of words: value, standard error, unit, kind, estimator."""
    rows = []
    for figure in figures:
        values = dataclasses.asdict(figure)  # type: ignore[call-overload]
        error = values["standard_error"]
        rows.append(
            (
                values["name"],
                f"{values['value']:.4f}" if values["unit"] in ("nats", "bits") else f"{values['value']:g}",
                "" if error is None else f"± {error:.4f}",
                values["unit"],
                values["kind"],
                values["estimator"],
            )
        )
    return aligned(rows, ("<", ">", ">", "<", "<", "<"))

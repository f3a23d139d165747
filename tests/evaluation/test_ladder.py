"""The steps of the ladder side by side: they agree where several apply, and an interrupted one continues."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ancestral import Joint, LatentVariableModel, bernoulli, bernoulli_bias, linear, normal, standard_normal
from ancestral.configs import DataConfig, DataDescription, VAEConfig
from ancestral.data.dataset import Dataset, Rows
from ancestral.data.loading import assemble
from ancestral.data.raw import Raw
from ancestral.errors import AncestralError
from ancestral.evaluation import Figure, ais, evaluate, exact_log_prob, likelihood, unfinished
from ancestral.evaluation.figures import beside
from ancestral.models import variational_autoencoder

IMAGES = np.array([[(i >> k) & 1 for k in range(4)] for i in range(16)], dtype=np.uint8)


def dataset(repeats: int = 1) -> Dataset:
    x = np.tile(IMAGES, (repeats, 1))
    return assemble("small", Raw(Rows(x[:3]), test=Rows(x), levels=2), DataConfig(validation=0))


@pytest.fixture
def continuous() -> LatentVariableModel:
    """Two real latent variables of which one follows the other, over four bits."""
    torch.manual_seed(2)
    p = Joint({"h": standard_normal(1), "z | h": normal(linear(1, 1), scale=0.7), "x | z": bernoulli(linear(1, 4))})
    q = Joint({"z | x": normal(linear(4, 2)), "h | z": normal(linear(1, 2))})
    for parameter in p.parameters():
        nn.init.normal_(parameter)
    for parameter in q.parameters():
        nn.init.normal_(parameter, std=0.1)
    return LatentVariableModel(p, q)


@pytest.fixture
def discrete() -> LatentVariableModel:
    torch.manual_seed(3)
    p = Joint({"h": bernoulli_bias(3), "x | h": bernoulli(linear(3, 4))})
    q = Joint({"h | x": bernoulli(linear(4, 3))})
    model = LatentVariableModel(p, q)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def integrated(model: LatentVariableModel) -> float:
    """The mean of log p(x) over the images, by integration over a grid of both variables."""
    assert isinstance(model.p, Joint)
    h = torch.linspace(-7, 7, 401)
    prior = torch.distributions.Normal(0.0, 1.0)
    conditional: Any = model.p.conditionals["z"](h[:, None])
    decoder: Any = model.p.conditionals["x"]
    noise = torch.linspace(-7, 7, 401)
    z = conditional.loc + noise * conditional.scale  # [h, noise]
    log_x = decoder(z[..., None, None]).log_prob(torch.from_numpy(IMAGES).float())
    log_prior = prior.log_prob(h)[:, None] + prior.log_prob(noise)  # type: ignore[no-untyped-call]
    log_p = torch.logsumexp((log_prior[..., None] + log_x).double().flatten(0, 1), 0) + 2 * math.log(14 / 400)
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-4)
    return log_p.mean().item()


def log_probs(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.estimator.split(" ")[0]: figure for figure in figures if figure.name == "log p(x)"}


@torch.no_grad()
def test_all_steps_for_continuous_variables_agree_with_the_integral(continuous: LatentVariableModel) -> None:
    figures = evaluate(
        continuous, dataset(), 3001, likelihood=["hmc", "ais", "iwae"], chains=40, temperatures=60, leapfrog=5
    )
    truth = integrated(continuous)
    found = log_probs(figures)
    assert list(found) == ["importance-weighted,", "annealed", "density"]
    for figure in found.values():
        assert figure.monte_carlo_error is not None
        assert figure.monte_carlo_error < 0.05
        assert abs(figure.value - truth) < 4 * figure.monte_carlo_error
    for way in ("annealed", "density"):
        figure = found[way]
        assert figure.acceptance is not None
        assert 0.4 < figure.acceptance < 0.95
        assert figure.particles == 40
    assert found["importance-weighted,"].acceptance is None
    gap = next(figure for figure in figures if figure.name == "gap of ais")
    assert gap.standard_error is not None
    assert -3 * gap.standard_error < gap.value < 0.2
    assert (gap.kind, gap.datapoints, gap.digest) == ("upper bound", 16, "")


def test_the_sum_and_the_bound_agree_for_discrete_variables(discrete: LatentVariableModel) -> None:
    figures = evaluate(discrete, dataset(), 5003, likelihood=("exact", "iwae"))
    found = log_probs(figures)
    assert list(found) == ["importance-weighted,", "sum"]
    figure = found["sum"]
    assert figure.kind == "exact"
    exact = exact_log_prob(discrete.p, {"x": torch.from_numpy(IMAGES).float()})
    assert figure.value == pytest.approx(exact.mean().item(), abs=1e-9)
    assert figure.standard_error == pytest.approx(exact.std().item() / 4)
    bound = found["importance-weighted,"]
    assert bound.monte_carlo_error is not None
    assert bound.monte_carlo_error < 0.01
    assert abs(bound.value - figure.value) < 4 * bound.monte_carlo_error
    assert figure.monte_carlo_error is None


def test_what_moves_the_chains_is_said(continuous: LatentVariableModel) -> None:
    figures = evaluate(
        continuous, dataset(), likelihood="ais", chains=3, temperatures=30, leapfrog=2, start="posterior", limit=2
    )
    assert [figure.name for figure in figures] == ["log p(x)", "gap of ais"]
    assert figures[0].estimator == ("annealed importance sampling, 30 temperatures, 3 chains from q, 2 leapfrog steps")
    assert figures[1].data == "2 draws of the model"
    assert figures[0].datapoints == 2


def test_what_is_not_known_is_not_said(continuous: LatentVariableModel) -> None:
    ways: dict[str, Any] = {"likelihood": ["ais", "iwae"], "chains": 1, "temperatures": 1, "leapfrog": 1, "limit": 1}
    bound, *_, annealed, gap = evaluate(continuous, dataset(), 1, **ways)
    assert bound.data == "small, test, first 1 row, binarization none"
    assert gap.data == "1 draw of the model"
    for figure in (bound, annealed, gap):
        assert (figure.monte_carlo_error, figure.acceptance, figure.standard_error) == (None, None, None)


def test_a_flow_is_no_start_of_annealing_and_the_prior_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ais, "FEWEST", 2)
    config = VAEConfig(latent=2, hidden=(5,), likelihood="bernoulli", posterior="planar", flows=3)
    model = variational_autoencoder(config, DataDescription((4,), "binary", 2))
    settings: dict[str, Any] = {"chains": 4, "temperatures": 2, "leapfrog": 1, "limit": 2}
    with pytest.raises(AncestralError, match=r"at the posterior of 'z', a normalizing flow, .* Leave start out"):
        evaluate(model, dataset(), likelihood="ais", start="posterior", **settings)
    assert evaluate(model, dataset(), likelihood="ais", **settings)[0].acceptance is not None


@pytest.mark.parametrize("way", ["ais", "exact"])
def test_what_only_q_is_conditioned_on_is_no_matter_of_the_ways_that_run_p_alone(way: Any) -> None:
    torch.manual_seed(0)
    y = np.arange(16) % 3
    data = assemble("small", Raw(Rows(IMAGES[:3], y[:3]), test=Rows(IMAGES, y), levels=2), DataConfig(validation=0))
    hidden = bernoulli_bias(2) if way == "exact" else standard_normal(2)
    inferred = bernoulli(linear(7, 2)) if way == "exact" else normal(linear(7, 4))
    model = LatentVariableModel(
        Joint({"z": hidden, "x | z": bernoulli(linear(2, 4))}), Joint({"z | x, y": inferred}), classes=3
    )
    starts = ("prior",) if way == "exact" else ("prior", "posterior")
    for start in starts:
        settings: dict[str, Any] = {"chains": 2, "temperatures": 2, "leapfrog": 1, "limit": 3, "start": start}
        assert evaluate(model, data, likelihood=way, **settings)[0].name == "log p(x)"


class Stop(BaseException):
    """As an interruption from the keyboard."""


SETTINGS: dict[str, Any] = {"chains": 4, "temperatures": 3, "leapfrog": 1, "seed": 5}


@pytest.mark.parametrize("way", ["ais", "iwae", "exact"])
@pytest.mark.parametrize("stop_at", [1, 2])
def test_an_interrupted_evaluation_continues_to_the_same_result(
    request: pytest.FixtureRequest, way: str, stop_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = request.getfixturevalue("discrete" if way == "exact" else "continuous")
    monkeypatch.setattr(unfinished, "EVERY", 0.0)
    monkeypatch.setattr(likelihood, "ROWS", 5)
    monkeypatch.setattr(likelihood, "DRAWS", 3 * SETTINGS["chains"])
    monkeypatch.setattr(ais, "FEWEST", 5)
    whole = evaluate(model, dataset(), 7, likelihood=way, **SETTINGS)  # type: ignore[arg-type]
    seen: list[int] = []

    def stop(done: int, total: int, mean: float) -> None:
        seen.append(done)
        if len(seen) == stop_at:
            raise Stop

    with pytest.raises(Stop):
        evaluate(model, dataset(), 7, likelihood=way, progress=stop, keep=tmp_path / "e", **SETTINGS)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == [f"e.{way}.unfinished"]
    first = seen[-1]
    again: list[int] = []

    def watch(done: int, total: int, mean: float) -> None:
        again.append(done)

    continued = evaluate(model, dataset(), 7, likelihood=way, progress=watch, keep=tmp_path / "e", **SETTINGS)  # type: ignore[arg-type]
    assert again[0] > first
    assert again[-1] == 16
    assert continued == whole
    assert not list(tmp_path.iterdir())


def test_the_gap_of_annealing_shows_how_far_it_is_and_continues(
    continuous: LatentVariableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unfinished, "EVERY", 0.0)
    monkeypatch.setattr(likelihood, "DRAWS", 10 * SETTINGS["chains"])
    monkeypatch.setattr(ais, "FEWEST", 5)
    seen: list[tuple[int, int]] = []

    def watch(done: int, total: int, mean: float) -> None:
        seen.append((done, total))
        if len(seen) == stop_at:
            raise Stop

    stop_at = 0
    settings = {**SETTINGS, "likelihood": "ais", "progress": watch}
    whole = evaluate(continuous, dataset(2), **settings)
    rows = [(10, 32), (20, 32), (30, 32), (32, 32)]
    assert seen == [*rows, (5, 16), (10, 16), (15, 16), (16, 16)]
    seen.clear()
    stop_at = 6
    with pytest.raises(Stop):
        evaluate(continuous, dataset(2), keep=tmp_path / "e", **settings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.ais-gap.unfinished", "e.ais.unfinished"]
    seen.clear()
    stop_at = 0
    assert evaluate(continuous, dataset(2), keep=tmp_path / "e", **settings) == whole
    assert seen == [(15, 16), (16, 16)]
    assert not list(tmp_path.iterdir())


def test_what_was_kept_of_another_evaluation_or_is_damaged_is_not_continued(
    continuous: LatentVariableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unfinished, "EVERY", 0.0)
    monkeypatch.setattr(likelihood, "ROWS", 5)
    place = tmp_path / "e.iwae.unfinished"

    def interrupted() -> None:
        def stop(done: int, total: int, mean: float) -> None:
            raise Stop

        with pytest.raises(Stop):
            evaluate(continuous, dataset(), 7, progress=stop, keep=tmp_path / "e")
        assert place.exists()

    def first_seen(**settings: Any) -> int:
        seen: list[int] = []
        evaluate(
            continuous, dataset(), **{"particles": 7, **settings}, keep=tmp_path / "e",
            progress=lambda done, *_: seen.append(done),
        )  # fmt: skip
        return seen[0]

    interrupted()
    assert first_seen() == 10
    for other in ({"particles": 8}, {"seed": 1}, {"limit": 12}, {"split": "train"}):
        interrupted()
        assert first_seen(**other) in (3, 5), other
    interrupted()
    with torch.no_grad():
        next(continuous.p.parameters()).add_(1)
    assert first_seen() == 5
    interrupted()
    content = place.read_bytes()
    for damaged in (b"", content[:-3], content[:40], b"\xff" * 100, content + b"0" * 2**17):
        place.write_bytes(damaged)
        assert first_seen() == 5


def test_what_was_kept_of_other_rows_than_a_pass_has_is_not_continued(tmp_path: Path) -> None:
    place = tmp_path / "kept"

    def kept(rows: int, key: str = "a", **changed: torch.Tensor) -> int:
        file = unfinished.Unfinished(place, key)
        values = {name: torch.zeros(rows, dtype=torch.float64) for name in ("log_prob", "elbo")} | changed
        file.write(lambda: values, last=True)
        return len(unfinished.Unfinished(place, "a").read(("log_prob", "elbo"), {0, 5, 7}).popitem()[1])

    assert kept(5) == 5
    assert kept(7) == 7
    assert kept(6) == 0
    assert kept(5, "b") == 0
    assert kept(5, elbo=torch.zeros(7, dtype=torch.float64)) == 0
    assert kept(5, elbo=torch.zeros(5)) == 0
    assert kept(5, other=torch.zeros(5, dtype=torch.float64)) == 0


def test_the_disk_is_written_now_and_then_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    file = unfinished.Unfinished(tmp_path / "kept", "a")
    values = {"log_prob": torch.zeros(5, dtype=torch.float64)}
    now += 4
    file.write(lambda: values)
    assert not file.path.exists()  # type: ignore[union-attr]
    now += 2
    file.write(lambda: values)
    assert file.path.exists()  # type: ignore[union-attr]
    file.remove()
    now += 4
    file.write(lambda: values)
    assert not file.path.exists()  # type: ignore[union-attr]


def test_where_nothing_can_be_kept_the_evaluation_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    file = unfinished.Unfinished(tmp_path / "file" / "kept", "a")
    file.write(dict, last=True)
    file.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"likelihood": "asi"}, "no likelihood 'asi'.*'ais'"),
        ({"likelihood": ()}, "likelihood is empty"),
        ({"likelihood": ("ais", "ais")}, "each of the steps that you want once"),
        ({"likelihood": "ais", "chains": 0}, "chains is 0"),
        ({"likelihood": "ais", "temperatures": 0}, "temperatures is 0"),
        ({"likelihood": "ais", "leapfrog": 0}, "leapfrog is 0"),
        ({"likelihood": "ais", "start": "prio"}, "no start 'prio'.*'prior'"),
        ({"likelihood": "exact"}, "'h', a .*Normal, is continuous"),
    ],
)
def test_what_the_ladder_does_not_have_is_an_error(
    continuous: LatentVariableModel, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(AncestralError, match=words):
        evaluate(continuous, dataset(), **options)


def test_every_part_of_the_rows_has_draws_of_its_own(
    continuous: LatentVariableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood, "ROWS", 5)
    same = assemble("same", Raw(Rows(IMAGES[:3]), test=Rows(IMAGES[[3] * 15]), levels=2), DataConfig(validation=0))
    assert evaluate(continuous, same, 1, limit=5)[0].value != evaluate(continuous, same, 1)[0].value


@pytest.mark.parametrize("way", ["ais", "hmc"])
def test_chains_need_gradients(discrete: LatentVariableModel, way: Any) -> None:
    with pytest.raises(AncestralError, match="'h', a Bernoulli, is discrete"):
        evaluate(discrete, dataset(), likelihood=way)


def test_figures_of_the_same_rows_computed_in_other_ways_stay_beside_new_ones() -> None:
    bound = Figure("log p(x)", -3.0, "nats", "lower bound", "importance-weighted, 5 particles", data="d", digest="1")
    elbo = dataclasses.replace(bound, name="ELBO", estimator="mean over 5 draws from q")
    annealed = dataclasses.replace(bound, value=-2.0, estimator="annealed importance sampling, 5 temperatures")
    gap = dataclasses.replace(annealed, name="gap of ais", estimator="upper less", data="16 draws", digest="")
    longer = dataclasses.replace(annealed, estimator="annealed importance sampling, 50 temperatures")
    assert beside([], [bound, elbo]) == [bound, elbo]
    assert beside([bound, elbo], [annealed, gap]) == [bound, elbo, annealed, gap]
    assert beside([annealed, gap], [bound, elbo]) == [bound, elbo, annealed, gap]
    assert beside([bound, elbo, annealed, gap], [longer]) == [bound, elbo, gap, longer]
    for changed in ({"data": "e"}, {"digest": "2"}):
        other = dataclasses.replace(bound, **changed)  # type: ignore[arg-type]
        assert beside([other, elbo], [annealed, gap]) == [annealed, gap, elbo]

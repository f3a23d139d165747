"""``ancestral evaluate``: a table, and the same as JSON."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from ancestral import load
from ancestral.evaluation import amortization, likelihood, unfinished
from ancestral.objectives.iwae import bounds


def test_table_and_json_agree(command: Any, runs: Any, tmp_path: Path) -> None:
    out = tmp_path / "new" / "figures.json"
    ended = command("evaluate", runs.vae, "--particles", 3, "--limit", 11, "--json", out)
    assert ended.status == 0
    record = json.loads(out.read_text(encoding="utf-8"))
    *lines, last = ended.out.split("\n\n")[0].splitlines()
    error = record["figures"][0]["monte_carlo_error"]
    assert last == f"log p(x), importance-weighted: ± {error:.4f} by another seed"
    assert len(lines) == len(record["figures"]) == 8
    for line, figure in zip(lines, record["figures"], strict=True):
        cells = re.split(r" {2,}", line)
        assert cells[0] == figure["name"]
        assert math.isclose(float(cells[1]), figure["value"], abs_tol=5.1e-5)
        if figure["standard_error"] is not None:
            assert cells[2] == f"± {figure['standard_error']:.4f}"
        assert cells[-3:] == [figure["unit"], figure["kind"], figure["estimator"]]


def test_the_figures_are_those_of_the_library_with_their_provenance(command: Any, runs: Any, tmp_path: Path) -> None:
    words = ("--particles", 3, "--limit", 11, "--seed", 5, "--split", "validation", "--json", tmp_path / "x.json")
    ended = command("evaluate", runs.vae, *words)
    record = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    run = load(runs.vae)
    expected = run.evaluate(3, "validation", seed=5, limit=11)
    assert [figure["value"] for figure in record["figures"]] == [figure.value for figure in expected]
    assert record["run"] == str(runs.vae)
    assert record["weights"] == "best"
    assert record["shape"] == [1, 8, 8]
    first = record["figures"][0]
    assert first["name"] == "log p(x)"
    assert first["unit"] == "nats"
    assert first["kind"] == "lower bound"
    assert first["estimator"] == "importance-weighted, 3 particles from q"
    assert first["standard_error"] > 0
    assert first["particles"] == 3
    assert first["datapoints"] == 11
    assert first["seed"] == 5
    assert first["likelihood"] == "Bernoulli"
    assert first["digest"] == run.data.digest("validation")
    for word in ("Bernoulli", "digits, validation, first 11 rows", first["digest"], "best weights", "seed 5"):
        assert word in ended.out


def test_the_json_goes_to_the_run_folder_unless_told_otherwise(command: Any, runs: Any, tmp_path: Path) -> None:
    run = runs.copy("table", tmp_path / "run")
    ended = command("evaluate", run, "--particles", 2)
    assert f"as JSON:  {run / 'evaluation.json'}" in ended.out
    record = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    assert record["figures"][0]["datapoints"] == len(load(run).data.test)
    assert record["figures"][0]["likelihood"] == "Normal"
    assert record["weights"] == "last"


def test_the_same_seed_gives_the_same_figures_and_another_seed_others(command: Any, runs: Any, tmp_path: Path) -> None:
    def content(*words: object) -> str:
        command("evaluate", runs.vae, "--limit", 7, *words, "--json", tmp_path / "x.json")
        return (tmp_path / "x.json").read_text(encoding="utf-8")

    assert content("--particles", 2) == content("--particles", 2)
    assert len({content("--particles", 2), content("--particles", 3), content("--particles", 2, "--seed", 1)}) == 3


def test_the_screen_shows_how_far_it_is_on_a_terminal_only(
    command: Any, runs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("evaluate", runs.vae, "--particles", 2, "--limit", 7, "--json", tmp_path / "x.json")
    assert command(*words).err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    err = command(*words).err
    assert "log p(x) -" in err
    assert "7/7" in err


def test_steps_of_the_ladder_stand_beside_one_another_in_the_run_folder(
    command: Any, runs: Any, tmp_path: Path
) -> None:
    run = runs.copy("vae", tmp_path / "run")

    def ways() -> list[tuple[str, str]]:
        figures = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))["figures"]
        return [(figure["name"], figure["estimator"].split(" ")[0]) for figure in figures]

    chains = ("--chains", 4, "--leapfrog", 2)
    command("evaluate", run, "--particles", 3, "--limit", 5)
    alone = ways()
    ended = command("evaluate", run, "--likelihood", "ais", "--limit", 5, *chains, "--temperatures", 5)
    assert ended.status == 0
    assert "log p(x), annealed importance sampling: ± " in ended.out
    assert "acceptance 0." in ended.out
    assert "log p(x), importance-weighted: ± " in ended.out
    added = [("log p(x)", "annealed"), ("gap of ais", "upper")]
    assert sorted(ways()) == sorted([*alone, *added])
    assert ways()[0] == ("log p(x)", "importance-weighted,")
    command("evaluate", run, "--likelihood", "hmc", "iwae", "--limit", 5, *chains)
    assert sorted(ways()) == sorted([*alone, *added, ("log p(x)", "density")])
    command("evaluate", run, "--likelihood", "hmc", "--limit", 6, *chains)  # other rows
    of_model = [("active units of z", "variance"), ("mutual information of x and z", "mixture")]
    stay = [("effective sample size", "weights"), ("gap of ais", "upper")]
    assert ways() == [("log p(x)", "density"), *of_model, *stay]
    assert command("report", run).status == 0
    assert not list(run.glob("*.unfinished"))


def test_figures_of_other_weights_do_not_stay(command: Any, runs: Any, tmp_path: Path) -> None:
    run = runs.copy("vae", tmp_path / "run")
    place = run / "evaluation.json"
    command("evaluate", run, "--particles", 3, "--limit", 5)
    place.write_text(place.read_text(encoding="utf-8").replace('"weights_digest": "', '"weights_digest": "0'))
    words = ("--likelihood", "hmc", "--limit", 5, "--chains", 4)
    command("evaluate", run, *words)
    record = json.loads(place.read_text(encoding="utf-8"))
    names = ["log p(x)", "active units of z", "mutual information of x and z"]
    assert [figure["name"] for figure in record["figures"]] == names
    place.write_text("{", encoding="utf-8")
    assert command("evaluate", run, *words).status == 0
    assert json.loads(place.read_text(encoding="utf-8")) == record


def test_gaps_and_scores_stay_beside_new_likelihoods_of_the_same_weights(
    command: Any, runs: Any, tmp_path: Path
) -> None:
    run = runs.copy("vae", tmp_path / "run")

    def figures() -> dict[str, tuple[float, str]]:
        record = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
        return {figure["name"]: (figure["value"], figure["data"]) for figure in record["figures"]}

    command("evaluate", run, "--gaps", "--against", "digits", "--limit", 3)
    first = figures()
    own = {"approximation gap", "amortization gap", "score", "score of digits", "AUROC against digits"}
    assert own < set(first)
    ended = command("evaluate", run, "--limit", 5)  # other rows
    assert {name: value for name, value in figures().items() if name in own} == {name: first[name] for name in own}
    assert figures()["log p(x)"] != first["log p(x)"]
    assert "amortization gap" in ended.out
    ended = command("evaluate", run, "--limit", 5, "--split", "validation")
    assert "amortization gap, " in ended.out
    assert ": data digits, test, first 3 rows" in ended.out
    command("evaluate", run, "--gaps", "--limit", 4)
    assert figures()["amortization gap"][1] == "digits, test, first 4 rows"
    assert figures()["score"] == first["score"]


def test_the_gaps_show_how_far_they_are(command: Any, runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(amortization, "ROWS", 2)
    err = command("evaluate", runs.vae, "--limit", 3, "--gaps", "--json", runs.place / "gaps.json").err
    assert "gaps" in err
    assert "/1000" in err


def test_an_interrupted_evaluation_is_continued_by_the_same_command(
    command: Any, runs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.copy("vae", tmp_path / "run")
    words = ("evaluate", run, "--particles", 3, "--limit", 30)
    monkeypatch.setattr(unfinished, "EVERY", 0.0)
    monkeypatch.setattr(likelihood, "ROWS", 10)
    computed: list[int] = []

    def interrupted(*arguments: Any) -> Any:
        if arguments[3] == 1:  # one particle shows how much memory it takes
            return bounds(*arguments)
        computed.append(len(computed))
        if len(computed) == 3:
            raise KeyboardInterrupt
        return bounds(*arguments)

    monkeypatch.setattr(likelihood, "importance_weighted", interrupted)
    assert command(*words).status == 130
    assert [path.name for path in run.glob("*.unfinished")] == ["evaluation.iwae.unfinished"]
    assert not (run / "evaluation.json").exists()
    assert command(*words).status == 0
    assert len(computed) == 4
    continued = (run / "evaluation.json").read_text(encoding="utf-8")
    assert not list(run.glob("*.unfinished"))
    command(*words)
    assert (run / "evaluation.json").read_text(encoding="utf-8") == continued


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--likelihood", "ais", "--particles", 3), "--particles has no effect with --likelihood ais: add iwae, or"),
        (("--likelihood", "ais", "--compile"), "--compile has no effect with --likelihood ais: add iwae, or"),
        (("--chains", 3), "--chains has no effect with --likelihood iwae: add ais or hmc, or leave it out"),
        (("--likelihood", "hmc", "--temperatures", 3), "--temperatures has no effect with --likelihood hmc"),
        (("--leapfrog", 3), "--leapfrog has no effect"),
        (("--start", "posterior"), "--start has no effect"),
        (("--likelihood", "exact"), "can't be summed: the latent variable 'z'"),
        (("--likelihood", "ais", "--chains", 0), "chains is 0"),
    ],
)
def test_what_the_ladder_can_not_do_is_said(command: Any, runs: Any, words: tuple[Any, ...], said: str) -> None:
    ended = command("evaluate", runs.vae, *words)
    assert ended.status == 1
    assert said in ended.err


@pytest.mark.parametrize("words", [("exact",), ("hmc", "--chains", 7)])
def test_what_a_step_can_not_do_is_said_before_the_others_begin(
    command: Any, runs: Any, words: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood, "_over_rows", None)  # would end in a traceback
    ended = command("evaluate", runs.vae, "--likelihood", "iwae", *words)
    assert (ended.status, ended.err.startswith("error: ")) == (1, True)


def test_an_unknown_step_is_answered_with_the_nearest(command: Any, runs: Any) -> None:
    ended = command("evaluate", runs.vae, "--likelihood", "isa")
    assert ended.status == 2
    assert "'isa'" in ended.err


def test_a_collapsed_posterior_is_named_with_what_to_turn(command: Any, tmp_path: Path) -> None:
    words = ("--latent", 3, "--hidden", 11, "--beta", 100, "--epochs", 4, "--learning-rate", 0.01)
    command("train", "vae", "digits", *words, "--out", tmp_path / "run")
    asked = ("--particles", 2, "--limit", 5)
    assert "posterior collapse: 'z' says next to nothing" in command("evaluate", tmp_path / "run", *asked).out
    assert "Lower --beta (now 100)." in command("evaluate", tmp_path / "run", *asked).out
    words = ("--latent", 3, "--hidden", 11, "--epochs", 15, "--learning-rate", 0.01)
    command("train", "vae", "digits", *words, "--out", tmp_path / "other")
    assert "posterior collapse" not in command("evaluate", tmp_path / "other", *asked).out

"""``ancestral estimators``: on toys, and on a trained run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import ancestral

OWN_MODEL = """\
from ancestral import *


def make():
    p = Joint({"h": bernoulli_bias(3), "z": standard_normal(2), "x | h, z": bernoulli(mlp(5, 7, (1, 8, 8)), 3)})
    q = Joint({"h | x": bernoulli(mlp((1, 8, 8), 7, 3)), "z | x": normal(mlp((1, 8, 8), 7, 4))})
    return LatentVariableModel(p, q, estimators={"h": MuProp(), "z": Reparameterized()})
"""


def test_without_a_run_two_toys_are_compared_and_the_next_command_named(command: Any) -> None:
    ended = command("estimators", "--draws", 30, "--fit", 3, "--estimators", "reinforce", "disarm", "reparameterized")
    assert ended.status == 0
    assert "E[(b - 0.499)²], b ~ Bernoulli(0.3)" in ended.out
    assert "-ELBO of p(x, h1, h2)" in ended.out
    assert ended.out.count("length of the gradient") == ended.out.count(", exact") == 2
    assert ended.out.count("\ndisarm ") == 2
    assert ended.out.count("reparameterized: 'b' is a Bernoulli, which can't be reparameterized") == 1
    assert "next:  ancestral train sbn digits --estimator disarm --particles 2" in ended.out
    record = json.loads(Path("estimators.json").read_text(encoding="utf-8"))
    assert record["draws"] == 30
    assert record["versions"].keys() >= {"python", "torch", "ancestral"}
    assert len(record["problems"]) == 2
    assert Path("estimators.html").is_file()


def test_a_run_after_the_estimators_is_told_where_its_place_is(command: Any, tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    ended = command("estimators", "--estimators", "muprop", "net")
    assert ended.status == 1
    assert "net is a folder, not an estimator: a run comes before --estimators." in ended.err


def test_the_help_says_what_a_flag_is_that_is_left_out(command: Any) -> None:
    said = " ".join(command("estimators", "--help").out.replace("│", " ").split())
    for words in ("(default: 0.499)", "P(b = 1), without a run. (default: 0.3)", "gumbel-softmax:temperature=0.1"):
        assert words in said
    assert "None" not in said


def test_the_toy_is_the_one_asked_for(command: Any) -> None:
    words = [
        "estimators",
        "--draws",
        4,
        "--estimators",
        "enumerate",
        "--target",
        0.25,
        "--mean",
        0.5,
        "--out",
        "t.html",
    ]
    assert "length of the gradient: 0.125, exact" in command(*words).out  # 1/4 (1 - 2/4)
    assert Path("t.json").is_file()
    assert "particles: 1" in command(*words, "--particles", 1).out
    assert "estimators names none" in command("estimators", "--estimators").err


def test_a_trained_run_is_compared_at_its_rows_and_the_page_lies_in_its_folder(
    command: Any, runs: Any, tmp_path: Path
) -> None:
    run = runs.copy("vae", tmp_path / "run")
    words = ["--draws", 5, "--rows", 7, "--split", "validation", "--estimators", "reparameterized", "rloo", "darn"]
    ended = command("estimators", run, *words)
    assert ended.status == 0
    assert "mean of 80 unbiased ones (Reparameterized, 8 particles)" in ended.out
    assert "darn: 'z' is a " in ended.out
    assert f"next:  ancestral evaluate {run}" in ended.out
    record = json.loads((run / "estimators.json").read_text(encoding="utf-8"))
    assert record["rows"] == "digits, validation, first 7"
    assert command("estimators", run, *(100_000 if word == 7 else word for word in words)).status == 0
    record = json.loads((run / "estimators.json").read_text(encoding="utf-8"))
    assert record["rows"] == f"digits, validation, first {len(ancestral.load(run).data.validation)}"
    assert len(record["weights_digest"]) == len(record["rows_digest"]) == 64
    assert [one["name"] for one in record["problems"][0]["estimators"]] == ["reparameterized", "rloo"]
    assert (run / "estimators.html").is_file()


def test_a_run_whose_model_takes_an_estimator_is_told_the_best_one(command: Any, tmp_path: Path) -> None:
    words = ["--layers", 3, "--epochs", 1, "--estimator", "disarm", "--batch-size", 239]
    assert command("train", "sbn", "digits", *words, "--out", "net").status == 0
    ended = command("estimators", "net", "--draws", 40, "--estimators", "reinforce", "enumerate", "straight-through")
    assert ended.status == 0
    assert ", exact" in ended.out
    (line,) = [line for line in ended.out.splitlines() if line.startswith("next:  ")]
    named = line.removeprefix("next:  ancestral ").split()
    assert named[:3] == ["train", "sbn", "digits"]
    assert named[named.index("--layers") + 1] == "3"
    assert command(*named, "--epochs", 1, "--batch-size", 239, "--out", "again").status == 0


def test_the_same_estimator_is_compared_with_several_settings_and_the_best_of_them_named(command: Any) -> None:
    names = ["gumbel-softmax:temperature=0.1", "gumbel-softmax:temperature=2", "muprop:baseline=moving-average"]
    ended = command("estimators", "--draws", 40, "--fit", 3, "--estimators", *names)
    assert ended.status == 0
    assert "next:  ancestral train sbn digits --estimator muprop --particles 2 --baseline moving-average" in ended.out
    for problem in json.loads(Path("estimators.json").read_text(encoding="utf-8"))["problems"]:
        cold, warm, _ = problem["estimators"]
        assert [one["name"] for one in problem["estimators"]] == names
        assert not any(one["own"] for one in problem["estimators"])
        assert cold["variance"] > 2 * warm["variance"]


def test_a_run_is_compared_with_the_estimator_it_was_trained_with_as_it_was_at_its_end(command: Any) -> None:
    schedule = ["--temperature", 3, "--temperature-rate", 1.5, "--temperature-end", 0.05]
    words = ["--layers", 3, "--epochs", 2, "--estimator", "gumbel-softmax", *schedule, "--batch-size", 239]
    assert command("train", "sbn", "digits", *words, "--out", "net").status == 0
    own = "gumbel-softmax:temperature=3:temperature-rate=1.5:temperature-end=0.05"
    epoch = ancestral.load("net").epoch
    asked = ["muprop", f"gumbel-softmax:temperature={3 * math.exp(-1.5 * epoch)}"]
    ended = command("estimators", "net", "--draws", 200, "--estimators", *asked)
    assert ended.status == 0
    assert f"\n{own} *" in ended.out
    assert "\n* as the run was trained" in ended.out
    (problem,) = json.loads(Path("net/estimators.json").read_text(encoding="utf-8"))["problems"]
    first, _, same = problem["estimators"]
    assert [(one["name"], one["own"]) for one in problem["estimators"]] == [(own, True), *((n, False) for n in asked)]
    assert first["variance"] == pytest.approx(same["variance"], rel=0.4)
    assert "as the run was trained" in Path("net/estimators.html").read_text(encoding="utf-8")

    ended = command("estimators", "net", "--draws", 6, "--estimators", *asked, own)  # where it is asked for already
    assert ended.out.count(f"\n{own}") == ended.out.count(" *  ") == 1


def test_what_the_estimator_of_a_run_has_learned_is_kept(command: Any) -> None:
    words = ["--layers", 3, "--epochs", 1, "--estimator", "reinforce", "--baseline", "network", "--batch-size", 239]
    assert command("train", "sbn", "digits", *words, "--learning-rate", 0.1, "--out", "net").status == 0
    words = ["--draws", 60, "--fit", 0, "--particles", 1, "--estimators", "reinforce"]
    assert command("estimators", "net", *words).status == 0
    (problem,) = json.loads(Path("net/estimators.json").read_text(encoding="utf-8"))["problems"]
    trained, plain = problem["estimators"]
    assert trained["name"] == "reinforce:baseline=network"
    assert trained["variance"] < plain["variance"] / 2


def test_the_estimators_of_a_model_of_ones_own_are_named_by_their_classes(command: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_MODEL, encoding="utf-8")
    assert command("train", "mine.py:make", "digits", "--epochs", 1, "--batch-size", 239, "--out", "own").status == 0
    ended = command("estimators", "own", "--model", "mine.py:make", "--draws", 4, "--estimators", "enumerate")
    assert ended.status == 0
    assert "\nMuProp and Reparameterized *" in ended.out
    assert "next:  ancestral evaluate own" in ended.out


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["--estimators", "mu-prop"], "Did you mean 'muprop'"),
        (["--estimators", "darn", "darn"], "names darn 2 times"),
        (["--estimators", "muprop", "muprop:normalize", "muprop"], "names muprop 2 times"),
        (["--estimators", "rebar", "rebar:temperature=0.5"], "rebar and rebar:temperature=0.5, which are the same"),
        (["--estimators", "mu-prop:normalize"], "there is no estimator 'mu-prop'. Did you mean 'muprop'"),
        (["--estimators", "rebar:temprature=0.1"], "Did you mean 'temperature'"),
        (["--estimators", "muprop:temperature=0.1"], "no effect with the estimator muprop: it is for gumbel-softmax"),
        (["--estimators", "reparameterized:temperature=1"], "reparameterized has no settings"),
        (["--estimators", "gumbel-softmax:temperature=1:temperature-rate=0.3"], "0.3, which has no effect without a"),
        (["--estimators", "straight-through:slope-rate=0.1"], "slope_rate is 0.1, which has no effect without a run"),
        (["--draws", "3"], "draws is 3"),
        (["--fit=-1"], "fit is -1"),
        (["--particles", "0"], "particles is 0"),
        (["--mean", "1"], "mean is 1"),
        (["--target", "nan"], "target is nan"),
        (["--rows", "5"], "rows is 5, which has no effect without a run"),
        (["--split", "train"], "leave --split out"),
        (["--seed=-1"], "seed is -1"),
        (["--out", "e.png"], "--out FILE.html"),
    ],
)
def test_what_can_not_be_is_refused_without_a_run(command: Any, words: list[str], seen: str) -> None:
    ended = command("estimators", *words)
    assert ended.status in (1, 2)
    assert seen in " ".join(ended.err.replace("│", " ").split())
    assert not any(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("name", "words", "seen"),
    [
        ("gan", [], "a GAN has no latent variables with a bound"),
        ("vae", ["--target", 0.4], "target is 0.4, which has no effect with a run"),
        ("table", ["--split", "validation"], "has no rows in its validation split"),
        ("own", [], "--model"),
    ],
)
def test_what_can_not_be_is_refused_with_a_run(command: Any, runs: Any, name: str, words: list[Any], seen: str) -> None:
    ended = command("estimators", runs.place / name, *words)
    assert ended.status == 1
    assert seen in ended.err
    assert not (runs.place / name / "estimators.html").exists()

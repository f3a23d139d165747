"""What goes wrong is said in one message: what happened, what was seen, the cure. Nothing is left behind."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ancestral import cli
from ancestral.cli import listing

SOME = np.random.default_rng(7)


def said(ended: Any) -> str:
    """The one message of a command that failed."""
    assert ended.status == 1
    assert ended.out == ""
    assert "Traceback" not in ended.err
    assert ended.err.count("error: ") == 1
    message: str = ended.err.partition("error: ")[2]
    assert len(message) > 20
    return message


@pytest.fixture
def files() -> None:
    """Data of every kind that can go wrong."""
    np.savetxt("real.csv", SOME.normal(size=(31, 3)), delimiter=",")
    np.savetxt("nan.csv", np.where(np.arange(93).reshape(31, 3) == 19, np.nan, 1.5), delimiter=",")
    Path("words.csv").write_text("a,b\n1,2\n3,four\n", encoding="utf-8")
    Path("empty.csv").touch()
    Path("notes.txt").write_text("1,2\n", encoding="utf-8")
    Path("broken.npz").write_bytes(b"PK nothing of the kind")
    Path("folder").mkdir()
    np.save("objects.npy", np.array([{}, []], dtype=object))
    Path("taken").mkdir()
    Path("taken/something").touch()
    Path("file").touch()


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("words", "cures"),
    [
        # data
        ("vae nowhere.csv", ["There is no file or folder nowhere.csv", "Give a path to"]),
        ("vae nowhere/", ["Known: binarized-mnist", "Or give a path"]),
        ("vae notes.txt", ["ends in .txt", "Give a path to .npy"]),
        ("vae empty.csv", ["no rows"]),
        ("vae words.csv", ["line 3, column 2 (b) is 'four'", "Fill it"]),
        ("vae nan.csv", ["nan in row 6", "fill it"]),
        ("vae broken.npz", ["broken.npz can't be read", "cut short"]),
        ("vae objects.npy", ["objects.npy can't be read", "never loaded"]),
        ("vae folder", ["folder"]),
        # data and model
        ("vae real.csv --network conv", ["needs images", "perceptron"]),
        ("vae real.csv --likelihood bernoulli", ["needs binary data", "--likelihood"]),
        ("vae real.csv --likelihood discretized-logistic", ["continuous", "Use --likelihood normal"]),
        ("vae real.csv --likelihood continuous-bernoulli", ["[0, 1]"]),
        ("vae real.csv --binarization threshold", ["nothing for threshold binarization", "none"]),
        ("vae real.csv --dequantize yes", ["continuous already", "no"]),
        ("vae digits --likelihood bernoulli --binarization none", ["needs binary data", "--binarization dynamic"]),
        ("vae digits --binarization dynamic --dequantize yes", ["exclude each other"]),
        # flags that contradict each other
        ("vae digits --bound iwae --beta 2", ["beta has no effect", "--bound elbo"]),
        ("vae digits --bound iwae --free-bits 0.1", ["free_bits has no effect", "--bound elbo"]),
        ("vae digits --channels 3 5", ["channels has no effect", "--network conv"]),
        ("vae digits --network conv --hidden 3", ["hidden has no effect", "--channels"]),
        ("vae digits --likelihood bernoulli --scale shared", ["no effect", "--likelihood normal"]),
        ("vae digits --optimizer sgd --beta1 0.5", ["beta1 is 0.5, which has no effect with sgd", "Add --beta1 0.9"]),
        ("vae digits --momentum 0.5", ["momentum has no effect with adam", "--beta1"]),
        ("vae digits --schedule exponential", ["--final-learning-rate"]),
        ("vae digits --validation 0.6 --test 0.4", ["leave no rows to train on"]),
        ("vae digits --validation 0 --patience 3", ["patience has no effect", "Use --patience 0"]),
        ("gan digits --patience 3", ["patience has no effect", "Use --patience 0"]),
        # numbers out of range
        ("vae digits --epochs 0", ["epochs is 0", "1 or more"]),
        ("vae digits --batch-size -3", ["batch_size is -3", "1 or more"]),
        ("vae digits --learning-rate nan", ["learning_rate is nan", "a positive number"]),
        ("vae digits --seed -1", ["seed is -1", "below 2^63"]),
        ("vae digits --latent 0", ["latent is 0", "1 or more"]),
        ("vae digits --hidden 7 0", ["hidden is (7, 0)", "1 or more"]),
        ("vae digits --test 1.5", ["test", "1.5", "[0, 1)"]),
        ("vae digits --train-limit -1", ["train_limit was -1", "0 or a positive"]),
        ("gan digits --dropout 1", ["dropout is 1", "below 1"]),
        # where it runs
        ("vae digits --device nonsense", ["device 'nonsense' is not available", "--device cpu"]),
        ("gan digits --device cuda:97", ["device 'cuda:97' is not available", "--device cpu"]),
    ],
)
def test_training_that_can_not_start_explains_itself_and_leaves_no_folder(
    command: Any, words: str, cures: list[str]
) -> None:
    message = said(command("train", *words.split(), "--out", "run"))
    for cure in cures:
        assert cure in message
    assert not Path("run").exists()
    assert not Path("runs").exists()


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("out", "cures"),
    [
        ("file", ["file is a file", "folder that does not exist"]),
        ("taken", ["already holds something", "ancestral resume taken", "another --out"]),
        ("file/run", ["can't write the run folder file/run", "another --out"]),
        ("/proc/version/run", ["can't write the run folder", "another --out"]),
        ("a" * 300, ["name too long"]),
    ],
)
def test_a_place_that_can_not_be_written_is_explained(command: Any, out: str, cures: list[str]) -> None:
    before = sorted(Path.cwd().rglob("*"))
    message = said(command("train", "vae", "digits", "--latent", 2, "--hidden", 3, "--epochs", 1, "--out", out))
    for cure in cures:
        assert cure.lower() in message.lower()
    assert sorted(Path.cwd().rglob("*")) == before


# ---- using a run


@pytest.mark.parametrize(
    ("words", "cures"),
    [
        ("sample RUN -n 0", ["-n is 0", "at least one"]),
        ("reconstruct RUN -n 0", ["-n is 0", "at least one"]),
        ("interpolate RUN -n 0", ["-n is 0", "at least one"]),
        ("interpolate RUN --steps 1", ["steps is 1", "2 ends"]),
        ("manifold RUN --steps 0", ["steps is 0", "at least 1"]),
        ("manifold RUN", ["2 dimensions, but z has shape (3,)", "--latent 2"]),
        ("evaluate RUN --particles 0", ["particles is 0", "at least one"]),
        ("evaluate RUN --limit -1", ["limit is -1", "0 for all"]),
        ("sample RUN --seed -1", ["seed is -1", "0 or more"]),
        ("sample RUN --device cuda:97", ["device 'cuda:97' is not available", "--device cpu"]),
        ("sample RUN --device nonsense", ["device 'nonsense' is not available", "--device cpu"]),
        ("sample RUN --out x.jpg", ["ending '.jpg'", "Did you mean '.png'?"]),
        ("reconstruct RUN --out x.npx", ["ending '.npx'", "Known: .csv, .npy, .npz, .png"]),
        ("interpolate RUN --out x", ["ending ''", "Known: .csv, .npy, .npz, .png"]),
        ("sample RUN --out .", ["ending ''"]),
        ("sample RUN --out folder.png", ["folder.png is a folder", "name of a file"]),
        ("evaluate RUN --json .", [". is a folder", "name of a file"]),
        ("sample RUN --out file/x.png", ["can't write", "file/x.png"]),
        ("sample RUN --out file/x.csv", ["can't write", "file/x.csv"]),
    ],
)
def test_a_request_that_can_not_be_met_is_explained(command: Any, runs: Any, words: str, cures: list[str]) -> None:
    Path("folder.png").mkdir()
    Path("file").touch()
    message = said(command(*words.replace("RUN", str(runs.vae)).split()))
    for cure in cures:
        assert cure in message
    assert {path.name for path in Path.cwd().rglob("*")} == {"folder.png", "file"}


def test_figures_that_can_not_be_written_are_still_shown(command: Any, runs: Any) -> None:
    Path("file").touch()
    ended = command("evaluate", runs.vae, "--particles", 2, "--limit", 3, "--json", "file/x.json")
    assert ended.status == 1
    assert "log p(x)" in ended.out
    assert "can't write file/x.json" in ended.err


@pytest.mark.parametrize(
    "words", ["sample RUN --out x.png", "reconstruct RUN --out x.png", "interpolate RUN --out x.png"]
)
def test_a_picture_of_a_table_is_refused(command: Any, runs: Any, words: str) -> None:
    message = said(command(*words.replace("RUN", str(runs.table)).split()))
    assert "a picture needs images" in message
    assert ".csv" in message


@pytest.mark.parametrize("verb", ["reconstruct", "interpolate", "evaluate"])
def test_an_empty_split_is_named(command: Any, runs: Any, verb: str) -> None:
    message = said(command(verb, runs.table, "--split", "validation"))
    assert "no rows in its validation split. Choose another --split" in message


def test_a_walk_needs_two_rows(command: Any) -> None:
    np.savetxt("table.csv", SOME.normal(size=(11, 3)), delimiter=",")
    words = ("--latent", 2, "--hidden", 3, "--epochs", 1, "--test", 0.01, "--out", "run")
    assert command("train", "vae", "table.csv", *words).status == 0
    assert "a single row in its test split" in said(command("interpolate", "run"))


def test_a_gan_is_not_evaluated(command: Any, runs: Any) -> None:
    message = said(command("evaluate", runs.gan))
    assert "no LatentVariableModel" in message
    assert "vae" in message


def test_a_gan_does_not_reconstruct(command: Any, runs: Any) -> None:
    message = said(command("reconstruct", runs.gan))
    assert "a GAN can't reconstruct" in message
    able = "vae, sbn, categorical-vae, m2, helmholtz, hierarchical-vae, ladder-vae, bayes-classifier, and any "
    able += "LatentVariableModel"
    assert f"Models that can: {able}" in message


# ---- runs that are none, or damaged


@pytest.mark.parametrize("verb", ["resume", "sample", "reconstruct", "interpolate", "evaluate"])
def test_a_folder_that_is_no_run_is_explained(command: Any, verb: str) -> None:
    Path("other").mkdir()
    Path("file").touch()
    for run in ("nowhere", "other", "file"):
        message = said(command(verb, run))
        assert run in message


def edit(pattern: str, replacement: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        config = run / "config.toml"
        text, count = re.subn(pattern, replacement, config.read_text(encoding="utf-8"), count=1, flags=re.DOTALL | re.M)
        assert count == 1
        config.write_text(text, encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("damage", "cure"),
    [
        (edit(r"^latent = .*?$", "latent = "), "not valid TOML"),
        (edit(r"^format = 1$", "format = 2"), "has format 2, but this version reads format 1"),
        (edit(r"^format = 1$", ""), "has format None"),
        (edit(r"^latent = ", "latnet = "), "no setting 'latnet'. Did you mean 'latent'?"),
        (edit(r"^likelihood = .*?$", 'likelihood = "bernouli"'), "Did you mean 'bernoulli'?"),
        (edit(r"^activation = .*?$", 'activation = "tanhh"'), "Did you mean 'tanh'?"),
        (edit(r"^model = .*?$", 'model = "vea"'), "Did you mean 'vae'?"),
        (edit(r"^latent = .*?$", 'latent = "three"'), "latent is 'three', but must be like 50"),
        (edit(r"^latent = .*?$", "latent = 5"), "do not fit this model"),
        (edit(r"^\[description\].*", ""), "has no table [description]"),
        (lambda run: (run / "config.toml").write_bytes(b"\xff\xfe"), "can't read"),
    ],
)
def test_a_damaged_config_is_explained(
    command: Any, runs: Any, tmp_path: Path, damage: Callable[[Path], None], cure: str
) -> None:
    run = runs.copy("vae", tmp_path / "run")
    damage(run)
    assert cure in said(command("sample", run))


@pytest.mark.parametrize(
    ("damage", "cure"),
    [
        (edit(r"^optimizer = .*?$", 'optimizer = "adan"'), "Did you mean 'adam'?"),
        (edit(r"^batch_size = ", "bath_size = "), "Did you mean 'batch_size'?"),
        (edit(r"^binarization = .*?$", 'binarization = "dynamical"'), "Did you mean 'dynamic'?"),
        (edit(r"^data = .*?$", 'data = "digit"'), "Did you mean 'digits'?"),
        (edit(r"^split_seed = 0$", "split_seed = 1"), "Put the old data back"),
    ],
)
def test_a_config_that_can_not_be_continued_is_explained(
    command: Any, runs: Any, tmp_path: Path, damage: Callable[[Path], None], cure: str
) -> None:
    run = runs.copy("vae", tmp_path / "run")
    damage(run)
    assert cure in said(command("resume", run))


def truncate(run: Path) -> None:
    file = run / "checkpoints" / "best" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-3])


def flip(run: Path) -> None:
    file = run / "checkpoints" / "best" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "cure"),
    [
        (truncate, "model.safetensors is not as it was written"),
        (flip, "model.safetensors is not as it was written"),
        (lambda run: (run / "checkpoints/best/model.safetensors").unlink(), "is missing"),
        (lambda run: (run / "checkpoints/best/state.json").unlink(), "is missing"),
        (lambda run: (run / "checkpoints/best/state.json").write_text("{"), "can't be read"),
        (lambda run: (run / "checkpoints/best/state.json").write_text("[]"), "not as it was written"),
    ],
)
def test_a_damaged_checkpoint_is_explained(
    command: Any, runs: Any, tmp_path: Path, damage: Callable[[Path], None], cure: str
) -> None:
    run = runs.copy("vae", tmp_path / "run")
    damage(run)
    message = said(command("sample", run))
    assert cure in message
    assert "Restore the folder from a copy, or train again" in message


# ---- the machine's own limits


def test_more_than_the_memory_is_refused_in_words(command: Any, runs: Any) -> None:
    message = said(command("sample", runs.vae, "-n", 10**15))
    assert "memory ran out" in message
    assert "Ask for less at once" in message


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "error: memory ran out"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB."),
            "error: memory ran out: CUDA out of memory",
        ),
        (OSError(28, "No space left on device"), "error: [Errno 28] No space left on device."),
    ],
)
def test_limits_of_the_machine_are_said_in_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def exhausted(words: list[str]) -> int:
        raise error

    monkeypatch.setattr(listing, "main", exhausted)
    assert cli.main(["list"]) == 1
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize("message", ["a defect", "the memory format must be contiguous"])
def test_a_defect_of_our_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    def broken(words: list[str]) -> int:
        raise RuntimeError(message)

    monkeypatch.setattr(listing, "main", broken)
    with pytest.raises(RuntimeError, match=message):
        cli.main(["list"])


def test_ctrl_c_outside_training_ends_quietly(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(words: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(listing, "main", interrupted)
    assert cli.main(["list"]) == 130
    assert capsys.readouterr().err == "interrupted.\n"


def test_a_gan_does_not_encode_so_it_takes_no_draws(command: Any, runs: Any) -> None:
    assert "does not encode, so --draws has no effect" in said(command("interpolate", runs.gan, "--draws"))

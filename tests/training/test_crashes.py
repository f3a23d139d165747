"""Nothing is lost: killed at any moment, with a full disk, in a folder that is in use or read-only."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

import ancestral
from ancestral import AncestralError
from ancestral.models import Batch, Player
from ancestral.training import RunFolder
from ancestral.training.checkpoint import read_checkpoint, write_checkpoint

unix = pytest.mark.skipif(sys.platform == "win32", reason="kills, forks and limits as Unix has them")
DRAW = np.random.default_rng(1)
DATA = {
    "vae": DRAW.integers(0, 256, (53, 3, 5), dtype=np.uint8),
    "gan": DRAW.integers(0, 2, (53, 7), dtype=np.uint8),
}
SMALL: dict[str, Any] = {"latent": 2, "hidden": (3,), "epochs": 4, "batch_size": 31, "checkpoint_seconds": 0.0}


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory where there is one: hundreds of checkpoints that are flushed to a disk take minutes."""
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)


# ---- killed at any moment, then resumed


@unix
@pytest.mark.parametrize(
    ("kind", "model", "number", "crashes"),
    [
        ("changes", "vae", 2, 45),
        ("changes", "gan", 3, 20),
        ("errors", "vae", 4, 15),
        ("sizes", "gan", 0, 20),
        ("moments", "vae", None, 5),
        ("moments", "gan", None, 5),
    ],
)
def test_a_crash_at_any_moment_changes_nothing_of_the_result(
    kind: str, model: str, number: int | None, crashes: int, memory: Path
) -> None:
    np.save(memory / "data.npy", DATA[model])
    seed = random.SystemRandom().randrange(2**32) if number is None else number
    program = Path(__file__).with_name("crashes.py")
    command = [sys.executable, str(program), kind, model, str(memory / "data.npy"), str(memory), str(seed)]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads would not survive a fork
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=alone)
    assert done.returncode == 0, f"{kind} {model} {seed}: {done.stdout}{done.stderr}"
    counts = json.loads(done.stdout.strip().splitlines()[-1])
    assert sum(count for how, count in counts.items() if how != "none") >= crashes
    if model == "vae":  # and the run that is compared with did stop early
        card = (memory / "whole" / "MODEL_CARD.md").read_text(encoding="utf-8")
        assert "3 validations without improvement" in card  # so that checkpoints have counted one and two


def test_means_that_were_begun_before_an_interruption_are_those_of_all_their_updates(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", DATA["gan"])
    settings: dict[str, Any] = {**SMALL, "epochs": 250, "batch_size": 11, "test": 0.15, "checkpoint_seconds": 100.0}
    whole = ancestral.train("vae", tmp_path / "data.npy", out=tmp_path / "whole", reporter=Stop(12), **settings)
    assert [row["step"] for row in whole.metrics[:2]] == [2, 4]  # a line holds the means of two updates
    updates = itertools.count(1)

    def stop(*_: object) -> None:
        if next(updates) == 7:
            signal.raise_signal(signal.SIGINT)

    with register_optimizer_step_post_hook(stop):
        ancestral.train("vae", tmp_path / "data.npy", out=tmp_path / "run", **settings)
    state = read_checkpoint(tmp_path / "run" / "checkpoints" / "last")[1]
    assert (state["step"], state["counts"]["loss"]) == (7, 1)
    run = ancestral.resume(tmp_path / "run", reporter=Stop(12))
    assert weights(run.path) == weights(whole.path)
    first, second = ([{**row, "seconds": 0} for row in each.metrics] for each in (whole, run))
    assert first == second


# ---- a last checkpoint that is damaged


def interrupted(place: Path, data: Path, model: str = "vae") -> Path:
    """A run that was stopped half way, with a checkpoint before the last."""
    return ancestral.train(model, data, out=place, reporter=Stop(5), validation=0.2, **SMALL).path


class Said:
    """A reporter that remembers what was said."""

    def __init__(self) -> None:
        self.words = ""

    def begin(self, total: int, done: int) -> None: ...

    def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None: ...

    def say(self, message: str) -> None:
        self.words += message + "\n"

    def end(self) -> None: ...


class Stop(Said):
    """Ctrl-C at the line of metrics of some step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None:
        if done == self.step:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data") / "grey.npy"
    np.save(place, DATA["vae"])
    return place


@pytest.fixture(scope="module")
def stopped(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return interrupted(tmp_path_factory.mktemp("stopped") / "run", data)


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    """A copy of the run that was stopped, to be damaged."""
    shutil.copytree(stopped, tmp_path / "run")
    return tmp_path / "run"


def sample(run: Path) -> Tensor:
    drawn: Tensor = ancestral.load(run).model.sample(2)  # type: ignore[operator]
    return drawn


def weights(run: Path) -> bytes:
    return (run / "checkpoints" / "last" / "model.safetensors").read_bytes()


def change(file: Path, position: int = -1) -> None:
    """Flip one bit."""
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(bytes(content))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit of the weights": lambda last: change(last / "model.safetensors"),
    "a bit of the names": lambda last: change(last / "optimizer.safetensors", 20),
    "a digit of the step": lambda last: (last / "state.json").write_text(
        (last / "state.json").read_text().replace('"step": 5', '"step": 4')
    ),
    "cut short": lambda last: os.truncate(last / "optimizer.safetensors", 100),
    "no random state": lambda last: (last / "random.safetensors").unlink(),
    "gone": shutil.rmtree,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_where_the_last_checkpoint_is_damaged_the_one_before_is_taken_and_it_is_said(
    kind: str, run: Path, stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(stopped, tmp_path / "whole")
    expected = weights(ancestral.resume(tmp_path / "whole").path)
    DAMAGE[kind](run / "checkpoints" / "last")
    if kind in ("a bit of the weights", "gone"):  # all that a model that is only used must read
        loaded = ancestral.load(run, which="last")
        assert "last.old, of step 4" in loaded.notes[0]
        assert loaded.notes[0] in capsys.readouterr().err
    said = Said()
    ancestral.resume(run, reporter=said)
    assert "The checkpoint before it is taken instead" in said.words
    assert "last.old, of step 4" in said.words
    assert weights(run) == expected


def test_of_two_damaged_checkpoints_the_first_error_is_told(run: Path) -> None:
    for which in ("last", "last.old"):
        change(run / "checkpoints" / which / "model.safetensors")
    before = sorted(run.rglob("*"))
    with pytest.raises(AncestralError, match=r"checkpoints/last is damaged: model.safetensors .*Restore the folder"):
        ancestral.resume(run)
    assert sorted({*run.rglob("*"), run / ".lock"}) == sorted({*before, run / ".lock"})


def test_a_later_format_is_never_replaced_by_an_earlier_checkpoint(run: Path) -> None:
    file = run / "checkpoints" / "last" / "state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 2}))
    with pytest.raises(AncestralError, match="format 2, but this version reads format 1"):
        ancestral.resume(run)


def test_best_weights_that_are_gone_are_missed(stopped: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ancestral.load(stopped).notes == []
    for which in ("best", "best.old"):
        shutil.rmtree(run / "checkpoints" / which, ignore_errors=True)
    loaded = ancestral.load(run)
    assert loaded.which == "last"
    assert "best is missing, though there was a best validation" in loaded.notes[0]
    assert loaded.notes[0] in capsys.readouterr().err


# ---- metrics


def test_metrics_that_are_lost_are_missed_and_do_not_stop_training(run: Path, stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "whole")
    whole = ancestral.resume(tmp_path / "whole")
    shutil.copytree(run, tmp_path / "second")
    os.truncate(run / "metrics.jsonl", 250)
    (tmp_path / "second" / "metrics.jsonl").unlink()
    for place in (run, tmp_path / "second"):
        said = Said()
        rows = ancestral.resume(place, reporter=said).metrics
        assert "rows are lost" in said.words
        assert weights(place) == weights(whole.path)
        steps = [row["step"] for row in whole.metrics if row["step"] > 5]
        assert [row["step"] for row in rows[-len(steps) :]] == steps
        assert b"\0" not in (place / "metrics.jsonl").read_bytes()
        assert {row["step"] for row in rows[: -len(steps)]} <= {1, 2}


# ---- a disk that is full, a folder that is read-only


@contextlib.contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """The system refuses to let a file grow beyond some bytes, as it does on a full disk."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@unix
@pytest.mark.parametrize(
    ("size", "words"),
    [
        (10, r"can't write .*\.lock|can't write the run folder|can't write .*config\.toml"),
        (700, r"can't write .*(environment\.json|config\.toml|run folder)"),
        (3000, r"can't write the (checkpoint|picture)"),
    ],
)
def test_a_full_disk_is_a_clear_error_that_names_the_file(size: int, words: str, data: Path, tmp_path: Path) -> None:
    with files_no_larger_than(size), pytest.raises(AncestralError, match=words):
        ancestral.train("vae", data, out=tmp_path / "run", **SMALL)
    assert not list(tmp_path.rglob("*.tmp"))


@unix
def test_metrics_that_can_not_be_written_are_a_clear_error(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    size = folder.append_metrics({"step": 1})
    with files_no_larger_than(size + 5), pytest.raises(AncestralError, match=r"can't write .*metrics\.jsonl.*resume"):
        folder.append_metrics({"step": 2, "loss": 3.0})
    folder.cut_metrics(size, pytest.fail)
    assert list(folder.metrics()) == [{"step": 1}]


@contextlib.contextmanager
def as_its_permissions_say() -> Iterator[None]:
    """Root may write wherever it likes: put that capability away for a while (``CAP_DAC_OVERRIDE``, number 1)."""
    if os.geteuid() != 0:
        yield
        return
    if sys.platform != "linux":
        pytest.skip("root can write everywhere")
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the third version of the call; this thread
    capabilities = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, capabilities) == 0
    effective = capabilities[0]
    capabilities[0] = effective & ~(1 << 1)
    assert libc.capset(header, capabilities) == 0
    try:
        yield
    finally:
        capabilities[0] = effective
        assert libc.capset(header, capabilities) == 0


@pytest.fixture
def readonly(run: Path) -> Iterator[Path]:
    entries = [run.parent, *run.parent.rglob("*")]
    for entry in entries:
        entry.chmod(0o555 if entry.is_dir() else 0o444)
    with as_its_permissions_say():
        yield run
    for entry in entries:
        entry.chmod(0o755)


@unix
def test_a_folder_that_is_read_only_is_used_and_not_trained_in(readonly: Path) -> None:
    assert sample(readonly).shape == (2, 1, 3, 5)
    words = r"can't write .*Permission denied.*another --out"
    with pytest.raises(AncestralError, match=words):
        ancestral.resume(readonly)
    with pytest.raises(AncestralError, match=words):
        ancestral.train("vae", "digits", out=readonly.parent / "new", **SMALL)


# ---- two processes, one folder


@unix
def test_a_second_process_is_kept_from_training_and_not_from_reading(run: Path, data: Path) -> None:
    script = """
import sys, time
from ancestral.training import RunFolder
with RunFolder(sys.argv[1]).lock():
    print("locked", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", script, str(run)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(AncestralError, match=f"another process is training in {run}.*ancestral resume"):
            ancestral.resume(run)
        assert sample(run).shape == (2, 1, 3, 5)
        assert len(ancestral.load(run).data.train) > 0
    finally:
        holder.kill()
        holder.communicate()
    ancestral.resume(run)  # a lock does not outlive its process


def test_reading_beside_a_process_that_trains_finds_no_damage(run: Path) -> None:
    """What training replaces and what it has not finished is neither damaged nor foreign."""
    last = run / "checkpoints" / "last"
    parts, state = read_checkpoint(last)
    notes: list[str] = []
    seen, done = set(), threading.Event()

    def write() -> None:
        for step in itertools.count(6):
            if done.is_set():
                return
            parts["model"]["p.networks.x.network.layers.0.bias"] += 1
            write_checkpoint(last, parts, {**state, "step": step})
            RunFolder(run).write_json("health.json", [])

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # two processes take turns at any moment
    writer = threading.Thread(target=write)
    writer.start()
    try:
        until = time.monotonic() + 2
        while time.monotonic() < until:
            loaded = ancestral.load(run, which="last")
            notes += loaded.notes
            seen.add(loaded.digest)
    finally:
        done.set()
        writer.join()
        sys.setswitchinterval(interval)
    assert notes == []
    assert len(seen) > 5  # it did change meanwhile


def test_memory_that_runs_out_is_a_clear_error_and_what_was_saved_stays(data: Path, tmp_path: Path) -> None:
    class Growing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(1))

        def players(self) -> list[Player]:
            return [Player("growing", list(self.parameters()), self.loss)]

        def loss(self, batch: Batch) -> dict[str, Tensor]:
            return {"loss": self.w * torch.ones(10**15 if self.w < 0.997 else 1).sum()}  # after two updates of 0.002

    with pytest.raises(AncestralError, match=r"memory ran out: .* Lower --batch-size"):
        ancestral.train(Growing(), data, out=tmp_path / "run", epochs=4, batch_size=31, checkpoint_seconds=0.0)
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last")[1]["step"] == 2


def test_a_folder_in_which_a_run_begins_is_not_begun_in_again(data: Path, tmp_path: Path) -> None:
    with (
        RunFolder(tmp_path / "run").lock(),
        pytest.raises(AncestralError, match=r"another process is training in .*run\..*another --out"),
    ):
        ancestral.train("vae", data, out=tmp_path / "run", **SMALL)
    ancestral.train("vae", data, out=tmp_path / "run", **SMALL)  # what was there is no run


def test_litter_of_a_killed_process_is_cleared_and_other_files_stay(run: Path) -> None:
    (run / "checkpoints" / ".last.7.tmp").mkdir()
    (run / "checkpoints" / ".last.7.tmp" / "model.safetensors").touch()
    (run / ".MODEL_CARD.md.7.tmp").touch()
    (run / "samples" / ".a.png.7.tmp").touch()
    for name in ("notes.tmp", ".mine"):
        (run / name).touch()
    with RunFolder(run).lock():
        assert [file.name for file in run.rglob("*.tmp")] == ["notes.tmp"]
        assert (run / ".mine").exists()


def test_a_missing_environment_is_missed(run: Path) -> None:
    (run / "environment.json").unlink()
    said = Said()
    ancestral.resume(run, reporter=said)
    assert "no environment.json, so that nothing tells whether the data are as they were" in said.words
    assert RunFolder(run).digest("train") is not None


def test_a_run_that_was_stopped_has_what_it_is_resumed_from(stopped: Path) -> None:
    assert read_checkpoint(stopped / "checkpoints" / "last")[1]["step"] == 5
    assert read_checkpoint(stopped / "checkpoints" / "last.old")[1]["step"] == 4

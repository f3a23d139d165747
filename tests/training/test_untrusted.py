"""A stranger's run folder: opening it runs nothing, reads nothing outside it, and takes no memory beyond its files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tomllib
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import ancestral
from ancestral import AncestralError
from ancestral.training import RunFolder, health
from ancestral.training.checkpoint import _digest_of
from ancestral.training.folder import LARGEST_TEXT

unix = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes as Unix has them")
FORBIDDEN = (
    "import",
    "marshal.loads",
    "pickle.find_class",
    "ctypes.dlopen",
    "subprocess.Popen",
    "os.system",
    "os.exec",
)
SMALL: dict[str, Any] = {"latent": 3, "hidden": (5,), "epochs": 1, "batch_size": 13, "ema": 0.9}


@pytest.fixture(scope="module", params=["vae", "gan"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("trained")
    np.save(place / "grey.npy", np.random.default_rng(1).integers(0, 256, (53, 1, 3, 7), dtype=np.uint8))
    ancestral.train(request.param, place / "grey.npy", out=place / "run", **SMALL)
    return place / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "best", ignore_errors=True)
    return tmp_path / "run"


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Fails where the process has grown by more than some megabytes."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB; pages that came and went too


def refused(run: Path, words: str) -> None:
    """Neither using the run nor training it on is possible."""
    for ask in (ancestral.load, ancestral.resume):
        with pytest.raises(AncestralError, match=words):
            ask(run)


def change_config(run: Path, section: str, **values: Any) -> None:
    config = tomllib.loads((run / "config.toml").read_text())
    config[section].update(values)
    (run / "config.toml").write_text(tomli_w.dumps(config))


def forge(run: Path, part: str, edit: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the tensors of a part, and make the digests right again, as whoever forges a checkpoint would."""
    last = run / "checkpoints" / "last"
    tensors = load_file(last / f"{part}.safetensors")
    edit(tensors)
    save_file(tensors, last / f"{part}.safetensors")
    digest = hashlib.sha256((last / f"{part}.safetensors").read_bytes()).hexdigest()
    forge_state(run, lambda state: state["digests"].update({part: digest}))


def forge_state(run: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    file = run / "checkpoints" / "last" / "state.json"
    state = json.loads(file.read_text())
    state.pop("digest")
    edit(state)
    file.write_text(json.dumps({"digest": _digest_of(state), **state}))


# ---- sizes


@unix
@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("settings", {"hidden": [10**9]}, r"the weights in .* do not fit this model: .*, not \(1000000000,\)"),
        ("settings", {"hidden": [5, 10**9]}, "do not fit this model"),
        ("settings", {"hidden": [10**9, 10**9]}, "do not fit this model|no model that can be built"),
        ("settings", {"hidden": [10**18]}, "no model that can be built"),
        ("settings", {"hidden": [5] * 100_000}, "hidden asks for 100,000 layers"),
        ("settings", {"latent": 10**12}, "do not fit this model: size mismatch"),
        ("description", {"shape": [1, 10**6, 10**6]}, "do not fit this model|the data .* are not those of the run"),
        ("description", {"shape": [1, -3, 7]}, "shape"),
        ("description", {"shape": ["a"]}, "shape"),
        ("description", {"levels": 10**12}, "levels"),
        ("description", {"kind": "sounds"}, "kind"),
    ],
)
def test_a_config_that_asks_for_more_than_its_weights_is_refused_before_memory_is_taken(
    section: str, values: dict[str, Any], words: str, run: Path
) -> None:
    change_config(run, section, **values)
    refused(run, words)


@unix
@pytest.mark.usefixtures("little_memory")
def test_a_config_without_weights_can_ask_for_no_more_than_the_machine_has(run: Path) -> None:
    shutil.rmtree(run / "checkpoints" / "last")
    change_config(run, "settings", hidden=[10**8, 10**6])
    with pytest.raises(AncestralError, match=r"a model of [\d,]+ bytes, but this machine has"):
        ancestral.resume(run)


@unix
@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("hidden", [5, 10**6, 10**9])
def test_a_file_of_weights_that_is_longer_than_its_heading_says_vouches_for_no_model(hidden: int, run: Path) -> None:
    os.truncate(run / "checkpoints" / "last" / "model.safetensors", 10**12)  # with a hole, which takes no room
    change_config(run, "settings", hidden=[hidden])
    refused(run, r"last is damaged: model\.safetensors is not as it was written: .*not fully covered")


@unix
@pytest.mark.usefixtures("little_memory")
def test_weights_larger_than_the_model_are_refused_unread(run: Path) -> None:
    os.truncate(run / "checkpoints" / "last" / "average.safetensors", 10**12)
    refused(run, r"do not fit this model: it has 1,000,000,000,000 bytes")


@unix
@pytest.mark.usefixtures("little_memory")
def test_a_model_that_its_weights_vouch_for_is_still_bounded_by_the_memory(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ancestral.runs.memory_bytes", lambda: 100)
    refused(run, r"describes a model of [\d,]+ bytes, but this machine has 100\.")


@unix
@pytest.mark.usefixtures("little_memory")
def test_particles_without_number_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    run = ancestral.train("vae", "digits", out=tmp_path / "run", train_limit=17, **SMALL).path
    forge_state(run, lambda state: state.update(step=1, validated=-1, pictured=0, average_updates=0, finished=""))
    many: dict[str, Any] = {"bound": "iwae", "particles": 10**9}
    change_config(run, "settings", **many)
    words = r"13 rows with 1,000,000,000 particles needs more than [\d,]+ bytes, but .* Lower --particles"
    with pytest.raises(AncestralError, match=words):
        ancestral.resume(run)
    with pytest.raises(AncestralError, match=words):
        ancestral.train("vae", "digits", out=tmp_path / "new", train_limit=17, **SMALL, **many)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("claimed", [2**40, 2**63, 10**8])
def test_a_header_that_claims_more_than_the_file_has_is_refused(claimed: int, run: Path) -> None:
    for part in ("model", "average"):
        file = run / "checkpoints" / "last" / f"{part}.safetensors"
        content = claimed.to_bytes(8, "little") + file.read_bytes()[8:]
        file.write_bytes(content)
        forge_state(run, lambda s, p=part, c=content: s["digests"].update({p: hashlib.sha256(c).hexdigest()}))  # type: ignore[misc]
    refused(run, r"model\.safetensors is not as it was written: its heading claims to be of [\d,]+ bytes")


@pytest.mark.parametrize("name", ["config.toml", "checkpoints/last/state.json", "environment.json"])
def test_a_text_of_gigabytes_is_not_read(name: str, run: Path) -> None:
    os.truncate(run / name, 5 * 10**9)
    tracemalloc.start()
    try:
        with pytest.raises(AncestralError, match=r"can't (be )?read.*more than 4,194,304 bytes"):
            ancestral.resume(run)
        assert tracemalloc.get_traced_memory()[1] < 8 * LARGEST_TEXT
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["config.toml", "checkpoints/last/state.json", "environment.json"])
@pytest.mark.parametrize("opening", ["[", '{"a":', "a = [", "a = 9"])
def test_nesting_and_numbers_without_end_are_clear_errors(name: str, opening: str, run: Path) -> None:
    (run / name).write_text(opening + opening[-1] * 50_000)
    with pytest.raises(AncestralError, match=r"can't (be )?read|not valid TOML|is not as it was written"):
        ancestral.resume(run)


# ---- tensors that are whole, and not those of this run


@pytest.mark.parametrize(
    ("part", "edit", "words"),
    [
        ("model", lambda t: t.update({max(t): t[max(t)].double()}), r"is torch\.float64, not torch\.float32"),
        ("model", lambda t: t.update({max(t): t[max(t)].expand(2, *t[max(t)].shape).clone()}), "size mismatch for"),
        ("model", lambda t: t.update({key: t[key][:1].clone() for key in t if t[key].dim()}), "do not fit this model"),
        ("model", lambda t: t.pop(max(t)), "Missing key"),
        ("model", lambda t: t.update(extra=torch.zeros(3)), "it has extra, which there is not"),
        ("average", lambda t: t.pop(max(t)), "Missing key"),
        ("average", lambda t: t.update({max(t): torch.zeros(3, 3, 3)}), "size mismatch for"),
        ("optimizer", lambda t: t.clear(), "the state of the optimizer of .* is missing"),
        ("optimizer", lambda t: t.pop(max(t)), r"not complete: parameter \d+ has no step"),
        ("optimizer", lambda t: t.update({"x.0.step": torch.zeros(())}), r"it has x\.0\.step, which there is not"),
        ("optimizer", lambda t: t.update({max(t): torch.zeros(5)}), "size mismatch for"),
        ("random", lambda t: t.pop("cpu"), "lacks the random state"),
        ("random", lambda t: t.update(cpu=torch.zeros(5, dtype=torch.uint8)), "size mismatch for cpu"),
        ("random", lambda t: t.update(cpu=torch.zeros_like(t["cpu"])), "its random state is none .Invalid mt19937"),
        ("random", lambda t: t.update(cpu=torch.full_like(t["cpu"], 255)), "its random state is none .Invalid mt19937"),
    ],
)
def test_tensors_of_another_run_are_refused_by_name(
    part: str, edit: Callable[[dict[str, Tensor]], object], words: str, run: Path
) -> None:
    forge(run, part, edit)
    with pytest.raises(AncestralError, match=words):
        ancestral.resume(run)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda s: s.pop("step"), "state.json has no 'step'"),
        (lambda s: s.update(step="7"), "step is '7', which is no int"),
        (lambda s: s.update(step=True), "step is 'True', which is no int"),
        (lambda s: s.update(step=-1), "it is of step -1"),
        (lambda s: s.update(step=10**12), r"it is of step 1,000,000,000,000, but the run has"),
        (lambda s: s.update(step=10**30), "step is '1000"),
        (lambda s: s.update(seconds=float("nan")), "can't be read: it holds the number NaN"),
        (lambda s: s.update(seconds=None), "seconds is 'None', which is no float"),
        (lambda s: s.update(sums={"loss": [3.0]}), "sums is"),
        (lambda s: s.update(sums={"loss": 3.0}), "lacks .* the sums behind"),
        (lambda s: s.update(counts={"loss": 3}), "lacks .* the sums behind"),
        (lambda s: s.update(sums={"loss": 3.0}, counts={"loss": 0}), "counts is {'loss': 0}, but must be from 1 to"),
        (lambda s: s.update(counts={"loss": -1}), "counts is {'loss': -1}, but must be from 1 to"),
        (lambda s: s.update(counts={"loss": 10**9}), "counts is {'loss': 1000000000}, but must be from 1 to"),
        (lambda s: s.update(seconds=-1e9), "seconds is -1000000000.0, but must be from 0 to inf"),
        (lambda s: s.update(best_epoch=-1.0), "best_epoch is -1.0, but must be from 0 to"),
        (lambda s: s.update(without_improvement=-3), "without_improvement is -3, but must be from 0 to"),
        (lambda s: s.update(average_updates=-7), "average_updates is -7, but must be from 0 to"),
        (lambda s: s.update(average_updates=10**9), "average_updates is 1000000000, but must be from 0 to"),
        (lambda s: s.update(validated=10**9), "validated is 1000000000, but must be from -1 to"),
        (lambda s: s.update(pictured=-2), "pictured is -2, but must be from -1 to"),
        (lambda s: s.update(pictured=10**9), "pictured is 1000000000, but must be from -1 to"),
        (lambda s: s.update(metrics_bytes=-5), "metrics_bytes is -5, but must be from 0 to"),
        (lambda s: s.update(retries=-(10**6)), "retries is -1000000, but must be from 0 to 1"),
        (lambda s: s.update(retries=2), "retries is 2, but must be from 0 to 1"),
        (lambda s: s.update(findings=[{"check": "x", "message": "m"}]), "a finding is not as it was written"),
        (
            lambda s: s.update(findings=[{"check": "x", "message": 3, "step": 1, "epoch": 1.0}]),
            "a finding is not as it was written",
        ),
        (lambda s: s.update(format=True), "format True, but this version reads format 1"),
        (lambda s: s.update(finished=3), "finished is '3', which is no str"),
        (lambda s: s["digests"].pop("optimizer"), "it has no part 'optimizer'"),
        (lambda s: s["digests"].update(model=3), "model.safetensors is not as it was written"),
    ],
)
def test_a_state_that_no_run_has_is_refused_by_field(
    edit: Callable[[dict[str, Any]], object], words: str, run: Path
) -> None:
    forge_state(run, edit)
    with pytest.raises(AncestralError, match=words):
        ancestral.resume(run)


@pytest.mark.parametrize("number", [10**400, float("nan"), float("-inf"), 2**63, "7"], ids=lambda n: str(n)[:9])
@pytest.mark.parametrize("name", ["step", "epoch"])
def test_a_number_beyond_bounds_makes_neither_a_line_of_metrics_nor_a_finding(name: str, number: Any) -> None:
    row: dict[str, Any] = {"step": 7, "epoch": 1.5}
    found = {**row, "check": "x", "message": "m"}
    assert health.is_row(row)
    assert health.is_finding(found)
    assert not health.is_row({**row, name: number})
    assert not health.is_finding({**found, name: number})


def test_a_line_of_metrics_with_a_number_without_end_is_left_out(run: Path) -> None:
    forge_state(run, lambda state: state.update(metrics_bytes=10**6))
    with (run / "metrics.jsonl").open("a") as lines:
        lines.write(json.dumps({"step": 10**400, "epoch": 1}) + "\n")
    assert ancestral.resume(run).path == run


@pytest.mark.parametrize("number", [True, 1.0, "1"])
def test_a_format_that_is_no_number_of_one_is_refused(number: object, run: Path) -> None:
    config = tomllib.loads((run / "config.toml").read_text())
    (run / "config.toml").write_text(tomli_w.dumps({**config, "format": number}))
    refused(run, f"has format {number!r}, but this version reads format 1")


@pytest.mark.parametrize("data", [[], {"train": 3}, "digits"])
def test_an_environment_that_no_run_has_is_refused(data: object, run: Path) -> None:
    (run / "environment.json").write_text(json.dumps({"data": data}))
    with pytest.raises(AncestralError, match=r"environment\.json is not as it was written"):
        ancestral.resume(run)


# ---- nothing outside the folder


@unix
@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints/last/model.safetensors", "samples", "MODEL_CARD.md"])
def test_a_link_that_leads_out_of_the_folder_is_refused_and_nothing_behind_it_touched(
    name: str, run: Path, tmp_path: Path
) -> None:
    target = tmp_path / "precious"
    shutil.move(run / name, target)
    (run / name).symlink_to(target)
    before = sorted((file, file.read_bytes()) for file in tmp_path.glob("precious*/**/*") if file.is_file())
    refused(run, r"is a link to .*precious, outside the run folder")
    assert sorted((f, f.read_bytes()) for f in tmp_path.glob("precious*/**/*") if f.is_file()) == before
    (run / name).unlink()
    shutil.move(target, run / "inside")
    (run / name).symlink_to(run / "inside")
    assert ancestral.load(run, which="last").which == "last"


@unix
def test_a_run_folder_that_is_itself_a_link_is_a_run_folder(run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run)
    assert ancestral.resume(tmp_path / "link").path == tmp_path / "link"


@unix
def test_a_pipe_is_not_waited_for(run: Path) -> None:
    (run / "environment.json").unlink()
    os.mkfifo(run / "environment.json")
    refused(run, "is neither a file nor a folder")


def test_data_named_by_a_path_from_anywhere_are_not_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    np.save("grey.npy", np.zeros((5, 3)))
    config = tomllib.loads((run / "config.toml").read_text())
    for data in ("../../etc", "grey.npy", "./digits", ""):
        (run / "config.toml").write_text(tomli_w.dumps({**config, "data": data}))
        with pytest.raises(AncestralError, match="neither a named set nor an absolute path"):
            ancestral.resume(run)
        loaded = ancestral.load(run)
        with pytest.raises(AncestralError, match="neither a named set nor an absolute path"):
            _ = loaded.data


def test_the_data_that_resuming_reads_are_named_before(run: Path) -> None:
    said: list[str] = []

    class Said:
        def begin(self, total: int, done: int) -> None: ...

        def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None: ...

        def say(self, message: str) -> None:
            said.append(message)

        def end(self) -> None: ...

    config = RunFolder(run).config()
    ancestral.resume(run, reporter=Said())
    assert said[0] == f"data: {config['data']}, as {run / 'config.toml'} says"


def test_no_name_in_a_config_is_imported(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "__init__.py").write_text("raise SystemExit('ran')")
    monkeypatch.syspath_prepend(str(tmp_path))
    change_config(run, "training", trackers=["evil.code"])
    refused(run, "no tracker 'evil.code'")


def test_nothing_opened_is_run(run: Path) -> None:
    """Of all that Python reports while a run is loaded: no import, no pickle, no library, no process."""
    ancestral.load(run)  # what is imported lazily is, now
    heard: list[str] = []
    listening = True

    def hook(event: str, _: tuple[Any, ...]) -> None:
        if listening and event in FORBIDDEN:
            heard.append(event)

    sys.addaudithook(hook)
    ancestral.load(run)
    listening = False
    assert heard == []

"""The run folder and its checkpoints: whole, without pickle, and honest about damage."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ancestral
from ancestral.errors import AncestralError
from ancestral.training.checkpoint import _digest_of, has_checkpoint, load_weights, read_checkpoint, write_checkpoint
from ancestral.training.folder import FORMAT, RunFolder, replace_directory, write_atomically


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "run" / "checkpoints" / "last"
    write_checkpoint(place, {"model": {"w": torch.arange(7.0)}, "random": {"cpu": torch.get_rng_state()}}, {"step": 3})
    return place


def test_a_checkpoint_is_read_as_it_was_written(place: Path) -> None:
    parts, state = read_checkpoint(place)
    assert torch.equal(parts["model"]["w"], torch.arange(7.0))
    assert parts["random"]["cpu"].dtype == torch.uint8
    assert (state["step"], state["format"]) == (3, FORMAT)
    assert sorted(file.name for file in place.iterdir()) == ["model.safetensors", "random.safetensors", "state.json"]
    assert [entry.name for entry in place.parent.iterdir()] == ["last"]


def test_a_state_that_was_read_can_be_written_again(place: Path) -> None:
    """With other tensors: its digests are theirs."""
    parts, state = read_checkpoint(place)
    parts["model"]["w"] += 1
    write_checkpoint(place, parts, {**state, "step": 5})
    parts, state = read_checkpoint(place)
    assert torch.equal(parts["model"]["w"], torch.arange(1.0, 8.0))
    assert state["step"] == 5


def test_weights_that_share_memory_are_written_each(tmp_path: Path) -> None:
    w = torch.arange(6.0)
    write_checkpoint(tmp_path / "last", {"model": {"a": w, "b": w.view(2, 3).T}}, {})
    assert torch.equal(read_checkpoint(tmp_path / "last")[0]["model"]["b"], w.view(2, 3).T)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


def edit(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change state.json, with a digest that is right."""
    state = json.loads(file.read_text())
    state.pop("digest")
    changed = change(state)
    file.write_text(json.dumps({"digest": _digest_of(changed), **changed}))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights cut short": (lambda place: cut(place / "model.safetensors"), "model.safetensors is not as it was written"),
    "a flipped bit": (lambda place: flip(place / "model.safetensors"), "model.safetensors is not as it was written"),
    "weights missing": (lambda place: (place / "model.safetensors").unlink(), "model.safetensors is missing"),
    "state missing": (lambda place: (place / "state.json").unlink(), "state.json is missing"),
    "state cut short": (lambda place: cut(place / "state.json"), "can't be read"),
    "state no text": (lambda place: (place / "state.json").write_bytes(b"\xff\xfe\xff"), "can't be read"),
    "state a list": (lambda place: (place / "state.json").write_text("[]"), "state.json is not as it was written"),
    "no digests": (
        lambda place: edit(place / "state.json", lambda s: {**s, "digests": 3}),
        "state.json is not as it was",
    ),
    "a digit changed": (
        lambda place: (place / "state.json").write_text((place / "state.json").read_text().replace(': 3,', ': 2,')),
        "state.json is not as it was",
    ),
    "a part elsewhere": (
        lambda place: edit(place / "state.json", lambda s: {**s, "digests": {"../../../secret": "0"}}),
        r"names a part '\.\./\.\./\.\./secret'",
    ),
    "a file for a folder": (lambda place: (shutil.rmtree(place), place.write_text("")), "can't be read"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_a_clear_error(place: Path, kind: str) -> None:
    damage, words = DAMAGE[kind]
    damage(place)
    with pytest.raises(AncestralError, match=words):
        read_checkpoint(place)


@pytest.mark.parametrize("kind", DAMAGE)
def test_the_checkpoint_before_is_taken_where_the_last_is_damaged(place: Path, kind: str) -> None:
    shutil.copytree(place, place.with_name("last.old"))
    DAMAGE[kind][0](place)
    with pytest.warns(UserWarning, match=r"The checkpoint before it is taken instead \(.*last\.old, of step 3\)"):
        assert read_checkpoint(place)[1]["step"] == 3


def test_a_later_format_is_no_damage(place: Path) -> None:
    shutil.copytree(place, place.with_name("last.old"))
    edit(place / "state.json", lambda s: {**s, "format": 99})
    with pytest.raises(AncestralError, match=r"format 99, but this version reads format 1"):
        read_checkpoint(place)


def test_tensors_that_nobody_asked_for_are_not_read(place: Path) -> None:
    parts, _ = read_checkpoint(place, like={"model": {"w": torch.empty(7, device="meta")}})
    assert list(parts) == ["model"]
    for unlike, words in (
        ({"v": torch.zeros(7)}, "it has w, which there is not"),
        ({"w": torch.zeros(5)}, r"size mismatch for w: \(7,\), not \(5,\)"),
        ({"w": torch.zeros(7, dtype=torch.float64)}, r"w is torch\.float32, not torch\.float64"),
    ):
        with pytest.raises(AncestralError, match=words):
            read_checkpoint(place, like={"model": unlike})
    with pytest.raises(AncestralError, match="it has no part 'average'"):
        read_checkpoint(place, like={"average": {}})


def test_a_checkpoint_with_foreign_tensors_is_a_clear_error(place: Path) -> None:
    content = b"not tensors at all"
    (place / "model.safetensors").write_bytes(content)
    edit(place / "state.json", lambda s: {**s, "digests": {"model": hashlib.sha256(content).hexdigest()}})
    with pytest.raises(AncestralError, match=r"model\.safetensors is not as it was written: its heading claims"):
        read_checkpoint(place)


def test_a_crash_between_the_two_moves_leaves_the_checkpoint_before(place: Path) -> None:
    place.rename(place.with_name("last.old"))
    assert has_checkpoint(place)
    with pytest.warns(UserWarning, match="last is incomplete"):
        assert read_checkpoint(place)[1]["step"] == 3
    write_checkpoint(place, {"model": {"w": torch.zeros(5)}}, {"step": 4})
    assert read_checkpoint(place)[1]["step"] == 4


def test_the_checkpoint_before_is_kept_and_no_other(place: Path) -> None:
    for step in (4, 5):
        write_checkpoint(place, {"model": {"w": torch.zeros(5)}}, {"step": step})
    assert sorted(entry.name for entry in place.parent.iterdir()) == ["last", "last.old"]
    assert (read_checkpoint(place)[1]["step"], read_checkpoint(place.with_name("last.old"))[1]["step"]) == (5, 4)


def test_a_full_disk_leaves_the_checkpoint_before(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ancestral.training.checkpoint.save_file", full)
    with pytest.raises(AncestralError, match=r"No space left.*The previous one is untouched.*ancestral resume"):
        write_checkpoint(place, {"model": {"w": torch.zeros(5)}}, {"step": 4})
    assert read_checkpoint(place)[1]["step"] == 3
    assert [entry.name for entry in place.parent.iterdir()] == ["last"]
    with pytest.raises(AncestralError, match=r"No space left.*There was none before it.*ancestral resume"):
        write_checkpoint(place.with_name("best"), {"model": {"w": torch.zeros(5)}}, {})


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no call for a directory")
def test_the_disk_keeps_every_file_before_its_name_and_then_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that loses its power forgets what it was not told to keep, in any order."""
    flush, rename = os.fsync, os.rename
    kept: list[int] = []
    moves: list[tuple[str, set[int], int]] = []
    """Of each move: the name, what was kept before it, and how much was."""

    def seen_flush(handle: int) -> None:
        flush(handle)
        kept.append(os.fstat(handle).st_ino)

    def seen_rename(source: str | Path, target: str | Path) -> None:
        rename(source, target)
        moves.append((Path(target).name, set(kept), len(kept)))

    monkeypatch.setattr(os, "fsync", seen_flush)
    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, seen_rename)
    folder = RunFolder(tmp_path / "run")
    folder.create({"model": "vae"})
    folder.write_json("health.json", [])
    for step in (1, 2):
        new = folder.checkpoint("last")
        write_checkpoint(new, {"a": {"w": torch.ones(3)}, "b": {"w": torch.ones(5)}}, {"step": step})
        name, before, count = moves[-1]
        assert name == "last"
        assert {place.stat().st_ino for place in (new, *new.iterdir())} <= before
        assert new.parent.stat().st_ino in kept[count:]
    for file in (folder.config_file, folder.health_file):
        before, count = next((before, count) for name, before, count in moves if name == file.name)
        assert file.stat().st_ino in before
        assert folder.path.stat().st_ino in kept[count : count + 1]


def test_nothing_is_no_checkpoint(tmp_path: Path) -> None:
    assert not has_checkpoint(tmp_path / "last")


def test_weights_of_another_architecture_are_a_clear_error() -> None:
    with pytest.raises(AncestralError, match=r"do not fit this model.*size mismatch.*config\.toml"):
        load_weights(nn.Linear(3, 5), nn.Linear(3, 7).state_dict(), Path("run"))
    with pytest.raises(AncestralError, match="do not fit this model"):
        load_weights(nn.Linear(3, 5), {}, Path("run"))


def test_a_folder_remembers_its_settings(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a" / "run")
    rest = {"model": "vae", "data": "digits", "data_settings": {}, "training": {}, "description": {}}
    folder.create({**rest, "settings": {"hidden": (7, 5)}})
    assert folder.config() == {"format": FORMAT, **rest, "settings": {"hidden": [7, 5]}}
    assert {place.name for place in folder.path.iterdir()} == {"config.toml", "samples", "checkpoints"}


@pytest.mark.skipif(sys.platform == "win32", reason="pipes as Unix has them")
def test_what_training_has_not_finished_or_has_moved_is_no_concern_of_a_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    tables = {name: dict[str, Any]() for name in ("settings", "data_settings", "training", "description")}
    folder.create({"model": "vae", "data": "digits", **tables})
    (tmp_path / "checkpoints" / ".last.7.tmp").mkdir()
    os.mkfifo(tmp_path / "checkpoints" / ".last.7.tmp" / "state.json")  # which would be refused anywhere else
    os.mkfifo(tmp_path / ".health.json.7.tmp")
    (tmp_path / "moving").touch()
    walk = os.walk

    def slow_walk(top: Path) -> Iterator[tuple[str, list[str], list[str]]]:
        for found in walk(top):
            (tmp_path / "moving").unlink(missing_ok=True)  # between being listed and being looked at
            yield found

    monkeypatch.setattr(os, "walk", slow_walk)
    assert folder.config()["model"] == "vae"


def test_what_is_already_there_is_never_overwritten(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run").create({})
    with pytest.raises(AncestralError, match=r"already holds something.*ancestral resume"):
        RunFolder(tmp_path / "run").create({})
    (tmp_path / "file").touch()
    with pytest.raises(AncestralError, match="is a file"):
        RunFolder(tmp_path / "file").create({})
    with pytest.raises(AncestralError, match="can't write the run folder"):
        RunFolder(tmp_path / "file" / "run").create({})
    (tmp_path / "empty").mkdir()
    RunFolder(tmp_path / "empty").create({})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is no run folder"),
        (b"format = ", "not valid TOML"),
        (b"\xff\xfe", "can't read"),
        (b"format = 99", r"format 99.*reads format 1.*environment\.json"),
        (b"model = 'vae'", "format None"),
    ],
)
def test_a_config_that_can_not_be_read_is_a_clear_error(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "config.toml").write_bytes(content)
    with pytest.raises(AncestralError, match=words):
        RunFolder(tmp_path).config()


@pytest.mark.parametrize(
    ("content", "words"), [(b"{", "can't read"), (b"\xff", "can't read"), (b"[]", "not as it was")]
)
def test_an_environment_that_can_not_be_read_is_a_clear_error(tmp_path: Path, content: bytes, words: str) -> None:
    assert RunFolder(tmp_path).environment() == {}
    (tmp_path / "environment.json").write_bytes(content)
    with pytest.raises(AncestralError, match=words):
        RunFolder(tmp_path).environment()


def test_a_line_of_metrics_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert list(folder.metrics()) == []
    folder.metrics_file.write_text('{"step": 1}\n[1]\n{"step": 2}\n{"ste')
    assert [row["step"] for row in folder.metrics()] == [1, 2]


def test_json_is_written_whole_and_for_people(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_json("a.json", {"ü": 1})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "ü": 1\n}\n'
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(OSError, match="taken"):
        write_atomically(tmp_path / "taken", b"content")
    assert sorted(place.name for place in tmp_path.iterdir()) == ["a.json", "taken"]


def test_a_directory_replaces_another_at_once(tmp_path: Path) -> None:
    for name in ("new", "place"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    replace_directory(tmp_path / "new", tmp_path / "place")
    assert [file.name for file in (tmp_path / "place").iterdir()] == ["new"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["place", "place.old"]


def test_nothing_in_the_library_pickles_or_evaluates() -> None:
    forbidden = re.compile(r"torch\.(save|load)\(|\bpickle\.\w|import pickle|allow_pickle=True|(?<![.\w])(eval|exec)\(")
    package = Path(ancestral.__file__).parent
    for file in package.rglob("*.py"):
        assert not forbidden.search(file.read_text(encoding="utf-8")), file

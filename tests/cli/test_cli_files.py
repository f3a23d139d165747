"""``sample``, ``reconstruct`` and ``interpolate``: what they write."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ancestral import load
from ancestral.data.dataset import to_original
from ancestral.training.pictures import pairs

CELL = 8 * 7 + 2
"""Pixels from one digit of a picture to the next: 8x8, enlarged 7 times, and a margin of 2."""


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        return picture.size


def table(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    with path.open(encoding="utf-8", newline="") as file:
        heading, *lines = csv.reader(file)
    return heading, np.array(lines, dtype=np.float64)


# ---- where and in which form


@pytest.mark.parametrize(
    ("verb", "name", "expected"),
    [
        ("sample", "samples.png", (8 * CELL + 2, 8 * CELL + 2)),  # 64
        ("reconstruct", "reconstructions.png", (8 * CELL + 2, 8 * CELL + 2)),  # 32 pairs
        ("interpolate", "interpolations.png", (9 * CELL + 2, 8 * CELL + 2)),  # 8 walks of 9
    ],
)
def test_pictures_go_to_the_run_folder_unless_told_otherwise(
    command: Any, runs: Any, tmp_path: Path, verb: str, name: str, expected: tuple[int, int]
) -> None:
    run = runs.copy("vae", tmp_path / "run")
    ended = command(verb, run)
    assert ended.status == 0
    assert str(run / name) in ended.out
    assert size(run / name) == expected


@pytest.mark.parametrize(
    ("verb", "name", "rows"),
    [
        ("sample", "samples.csv", 64),
        ("reconstruct", "reconstructions.csv", 32),
        ("interpolate", "interpolations.csv", 72),
    ],
)
def test_tables_go_to_the_run_folder_as_csv(
    command: Any, runs: Any, tmp_path: Path, verb: str, name: str, rows: int
) -> None:
    run = runs.copy("table", tmp_path / "run")
    assert command(verb, run).status == 0
    heading, values = table(run / name)
    assert heading == ["height, mm", "ratio", "größe"]
    assert values.shape == (rows if verb != "reconstruct" else min(rows, len(load(run).data.test)), 3)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sample", "-n", 5], (3 * CELL + 2, 2 * CELL + 2)),
        (["sample", "--number", 1], (CELL + 2, CELL + 2)),
        (["reconstruct", "-n", 5], (8 * CELL + 2, 2 * CELL + 2)),
        (["interpolate", "-n", 3, "--steps", 5], (5 * CELL + 2, 3 * CELL + 2)),
    ],
)
def test_a_picture_has_room_for_so_many(
    command: Any, runs: Any, tmp_path: Path, words: list[Any], expected: tuple[int, int]
) -> None:
    out = tmp_path / "new" / "folder" / "picture.png"
    ended = command(words[0], runs.vae, *words[1:], "--out", out)
    assert ended.status == 0
    assert str(out) in ended.out
    assert size(out) == expected


@pytest.mark.parametrize("ending", ["npz", "npy", "csv"])
@pytest.mark.parametrize(
    ("words", "rows"),
    [(["sample", "-n", 5], 5), (["reconstruct", "-n", 7], 7), (["interpolate", "-n", 3, "--steps", 5], 15)],
)
def test_digits_are_written_as_levels_0_to_16(
    command: Any, runs: Any, tmp_path: Path, words: list[Any], rows: int, ending: str
) -> None:
    out = tmp_path / f"digits.{ending}"
    assert command(words[0], runs.vae, *words[1:], "--out", out).status == 0
    if ending == "csv":
        values = np.loadtxt(out, delimiter=",", dtype=np.int64)
        assert values.shape == (rows, 64)
    else:
        loaded = np.load(out, allow_pickle=False)
        values = loaded["x"] if ending == "npz" else loaded
        assert values.dtype == np.uint8
        assert values.shape == (rows, 1, 8, 8)
    assert values.min() >= 0
    assert 8 < values.max() <= 16


def test_the_three_forms_hold_the_same_values(command: Any, runs: Any, tmp_path: Path) -> None:
    for ending in ("npz", "npy", "csv"):
        command("sample", runs.table, "-n", 11, "--out", tmp_path / f"x.{ending}")
    values = np.load(tmp_path / "x.npy")
    assert np.array_equal(np.load(tmp_path / "x.npz")["x"], values)
    assert np.allclose(table(tmp_path / "x.csv")[1], values, rtol=1e-14)


# ---- what


def test_samples_of_a_table_have_its_own_units(command: Any, runs: Any, tmp_path: Path) -> None:
    command("sample", runs.table, "-n", 401, "--out", tmp_path / "x.csv")
    original = np.loadtxt(runs.place / "table.csv", delimiter=",", skiprows=1)
    _, samples = table(tmp_path / "x.csv")
    deviation = original.std(0)
    assert np.all(np.abs(samples.mean(0) - original.mean(0)) < deviation)
    assert np.all((deviation / 3 < samples.std(0)) & (samples.std(0) < 3 * deviation))


def test_the_picture_shows_means_and_with_draws_the_draws(command: Any, runs: Any, tmp_path: Path) -> None:
    def greys(*words: object) -> set[int]:
        command("sample", runs.vae, "-n", 1, *words, "--out", tmp_path / "x.png")
        with Image.open(tmp_path / "x.png") as picture:
            return set(np.asarray(picture)[2:-2, 2:-2].ravel().tolist())

    assert len(greys() - {0, 255}) > 20
    assert greys("--draws") == {0, 255}


def test_arrays_hold_draws(command: Any, runs: Any, tmp_path: Path) -> None:
    command("sample", runs.vae, "-n", 5, "--out", tmp_path / "x.npy")
    assert set(np.load(tmp_path / "x.npy").ravel().tolist()) == {0, 16}


def test_samples_are_those_of_the_model(command: Any, runs: Any, tmp_path: Path) -> None:
    command("sample", runs.gan, "-n", 5, "--seed", 11, "--out", tmp_path / "x.npy")
    run = load(runs.gan)
    torch.manual_seed(11)
    expected = to_original(run.data.description, run.model.sample(5))
    assert np.array_equal(np.load(tmp_path / "x.npy"), expected)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_reconstructions_are_of_the_first_rows_of_the_split(
    command: Any, runs: Any, tmp_path: Path, split: str
) -> None:
    ended = command("reconstruct", runs.vae, "-n", 7, "--split", split, "--out", tmp_path / "x.npy")
    run = load(runs.vae)
    x, _ = next(run.data.batches(split, 7, shuffle=False))
    again = run.model.reconstruct(x)
    assert np.array_equal(np.load(tmp_path / "x.npy"), to_original(run.data.description, again))
    assert f"7 reconstructions of digits ({split})" in ended.out
    assert f"mean squared difference {((x - again) ** 2).mean():.4g}:" in ended.out


def test_a_picture_of_reconstructions_has_the_datum_left(command: Any, runs: Any, tmp_path: Path) -> None:
    command("reconstruct", runs.vae, "-n", 2, "--out", tmp_path / "x.png")
    run = load(runs.vae)
    x, _ = next(run.data.batches("test", 2, shuffle=False))
    with Image.open(tmp_path / "x.png") as picture:
        pixels = np.asarray(picture)
    for i, image in enumerate(pairs(x, run.model.reconstruct(x))):
        shown = pixels[2 : 2 + 56 : 7, 2 + i * CELL : 2 + i * CELL + 56 : 7]
        assert np.array_equal(shown, (image[0] * 255).round().numpy())


def test_walks_begin_and_end_at_the_decoded_data(command: Any, runs: Any, tmp_path: Path) -> None:
    command("interpolate", runs.table, "-n", 3, "--steps", 5, "--out", tmp_path / "x.npy")
    walks = np.load(tmp_path / "x.npy").reshape(3, 5, 3)
    run = load(runs.table)
    x, _ = next(run.data.batches("test", 6, shuffle=False))
    ends = to_original(run.data.description, run.model.reconstruct(x)).reshape(3, 2, 3)
    assert np.allclose(walks[:, [0, -1]], ends, rtol=1e-5)


def test_a_gan_walks_between_draws(command: Any, runs: Any, tmp_path: Path) -> None:
    ended = command("interpolate", runs.gan, "-n", 3, "--steps", 5, "--seed", 7, "--out", tmp_path / "x.npy")
    assert ended.status == 0
    run = load(runs.gan)
    torch.manual_seed(7)
    ends = to_original(run.data.description, run.model.decode(run.model.noise(6))).reshape(3, 2, 1, 8, 8)
    walks = np.load(tmp_path / "x.npy").reshape(3, 5, 1, 8, 8)
    assert np.abs(walks[:, [0, -1]].astype(int) - ends.astype(int)).max() <= 1  # a level may round the other way


@pytest.mark.parametrize(
    ("words", "verb", "said"),
    [
        ("vae digits --latent 2 --hidden 3 --posterior planar --flows 2", "interpolate", "between draws of the latent"),
        ("helmholtz digits --layers 3 --layer nade --nade-hidden 2", "interpolate", "draws of x itself"),
        ("bayes-classifier digits --latent 0", "report", "page:"),
    ],
)
def test_the_command_that_sample_names_next_works(command: Any, words: str, verb: str, said: str) -> None:
    assert command("train", *words.split(), "--epochs", 1, "--batch-size", 239, "--out", "run").status == 0
    (line,) = [line for line in command("sample", "run", "-n", 2).out.splitlines() if line.startswith("next:")]
    assert line == f"next:  ancestral {verb} run"
    ended = command(*line.split()[2:])
    assert (ended.status, ended.err) == (0, "")
    assert said in ended.out


def test_more_rows_than_there_are_give_all_of_them(command: Any, runs: Any, tmp_path: Path) -> None:
    count = len(load(runs.table).data.test)
    command("reconstruct", runs.table, "-n", 1009, "--out", tmp_path / "x.npy")
    assert len(np.load(tmp_path / "x.npy")) == count
    ended = command("interpolate", runs.table, "-n", 1009, "--steps", 2, "--out", tmp_path / "x.npy")
    assert f"{count // 2} walks of 2 points" in ended.out
    assert len(np.load(tmp_path / "x.npy")) == count // 2 * 2


# ---- repeatable


@pytest.mark.parametrize("ending", ["png", "npz", "npy", "csv"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    command: Any, runs: Any, tmp_path: Path, ending: str
) -> None:
    def content(seed: int) -> bytes:
        command("sample", runs.gan, "-n", 5, "--seed", seed, "--out", tmp_path / f"x.{ending}")
        return (tmp_path / f"x.{ending}").read_bytes()

    assert content(0) == content(0) != content(1)


def test_the_best_weights_and_the_last_can_be_chosen(command: Any, runs: Any, tmp_path: Path) -> None:
    run = runs.copy("vae", tmp_path / "run")
    best, last = (run / "checkpoints" / name for name in ("best", "last"))
    best.rename(tmp_path / "kept")
    ended = command("sample", run, "--checkpoint", "best")
    assert ended.status == 1
    assert "no checkpoint 'best'. It has one called 'last'" in ended.err
    assert command("sample", run, "--checkpoint", "last").status == 0
    (tmp_path / "kept").rename(best)
    last.rename(tmp_path / "kept")
    assert command("sample", run, "--checkpoint", "best").status == 0
    assert "It has one called 'best'" in command("sample", run, "--checkpoint", "last").err


def test_images_of_four_channels_become_a_table_of_draws(command: Any, tmp_path: Path) -> None:
    x = np.random.default_rng(1).integers(0, 256, (29, 5, 7, 4), dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    words = ("train", "vae", "x.npy", "--latent", 2, "--hidden", 3, "--epochs", 1, "--binarization", "dynamic")
    ended = command(*words, "--out", "run")
    assert ended.status == 0
    assert "--out samples.csv" in ended.out
    for verb, rows in (("sample", 3), ("reconstruct", 3), ("interpolate", 3 * 9 - 9)):
        ended = command(verb, "run", "-n", 3 if verb != "interpolate" else 2)
        assert ended.status == 0
        values = np.loadtxt(ended.out.split(":  ")[1].split("\n")[0], delimiter=",")
        assert values.shape == (rows, 140)
        assert verb != "sample" or set(values.ravel().tolist()) == {0, 255}


@pytest.mark.parametrize("name", ["x.PNG", "x.Npy", "x.CSV"])
def test_an_ending_may_be_in_capitals(command: Any, runs: Any, tmp_path: Path, name: str) -> None:
    assert command("reconstruct", runs.vae, "-n", 2, "--out", tmp_path / name).status == 0
    assert [path.name for path in tmp_path.iterdir() if path.suffix == Path(name).suffix] == [name]

"""The user's own folder of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ancestral.configs.data import DataConfig
from ancestral.data import load
from ancestral.errors import AncestralError

GENERATOR = np.random.default_rng(0)
ALL = DataConfig(validation=0, test=0)


def picture(path: Path, height: int = 7, width: int = 5, channels: int = 3) -> np.ndarray:
    shape = (height, width) if channels == 1 else (height, width, channels)
    pixels = GENERATOR.integers(0, 256, shape, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def test_images_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    pixels = {name: picture(tmp_path / name) for name in ("b.png", "a.bmp", "c.PNG")}
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    data = load(tmp_path, ALL)
    assert np.array_equal(
        np.moveaxis(data.train.x, 1, 3), [pixels["a.bmp"], pixels["b.png"], pixels["c.PNG"]]
    )
    assert data.description.shape == (3, 7, 5)
    assert (data.description.kind, data.description.levels, data.train.y) == ("levels", 256, None)


@pytest.mark.parametrize("ending", ["jpg", "webp", "gif", "jpeg"])
def test_other_formats_are_read(tmp_path: Path, ending: str) -> None:
    for name in "ab":
        picture(tmp_path / f"{name}.{ending}")
    assert load(tmp_path, ALL).train.x.shape == (2, 3, 7, 5)


def test_grey_images_have_one_channel_unless_one_is_in_colour(tmp_path: Path) -> None:
    grey = [picture(tmp_path / f"{name}.png", channels=1) for name in "ab"]
    assert np.array_equal(load(tmp_path, ALL).train.x[:, 0], grey)
    picture(tmp_path / "c.png")
    data = load(tmp_path, ALL)
    assert data.description.shape == (3, 7, 5)
    assert np.array_equal(data.train.x[0], np.stack([grey[0]] * 3))


def test_subfolders_are_labels(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/2.png", "ape/9.png", "dog/1.png"):
        picture(tmp_path / name)
    (tmp_path / "empty").mkdir()
    data = load(tmp_path, ALL)
    assert data.train.y is not None
    assert data.train.y.tolist() == [0, 1, 1, 2]
    assert data.description.classes == 3


def test_a_turned_photograph_is_upright(tmp_path: Path) -> None:
    for name in "ab":
        pixels = np.zeros((5, 7), np.uint8)
        pixels[:, -1] = 255
        orientation = Image.Exif()
        orientation[0x0112] = 6  # to be turned a quarter clockwise
        Image.fromarray(pixels).save(tmp_path / f"{name}.png", exif=orientation)
    data = load(tmp_path, ALL)
    assert data.description.shape == (1, 7, 5)
    assert data.train.x[0, 0, -1].min() == 255
    assert data.train.x[0, 0, :-1].max() == 0


def test_many_pixels_are_decoded_once_to_a_memory_mapped_file(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pictures"
    for name in "abc":
        picture(folder / f"{name}.png")
    in_memory = load(folder, ALL)
    monkeypatch.setattr("ancestral.data.images.IN_MEMORY", 1)
    mapped = load(folder, ALL)
    assert isinstance(mapped.train.source.x, np.memmap)
    assert mapped.digest("train") == in_memory.digest("train")
    kept = list(own_cache.rglob("*.*"))
    assert len(kept) == 1
    load(folder, ALL)
    assert list(own_cache.rglob("*.*")) == kept
    picture(folder / "d.png")
    assert len(load(folder, ALL).train) == 4


def test_images_that_can_not_be_read_leave_nothing_in_the_cache(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pictures"
    for name in "ab":
        picture(folder / f"{name}.png", 31, 37)
    contents = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(contents[: len(contents) // 2])
    monkeypatch.setattr("ancestral.data.images.IN_MEMORY", 1)
    with pytest.raises(AncestralError, match=r"b\.png can't be read as an image"):
        load(folder)
    assert not list(own_cache.rglob("*.*"))


def test_images_of_unequal_size_are_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png", 5, 7)
    with pytest.raises(AncestralError, match=r"a\.png is 7x5.*b\.png is 5x7.*resize"):
        load(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(AncestralError, match=r"holds no images \(\.png"):
        load(tmp_path)


def test_one_image_is_no_data_set(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(AncestralError, match="one image"):
        load(tmp_path)


def test_images_beside_folders_of_images_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "cat" / "b.png")
    with pytest.raises(AncestralError, match=r"a\.png.*cat"):
        load(tmp_path)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"hello")
    with pytest.raises(AncestralError, match=r"b\.png can't be read as an image"):
        load(tmp_path)


def test_more_than_eight_bits_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        Image.fromarray(np.full((7, 5), 4001, np.uint16)).save(tmp_path / f"{name}.png")
    with pytest.raises(AncestralError, match="8 bits"):
        load(tmp_path)


@pytest.mark.parametrize("limit", [20, 10])
def test_a_decompression_bomb_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", limit
    )  # 35 pixels: a warning above the limit, an error above twice
    with pytest.raises(AncestralError, match="too large an image"):
        load(tmp_path)

"""Pictures, progress and trackers."""

from __future__ import annotations

import inspect
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from ancestral.errors import AncestralError
from ancestral.training.pictures import MARGIN, grid, pairs, save_picture
from ancestral.training.progress import Bar, Lines, Silent, in_words, make_reporter
from ancestral.training.trackers import TensorBoard, Tracker, check_trackers, make_tracker


def test_a_grid_shows_every_image_in_its_place() -> None:
    images = torch.linspace(0, 1, 5)[:, None, None, None].expand(5, 1, 3, 2)
    picture = grid(images, columns=3, zoom=1)
    assert picture.size == (3 * 4 + MARGIN, 2 * 5 + MARGIN)
    pixels = np.asarray(picture)
    assert [pixels[3, 2], pixels[3, 6], pixels[3, 10], pixels[8, 2], pixels[8, 6]] == [0, 64, 128, 191, 255]
    assert pixels[8, 10] == pixels[0, 0] == 96  # no sixth image, and the margin


def test_small_images_are_enlarged_and_large_ones_are_not() -> None:
    assert grid(torch.zeros(1, 1, 8, 8)).size == (56 + 2 * MARGIN, 56 + 2 * MARGIN)
    assert grid(torch.zeros(1, 3, 101, 53)).size == (53 + 2 * MARGIN, 101 + 2 * MARGIN)


def test_colours_stay_and_values_beyond_the_range_are_clipped() -> None:
    image = torch.tensor([2.0, 0.5, -1.0])[None, :, None, None].expand(1, 3, 5, 7)
    picture = grid(image, zoom=1)
    assert picture.mode == "RGB"
    assert picture.getpixel((4, 4)) == (255, 128, 0)


@pytest.mark.parametrize("shape", [(5, 7), (5, 2, 3, 3), (1, 3, 3)])
def test_what_is_no_image_can_not_be_drawn(shape: tuple[int, ...]) -> None:
    with pytest.raises(AncestralError, match="picture needs images"):
        grid(torch.zeros(shape))


def test_pairs_stand_side_by_side() -> None:
    first, second = torch.arange(3.0), torch.arange(3.0) + 10
    assert pairs(first, second).tolist() == [0, 10, 1, 11, 2, 12]


def test_a_picture_that_can_not_be_written_is_an_error(tmp_path: Path) -> None:
    place = tmp_path / "taken.png"
    place.mkdir()
    (place / "file").touch()
    with pytest.raises(AncestralError, match=r"can't write the picture .*taken\.png"):
        save_picture(grid(torch.zeros(1, 1, 3, 3)), place)
    save_picture(grid(torch.zeros(1, 1, 3, 3)), tmp_path / "new" / "picture.png")
    with Image.open(tmp_path / "new" / "picture.png") as picture:
        assert picture.format == "PNG"
    assert [place.name for place in (tmp_path / "new").iterdir()] == ["picture.png"]


def test_lines_say_the_named_losses_and_how_long_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Lines(seconds=1e9)
    reporter.begin(total=10, done=0)
    reporter.last = 0.0
    reporter.update(5, 1.0, {"loss": 101.25, "kl": 24.0})
    reporter.last = float("inf")
    reporter.update(7, 1.4, {"loss": 1.0})
    reporter.update(10, 2.0, {"loss": 100.0, "kl": 25.5})
    reporter.say("done")
    reporter.end()
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "done"
    assert "100%" in said[-2]
    assert "epoch 2.0  loss 100  kl 25.5  0 s left" in said[-2]
    assert all("loss 1 " not in line for line in said)


def test_long_times_are_said_in_minutes(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Lines(seconds=0.0)
    reporter.begin(total=1000, done=0)
    reporter.started -= 30.0
    reporter.update(10, 1.0, {"loss": 1.0})
    assert "50 min left" in capsys.readouterr().err


def test_a_bar_renders_the_named_losses_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    bar = Bar(console)
    bar.begin(total=10, done=2)
    bar.update(5, 1.5, {"loss": 101.25, "kl": 24.0})
    bar.say("a message [with brackets]")
    bar.end()
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "loss 101.2  kl 24" in written
    assert "epoch 1.5" in written
    assert "a message [with brackets]" in written


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(make_reporter(), Lines)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(make_reporter(), Bar)


def test_silence_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    reporter = Silent()
    reporter.begin(10, 0)
    reporter.update(5, 1.0, {"loss": 1.0})
    reporter.say("nothing")
    reporter.end()
    assert capfd.readouterr() == ("", "")
    assert in_words({"loss": 1.23456, "kl": 0.5}) == "loss 1.235  kl 0.5"


def test_a_tracker_has_five_methods() -> None:
    methods = {name for name, value in vars(Tracker).items() if inspect.isfunction(value) and not name.startswith("_")}
    assert methods == {"start", "scalars", "image", "text", "finish"}
    assert methods <= set(dir(TensorBoard))


def test_an_unknown_tracker_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(AncestralError, match=r"tensorbord.*tensorboard"):
        make_tracker("tensorbord", tmp_path)


def test_a_tracker_that_is_not_installed_is_named_with_its_extra() -> None:
    check_trackers(("tensorboard",))
    with pytest.raises(AncestralError, match=r"nowhere is not installed: pip install"):
        check_trackers(("nowhere",))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_writes_what_it_is_told(tmp_path: Path) -> None:
    tracker = make_tracker("tensorboard", tmp_path)
    tracker.start({"epochs": 3})
    tracker.scalars(7, {"loss": 1.5, "kl": 0.5})
    tracker.image(7, "samples", grid(torch.zeros(1, 1, 3, 3)))
    tracker.text("end", "all epochs done")
    tracker.finish()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert set(tags["scalars"]) == {"loss", "kl"}
    assert tags["images"] == ["samples"]
    assert {"config/text_summary", "end/text_summary"} <= set(tags["tensors"])
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(7, 1.5)]

"""``ancestral manifold``: the map of a two-dimensional latent space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ancestral import LatentVariableModel, load
from ancestral.evaluation import latent_grid

TINY = ("--batch-size", 239, "--epochs", 2, "--latent", 2, "--hidden", 7)


@pytest.mark.parametrize("model", ["vae", "m2", "bayes-classifier"])
def test_a_map_is_drawn_into_the_run_folder(command: Any, model: str) -> None:
    labels = ("--labels", 50) if model == "m2" else ()
    assert command("train", model, "digits", *TINY, *labels, "--out", "run").status == 0
    given = () if model == "vae" else ("--given", "y=3")
    ended = command("manifold", "run", "--steps", 5, *given)
    assert (ended.status, ended.err) == (0, "")
    assert "a map of 5 x 5 points:  run/manifold.png" in ended.out
    assert "next:  ancestral interpolate run" in ended.out
    with Image.open("run/manifold.png") as picture:
        assert picture.width == picture.height
        assert np.asarray(picture).std() > 3
    if model == "vae":
        assert command("manifold", "run", "--steps", 5, "--out", "map.npz").status == 0
        run: Any = load(Path("run"))
        expected = run.data.to_original(latent_grid(run.model, 5))
        np.testing.assert_allclose(np.load("map.npz")["x"], expected, atol=1)
    else:
        assert "give the others" in command("manifold", "run").err
        assert command("report", "run", "--particles", 1, "--limit", 3).status == 0
        page = Path("run/report.html").read_text(encoding="utf-8")
        assert "nothing besides that is drawn, such as a label" in page


@pytest.mark.parametrize(
    ("steps", "out", "said"),
    [
        (251, "map.png", "a picture of 63,001 images would have 14,560 x 14,560 pixels"),
        (251, "map.png", "ask for fewer, or write them as .npz"),
        (2, "file/map.png", "can't write file/map.png"),
        (2, "file/map.png", "is no folder that can be written. Give another --out"),
    ],
)
def test_a_picture_that_can_not_be_is_refused_before_anything_is_decoded(
    command: Any, runs: Any, monkeypatch: pytest.MonkeyPatch, steps: int, out: str, said: str
) -> None:
    Path("file").touch()
    decoded: list[object] = []
    monkeypatch.setattr(LatentVariableModel, "decode", lambda *values, **_: decoded.append(values))
    ended = command("manifold", runs.plane, "--steps", steps, "--out", out)
    assert (ended.status, decoded) == (1, [])
    assert said in ended.err


def test_a_game_has_no_map(command: Any, runs: Any) -> None:
    ended = command("manifold", runs.gan)
    assert ended.status == 1
    assert "has no prior density" in ended.err

"""Small data sets on the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the cache of the person who runs it."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    """23 grey images of 5x7 in a file; the first row of pixels of each is black, the second white."""
    x = np.random.default_rng(3).integers(0, 256, (23, 5, 7), dtype=np.uint8)
    x[:, 0], x[:, 1] = 0, 255
    np.savez(tmp_path / "grey.npz", x=x, y=np.arange(23) % 3)
    return tmp_path / "grey.npz"

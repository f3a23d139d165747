"""Downloads, from a server on this machine."""

from __future__ import annotations

import functools
import hashlib
import http.server
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ancestral.data import load, named
from ancestral.data.download import Remote, fetch
from ancestral.errors import AncestralError

CONTENTS = b"seventeen bytes.\n"
CHECKSUM = "sha256:" + hashlib.sha256(CONTENTS).hexdigest()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("ANCESTRAL_DATA", raising=False)
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "rows.bin").write_bytes(CONTENTS)
    handler = functools.partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_address[1]}/rows.bin"
        served.shutdown()
        thread.join()


DEAD = "http://127.0.0.1:9/rows.bin"


def test_the_next_mirror_serves_when_the_first_is_dead(server: str, tmp_path: Path) -> None:
    path = fetch(
        "rows", Remote("rows.bin", (DEAD, server.replace("rows", "gone"), server), checksum=CHECKSUM)
    )
    assert path.read_bytes() == CONTENTS
    assert path == tmp_path / "cache" / "ancestral" / "data" / "rows" / "rows.bin"
    assert [file.name for file in path.parent.iterdir()] == ["rows.bin"]


def test_an_archive_of_omniglot_that_is_not_the_official_one_is_refused(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "served" / "images_background.zip").write_bytes(CONTENTS)
    monkeypatch.setattr(named, "_OMNIGLOT", server.replace("rows.bin", ""))
    with pytest.raises(AncestralError, match="checksum is not that of the official file"):
        load("omniglot")


def test_wrong_bytes_are_refused_and_leave_nothing_behind(server: str, tmp_path: Path) -> None:
    wrong = "sha256:" + "0" * 64
    with pytest.raises(AncestralError, match="checksum is not that of the official file"):
        fetch("rows", Remote("rows.bin", (server,), checksum=wrong))
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]


def test_dead_mirrors_are_all_named_with_the_cure(server: str) -> None:
    gone = server.replace("rows", "gone")
    with pytest.raises(AncestralError) as caught:
        fetch("rows", Remote("rows.bin", (DEAD, gone), checksum=CHECKSUM))
    message = str(caught.value)
    assert DEAD in message
    assert gone in message
    assert "404" in message
    assert "no connection" in message
    assert "Put this file in place:\n  $ANCESTRAL_DATA/rows/rows.bin\n" in message


def test_a_file_without_a_known_checksum_is_said_to_be_so(
    server: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "ancestral.data"):
        fetch("rows", Remote("rows.bin", (server,)))
    assert "no checksum is known for rows.bin" in caplog.text

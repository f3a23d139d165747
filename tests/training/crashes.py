"""Kill training at every moment that matters, resume it, and compare with a run that was left alone.

A program of its own, for it forks: ``python crashes.py KIND MODEL DATA FOLDER NUMBER``. Starting Python and torch takes
seconds and forking takes milliseconds, so that one process can afford hundreds of crashes. Prints how many of each sort
there were, and ends with status 1 and the difference where a resumed run is not the same to the last bit.
"""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ancestral
from ancestral import AncestralError
from ancestral.training import RunFolder

SETTINGS: dict[str, dict[str, Any]] = {
    "vae": {
        "latent": 2, "hidden": (3,), "binarization": "dynamic", "ema": 0.9, "schedule": "cosine", "patience": 3,
        "epochs": 9, "batch_size": 31, "validate_every": 1, "learning_rate": 0.3, "checkpoint_seconds": 0.0,
        "validation": 0.2, "test": 0.2,
    },
    "gan": {
        "latent": 2, "hidden": (3,), "discriminator_hidden": (3,), "pieces": 2, "discriminator_steps": 2, "ema": 0.9,
        "epochs": 1, "batch_size": 17, "schedule": "linear", "checkpoint_seconds": 0.0,
    },
}  # fmt: skip
REFUSED = 3
"""The exit status of a child whose training ended with an error that was written for people."""
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")
"""What Python reports before it changes the names on the disk; it reports each opening of a file too."""


class Trials:
    """One kind of model, its run that was left alone, and crashes of others."""

    def __init__(self, model: str, data: str, folder: Path) -> None:
        self.model, self.data, self.folder = model, data, folder
        self.crashes: Counter[str] = Counter()
        self.train(folder / "whole")
        self.expected = state(folder / "whole")
        begin = time.monotonic()
        self.train(folder / "run")  # the second time, when everything is imported
        self.seconds = time.monotonic() - begin
        self.compare("the end")

    def train(self, place: Path) -> None:
        """Train; or continue, where there is a run already."""
        if (place / "config.toml").exists():
            ancestral.resume(place)
        else:
            ancestral.train(self.model, self.data, out=place, **SETTINGS[self.model])

    def crash(self, prepare: Callable[[], None], interrupt: float | None = None) -> bool:
        """Train in a child that prepares its own end, or is killed after some seconds. False if it came to the end."""
        place = self.folder / "run"
        child = os.fork()
        if child == 0:
            try:
                prepare()
                self.train(place)
            except AncestralError:
                os._exit(REFUSED)
            except BaseException:
                traceback.print_exc()
                os._exit(4)
            os._exit(0)
        if interrupt is not None:
            time.sleep(interrupt)
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status not in (0, REFUSED, -signal.SIGKILL, -signal.SIGXFSZ):
            raise SystemExit(f"the child ended with status {status}")
        self.crashes["an error" if status == REFUSED else signal.Signals(-status).name if status else "none"] += 1
        return status != 0

    def compare(self, moment: object) -> None:
        """Resume what has crashed: the result must be that of the run that was left alone."""
        place = self.folder / "run"
        self.train(place)
        found = state(place)
        for name in self.expected.keys() | found.keys():
            if self.expected.get(name) != found.get(name):
                raise SystemExit(f"{self.model}, crash at {moment}: {name} is not the same after resuming")
        shutil.rmtree(place)

    def every_change(self, action: Callable[[], None], stride: int) -> None:
        """Crash at the n-th change of the run folder, for every n."""
        n = 1
        while self.crash(partial(at_change, n, self.folder / "run", action)):
            self.compare(f"change {n}")
            n += stride
        shutil.rmtree(self.folder / "run")

    def every_size(self, fatal: bool) -> None:
        """Crash, or meet an error, in the middle of the first file that grows beyond some size."""
        size = 50
        while self.crash(partial(forbid_files_beyond, size, fatal)):
            self.compare(f"{size} bytes")
            size += max(30, size // 3)
        shutil.rmtree(self.folder / "run")

    def random_moments(self, count: int, seed: int) -> None:
        """Kill at random moments, of resumed runs too."""
        draw = random.Random(seed)
        for trial in range(count):
            for _ in range(draw.randint(1, 3)):
                self.crash(lambda: None, draw.uniform(0, self.seconds))
            self.compare(f"random moment {trial} of seed {seed}")


def at_change(number: int, folder: Path, action: Callable[[], None]) -> None:
    """Act before the number-th change of the folder, and at those after it if one survives."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
            if not (writes and isinstance(path, str | bytes) and os.fsdecode(path).startswith(str(folder))):
                return
        elif event not in CHANGES:
            return
        seen += 1
        if seen >= number:
            action()

    sys.addaudithook(hook)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def forbid_files_beyond(size: int, fatal: bool) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if fatal else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def state(place: Path) -> dict[str, object]:
    """All that must be the same: tensors and pictures byte for byte, the metrics but for their seconds; no litter."""
    files = [file for which in ("best", "last") for file in (place / "checkpoints" / which).glob("*.safetensors")]
    found: dict[str, object] = {
        str(file.relative_to(place)): file.read_bytes()
        for file in [*files, *place.glob("samples/*"), *place.glob("health.json")]
    }
    found["litter"] = [str(file) for file in place.rglob("*.tmp")]
    found["metrics"] = [{key: row[key] for key in row if key != "seconds"} for row in RunFolder(place).metrics()]
    return found


def main(kind: str, model: str, data: str, folder: str, number: str) -> None:
    """The number is the stride from one change to the next, or the seed of random moments."""
    trials = Trials(model, data, Path(folder))
    begin = time.monotonic()
    if kind == "changes":
        trials.every_change(kill, int(number))
    elif kind == "errors":
        trials.every_change(refuse, int(number))
    elif kind == "sizes":
        trials.every_size(fatal=True)
        trials.every_size(fatal=False)
    else:
        trials.random_moments(10, int(number))
    print(f"{model}, {kind}: {time.monotonic() - begin:.1f} s; {trials.seconds:.2f} s a run")
    print(json.dumps(trials.crashes))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Progress with the named losses: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Reporter(Protocol):
    """Hears how far training is, and what it has to say."""

    def begin(self, total: int, done: int) -> None: ...

    def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None: ...

    def say(self, message: str) -> None: ...

    def end(self) -> None: ...


class Silent:
    """Says nothing: for training from a program."""

    def begin(self, total: int, done: int) -> None: ...

    def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None: ...

    def say(self, message: str) -> None: ...

    def end(self) -> None: ...


class Bar:
    """A progress bar with the losses by name."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]:.1f}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=console,
        )

    def begin(self, total: int, done: int) -> None:
        self.task = self.progress.add_task("", total=total, completed=done, epoch=0.0, losses="")
        self.progress.start()

    def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None:
        self.progress.update(self.task, completed=done, epoch=epoch, losses=in_words(scalars))

    def say(self, message: str) -> None:
        self.progress.console.print(message, markup=False, highlight=False)

    def end(self) -> None:
        self.progress.stop()


class Lines:
    """A line now and then."""

    def __init__(self, seconds: float = 5.0) -> None:
        self.seconds = seconds
        self.last = 0.0

    def begin(self, total: int, done: int) -> None:
        self.total = total
        self.started, self.first = time.monotonic(), done

    def update(self, done: int, epoch: float, scalars: dict[str, float]) -> None:
        now = time.monotonic()
        if now - self.last < self.seconds and done < self.total:
            return
        self.last = now
        left = (now - self.started) / max(1, done - self.first) * (self.total - done)
        self.say(f"{done / self.total:4.0%}  epoch {epoch:.1f}  {in_words(scalars)}  {_duration(left)} left")

    def say(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    def end(self) -> None: ...


def make_reporter() -> Reporter:
    """A bar where the output is a terminal, else lines."""
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else Lines()


def in_words(scalars: dict[str, float]) -> str:
    """``loss 101.2  kl 24.1``."""
    return "  ".join(f"{name} {value:.4g}" for name, value in scalars.items())


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"

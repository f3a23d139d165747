"""Measure candidates against each other in one run: a process each, turns interleaved, medians of ratios.

A candidate is a function that prepares everything and yields the number of datapoints it has processed, again and
again; between two turns its process waits. A process of its own gives each candidate its own allocator and thread
settings, and its peak memory.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue

Candidate = Callable[[argparse.Namespace], Iterator[int]]


@dataclass
class Measured:
    """One candidate's turns: datapoints per second of wall and of processor time."""

    name: str
    process: subprocess.Popen[str]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: float = 0.0
    """Peak resident memory, MiB."""

    def turn(self, seconds: float) -> bool:
        """Let it run for about so long. Returns False if it is gone."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{seconds}\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            return False
        self.wall.append(answer["items"] / answer["wall"])
        self.cpu.append(answer["items"] / answer["cpu"])
        self.memory = answer["memory"]
        return True


def in_turns(work: Callable[[Callable[[int], None]], object]) -> Iterator[int]:
    """A candidate from work that calls a function with how much it has done: it waits there between two turns.

    The work has a thread of its own, and is not to end.
    """
    turn: Queue[int | BaseException] = Queue()
    go: Queue[None] = Queue()

    def tell(done: int) -> None:
        turn.put(done)
        go.get()

    def run() -> None:
        try:
            work(tell)
            turn.put(RuntimeError("the work has ended: give it more"))
        except BaseException as error:
            turn.put(error)

    threading.Thread(target=run, daemon=True).start()
    while True:
        done = turn.get(timeout=120)
        if isinstance(done, BaseException):
            raise done
        yield done
        go.put(None)


def work(candidate: Candidate, arguments: argparse.Namespace) -> None:
    """The life of a candidate's process: a turn for each line that comes in."""
    if hasattr(os, "sched_setaffinity"):  # a library that ignores the number of threads gets no more cores either
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-arguments.threads :])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    items = candidate(arguments)
    next(items)  # the first step prepares: imports, compilation, caches
    for line in sys.stdin:
        done, wall, cpu, until = 0, time.perf_counter(), time.process_time(), time.perf_counter() + float(line)
        while time.perf_counter() < until:
            done += next(items)
        print(
            json.dumps(
                {
                    "items": done,
                    "wall": time.perf_counter() - wall,
                    "cpu": time.process_time() - cpu,
                    "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                }
            ),
            file=answers,
            flush=True,
        )


def main(module: str, candidates: dict[str, Candidate], parser: argparse.ArgumentParser) -> list[Measured]:
    """Parse the command line; measure all candidates, or be one of them, which has measured nothing."""
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of every candidate")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each candidate")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a turn")
    parser.add_argument("--only", nargs="*", help="measure these alone; the first is what the others are divided by")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--candidate", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.candidate:
        work(candidates[arguments.candidate], arguments)
        return []
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads), "ANCESTRAL_BENCHMARK": module}
    environment.setdefault("XLA_FLAGS", f"--xla_cpu_multi_thread_eigen={str(arguments.threads > 1).lower()}")
    measured = []
    for name in arguments.only or candidates:
        command = [sys.executable, "-m", module, *sys.argv[1:], "--candidate", name]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        one = Measured(name, process)
        if one.turn(0.1):  # warm-up
            one.wall.clear()
            one.cpu.clear()
            measured.append(one)
        else:
            assert process.stderr is not None
            last = (process.stderr.read().strip().splitlines() or ["no word"])[-1]
            print(f"left out: {name} ({last[:150]})", flush=True)
    for _ in range(arguments.rounds):
        for one in measured:
            one.turn(arguments.seconds)
    for one in measured:
        one.process.kill()
        one.process.wait()
    print(report(measured, arguments))
    if arguments.json:
        record = {one.name: {"wall": one.wall, "cpu": one.cpu, "memory MiB": one.memory} for one in measured}
        record["machine"] = {"processor": processor(), "platform": platform.platform(), "cores": os.cpu_count()}  # type: ignore[dict-item]
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")
    return measured


def report(measured: list[Measured], arguments: argparse.Namespace) -> str:
    """A table: the ratio is the median over rounds of (candidate / first candidate) in the same round."""
    first = measured[0]
    lines = [
        f"{processor()}, {os.cpu_count()} cores, {arguments.threads} thread(s), {arguments.rounds} rounds of "
        f"{arguments.seconds:g} s; ratios to {first.name!r} in the same round",
        "",
        "| candidate | datapoints/s | ratio | datapoints/CPU-s | ratio | peak MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in measured:
        lines.append(
            f"| {one.name} | {statistics.median(one.wall):,.0f} | {ratio(one.wall, first.wall):.2f} "
            f"| {statistics.median(one.cpu):,.0f} | {ratio(one.cpu, first.cpu):.2f} | {one.memory:,.0f} |"
        )
    return "\n".join(lines)


def ratio(mine: list[float], others: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(mine, others, strict=True))


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def require(name: str) -> object:
    """A peer's module; its absence leaves the candidate out."""
    return importlib.import_module(name)

"""The time of each verb's ``--help`` beside that of bare Python: CPU and wall seconds, the best of five.

    python benchmarks/help.py

The aim: every help in under 0.3 s of CPU time.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

from ancestral.cli import VERBS

REPEATS = 5
AIM = 0.3
"""Seconds of CPU time."""


def seconds(command: list[str]) -> tuple[float, float]:
    """CPU and wall seconds of a command, the best of some repetitions."""
    best = (float("inf"), float("inf"))
    for _ in range(REPEATS):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        best = min(best[0], cpu), min(best[1], wall)
    return best


def main() -> None:
    script = Path(sys.executable).with_name("ancestral")
    start = [str(script)] if script.exists() else [sys.executable, "-m", "ancestral"]
    commands = {"python, bare": [sys.executable, "-c", ""], "ancestral --help": [*start, "--help"]}
    for words in (["train", "vae"], ["train", "gan"], *([verb] for verb in VERBS)):
        commands[f"ancestral {' '.join(words)} --help"] = [*start, *words, "--help"]
    print(f"{'best of ' + str(REPEATS):30}  CPU s  wall s")
    for name, command in commands.items():
        cpu, wall = seconds(command)
        print(f"{name:30} {cpu:6.3f} {wall:7.3f}{'' if cpu < AIM else f'  above {AIM} s'}", flush=True)


if __name__ == "__main__":
    main()

"""The command line: ``ancestral VERB``. One file per verb, each thin: parse, call the library, print.

Nothing here imports torch before it is needed, so that help answers at once.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

from ancestral.errors import AncestralError, memory_ran_out, nearest

VERBS = {
    "train": "train a model on a data set",
    "resume": "continue an interrupted run",
    "sample": "draw from a trained model",
    "reconstruct": "encode data and decode them again",
    "interpolate": "walk from one datapoint to another through the latent space",
    "manifold": "what a two-dimensional latent space holds, as one picture",
    "evaluate": "bounds of log p(x) on held-out data",
    "report": "one page about a run: verdict, losses, pictures, figures",
    "compare": "runs side by side on one page",
    "estimators": "gradient estimators compared: bias, variance, time",
    "list": "models, data sets, objectives, estimators",
    "doctor": "is everything here that is needed?",
}

SPINS = "2000"
"""How often a thread looks for work before it sleeps. OpenMP's own default keeps a core busy with waiting: where cores
are shared, two threads then take ten times as long as one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Returns the exit status: 0, 1 for an error, 2 for wrong words, 130 after Ctrl-C."""
    try:
        try:
            return _run(list(sys.argv[1:] if arguments is None else arguments))
        finally:
            sys.stdout.flush()  # here, where a reader who has left can be answered
    except AncestralError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left, as `| head` does
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a disk that is full, a name that is too long
        print(f"error: {error}. Give another place, or make room there.", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not memory_ran_out(error):
            raise
        reason = (str(error).splitlines() or ["no more could be had"])[0]
        print(f"error: memory ran out: {reason} Ask for less at once, in batches, layers or -n.", file=sys.stderr)
        return 1


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] == "--version":
        from ancestral import __version__

        print(f"ancestral {__version__}")
        return 0
    for word in words:
        if not word.isprintable() and any("\ud800" <= character <= "\udfff" for character in word):
            raise AncestralError(f"{word!r} is no text in UTF-8, so that nothing can note it: rename the file.")
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is imported
    verb = words[0]
    if verb not in VERBS:
        print(f"error: there is no verb {verb!r}. {nearest(verb, VERBS)}", file=sys.stderr)
        return 2
    status: int = importlib.import_module(f"ancestral.cli.{verb.replace('list', 'listing')}").main(words[1:])
    return status


def _help() -> str:
    width = max(map(len, VERBS))
    return "\n".join(
        [
            "usage: ancestral VERB ...",
            "",
            "Deep generative models: train, look, measure, use.",
            "",
            *(f"  {verb:{width}}  {words}" for verb, words in VERBS.items()),
            "",
            "`ancestral VERB --help` says more. To begin:",
            "",
            "  ancestral train vae digits --out runs/first",
        ]
    )

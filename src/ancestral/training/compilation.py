"""A player's loss and its gradients, or a bound, as one program: ``torch.compile``, where it pays."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ancestral.errors import AncestralError
from ancestral.models.contract import Batch, Player, Scalars
from ancestral.objectives.expectation import batch_of
from ancestral.objectives.iwae import Weigh

Gradients = Callable[[Batch, bool], Scalars]
"""Leaves the gradients of a batch in a player's parameters, as ``backward()`` does; returns the scalars of its loss.
The second argument says whether matrix products are of bfloat16."""

OLDEST = "2.13"
"""The first PyTorch that compiles a loss together with its gradients."""
FIXED = {
    "BUILTIN_MATCH", "CLASS_MATCH", "CLOSURE_MATCH", "DUPLICATE_INPUT", "EMPTY_NN_MODULE_HOOKS_DICT", "FUNCTION_MATCH",
    "MODULE_MATCH", "NOT_PRESENT_IN_GENERIC_DICT", "TYPE_MATCH",
}  # fmt: skip
"""What a program takes for granted: functions, classes, and which parameters are the same. To look whether they have
changed would cost a small step some of its time. At the values of attributes it looks."""
SETTINGS: dict[str, Any] = {
    "fullgraph": True,
    "dynamic": False,
    "isolate_recompiles": True,  # every player has a program of its own
    "options": {
        "fallback_random": True,
        "guard_filter_fn": lambda guards: [guard.guard_type not in FIXED for guard in guards],
        "size_asserts": False,
    },
}
"""Of every program: all of it is one, for one size, and draws what it would draw if it were not compiled."""


def cpp_compiler() -> str | None:
    """The C++ compiler with which PyTorch compiles for the CPU; None where it is not there."""
    return shutil.which(_cpp_compiler())


def _cpp_compiler() -> str:
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return os.environ.get("CXX", usual)


def compiled(player: Player, device: str) -> Gradients:
    """The loss of a player and its gradients as one program, compiled when it is first called, for seconds.

    It makes the same draws as ``player.loss`` and ``backward()``, and the same values but for the rounding of sums.
    What Python does in the loss is done once: a number that it computes from ``batch.epoch`` may change from batch to
    batch, one that it counts for itself is compiled anew every time, until that fails.

    Raises:
        AncestralError: PyTorch is too old, or there is no C++ compiler; when called: the loss can't be compiled.
    """
    require_compiler(device, "train without --compile")
    kind = device.split(":")[0]
    parameters = [parameter for parameter in player.parameters if parameter.requires_grad]

    def program(
        x: Tensor, y: Tensor | None, epoch: Tensor, rows: int, half: bool
    ) -> tuple[Scalars, list[Tensor | None]]:
        with torch.autocast(kind, torch.bfloat16, enabled=half):
            scalars = player.loss(Batch(x, y, epoch.item(), rows))
        gradients = torch.autograd.grad(scalars["loss"], parameters, allow_unused=True)
        return (
            {name: value.detach() for name, value in scalars.items()},
            [None if gradient is None else gradient.contiguous() for gradient in gradients],
        )

    run = torch.compile(program, **SETTINGS)

    def gradients(batch: Batch, half: bool) -> Scalars:
        # A tensor, since a number would be a constant of the program.
        epoch = torch.tensor(batch.epoch, dtype=torch.float64)
        with _explained(f"the loss of the {player.name}", "Train without --compile."):
            try:
                scalars: Scalars
                scalars, found = run(batch.x, batch.y, epoch, batch.rows, half)
            except torch._dynamo.exc.FailOnRecompileLimitHit:
                raise AncestralError(
                    f"the loss of the {player.name} can't be compiled: it reads a number that changes from step to "
                    "step, and each would need a program of its own. Keep it in a tensor, or train without --compile."
                ) from None
        places = set()
        for parameter, gradient in zip(parameters, found, strict=True):
            if gradient is not None:  # one tensor may be that of two parameters, and clipping changes it in place
                parameter.grad = gradient.clone() if gradient.data_ptr() in places else gradient
                places.add(gradient.data_ptr())
        return scalars

    return gradients


def compiled_bound(weigh: Weigh, device: str) -> Weigh:
    """The weights of the importance-weighted bound as one program, compiled when it is first called, for seconds.

    The program is for the sizes of that first call; others go without. The draws are those of ``weigh``, and the values
    too but for the rounding of sums.

    Raises:
        AncestralError: PyTorch is too old, or there is no C++ compiler; when called: the bound can't be compiled.
    """
    require_compiler(device, "evaluate without --compile")
    run = torch.compile(weigh, **SETTINGS)
    first: tuple[int, int] | None = None

    def weights(given: Mapping[str, Tensor], count: int) -> tuple[Tensor, Tensor]:
        nonlocal first
        size = (batch_of(given), count)
        first = first or size
        if size != first:
            return weigh(given, count)
        with _explained("the bound", "Evaluate without --compile."):
            return run(given, count)

    return weights


def require_compiler(device: str, otherwise: str) -> None:
    """Raise where nothing can be compiled.

    Raises:
        AncestralError: PyTorch is too old, or there is no C++ compiler.
    """
    if torch.__version__ < OLDEST:
        raise AncestralError(
            f"compile needs PyTorch {OLDEST} or newer, and this is {torch.__version__}. Install a newer one, or "
            f"{otherwise}."
        )
    if device.startswith("cpu") and cpp_compiler() is None:
        raise AncestralError(
            f"compile needs a C++ compiler, but {_cpp_compiler()} is not found. Install one (on Debian and Ubuntu: apt "
            f"install g++), name yours in the environment variable CXX, or {otherwise}."
        )


@contextlib.contextmanager
def _explained(what: str, otherwise: str) -> Iterator[None]:
    """Raise the first words of what the compiler says, as an error of ours; any other error passes."""
    try:
        yield
    except Exception as error:  # those of the compiler have no base of their own
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "torch.fx")):
            raise
        why = " ".join(str(error).split("Hint:")[0].split("\n\n")[0].split())
        raise AncestralError(f"{what} can't be compiled: {why[:500]} {otherwise}") from error


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Where :func:`compiled` functions are called: lets them be compiled with their gradients."""
    torch.compiler.reset()  # what else the process has compiled would change the last bits
    with warnings.catch_warnings(), torch._dynamo.config.patch(trace_autograd_ops=True):
        warnings.simplefilter("ignore", DeprecationWarning)  # of the compiler, about torch itself
        yield

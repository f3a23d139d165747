"""``ancestral doctor``."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ancestral.cli.arguments import parse


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Check the installation: versions, devices, data, extras, disk."""


def main(words: Sequence[str]) -> int:
    parse(Doctor, "doctor", words)

    import numpy
    import torch

    import ancestral
    from ancestral.data import named_sets
    from ancestral.data.download import folder_of
    from ancestral.networks.processor import cores, multiplies_bfloat16
    from ancestral.training.compilation import OLDEST, cpp_compiler

    good = True
    print(f"ancestral   {ancestral.__version__}, Python {platform.python_version()} at {sys.executable}")
    print(f"torch       {torch.__version__}, numpy {numpy.__version__}, {cores()} CPU cores")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            print(f"GPU         {torch.cuda.get_device_name(index)}")
    else:
        print("GPU         none that torch sees; the CPU will do for everything in the README")
    print(f"threads     {threads()}")
    speed = "fast on" if multiplies_bfloat16() else "slower than float32 on"
    print(f"bfloat16    --precision bfloat16 is {speed} this processor")
    if torch.__version__ < OLDEST:
        words_ = f"needs PyTorch {OLDEST} or newer"
    else:
        words_ = f"compiles with {found}" if (found := cpp_compiler()) else "needs a C++ compiler, and none is found"
    print(f"compile     --compile {words_}")
    one = torch.ones(3, requires_grad=True)
    (gradient,) = torch.autograd.grad((one * one).sum(), one)
    works = bool((gradient == 2).all())
    good &= works
    print(f"arithmetic  {'works' if works else 'WRONG: a gradient came out wrong; install torch again'}")
    folder = os.environ.get("ANCESTRAL_DATA")
    if folder and not Path(folder).is_dir():
        good = False
        print(f"data        ANCESTRAL_DATA names {folder}, which is no folder: create it, or unset the variable")
    else:
        words_ = f"is {folder}" if folder else "is not set: sets are downloaded when asked for"
        print(f"data        ANCESTRAL_DATA {words_}")
    for named in named_sets():
        place = "comes with scikit-learn" if named.name == "digits" else folder_of(named.name)
        print(f"  {named.name:16} {place or 'not here yet: downloaded at first use'}")
    for extra, module in (("parquet", "pyarrow"), ("tensorboard", "tensorboard")):
        words_ = "installed" if find_spec(module) else f'not installed; pip install "ancestral[{extra}]"'
        print(f"extra       {extra}: {words_}")
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    writable = os.access(Path.cwd(), os.W_OK)
    good &= writable
    words_ = "can be written" if writable else "can NOT be written: change to another"
    print(f"disk        {free:.1f} GiB free; this folder {words_}")
    print("all is well. To begin:  ancestral train vae digits --out runs/first" if good else "mend what is said above.")
    return 0 if good else 1


def threads() -> str:
    """What runs do about threads, and whether the cores are shared right now."""
    from ancestral.networks.processor import cores

    words = "a run trains with one, unless --threads says otherwise"
    load, all_cores = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, os.cpu_count() or 1
    if load > all_cores / 2:
        return (
            f"{words}; the load of the machine is {load:.1f} on {all_cores} cores, and threads that wait for each "
            "other on shared cores can be ten times slower: stay with one"
        )
    if cores() > 1:
        return f"{words}; the cores are free now, so --threads {cores()} may pay for wide networks and large batches"
    return words

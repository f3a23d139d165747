"""Data: named sets, the user's own files, batches.

The exports are lazy: listing the named sets imports neither numpy nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ancestral.configs.data import DataConfig, DataDescription
    from ancestral.data.catalogue import NamedSet, named_sets
    from ancestral.data.dataset import Dataset, Split
    from ancestral.data.loading import load

__all__ = ["DataConfig", "DataDescription", "Dataset", "NamedSet", "Split", "load", "named_sets"]

_HOMES = {
    "DataConfig": "ancestral.configs.data",
    "DataDescription": "ancestral.configs.data",
    "Dataset": "ancestral.data.dataset",
    "NamedSet": "ancestral.data.catalogue",
    "Split": "ancestral.data.dataset",
    "load": "ancestral.data.loading",
    "named_sets": "ancestral.data.catalogue",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__

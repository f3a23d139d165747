"""The core: traces and joint distributions. Pure: no files, no globals, nothing patched."""

from ancestral.core.joint import Joint
from ancestral.core.trace import (
    AncestralSampling,
    Cost,
    Estimator,
    Estimators,
    Reduction,
    Site,
    Trace,
    check_event,
    check_known,
    run,
)

__all__ = [
    "AncestralSampling",
    "Cost",
    "Estimator",
    "Estimators",
    "Joint",
    "Reduction",
    "Site",
    "Trace",
    "check_event",
    "check_known",
    "run",
]

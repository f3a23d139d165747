"""The core: traces and joint distributions. Pure: no files, no globals, nothing patched."""

from ancestral.core.joint import Joint
from ancestral.core.trace import AncestralSampling, Estimator, Estimators, Site, Trace, check_event, run

__all__ = ["AncestralSampling", "Estimator", "Estimators", "Joint", "Site", "Trace", "check_event", "run"]

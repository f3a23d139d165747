"""Pages: the report of one run, several side by side, and gradient estimators."""

from ancestral.report.compare import write_comparison
from ancestral.report.estimators import write_estimators
from ancestral.report.report import write_report

__all__ = ["write_comparison", "write_estimators", "write_report"]

"""Pages about runs: the report of one, and several side by side."""

from ancestral.report.compare import write_comparison
from ancestral.report.report import write_report

__all__ = ["write_comparison", "write_report"]

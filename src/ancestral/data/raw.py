"""What a reader of files hands over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ancestral.data.dataset import Rows


@dataclass(frozen=True)
class Raw:
    """Rows as they were read, before they are split and prepared."""

    train: Rows
    validation: Rows | None = None
    """The official validation split, if there is one."""
    test: Rows | None = None
    """The official test split, if there is one."""
    levels: int = 256
    """Grey levels of the decoded rows; 2 for bits, 0 for real values."""
    usual_binarization: Literal["none", "dynamic"] = "none"
    video: bool = False
    """Whether adjoining rows are near copies, so that they are split in blocks."""
    standardize: bool = False
    """Whether columns are shifted and scaled by the mean and standard deviation of the training rows."""
    columns: tuple[str, ...] = ()
    note: str = ""

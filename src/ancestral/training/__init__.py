"""Training: the loop, optimisation, checkpoints, pictures, progress, trackers."""

from ancestral.training.folder import RunFolder
from ancestral.training.loop import Progress, Training

__all__ = ["Progress", "RunFolder", "Training"]

"""What a run folder tells of a run. It is untrusted: sizes are bounded, and nothing is believed to be well-formed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ancestral.errors import AncestralError
from ancestral.evaluation import Figure
from ancestral.report.charts import Points, finite, scalars_of
from ancestral.report.words import ENGLISH, Text, say
from ancestral.training import RunFolder

BARS = 64
"""Units, and columns of a table, shown one by one."""
FILE_BYTES, METRICS_BYTES, METRICS_ROWS = 2**22, 2**26, 200_000
"""Largest JSON file and largest metrics that are read."""


@dataclass(frozen=True)
class Story:
    """What a run's files tell of how its training went."""

    folder: RunFolder
    config: dict[str, Any]
    environment: dict[str, Any]
    scalars: dict[str, Points]
    findings: list[dict[str, Any]]
    step: int
    seconds: float
    finished: str

    @property
    def epoch(self) -> float:
        """Passes over the training data."""
        return max((points[-1][0] for points in self.scalars.values()), default=0.0)

    @property
    def planned(self) -> float:
        """Epochs asked for."""
        return finite(self.config["training"].get("epochs")) or 0.0

    @property
    def validation(self) -> Points:
        """The validation loss over epochs."""
        return self.scalars.get("validation loss", [])

    @property
    def best(self) -> tuple[float, float] | None:
        """Epoch and value of the best validation."""
        return min(self.validation, key=lambda point: point[1], default=None)

    @property
    def stopped_early(self) -> bool:
        return self.finished.startswith("stopped early")

    @property
    def ending(self) -> str:
        """``none``, ``not``, ``early`` or ``all``."""
        if not self.step:
            return "none"
        return ("early" if self.stopped_early else "all") if self.finished else "not"

    @property
    def name(self) -> str:
        """The data's name, for people."""
        return shortened(str(self.noted("name") or Path(self.config["data"]).name), 80)

    def noted(self, key: str) -> Any:
        """What environment.json says of the data."""
        data = self.environment.get("data")
        return data.get(key) if isinstance(data, dict) else None

    def split(self, name: str, key: str) -> Any:
        """Rows or digest of a split, as environment.json has them."""
        noted = self.noted(name)
        return noted.get(key) if isinstance(noted, dict) else None

    @property
    def model(self) -> Text:
        name = self.config["model"]
        return say(f"model_{name}") if f"model_{name}" in ENGLISH else Text(name, name)

    @property
    def title(self) -> Text:
        title = say("title", model=self.model, data=self.name)
        return Text(title.en[:1].upper() + title.en[1:], title.ja)

    def setting(self, name: str) -> Any:
        return self.config["settings"].get(name)


def read_story(folder: RunFolder, config: dict[str, Any]) -> Story:
    """Read what is told of a run's training."""
    state = read_json(folder.checkpoint("last") / "state.json")
    state = state if isinstance(state, dict) else {}
    findings = read_json(folder.path / "health.json")
    entries = [entry for entry in findings if isinstance(entry, dict)] if isinstance(findings, list) else []
    finished = state.get("finished")
    return Story(
        folder=folder,
        config=config,
        environment=folder.environment(),
        scalars=read_metrics(folder),
        findings=entries[:BARS],
        step=int(finite(state.get("step")) or 0),
        seconds=finite(state.get("seconds")) or 0.0,
        finished=shortened(finished, 300) if isinstance(finished, str) else "",
    )


def read_json(path: Path) -> Any:
    """A JSON file of the run folder; None if it is absent.

    Raises:
        AncestralError: it is damaged, or too large to be what it should be.
    """
    try:
        if path.stat().st_size > FILE_BYTES:
            raise AncestralError(f"{path} is larger than {FILE_BYTES:,} bytes: it is not what it should be. Remove it.")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise AncestralError(f"can't read {path}: {error}. Restore it from a copy, or remove it.") from None


def read_metrics(folder: RunFolder) -> dict[str, Points]:
    """The named scalars of metrics.jsonl over epochs.

    Raises:
        AncestralError: the file is too large to be what training writes.
    """
    if folder.metrics_file.exists() and folder.metrics_file.stat().st_size > METRICS_BYTES:
        raise AncestralError(f"{folder.metrics_file} is larger than {METRICS_BYTES:,} bytes: shorten it.")
    return scalars_of(islice(folder.metrics(), METRICS_ROWS))


def read_figures(folder: RunFolder) -> tuple[list[Figure], str, str]:
    """The figures of evaluation.json, which weights they are of and the digest of those; none if it is absent.

    Raises:
        AncestralError: it is not as ``evaluate`` writes it.
    """
    path = folder.path / "evaluation.json"
    record = read_json(path)
    if record is None:
        return [], "", ""
    try:
        figures = [_figure(entry) for entry in record["figures"][:BARS]]
        return figures, str(record["weights"])[:20], str(record.get("weights_digest", ""))[:64]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise AncestralError(f"{path} is not as it was written. Make it anew, with `ancestral evaluate`.") from None


def digests_of(folder: RunFolder, which: str) -> list[str]:
    """The digests of the files of a checkpoint, ``best`` or ``last``, or of the one before where it is missing."""
    if which not in ("best", "last"):
        return []
    for place in (folder.checkpoint(which), folder.checkpoint(f"{which}.old")):
        state = read_json(place / "state.json")
        if state is not None:
            digests = state.get("digests") if isinstance(state, dict) else None
            return [str(digest) for digest in digests.values()] if isinstance(digests, dict) else []
    return []


def _figure(entry: Mapping[str, Any]) -> Figure:
    """A figure from JSON; ValueError, KeyError or TypeError if it is none."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(Figure):
        value = entry.get(field.name) if field.default is None else entry[field.name]
        if value is None and field.default is not None:
            raise ValueError(field.name)
        if field.type == "str":
            value = shortened(str(value), 300)
        elif value is not None:
            number = finite(value)
            if number is None:
                raise ValueError(field.name)
            value = int(number) if field.type == "int" else number
        values[field.name] = value
    return Figure(**values)


def command_of(story: Story) -> tuple[list[str], bool]:
    """The words of the command that began the run, and whether it was ours rather than a program of the user's own."""
    command = story.environment.get("command")
    words = [shortened(str(word), 300) for word in command[:200]] if isinstance(command, list) else []
    if not words:
        return [], True
    started = Path(words[0])
    ours = started.name in ("ancestral", "ancestral.exe") or started.parts[-2:] == ("ancestral", "__main__.py")
    return (["ancestral", *words[1:]] if ours else ["python", *words]), ours


def shortened(text: str, length: int) -> str:
    """A text, cut off if it is too long."""
    return text if len(text) <= length else text[: length - 1] + "…"


def plain(value: Any) -> str:
    """A setting as it would be typed."""
    if isinstance(value, list | tuple):
        return " ".join(plain(part) for part in value[:BARS])
    return shortened(f"{value:g}" if isinstance(value, float) else str(value), 200)

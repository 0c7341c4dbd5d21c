"""docs/telemetry.md as data: the names that its tables and its span tree promise."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "telemetry.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentedMetric:
    """A row of the table of metrics."""

    name: str
    kind: str
    unit: str
    attributes: frozenset[str]
    bounds: tuple[float, ...]

    @property
    def exposed(self) -> tuple[str, ...]:
        """Sample names in the Prometheus exposition."""
        stem = self.name.replace(".", "_") + ("_seconds" if self.unit == "s" else "")
        if self.kind == "Histogram":
            return (f"{stem}_bucket", f"{stem}_sum", f"{stem}_count")
        return (f"{stem}_total",) if self.kind == "Counter" else (stem,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Documented:
    """All names of the page."""

    attributes: frozenset[str]
    metrics: Mapping[str, DocumentedMetric]
    #: Everything in backticks or in the span tree, for "is it mentioned at all".
    names: frozenset[str]


def documented() -> Documented:
    """Read the page."""
    text = DOCUMENT.read_text(encoding="utf-8")
    attributes = [name for row in _rows(text, "Attributes") for name in _codes(row[0])]
    metrics = [_metric(row) for row in _rows(text, "Metrics")]
    tree = re.search(r"^## Spans\n+```\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    assert tree is not None, "docs/telemetry.md: no span tree"
    return Documented(
        attributes=frozenset(attributes),
        metrics={metric.name: metric for metric in metrics},
        names=frozenset(_codes(text)) | frozenset(re.findall(r"[\w.]+", tree.group(1))),
    )


def _rows(text: str, section: str) -> Iterator[list[str]]:
    body = text.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    for line in body.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def _codes(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def _metric(row: list[str]) -> DocumentedMetric:
    name, instrument, attributes, buckets = row[:4]
    return DocumentedMetric(
        name=_codes(name)[0],
        kind=instrument.split()[0],
        unit=_codes(instrument)[0],
        attributes=frozenset(_codes(attributes)),
        bounds=tuple(float(number) for number in buckets.split()) if buckets != "none" else (),
    )

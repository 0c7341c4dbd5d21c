"""What a command says: data on stdout, everything else on stderr, JSON when asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO


@dataclass(frozen=True, slots=True)
class Output:
    """Where a command writes. Tests pass their own streams."""

    as_json: bool = False
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)

    @property
    def is_private(self) -> bool:
        """Whether data goes to a terminal and nowhere else: only there may a secret be shown."""
        return self.stdout.isatty()

    def result(self, value: Any, text: str) -> None:
        """The command's data: `value` for `--json`, `text` for people and shells."""
        self.line(json.dumps(value, ensure_ascii=False, default=str) if self.as_json else text)

    def line(self, text: str) -> None:
        """One line of data, at once."""
        print(text, file=self.stdout, flush=True)

    def piece(self, text: str) -> None:
        """Data without a line end, at once."""
        print(text, end="", file=self.stdout, flush=True)

    def note(self, text: str) -> None:
        """Something to read that is not data."""
        print(text, file=self.stderr, flush=True)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns of equal width; the first line names them, so that `awk` and eyes both find their way."""
    lines = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )

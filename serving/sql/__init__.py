"""The SQL of the model rail: named queries and migrations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load_queries(path: Path) -> dict[str, LiteralString]:
    """Statements by the name that stands above each in a `-- name:` line."""
    parts = _NAME.split(path.read_text(encoding="utf-8"))[1:]
    # Packaged text counts as literal: nothing a user wrote is in it.
    return {
        name: cast("LiteralString", body.strip()) for name, body in zip(parts[::2], parts[1::2], strict=True)
    }


QUERIES = load_queries(Path(__file__).parent / "queries.sql")

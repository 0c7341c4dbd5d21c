"""The gateway's SQL: `queries.sql` holds statements by name, `migrations/` the schema's steps.

A statement starts at a line `-- name: <name>` and ends at the next one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (\w+)[^\n]*\n", re.MULTILINE)


def load_queries(file: str = "queries.sql") -> Mapping[str, LiteralString]:
    """Every named statement of the file. Our own file, hence literal for the type checker."""
    parts = _NAME.split(files(__package__).joinpath(file).read_text("utf-8"))
    return MappingProxyType(
        {
            name: cast("LiteralString", body.strip())
            for name, body in zip(parts[1::2], parts[2::2], strict=True)
        }
    )


queries = load_queries()

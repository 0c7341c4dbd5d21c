"""SQL of this package: numbered migrations and files of named queries, and the reader of the latter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import LiteralString

_NAME = re.compile(r"^-- name: (\w+)[ \t]*$", re.MULTILINE)


def named_queries(package: str, file: str) -> Mapping[str, LiteralString]:
    """Read the statements that follow each `-- name: x` line of a packaged SQL file.

    A packaged file is as much a constant as a string in the source, hence the literal type.
    """
    parts = _NAME.split(files(package).joinpath(file).read_text(encoding="utf-8"))
    names, bodies = parts[1::2], [body.strip() for body in parts[2::2]]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ValueError(f"{package}/{file}: query names given twice: {sorted(repeated)}")
    return MappingProxyType(dict(zip(names, bodies, strict=True)))

"""Files of one JSON object a line; a complaint names the file, the line, the field and the fix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from eval.errors import CaseFileError

_Row = TypeVar("_Row", bound=BaseModel)


def read_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, numbered from 1."""
    try:
        content = file.read_bytes()
    except OSError as exc:
        raise CaseFileError(file=file, what=exc.strerror or "cannot be read", fix="check the path") from exc
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            yield number, line


def parse_line(model: type[_Row], file: Path, number: int, line: bytes, *, format_page: str) -> _Row:
    """One line as a row; `format_page` is where the format is described."""
    try:
        return model.model_validate_json(line)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        what = first["msg"].removeprefix("Value error, ")
        # Our own validators say the fix themselves, after a semicolon.
        what, _, fix = what.partition("; ") if first["type"] == "value_error" else (what.lower(), "", "")
        if not fix:
            fix = "write one JSON object a line" if first["type"] == "json_invalid" else f"see {format_page}"
        field = ".".join(str(part) for part in first["loc"])
        raise CaseFileError(file=file, line=number, field=field, what=what, fix=fix) from exc


class Places:
    """Where each id stood first, so that a duplicate names both places."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}

    def add(self, file: Path, number: int, row_id: str) -> None:
        """Keep the place of an id that is not there yet."""
        if row_id in self._places:
            raise CaseFileError(
                file=file,
                line=number,
                field="id",
                what=f"{row_id!r} stands already at {self._places[row_id]}",
                fix="give each question an id of its own",
            )
        self._places[row_id] = f"{file}:{number}"

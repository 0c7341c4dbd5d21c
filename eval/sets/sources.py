"""Questions out of a file or folder, in whatever format they stand there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eval.sets.freezing import check_frozen
from eval.sets.questions import read_questions, set_file
from eval.sets.rows import Rows, read_rows


def read_source(path: Path, columns: Mapping[str, str]) -> Rows:
    """A question set, a folder of questions, a public set, or a table or JSONL file with columns of its own.

    A frozen set that was changed is refused.
    """
    if (file := set_file(path)) is not None:
        check_frozen(file.parent)
        return Rows(questions=read_questions(file), blank=0, ignored=())
    if path.is_dir() or path.name == "queries.jsonl":
        # SciPy takes a second to load: who reads a table should not wait for it.
        from eval.sets.importing import questions_of_cases

        return Rows(questions=tuple(questions_of_cases(path)), blank=0, ignored=())
    return read_rows(path, columns)


def notes_of(rows: Rows) -> list[str]:
    """What was left out, in words."""
    notes = []
    if rows.ignored:
        notes.append(f"columns that mean nothing here: {', '.join(rows.ignored)}")
    if rows.blank:
        notes.append(f"{rows.blank} rows without a question left out")
    return notes

"""Rows for a dataset from all that may hold them: exports of reviewed turns, an operator's own files,
corrections.

`twinrail eval export` writes examples, which hold more than a row (what the model wrote, who read it) and
sometimes less (nobody has said what it should have written). What cannot become a row is given back with the
reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from serving.errors import ExampleError
from serving.examples import Row, parse_row, read_objects
from serving.tuning.dataset_folder import Rejected
from serving.versions import canonical_json

#: What `twinrail eval export` calls its examples.
EXPORTED = "training.jsonl"
#: Reasons for which a row is left out while it is read.
NO_ANSWER, FIELDS_MISSING, UNSUPPORTED, OTHER_TASK = (
    "no answer",
    "fields missing",
    "unsupported",
    "other task",
)


@dataclass(slots=True, kw_only=True)
class Read:
    """All rows, by id, and what became of the rest."""

    rows: list[Row] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    #: Lines of each file, by its name.
    sources: Counter[str] = field(default_factory=Counter)
    #: Rows by task, whether or not it is this dataset's.
    tasks: Counter[str] = field(default_factory=Counter)
    corrected: int = 0


def read_inputs(
    inputs: Sequence[Path], schema: Mapping[str, Any], *, corrections: Sequence[Path] = ()
) -> Read:
    """Every row of the files, in an order that does not hang on theirs.

    A folder is that of an export. Rows of another task are set aside: a model has one schema.
    """
    read, task = Read(), str(schema.get("title") or "")
    mended = read_corrections(corrections)
    # Exports of overlapping weeks hold the same row twice: it is corrected in each.
    unused = set(mended)
    places: dict[str, str] = {}
    for path in map(_file, inputs):
        for where, raw in read_objects(path):
            read.sources[path.name] += 1
            if isinstance(raw, dict) and (wanted := mended.get(str(raw.get("id")))):
                raw = _corrected(raw, wanted)
                unused.discard(str(raw["id"]))
                read.corrected += 1
            made = _row(raw, where, path.name, schema)
            if isinstance(made, Rejected):
                read.rejected.append(made)
                continue
            read.tasks[made.task or task] += 1
            if made.task and made.task != task:
                what = f"is of the task {made.task!r}, and this dataset is of {task!r}"
                read.rejected.append(_rejected(OTHER_TASK, what, made.source, raw))
                continue
            places.setdefault(made.id, where)
            read.rows.append(made)
    if unused:
        raise ExampleError(
            f"corrections: no row has the id {min(unused)!r}; correct the id, or give its file"
        )
    read.rows.sort(key=lambda row: (row.id, canonical_json(dict(row.wanted)), row.question))
    _require_ids_apart(read.rows, places)
    return read


def read_corrections(paths: Iterable[Path]) -> dict[str, Mapping[str, Any]]:
    """Corrected answers by the id of their row, `{"id": ..., "wanted": {...}}`; fields not named stay."""
    mended: dict[str, Mapping[str, Any]] = {}
    for path in paths:
        for where, raw in read_objects(path):
            if not isinstance(raw, dict) or not isinstance(raw.get("id"), str):
                raise ExampleError(f"{where}: id: must name the row that is corrected")
            wanted = raw.get("wanted")
            if not isinstance(wanted, dict) or not wanted:
                raise ExampleError(f"{where}: wanted: must hold the corrected fields")
            if raw["id"] in mended:
                raise ExampleError(f"{where}: id {raw['id']!r} is corrected twice; keep one of them")
            mended[raw["id"]] = wanted
    return mended


def _file(path: Path) -> Path:
    return path / EXPORTED if path.is_dir() else path


def _row(raw: Any, where: str, name: str, schema: Mapping[str, Any]) -> Row | Rejected:
    if _is_exported(raw):
        return _of_export(raw, where, name, schema)
    row = parse_row(raw, where, schema)
    _require_time(row.at, where)
    return replace(row, source=row.source or name)


def _of_export(raw: Mapping[str, Any], where: str, name: str, schema: Mapping[str, Any]) -> Row | Rejected:
    code = ".".join(filter(None, (str(raw.get("label") or ""), str(raw.get("sub") or ""))))
    source = f"turn:{(raw.get('provenance') or {}).get('turn_id') or where}"
    if raw["answer"] is None:
        what = "nobody has said what it should have answered; correct the answer in its review"
        return _rejected(NO_ANSWER, what, source, raw)
    if missing := raw.get("missing_fields"):
        what = f"nobody has said {', '.join(map(str, missing))}; add them with --corrections"
        return _rejected(FIELDS_MISSING, what, source, raw)
    if unsupported := raw.get("unsupported"):
        what = f"no passage supports: {unsupported[0]}"
        return _rejected(UNSUPPORTED, what, source, raw)
    row = parse_row(
        {
            "id": raw.get("id"),
            "question": raw.get("question"),
            "passages": raw.get("passages"),
            "wanted": raw["answer"],
            "history": raw.get("history"),
            "task": raw.get("task"),
            "group": raw.get("conversation_id"),
            "customer": raw.get("customer"),
            "cluster": raw.get("cluster"),
            "at": raw.get("created_at"),
            "label": code,
        },
        where,
        schema,
    )
    _require_time(row.at, where)
    return replace(row, source=source)


def _corrected(raw: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What was wrong with the answer is not known of the corrected one: it is checked like any other."""
    name = "answer" if _is_exported(raw) else "wanted"
    known = raw.get(name)
    merged = {**(known if isinstance(known, dict) else {}), **wanted}
    return {**raw, name: merged, "missing_fields": [], "unsupported": []}


def _is_exported(raw: Any) -> bool:
    return isinstance(raw, dict) and "provenance" in raw and "answer" in raw


def _rejected(reason: str, detail: str, source: str, raw: Mapping[str, Any]) -> Rejected:
    return Rejected(reason=reason, detail=detail, source=source, row=dict(raw))


def _require_time(at: str, where: str) -> None:
    if at:
        moment_of(at, where)


def moment_of(at: str, where: str = "at") -> datetime:
    """An ISO day or time; one without an offset is UTC's."""
    try:
        moment = datetime.fromisoformat(at)
    except ValueError as exc:
        raise ExampleError(f"{where}: at: {at!r} is no ISO day or time, such as 2026-03-01") from exc
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _require_ids_apart(rows: Sequence[Row], places: Mapping[str, str]) -> None:
    """The same id may stand for the same row in two files, never for two rows."""
    for one, other in pairwise(rows):
        if one.id == other.id and (one.question, one.wanted, one.passages) != (
            other.question,
            other.wanted,
            other.passages,
        ):
            raise ExampleError(
                f"{places[one.id]}: id {one.id!r} stands for two different rows "
                f"({one.question[:60]!r} and {other.question[:60]!r}); give one of them another"
            )

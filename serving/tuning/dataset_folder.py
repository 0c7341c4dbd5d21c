"""A dataset as a folder: three splits, what was left out, the report, and a fingerprint over all of it.

`train.jsonl`, `valid.jsonl` and `test.jsonl` hold rows (`serving.examples`), `rejected.jsonl` what was left
out with the reason, `report.json` and `report.md` say what is in it, `dataset.json` names it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from serving.errors import ExampleError
from serving.examples import Row, dataset_digest, parse_row, read_objects, row_json
from serving.versions import sha256_of

SPLITS = ("train", "valid", "test")
REJECTED, MANIFEST = "rejected.jsonl", "dataset.json"
REPORT_JSON, REPORT_MD = "report.json", "report.md"
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What `dataset.json` says."""

    name: str
    task: str
    #: Of what is trained and measured, in any order of rows and files.
    sha256: str
    #: Digest of the task schema that the rows were checked against.
    schema_sha256: str
    rows: Mapping[str, int]
    rejected: int
    #: Rows read from each file, by the file's name.
    sources: Mapping[str, int]
    seed: int
    #: Failures that it is meant to mend.
    mends: tuple[str, ...]
    #: Every setting that the rows depend on.
    settings: Mapping[str, Any]
    #: Question sets that no row repeats, by name, with the digest of the questions looked at.
    held_out: Mapping[str, str]
    format: int = FORMAT

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The manifest of a folder; ExampleError if it is none."""
        file = folder / MANIFEST
        try:
            raw = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as exc:
            raise ExampleError(
                f"{folder}: no dataset ({MANIFEST} is missing); make one with `twinrail tune dataset`"
            ) from exc
        except (json.JSONDecodeError, UnicodeDecodeError) as exc:
            raise ExampleError(f"{file}: not JSON ({exc}); make the dataset again") from exc
        known = {field.name for field in fields(cls)}
        if not isinstance(raw, dict) or set(raw) != known or raw["format"] != FORMAT:
            raise ExampleError(f"{file}: not a manifest of format {FORMAT}; make the dataset again")
        return cls(**{**raw, "mends": tuple(raw["mends"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The rows of a folder, checked against its fingerprint."""

    manifest: Manifest
    train: tuple[Row, ...]
    valid: tuple[Row, ...]
    test: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A row that was left out. `row` is as much of it as could be read."""

    reason: str
    #: What is wrong with this one, in words.
    detail: str
    source: str
    row: Mapping[str, Any]


def fingerprint(splits: Mapping[str, Sequence[Row]]) -> str:
    """sha256 over the splits' rows, in any order of rows."""
    return sha256_of({name: dataset_digest(splits[name]) for name in SPLITS})


def read_dataset(folder: Path, schema: Mapping[str, Any]) -> Dataset:
    """Read a folder; refuse one that was changed after it was made, or made for another task."""
    manifest = Manifest.read(folder)
    if manifest.schema_sha256 != sha256_of(schema):
        raise ExampleError(
            f"{folder}: made for the task {manifest.task!r} with another schema than this one; "
            "give that schema, or make the dataset again"
        )
    splits = {name: _read_split(folder / f"{name}.jsonl", schema) for name in SPLITS}
    if (found := fingerprint(splits)) != manifest.sha256:
        raise ExampleError(
            f"{folder}: its rows were changed after it was made (sha256 {manifest.sha256[:12]} then, "
            f"{found[:12]} now); restore them, or make it again"
        )
    return Dataset(manifest=manifest, **{name: tuple(rows) for name, rows in splits.items()})


def _read_split(path: Path, schema: Mapping[str, Any]) -> list[Row]:
    return [parse_row(raw, where, schema) for where, raw in read_objects(path)]


def require_replaceable(folder: Path) -> None:
    """Refuse to replace what is no dataset."""
    if (
        folder.exists()
        and not (folder / MANIFEST).is_file()
        and (not folder.is_dir() or any(folder.iterdir()))
    ):
        raise ExampleError(f"{folder}: is there and no dataset; name a new folder")


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A folder to write into that takes the place of `folder` once everything is written, and else goes."""
    folder = folder.resolve()
    require_replaceable(folder)
    draft, old = (folder.with_name(f".{folder.name}.{word}") for word in ("new", "old"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    _put_back(old, folder)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
        if folder.exists():
            folder.replace(old)
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        _put_back(old, folder)


def _put_back(old: Path, folder: Path) -> None:
    """What was there before, if nothing took its place: a run may be killed between the two renames."""
    if old.is_dir() and not folder.exists():
        old.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def write_dataset(
    folder: Path,
    splits: Mapping[str, Sequence[Row]],
    rejected: Sequence[Rejected],
    manifest: Manifest,
    report: Mapping[str, Any],
    report_md: str,
) -> None:
    """Write a folder whole or not at all; an earlier dataset of that name is replaced."""
    with replacing(folder) as draft:
        for name in SPLITS:
            _write_lines(draft / f"{name}.jsonl", map(row_json, sorted(splits[name], key=lambda row: row.id)))
        _write_lines(draft / REJECTED, map(asdict, rejected))
        (draft / REPORT_JSON).write_text(_json(report, indent=2) + "\n", encoding="utf-8")
        (draft / REPORT_MD).write_text(report_md, encoding="utf-8")
        # Last: a folder without it is no dataset.
        (draft / MANIFEST).write_text(_json(asdict(manifest), indent=2) + "\n", encoding="utf-8")


def _write_lines(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(_json(row) + "\n" for row in rows)


def _json(value: Any, *, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)

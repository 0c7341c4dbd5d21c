"""Day 1: real questions, cleaned of personal data, in clusters, tagged by task type, frozen.

The set's folder is named after what is in it: a day that is begun again finds the same set, changes nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from eval.cases import case_of, select_cases
from eval.errors import CaseFileError
from eval.pilot.guide import DayResult
from eval.pilot.reports import DayReport
from eval.report import Table
from eval.sets.checking import Library, check_documents
from eval.sets.freezing import NONE, freeze
from eval.sets.questions import Question, canonical_bytes, write_questions
from eval.sets.rows import Rows
from eval.sets.sources import notes_of, read_source

if TYPE_CHECKING:
    from eval.sets.importing import Imported

#: The plan asks for so many; more show smaller differences.
ASKED_QUESTIONS = (30, 50)
_SHOWN = 10
_USUAL_SPLIT = "dev"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the questions of a pilot come from, and how they are narrowed."""

    path: Path
    splits: Sequence[str]
    limit: int | None
    #: Field -> column of a table, where they are called differently.
    columns: Mapping[str, str]
    redact: bool
    seed: int


async def collect_questions(
    source: Source, folder: Path, library: Library, *, concurrency: int, fewest: int, today: date
) -> DayResult:
    """The frozen set in the pilot's folder, and what was done to get it."""
    # SciPy takes a second to load: no other command should wait for it.
    from eval.sets.importing import add_questions
    from eval.sets.splitting import require_no_leak, split_questions
    from serving.redaction import Redactor

    rows = read_source(source.path, source.columns)
    chosen = narrow(rows.questions, source, today)
    imported = add_questions((), chosen, redactor=Redactor() if source.redact else None)
    doubts = await check_documents(library, imported.questions, concurrency=concurrency)
    # A pilot looks at all of its questions: which of them a later gate may use is decided by `eval split`.
    questions = split_questions(_one_split(imported.questions), shares={"dev": 1.0}, seed=source.seed)
    require_no_leak(source.path, questions)
    name = f"questions-{hashlib.sha256(canonical_bytes(questions)).hexdigest()[:8]}"
    if not (folder / name / "manifest.json").exists():
        write_questions(folder / name, questions)
    manifest = freeze(folder / name)
    return DayResult(
        outputs={
            "set": name,
            "sha256": manifest.sha256,
            "as_of": today.isoformat(),
            "questions": len(questions),
        },
        report=_report(
            _Taken(rows=rows, imported=imported, questions=questions),
            source,
            name,
            [doubt.sentence() for doubt in doubts],
            fewest,
        ),
    )


def narrow(questions: Sequence[Question], source: Source, today: date) -> list[Question]:
    """By split and number, spread over clusters as a run's `--limit` does it."""
    splits = source.splits or (
        [_USUAL_SPLIT] if any(each.split == _USUAL_SPLIT for each in questions) else []
    )
    if not questions:
        raise CaseFileError(file=source.path, what="holds no question", fix="name another file or folder")
    kept = select_cases(
        [case_of(question, today) for question in questions],
        name=str(source.path),
        splits=[] if "all" in splits else splits,
        limit=source.limit,
        seed=source.seed,
    )
    ids = {case.id for case in kept.cases}
    return [question for question in questions if question.id in ids]


def _one_split(questions: Iterable[Question]) -> list[Question]:
    return [question.model_copy(update={"split": None}) for question in questions]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """What the source held, and what became the set."""

    rows: Rows
    imported: Imported
    questions: Sequence[Question]


def _report(taken: _Taken, source: Source, name: str, doubts: Sequence[str], fewest: int) -> DayReport:
    imported, questions = taken.imported, taken.questions
    types = Counter(question.task_type or NONE for question in questions)
    statuses = Counter(question.status or NONE for question in questions)
    clusters = Counter(question.cluster for question in questions)
    redacted = ", ".join(f"{n} {kind}" for kind, n in imported.redacted.items()) or "nothing"
    least, most = ASKED_QUESTIONS
    notes = notes_of(taken.rows)
    if len(questions) < most:
        notes.append(f"The plan asks for {least} to {most} questions and more; there are {len(questions)}.")
    if untagged := types.get(NONE):
        notes.append(f"{untagged} questions have no task type: write task_type into the source, then --redo.")
    if unknown := statuses.get(NONE):
        notes.append(
            f"{unknown} questions have no status (answerable, unanswerable, must_refuse, must_escalate): "
            "most metrics will not apply to them."
        )
    notes += [f"Check {doubt}." for doubt in doubts[:_SHOWN]]
    notes += [
        f"Nearly the same question twice: {pair.first}, {pair.second}." for pair in imported.near[:_SHOWN]
    ]
    return DayReport(
        sentences=(
            f"{len(questions)} questions in {len(clusters)} clusters and {len(types)} task types are frozen.",
            (
                f"{imported.read} of the {len(taken.rows.questions)} of {source.path} were taken, "
                f"{imported.repeated} repeated."
            ),
            f"Personal data taken out: {redacted if source.redact else 'not looked for'}.",
        ),
        tables=(
            _counted("Questions by task type", "task type", types, len(questions)),
            _counted("Questions by status", "status", statuses, len(questions)),
            _counted("Questions by cluster", "cluster", clusters, len(questions)),
        ),
        notes=tuple(notes),
        thin=(f"{len(questions)} questions; at least {fewest} are needed",)
        if len(questions) < fewest
        else (),
        files=(f"{name}/questions.jsonl", f"{name}/manifest.json"),
    )


def _too_few(questions: int, fewest: int) -> tuple[str, ...]:
    return (f"{questions} questions; at least {fewest} are needed",) if questions < fewest else ()


def _counted(title: str, what: str, counted: Counter[str], total: int) -> Table:
    return Table(
        title=title,
        header=(what, "questions", "share"),
        rows=tuple((name, str(n), f"{n / total:.0%}") for name, n in counted.most_common()),
    )

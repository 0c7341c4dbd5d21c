"""What a tuned version is asked: unseen questions, what policy is about, and everything that was ever fixed.

The three are kept apart by their split. Only the unseen ones are a sample of anything, so only they are in
the statistics; the others are rules that no answer may break.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from eval.cases import Case, CaseSet, load_cases, spread
from eval.errors import CaseFileError, LeakError
from eval.lines import parse_line, read_lines
from serving.examples import Row
from serving.tuning.leaks import find_repeats
from serving.tuning.likeness import asked, plain

#: Splits of the questions that are asked for a rule's sake.
REGRESSION, POLICY = "regression", "policy"
#: Of a set with splits the first of these that it has is asked, if nobody says which.
_UNSEEN: Final = ("gate", "holdout", "test")
#: As the gateway takes them.
_LONGEST_QUESTION: Final = 4_000
_SHOWN: Final = 5


class _AttackRow(BaseModel):
    """A row of an injection set: 1 is an attack."""

    model_config = ConfigDict(extra="ignore", strict=True)

    id: str
    text: str
    label: int
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the questions are, as the command line names them."""

    questions: Sequence[Path]
    splits: Sequence[str] = ()
    limit: int | None = None
    regression: Sequence[Path] = ()
    policy: Sequence[Path] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The questions of an evaluation, and what was left out of them by why."""

    cases: CaseSet
    left_out: Mapping[str, int]


def unseen(cases: Iterable[Case]) -> tuple[Case, ...]:
    """Those that the statistics are about."""
    return tuple(case for case in cases if case.split not in (REGRESSION, POLICY))


def collect(sources: Sources, trained: Sequence[Row], *, seed: int) -> Asked:
    """All questions, each once: one that was fixed is a regression question wherever else it stands.

    One that the candidate was trained on is an error. One that is only close to a row is left out: what it
    measures is neither unseen nor a mistake.
    """
    chosen: dict[str, Case] = {}
    for path in sources.questions:
        _add(chosen, _select(path, sources.splits), path)
    if sources.limit is not None and sources.limit < len(chosen):
        chosen = {case.id: case for case in spread(list(chosen.values()), sources.limit, seed)}
    for split, paths in ((POLICY, sources.policy), (REGRESSION, sources.regression)):
        for path in paths:
            _add(chosen, [replace(case, split=split) for case in _load(path)], path)
    long = [case for case in chosen.values() if len(case.text) > _LONGEST_QUESTION]
    short = [case for case in chosen.values() if case not in long]
    near = _near_trained(short, trained)
    kept = [case for case in short if case.id not in near]
    if not kept:
        raise CaseFileError(
            file=sources.questions[0],
            what="every question is close to one that the candidate was trained on",
            fix="ask others: nothing here is unseen",
        )
    counted = {
        "longer than the gateway takes": len(long),
        "close to a row that it was trained on": len(near),
    }
    return Asked(
        cases=CaseSet.of("; ".join(map(str, sources.questions)), kept),
        left_out={why: count for why, count in counted.items() if count},
    )


def _add(chosen: dict[str, Case], cases: Iterable[Case], path: Path) -> None:
    for case in cases:
        known = chosen.get(case.id)
        if known is not None and known.text != case.text:
            raise CaseFileError(
                file=path,
                field="id",
                what=f"{case.id!r} is another question in {known.split or 'another file'}",
                fix="give each question an id of its own",
            )
        chosen[case.id] = case


def _select(path: Path, splits: Sequence[str]) -> Sequence[Case]:
    cases = load_cases(path)
    known = {case.split for case in cases}
    if unknown := sorted(set(splits) - known - {"all"}):
        raise CaseFileError(
            file=path,
            field="--split",
            what=f"no question has {', '.join(unknown)}",
            fix=f"choose from {', '.join(sorted(known))}, all",
        )
    wanted = splits or [split for split in _UNSEEN if split in known][:1] or sorted(known)
    return cases if "all" in wanted else [case for case in cases if case.split in wanted]


def _load(path: Path) -> Sequence[Case]:
    if path.is_file() and any(b'"label"' in line for _, line in list(read_lines(path))[:1]):
        return [
            Case(
                id=row.id,
                topic=row.kind or row.id,
                split=POLICY,
                text=row.text,
                kind="must_refuse",
                status="abstained",
            )
            for number, line in read_lines(path)
            if (row := parse_line(_AttackRow, path, number, line, format_page="docs/tuning.md")).label == 1
        ]
    return load_cases(path)


# ---- what it was trained on ------------------------------------------------------------------------


def _near_trained(cases: Sequence[Case], trained: Sequence[Row]) -> frozenset[str]:
    """Ids of questions that are close to a trained one; LeakError for one that is the same."""
    rows = {plain(asked(row)): row for row in trained}
    same = [(case, row) for case in cases if (row := rows.get(plain(_asked(case)))) is not None]
    if same:
        shown = ", ".join(f"{case.id} is row {row.id}" for case, row in same[:_SHOWN])
        more = f" and {len(same) - _SHOWN} more" if len(same) > _SHOWN else ""
        raise LeakError(
            f"dataset with test questions in it: {shown}{more}; take these out of the dataset and train "
            "again, or ask other questions"
        )
    # What was fixed once may have been fixed by rows like it: it has to pass all the same.
    sample = {case.id: _asked(case) for case in unseen(cases)}
    return frozenset(case_id for _, case_id, _ in find_repeats(trained, sample))


def _asked(case: Case) -> str:
    """As the rows have it: with what the customer said before."""
    before = [text for role, text in case.history if role == "user"]
    return "\n".join((*before[-1:], case.text))

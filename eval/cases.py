"""Questions with what a right answer must hold, read from files and fingerprinted.

Five formats: question sets (`questions.jsonl` in a folder, see eval/sets/questions.py), the demo's
(`<topic>.jsonl` files in a folder, see deploy/demo/README.md), the public sets' (`queries.jsonl` with
`qrels.tsv` beside it), rows of a tuning dataset (see eval/task_rows.py), and any other JSONL file of
questions with their gold documents, as `twinrail knowledge fit` reads it. Public sets and the last name no
facts, so some metrics do not apply to them.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict

from eval.errors import CaseFileError
from eval.lines import Places, parse_line, read_lines
from eval.matching import broken_pattern
from eval.qrels import group_by_gold, read_qrels
from eval.sets.freezing import check_frozen
from eval.sets.questions import Question, read_questions, set_file
from eval.sets.questions import Status as QuestionStatus
from eval.task_rows import TaskRow, read_task_rows

Status = Literal["answered", "abstained", "escalated"]
#: How a question of each status should end. A refusal is an answer that gives nothing, so it abstains.
_ENDINGS: Mapping[QuestionStatus, Status] = {
    "answerable": "answered",
    "unanswerable": "abstained",
    "must_refuse": "abstained",
    "must_escalate": "escalated",
}
#: Kinds of the demo that must be refused; elsewhere the kind is the question's status.
_REFUSED_KINDS = ("must_refuse", "abusive")
_FORMAT_PAGE = "the format's README"
#: The principal of what customers read.
_EVERYBODY = "public"


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenPassage:
    """A passage that comes with its question."""

    title: str
    text: str
    #: ISO day, "" where none is known.
    effective_from: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question. Empty expectations mean "not known", and metrics that need them do not apply."""

    id: str
    #: Cluster for intervals: questions of one topic are not independent.
    topic: str
    split: str
    text: str
    asker: str = "customer"
    kind: str = ""
    gold: tuple[str, ...] = ()
    #: Everything that the wanted answer tells; each fact is a tuple of accepted spellings.
    facts: tuple[tuple[str, ...], ...] = ()
    #: Those of the facts that the question does not ask for.
    side_facts: tuple[tuple[str, ...], ...] = ()
    stale_values: tuple[str, ...] = ()
    status: str | None = None
    intent: str | None = None
    escalate: bool | None = None
    escalation_reason: str | None = None
    #: Earlier turns, oldest first, as (role, text).
    history: tuple[tuple[str, str], ...] = ()
    #: Whether `facts` is a full list: an empty one then means that no fact is needed.
    facts_known: bool = True
    #: What kind of work the question is, in the team's words.
    task_type: str = ""
    #: The day on which it was first asked, as an ISO date.
    asked_at: str = ""
    #: Fields of the task that are expected beside those above, by name: of a task of its own.
    fields: tuple[tuple[str, Any], ...] = ()
    #: Sentences that the answer must hold word for word, beside the fixed wordings of its ending.
    required: tuple[str, ...] = ()
    #: What is shown to the model instead of retrieval; None: retrieve. Empty: nothing is shown.
    passages: tuple[GivenPassage, ...] | None = None

    @property
    def wanted_fields(self) -> dict[str, Any]:
        """Every field of the task whose right value is known, but for the text and its citations."""
        named = {
            "intent": self.intent,
            "escalate": self.escalate,
            "escalation_reason": self.escalation_reason,
        }
        return {name: value for name, value in named.items() if value is not None} | dict(self.fields)

    @property
    def vital_facts(self) -> tuple[tuple[str, ...], ...]:
        """The facts without which the question is not answered."""
        return tuple(fact for fact in self.facts if fact not in self.side_facts)

    @property
    def question_status(self) -> QuestionStatus | None:
        """What the question is, where `status` is how its answer should end; None: nobody has said."""
        if self.status == "abstained":
            return "must_refuse" if self.kind in _REFUSED_KINDS else "unanswerable"
        return {"answered": "answerable", "escalated": "must_escalate"}.get(self.status or "")  # type: ignore[return-value]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseSet:
    """Questions of one run, in a fixed order, with the digest of everything in them."""

    name: str
    cases: tuple[Case, ...]
    sha256: str

    @classmethod
    def of(cls, name: str, cases: Iterable[Case]) -> Self:
        """The digest covers the questions and expectations, not file names or line order."""
        ordered = tuple(sorted(cases, key=lambda case: case.id))
        digest = hashlib.sha256()
        for case in ordered:
            digest.update(orjson.dumps(_digested(case), option=orjson.OPT_SORT_KEYS))
            digest.update(b"\n")
        return cls(name=name, cases=ordered, sha256=digest.hexdigest())


def _digested(case: Case) -> dict[str, Any]:
    """A field that is not filled in changes no digest: runs from before it was there can still be read."""
    row = asdict(case)
    for later in ("task_type", "asked_at", "side_facts", "fields", "required"):
        if not row[later]:
            del row[later]
    if row["passages"] is None:
        del row["passages"]
    return row


class _DemoRow(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    id: str
    topic: str
    split: Literal["train", "dev", "holdout"]
    text: str
    asker: Literal["customer", "staff"]
    kind: Literal["answerable", "unanswerable", "stale", "internal", "multi_article", "off_topic", "abusive"]
    gold: list[str]
    facts: list[list[str]]
    #: First spellings of the facts that the question does not ask for.
    side_facts: list[str] = []
    stale_values: list[str]
    status: Status
    intent: str
    escalate: bool
    escalation_reason: str
    answer: str
    follow_up: str


class _QueryTurn(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    role: str
    text: str


class _QueryRow(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    id: str
    text: str
    answerable: bool | None = None
    kind: str = ""
    history: list[_QueryTurn] = []


class _LabelledRow(BaseModel):
    """A row of `retrieval.questions`."""

    model_config = ConfigDict(extra="ignore", strict=True)

    text: str
    gold: list[str]
    id: str = ""
    kind: str = ""
    group: str = ""
    topic: str = ""
    history: list[_QueryTurn] = []
    principals: list[str] | None = None


def load_cases(path: Path, *, as_of: date | None = None) -> tuple[Case, ...]:
    """All questions of a folder or file; nothing half-read: the first bad line is an error that names it.

    Of a question set, the facts that hold on `as_of` (today) are expected. A frozen one that has changed is
    refused.
    """
    if (file := set_file(path)) is not None:
        check_frozen(file.parent)
        day = as_of or datetime.now(UTC).date()
        cases = [case_of(question, day) for question in read_questions(file)]
    elif path.is_dir() and (path / "queries.jsonl").is_file():
        cases = _load_queries(path / "queries.jsonl", path / "qrels.tsv")
    elif path.is_dir():
        files = sorted(path.glob("*.jsonl"))
        if not files:
            raise CaseFileError(file=path, what="no .jsonl file in it", fix="name a folder of question files")
        seen = Places()
        cases = [case for file in files for case in _load_demo(file, seen)]
    elif path.name == "queries.jsonl" and path.is_file():
        cases = _load_queries(path, path.with_name("qrels.tsv"))
    elif path.is_file():
        if _holds(path, b'"facts"'):  # only the demo's rows have facts
            cases = list(_load_demo(path, Places()))
        else:
            cases = _load_task_rows(path) if _holds(path, b'"wanted"') else _load_labelled(path)
    else:
        raise CaseFileError(file=path, what="does not exist", fix="name a question file or folder")
    if not cases:
        raise CaseFileError(file=path, what="holds no question", fix="add at least one line")
    return tuple(cases)


def select_cases(
    cases: Sequence[Case],
    *,
    name: str,
    splits: Sequence[str] = (),
    kinds: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
) -> CaseSet:
    """Narrow to splits and kinds; `limit` samples topic by topic, so that a small run still spreads."""
    for option, wanted, known in (
        ("--split", splits, {case.split for case in cases}),
        ("--kind", kinds, {case.kind for case in cases}),
    ):
        unknown = sorted(set(wanted) - known)
        if unknown:
            raise CaseFileError(
                file=Path(name),
                field=option,
                what=f"no question has {', '.join(unknown)}",
                fix=f"choose from {', '.join(sorted(known))}",
            )
    chosen = [
        case for case in cases if (not splits or case.split in splits) and (not kinds or case.kind in kinds)
    ]
    if not chosen:
        raise CaseFileError(file=Path(name), what="no question fits --split and --kind", fix="widen them")
    if limit is not None and limit < len(chosen):
        chosen = spread(chosen, limit, seed)
    return CaseSet.of(name, chosen)


def choose_cases(
    path: Path,
    *,
    splits: Sequence[str] | None,
    kinds: Sequence[str] | None,
    limit: int | None,
    seed: int,
) -> tuple[CaseSet, list[str]]:
    """The cases of a file or folder as a command line asks for them, and the splits that they are of.

    No split is the `dev` one where there is one; `all` is every one.
    """
    loaded = load_cases(path)
    asked = list(splits or (["dev"] if any(case.split == "dev" for case in loaded) else []))
    narrowed = [] if "all" in asked else asked
    return (
        select_cases(loaded, name=str(path), splits=narrowed, kinds=kinds or [], limit=limit, seed=seed),
        asked,
    )


def spread(cases: Sequence[Case], limit: int, seed: int) -> list[Case]:
    """So many of the cases, topic by topic in a drawn order: the first few are of as many topics."""
    by_topic: defaultdict[str, list[Case]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: case.id):
        by_topic[case.topic].append(case)
    draw = random.Random(seed)
    queues = list(by_topic.values())
    draw.shuffle(queues)
    for queue in queues:
        draw.shuffle(queue)
    chosen: list[Case] = []
    while len(chosen) < limit:
        for queue in queues:
            if queue and len(chosen) < limit:
                chosen.append(queue.pop())
    return chosen


def case_of(question: Question, day: date) -> Case:
    """A question of a set as it is judged on a day."""
    holding = [fact for fact in question.facts if fact.holds_on(day)]
    current = tuple(row for fact in holding for row in fact.spellings())
    right = {spelling for row in current for spelling in row}
    over = [
        value for fact in question.facts if fact.over_on(day) for row in fact.spellings() for value in row
    ]
    status = None if question.status is None else _ENDINGS[question.status]
    return Case(
        id=question.id,
        topic=question.cluster or question.id,
        split=question.split or "all",
        text=question.text,
        asker=question.asker,
        kind=question.kind or question.status or "",
        gold=tuple(dict.fromkeys(question.gold)),
        facts=current,
        side_facts=tuple(row for fact in holding if not fact.vital for row in fact.spellings()),
        stale_values=tuple(
            dict.fromkeys((*question.stale_values, *(value for value in over if value not in right)))
        ),
        status=status,
        intent=question.intent,
        escalate=None if status is None else status == "escalated",
        escalation_reason=question.escalation_reason,
        history=tuple((said.role, said.text) for said in question.history),
        # An answerable question without vital facts is one whose facts nobody has written down.
        facts_known=any(fact.vital for fact in holding)
        or question.status in ("unanswerable", "must_refuse", "must_escalate"),
        task_type=question.task_type,
        asked_at=question.asked_at.isoformat() if question.asked_at else "",
    )


def _load_task_rows(file: Path) -> list[Case]:
    """What is shown comes with the question: the row was made for a model, whatever is found today."""
    return [_case_of_row(row, split=file.stem) for row in read_task_rows(file)]


def _case_of_row(row: TaskRow, *, split: str) -> Case:
    facts = row.facts()
    return Case(
        id=row.id,
        topic=row.topic,
        split=split,
        text=row.question,
        kind=row.kind,
        facts=facts,
        stale_values=row.stale_values,
        status=row.status,
        # An answer without a value is one whose facts nobody has written down.
        facts_known=bool(facts) or row.status == "abstained",
        task_type=row.task,
        asked_at=row.at[:10],
        history=tuple((said.role, said.text) for said in row.history),
        fields=tuple(sorted(row.fields.items())),
        required=row.required,
        passages=tuple(
            GivenPassage(title=shown.title, text=shown.text, effective_from=(shown.effective_from or "")[:10])
            for shown in row.passages
        ),
    )


def _load_demo(file: Path, seen: Places) -> Iterator[Case]:
    for number, line in read_lines(file):
        row = parse_line(_DemoRow, file, number, line, format_page=_FORMAT_PAGE)
        seen.add(file, number, row.id)
        for field, empty in (
            ("text", not row.text.strip()),
            ("facts", any(not fact or not all(fact) for fact in row.facts)),
        ):
            if empty:
                raise CaseFileError(file=file, line=number, field=field, what="is empty", fix="fill it in")
        for field, spellings in (("facts", chain(*row.facts)), ("stale_values", row.stale_values)):
            if what := next(filter(None, map(broken_pattern, spellings)), ""):
                raise CaseFileError(file=file, line=number, field=field, what=what, fix="correct it")
        if wrong := _wrong_side_facts(row):
            raise CaseFileError(file=file, line=number, field="side_facts", what=wrong[0], fix=wrong[1])
        if file.stem != row.topic:
            raise CaseFileError(
                file=file,
                line=number,
                field="topic",
                what=f"{row.topic!r} is not the file's name",
                fix=f"write {file.stem!r} or move the line",
            )
        yield Case(
            id=row.id,
            topic=row.topic,
            split=row.split,
            text=row.text,
            asker=row.asker,
            kind=row.kind,
            gold=tuple(row.gold),
            facts=tuple(tuple(fact) for fact in row.facts),
            side_facts=tuple(tuple(fact) for fact in row.facts if fact[0] in row.side_facts),
            stale_values=tuple(row.stale_values),
            status=row.status,
            intent=row.intent,
            escalate=row.escalate,
            escalation_reason=row.escalation_reason,
        )


def _wrong_side_facts(row: _DemoRow) -> tuple[str, str] | None:
    """What is wrong and how to mend it."""
    first = [fact[0] for fact in row.facts]
    unknown = [name for name in row.side_facts if name not in first]
    if unknown:
        return f"{unknown[0]!r} is not the first spelling of a fact", f"choose from {', '.join(first)}"
    if row.facts and set(first) <= set(row.side_facts):
        return "every fact is a side one", "leave out those that the question asks for"
    return None


def _holds(file: Path, field: bytes) -> bool:
    """Whether the first row has a field, by which its format is known."""
    return any(field in line for _, line in islice(read_lines(file), 1))


def _load_labelled(file: Path) -> list[Case]:
    seen = Places()
    rows: dict[str, _LabelledRow] = {}
    for number, line in read_lines(file):
        row = parse_line(_LabelledRow, file, number, line, format_page=_FORMAT_PAGE)
        if not row.text.strip():
            raise CaseFileError(file=file, line=number, field="text", what="is empty", fix="fill it in")
        case_id = row.id or f"{file.stem}-{number}"
        seen.add(file, number, case_id)
        rows[case_id] = row
    # Groups of the file count as one more document that their questions share.
    shared = {
        case_id: (*row.gold, *([f"group:{group}"] if (group := row.group or row.topic) else ()))
        for case_id, row in rows.items()
    }
    topics = group_by_gold(shared)
    return [
        Case(
            id=case_id,
            topic=topics[case_id],
            split="all",
            text=row.text,
            # Whoever may read more than everybody is asked for with the staff's key.
            asker="customer" if row.principals is None or row.principals == [_EVERYBODY] else "staff",
            kind=row.kind,
            gold=tuple(dict.fromkeys(row.gold)),
            status=None if row.gold else "abstained",
            history=tuple((turn.role, turn.text) for turn in row.history),
            facts_known=not row.gold,
        )
        for case_id, row in rows.items()
    ]


def _load_queries(file: Path, qrels: Path) -> list[Case]:
    gold = read_qrels(qrels) if qrels.is_file() else {}
    seen = Places()
    rows: list[_QueryRow] = []
    for number, line in read_lines(file):
        row = parse_line(_QueryRow, file, number, line, format_page=_FORMAT_PAGE)
        seen.add(file, number, row.id)
        if not row.text.strip():
            raise CaseFileError(file=file, line=number, field="text", what="is empty", fix="fill it in")
        rows.append(row)
    topics = group_by_gold({row.id: gold.get(row.id, ()) for row in rows})
    return [
        Case(
            id=row.id,
            topic=topics[row.id],
            split="all",
            text=row.text,
            kind=row.kind,
            gold=gold.get(row.id, ()),
            status=None if row.answerable is None else ("answered" if row.answerable else "abstained"),
            history=tuple((turn.role, turn.text) for turn in row.history),
            facts_known=row.answerable is False,
        )
        for row in rows
    ]

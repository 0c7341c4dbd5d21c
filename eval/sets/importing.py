"""Questions taken into a set: without personal data, each once, in clusters with a name.

What is in the set already keeps its clusters and splits; who imports more does not move what was measured.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from eval.cases import Case, load_cases
from eval.client import Recorded
from eval.errors import CaseFileError
from eval.sets.clustering import cluster
from eval.sets.freezing import require_open
from eval.sets.questions import (
    QUESTIONS,
    SPLITS,
    GoldFact,
    Question,
    Said,
    Split,
    read_questions,
    write_questions,
)
from serving.redaction import Redactor
from serving.similarity import Pair, near_duplicates
from serving.spelling import tokens

#: Documents of a search that say what a question is about; further ones are chance.
TOP_DOCUMENTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class NearPair:
    """Two questions of the set that are nearly the same."""

    first: str
    second: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The set after an import, and what was done to get there."""

    questions: tuple[Question, ...]
    read: int
    added: int
    #: Asked before in the same words.
    repeated: int
    #: What was taken out, by kind.
    redacted: Mapping[str, int]
    near: tuple[NearPair, ...]
    clusters: int


def existing(folder: Path) -> tuple[Question, ...]:
    """The questions of a set that may be added to; none where there is no set yet."""
    if folder.exists() and not folder.is_dir():
        raise CaseFileError(file=folder, what="is a file", fix="name a folder for the set")
    require_open(folder)
    file = folder / QUESTIONS
    return read_questions(file) if file.exists() else ()


def add_questions(
    known: Sequence[Question],
    new: Sequence[Question],
    *,
    redactor: Redactor | None,
    found: Mapping[str, Sequence[str]] | None = None,
) -> Imported:
    """Both together. `found` has the documents that a search finds for a question, by id; without a redactor
    the texts stay as they are."""
    redacted: Counter[str] = Counter()
    clean = new if redactor is None else [_redact(question, redactor, redacted) for question in new]
    seen = {_words(question) for question in known}
    ids = {question.id for question in known}
    fresh: list[Question] = []
    for question in clean:
        words = _words(question)
        if words in seen:
            continue
        if question.id in ids:
            raise CaseFileError(
                file=Path(question.source or question.id),
                field="id",
                what=f"{question.id!r} is another question of the set already",
                fix="give each question an id of its own, or import into a new set",
            )
        seen.add(words)
        ids.add(question.id)
        fresh.append(question)
    every = [*known, *fresh]
    pairs = near_duplicates([question.text for question in every])
    together = _clustered(every, found or {}, pairs)
    return Imported(
        questions=together,
        read=len(new),
        added=len(fresh),
        repeated=len(new) - len(fresh),
        redacted=dict(sorted(redacted.items())),
        near=tuple(
            NearPair(first=together[pair.first].id, second=together[pair.second].id, score=pair.score)
            for pair in pairs
        ),
        clusters=len({question.cluster for question in together}),
    )


def save(folder: Path, imported: Imported) -> Path:
    """Write the set."""
    require_open(folder)
    if not imported.questions:
        raise CaseFileError(file=folder, what="there is no question to keep", fix="import at least one")
    return write_questions(folder, imported.questions)


def questions_of_turns(turns: Iterable[tuple[str, Recorded]]) -> tuple[list[Question], dict[str, list[str]]]:
    """Recorded questions, by who asked, with what was said before them in their conversation; and the
    documents that each turn found."""
    by_conversation: defaultdict[str, list[tuple[str, Recorded]]] = defaultdict(list)
    for asker, turn in turns:
        by_conversation[turn.conversation_id or turn.id].append((asker, turn))
    questions: list[Question] = []
    found: dict[str, list[str]] = {}
    for conversation in by_conversation.values():
        before: list[Said] = []
        for asker, turn in sorted(conversation, key=lambda item: (item[1].asked_at, item[1].id)):
            if not turn.question.strip():
                continue
            # The first half of a UUIDv7 is the time, which questions of a busy hour share.
            question = Question.model_validate(
                {
                    "id": f"turn-{turn.id.replace('-', '')[-12:]}",
                    "text": turn.question,
                    "asked_at": date.fromisoformat(turn.asked_at[:10]) if turn.asked_at else None,
                    "source": f"turn:{turn.id}",
                    "asker": asker,
                    "history": tuple(before),
                }
            )
            questions.append(question)
            found[question.id] = list(turn.documents[:TOP_DOCUMENTS])
            before.append(Said(role="user", text=turn.question))
            if turn.answer.strip():
                before.append(Said(role="assistant", text=turn.answer))
    return questions, found


def questions_of_cases(path: Path) -> list[Question]:
    """The questions of the demo or of a public set."""
    return [_question_of(case) for case in load_cases(path)]


def _question_of(case: Case) -> Question:
    split: Split | None = next((split for split in SPLITS if split == case.split), None)
    return Question.model_validate(
        {
            "id": case.id,
            "text": case.text,
            "source": f"case:{case.id}",
            "asker": case.asker,
            "history": tuple(
                Said.model_validate({"role": role, "text": text}) for role, text in case.history
            ),
            "task_type": case.task_type or case.intent or "",
            # A group that is named after one of its questions is no topic that anybody wrote down.
            "cluster": case.topic if split else "",
            "split": split,
            "status": case.question_status,
            "kind": case.kind,
            "gold": case.gold,
            "facts": tuple(
                GoldFact(values=spellings, vital=spellings not in case.side_facts) for spellings in case.facts
            ),
            "stale_values": case.stale_values,
            "intent": case.intent,
            "escalation_reason": case.escalation_reason,
        }
    )


def _redact(question: Question, redactor: Redactor, counts: Counter[str]) -> Question:
    text = redactor.redact(question.text)
    counts += text.kinds
    history = []
    for said in question.history:
        clean = redactor.redact(said.text)
        counts += clean.kinds
        history.append(said.model_copy(update={"text": clean.text}))
    note = redactor.redact(question.note)
    counts += note.kinds
    return question.model_copy(update={"text": text.text, "history": tuple(history), "note": note.text})


def _words(question: Question) -> tuple[str, ...]:
    """What makes two questions the same: their words, and those before them."""
    before = [word for said in question.history for word in tokens(said.text)]
    return (question.asker, *before, "?", *(tokens(question.text) or (question.text,)))


def _clustered(
    questions: Sequence[Question], found: Mapping[str, Sequence[str]], near: Sequence[Pair]
) -> tuple[Question, ...]:
    """Clusters for those that have none: the one of their neighbours, if these have one."""
    documents = [frozenset(question.gold or found.get(question.id, ())) for question in questions]
    drawn = cluster([question.text for question in questions], documents, near=near)
    named: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, question in zip(drawn, questions, strict=True):
        if question.cluster:
            named[name][question.cluster] += 1
    taken = {question.cluster for question in questions}
    names: dict[str, str] = {}
    for name in dict.fromkeys(drawn):
        if named[name]:
            names[name] = named[name].most_common(1)[0][0]
            continue
        new, number = name, 1
        while new in taken:
            number += 1
            new = f"{name} {number}"
        taken.add(new)
        names[name] = new
    return tuple(
        question if question.cluster else question.model_copy(update={"cluster": names[name]})
        for name, question in zip(drawn, questions, strict=True)
    )

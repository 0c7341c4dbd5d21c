"""Questions with the documents that answer them: labelled ones of a file, or made from a tenant's own texts.

Made ones need no person and no model: headings, and sentences of which every other word is left out. They are
nearer to the texts than customers' words are, so what is fitted on them says so.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from retrieval.connections import borrowed, row_of
from retrieval.documents import Access, is_storable
from retrieval.errors import RequestError
from retrieval.hits import Said
from retrieval.lexing import content_words
from retrieval.sql import named_queries
from retrieval.store import KnowledgeStore

QUERIES = named_queries("retrieval.sql", "fitting.sql")

#: Fewest content words of a made question: with less, many documents answer it.
_LEAST_WORDS: Final = 3
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_SENTENCE_WORDS: Final = range(8, 31)
#: Share of a sentence's words that its question keeps.
_KEPT: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledQuestion:
    """A question, and the documents any of which answers it; without one, nothing in the help centre does."""

    text: str
    gold: frozenset[str]
    #: Questions that win or lose together; those that share a document are joined anyway.
    group: str
    history: tuple[Said, ...] = ()
    #: Who asks, where it is not the asker of the whole file.
    principals: tuple[str, ...] | None = None
    #: `file:line`; empty where it is made.
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceText:
    """A chunk to make questions from."""

    document_id: str
    title: str
    heading_path: tuple[str, ...]
    text: str


def read_questions(path: Path) -> list[LabelledQuestion]:
    """Questions of a JSONL file: `text` and `gold` (document ids, empty: unanswerable), and if known `group`,
    `history` (rows of `role` and `text`) and `principals`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise RequestError(f"questions: {path}: cannot be read ({exc}); give a JSONL file in UTF-8") from exc
    rows = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    return joined([_question(path.name, number, line) for number, line in rows])


def _question(file: str, number: int, line: str) -> LabelledQuestion:
    where = f"questions: {file}:{number}"
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as exc:
        raise RequestError(f"{where}: not JSON ({exc}); give one object a line") from exc
    if not isinstance(row, dict):
        raise RequestError(f"{where}: not an object; give one with `text` and `gold`")
    text, gold = row.get("text"), row.get("gold")
    if not isinstance(text, str) or not text.strip() or not is_storable(text):
        raise RequestError(f"{where}: text: must be a question, as text")
    if gold is None or not _is_texts(gold):
        raise RequestError(f"{where}: gold: must be a list of document ids, empty if nothing answers it")
    principals = row.get("principals")
    if principals is not None and not _is_texts(principals):
        raise RequestError(f"{where}: principals: must be a list of names such as `public`")
    return LabelledQuestion(
        text=text,
        gold=frozenset(gold),
        group=str(row.get("group") or row.get("topic") or f"{file}:{number}"),
        history=_history(where, row.get("history") or []),
        principals=None if principals is None else tuple(principals),
        place=f"{file}:{number}",
    )


def _history(where: str, rows: Any) -> tuple[Said, ...]:
    try:
        said = tuple(Said(role=row["role"], text=row["text"]) for row in rows)
    except (TypeError, KeyError) as exc:
        raise RequestError(f"{where}: history: must be a list of objects with `role` and `text`") from exc
    if any(each.role not in ("user", "assistant") or not isinstance(each.text, str) for each in said):
        raise RequestError(f"{where}: history: `role` is `user` or `assistant`, and `text` a text")
    return said


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def joined(questions: Sequence[LabelledQuestion]) -> list[LabelledQuestion]:
    """The questions with one group for all that share a group or a document, however far.

    Otherwise a fold could be judged on the very document that it was fitted on.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for question in questions:
        for document in sorted(question.gold):
            low, high = sorted((root(f"group {question.group}"), root(f"document {document}")))
            parent[high] = low
    return [replace(each, group=root(f"group {each.group}")) for each in questions]


async def require_readable(
    store: KnowledgeStore, questions: Sequence[LabelledQuestion], access: Access
) -> None:
    """Refuse gold documents that are not there for who asks: the label would say that nothing answers it."""
    golds: dict[tuple[str, ...], set[str]] = {}
    for question in questions:
        golds.setdefault(question.principals or access.principals, set()).update(question.gold)
    async with borrowed(store.pool, timeout_s=store.acquire_timeout_s) as conn, conn.transaction():
        await conn.execute(QUERIES["enter"], {"tenant": access.tenant})
        for principals, documents in golds.items():
            await conn.execute(QUERIES["see_as"], {"principals": list(principals)})
            params = {"tenant": access.tenant, "documents": sorted(documents)}
            (missing,) = await row_of(conn, QUERIES["unreadable"], params)
            for question in questions:
                unread = sorted(question.gold.intersection(missing))
                if unread and (question.principals or access.principals) == principals:
                    raise RequestError(
                        f"questions: {question.place}: gold: tenant {access.tenant!r} has no live document "
                        f"{unread[0]!r} that {', '.join(principals)} may read ({len(missing)} such "
                        "in all); correct the id, or say who asks with --as or `principals` of the line"
                    )


async def generated_questions(
    store: KnowledgeStore, *, tenant: str, version: str, limit: int
) -> list[LabelledQuestion]:
    """Questions made from the tenant's live chunks in an index version: the same ones each time."""
    async with borrowed(store.pool, timeout_s=store.acquire_timeout_s) as conn, conn.transaction():
        await conn.execute(QUERIES["enter"], {"tenant": tenant})
        await conn.execute(QUERIES["see_all"])
        (rows,) = await row_of(conn, QUERIES["sample_texts"], {"version": version, "limit": limit})
    texts = [SourceText(**{**row, "heading_path": tuple(row["heading_path"])}) for row in rows]
    return joined(list(made_questions(texts)))[:limit]


def made_questions(texts: Sequence[SourceText]) -> Iterator[LabelledQuestion]:
    """A heading and half a sentence of each chunk, where it has such. Each question once."""
    seen: set[str] = set()
    for text in texts:
        for question in (_heading(text), _half_sentence(text)):
            if question and question.casefold() not in seen:
                seen.add(question.casefold())
                yield LabelledQuestion(
                    text=question, gold=frozenset({text.document_id}), group=text.document_id
                )


def _heading(text: SourceText) -> str | None:
    heading = text.heading_path[-1] if text.heading_path else text.title
    return heading if len(content_words(heading)) >= _LEAST_WORDS else None


def _half_sentence(text: SourceText) -> str | None:
    sentences = [each.split() for each in _SENTENCE.split(text.text)]
    fit = [
        words
        for words in sentences
        if len(words) in _SENTENCE_WORDS and len(content_words(" ".join(words))) >= 2 * _LEAST_WORDS
    ]
    if not fit:
        return None
    # The same for the same text, whatever else is in the sample.
    chance = random.Random(hashlib.sha256(text.text.encode()).digest())
    words = chance.choice(fit)
    kept = sorted(chance.sample(range(len(words)), max(_LEAST_WORDS, round(len(words) * _KEPT))))
    return " ".join(words[at] for at in kept)

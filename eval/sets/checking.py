"""Gold documents held against the gateway: whether they are there, and whether they say the facts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from eval.documents import DocumentHistory
from eval.errors import CaseFileError
from eval.sets.questions import Question


class Library(Protocol):
    """Where documents are looked up."""

    async def document(self, document_id: str) -> DocumentHistory:
        """All that a document ever said; without versions where there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A fact that no document of its question says."""

    question: str
    fact: str
    documents: tuple[str, ...]

    def sentence(self) -> str:
        """The doubt in words."""
        return f"{self.question}: {self.fact!r} does not stand in {', '.join(self.documents)}"


async def check_documents(
    library: Library, questions: Sequence[Question], *, concurrency: int
) -> tuple[Doubt, ...]:
    """Refuse a gold document that does not exist; give back facts that stand in none of theirs.

    A fact in another spelling than its document's is no error, so it is a doubt for a person to settle.
    """
    wanted = dict.fromkeys(document for question in questions for document in _documents(question))
    free = asyncio.Semaphore(concurrency)

    async def read(document_id: str) -> tuple[str, DocumentHistory]:
        async with free:
            return document_id, await library.document(document_id)

    known = dict(await asyncio.gather(*(read(document_id) for document_id in wanted)))
    for question in questions:
        for document_id in _documents(question):
            if not known[document_id].versions:
                raise CaseFileError(
                    file=Path(question.source or question.id),
                    field="gold" if document_id in question.gold else "facts.document",
                    what=f"question {question.id!r} names the document {document_id!r}, which does not exist",
                    fix="correct the id, ingest the document, or set the keys that may read it",
                )
    return tuple(doubt for question in questions for doubt in _doubts(question, known))


def _documents(question: Question) -> list[str]:
    named = (*question.gold, *(fact.document for fact in question.facts if fact.document))
    return list(dict.fromkeys(named))


def _doubts(question: Question, known: dict[str, DocumentHistory]) -> list[Doubt]:
    doubts = []
    for fact in question.facts:
        documents = (fact.document,) if fact.document else question.gold
        texts = [version.words for each in documents for version in known[each].versions]
        if texts and not any(fact.said_in(text) for text in texts):
            doubts.append(
                Doubt(question=question.id, fact=" / ".join(fact.values), documents=tuple(documents))
            )
    return doubts

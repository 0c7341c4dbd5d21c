"""What the labels of one run know of the corpus, kept in the run's folder: relabelling needs no gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson

from eval.cases import Case
from eval.documents import DocumentHistory
from eval.errors import RunError
from eval.observations import Ranking
from eval.record import replace_file

#: Hits that are looked at for a sentence that only staff may know.
_DEPTH = 10
_FILE = "documents.jsonl"


class Library(Protocol):
    """What is asked of a gateway."""

    @property
    def askers(self) -> frozenset[str]:
        """Whose questions can be asked."""
        ...

    async def document(self, document_id: str) -> DocumentHistory:
        """All that a document ever said."""
        ...

    async def search(self, case: Case, knowledge: str, *, depth: int) -> Ranking:
        """What a person finds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Documents by id, and for sentences that no passage supports the documents that only staff can read."""

    documents: Mapping[str, DocumentHistory] = field(default_factory=dict)
    #: Sentence -> documents found with the staff's key and hidden from customers. A sentence that is not here
    #: was not looked up.
    staff_only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def histories(self, ids: Iterable[str]) -> list[DocumentHistory] | None:
        """The documents, in the order asked; None unless all were looked up."""
        wanted = list(ids)
        if any(document_id not in self.documents for document_id in wanted):
            return None
        return [self.documents[document_id] for document_id in wanted]


class CorpusFile:
    """`documents.jsonl` of a run's folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE

    def read(self) -> Corpus:
        """What was looked up so far."""
        documents: dict[str, DocumentHistory] = {}
        staff_only: dict[str, tuple[str, ...]] = {}
        if not self._path.exists():
            return Corpus()
        for number, line in enumerate(self._path.read_bytes().splitlines(), start=1):
            try:
                row = orjson.loads(line)
                if "sentence" in row:
                    staff_only[row["sentence"]] = tuple(row["staff_only"])
                else:
                    documents[row["id"]] = DocumentHistory.from_json(row)
            except (orjson.JSONDecodeError, KeyError, TypeError) as exc:
                raise RunError(
                    f"{self._path}:{number}: no line of this version ({exc}); delete the file, label again"
                ) from exc
        return Corpus(documents=documents, staff_only=staff_only)

    def write(self, corpus: Corpus) -> None:
        """Replace the file as a whole, in a fixed order."""
        rows: list[dict[str, Any]] = [
            corpus.documents[document_id].as_json() for document_id in sorted(corpus.documents)
        ]
        rows += [
            {"sentence": sentence, "staff_only": corpus.staff_only[sentence]}
            for sentence in sorted(corpus.staff_only)
        ]
        replace_file(self._path, b"".join(orjson.dumps(row) + b"\n" for row in rows))


async def look_up(
    library: Library,
    corpus: Corpus,
    *,
    documents: Iterable[str],
    sentences: Iterable[str],
    knowledge: str,
    at_once: int,
) -> Corpus:
    """The corpus with what is still missing. Sentences need the staff's key; without it they stay unknown."""
    gate = asyncio.Semaphore(at_once)
    histories = dict(corpus.documents)
    staff_only = dict(corpus.staff_only)

    async def read(document_id: str) -> None:
        async with gate:
            histories[document_id] = await library.document(document_id)

    async def find(sentence: str) -> Sequence[str] | None:
        case = Case(id="staff", topic="", split="", text=sentence[:2_000], asker="staff")
        async with gate:
            ranking = await library.search(case, knowledge, depth=_DEPTH)
        return None if ranking.error else ranking.documents

    await asyncio.gather(*(read(each) for each in dict.fromkeys(documents) if each not in histories))
    if "staff" in library.askers and knowledge:
        new = [each for each in dict.fromkeys(sentences) if each.strip() and each not in staff_only]
        found = await asyncio.gather(*(find(sentence) for sentence in new))
        hits = {document_id for each in found for document_id in each or ()}
        await asyncio.gather(*(read(each) for each in sorted(hits) if each not in histories))
        for sentence, ids in zip(new, found, strict=True):
            if ids is not None:
                staff_only[sentence] = tuple(
                    document_id for document_id in ids if histories[document_id].readers == ("staff",)
                )
    kept = {*corpus.documents, *documents, *(each for ids in staff_only.values() for each in ids)}
    return Corpus(
        documents={document_id: histories[document_id] for document_id in kept}, staff_only=staff_only
    )

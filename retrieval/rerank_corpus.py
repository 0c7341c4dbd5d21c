"""A corpus in memory, cut, embedded and searched as the store does it.

For making rows and for judging without a database.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.chunking import NO_CHUNKERS, chunker_of
from retrieval.embedding import Embedder
from retrieval.fitting import placed_cosines
from retrieval.lexing import bm25_weights, lex, term_id
from retrieval.parsing import ParsedDocument
from retrieval.rerank_lists import KEPT
from retrieval.starting import first_version

#: Chunks that each leg proposes.
LEG = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A chunk with the parts that questions are made from."""

    document: str
    title: str
    path: tuple[str, ...]
    body: str
    text: str
    effective_from: date | None = None
    effective_to: date | None = None

    def holds_on(self, day: date) -> bool:
        """Whether its document is in effect."""
        return (self.effective_from or day) <= day <= (self.effective_to or day)


class Corpus:
    """The chunks of a set and the search over them.

    The formula is that of retrieval/sql/migrations/0002_search.sql.
    """

    def __init__(
        self, pieces: Sequence[Piece], vectors: NDArray[np.float32], weight: float, avgdl: float
    ) -> None:
        self.pieces = pieces
        self._vectors = vectors
        self._weight = weight
        postings: dict[int, list[tuple[int, float]]] = defaultdict(list)
        self._frequency: Counter[str] = Counter()
        for index, piece in enumerate(pieces):
            tokens = lex(piece.text)
            self._frequency.update(set(tokens))
            for term, value in bm25_weights(tokens, avgdl=avgdl).items():
                postings[term].append((index, value))
        self._postings = {
            term: (np.array([i for i, _ in row], dtype=np.int64), np.array([v for _, v in row]))
            for term, row in postings.items()
        }

    def search(
        self,
        question: str,
        vector: NDArray[np.float32],
        *,
        k: int = KEPT,
        hidden: Collection[str] = (),
        day: date | None = None,
    ) -> list[tuple[int, float]]:
        """Chunk and fused score, best first, of documents not `hidden` and in effect on `day` (today)."""
        day = day or datetime.now(UTC).date()
        unseen = np.array(
            [piece.document in hidden or not piece.holds_on(day) for piece in self.pieces], dtype=bool
        )
        dense = np.where(unseen, -np.inf, self._vectors @ vector)  # (N,)
        count = len(self.pieces)
        lexical, mass = np.zeros(count), 0.0
        weights: dict[int, float] = {}
        for lexeme, times in Counter(lex(question)).items():
            df = self._frequency[lexeme]
            weight = times * math.log(1 + (count - df + 0.5) / (df + 0.5))
            mass += weight
            term = term_id(lexeme)
            weights[term] = max(weights.get(term, 0.0), weight)
        for term, weight in weights.items():
            if term in self._postings:
                where, values = self._postings[term]
                lexical[where] += weight * values
        lexical[unseen] = 0.0
        unit = max(mass * math.log(1 + (count + 0.5) / 0.5), 1e-6)
        best = {
            *(i for i in np.argsort(-dense)[:LEG].tolist() if not unseen[i]),
            *(i for i in np.argsort(-lexical)[:LEG].tolist() if lexical[i] > 0),
        }
        candidates = np.array(sorted(best))
        placed = placed_cosines(np.asarray(dense[candidates], dtype=float))
        fused = self._weight * placed + (1 - self._weight) * lexical[candidates] ** 2 / unit
        order = np.argsort(-fused, kind="stable")[:k]
        return [(int(candidates[i]), float(fused[i])) for i in order]

    def first_of(self, document: str) -> Piece:
        """The first chunk of a document."""
        return next(piece for piece in self.pieces if piece.document == document)


async def load_corpus(
    name: str, documents: Sequence[ParsedDocument], embedder: Embedder, vectors: Path
) -> Corpus:
    """Cut and embed documents as the first index version does. Vectors are kept in the folder `vectors`."""
    version = first_version(embedder)
    chunker = chunker_of(version.chunker, NO_CHUNKERS)
    pieces = [
        Piece(
            document=parsed.document.id,
            title=parsed.document.title,
            path=chunk.heading_path,
            body=chunk.text,
            text=chunk.embedded_text,
            effective_from=parsed.document.effective_from,
            effective_to=parsed.document.effective_to,
        )
        for parsed in documents
        for chunk in chunker.chunk(parsed.document.title, parsed.document.text, parsed.blocks)
    ]
    digest = hashlib.sha256("\x00".join(piece.text for piece in pieces).encode()).hexdigest()[:16]
    kept = vectors / f"{name}-{embedder.id}-{digest}.npy"
    if not kept.exists():
        sys.stderr.write(f"{name}: embedding {len(pieces)} chunks\n")
        vectors.mkdir(parents=True, exist_ok=True)
        np.save(kept, await embedder.embed_documents([piece.text for piece in pieces]))
    return Corpus(pieces, np.load(kept), version.dense_weight, version.avgdl)

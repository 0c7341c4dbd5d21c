"""What a search asks for and what it returns. Scores say their direction: higher is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

from retrieval.documents import Access, MetadataValue
from retrieval.filters import Filters


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An earlier message of the conversation."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """One search. `version` and `as_of` pin what is read; permissions are those of `access`, now."""

    question: str
    access: Access
    #: Index version to read, chosen by the caller (gateway) from the pointer: `k-<name>-<sha8>`.
    version: str
    k: int = 8
    #: What documents must be like: field -> value, several values or operators (retrieval/filters.py).
    filters: Filters = field(default_factory=dict)
    #: Content to read: a snapshot's number, or what was live at a moment; None is what is live now.
    as_of: int | datetime | None = None
    #: Day whose facts count (effective dates); None is the day of `as_of` if that is a moment, else today.
    effective_on: date | None = None
    #: Seconds left for the whole search; over it RetrievalTimeoutError.
    timeout_s: float = 5.0
    #: Documents that may not be found, to see what a search is worth without them.
    exclude_documents: tuple[str, ...] = ()
    #: The conversation before the question, oldest first; used where the version names a rewriter.
    history: tuple[Said, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A chunk returned by retrieval. `text` is that document version's `text[start:end]`, exactly."""

    rank: int
    chunk_id: int
    document_id: str
    document_version: int
    title: str
    url: str
    heading_path: tuple[str, ...]
    text: str
    start: int
    end: int
    #: Both legs' scores in one by the version's fusion, 0 to 1; compare it within one search only.
    score: float
    #: Cosine similarity, exact.
    dense_score: float
    #: BM25, exact; 0.0 when no query term occurs.
    lexical_score: float
    effective_from: date | None
    effective_to: date | None
    metadata: Mapping[str, MetadataValue]
    #: Logit of the reranker; None where none has seen the hit.
    rerank_score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """Hits, best first, with the stamp and the facts of how they were found."""

    hits: tuple[Hit, ...]
    version: str
    snapshot: int
    #: Probability 0 to 1 that the hits hold the answer.
    confidence: float
    #: Confidence under which an answer is not worth generating.
    abstain_below: float
    #: How it was found: index, exact, index-then-exact or none, + and words, rare-words or none.
    mode: str
    candidates: int
    #: Fewer than `k` hits, since no more exist for these eyes and filters.
    underfilled: bool
    #: What did not work: `rerank`, the fused order stands.
    degraded: tuple[str, ...] = ()
    #: Milliseconds per stage: embed, search, rerank.
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    #: Whose fit the confidence and its threshold are: `default` (the version's) or `tenant-<sha8>`.
    calibration: str = "default"
    #: The numbers that the confidence follows from, so that it can be fitted again from what was recorded.
    features: Mapping[str, float] = field(default_factory=dict)
    #: What was searched instead of the question; None where it was searched as asked.
    rewritten: str | None = None

"""Bodies of `/v1/search`."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel, ConfigDict, Field

from gateway.schemas.answers import HistoryMessage
from gateway.schemas.fields import MAX_QUESTION, AsOf, Body, ConversationId, FilterValue, ShortText


class SearchBody(Body):
    """A search without an answer."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"question": "refund after a yearly renewal", "k": 5}]}
    )

    question: str = Field(min_length=1, max_length=MAX_QUESTION)
    k: int = Field(default=8, ge=1, le=50, description="Hits wanted.")
    filters: dict[ShortText, FilterValue] = Field(
        default_factory=dict,
        max_length=20,
        description="Metadata field -> value, several, or operators; `$and`, `$or`, `$not` of filters.",
    )
    conversation_id: ConversationId | None = None
    history: tuple[HistoryMessage, ...] = Field(
        default=(),
        max_length=40,
        description="Earlier messages, oldest first, to search a follow-up with.",
    )
    as_of: AsOf | None = Field(
        default=None,
        description="Content to read: a snapshot's number, or what was live at a time; "
        "scope `eval` or `review` only.",
    )
    effective_on: date | None = Field(
        default=None,
        description="Day whose facts count: the day of `as_of` if that is a time, else today; "
        "scope `eval` or `review` only.",
    )
    version: str | None = Field(
        default=None,
        pattern=r"^k-[A-Za-z0-9._-]+(@\d+)?$",
        description="Knowledge version, with `@<snapshot>` for a point in time; scope `eval` only.",
    )


class SearchHit(BaseModel):
    """A chunk with its scores; higher is better."""

    rank: int
    document_id: str
    title: str
    url: str
    heading_path: list[str]
    text: str
    start: int
    end: int
    score: float
    dense_score: float
    lexical_score: float
    rerank_score: float | None = Field(description="Logit of the reranker; null where none has read the hit.")
    effective_from: date | None
    effective_to: date | None
    metadata: dict[str, str | int | float | bool | tuple[str, ...]]


class SearchResponse(BaseModel):
    """Hits, best first, and how they were found."""

    hits: list[SearchHit]
    version: str
    snapshot: int
    arm: str
    confidence: float = Field(description="Probability 0 to 1 that the hits hold the answer.")
    abstain_below: float = Field(description="Confidence under which no answer is attempted.")
    calibration: str = Field(description="Whose fit both are: `default` or `tenant-<sha8>`.")
    rewritten: str | None = Field(description="What was searched instead of the question; null: as asked.")
    mode: str = Field(description="`<dense>+<lexical>`: how the candidates were found.")
    candidates: int
    underfilled: bool = Field(description="Fewer hits than asked for, since no more exist for these filters.")
    degraded: list[str]
    timings_ms: dict[str, float]
    trace_id: str

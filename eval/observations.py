"""What was seen when one question was asked in one arm: the only input of scorers, kept word for word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from serving.prompting import Passage


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A citation as the customer got it."""

    n: int
    document_id: str
    quote: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A passage that the model was shown, or that a search found."""

    document_id: str
    passage: Passage


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The pinned model's own first output, before repair, fallback and wording checks."""

    text: str
    #: Why the gateway did not use it as it was: `unsupported`, `schema`, `engine` ...; "" if it did.
    failure: str = ""
    #: Why the engine stopped: `stop`, or `length` at the limit of tokens.
    finish_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One answer with everything that was used for it, or the error that came instead."""

    case_id: str
    arm: str
    #: 0 is the answer that metrics count; later ones only show how often an answer changes by itself.
    repeat: int = 0
    error: str = ""
    turn_id: str = ""
    status: str = ""
    answer: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    citations: tuple[Citation, ...] = ()
    #: Documents that retrieval returned, best first, one entry each.
    retrieved: tuple[str, ...] = ()
    #: Passages in the prompt.
    packed: tuple[Evidence, ...] = ()
    #: None when nothing was generated.
    draft: Draft | None = None
    repaired: bool = False
    knowledge_version: str = ""
    model_version: str = ""
    degraded: tuple[str, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    #: Of the prompt tokens, those that the engine had computed before.
    cached_tokens: int | None = None
    confidence: float | None = None
    #: Share of the answer's claims that a passage supports, as the gateway counted.
    grounded: float | None = None
    #: Reason of the rule that passed it to a person, whatever the model wrote; "": none did.
    handover: str = ""
    #: What a reviewer said of this turn: True if the answer was corrected, None if nobody looked.
    corrected: bool | None = None
    trace_id: str = ""
    #: When the gateway got the question: an ISO time.
    asked_at: str = ""
    #: Milliseconds as the evaluation saw them.
    wall_ms: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether there is nothing to score."""
        return bool(self.error)

    def as_json(self) -> dict[str, Any]:
        """Plain data for one line of results."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """The observation that `as_json` wrote."""
        values = dict(row)
        values["citations"] = tuple(Citation(**item) for item in row["citations"])
        values["packed"] = _evidence(row["packed"])
        values["draft"] = Draft(**row["draft"]) if row["draft"] else None
        values["retrieved"] = tuple(row["retrieved"])
        values["degraded"] = tuple(row["degraded"])
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """What one knowledge version finds for one question, whatever model answers later."""

    case_id: str
    knowledge: str
    error: str = ""
    hits: tuple[Evidence, ...] = ()
    confidence: float | None = None
    #: Confidence under which no answer would be attempted.
    abstain_below: float | None = None
    degraded: tuple[str, ...] = ()
    #: The gateway's stages.
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    #: Milliseconds as the evaluation saw them.
    wall_ms: float = 0.0

    @property
    def documents(self) -> tuple[str, ...]:
        """Documents in order of their best hit."""
        return tuple(dict.fromkeys(hit.document_id for hit in self.hits))

    def as_json(self) -> dict[str, Any]:
        """Plain data for one line of searches."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """The ranking that `as_json` wrote."""
        return cls(**{**row, "hits": _evidence(row["hits"]), "degraded": tuple(row.get("degraded") or ())})


def _evidence(rows: Sequence[Mapping[str, Any]]) -> tuple[Evidence, ...]:
    return tuple(Evidence(document_id=row["document_id"], passage=Passage(**row["passage"])) for row in rows)

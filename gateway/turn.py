"""A turn while it is made: one question with everything that is used and produced for it.

The draft is filled along the path of the question, so that a turn that is cancelled or fails half-way is
recorded with what had been used until then.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from gateway.access import ApiKey
from gateway.handover import Match
from gateway.reviewing import reasons_of
from gateway.rollouts.assignment import Arm, Assignment
from gateway.schemas.answers import AnswerBody, Arms, Fallback, Step, Tried, Usage, Versions
from retrieval.hits import Hit
from serving.prompting import Message, PromptTemplate
from serving.versions import Decoding, RegisteredVersion, prompt_definition, sha256_of

_NO_ARM = Assignment(arm=Arm.NONE, version=None)


class Surface(StrEnum):
    """The call through which a question came."""

    ANSWERS = "answers"
    CHAT = "chat"


class Ending(StrEnum):
    """How a turn ended without an answer."""

    CLIENT_CANCELLED = "client_cancelled"
    FAILED = "failed"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedContext:
    """A passage that the caller gave in place of retrieval."""

    title: str
    text: str
    #: ISO day, "" where none is known.
    effective_from: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """What the caller fixed. Turns with a pin are never counted."""

    knowledge: str | None = None
    model: str | None = None
    #: Snapshot or moment whose content is read.
    as_of: int | datetime | None = None
    effective_on: date | None = None
    #: None: retrieve as usual. Empty: no context at all.
    context: tuple[PinnedContext, ...] | None = None
    #: A prompt to try in place of the pinned model's own.
    prompt: PromptTemplate | None = None
    #: Whether the engine holds the model to the schema; None: as the version's decoding says.
    constrained: bool | None = None

    @property
    def skips_retrieval(self) -> bool:
        """Whether the context is given."""
        return self.context is not None

    @property
    def prompt_only(self) -> bool:
        """Whether there is no context at all, so that nothing can be grounded or cited."""
        return self.context == ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, by whom, and by when the answer is due."""

    text: str
    key: ApiKey
    conversation_id: str
    history: tuple[Message, ...] = ()
    filters: Mapping[str, Any] = field(default_factory=dict)
    pin: Pinned | None = None
    #: Sentences are shown as they pass, so a draft that was begun cannot be taken back.
    stream: bool = False

    @property
    def unit(self) -> str:
        """What is assigned to an arm: the conversation, within its tenant."""
        return f"{self.key.tenant}/{self.conversation_id}"

    def prompt_of(self, version: RegisteredVersion) -> PromptTemplate:
        """The prompt that the version is asked with: its own, unless another one is tried."""
        return self.pin.prompt if self.pin and self.pin.prompt else version.version.prompt

    def decoding_of(self, version: RegisteredVersion) -> Decoding:
        """How the version's tokens are chosen: its own way, but for what a pin says of the schema."""
        if self.pin is None or self.pin.constrained is None:
            return version.version.decoding
        return replace(version.version.decoding, constrained=self.pin.constrained)


@dataclass(slots=True, kw_only=True)
class TurnDraft:
    """The turn's record in the making."""

    id: UUID
    key: ApiKey
    surface: Surface
    trace_id: str
    #: Of the answer's span: what is said of the turn later stands under it.
    span_id: str = ""
    conversation_id: str = ""
    question: str = ""
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    filters: Mapping[str, Any] = field(default_factory=dict)
    pin: Pinned | None = None
    knowledge: Assignment = _NO_ARM
    model: Assignment = _NO_ARM
    snapshot: int | None = None
    prompt_name: str | None = None
    hits: Sequence[Hit] = ()
    retrieval: dict[str, Any] = field(default_factory=dict)
    confidence: float | None = None
    grounded: float | None = None
    #: The prompt of the last generation, which is the accepted one if one was accepted.
    prompt: Sequence[Message] = ()
    #: What that prompt shows, as it was trimmed: number, document, text and offsets of each passage.
    passages: Sequence[Mapping[str, Any]] = ()
    #: Every generation: version, prompt, passages, text, how it ended, why it was not used.
    drafts: list[dict[str, Any]] = field(default_factory=list)
    #: Every sentence that was checked.
    checks: list[dict[str, Any]] = field(default_factory=list)
    #: What was dropped or noticed: `citation 7 out of range`, `tone: exclamation`.
    flags: list[str] = field(default_factory=list)
    #: Why a person has to see it, whatever is answered; None: no rule says so.
    handover: Match | None = None
    degraded: list[str] = field(default_factory=list)
    #: Steps of the chain that gave no answer, in order.
    tried: list[Tried] = field(default_factory=list)
    #: Who wrote what is shown, where it is not the assigned version.
    step: Step = Step.ASSIGNED
    usage: Usage = field(default_factory=Usage)
    timings_ms: dict[str, float] = field(default_factory=dict)
    ticket: str | None = None
    #: Whether it is in the random sample that people look at.
    sampled: bool = False
    answer: AnswerBody | None = None
    problem: Mapping[str, Any] | None = None
    ending: Ending | None = None

    @property
    def status(self) -> str:
        """How it ended: the answer's status, or why there is none."""
        if self.ending is not None:
            return self.ending.value
        return self.answer.status.value if self.answer is not None else Ending.FAILED.value

    @property
    def fallback(self) -> Fallback | None:
        """Who answered in place of the assigned version; None where it did, or nobody was asked."""
        if self.step is Step.ASSIGNED or not self.tried:
            return None
        return Fallback(step=self.step, because=self.tried[0].because, tried=list(self.tried))

    def degrade(self, part: str) -> None:
        """Say in the answer that a part did not work."""
        if part not in self.degraded:
            self.degraded.append(part)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time of the block to the part's time."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add_time(part, time.perf_counter() - began)

    def add_time(self, part: str, seconds: float) -> None:
        """Add to the part's time."""
        self.timings_ms[part] = self.timings_ms.get(part, 0.0) + seconds * 1000

    @property
    def knowledge_stamp(self) -> str | None:
        """`k-<name>-<sha8>@<snapshot>`."""
        version = self.knowledge.version
        return version if version is None or self.snapshot is None else f"{version}@{self.snapshot}"

    @property
    def versions(self) -> Versions:
        """The stamp of the answer."""
        return Versions(knowledge=self.knowledge_stamp, model=self.model.version, prompt=self.prompt_name)

    @property
    def arms(self) -> Arms:
        """The arms of the answer."""
        return Arms(knowledge=self.knowledge.arm.value, model=self.model.arm.value)

    def row(self) -> dict[str, Any]:
        """The turn as plain values, as it is written, spooled and shown."""
        reasons = () if self.pin else reasons_of(self.ticket, sampled=self.sampled)
        return {
            "id": str(self.id),
            "tenant": self.key.tenant,
            "key_id": str(self.key.id),
            "conversation_id": self.conversation_id,
            "surface": self.surface.value,
            "status": self.status,
            "question": self.question,
            "pinned": self.pin is not None,
            "knowledge_version": self.knowledge_stamp,
            "model_version": self.model.version,
            "knowledge_arm": self.knowledge.arm.value,
            "model_arm": self.model.arm.value,
            "degraded": list(self.degraded),
            "trace_id": self.trace_id,
            "created_at": self.created_at.isoformat(),
            "finished_at": datetime.now(UTC).isoformat(),
            "reasons": [reason.value for reason in reasons],
            "ticket": (self.ticket or reasons[0].value) if reasons else None,
            "answer": self.answer.model_dump(mode="json") if self.answer else None,
            "used": self._used(),
        }

    def _draft_row(self, draft: Mapping[str, Any]) -> dict[str, Any]:
        """A draft with its prompt and passages, null where they are the turn's own: most turns have one."""
        prompt, passages = draft["prompt"], draft["passages"]
        return {
            **draft,
            "prompt": None if prompt == self.prompt else _prompt_rows(prompt),
            "passages": None if passages == self.passages else [dict(passage) for passage in passages],
        }

    def _used(self) -> dict[str, Any]:
        return {
            "principals": list(self.key.principals),
            "span_id": self.span_id,
            "filters": dict(self.filters),
            "pin": _pin_row(self.pin),
            "prompt_name": self.prompt_name,
            "confidence": self.confidence,
            "grounded": self.grounded,
            "retrieval": self.retrieval,
            "hits": [_hit_row(hit) for hit in self.hits],
            "passages": [dict(passage) for passage in self.passages],
            "prompt": _prompt_rows(self.prompt),
            "drafts": [self._draft_row(draft) for draft in self.drafts],
            "checks": self.checks,
            "flags": self.flags,
            "handover": self.handover.row() if self.handover else None,
            "tried": [tried.model_dump(mode="json") for tried in self.tried],
            "usage": self.usage.model_dump(),
            "timings_ms": {name: round(value, 2) for name, value in self.timings_ms.items()},
            "problem": dict(self.problem) if self.problem else None,
        }


def _prompt_rows(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _hit_row(hit: Hit) -> dict[str, Any]:
    return {
        "rank": hit.rank,
        "chunk_id": hit.chunk_id,
        "document_id": hit.document_id,
        "document_version": hit.document_version,
        "title": hit.title,
        "start": hit.start,
        "end": hit.end,
        "score": hit.score,
        "dense_score": hit.dense_score,
        "lexical_score": hit.lexical_score,
    }


def _pin_row(pin: Pinned | None) -> dict[str, Any] | None:
    if pin is None:
        return None
    return {
        "knowledge": pin.knowledge,
        "model": pin.model,
        "as_of": pin.as_of.isoformat() if isinstance(pin.as_of, datetime) else pin.as_of,
        "effective_on": pin.effective_on.isoformat() if pin.effective_on else None,
        "context": None if pin.context is None else [passage.title for passage in pin.context],
        "constrained": pin.constrained,
        "prompt": None
        if pin.prompt is None
        else {"name": pin.prompt.name, "sha256": sha256_of(prompt_definition(pin.prompt))},
    }

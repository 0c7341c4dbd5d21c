"""What the gateway needs of the two rails, as roles: the real ones in production, fakes in tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol

from retrieval.documents import Access, TextSpan
from retrieval.hits import SearchRequest, SearchResult
from retrieval.versions import KnowledgeVersion, Undone
from retrieval.versions import Pointer as KnowledgePointer
from retrieval.versions import UndoGoal as KnowledgeUndoGoal
from serving.client import ChatDelta, ChatRequest
from serving.grounding import Support
from serving.prompting import Passage
from serving.versions import Pointer as ModelPointer
from serving.versions import RegisteredVersion
from serving.versions import UndoGoal as ModelUndoGoal


class Searcher(Protocol):
    """Finds hits."""

    async def search(self, request: SearchRequest, *, arm: str | None = None) -> SearchResult: ...


class KnowledgeRail(Protocol):
    """Versions, pointer and documents of the knowledge rail."""

    async def pointer(self) -> KnowledgePointer: ...
    async def versions(self) -> list[KnowledgeVersion]: ...
    async def snapshot(self, tenant: str) -> int: ...
    async def set_canary(self, version: str | None, weight_bp: int) -> KnowledgePointer: ...
    async def promote(self, version: str) -> KnowledgePointer: ...
    async def undo_goal(self) -> KnowledgeUndoGoal | None: ...
    async def undo(
        self,
        tenant: str,
        what: Literal["publish", "version"] | None = None,
        *,
        expected_revision: int | None = None,
        expected_snapshot: int | None = None,
    ) -> Undone: ...
    async def text_spans(self, access: Access, spans: Sequence[TextSpan]) -> list[str | None]: ...


class ModelRail(Protocol):
    """Versions and pointer of the model rail."""

    async def pointer(self) -> ModelPointer: ...
    async def versions(self) -> list[RegisteredVersion]: ...
    async def version(self, version_id: str) -> RegisteredVersion: ...
    async def set_canary(self, version_id: str | None, weight_bp: int) -> ModelPointer: ...
    async def promote(self, version_id: str) -> ModelPointer: ...
    async def undo_goal(self) -> ModelUndoGoal | None: ...
    async def undo(self, *, expected_revision: int | None = None) -> ModelPointer: ...


class ChatModel(Protocol):
    """Writes."""

    def stream(self, request: ChatRequest) -> AsyncIterator[ChatDelta]: ...


class EngineRoster(Protocol):
    """Knows what the engines serve."""

    async def ready(self, served_name: str | None = None) -> bool: ...
    def served(self) -> frozenset[str]: ...


class SentenceCheck(Protocol):
    """Says whether the passages support a sentence. The question's own words may be repeated."""

    def __call__(self, sentence: str, passages: Sequence[Passage], *, question: str = "") -> Support: ...


class ToneCheck(Protocol):
    """Names the rules of house tone that a text breaks."""

    def __call__(self, text: str) -> tuple[str, ...]: ...

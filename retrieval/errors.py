"""Everything that can go wrong on the knowledge rail.

RetrievalError
├── DocumentError: UnparsableDocumentError, DocumentConflictError,        one document that is left out
│   ErasedDocumentError
├── UnknownDocumentError, UnknownSourceError                              what is not there
├── DuplicateDocumentError, EmptySourceError, MassRemovalError            a source that is not taken as it is
├── ParsingProcessError                                                   what reads documents
├── FilterError, UnknownSnapshotError, RequestError                       a search that cannot be run
├── RewriteError                                                          a follow-up that stays as it is
├── TooFewPairsError                                                      a fit that cannot be made
├── UnknownVersionError: NoStableVersionError, VersionNotReadyError, VersionRetiredError
├── ChunkerError                                                          what cuts text
├── CanaryError, NothingToUndoError, NothingLeftError, PointerMovedError  the pointer
├── VersionInReachError, BuildRunningError, UnknownChunkerError           the life of a version
├── EmbeddingError: EmbedderUnavailableError, EmbedderMismatchError, EmbeddingRefusedError
├── RerankError: RerankerUnavailableError                                 what orders the hits anew
├── StoreError: StoreUnavailableError, StoreFullError, StoreRoleError, StoreGuardError, PublishConflictError
├── JobError: UnknownJobError, JobStateError, RepeatedRequestError, JobInterruptedError
└── RetrievalTimeoutError
"""

from __future__ import annotations

from typing import ClassVar, Self


class RetrievalError(Exception):
    """The knowledge rail failed."""

    #: Whether the same call may succeed when it is made again, unchanged.
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])


# ---- sources -------------------------------------------------------------------------------------


class DocumentError(RetrievalError):
    """A document cannot be taken in; the others can."""

    def __init__(self, file: str, field: str, problem: str, fix: str) -> None:
        super().__init__(f"{file}: {field}: {problem}; {fix}")
        self.file = file
        self.field = field
        self.problem = problem
        self.fix = fix

    def __reduce__(self) -> tuple[type[Self], tuple[str, str, str, str]]:
        """Copied, and sent between processes, by its parts: the message alone would not make it again."""
        return type(self), (self.file, self.field, self.problem, self.fix)


class UnparsableDocumentError(DocumentError):
    """A document cannot be read."""


class DocumentConflictError(DocumentError):
    """The id belongs to a document of another source."""


class ErasedDocumentError(DocumentError):
    """The document was erased for good, and the source still holds it."""


class UnknownDocumentError(RetrievalError):
    """The tenant has no such document."""


class UnknownSourceError(RetrievalError):
    """The tenant has no such source."""


class DuplicateDocumentError(RetrievalError):
    """Two documents have the same id."""


class EmptySourceError(RetrievalError):
    """The source holds no document."""


class ParsingProcessError(RetrievalError):
    """The process that reads documents does not start."""

    #: Memory or processes of the machine may be short for a while.
    retryable = True


class MassRemovalError(RetrievalError):
    """Most of the source's documents would be removed."""


# ---- searches ------------------------------------------------------------------------------------


class RequestError(RetrievalError):
    """The search request is malformed."""


class FilterError(RequestError):
    """A filter names a field that documents do not have, or has a wrong value."""


class UnknownSnapshotError(RequestError):
    """The snapshot does not exist."""


class RetrievalTimeoutError(RetrievalError):
    """The search took longer than the request allows."""

    retryable = True


class RewriteError(RetrievalError):
    """A follow-up could not be rewritten."""

    retryable = True


# ---- fits ----------------------------------------------------------------------------------------


class TooFewPairsError(RetrievalError):
    """There are too few questions with a known answer to fit anything."""


# ---- versions ------------------------------------------------------------------------------------


class UnknownVersionError(RetrievalError):
    """No such index version."""


class NoStableVersionError(UnknownVersionError):
    """The knowledge rail has no stable version yet: ingest documents first (`twinrail ingest`)."""


class VersionNotReadyError(UnknownVersionError):
    """The index version is not filled: ingest first, then move traffic to it."""


class VersionRetiredError(UnknownVersionError):
    """The index version is retired and its chunks are gone: build it again (`twinrail knowledge build`)."""


class VersionInReachError(RetrievalError):
    """Traffic can reach the index version, now or by an undo, so it cannot be retired."""


class BuildRunningError(RetrievalError):
    """Another process builds the index version at this moment: wait for it, or stop it first."""

    retryable = True


class UnknownChunkerError(RetrievalError):
    """No chunker of that id is at hand."""


class ChunkerError(RetrievalError):
    """A chunker gave what is no span of the document's text."""


class CanaryError(RetrievalError):
    """The canary cannot be set like this."""


class NothingToUndoError(RetrievalError):
    """Nothing has moved on the knowledge rail that could be undone."""


class NothingLeftError(RetrievalError):
    """The undo would take away all that the tenant has published."""


class PointerMovedError(RetrievalError):
    """Somebody else moved the knowledge rail: read it again and decide again."""

    retryable = True


# ---- embedding -----------------------------------------------------------------------------------


class EmbeddingError(RetrievalError):
    """The embedder failed."""


class EmbedderUnavailableError(EmbeddingError):
    """The embedder does not answer."""

    retryable = True


class EmbedderMismatchError(EmbeddingError):
    """The embedder is not the one that the index version was made with."""


class EmbeddingRefusedError(EmbeddingError):
    """The embedder does not take a text, for example because it is too long."""


# ---- reranking -----------------------------------------------------------------------------------


class RerankError(RetrievalError):
    """The reranker failed."""


class RerankerUnavailableError(RerankError):
    """The reranker does not answer."""

    retryable = True


# ---- store ---------------------------------------------------------------------------------------


class StoreError(RetrievalError):
    """The database refused."""


class StoreUnavailableError(StoreError):
    """The database of the knowledge rail does not answer."""

    retryable = True


class StoreFullError(StoreError):
    """The database's disk is full: free some space; nothing was half-written."""


class StoreRoleError(StoreError):
    """The database role would bypass row-level security."""


class StoreGuardError(StoreRoleError):
    """A table of tenants is not under the row-level security that the migrations put there."""


class PublishConflictError(StoreError):
    """Somebody else published or undid meanwhile: run the ingest again."""

    retryable = True


# ---- jobs ----------------------------------------------------------------------------------------


class JobError(RetrievalError):
    """A job cannot be dealt with like this."""


class UnknownJobError(JobError):
    """There is no such job."""


class JobStateError(JobError):
    """The job is past that."""


class JobInterruptedError(JobError):
    """The job was paused or cancelled, or another worker has it."""


class RepeatedRequestError(JobError):
    """Idempotency-Key: another request was sent with this key; choose a new one for each request."""

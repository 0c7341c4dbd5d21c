"""Errors as RFC 9457 problems. The only place where an error meets an HTTP code.

The class of the error decides, looked up along its MRO, so that a new subclass is mapped by its parent until
somebody gives it a place of its own. What is not known at all is a 500 that says nothing about the inside.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as made_by
from typing import Any, Final

import orjson
from pydantic import ValidationError

from gateway import errors as gw
from retrieval import errors as kn
from serving import errors as mo

logger = logging.getLogger(__name__)

CONTENT_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: what its `type`, `title` and `status` are."""

    status: int
    slug: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem, ready to be sent."""

    kind: Kind
    detail: str
    trace_id: str
    field: str | None = None
    fix: str | None = None
    retry_after_s: float | None = None
    #: All bad fields, when there are several.
    errors: Sequence[Mapping[str, str]] = ()
    headers: Mapping[str, str] = made_by(default_factory=dict)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.kind.status

    def body(self) -> dict[str, Any]:
        """The members of the problem document."""
        members: dict[str, Any] = {
            "type": f"urn:twinrail:problem:{self.kind.slug}",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "field": self.field,
            "fix": self.fix,
            "trace_id": self.trace_id,
        }
        if self.errors:
            members["errors"] = list(self.errors)
        return members

    def openai_body(self) -> dict[str, Any]:
        """The same with the `error` member that OpenAI clients read; RFC 9457 allows further members."""
        message = self.detail if self.fix is None else f"{self.detail} {self.fix}"
        return self.body() | {
            "error": {
                "message": message,
                "type": _openai_type(self.status),
                "param": self.field,
                "code": self.kind.slug.replace("-", "_"),
            }
        }

    def http_headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of the response."""
        headers = [(b"content-type", CONTENT_TYPE.encode())]
        if self.retry_after_s is not None:
            headers.append((b"retry-after", str(max(1, math.ceil(self.retry_after_s))).encode()))
        if self.status == 401:
            headers.append((b"www-authenticate", b'Bearer realm="twinrail"'))
        return headers + [(name.encode(), value.encode()) for name, value in self.headers.items()]

    def encoded(self, *, openai: bool = False) -> bytes:
        """The body as bytes."""
        return orjson.dumps(self.openai_body() if openai else self.body())


INTERNAL: Final = Kind(500, "internal", "Something failed inside the gateway")
VALIDATION: Final = Kind(422, "invalid-field", "A field is not accepted")
NOT_FOUND: Final = Kind(404, "not-found", "There is no such thing")
METHOD_NOT_ALLOWED: Final = Kind(405, "method-not-allowed", "The method is not allowed here")
_KNOWLEDGE_DOWN: Final = Kind(503, "knowledge-unavailable", "The knowledge rail cannot be reached")
_MODEL_DOWN: Final = Kind(503, "model-unavailable", "The model rail cannot be reached")

KINDS: Final[Mapping[type[BaseException], Kind]] = {
    gw.GatewayError: INTERNAL,
    gw.InvalidFieldError: VALIDATION,
    gw.MalformedBodyError: Kind(400, "malformed-body", "The body is not JSON"),
    gw.UnsupportedParameterError: Kind(400, "unsupported-parameter", "A parameter is not supported"),
    gw.ContentTypeError: Kind(415, "content-type", "The content type is not accepted"),
    gw.BodyTooLargeError: Kind(413, "body-too-large", "The body is too large"),
    gw.UnauthenticatedError: Kind(401, "unauthenticated", "There is no valid API key"),
    gw.ForbiddenError: Kind(403, "forbidden", "The key does not allow this"),
    gw.NotFoundError: NOT_FOUND,
    gw.ConflictError: Kind(409, "conflict", "The state of the system does not allow this"),
    gw.NotServedError: Kind(409, "not-served", "No engine serves the version"),
    gw.GateRefusedError: Kind(409, "gate-refused", "A gate has refused the version"),
    gw.OverloadedError: Kind(429, "overloaded", "All places are taken"),
    gw.RateLimitedError: Kind(429, "rate-limited", "The key's rate limit is reached"),
    gw.RecordsUnavailableError: Kind(503, "records-unavailable", "The gateway's records cannot be reached"),
    gw.DeadlineError: Kind(504, "deadline", "The deadline passed"),
    kn.RetrievalError: Kind(500, "knowledge-failed", "The knowledge rail failed"),
    kn.RetrievalTimeoutError: Kind(504, "knowledge-timeout", "Retrieval took too long"),
    kn.StoreUnavailableError: _KNOWLEDGE_DOWN,
    kn.UnknownVersionError: Kind(404, "unknown-version", "There is no such version"),
    kn.NoStableVersionError: Kind(503, "no-stable-version", "The rail has no stable version"),
    kn.RequestError: VALIDATION,
    kn.UnknownDocumentError: NOT_FOUND,
    kn.ParsingProcessError: Kind(503, "reader-unavailable", "Documents cannot be read at the moment"),
    kn.CanaryError: Kind(409, "canary", "The canary cannot be set"),
    kn.NothingToUndoError: Kind(409, "nothing-to-undo", "There is nothing to undo"),
    kn.NothingLeftError: Kind(409, "nothing-left", "Nothing would be left to find"),
    kn.PointerMovedError: Kind(409, "pointer-moved", "Somebody else moved the pointer"),
    kn.VersionRetiredError: Kind(409, "version-retired", "The version is retired"),
    kn.VersionInReachError: Kind(409, "version-in-reach", "Traffic can reach the version"),
    kn.BuildRunningError: Kind(409, "build-running", "The version is being built"),
    kn.UnknownChunkerError: VALIDATION,
    kn.EmbedderMismatchError: Kind(409, "embedder-missing", "The version's embedder is not at hand"),
    kn.EmbedderUnavailableError: _KNOWLEDGE_DOWN,
    kn.DocumentConflictError: Kind(409, "document-conflict", "The document belongs to another source"),
    kn.DuplicateDocumentError: VALIDATION,
    kn.UnknownJobError: NOT_FOUND,
    kn.JobStateError: Kind(409, "job-state", "The job is past that"),
    kn.RepeatedRequestError: Kind(409, "idempotency-key", "The key belongs to another request"),
    kn.RerankerUnavailableError: _KNOWLEDGE_DOWN,
    kn.PublishConflictError: Kind(409, "publish-conflict", "Somebody else moved the snapshot"),
    mo.ServingError: Kind(500, "model-failed", "The model rail failed"),
    mo.PromptBudgetError: VALIDATION,
    mo.UnknownModelVersionError: Kind(404, "unknown-version", "There is no such version"),
    mo.NoStableVersionError: Kind(503, "no-stable-version", "The rail has no stable version"),
    mo.NotReleasableError: Kind(409, "not-releasable", "The version may not take traffic"),
    mo.VersionUnreadableError: Kind(503, "version-unreadable", "The version cannot be read"),
    mo.VersionRetiredError: Kind(409, "version-retired", "The version is retired"),
    mo.VersionInReachError: Kind(409, "version-in-reach", "Traffic can reach the version"),
    mo.NothingToUndoError: Kind(409, "nothing-to-undo", "There is nothing to undo"),
    mo.WeightError: VALIDATION,
    mo.CanaryError: Kind(409, "canary", "The canary cannot be set"),
    mo.PointerMovedError: Kind(409, "pointer-moved", "Somebody else moved the pointer"),
    mo.RegistryUnavailableError: _MODEL_DOWN,
    mo.EngineUnavailableError: _MODEL_DOWN,
    mo.EngineTimeoutError: Kind(504, "model-timeout", "Generation took too long"),
    mo.EngineRejectedError: Kind(502, "model-rejected", "The engine refused the request"),
    mo.ModelNotServedError: Kind(503, "model-not-served", "No engine serves the model"),
}

#: Field and fix of errors from below, which know nothing of requests.
_HINTS: Final[Mapping[type[BaseException], tuple[str, str]]] = {
    kn.FilterError: (
        "filters",
        "Use a known field, an operator that its kind takes, and values of that kind.",
    ),
    kn.UnknownSnapshotError: (
        "as_of",
        "Leave it out, or give a snapshot that was published, or a later time.",
    ),
    kn.UnknownJobError: ("id", "List the jobs with `GET /v1/jobs`."),
    kn.JobStateError: ("id", "Look at its state with `GET /v1/jobs/{id}`."),
    kn.RepeatedRequestError: ("header Idempotency-Key", "Send a new key with each new request."),
    kn.DuplicateDocumentError: ("id", "Send each document once."),
    kn.UnknownDocumentError: ("id", "Use the id of a live document."),
    kn.EmbedderMismatchError: ("version", "Name its service in RETRIEVAL_EMBEDDERS, then restart."),
    kn.UnknownChunkerError: ("chunker", "Name one of the known ones."),
    kn.UnknownVersionError: ("version", "List the versions with `GET /v1/rails/knowledge/versions`."),
    mo.UnknownModelVersionError: ("version", "List the versions with `GET /v1/rails/model/versions`."),
    mo.PromptBudgetError: ("question", "Shorten the question."),
    mo.WeightError: ("weight_bp", "Give a whole number from 0 to 10000."),
    mo.ModelNotServedError: ("pin.model", "Pin a version that an engine serves (`GET /v1/models`)."),
}


def kind_of(error: BaseException) -> Kind:
    """The kind of the error, by the nearest class of its MRO that has one."""
    for cls in type(error).__mro__:
        if cls in KINDS:
            return KINDS[cls]
    return INTERNAL


def from_error(error: BaseException, *, trace_id: str) -> Problem:
    """The problem that an error becomes."""
    if isinstance(error, ValidationError):
        return from_validation(error, trace_id=trace_id)
    kind = kind_of(error)
    hint = next((_HINTS[cls] for cls in type(error).__mro__ if cls in _HINTS), (None, None))
    retry_after = getattr(error, "retry_after_s", None)
    if retry_after is None and kind.status == 503:
        retry_after = 2.0
    return Problem(
        kind=kind,
        detail=_detail(error, kind, trace_id=trace_id),
        field=getattr(error, "field", None) or hint[0],
        fix=getattr(error, "fix", None) or hint[1],
        trace_id=trace_id,
        retry_after_s=retry_after,
    )


def _detail(error: BaseException, kind: Kind, *, trace_id: str) -> str:
    """What the caller reads. What failed inside names hosts, ports and roles: that is for the log."""
    if isinstance(error, gw.GatewayError):
        return str(error)
    if not isinstance(error, kn.RetrievalError | mo.ServingError):
        return "An unexpected error; the trace id finds it in the logs."
    if kind.status < 500:
        return str(error)
    logger.warning(
        "%s: %s", type(error).__name__, error, extra={"action": "rail_failed", "trace_id": trace_id}
    )
    return f"{kind.title}; the trace id finds the cause in the logs."


def from_validation(error: ValidationError, *, trace_id: str) -> Problem:
    """The problem of a body that does not fit its schema: every bad field with its fix, the first one on
    top."""
    return from_validation_errors(error.errors(include_url=False, include_input=False), trace_id=trace_id)


def from_validation_errors(found: Sequence[Any], *, trace_id: str) -> Problem:
    """The same from the list form, as FastAPI hands it over."""
    by_field = {_path(item["loc"]): item for item in reversed(found)}
    bad = [
        {"field": path, "detail": _sentence(item), "fix": _fix(item)}
        for path, item in reversed(by_field.items())
    ]
    first = bad[0]
    return Problem(
        kind=VALIDATION,
        detail=f"{first['field']}: {first['detail']}",
        field=first["field"],
        fix=first["fix"],
        trace_id=trace_id,
        errors=tuple(bad) if len(bad) > 1 else (),
    )


#: Parts of a location that are not names in a body: where it stands, and members of unions.
_NOT_FIELDS: Final = frozenset({"body", "str", "constrained-str", "tuple"})


def _path(loc: Sequence[str | int]) -> str:
    """`("pin", "context", 0, "text")` -> `pin.context.0.text`; names of union members are left out."""
    shown = [
        str(part) for part in loc if not (isinstance(part, str) and ("[" in part or part in _NOT_FIELDS))
    ]
    return ".".join(shown) or "body"


def _sentence(item: Mapping[str, Any]) -> str:
    return str(item["msg"]).removeprefix("Value error, ").rstrip(".") + "."


def _fix(item: Mapping[str, Any]) -> str:
    context = item.get("ctx", {})
    name = _path(item["loc"])
    match item["type"]:
        case "extra_forbidden":
            return f"Remove {name}, or correct its spelling; see /openapi.json for the fields."
        case "missing":
            return f"Add {name}."
        case "string_too_short" | "too_short":
            return f"Give {name} at least {context.get('min_length', 1)} character(s) or item(s)."
        case "string_too_long" | "too_long":
            return f"Shorten {name} to at most {context.get('max_length')} characters or items."
        case "string_pattern_mismatch":
            return f"Give {name} the form {context.get('pattern')}."
        case "literal_error" | "enum":
            return f"Give {name} one of: {context.get('expected')}."
        case "value_error":
            return f"Correct {name}."
        case kind if kind.startswith(("less_than", "greater_than")):
            return f"Give {name} a number within its limits."
        case _:
            return f"Correct the type of {name}; see /openapi.json."


def _openai_type(status: int) -> str:
    match status:
        case 401:
            return "authentication_error"
        case 403:
            return "permission_error"
        case 429:
            return "rate_limit_error"
        case _ if status < 500:
            return "invalid_request_error"
        case _:
            return "server_error"

"""The OpenAPI 3.1 document: what FastAPI knows of its routes, and the three calls that it does not serve."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.openai_api import IGNORED, ChatBody
from gateway.schemas.answers import AnswerBody, AnswerRequest
from gateway.schemas.search import SearchBody, SearchResponse

_REF: Final = "#/components/schemas/{model}"

PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457. `field` says where to look, `fix` what to do, `trace_id` finds it in logs.",
    "required": ["type", "title", "status", "detail", "field", "fix", "trace_id"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:twinrail:problem:invalid-field"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": ["string", "null"]},
        "fix": {"type": ["string", "null"]},
        "trace_id": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}
_PROBLEMS: Final = {
    "400": "The body is not JSON, or a parameter is not supported.",
    "401": "There is no valid API key.",
    "403": "The key lacks a scope.",
    "413": "The body is too large.",
    "415": "The content type is not `application/json`.",
    "422": "A field is not accepted; `field` names it.",
    "429": "Too many requests; `Retry-After` says when to come back.",
    "503": "A rail cannot be reached.",
    "504": "The deadline passed.",
}
_STREAM: Final = (
    "Server-sent events: `answer.delta` {text}, `answer.citation` (a citation), `answer.completed` "
    "(the answer's body); `error` (a problem) ends a stream that failed. Comments keep silent ones open."
)


def build_openapi(app: FastAPI) -> dict[str, Any]:
    """The document, built once."""
    document = get_openapi(
        title="Twinrail",
        version=app.version,
        openapi_version="3.1.0",
        summary="Cited answers from two rails, each with its own versions, canary and undo.",
        routes=app.routes,
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.update(_schemas(AnswerRequest, AnswerBody, ChatBody, SearchBody, SearchResponse))
    schemas["Problem"] = PROBLEM_SCHEMA
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer tw_...`"},
        "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    document["security"] = [{"bearer": []}, {"header": []}]
    document["paths"] = {
        "/v1/answers": {
            "post": _operation(
                "Ask a question",
                "The native call. One JSON body, or server-sent events with `stream: true`. "
                "Needs the scope `ask`; `pin` needs `eval`.",
                request="AnswerRequest",
                response="AnswerBody",
                stream=_STREAM,
            )
        },
        "/v1/chat/completions": {
            "post": _operation(
                "Ask through the OpenAI API",
                "Official OpenAI clients work with a changed base URL. "
                "Citations are `annotations[].url_citation`, the rest stands under `twinrail`. "
                f"Taken and ignored, because the model version decides: {', '.join(sorted(IGNORED))}. "
                "Refused with 400: tools, functions, n > 1, logprobs, other response formats, "
                "and unknown parameters.",
                request="ChatBody",
                response=None,
                stream="Chunks as OpenAI sends them, then `[DONE]`. After an error there is no `[DONE]`.",
            )
        },
        "/v1/search": {
            "post": _operation(
                "Search without an answer",
                "Hits with the scores of both legs, and how they were found. "
                "Needs the scope `ask`; `version` needs `eval`.",
                request="SearchBody",
                response="SearchResponse",
            )
        },
        **document.get("paths", {}),
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _finish(path, operation)
    return document


def _finish(path: str, operation: dict[str, Any]) -> None:
    """Problems instead of FastAPI's own error bodies; no key where none is asked for."""
    responses = operation.setdefault("responses", {})
    responses.pop("422", None)
    if path.startswith("/v1/"):
        for status, description in _PROBLEMS.items():
            responses[status] = {
                "description": description,
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }
    else:
        operation["security"] = []


def _operation(
    summary: str, description: str, *, request: str, response: str | None, stream: str | None = None
) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{response}"} if response else {"type": "object"}
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if stream:
        content["text/event-stream"] = {"schema": {"type": "string", "description": stream}}
    return {
        "summary": summary,
        "description": description,
        "tags": ["answers"],
        "operationId": summary.lower().replace(" ", "_"),
        "parameters": [
            {
                "name": "x-twinrail-conversation",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "maxLength": 128},
                "description": "Keeps the arms of both rails, where the body names no conversation.",
            }
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{request}"}}},
        },
        "responses": {"200": {"description": "Done.", "content": content}},
    }


def _schemas(*models: type[BaseModel]) -> dict[str, Any]:
    requests: set[type[BaseModel]] = {AnswerRequest, ChatBody, SearchBody}
    _, defined = models_json_schema(
        [(model, "validation" if model in requests else "serialization") for model in models],
        ref_template=_REF,
    )
    definitions: dict[str, Any] = defined["$defs"]
    return definitions

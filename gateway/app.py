"""The ASGI application: three calls as plain ASGI, everything else through FastAPI, and no middleware
classes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from opentelemetry import trace
from starlette.exceptions import HTTPException

from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.openapi import build_openapi
from gateway.problems import (
    INTERNAL,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    Kind,
    Problem,
    from_error,
    from_validation_errors,
)
from gateway.routes import (
    console,
    documents,
    feedback,
    health,
    jobs,
    labels,
    model_versions,
    models,
    rails,
    replicas,
    reports,
    reviews,
    turns,
)
from gateway.state import GatewayState
from gateway.wire import ClientLeftError, Event, Receive, Scope, Send, header, read_json, send_body
from retrieval.errors import RetrievalError
from serving.errors import ServingError

logger = logging.getLogger(__name__)

ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_EXCHANGE: Final = "twinrail.exchange"
#: Asked every few seconds by machines: no spans, no metrics.
_UNTRACED: Final = ("/livez", "/readyz", "/metrics", "/console", "/openapi.json")


def create_app(state: GatewayState) -> ASGIApp:
    """The application around a state."""
    return GatewayApp(state, _rest(state))


class GatewayApp:
    """Sends each request to the hot path or to FastAPI."""

    def __init__(self, state: GatewayState, rest: FastAPI) -> None:
        self._state = state
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection event source: a request, or the server's lifespan."""
        if scope["type"] == "http" and scope["path"] in self._state.hotpath.routes:
            await self._state.hotpath(scope, receive, send)
        elif scope["type"] == "http" and not scope["path"].startswith(_UNTRACED):
            await self._traced(scope, receive, send)
        else:
            await self._rest(scope, receive, send)

    async def _traced(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.begin(scope, receive, send, "(unmatched)")
        scope[_EXCHANGE] = exchange

        async def noted(event: Event) -> None:
            if event["type"] == "http.response.start":
                exchange.status = event["status"]
                event["headers"] = [*event.get("headers", ()), *exchange.headers()]
            await send(event)

        with trace.use_span(
            exchange.span, end_on_exit=False, record_exception=False, set_status_on_exception=False
        ):
            try:
                await self._rest(scope, await self._checked_body(scope, receive), noted)
            except ClientLeftError:
                exchange.client_left = True
            except Exception as exc:  # the boundary of a request
                if not isinstance(exc, GatewayError):
                    logger.exception(
                        "unexpected error", extra={"action": "request_failed", "trace_id": exchange.trace_id}
                    )
                if exchange.status is None:
                    problem = from_error(exc, trace_id=exchange.trace_id)
                    await send_body(
                        noted, status=problem.status, body=problem.encoded(), headers=problem.http_headers()
                    )
            finally:
                exchange.route = _route_of(scope)
                exchange.span.update_name(f"{scope['method']} {exchange.route}")
                exchange.end()

    async def _checked_body(self, scope: Scope, receive: Receive) -> Receive:
        """The body, bounded and known to be JSON before FastAPI sees it; as a receive that gives it once
        more."""
        has_body = header(scope, b"content-length") not in (None, b"0") or header(scope, b"transfer-encoding")
        if scope["method"] not in ("POST", "PUT", "PATCH") or not has_body:
            return receive
        is_large = scope["path"].startswith(("/v1/documents", "/v1/reports"))
        limit = self._state.documents_limit_bytes if is_large else self._state.body_limit_bytes
        value = await read_json(scope, receive, limit=limit)
        return _Replay(orjson.dumps(value), receive)


class _Replay:
    """A receive that gives a body that was read already."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Event:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        return await self._receive()


def _route_of(scope: Scope) -> str:
    """The route's pattern, never the path itself: labels are bounded."""
    route: Any = scope.get("route")
    return str(getattr(route, "path", "(unmatched)"))


def _rest(state: GatewayState) -> FastAPI:
    app = FastAPI(
        title="Twinrail", version="0.1.0", docs_url=None, redoc_url=None, openapi_url="/openapi.json"
    )
    app.state.gateway = state
    for routes in (
        turns,
        labels,
        feedback,
        reviews,
        reports,
        documents,
        jobs,
        models,
        model_versions,
        rails,
        replicas,
        health,
        console,
    ):
        # As they are: `include_router` would make each route once more, 80 ms in all.
        app.router.routes.extend(routes.router.routes)
    for error in (GatewayError, RetrievalError, ServingError):
        app.add_exception_handler(error, _on_error)
    app.add_exception_handler(RequestValidationError, _on_bad_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    document: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not document:
            document.update(build_openapi(app))
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # the documented way to give an own document
    return app


async def _on_error(request: Request, error: Exception) -> Response:
    return _respond(request, from_error(error, trace_id=_trace_id(request)))


async def _on_bad_request(request: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    items = [{**item, "loc": item["loc"][1:] or item["loc"]} for item in found]
    return _respond(request, from_validation_errors(items, trace_id=_trace_id(request)))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    kind, fix = _KINDS.get(status, (Kind(status, "http", "The request failed"), None))
    detail = f"{request.method} {request.url.path}: {kind.title.lower()}."
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return _respond(
        request,
        Problem(
            kind=kind,
            detail=detail,
            field="method" if status == 405 else "path",
            fix=fix,
            trace_id=_trace_id(request),
            headers=headers,
        ),
    )


_KINDS: Final[dict[int, tuple[Kind, str | None]]] = {
    404: (NOT_FOUND, "See /openapi.json for the paths."),
    405: (METHOD_NOT_ALLOWED, "Use a method that the `allow` header names."),
    500: (INTERNAL, None),
}


def _trace_id(request: Request) -> str:
    exchange = request.scope.get(_EXCHANGE)
    return exchange.trace_id if isinstance(exchange, Exchange) else ""


def _respond(request: Request, problem: Problem) -> Response:
    exchange = request.scope.get(_EXCHANGE)
    if isinstance(exchange, Exchange):
        exchange.problem = problem
    response = Response(problem.encoded(), status_code=problem.status)
    for name, value in problem.http_headers():
        response.headers[name.decode()] = value.decode()
    return response

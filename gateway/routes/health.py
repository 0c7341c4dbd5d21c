"""Whether the process lives, whether it can serve, and its metrics. No key needed."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from gateway.state import State

router = APIRouter(tags=["operation"])


@router.get("/livez", response_class=PlainTextResponse)
async def livez() -> str:
    """The process answers; says nothing of what it depends on."""
    return "ok"


@router.get("/readyz", responses={503: {"description": "The stable versions cannot be served."}})
async def readyz(state: State) -> JSONResponse:
    """Whether the stable versions can be served, with the state of each part."""
    ready, report = await state.readiness.report()
    body: dict[str, Any] = report
    return JSONResponse(body, status_code=200 if ready else 503, headers={"cache-control": "no-store"})


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(state: State) -> Response:
    """Prometheus exposition. Runs in a thread: collecting many series takes milliseconds."""
    return Response(state.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

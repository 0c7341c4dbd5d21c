"""Reports of evaluation."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from gateway.access import ApiKey, Scope
from gateway.errors import NotFoundError
from gateway.reports import Page
from gateway.schemas.reports import (
    ReportBody,
    ReportKind,
    ReportList,
    ReportName,
    ReportRow,
    ReportView,
    Sha256,
)
from gateway.state import Caller, State

router = APIRouter(prefix="/v1/reports", tags=["reports"])

Reader = Annotated[ApiKey, Depends(Caller(Scope.REVIEW, Scope.EVAL, Scope.RELEASE))]
Evaluator = Annotated[ApiKey, Depends(Caller(Scope.EVAL))]


@router.put("/{name}")
async def put_report(name: ReportName, body: ReportBody, key: Evaluator, state: State) -> ReportRow:
    """Store a report under a name. An earlier content of the name can still be read by its digest."""
    row = await state.reports.put(
        key.tenant,
        name,
        kind=body.kind.value,
        content=body.content,
        written_by=key.name,
        page=Page(type=body.page.type.value, text=body.page.text) if body.page else None,
    )
    return ReportRow.model_validate(row)


@router.get("")
async def list_reports(
    key: Reader,
    state: State,
    kind: ReportKind | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> ReportList:
    """The tenant's reports without their content, newest first."""
    rows = await state.reports.latest(key.tenant, kind=kind.value if kind else None, limit=limit)
    return ReportList(reports=[ReportRow.model_validate(row) for row in rows])


@router.get("/{name}")
async def read_report(
    name: ReportName, key: Reader, state: State, sha256: Sha256 | None = None
) -> ReportView:
    """A report as it was written last, or the content with this digest."""
    row = await state.reports.read(key.tenant, name, sha256=sha256)
    if row is None:
        told = f" with the digest {sha256}" if sha256 else ""
        raise NotFoundError(
            f"There is no report {name}{told}.", field="name", fix="List them: GET /v1/reports."
        )
    return ReportView.model_validate(row)

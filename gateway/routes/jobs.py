"""What is done in the background, and steering it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from gateway.access import ApiKey, Scope
from gateway.schemas.documents import JobList, JobView
from gateway.state import Caller, State

router = APIRouter(prefix="/v1/jobs", tags=["documents"])

Writer = Annotated[ApiKey, Depends(Caller(Scope.INGEST))]
Reader = Annotated[ApiKey, Depends(Caller(Scope.INGEST, Scope.RELEASE))]


class Move(StrEnum):
    """What can be done with a job."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


@router.get("")
async def latest_jobs(key: Reader, state: State, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> JobList:
    """The tenant's latest jobs, newest first."""
    return JobList(jobs=[JobView.of(job) for job in await state.jobs.jobs(key.tenant, limit=limit)])


@router.get("/{job_id}")
async def read_job(job_id: UUID, key: Reader, state: State) -> JobView:
    """One job: how far it is, and what came of it."""
    return JobView.of(await state.jobs.job(key.tenant, job_id))


@router.post("/{job_id}:{move}")
async def move_job(job_id: UUID, move: Move, key: Writer, state: State) -> JobView:
    """Pause, resume or cancel. A job that is to stop publishes nothing from then on; a resumed one goes on
    where it was. A job that failed can be resumed too."""
    return JobView.of(await state.jobs.move(key.tenant, job_id, move.value))

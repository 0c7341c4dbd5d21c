"""Documents in, by the piece or in batches. Each request becomes a job, which a worker does."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Response

from gateway.access import ApiKey, Scope
from gateway.erasing import purge_document
from gateway.schemas.documents import (
    MAX_BATCH,
    BatchBody,
    DocumentId,
    DocumentList,
    DocumentView,
    HistoryView,
    JobView,
    PutBody,
    Source,
)
from gateway.schemas.erasing import PurgeView
from gateway.state import Caller, State
from retrieval.documents import LONGEST_ID, Access
from retrieval.jobs import Job, Submission

router = APIRouter(prefix="/v1/documents", tags=["documents"])

Writer = Annotated[ApiKey, Depends(Caller(Scope.INGEST))]
#: Evaluation reads what a right answer could have been made from.
Reader = Annotated[ApiKey, Depends(Caller(Scope.INGEST, Scope.EVAL))]
IdInPath = Annotated[DocumentId, Path(description="May hold slashes.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="The same key with the same request is one job, however often it is sent.",
    ),
]


# Before the calls with an id, which would take `:batch` for none of theirs but hides among them.
@router.post(":batch", status_code=202)
async def write_batch(
    body: BatchBody, key: Writer, state: State, response: Response, idempotency_key: IdempotencyKey = None
) -> JobView:
    """Write and take away documents in one publish. A document that cannot be taken in is listed in the job's
    report, and the others go in."""
    sent = [Submission(id=upsert.id, content=upsert.content()) for upsert in body.upserts]
    sent += [Submission.delete(document_id) for document_id in body.deletes]
    job = await state.jobs.submit_documents(
        key.tenant, sent, source=body.source, idempotency_key=idempotency_key
    )
    return _accepted(job, response)


@router.put("/{document_id:path}", status_code=202)
async def write_document(
    document_id: IdInPath,
    body: PutBody,
    key: Writer,
    state: State,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Write one document. Unchanged content costs nothing and makes no snapshot."""
    await state.documents.require_source(key.tenant, document_id, body.source)
    sent = [Submission(id=document_id, content=body.content())]
    job = await state.jobs.submit_documents(
        key.tenant, sent, source=body.source, idempotency_key=idempotency_key
    )
    return _accepted(job, response)


@router.delete("/{document_id:path}", status_code=202)
async def delete_document(
    document_id: IdInPath,
    key: Writer,
    state: State,
    response: Response,
    source: Annotated[Source, Query()] = "api",
    purge: Annotated[
        bool,
        Query(
            description="Erase it for good, at once and also from recorded turns. Needs the scope `admin`."
        ),
    ] = False,
    idempotency_key: IdempotencyKey = None,
) -> JobView | PurgeView:
    """Take a document away. Earlier snapshots still show it; of one that is purged, nothing is left."""
    if purge:
        key.require(Scope.ADMIN)
        response.status_code = 200
        return await purge_document(
            state.knowledge, state.turns, key.tenant, document_id, by=f"key {key.name}"
        )
    await state.documents.require_source(key.tenant, document_id, source)
    job = await state.jobs.submit_documents(
        key.tenant, [Submission.delete(document_id)], source=source, idempotency_key=idempotency_key
    )
    return _accepted(job, response)


@router.get("")
async def list_documents(
    key: Reader,
    state: State,
    after: Annotated[str, Query(description="Only ids behind this one.", max_length=LONGEST_ID)] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_BATCH)] = 200,
) -> DocumentList:
    """The live documents that the key may read, by id; a full page goes on with `after` its last id."""
    access = Access(tenant=key.tenant, principals=key.principals)
    return DocumentList.of(await state.documents.listing(access, after=after, limit=limit))


@router.get("/{document_id:path}")
async def read_document(
    document_id: IdInPath,
    key: Reader,
    state: State,
    history: Annotated[
        bool, Query(description="All versions that there ever were, also of one that is gone.")
    ] = False,
) -> DocumentView | HistoryView:
    """The live version of a document that the key may read."""
    access = Access(tenant=key.tenant, principals=key.principals)
    if history:
        return HistoryView.of(await state.documents.history(access, document_id))
    return DocumentView.of(await state.documents.document(access, document_id))


def _accepted(job: Job, response: Response) -> JobView:
    response.headers["location"] = f"/v1/jobs/{job.id}"
    return JobView.of(job)

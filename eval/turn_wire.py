"""Questions as the gateway takes them, and its answers, turns and hits as evaluation keeps them. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from eval.arms import GOLD_CONTEXT, NO_CONTEXT, Arm
from eval.cases import Case
from eval.documents import PastVersion
from eval.observations import Citation, Draft, Evidence, Observation
from serving.prompting import Passage

_HISTORY_MESSAGES = 40
_MESSAGE_CHARACTERS = 8_000
#: What one pinned passage and one pin may hold.
_PASSAGE_CHARACTERS = 20_000
_TITLE_CHARACTERS = 300
_PINNED_PASSAGES = 20


def pin_body(
    arm: Arm, given: Sequence[tuple[str, PastVersion]], *, case: Case | None = None
) -> dict[str, Any]:
    """The arm's pin; of an arm with gold documents, for a question without any, retrieval as usual. A
    question that comes with its passages is shown these."""
    body: dict[str, Any] = arm.pin.as_body()
    if case is not None and case.passages is not None and arm.pin.context is None:
        body.pop("knowledge", None)
        body["context"] = [passage for _, passage in _passages(given)] or NO_CONTEXT
    if arm.pin.context == GOLD_CONTEXT:
        del body["context"]
        if given:
            body.pop("knowledge", None)
            body["context"] = [passage for _, passage in _passages(given)]
    return body


def _passages(given: Sequence[tuple[str, PastVersion]]) -> list[tuple[str, dict[str, str]]]:
    """Documents as pinned passages, each with its document, as many as a pin may hold."""
    return [
        (
            document_id,
            {
                "title": version.title[:_TITLE_CHARACTERS],
                "text": version.text[start : start + _PASSAGE_CHARACTERS],
                **({"effective_from": version.effective_from} if version.effective_from else {}),
            },
        )
        for document_id, version in given
        for start in range(0, len(version.text), _PASSAGE_CHARACTERS)
    ][:_PINNED_PASSAGES]


def with_documents(seen: Observation, given: Sequence[tuple[str, PastVersion]]) -> Observation:
    """Pinned passages have no document on the wire; here it is known."""
    documents = {f"context:{n}": document for n, (document, _) in enumerate(_passages(given), start=1)}
    return replace(
        seen,
        packed=tuple(replace(item, document_id=documents.get(item.document_id, "")) for item in seen.packed),
        citations=tuple(
            replace(item, document_id=documents.get(item.document_id, "")) for item in seen.citations
        ),
    )


def history_body(case: Case) -> list[dict[str, str]]:
    """Earlier turns as the gateway takes them."""
    return [
        {"role": role, "content": text[:_MESSAGE_CHARACTERS]}
        for role, text in case.history[-_HISTORY_MESSAGES:]
        if role in ("user", "assistant") and text.strip()
    ]


def read_observation(
    body: Mapping[str, Any], turn: Mapping[str, Any], *, case: Case, arm: Arm, wall_ms: float
) -> Observation:
    """An answer's body and its turn record, as one observation."""
    used = turn.get("used") or {}
    usage = body.get("usage") or {}
    feedback = turn.get("feedback") or []
    drafts = used.get("drafts") or []
    return Observation(
        case_id=case.id,
        arm=arm.name,
        turn_id=str(body["id"]),
        status=body["status"],
        answer=body["answer"],
        fields=body.get("fields") or {},
        citations=tuple(
            Citation(
                n=item["n"],
                document_id=item["document_id"],
                quote=item["quote"],
                start=item["start"],
                end=item["end"],
            )
            for item in body.get("citations") or ()
        ),
        retrieved=tuple(dict.fromkeys(hit["document_id"] for hit in used.get("hits") or ())),
        packed=read_evidence(used.get("passages") or ()),
        draft=_read_draft(drafts, arm),
        repaired=any(draft.get("attempt") == "repair" for draft in drafts),
        knowledge_version=(body.get("versions") or {}).get("knowledge") or "",
        model_version=(body.get("versions") or {}).get("model") or "",
        degraded=tuple(body.get("degraded") or ()),
        timings_ms=body.get("timings_ms") or {},
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
        cached_tokens=usage.get("cached_tokens"),
        confidence=(body.get("confidence") or {}).get("retrieval"),
        grounded=(body.get("confidence") or {}).get("grounded"),
        handover=(used.get("handover") or {}).get("reason") or "",
        corrected=any(item.get("corrected_answer") for item in feedback) if feedback else None,
        trace_id=body.get("trace_id") or "",
        asked_at=turn.get("created_at") or "",
        wall_ms=wall_ms,
    )


def _read_draft(drafts: Sequence[Mapping[str, Any]], arm: Arm) -> Draft | None:
    """The pinned model's first output; later drafts are repairs or another model's."""
    first = next((draft for draft in drafts if arm.pin.model in (None, draft.get("model"))), None)
    if first is None:
        return None
    return Draft(
        text=first.get("text") or "",
        failure=first.get("failure") or "",
        finish_reason=first.get("finish_reason") or "",
    )


def read_evidence(rows: Sequence[Mapping[str, Any]]) -> tuple[Evidence, ...]:
    """Hits or passages of the wire, numbered from 1 where they carry no number."""
    return tuple(
        Evidence(
            document_id=row["document_id"],
            passage=Passage(
                n=row.get("n", rank),
                title=row.get("title", ""),
                text=row["text"],
                start=row["start"],
                end=row["end"],
                effective_from=row.get("effective_from") or "",
                heading=row.get("heading") or "",
                weak=bool(row.get("weak")),
            ),
        )
        for rank, row in enumerate(rows, start=1)
    )

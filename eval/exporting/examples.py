"""Training examples of reviewed turns, a JSON object a line.

An example holds what the model was shown and what it should have written, not the rendered prompt: that is
the prompt's of the version that is trained.
"""

from __future__ import annotations

from typing import Any

from eval.exporting.reviewed_turns import ReviewedTurn
from eval.exporting.wanted import Wanted, own_fields, supporting, unsupported, wanted_answer, written
from eval.reviewed import expected_status
from eval.scorers import Scoring

FORMAT = 1


def example_of(reviewed: ReviewedTurn, scoring: Scoring) -> dict[str, Any]:
    """The turn as one example: positive with the wanted answer, negative where only a wrong one is known."""
    turn, seen, review = reviewed.turn, reviewed.seen, reviewed.review
    wanted = wanted_answer(reviewed, scoring)
    answer = None if wanted is None else _answer(wanted, reviewed, scoring)
    return {
        "format": FORMAT,
        "id": example_id(turn.id),
        "kind": "negative" if wanted is None else "positive",
        "question": turn.question,
        "history": [said.model_dump() for said in reviewed.history],
        "passages": [
            {
                "n": item.passage.n,
                "document_id": item.document_id,
                "title": item.passage.title,
                "text": item.passage.text,
                "start": item.passage.start,
                "end": item.passage.end,
                "effective_from": item.passage.effective_from,
                "heading": item.passage.heading,
                "weak": item.passage.weak,
            }
            for item in seen.packed
        ],
        "answer": answer,
        # What the schema asks for and nobody has said: the example is none before somebody fills it in.
        "missing_fields": []
        if answer is None
        else [name for name in scoring.schema.get("required", ()) if name not in answer],
        # Sentences of the wanted answer that the passages do not hold: such an example teaches inventing.
        "unsupported": [] if wanted is None else list(unsupported(wanted.text, reviewed, scoring)),
        # What the model wrote in its place, where something is wrong with it.
        "rejected": None if wanted is not None and not wanted.corrected else written(reviewed, scoring),
        "status": seen.status,
        "expected_status": expected_status(seen, review),
        "task_type": str(seen.fields.get("intent") or ""),
        "label": review.label,
        "sub": review.sub,
        "cluster": review.cluster,
        "asker": turn.asker,
        # What must not be torn apart by a split.
        "conversation_id": turn.conversation_id,
        "created_at": turn.created_at,
        "versions": {
            "knowledge": seen.knowledge_version,
            "model": seen.model_version,
            "prompt": (turn.row.get("versions") or {}).get("prompt"),
        },
        "provenance": {
            "turn_id": turn.id,
            "trace_id": seen.trace_id,
            "evaluation": reviewed.pinned,
            "reviewed_by": review.closed_by,
            "reviewed_at": review.closed_at,
            "ending": review.ending,
            "note": review.note,
            "checked_by": scoring.version,
        },
    }


def _answer(wanted: Wanted, reviewed: ReviewedTurn, scoring: Scoring) -> dict[str, Any]:
    """The task's object around the wanted text. Other fields are the model's if it ended rightly."""
    seen = reviewed.seen
    right = expected_status(seen, reviewed.review) in (None, seen.status)
    fields = scoring.schema.get("properties", {})
    return {
        **{name: value for name, value in own_fields(reviewed).items() if right and name in fields},
        "answer": wanted.text,
        "citations": [item.passage.n for item in supporting(wanted.text, reviewed, scoring)]
        if wanted.corrected
        else sorted({citation.n for citation in seen.citations}),
    }


def example_id(turn_id: str) -> str:
    """The first half of a UUIDv7 is the time, which turns of a busy hour share."""
    return f"turn-{turn_id.replace('-', '')[-12:]}"

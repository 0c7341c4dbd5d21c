"""What retrieval left wrong, and which of it is behaviour alone: wrong with the gold documents too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from eval.advice.evidence import ArmLog, Row
from eval.advice.layers import Layer, behaviour_of, code_of, layer_of
from eval.pilot.comparing_arms import arm_log
from eval.pilot.measuring import Measured

NOT_FIXED = "not-fixed.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfixed:
    """A question that fails with retrieval."""

    row: Row
    #: The label without any documents; "" where the prompt alone was right, so retrieval broke it.
    before: str
    #: The label with the gold documents; "" where they mend it, None where they were not given.
    with_gold: str | None
    #: The same behaviour fails with the gold documents given.
    behaviour_only: bool


def unfixed(measured: Measured, prompt: str, best: str, oracle: str) -> list[Unfixed]:
    """Questions that fail in the best arm with retrieval."""
    arm, golden = arm_log(measured, best), _rows(arm_log(measured, oracle))
    before, oracle_arm = _rows(arm_log(measured, prompt)), arm_log(measured, oracle)
    found = []
    for row in arm.decided:
        if not row.failed:
            continue
        gold, bare = golden.get(row.case_id), before.get(row.case_id)
        found.append(
            Unfixed(
                row=row,
                before=code_of(bare) if bare else "",
                with_gold=code_of(gold) if gold else None,
                behaviour_only=layer_of(row, arm.kind) is Layer.BEHAVIOUR
                and gold is not None
                and layer_of(gold, oracle_arm.kind) is Layer.BEHAVIOUR
                and behaviour_of(gold) == behaviour_of(row),
            )
        )
    return found


def not_fixed_lines(measured: Measured, found: Iterable[Unfixed], best: str) -> bytes:
    """A line for each, with the question and the answer to read."""
    return b"".join(
        orjson.dumps(
            {
                **turn_of(measured, each.row.case_id, best),
                "label": code_of(each.row),
                "contributing": list(each.row.contributing),
                "prompt_only": each.before,
                "with_gold_documents": each.with_gold,
                "behaviour_only": each.behaviour_only,
            }
        )
        + b"\n"
        for each in found
    )


def turn_of(measured: Measured, case_id: str, arm: str) -> dict[str, Any]:
    """The question and what was answered, as a reader needs them."""
    case = next(case for case in measured.data.cases if case.id == case_id)
    seen = measured.data.observations[case_id, arm]
    return {
        "id": case.id,
        "cluster": case.topic,
        "question": case.text,
        "history": [{"role": role, "text": text} for role, text in case.history],
        "turn_id": seen.turn_id,
        "status": seen.status,
        "answer": seen.answer,
        "draft": seen.draft.text if seen.draft else "",
        "gold": list(case.gold),
        "facts": [list(fact) for fact in case.facts],
        "passages": [asdict(item.passage) for item in seen.packed],
    }


def _rows(arm: ArmLog) -> dict[str, Row]:
    return {row.case_id: row for row in arm.decided}


def rows_failing(arm: ArmLog, behaviours: Sequence[str]) -> list[Row]:
    """Failures of these behaviours."""
    return [
        row
        for row in arm.decided
        if layer_of(row, arm.kind) is Layer.BEHAVIOUR and behaviour_of(row) in behaviours
    ]

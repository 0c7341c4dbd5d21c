"""What a labelling puts through the gateway: labels and scores beside its turns, the counts as a report."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from eval.answer_scores import AnswerScorer
from eval.client import GatewayClient
from eval.labelling.labels import LabelRecord, Outcome
from eval.labelling.records import AUTO
from eval.record import RunData
from eval.scorers import NotApplicable, Score, Scoring
from eval.scorers import Outcome as Scored

_ODD = re.compile(r"[^A-Za-z0-9._-]")
#: The gateway keeps names of reports this short.
_LONGEST_NAME = 200


async def send(
    client: GatewayClient,
    data: RunData,
    scoring: Scoring,
    records: Sequence[LabelRecord],
    report: Mapping[str, Any],
    *,
    markdown: str,
    at_once: int,
) -> None:
    """The rules' labels and the metrics of every turn that was judged; people's own are there already."""
    askers = {case.id: case.asker for case in data.cases}
    scorer = AnswerScorer(data, scoring)
    gate = asyncio.Semaphore(at_once)

    async def put(record: LabelRecord) -> None:
        asker = askers[record.case_id]
        scores = score_rows(scorer.score(data.observations[record.case_id, record.arm]), scoring.version)
        async with gate:
            await client.put_labels(record.turn_id, label_body(record), asker=asker)
            if scores:
                await client.put_scores(record.turn_id, scores, asker=asker)

    judged = [
        record for record in records if record.source == AUTO and record.outcome is not Outcome.RUN_ERROR
    ]
    await asyncio.gather(*(put(record) for record in judged))
    name = _ODD.sub("-", f"labels-{data.record.id}")[:_LONGEST_NAME]
    await client.put_report(name, kind="run", content=report, markdown=markdown)


def score_rows(outcomes: Mapping[str, Scored], version: str) -> list[dict[str, Any]]:
    """Scores as `PUT /v1/turns/{id}/scores` takes them. What could not be told is null, which is not 0."""
    rows: list[dict[str, Any]] = []
    for name, outcome in outcomes.items():
        if isinstance(outcome, NotApplicable):
            continue
        value, detail = (
            (outcome.value, outcome.detail) if isinstance(outcome, Score) else (None, outcome.reason)
        )
        rows.append({"name": name, "value": value, "detail": detail, "version": version})
    return rows


def label_body(record: LabelRecord) -> dict[str, Any]:
    """A label as `PUT /v1/turns/{id}/labels` takes it; a turn that passed has none."""
    primary = record.primary
    return {
        "label": primary.label if primary else None,
        "sub": primary.sub if primary else "",
        "rule": primary.rule if primary else "",
        "contributing": [
            {"label": finding.label, "sub": finding.sub, "rule": finding.rule}
            for finding in record.contributing
        ],
        "checks": [asdict(check) for check in record.checks],
        "criteria": record.criteria,
        "source": record.source,
        "reviewer": record.reviewer,
        "note": record.note,
        "cluster": record.cluster,
    }

"""Reads the logs of a run from its folder: the labels, the report's figures, and what each answer took."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from eval.advice.engine_time import engine_shares
from eval.advice.evidence import ArmLog, CaseUsage, Logs, MetricFigure, settle
from eval.arms import Arm
from eval.errors import RunError
from eval.labelling.records import LabelFile
from eval.observations import Observation
from eval.record import RunData, RunFolder, RunRecord
from serving.pricing import TokenCounts
from serving.versions import prompt_definition, sha256_of

_REPORT_FILE = "report.json"
_RETRIEVAL = "retrieval"
_HANDED_OFF = ("escalated", "fallback")


def read_logs(folder: RunFolder) -> Logs:
    """The logs of a run that was labelled. The report is optional: without it no metric is shown."""
    data = folder.read()
    labels = LabelFile(folder.path)
    path = labels.path
    if not labels.exists:
        raise RunError(f"{path}: not there; run `twinrail eval label {folder.path}` first")
    settled = settle(labels.read())
    if not settled.rows:
        raise RunError(f"{path}: holds no label; run `twinrail eval label {folder.path}` again")
    metrics = _metrics(folder.path / _REPORT_FILE)
    known = {arm.name for arm in data.record.arms}
    unknown = sorted(settled.rows.keys() - known)
    if unknown:
        raise RunError(f"{path}: arm {unknown[0]!r} is not one of the run; label the run again")
    return Logs(
        run=data.record.id,
        question_set_sha256=data.record.question_set_sha256,
        labels_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        criteria=settled.criteria,
        agreement=settled.agreement,
        arms=tuple(
            ArmLog(
                name=arm.name,
                kind=arm.kind,
                model=arm.pin.model or "",
                prompt_sha256=_prompt_sha256(arm, data.record),
                rows=settled.rows[arm.name],
                metrics=metrics.get(arm.name, {}),
                usage=usage_in(data, arm.name),
            )
            for arm in data.record.arms
            if arm.name in settled.rows
        ),
    )


def _prompt_sha256(arm: Arm, record: RunRecord) -> str:
    """Of the prompt that was tried in the arm, else of the model version's own as the gateway told it."""
    if arm.pin.prompt is not None:
        return sha256_of(prompt_definition(arm.pin.prompt))
    return record.prompts.get(arm.pin.model or "", "")


def _metrics(path: Path) -> dict[str, dict[str, MetricFigure]]:
    if not path.exists():
        return {}
    try:
        arms: Mapping[str, Any] = orjson.loads(path.read_bytes())["arms"]
        return {
            arm: {name: _metric(name, row) for name, row in found["metrics"].items()}
            for arm, found in arms.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise RunError(f"{path}: not a report of this version ({exc}); run `twinrail eval score`") from exc


def _metric(name: str, row: Mapping[str, Any]) -> MetricFigure:
    return MetricFigure(
        name=name,
        title=row["title"],
        group=row["group"],
        higher_is_better=row["higher_is_better"],
        k=row["k"],
        n=row["n"],
        low=row.get("low"),
        high=row.get("high"),
    )


def usage_in(data: RunData, arm: str) -> tuple[CaseUsage, ...]:
    """What each answer of an arm took. All arms of a run share the engine, and so do repeats."""
    shares = engine_shares({**data.observations, **data.repeated})
    topics = {case.id: case.topic for case in data.cases}
    return tuple(
        usage_of(case_id, seen, cluster=topics[case_id], engine_share=shares[case_id, arm])
        for (case_id, name), seen in sorted(data.observations.items())
        if name == arm and not seen.failed
    )


def usage_of(case_id: str, seen: Observation, *, cluster: str = "", engine_share: float = 1.0) -> CaseUsage:
    """What one answer took. An abstention before generation took no tokens, which is known, not missing."""
    prompt, completion, cached = seen.prompt_tokens, seen.completion_tokens, seen.cached_tokens
    tokens = None
    if prompt is not None and completion is not None:
        tokens = TokenCounts(prompt=prompt, cached=min(cached or 0, prompt), completion=completion)
    return CaseUsage(
        case_id=case_id,
        tokens=tokens,
        cached_known=cached is not None,
        retrieval_ms=seen.timings_ms.get(_RETRIEVAL),
        handed_off=seen.status in _HANDED_OFF,
        first_token_ms=seen.timings_ms.get("first_token"),
        generation_ms=seen.timings_ms.get("generation"),
        engine_share=engine_share,
        cluster=cluster,
    )

"""Read the `report.json` of `twinrail tune evaluate` as the verdict that it is, and refuse any other file.

Whoever can write a file can write a report. What is checked is that it is one: complete, in agreement with
itself, and with the digest under which it was written. A verdict that the gateway recorded outweighs it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from eval.tuning.contest import CANDIDATE
from serving.errors import VerdictError
from serving.tuning.registering import NOT_ENOUGH, PASS, REFUSED, Verdict

GATE = "tuning"
_FORMAT = 1
_FIX = "give the report.json that `twinrail tune evaluate` wrote, as it wrote it"
#: What a verdict rests on, and how it is written.
_FIGURES: Mapping[str, type] = {
    "sentence": str,
    "refusals": list,
    "lacks": list,
    "arms": dict,
    "question_set": dict,
    "trained_on": dict,
    "metrics": list,
    "gates": dict,
    "rules": dict,
}


def read_verdict_file(path: Path, *, dataset_sha256: str | None) -> Verdict:
    """The verdict of the file; raises VerdictError with field and fix.

    `dataset_sha256` is of the rows that the candidate was trained on: a report that held its questions
    against other rows says nothing of what it has seen.
    """
    report = _read(path)
    for field, wanted in (("format", _FORMAT), ("gate", GATE)):
        if report.get(field) != wanted:
            raise VerdictError(f"{path}: {field}: is {_shown(report, field)}, not {wanted!r}; {_FIX}")
    for field in ("version", "verdict", "sha256"):
        if not isinstance(report.get(field), str):
            raise VerdictError(f"{path}: {field}: is {_shown(report, field)}, not a text; {_FIX}")
    if report["verdict"] not in (PASS, REFUSED, NOT_ENOUGH):
        raise VerdictError(
            f"{path}: verdict: {report['verdict']!r} is none of {PASS}, {REFUSED}, {NOT_ENOUGH}; {_FIX}"
        )
    for field, kind in _FIGURES.items():
        if not isinstance(report.get(field), kind):
            raise VerdictError(f"{path}: {field}: is {_shown(report, field)}; {_FIX}")
    digest = _digest(report)
    if report["sha256"] != digest:
        raise VerdictError(
            f"{path}: sha256: is {report['sha256'][:12]}, and the report hashes to {digest[:12]}: it was "
            f"edited; {_FIX}"
        )
    _require_agreement(path, report)
    if report["verdict"] == PASS:
        _require_evidence(path, report, dataset_sha256)
    return Verdict(
        gate=GATE, version=report["version"], verdict=report["verdict"], report=path.name, sha256=digest
    )


def _require_agreement(path: Path, report: Mapping[str, Any]) -> None:
    """The candidate that was asked is the version, and the verdict is what its reasons say."""
    candidate = report["arms"].get(CANDIDATE)
    asked = candidate.get("version") if isinstance(candidate, Mapping) else None
    if asked != report["version"]:
        raise VerdictError(
            f"{path}: arms.{CANDIDATE}.version: is {asked!r}, and the verdict is about "
            f"{report['version']!r}; {_FIX}"
        )
    said = REFUSED if report["refusals"] else NOT_ENOUGH if report["lacks"] else PASS
    if said != report["verdict"]:
        reasons = "refusals" if report["refusals"] or report["verdict"] == REFUSED else "lacks"
        raise VerdictError(
            f"{path}: verdict: is {report['verdict']}, and {reasons} says {said}; evaluate again"
        )


def _require_evidence(path: Path, report: Mapping[str, Any], dataset_sha256: str | None) -> None:
    """A pass names the questions and the comparisons that it rests on."""
    questions, trained = report["question_set"], report["trained_on"]
    if not _is_count(questions.get("questions")) or not isinstance(questions.get("sha256"), str):
        raise VerdictError(
            f"{path}: question_set: names no questions and no sha256 of them; evaluate again (`twinrail tune "
            "evaluate`)"
        )
    if not _is_count(trained.get("rows")):
        raise VerdictError(
            f"{path}: trained_on.rows: nobody has looked whether the questions were trained on; evaluate "
            "again with --dataset"
        )
    if dataset_sha256 is not None and trained.get("sha256") != dataset_sha256:
        raise VerdictError(
            f"{path}: trained_on.sha256: is {str(trained.get('sha256'))[:12]}, and this run was trained on "
            f"{dataset_sha256[:12]}; evaluate again with --dataset of that"
        )
    for field in ("metrics", "gates"):
        if not report[field]:
            raise VerdictError(f"{path}: {field}: is empty, so nothing was compared; {_FIX}")
    for name, decision in report["gates"].items():
        said = decision.get("verdict") if isinstance(decision, Mapping) else None
        if said != PASS:
            raise VerdictError(f"{path}: gates.{name}.verdict: is {said!r}, not {PASS!r}; evaluate again")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        report = orjson.loads(path.read_bytes())
    except OSError as exc:
        raise VerdictError(f"{path}: cannot be read: {exc.strerror}; {_FIX}") from exc
    except ValueError as exc:
        raise VerdictError(f"{path}: not JSON; {_FIX}") from exc
    if not isinstance(report, Mapping):
        raise VerdictError(f"{path}: holds no JSON object; {_FIX}")
    return report


def _digest(report: Mapping[str, Any]) -> str:
    content = {name: value for name, value in report.items() if name != "sha256"}
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _shown(report: Mapping[str, Any], field: str) -> str:
    if field not in report:
        return "missing"
    text = repr(report[field])
    return text if len(text) <= 40 else f"{text[:37]}..."

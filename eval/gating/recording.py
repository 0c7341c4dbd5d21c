"""A decision written down: in the run's folder, and in the registry that promotion asks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from eval.gating.gate_report import markdown_decision, with_section
from eval.gating.rules import GateRules
from eval.gating.sides import Side
from eval.gating.verdicts import Decision
from eval.record import RunFolder, RunRecord

_REPORT = "report.md"
#: As the gateway takes them.
_LONGEST_NAME = 120


class Recorder(Protocol):
    """What recording needs of a gateway."""

    async def put_report(
        self, name: str, *, kind: str, content: Mapping[str, Any], markdown: str = ""
    ) -> str:
        """Store a report under a name; its digest."""
        ...

    async def put_verdict(
        self, rail: str, version: str, *, gate: str, verdict: str, report: str, sha256: str
    ) -> None:
        """Store the outcome of a gate beside the version."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """A decision with all that is needed to make it again."""

    name: str
    content: Mapping[str, Any]
    markdown: str

    @property
    def sha256(self) -> str:
        """Of the content in canonical JSON. The same runs and rules give the same digest."""
        return hashlib.sha256(orjson.dumps(self.content, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def write(self, folder: RunFolder) -> Path:
        """Into the run's folder: all of it as JSON, and a section of the run's report."""
        path = folder.write(
            f"{self.name}.json", orjson.dumps(self.content, option=orjson.OPT_INDENT_2).decode()
        )
        report = folder.path / _REPORT
        before = report.read_text(encoding="utf-8") if report.is_file() else ""
        folder.write(_REPORT, with_section(before, self.markdown))
        return path

    async def record(self, recorder: Recorder, decision: Decision) -> None:
        """The report first: a verdict never points to one that is not there."""
        sha256 = await recorder.put_report(
            self.name, kind="gate", content=self.content, markdown=self.markdown
        )
        await recorder.put_verdict(
            decision.subject.rail,
            decision.subject.version,
            gate=decision.gate,
            verdict=decision.verdict,
            report=self.name,
            sha256=sha256,
        )


def report_on(
    decision: Decision, rules: GateRules, *, record: RunRecord, stable: Side, candidate: Side
) -> GateReport:
    """The report of a decision about an arm of this run."""
    content = {
        **decision.as_json(),
        "rules": rules.model_dump(mode="json", exclude={"regression"}),
        "question_set": {
            "name": record.question_set,
            "sha256": record.question_set_sha256,
            "selection": dict(record.selection),
        },
        "arms": {
            role: {"run": Path(side.run).name, "name": side.arm.name, "pin": side.arm.pin.as_body()}
            for role, side in (("stable", stable), ("candidate", candidate))
        },
        "repeats": min(stable.flips.repeats, candidate.flips.repeats),
    }
    # Through JSON once, so that what is hashed is what a reader of the stored report gets.
    plain = orjson.loads(orjson.dumps(content))
    name = re.sub(r"[^a-z0-9-]+", "-", f"gate-{decision.gate}-{decision.subject.version}-{record.id}".lower())
    return GateReport(name=name[:_LONGEST_NAME], content=plain, markdown=markdown_decision(decision))

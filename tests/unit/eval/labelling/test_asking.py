"""What failed questions are asked again for."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from eval.arms import Arm
from eval.cases import Case, CaseSet
from eval.client import GatewayClient
from eval.labelling.asking import add_reruns
from eval.labelling.corpus import CorpusFile
from eval.observations import Observation, Ranking
from eval.record import RunFolder
from eval.run import measure, plan
from tests.unit.eval.labelling.turns import CASE, RAG, RANKING, SCORING, SEEN, corpus, history

CASES = CaseSet.of("set", [CASE, replace(CASE, id="plans-02", topic="other")])


@dataclass
class Gateway:
    """Passes every question on; the first one by a rule."""

    askers: frozenset[str] = frozenset({"customer"})
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def answer(self, case: Case, arm: Arm) -> Observation:
        self.asked.append((case.id, arm.name))
        by_rule = "legal" if case.id == CASE.id else ""
        return replace(SEEN, case_id=case.id, arm=arm.name, status="escalated", handover=by_rule)

    async def search(self, case: Case, knowledge: str, *, depth: int) -> Ranking:
        return replace(RANKING, case_id=case.id, knowledge=knowledge)

    async def pointers(self) -> dict[str, Any]:
        return {}


async def test_what_a_rule_passed_on_is_not_asked_again(tmp_path: Path) -> None:
    folder, gateway = RunFolder(tmp_path / "run"), Gateway()
    record = plan(
        run_id="run",
        gateway_url="http://gateway.invalid",
        cases=CASES,
        selection={},
        requested=(RAG,),
        arms=(RAG,),
        stable_knowledge="k-a-1@7",
    )
    folder.create(record, CASES)
    data = await measure(folder, gateway, concurrency=1, out=io.StringIO())
    CorpusFile(folder.path).write(corpus(history("Sync Plus is $9 a month.")))
    gateway.asked.clear()
    await add_reruns(folder, data, SCORING, cast(GatewayClient, gateway), at_once=1, out=io.StringIO())
    assert {case_id for case_id, _ in gateway.asked} == {"plans-02"}

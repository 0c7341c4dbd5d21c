"""Turns to label: one question about a price, with everything right unless it is said otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from eval.arms import Arm, Pin
from eval.cases import Case
from eval.documents import DocumentHistory, PastVersion, Release
from eval.labelling.corpus import Corpus
from eval.labelling.evidence import Turn
from eval.observations import Citation, Draft, Evidence, Observation, Ranking
from eval.scorers import Scoring, Subject
from eval.scoring import build_scoring
from serving.prompting import Passage
from serving.versions import SCHEMAS

SCORING: Scoring = build_scoring(schema=SCHEMAS / "support_answer.json")
TEXT = "Sync Plus is $9 a month or $90 a year.\nThe free trial of Sync Plus lasts 14 days."
OLD_TEXT = "Sync Plus is $8 a month or $80 a year."
RIGHT = "Sync Plus is $9 a month."
FOUND_NOTHING = next(each for each in SCORING.wordings if each.startswith("I can't find that"))
FAILED = next(each for each in SCORING.wordings if "reliably" in each)
CASE = Case(
    id="plans-01",
    topic="plans",
    split="dev",
    text="How much is Sync Plus a month?",
    kind="answerable",
    gold=("plus",),
    facts=(("$9",),),
    stale_values=("$8",),
    status="answered",
    intent="billing",
    escalate=False,
    escalation_reason="none",
)
RAG = Arm(name="rag_tuned", pin=Pin(knowledge="k-a-1@7", model="m-a-1"), stated="hybrid")
PROMPT_ONLY = Arm(name="prompt_only", pin=Pin(model="m-b-1", context="none"), stated="prompt")


def evidence(document_id: str, text: str, n: int = 1, title: str = "Sync Plus: prices") -> Evidence:
    passage = Passage(n=n, title=title, text=text, start=0, end=len(text))
    return Evidence(document_id=document_id, passage=passage)


def draft(answer: str, **changes: Any) -> str:
    fields = {
        "answer": answer,
        "citations": [1],
        "intent": "billing",
        "escalate": False,
        "escalation_reason": "none",
        "follow_up": "",
    }
    return orjson.dumps(fields | changes).decode()


SEEN = Observation(
    case_id=CASE.id,
    arm=RAG.name,
    turn_id="t-1",
    status="answered",
    answer=RIGHT,
    fields={"intent": "billing", "escalate": False, "escalation_reason": "none"},
    citations=(Citation(n=1, document_id="plus", quote="Sync Plus is $9 a month", start=0, end=23),),
    retrieved=("plus", "other"),
    packed=(evidence("plus", TEXT),),
    draft=Draft(text=draft(RIGHT), finish_reason="stop"),
    knowledge_version="k-a-1@7",
    model_version="m-a-1",
    asked_at="2026-11-20T10:00:00+00:00",
    wall_ms=900.0,
)
OTHERS = (evidence("other", "Sync Team is for firms and groups.", title="Sync Team"),)
RANKING = Ranking(case_id=CASE.id, knowledge="k-a-1@7", hits=(evidence("plus", TEXT), *OTHERS))


def history(
    *texts: str,
    document_id: str = "plus",
    readers: tuple[str, ...] = ("customer", "staff"),
    since: tuple[str, ...] = (),
    until: str = "",
    live: bool = True,
) -> DocumentHistory:
    """Versions that took each other's place at the snapshots 1, 2 and so on; snapshot 7 is the newest."""
    count = len(texts)
    return DocumentHistory(
        id=document_id,
        head=7,
        readers=readers,
        versions=tuple(
            PastVersion(
                version=n,
                title="Sync Plus: prices",
                text=text,
                effective_from=since[n - 1] if since else "",
                effective_to=until if n == count else "",
                releases=(Release(born=n, died=None if n == count and live else n + 1),),
            )
            for n, text in enumerate(texts, start=1)
        ),
    )


def corpus(*histories: DocumentHistory, staff_only: dict[str, tuple[str, ...]] | None = None) -> Corpus:
    return Corpus(documents={each.id: each for each in histories}, staff_only=staff_only or {})


def turn(
    *,
    case: Case = CASE,
    arm: Arm = RAG,
    ranking: Ranking | None = RANKING,
    known: Corpus | None = None,
    **seen: Any,
) -> Turn:
    """A turn with an observation that differs in the given fields."""
    return Turn(
        subject=Subject(
            case=case, seen=replace(SEEN, arm=arm.name, **seen), ranking=ranking, retrieves=arm.retrieves
        ),
        arm=arm,
        scoring=SCORING,
        corpus=corpus(history(TEXT)) if known is None else known,
    )


def abstained(**changes: Any) -> dict[str, Any]:
    """The fields of an abstention before which nothing useful was found."""
    return {
        "status": "abstained",
        "answer": FOUND_NOTHING,
        "citations": (),
        "packed": OTHERS,
        "draft": Draft(
            text=draft(FOUND_NOTHING, escalation_reason="not_in_help_centre"), finish_reason="stop"
        ),
    } | changes


def kept_back(text: str, failure: str, **changes: Any) -> dict[str, Any]:
    """The fields of a turn whose draft was not used: the customer got a fixed wording."""
    return {
        "status": "fallback",
        "answer": FAILED,
        "citations": (),
        "draft": Draft(text=text, failure=failure, finish_reason="stop"),
    } | changes

"""What counts as a number of live traffic, and what is missing from it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from eval.online.measuring import GroupBy, Line, Source, measure_online
from eval.online.online_report import online_json, online_text
from eval.online.recorded import LiveTurn, Recording, Window, live_turn
from eval.scoring import build_scoring
from serving.versions import SCHEMAS

SCORING = build_scoring(schema=SCHEMAS / "support_answer.json")
WINDOW = Window(since=datetime(2026, 3, 1, tzinfo=UTC), until=datetime(2026, 3, 8, tzinfo=UTC))
DRAFT = (
    '{"answer": "Sync Plus costs $9.", "citations": [1], "intent": "billing", "escalate": false, '
    '"escalation_reason": "none", "follow_up": ""}'
)


def turn(
    number: int,
    *,
    model: str = "m-a-00000001",
    answered: bool = True,
    failure: str | None = None,
    document: str = "plus",
    rating: str | None = None,
    review: dict[str, Any] | None = None,
    conversation: str | None = None,
) -> LiveTurn:
    text = "Sync Plus costs $9."
    row = {
        "id": f"{number:032x}",
        "conversation_id": conversation or f"c-{number}",
        "question": "What does Sync Plus cost?",
        "created_at": "2026-03-02T09:00:00Z",
        "status": "answered" if answered else "failed",
        "versions": {"knowledge": "k-a-00000001@7", "model": model},
        "feedback": [{"rating": rating, "corrected_answer": None}] if rating else [],
        "used": {
            "hits": [{"document_id": document}],
            "passages": [
                {"n": 1, "document_id": document, "title": "", "text": text, "start": 0, "end": len(text)}
            ],
            "drafts": [
                {
                    "model": model,
                    "text": DRAFT[:20] if failure else DRAFT,
                    "failure": failure,
                    "attempt": "first",
                }
            ],
        },
        "answer": {
            "id": f"{number:032x}",
            "status": "answered",
            "answer": text,
            "citations": [{"n": 1, "document_id": document, "quote": text, "start": 0, "end": 19}],
            "timings_ms": {"total": float(number)},
        }
        if answered
        else None,
    }
    said = {
        "state": "closed",
        "reasons": ["sample"],
        "label": None,
        "sub": "",
        "ending": "no_fault",
        "corrected_answer": None,
        "note": "",
        "cluster": "",
        "closed_by": "ann",
        "closed_at": "2026-03-03T09:00:00Z",
    }
    return live_turn(row, asker="customer", review=None if review is None else {**said, **review})


def lines(turns: list[LiveTurn], *, floor: int = 1) -> dict[tuple[str, Source], Line]:
    (group,) = measure_online(
        Recording(turns=tuple(turns), cut=False), WINDOW, SCORING, by=GroupBy.PAIR, floor=floor
    ).groups
    return {(line.metric.name, line.source): line for line in group.lines}


def test_what_is_missing_is_in_neither_k_nor_n() -> None:
    cut = turn(1, failure="unsupported")
    found = lines([turn(2), turn(3), cut])[("format_valid", Source.TURNS)]
    assert found.rate is not None
    assert (found.rate.k, found.rate.n, found.thin) == (2, 2, "")
    assert dict(found.missing) == {"the gateway stopped the draft at an unsupported sentence": 1}
    mostly = lines([turn(2), turn(3, failure="unsupported"), cut])[("format_valid", Source.TURNS)]
    assert mostly.thin == "2 could not be told, 1 could"


def test_erased_and_unanswered_turns_are_counted_and_not_judged() -> None:
    turns = [turn(1), turn(2, document="erased"), turn(3, answered=False)]
    (group,) = measure_online(
        Recording(turns=tuple(turns), cut=False), WINDOW, SCORING, by=GroupBy.PAIR, floor=1
    ).groups
    assert (group.turns, group.erased) == (3, 1)
    assert group.statuses == {"answered": 2, "failed": 1}
    tone = next(line for line in group.lines if line.metric.name == "tone_kept")
    assert tone.rate is not None
    assert (tone.rate.n, sum(tone.missing.values())) == (1, 1)


def test_only_reviews_of_the_sample_decide() -> None:
    chosen = turn(1, review={"reasons": ["negative_feedback"], "label": "wrong_retrieval"})
    drawn = turn(2, review={"reasons": ["low_confidence", "sample"]})
    waiting = turn(3, review={"state": "second"})
    hit = lines([chosen, drawn, waiting])[("hit", Source.REVIEWS)]
    assert hit.rate is not None
    assert (hit.rate.k, hit.rate.n) == (1, 1)


def test_reviews_of_what_looks_bad_only_are_no_rate_of_the_sample() -> None:
    waiting, bad = {"state": "open"}, {"reasons": ["sample", "negative_feedback"]}
    noticed = [turn(number, review={**bad, "label": "wrong_retrieval"}) for number in range(1, 7)]
    others = [turn(number, review=waiting) for number in range(10, 20)]
    recording = Recording(turns=(*noticed, *others), cut=False)
    online = measure_online(recording, WINDOW, SCORING, by=GroupBy.PAIR, floor=1)
    (group,) = online.groups
    assert group.uneven.startswith("6 of 6 sampled turns are read that something else put into the queue too")
    assert "0 of 10 others" in online_text(online)
    hit = next(line for line in group.lines if (line.metric.name, line.source) == ("hit", Source.REVIEWS))
    assert hit.thin == "what is reviewed is no fair part of the sample"
    assert lines([*noticed, *others])["tone_kept", Source.TURNS].thin == "", "what stands on all turns stays"

    half = [turn(number, review=waiting if number % 2 else {}) for number in range(10, 20)]
    assert lines([*noticed[:3], turn(4, review={**bad, **waiting}), *half])["hit", Source.REVIEWS].thin == ""


def test_without_a_closed_review_a_line_says_so() -> None:
    hit = lines([turn(1)], floor=30)[("hit", Source.REVIEWS)]
    assert (hit.rate, hit.thin) == (None, "0 of the 30 that are needed")


def test_turns_of_one_conversation_are_no_independent_ones() -> None:
    apart = lines([turn(number) for number in range(40)])["format_valid", Source.TURNS]
    twice = [turn(number, conversation=f"c-{number // 2}") for number in range(40)]
    together = lines(twice)["format_valid", Source.TURNS]
    assert apart.rate is not None
    assert together.rate is not None
    assert (together.rate.n, together.rate.clusters) == (40, 20)
    assert together.rate.interval.low < apart.rate.interval.low
    online = measure_online(
        Recording(turns=tuple(twice), cut=False), WINDOW, SCORING, by=GroupBy.PAIR, floor=1
    )
    assert "40 turns (answered 40) of 20 conversations" in online_text(online)
    (group,) = online_json(online)["groups"]
    assert group["conversations"] == 20
    assert {line["conversations"] for line in group["metrics"] if line["source"] == "turns"} == {20}

    alone = lines([turn(number, conversation="c") for number in range(40)])["format_valid", Source.TURNS]
    assert alone.thin == "all of one conversation"


def test_groups_and_times() -> None:
    turns = [turn(number) for number in range(1, 22)] + [turn(99, model="m-b-00000001", rating="down")]
    recording = Recording(turns=tuple(turns), cut=True)
    online = measure_online(recording, WINDOW, SCORING, by=GroupBy.MODEL, floor=20)
    assert [(group.model, group.turns) for group in online.groups] == [
        ("m-a-00000001", 21),
        ("m-b-00000001", 1),
    ]
    (stage,) = online.groups[0].stages
    assert (stage.n, stage.median_ms) == (21, 11)
    assert stage.p95_ms is not None
    assert stage.p95_ms > 19
    text = online_text(online)
    assert "the latest only: raise --limit" in text
    assert "feedback: down 1 (who writes chooses: no rate)" in text
    (first, second) = online_json(online)["groups"]
    valid = {metric["name"]: metric for metric in first["metrics"]}["format_valid"]
    assert (valid["k"], valid["n"]) == (21, 21)
    thin = {metric["name"]: metric for metric in second["metrics"]}["format_valid"]
    assert (thin["n"], "value" in thin) == (1, False)
    whole = measure_online(recording, WINDOW, SCORING, by=GroupBy.NONE, floor=20)
    assert [group.turns for group in whole.groups] == [22]


def test_nothing_at_all_is_not_enough() -> None:
    online = measure_online(Recording(turns=(), cut=False), WINDOW, SCORING, by=GroupBy.PAIR, floor=30)
    assert online.thin == ("0 turns; at least 30 are needed",)
    assert "NOT ENOUGH EVIDENCE" in online_text(online)

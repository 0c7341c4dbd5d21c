"""Figures of two versions on made rankings, and the report that shows them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest

from eval.cases import Case
from eval.comparing import Query, Searched, Sides
from eval.differences import Found, VersionComparison, compare_versions
from eval.observations import Evidence, Ranking
from eval.versions_report import versions_json, versions_text
from serving.prompting import Passage

SIDES = Sides(first="k-a-1@7", second="k-b-1@7")


def ranking(side: str, documents: Sequence[str], *, confidence: float = 0.5, error: str = "") -> Ranking:
    hits = tuple(
        Evidence(
            document_id=document,
            passage=Passage(n=n, title="", text="x", start=0, end=1, effective_from=""),
        )
        for n, document in enumerate(documents, start=1)
    )
    return Ranking(
        case_id="",
        knowledge=side,
        hits=() if error else hits,
        error=error,
        confidence=None if error else confidence,
        abstain_below=0.3,
        timings_ms={"embed": 2.0, "search": 3.0},
        wall_ms=9.0,
    )


def searched(
    n: int,
    first: Sequence[str],
    second: Sequence[str],
    *,
    gold: tuple[str, ...] = ("g",),
    kind: str = "",
    confidence: tuple[float, float] = (0.5, 0.5),
    error: str = "",
) -> Searched:
    case = Case(id=f"q{n:02d}", topic=f"t{n}", split="all", text=f"question {n}", kind=kind, gold=gold)
    return Searched(
        query=Query(case=case),
        first=ranking(SIDES.first, first, confidence=confidence[0]),
        second=ranking(SIDES.second, second, confidence=confidence[1], error=error),
    )


def compared(rows: Sequence[Searched], *, k: int = 10, min_questions: int = 2) -> VersionComparison:
    return compare_versions(rows, SIDES, k=k, min_questions=min_questions, resamples=400, seed=1)


def test_a_version_that_finds_more_is_told_apart() -> None:
    rows = [searched(n, ["x", "g"], ["g", "x"]) for n in range(12)] + [
        searched(n, ["g", "x"], ["g", "x"]) for n in range(12, 20)
    ]
    found = compared(rows)
    assert found.quality is not None
    ndcg, hit, recall, mrr = found.quality.figures
    second_place = 1 / math.log2(3)
    assert ndcg.first == pytest.approx((12 * second_place + 8) / 20)
    assert (ndcg.second, hit.second, recall.first, recall.second) == (1.0, 1.0, 1.0, 1.0)
    assert hit.first == pytest.approx(0.4)
    assert mrr.difference == pytest.approx(12 * 0.5 / 20)
    assert (hit.wins, hit.losses) == (12, 0)
    assert hit.p == pytest.approx(2 / 2**12)
    assert hit.resolved
    assert not recall.resolved
    assert recall.p == 1.0
    assert hit.first_interval is not None
    assert hit.first_interval.low < 0.4 < hit.first_interval.high


def test_chunks_of_one_document_count_once() -> None:
    found = compared([searched(1, ["x", "x", "x", "g"], ["x", "g"])], min_questions=1)
    assert found.quality is not None
    figure = found.quality.figures[0]
    assert figure.difference == 0
    assert figure.interval is None, "one topic shows no spread"
    assert not figure.resolved


def test_recall_counts_gold_documents_among_the_first_k() -> None:
    found = compared(
        [searched(n, ["a", "x", "b"], ["x", "y", "a", "b"], gold=("a", "b")) for n in range(2)], k=2
    )
    assert found.quality is not None
    recall = found.quality.figures[2]
    assert (recall.name, recall.first, recall.second) == ("recall@2", 0.5, 0.0)


def test_a_missing_reply_is_not_a_zero() -> None:
    rows = [searched(n, ["g"], ["g"]) for n in range(3)] + [searched(3, ["g"], [], error="504 too slow")]
    found = compared(rows)
    assert found.quality is not None
    assert (found.asked, found.n, found.quality.n) == (4, 3, 3)
    assert found.quality.figures[0].second == 1.0
    assert found.second.failures == {"504 too slow": 1}
    assert found.first.failures == {}
    assert found.quality.changes == ()
    assert "504 too slow 1" in versions_text(Found(comparison=found, source="s"))


def test_nothing_found_is_a_zero_and_counted_as_empty() -> None:
    found = compared([searched(n, ["g"], []) for n in range(2)])
    assert found.quality is not None
    assert found.quality.figures[0].second == 0.0
    assert (found.first.empty, found.second.empty) == (0, 2)
    assert found.agreement.overlap == 0.0
    assert found.agreement.top_changed is None


def test_changes_come_worst_first_with_the_ranks_of_the_gold() -> None:
    rows = [
        searched(1, ["g"], ["g"]),
        searched(2, ["x", "g"], ["g"]),
        searched(3, ["g"], ["x"]),
        searched(4, ["g"], ["x", "g"]),
    ]
    found = compared(rows)
    assert found.quality is not None
    assert [(change.case.id, change.first_rank, change.second_rank) for change in found.quality.changes] == [
        ("q03", 1, None),
        ("q04", 1, 2),
        ("q02", 2, 1),
    ]
    text = versions_text(Found(comparison=found, source="s"))
    assert "B is worse: 2 questions" in text
    assert "B is better: 1 questions" in text
    assert text.index("q03 question 3") < text.index("q04 question 4") < text.index("q02 question 2")


def test_kinds_stand_apart() -> None:
    rows = [searched(n, ["g"], ["x"], kind="easy") for n in range(3)]
    rows += [searched(n, ["x"], ["g"], kind="hard") for n in range(3, 5)]
    found = compared(rows)
    assert found.quality is not None
    assert {kind: (each.n, each.difference) for kind, each in found.quality.kinds.items()} == {
        "easy": (3, -1.0),
        "hard": (2, 1.0),
    }


def test_without_gold_only_the_difference_is_told() -> None:
    rows = [
        searched(1, ["a", "b", "c"], ["b", "a", "d"], gold=(), confidence=(0.6, 0.2)),
        searched(2, ["a"], ["a"], gold=(), confidence=(0.6, 0.4)),
        searched(3, [], [], gold=()),
    ]
    found = compared(rows, k=2)
    assert found.quality is None
    agreement = found.agreement
    assert agreement.overlap == 1.0, (
        "the first two are the same; where both are empty there is nothing to share"
    )
    assert agreement.top_changed is not None
    assert (agreement.top_changed.k, agreement.top_changed.n) == (1, 2)
    assert agreement.displacement == pytest.approx(2 / 3)
    assert agreement.same == 2
    assert agreement.confidence is not None
    assert agreement.confidence.difference == pytest.approx(-0.2)
    assert found.second.abstained is not None
    assert (found.second.abstained.k, found.second.abstained.n) == (1, 3)
    assert (found.first.median_ms, found.first.median_wall_ms) == (5.0, 9.0)
    text = versions_text(Found(comparison=found, source="s", left_out="4 asked again"))
    assert "No gold documents" in text
    assert "Not asked: 4 asked again." in text


def test_the_questions_that_moved_most_are_named_without_gold() -> None:
    rows = [
        searched(1, ["a", "b"], ["a", "b"], gold=()),
        searched(2, ["a", "b", "c"], ["a", "c", "b"], gold=()),
        searched(3, ["a", "b", "c"], ["b", "a", "c"], gold=()),
        searched(4, ["a"], ["d"], gold=()),
        searched(5, ["a"], [], gold=()),
        searched(6, ["a"], ["d"], gold=(), error="504"),
        # Beyond the first k it makes no difference.
        searched(7, ["a", "b", "c", "d"], ["a", "b", "c", "e"], gold=()),
    ]
    found = compared(rows, k=3)
    assert [(move.case.id, move.shared, move.distance) for move in found.agreement.moved] == [
        ("q04", 0, 1.0),
        ("q05", 0, 1.0),
        ("q03", 3, pytest.approx(1 / 3)),
        ("q02", 3, pytest.approx(1 / 6)),
    ]
    report = Found(comparison=found, source="s")
    assert versions_json(report)["agreement"]["moved"][2]["second"] == ["b", "a", "c"]
    text = versions_text(report)
    assert "Most moved: 4 questions" in text
    assert "- 1.00, 0 of 1 shared, a first in A, - in B: q05 question 5" in text
    assert "- 0.17, 3 of 3 shared, a first in both: q02 question 2" in text


def test_of_many_that_moved_the_text_shows_ten() -> None:
    found = compared([searched(n, ["a"], ["b"], gold=()) for n in range(12)])
    text = versions_text(Found(comparison=found, source="s"))
    assert "2 more: --json has all" in text
    assert len(versions_json(Found(comparison=found, source="s"))["agreement"]["moved"]) == 12


def test_questions_without_gold_do_not_make_evidence_for_quality() -> None:
    rows = [searched(n, ["g"], ["g"]) for n in range(2)] + [
        searched(n, ["g"], ["g"], gold=()) for n in range(2, 9)
    ]
    assert "2 questions with gold documents" in compared(rows, min_questions=3).thin
    assert compared(rows, min_questions=2).thin == ""
    assert "0 questions answered by both" in compared([], min_questions=1).thin


def test_the_report_for_programs_is_plain_json() -> None:
    rows = [searched(n, ["x", "g"], ["g", "x"], kind=f"kind {n % 2}") for n in range(8)]
    report = json.loads(json.dumps(versions_json(Found(comparison=compared(rows), source="made"))))
    figure = report["quality"]["figures"]["hit@1"]
    assert (figure["first"], figure["second"], figure["wins"], figure["resolved"]) == (0.0, 1.0, 8, True)
    assert len(report["quality"]["changes"]) == 8
    assert report["enough_evidence"]
    assert set(report["quality"]["kinds"]) == {"kind 0", "kind 1"}
    assert "B is better than A in hit@1: +1.000 (8 questions better, 0 worse)" in versions_text(
        Found(comparison=compared(rows), source="made")
    )


def test_the_same_replies_give_the_same_numbers() -> None:
    rows = [searched(n, ["x", "g"] if n % 3 else ["g"], ["g"] if n % 2 else ["x"]) for n in range(20)]
    assert versions_json(Found(comparison=compared(rows), source="")) == versions_json(
        Found(comparison=compared(rows), source="")
    )

"""Numbers of a run: what is counted, what is not, and what the report says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from eval.arms import Arm, Pin
from eval.cases import Case, CaseSet
from eval.metrics import METRICS
from eval.observations import Draft, Evidence, Observation, Ranking
from eval.record import RunData, RunRecord
from eval.report import json_report, markdown_report, text_report
from eval.scorers import Scoring
from eval.summary import Summary, summarise
from serving.prompting import Passage

ARMS = (
    Arm(name="prompt_only", pin=Pin(model="m-base-1", context="none")),
    Arm(name="rag", pin=Pin(knowledge="k-1@3", model="m-base-1")),
)
PLUS = Evidence(document_id="plus", passage=Passage(n=1, title="Plus", text="Plus is $9.", start=0, end=11))


def no_fault(sentence: str, passages: Sequence[Passage], question: str) -> Sequence[str]:
    return ()


SCORING = Scoring(
    unsupported=no_fault,
    broken_tone_rules=lambda text: (),
    schema={"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]},
    version="words9-0.1",
)


def run_of(n: int, *, prompt_only_right: int, rag_right: int, failed: int = 0) -> RunData:
    cases = CaseSet.of(
        "demo | set",
        [
            Case(
                id=f"q{i:03d}",
                topic=f"t{i % 10}",
                split="dev",
                text=f"question {i}",
                kind="stale" if i % 2 else "answerable",
                gold=("plus",),
                facts=(("$9",),),
                status="answered",
            )
            for i in range(n)
        ],
    )
    record = RunRecord(
        id="20260301-120000",
        gateway_url="http://gateway.invalid",
        question_set=cases.name,
        question_set_sha256=cases.sha256,
        selection={"splits": ["dev"]},
        requested_arms=ARMS,
        arms=ARMS,
        knowledge=("k-1@3",),
    )
    data = RunData(record=record, cases=cases.cases)
    for i, case in enumerate(cases.cases):
        data.rankings[case.id, "k-1@3"] = Ranking(case_id=case.id, knowledge="k-1@3", hits=(PLUS,))
        for arm, right in (("prompt_only", prompt_only_right), ("rag", rag_right)):
            answer = "Plus is $9." if i < right else "Plus is $7."
            retrieves = arm == "rag"
            data.observations[case.id, arm] = Observation(
                case_id=case.id,
                arm=arm,
                status="answered",
                answer=answer,
                draft=Draft(text=json.dumps({"answer": answer})),
                retrieved=("plus",) if retrieves else (),
                packed=(PLUS,) if retrieves else (),
                knowledge_version="k-1@3" if retrieves else "",
                model_version="m-base-1",
                timings_ms={"generation": 100.0 + i},
                prompt_tokens=400,
                completion_tokens=40,
                wall_ms=110.0 + i,
            )
    for case in cases.cases[:failed]:
        data.observations[case.id, "rag"] = Observation(case_id=case.id, arm="rag", error="504 gone")
    return data


def summary_of(data: RunData) -> Summary:
    return summarise(data, SCORING, min_questions=30, resamples=500, seed=1)


def result(summary: Summary, arm: str, name: str) -> Any:
    chosen = next(item for item in summary.arms if item.arm.name == arm)
    return chosen.result(next(metric for metric in METRICS if metric.name == name))


def test_metrics_are_counted_apart_per_arm() -> None:
    summary = summary_of(run_of(40, prompt_only_right=10, rag_right=36))
    assert (result(summary, "rag", "answer_right").rate.k, result(summary, "rag", "answer_right").rate.n) == (
        36,
        40,
    )
    assert result(summary, "prompt_only", "answer_right").rate.k == 10
    assert result(summary, "rag", "format_valid").rate.k == 40
    assert result(summary, "rag", "would_be_corrected").rate.k == 4


def test_retrieval_does_not_apply_to_an_arm_without_it() -> None:
    summary = summary_of(run_of(40, prompt_only_right=10, rag_right=36))
    missing = result(summary, "prompt_only", "hit")
    assert missing.rate is None
    assert missing.not_applicable == 40
    assert result(summary, "rag", "hit").rate.k == 40
    assert json_report(summary)["arms"]["prompt_only"]["metrics"]["hit"]["n"] == 0
    assert "not applicable" in text_report(summary)


def test_retrieval_is_measured_once_per_knowledge_version_and_kind() -> None:
    summary = summary_of(run_of(40, prompt_only_right=10, rag_right=36))
    assert [(item.kind, item.hit_at_1.n, item.ndcg_at_10) for item in summary.rankings] == [
        ("", 40, 1.0),
        ("answerable", 20, 1.0),
        ("stale", 20, 1.0),
    ]


def test_a_clear_difference_is_said_in_plain_words() -> None:
    summary = summary_of(run_of(40, prompt_only_right=10, rag_right=36))
    (answer,) = [item for item in summary.comparisons if item.metric.name == "answer_right"]
    assert (answer.test.only_first, answer.test.only_second) == (0, 26)
    assert answer.resolved
    assert answer.interval is not None
    assert answer.interval.low < answer.difference < answer.interval.high
    assert answer.sentence().startswith("rag is better than prompt_only")
    assert "65 points more often" in answer.sentence()


def test_fewer_corrections_are_better() -> None:
    summary = summary_of(run_of(40, prompt_only_right=10, rag_right=36))
    (proxy,) = [item for item in summary.comparisons if item.metric.name == "would_be_corrected"]
    assert proxy.difference < 0
    assert "rag is better than prompt_only" in proxy.sentence()
    assert "less often" in proxy.sentence()


def test_a_small_difference_is_called_not_shown_with_what_could_be_seen() -> None:
    summary = summary_of(run_of(40, prompt_only_right=34, rag_right=36))
    (answer,) = [item for item in summary.comparisons if item.metric.name == "answer_right"]
    assert not answer.resolved
    assert answer.sentence().startswith("No difference shown")
    assert "40 questions usually show" in answer.sentence()


def test_errors_are_counted_beside_and_not_as_zero() -> None:
    summary = summary_of(run_of(40, prompt_only_right=10, rag_right=36, failed=4))
    assert result(summary, "rag", "answer_right").rate.n == 36
    rag = next(arm for arm in summary.arms if arm.arm.name == "rag")
    assert rag.failed == {"504 gone": 4}
    (answer,) = [item for item in summary.comparisons if item.metric.name == "answer_right"]
    assert answer.test.n == 36, "pairs need both answers"


def test_few_questions_are_not_enough_evidence() -> None:
    assert summary_of(run_of(29, prompt_only_right=10, rag_right=20)).thin == (
        "29 questions; at least 30 are needed",
    )
    assert summary_of(run_of(30, prompt_only_right=10, rag_right=20)).thin == ()


def test_missing_scores_are_not_enough_evidence() -> None:
    data = run_of(40, prompt_only_right=10, rag_right=36)
    for key, seen in data.observations.items():
        data.observations[key] = replace(seen, draft=Draft(text="", failure="engine"))
    thin = summary_of(data).thin
    assert any(
        "rag: first draft valid against the schema: 40 could not be scored, 0 could" in line for line in thin
    )


def test_questions_that_were_not_asked_are_named() -> None:
    data = run_of(40, prompt_only_right=10, rag_right=36)
    for arm in ("prompt_only", "rag"):
        del data.observations["q000", arm]
    summary = summary_of(data)
    assert (summary.questions, summary.left_out) == (39, 1)
    assert "Not asked yet: 1 (resume with --run)" in text_report(summary)


def test_the_same_numbers_stand_in_all_three_reports() -> None:
    summary = summary_of(run_of(40, prompt_only_right=10, rag_right=36))
    text, markdown, plain = text_report(summary), markdown_report(summary), json_report(summary)
    assert plain["checker"] == "words9-0.1"
    assert "Grounding check words9-0.1." in markdown
    assert "36/40 90% [77-96]" in text
    assert "36/40 90% [77-96]" in markdown
    assert plain["arms"]["rag"]["metrics"]["answer_right"]["k"] == 36
    assert "would_be_corrected (proxy)" in text
    assert "## Failures to read: rag" in markdown
    assert "misses $9" in markdown
    assert json.loads(json.dumps(plain)) == plain


def test_the_same_run_gives_the_same_report() -> None:
    data = run_of(40, prompt_only_right=10, rag_right=36)
    assert json_report(summary_of(data)) == json_report(summary_of(data))

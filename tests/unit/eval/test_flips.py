"""Flips: only what was scored twice counts, and a failure is not a changed mind."""

from __future__ import annotations

from collections.abc import Sequence

from eval.arms import Arm, Pin
from eval.cases import Case, CaseSet
from eval.flips import count_flips
from eval.observations import Draft, Observation
from eval.record import RunData, RunRecord
from eval.scorers import Scoring
from serving.prompting import Passage

ARM = Arm(name="rag", pin=Pin(knowledge="k-1@3", model="m-1"))


def no_fault(sentence: str, passages: Sequence[Passage], question: str) -> Sequence[str]:
    return ()


SCORING = Scoring(
    unsupported=no_fault, broken_tone_rules=lambda text: (), schema={"type": "object", "required": ["answer"]}
)
RIGHT = '{"answer": "yes"}'


def run_of(*rows: Sequence[str]) -> RunData:
    """One row a question: its drafts, first answer first; `!` failed, `engine` has no score for its form."""
    cases = CaseSet.of(
        "set", [Case(id=f"q{n}", topic="t", split="dev", text="question") for n, _ in enumerate(rows)]
    )
    record = RunRecord(
        id="run",
        gateway_url="",
        question_set="set",
        question_set_sha256=cases.sha256,
        selection={},
        requested_arms=(ARM,),
        arms=(ARM,),
        knowledge=("k-1@3",),
        repeats=max(len(row) for row in rows),
    )
    data = RunData(record=record, cases=cases.cases)
    for case, row in zip(cases.cases, rows, strict=True):
        for repeat, text in enumerate(row):
            draft = Draft(text=text, failure="engine" if text == "engine" else "")
            seen = Observation(
                case_id=case.id, arm="rag", repeat=repeat, error="504" if text == "!" else "", draft=draft
            )
            if repeat:
                data.repeated[case.id, "rag", repeat] = seen
            else:
                data.observations[case.id, "rag"] = seen
    return data


def test_a_question_flips_if_any_two_of_its_answers_differ() -> None:
    flips = count_flips(run_of((RIGHT, RIGHT, RIGHT), (RIGHT, RIGHT, "no"), ("no", "no", "no")), SCORING)
    rate = flips.rate("rag", "format_valid")
    assert rate is not None
    assert (flips.repeats, rate.k, rate.n) == (3, 1, 3)


def test_failed_answers_and_missing_scores_are_no_repeats() -> None:
    flips = count_flips(run_of((RIGHT, "!"), (RIGHT, "engine"), (RIGHT, "no")), SCORING)
    rate = flips.rate("rag", "format_valid")
    assert rate is not None
    assert (rate.k, rate.n) == (1, 1)


def test_one_answer_a_question_says_nothing() -> None:
    flips = count_flips(run_of((RIGHT,), ("no",)), SCORING)
    assert (flips.repeats, flips.rates, flips.rate("rag", "format_valid")) == (1, {}, None)

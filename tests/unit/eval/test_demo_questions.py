"""The demo's answer key against itself: an arm that gives the wanted answers must score full marks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.cases import load_cases
from eval.observations import Observation
from eval.scorers import Score, Scoring, Subject, score_answer, score_tone
from serving.tone import check_tone

QUESTIONS = Path(__file__).parents[3] / "deploy" / "demo" / "questions"
SCORING = Scoring(
    unsupported=lambda sentence, passages, question: (), broken_tone_rules=check_tone, schema={}
)


@pytest.fixture(scope="module")
def wanted() -> dict[str, str]:
    rows = [json.loads(line) for file in QUESTIONS.glob("*.jsonl") for line in file.read_text().splitlines()]
    return {row["id"]: row["answer"] for row in rows}


def test_every_wanted_answer_passes_its_own_key_and_the_house_tone(wanted: dict[str, str]) -> None:
    for case in load_cases(QUESTIONS):
        seen = Observation(case_id=case.id, arm="wanted", status=case.status or "", answer=wanted[case.id])
        subject = Subject(case=case, seen=seen, ranking=None, retrieves=True)
        for outcome in (score_answer(subject, SCORING), score_tone(subject, SCORING)):
            assert isinstance(outcome, Score)
            assert outcome.value == 1, f"{case.id}: {outcome.detail}"


def test_no_topic_is_in_two_splits() -> None:
    splits: dict[str, set[str]] = {}
    for case in load_cases(QUESTIONS):
        splits.setdefault(case.topic, set()).add(case.split)
    assert all(len(found) == 1 for found in splits.values())

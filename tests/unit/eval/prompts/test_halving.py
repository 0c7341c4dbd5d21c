"""Which prompts a search keeps, and what decides where the objective does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eval.observations import Observation
from eval.prompts.halving import (
    Round,
    Standing,
    decided_by,
    ranked,
    rounds_of,
    standing_of,
    ties_at_the_cut,
)
from eval.scorers import NotApplicable, Outcome, Score, ScoreFailure

PLAIN = Standing(
    name="plain",
    asked=10,
    right=6,
    scored=10,
    format_valid=0.9,
    hallucination_draft=0.2,
    prompt_tokens=500,
)


@pytest.mark.parametrize(
    ("prompts", "first", "most", "rounds"),
    [
        (6, 8, 100, [(8, 6, 3), (16, 3, 1)]),
        (15, 12, 28, [(12, 15, 7), (24, 7, 3), (28, 3, 1)]),
        (15, 12, 12, [(12, 15, 1)]),
        (1, 8, 100, [(8, 1, 1)]),
    ],
)
def test_half_the_prompts_go_on_with_twice_the_questions(
    prompts: int, first: int, most: int, rounds: list[tuple[int, int, int]]
) -> None:
    expected = tuple(Round(questions=q, prompts=p, kept=k) for q, p, k in rounds)
    assert rounds_of(prompts, first=first, most=most) == expected


@pytest.mark.parametrize(
    ("change", "by"),
    [
        ({"right": 7}, "objective"),
        ({"format_valid": 1.0}, "format_valid"),
        ({"hallucination_draft": 0.1}, "hallucination_draft"),
        ({"prompt_tokens": 300}, "shorter prompt"),
        ({}, "order in the grid"),
    ],
)
def test_what_puts_a_prompt_first_is_named(change: dict[str, float], by: str) -> None:
    better = replace(PLAIN, name="better", **change)  # type: ignore[arg-type]
    order = ranked((PLAIN, better)) if change else ranked((better, PLAIN))
    assert [one.name for one in order] == ["better", "plain"]
    assert decided_by(*order) == by
    assert ties_at_the_cut(order, 1) == ("" if by == "objective" else by)


def test_a_prompt_without_scores_is_last_and_never_zero_of_n() -> None:
    lost = replace(PLAIN, name="lost", right=0, scored=0)
    nothing_right = replace(PLAIN, name="poor", right=0)
    assert lost.share is None
    assert [one.name for one in ranked((lost, nothing_right))] == ["poor", "lost"]
    assert decided_by(nothing_right, lost) == "answers without a score"


def seen(case: str, **outcomes: Outcome) -> tuple[Observation, dict[str, Outcome]]:
    return Observation(case_id=case, arm="a", prompt_tokens=100), dict(outcomes)


def test_a_standing_counts_what_has_a_score() -> None:
    found = standing_of(
        "a",
        [
            seen("1", answer_right=Score(1.0), format_valid=Score(1.0), hallucination_draft=Score(0.0)),
            seen("2", answer_right=Score(0.0), format_valid=Score(0.0), hallucination_draft=Score(1.0)),
            seen(
                "3", answer_right=NotApplicable(""), format_valid=Score(1.0), hallucination_draft=Score(0.0)
            ),
            (Observation(case_id="4", arm="a", error="504"), {}),
        ],
        objective="answer_right",
    )
    assert (found.asked, found.right, found.scored, found.lost) == (4, 1, 2, "")
    assert found.format_valid == pytest.approx(2 / 3)
    assert found.hallucination_draft == pytest.approx(1 / 3)


def test_a_prompt_whose_answers_fail_is_lost_with_its_reason() -> None:
    failed = (Observation(case_id="2", arm="a", error="question: the prompt takes 1900 tokens"), {})
    scored = seen(
        "1", answer_right=ScoreFailure("x"), format_valid=Score(1.0), hallucination_draft=Score(0.0)
    )
    found = standing_of("a", [scored, failed], objective="answer_right")
    assert found.lost == "2 of 2 answers have no score: question: the prompt takes 1900 tokens"


def test_an_engine_that_is_away_says_nothing_of_a_prompt() -> None:
    """What the customer gets then is a fixed wording, which is right where nothing should be answered."""
    scored = {
        "answer_right": Score(1.0),
        "format_valid": NotApplicable(""),
        "hallucination_draft": NotApplicable(""),
    }
    away = [(Observation(case_id=str(n), arm="a", degraded=("generation",)), scored) for n in range(3)]
    found = standing_of("a", away, objective="answer_right")
    assert (found.right, found.scored) == (0, 0)
    assert found.lost == "3 of 3 answers have no score: without generation"


def test_a_rate_of_mistakes_is_better_when_it_is_lower() -> None:
    rows = [seen(str(n), hallucination_draft=Score(float(n == 0)), format_valid=Score(1.0)) for n in range(4)]
    assert standing_of("a", rows, objective="hallucination_draft").right == 3

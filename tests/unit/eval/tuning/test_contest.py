"""Who is compared with a tuned version."""

from __future__ import annotations

import pytest

from eval.errors import ArmError
from eval.tuning.contest import Strong, arrange, freely, named
from serving.prompting import PromptTemplate

TUNED, BASE, LIVE, OTHER = "m-next-1", "m-base-1", "m-live-1", "m-routing-1"
TASKS = {TUNED: "support_answer", BASE: "support_answer", LIVE: "support_answer", OTHER: "ticket_routing"}
PROMPT = PromptTemplate(name="searched", system="Answer as JSON.")


def pointers(stable: str | None, fallback: str | None = BASE) -> dict[str, dict[str, str | None]]:
    return {"knowledge": {"stable": "k-a-1@7"}, "model": {"stable": stable, "fallback": fallback}}


def test_the_candidate_is_held_against_the_strong_prompt_and_the_stable_version() -> None:
    contest = arrange(TUNED, Strong(), pointers(LIVE), TASKS)
    assert [(arm.name, arm.pin.model) for arm in contest.arms] == [
        ("candidate", TUNED),
        ("strong", BASE),
        ("stable", LIVE),
    ]
    assert {arm.pin.knowledge for arm in contest.arms} == {"k-a-1@7"}
    assert all(arm.pin.constrained is False for arm in freely(contest.arms))
    assert (contest.candidate.name, len(contest.comparators)) == ("candidate", 2)


@pytest.mark.parametrize(
    ("stable", "strong", "words"),
    [
        (None, Strong(), "no stable version"),
        (TUNED, Strong(), f"{TUNED} is the stable version itself"),
        (BASE, Strong(), "is the base model with the strong prompt"),
        (OTHER, Strong(), "does another task, ticket_routing"),
    ],
)
def test_a_comparator_that_is_none_is_left_out_and_said_so(
    stable: str | None, strong: Strong, words: str
) -> None:
    contest = arrange(TUNED, strong, pointers(stable), TASKS)
    assert [arm.name for arm in contest.arms] == ["candidate", "strong"]
    assert words in contest.notes[0]


def test_a_prompt_to_try_makes_another_arm_of_the_same_version() -> None:
    contest = arrange(TUNED, Strong(prompt=PROMPT), pointers(BASE), TASKS)
    assert [named(arm) for arm in contest.arms] == [TUNED, f"{BASE} with the prompt searched", BASE]


@pytest.mark.parametrize(
    ("strong", "fallback", "words"),
    [
        (Strong(), None, "has no fallback version"),
        (Strong(), TUNED, "is the candidate itself"),
        (Strong(version="m-nope-1"), BASE, "m-nope-1: no such version"),
        (Strong(version=OTHER), BASE, "does the task ticket_routing"),
    ],
)
def test_what_is_no_strong_prompt_is_refused(strong: Strong, fallback: str | None, words: str) -> None:
    with pytest.raises(ArmError, match=words):
        arrange(TUNED, strong, pointers(LIVE, fallback), TASKS)

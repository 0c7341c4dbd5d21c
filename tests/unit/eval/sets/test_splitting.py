from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from eval.errors import CaseFileError, NotEnoughQuestionsError
from eval.sets.questions import Question
from eval.sets.splitting import (
    SHARES,
    find_leaks,
    require_enough,
    require_filled,
    require_no_leak,
    split_questions,
)

FILE = Path("set/questions.jsonl")
STATUSES = ("answerable", "answerable", "answerable", "unanswerable", "must_escalate")
SUBJECTS = ("invoice", "password", "refund", "router", "upload", "backup", "seat", "archive", "trial", "api")


def question(n: int, **fields: object) -> Question:
    subject = SUBJECTS[n % 10]
    row = {
        "id": f"q{n:03}",
        "text": f"{subject} {made_word(n)} {made_word(n * 7 + 3)}",
        "cluster": f"{subject}-{n % 30}",
        "status": STATUSES[n % 5],
    }
    return Question.model_validate({**row, **fields})


def made_word(n: int) -> str:
    return "".join(random.Random(n).choices("abcdefghijklmnopqrstuvwxyz", k=8))


QUESTIONS = [question(n) for n in range(150)]


def test_clusters_stay_whole_and_every_split_gets_its_share_of_every_status() -> None:
    split = split_questions(QUESTIONS, seed=1)
    assert [(each.id, each.text) for each in split] == [(each.id, each.text) for each in QUESTIONS]
    assert find_leaks(split) == []
    for status, n in Counter(each.status for each in QUESTIONS).items():
        for name, share in SHARES.items():
            got = sum(each.split == name and each.status == status for each in split)
            assert abs(got - share * n) <= 5, (name, status, got, n)


def test_a_seed_gives_one_split_and_another_seed_another() -> None:
    assert split_questions(QUESTIONS, seed=1) == split_questions(QUESTIONS, seed=1)
    assert split_questions(QUESTIONS, seed=1) != split_questions(QUESTIONS, seed=2)


def test_questions_that_are_nearly_the_same_stay_together() -> None:
    twin = QUESTIONS[4].text.replace(" ", "  ") + "?"
    split = split_questions([*QUESTIONS, question(200, text=twin, cluster="elsewhere")], seed=3)
    assert split[-1].split == split[4].split


def test_what_is_there_stays_and_what_was_trained_on_always_does() -> None:
    first = split_questions(QUESTIONS, seed=1)
    trained = [each.model_copy(update={"split": "train"}) for each in first[:1]]
    cluster = trained[0].cluster
    kept = [
        *trained,
        *(each.model_copy(update={"split": "train"}) for each in first[1:] if each.cluster == cluster),
    ]
    rest = [each for each in first if each.cluster != cluster]
    more = question(300, cluster=rest[0].cluster, text="quite something else")
    again = split_questions([*kept, *rest, more], seed=9)
    assert [each.split for each in again[: len(kept)]] == ["train"] * len(kept)
    assert again[len(kept) : -1] == tuple(rest)
    assert again[-1].split == rest[0].split
    redrawn = split_questions([*kept, *rest], seed=9, again=True)
    assert [each.split for each in redrawn[: len(kept)]] == ["train"] * len(kept)
    assert redrawn[len(kept) :] != tuple(rest)


def test_a_leak_is_an_error_with_the_pair() -> None:
    torn = [
        question(1, split="dev", text="how do I reset the router to factory settings", cluster="a"),
        question(2, split="holdout", text="How do I reset the router to factory setting?", cluster="b"),
    ]
    with pytest.raises(
        CaseFileError, match=r"'q001' \(dev\) and 'q002' \(holdout\) are nearly the same"
    ) as caught:
        require_no_leak(FILE, torn)
    assert caught.value.field == "split"
    require_no_leak(FILE, [each.model_copy(update={"split": "dev"}) for each in torn])


def test_a_torn_cluster_is_a_leak() -> None:
    torn = [question(1, split="dev", cluster="a"), question(2, split="gate", cluster="a")]
    with pytest.raises(CaseFileError, match="are of one cluster, 'a'"):
        require_no_leak(FILE, torn)


def test_three_questions_are_not_enough() -> None:
    with pytest.raises(
        NotEnoughQuestionsError, match="3 questions, and nothing can be decided on fewer than 30"
    ):
        require_enough(FILE, QUESTIONS[:3], fewest=30)
    require_enough(FILE, QUESTIONS[:30], fewest=30)


def test_a_split_without_clusters_is_named() -> None:
    same = [each.model_copy(update={"cluster": "one"}) for each in QUESTIONS[:40]]
    with pytest.raises(
        NotEnoughQuestionsError, match="nothing is left for gate, holdout, because 1 clusters"
    ):
        require_filled(FILE, split_questions(same, seed=1), SHARES)

from __future__ import annotations

import json
import random
from collections import Counter
from math import comb
from pathlib import Path

import pytest

from eval.errors import TooManyQuestionsError
from eval.sets.clustering import MOST, cluster, tied
from serving.similarity import near_duplicates

ROOT = Path(__file__).parents[4]
INTENTS = ROOT.parent / "shared" / "data" / "support_intents" / "banking77_test.jsonl"

TEXTS = [
    "How do I cancel my subscription?",
    "cancel subscription please",
    "I cancelled my subscription but was charged again",
    "where is the invoice for March",
    "invoice has the wrong VAT number",
    "can you resend an invoice",
    "weather in Paris",
]


def alone(texts: list[str]) -> list[frozenset[str]]:
    return [frozenset()] * len(texts)


def test_questions_about_one_thing_are_one_cluster_with_its_name() -> None:
    names = cluster(TEXTS, alone(TEXTS))
    assert names[0] == names[1] == names[2] != names[3]
    assert names[3] == names[4] == names[5] != names[6]
    assert ("subscription" in names[0], "invoice" in names[3]) == (True, True)
    assert names[6] == "weather paris" or names[6] == "paris weather"


def test_questions_of_one_document_are_one_cluster_whatever_their_words() -> None:
    texts = ["two factor?", "lost my phone, codes too", "price of plus"]
    documents = [frozenset({"two-step"}), frozenset({"two-step"}), frozenset({"plus"})]
    first, second, other = cluster(texts, documents)
    assert first == second != other


def test_names_are_never_given_twice() -> None:
    texts = [f"billing {word}" for word in ("alpha beta", "gamma delta")] + ["!!!", "???"]
    names = cluster(texts, [frozenset({str(n)}) for n in range(4)])
    assert all(names)
    by_name = Counter(names)
    assert by_name[names[2]] in (1, 2)


def test_the_same_questions_give_the_same_clusters() -> None:
    assert cluster(TEXTS, alone(TEXTS)) == cluster(TEXTS, alone(TEXTS))
    assert cluster(["one?"], alone(["one?"])) == ["one"] or cluster(["one?"], alone(["one?"])) == ["other"]
    assert cluster([], []) == []


def test_more_than_memory_holds_is_an_error_with_the_way_out() -> None:
    with pytest.raises(TooManyQuestionsError, match="--limit"):
        cluster(["a"] * (MOST + 1), alone(["a"] * (MOST + 1)))


@pytest.mark.parametrize(
    ("first", "second", "near"),
    [
        ("How do I cancel my plan?", "how do i cancel my plan", True),
        ("How do I cancel my subscription plan?", "How do I cancle my subscription plan??", True),
        ("Is the trial 14 days?", "is the trial fourteen days", True),
        ("Which cards and currencies do you support?", "What cards and currencies do you support?", True),
        ("How do I cancel my plan?", "How do I change my e-mail?", False),
        ("What does Sync Plus cost?", "How long is the refund period?", False),
    ],
)
def test_one_question_in_other_words_is_found(first: str, second: str, near: bool) -> None:
    others = ["where is my invoice", "the app crashes on start", "is my data encrypted at rest"]
    pairs = near_duplicates([first, second, *others])
    assert [(pair.first, pair.second) for pair in pairs] == ([(0, 1)] if near else [])


def test_questions_are_tied_through_their_cluster_and_their_words() -> None:
    texts = [
        "alpha beta gamma delta",
        "alpha beta gamma delta?",
        "nothing of the kind",
        "quite another thing",
    ]
    assert tied(["a", "b", "b", "c"], near_duplicates(texts)) == [0, 0, 0, 3]


@pytest.mark.skipif(not INTENTS.exists(), reason="the public sets are not here")
def test_clusters_agree_with_what_people_meant() -> None:
    """1,000 bank questions of 77 intents, adjusted Rand index: 0 is chance."""
    rows = [json.loads(line) for line in INTENTS.read_text().splitlines()]
    rows = random.Random(1).sample(rows, 1000)
    texts = [row["text"] for row in rows]
    found, meant = cluster(texts, alone(texts)), [row["intent"] for row in rows]
    together = sum(comb(n, 2) for n in Counter(zip(found, meant, strict=True)).values())
    ours, theirs = (sum(comb(n, 2) for n in Counter(side).values()) for side in (found, meant))
    chance = ours * theirs / comb(1000, 2)
    assert (together - chance) / ((ours + theirs) / 2 - chance) > 0.25

"""Training rows: quoted answers hold the facts, cite what they quote, and never teach from memory."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from deploy.models import SHIPPED_ADAPTER
from deploy.tuning import QUESTIONS, WRITTEN, read_questions
from deploy.tuning.__main__ import lookups
from deploy.tuning.disguise import Disguise
from deploy.tuning.quoting import around, quote
from deploy.tuning.rows import RowBuilder, Shares
from retrieval.hits import Hit
from serving.digests import digest_folder
from serving.prompting import Passage, PromptTemplate
from serving.tuning.dataset import Inputs, Settings, build
from serving.tuning.negatives import NO_NEGATIVES
from serving.tuning.recipe import load_recipe
from serving.wording import load_wording

ROWS = Path("deploy/demo/training/support.jsonl")
TEMPLATE = PromptTemplate(name="p", system="Answer.")
PRICES = (
    "All prices\n\nMonthly \u2014 Free: $0; Plus: $9\nYearly \u2014 Free: $0; Plus: $90\n\n"
    "1. Open Plans.\n2. Choose Plus."
)
REFUNDS = "You can have a refund within 30 days. It arrives in 5 to 10 working days."


def question(**changes: Any) -> dict[str, Any]:
    return {
        "id": "plans-01",
        "topic": "plans",
        "text": "what is Plus a year",
        "gold": ["prices"],
        "facts": [["$90"]],
        "status": "answered",
        "intent": "billing",
        "escalate": False,
        "escalation_reason": "none",
        "answer": "Plus costs $90 a year.",
        "follow_up": "Monthly or yearly?",
        **changes,
    }


def passages(*texts: str) -> list[Passage]:
    return [Passage(n=n, title="T", text=text, start=0, end=len(text)) for n, text in enumerate(texts, 1)]


SERVED = Shares(served=1, disguised=0, outdated=0, removed=0, instructed=0)


def builder(shares: Shares = SERVED) -> RowBuilder:
    return RowBuilder(TEMPLATE, lambda text: len(text.split()), budget_tokens=400, seed=7, shares=shares)


def only(kind: str) -> Shares:
    return Shares(
        **{**dict.fromkeys(("served", "disguised", "outdated", "removed", "instructed"), 0), kind: 1}
    )


def row_of(kind: str, **changes: Any) -> dict[str, Any]:
    rows = builder(only(kind)).rows(question(**changes), hits())
    return next(row for row in rows if row["kind"] == kind)


def shown(row: dict[str, Any]) -> dict[int, str]:
    return {passage["n"]: passage["text"] for passage in row["passages"]}


def hit(rank: int, document_id: str, text: str) -> Hit:
    return Hit(
        rank=rank,
        chunk_id=rank,
        document_id=document_id,
        document_version=1,
        title=document_id.title(),
        url="",
        heading_path=(),
        text=text,
        start=0,
        end=len(text),
        score=1 / rank,
        dense_score=0.5,
        lexical_score=1.0,
        effective_from=None,
        effective_to=None,
        metadata={},
    )


def hits() -> list[Hit]:
    return [hit(1, "refunds", REFUNDS), hit(2, "prices", PRICES)]


def test_the_row_of_a_table_that_holds_the_fact_is_quoted_word_for_word() -> None:
    quoted = quote(question(), passages(REFUNDS, PRICES))
    assert quoted is not None
    assert quoted.text == "Yearly \u2014 Free: $0; Plus: $90."
    assert quoted.cited == (2,)


def test_two_facts_of_two_passages_take_two_sentences_and_cite_both() -> None:
    quoted = quote(question(facts=[["$90"], ["30 days"]]), passages(REFUNDS, PRICES))
    assert quoted is not None
    assert set(quoted.cited) == {1, 2}
    assert "You can have a refund within 30 days." in quoted.text


def test_a_fact_is_not_found_inside_a_longer_number_or_word() -> None:
    quoted = quote(question(text="what is Plus", facts=[["$9"]]), passages(PRICES))
    assert quoted is not None
    assert quoted.text == "Monthly \u2014 Free: $0; Plus: $9."
    for fact in "$9", "free", "reissue":
        text = "Plus costs $90 a year. Freelancers have reissued cards."
        assert quote(question(facts=[[fact]]), passages(text)) is None
        hidden = question(facts=[[fact]], gold=["prices"])
        assert builder().rows(hidden, [hit(1, "prices", text)]) == []


def test_list_marks_are_left_out() -> None:
    quoted = quote(question(facts=[["Choose Plus"]]), passages(PRICES))
    assert quoted is not None
    assert quoted.text == "Choose Plus."


def test_a_fact_that_stands_nowhere_is_never_taught() -> None:
    assert quote(question(facts=[["$95"]]), passages(PRICES)) is None
    assert builder().rows(question(facts=[["$95"]]), hits()) == []


def test_a_served_row_quotes_gold_passages_only() -> None:
    served, *_ = builder().rows(question(facts=[["30 days"]], gold=["refunds"]), hits())
    assert served["id"] == "plans-01/served"
    assert served["wanted"]["citations"] == [1]
    assert served["wanted"]["answer"] == "You can have a refund within 30 days."
    assert served["wanted"]["follow_up"] == ""


def test_an_escalated_answer_ends_with_the_fixed_sentence() -> None:
    served, *_ = builder().rows(
        question(status="escalated", escalate=True, escalation_reason="billing_dispute"), hits()
    )
    assert served["wanted"]["answer"].endswith(load_wording().passing_on)
    assert served["wanted"]["escalate"] is True


def test_a_question_without_an_answer_keeps_its_fixed_wording() -> None:
    wording = load_wording().not_in_help_centre
    served, *_ = builder().rows(
        question(gold=[], facts=[], status="abstained", answer=wording, escalate=True), hits()
    )
    assert served["wanted"]["answer"] == wording
    assert served["wanted"]["citations"] == []


def test_a_short_row_quotes_what_it_shows() -> None:
    (row,) = builder(only("removed")).rows(
        question(status="escalated", facts=[["30 days"]], gold=["refunds"]), hits()
    )
    assert row["kind"] == "short"
    assert row["wanted"]["answer"].startswith("You can have a refund within 30 days.")
    assert any("30 days" in shown(row)[n] for n in row["wanted"]["citations"])


def test_an_answer_against_the_house_tone_is_not_taught() -> None:
    assert builder().rows(question(facts=[["now"]], gold=["loud"]), [hit(1, "loud", "Buy Plus now!")]) == []


def test_a_disguised_row_says_other_values_in_question_passages_and_answer_alike() -> None:
    row = row_of("disguised", text="what is Plus a year on Pellworth Sync")
    assert "$90" not in row["wanted"]["answer"]
    assert "Pellworth" not in row["question"]
    assert row["wanted"]["answer"].rstrip(".") in shown(row)[row["wanted"]["citations"][0]]


def test_an_outdated_passage_says_something_else_and_is_not_quoted() -> None:
    row = row_of("outdated")
    dated = sorted(row["passages"], key=lambda passage: passage["effective_from"])
    old, current = [passage for passage in dated if "Yearly" in passage["text"]]
    assert row["wanted"]["citations"] == [current["n"]]
    assert "$90" in row["wanted"]["answer"]
    assert "$90" not in old["text"]


def test_a_removed_row_shows_no_fact_and_abstains() -> None:
    row = row_of("removed")
    assert not any("$90" in text for text in shown(row).values())
    assert row["wanted"]["answer"] == load_wording().not_in_help_centre
    assert row["wanted"]["escalation_reason"] == "not_in_help_centre"
    assert row["wanted"]["citations"] == []


def test_a_sentence_that_is_asked_for_by_its_words_is_the_answer() -> None:
    rows = builder().lookups(hits()[0], [hits()[1]], intent="billing", topic="plans", most=5)
    assert [row["wanted"]["answer"] for row in rows] == [
        "You can have a refund within 30 days.",
        "It arrives in 5 to 10 working days.",
    ]
    for row in rows:
        assert any(word in row["question"] for word in ("refund", "arrives", "working", "days"))
        assert row["wanted"]["answer"] in shown(row)[row["wanted"]["citations"][0]]


def test_only_articles_of_training_questions_are_asked_for_by_words() -> None:
    rows = lookups(builder(), [question()], hits(), each=3)
    assert rows
    assert all("30 days" not in row["wanted"]["answer"] for row in rows)
    assert {row["group"] for row in rows} == {"plans"}


def test_an_off_topic_question_gets_the_fixed_wording_of_the_help_centre() -> None:
    (row,) = builder().rows(question(gold=[], facts=[], kind="off_topic", status="abstained"), hits())
    assert row["wanted"]["answer"] == load_wording().off_topic


def test_the_rows_of_a_question_depend_on_the_seed_alone() -> None:
    assert builder(Shares()).rows(question(), hits()) == builder(Shares()).rows(question(), hits())


@pytest.mark.parametrize("seed", range(5))
def test_a_run_of_sentences_holds_the_fact_within_its_length(seed: int) -> None:
    part = around(question(), PRICES, most_words=9, draw=random.Random(seed))
    assert part is not None
    assert "$90" in PRICES[slice(*part)]
    assert len(PRICES[slice(*part)].split()) <= 10


def test_no_run_where_the_fact_is_missing_or_too_long() -> None:
    draw = random.Random(1)
    assert around(question(facts=[["$95"]]), PRICES, most_words=90, draw=draw) is None
    assert around(question(), PRICES, most_words=2, draw=draw) is None


def test_a_disguise_is_the_same_everywhere_and_leaves_list_marks_and_years() -> None:
    other = Disguise(random.Random(3))
    text = other.apply("S-110 again: Sync for $90.\n2. Open Sync 2026.")
    assert other.apply("S-110") in text
    assert text.endswith(f"\n2. Open {other.apply('Sync')} 2026.")
    assert "110" not in text
    assert "$90" not in text


def test_written_questions_are_about_training_topics_only() -> None:
    kept_out = {row["topic"] for split in ("dev", "holdout") for row in read_questions(QUESTIONS, split)}
    written = read_questions(WRITTEN, "train")
    assert len(written) > 200
    assert not kept_out & {row["topic"] for row in written}
    assert len({row["id"] for row in [*written, *read_questions(QUESTIONS, "train")]}) == len(written) + 320


def test_the_length_of_a_prompt_is_no_sign_of_abstaining() -> None:
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    long = [row for row in rows if sum(len(passage["text"]) for passage in row["passages"]) > 1000]
    short = [row for row in rows if row not in long]
    assert min(len(long), len(short)) > 200
    assert abs(abstaining(long) - abstaining(short)) < 0.12


def test_the_shipped_adapter_is_of_this_recipe_and_of_these_rows(tmp_path: Path) -> None:
    manifest = json.loads((SHIPPED_ADAPTER / "manifest.json").read_text(encoding="utf-8"))
    recipe = load_recipe(Path("deploy/demo/recipes/support.yaml"))
    made = build(
        tmp_path / "set",
        Inputs(files=(ROWS,)),
        schema=recipe.schema,
        wording=load_wording(),
        settings=Settings(negatives=NO_NEGATIVES, valid=0.03, test=0.01),
        redactor=None,
    )
    assert manifest["recipe_sha256"] == recipe.sha256
    assert manifest["prompt_sha256"] == recipe.prompt_sha256
    assert manifest["dataset_sha256"] == made.manifest.sha256
    assert manifest["adapter_digest"] == digest_folder(SHIPPED_ADAPTER)


def abstaining(rows: list[dict[str, Any]]) -> float:
    return sum(not row["wanted"]["citations"] for row in rows) / len(rows)

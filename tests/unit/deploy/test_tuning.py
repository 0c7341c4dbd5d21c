"""Training rows: quoted answers hold the facts, cite what they quote, and never teach from memory."""

from __future__ import annotations

import json
import random
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from deploy.models import SHIPPED_ADAPTER
from deploy.tuning import QUESTIONS, WRITTEN, read_questions
from deploy.tuning.disguise import Disguise
from deploy.tuning.elsewhere import read_elsewhere
from deploy.tuning.quoting import quote
from deploy.tuning.rows import ORDERS, RowBuilder, Shares, read_left_out
from gateway.citations import Source
from retrieval.hits import Hit
from serving.digests import digest_folder
from serving.prompting import Passage, PromptTemplate
from serving.tuning.dataset import Inputs, Settings, build
from serving.tuning.negatives import NO_NEGATIVES
from serving.tuning.recipe import load_recipe
from serving.wording import load_wording

ROWS = WRITTEN.parent / "support.jsonl"
TONE = WRITTEN.parent / "support_tone.jsonl"
TEMPLATE = PromptTemplate(name="p", system="Answer.", shows="sentences")
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


NONE = dict.fromkeys((field.name for field in fields(Shares)), 0.0)


def builder(**shares: float) -> RowBuilder:
    return RowBuilder(
        TEMPLATE,
        lambda text: len(text.split()),
        budget_tokens=400,
        seed=7,
        shares=Shares(**{**NONE, **shares}),
    )


def row_of(kind: str, **changes: Any) -> dict[str, Any]:
    rows = builder(**{kind: 1}).rows(question(**changes), ranked())
    return next(row for row in rows if row["kind"] == kind)


def shown(row: dict[str, Any]) -> dict[int, str]:
    return {passage["n"]: passage["text"] for passage in row["passages"]}


def told(document_id: str, *texts: str) -> list[Source]:
    """Sentences of an article, as the highlighter gives them."""
    (hit,) = HIT.values()
    return [
        Source(
            passage=Passage(n=1, title=document_id.title(), text=text, start=40 * n, end=40 * n + len(text)),
            hit=replace(hit, document_id=document_id),
        )
        for n, text in enumerate(texts)
    ]


def ranked() -> list[Source]:
    refunds = told("refunds", "You can have a refund within 30 days.", "It arrives in 5 to 10 working days.")
    prices = told(
        "prices", "Yearly \u2014 Free: $0; Plus: $90", "Monthly \u2014 Free: $0; Plus: $9", "Open Plans."
    )
    return [refunds[0], prices[0], refunds[1], prices[1], prices[2]]


HIT = {
    "prices": Hit(
        rank=1,
        chunk_id=1,
        document_id="prices",
        document_version=1,
        title="Prices",
        url="",
        heading_path=(),
        text=PRICES,
        start=0,
        end=len(PRICES),
        score=1.0,
        dense_score=0.5,
        lexical_score=1.0,
        effective_from=None,
        effective_to=None,
        metadata={},
    )
}


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
        assert builder().rows(question(facts=[[fact]]), told("prices", text)) == []


def test_list_marks_are_left_out() -> None:
    quoted = quote(question(facts=[["Choose Plus"]]), passages(PRICES))
    assert quoted is not None
    assert quoted.text == "Choose Plus."


def test_a_fact_that_stands_nowhere_is_never_taught() -> None:
    assert quote(question(facts=[["$95"]]), passages(PRICES)) is None
    assert builder().rows(question(facts=[["$95"]]), ranked()) == []


def test_a_served_row_shows_what_the_gateway_shows_and_quotes_it() -> None:
    (served,) = builder().rows(question(facts=[["30 days"]], gold=["refunds"]), ranked())
    assert served["id"] == "plans-01/served"
    assert [passage["title"] for passage in served["passages"]] == ["Refunds", "Refunds", "Prices"]
    assert served["wanted"]["citations"] == [1]
    assert served["wanted"]["answer"] == "You can have a refund within 30 days."
    assert served["wanted"]["follow_up"] == ""


def test_an_answer_that_is_not_among_the_sentences_shown_is_not_taught() -> None:
    late = [*told("refunds", *(f"A refund takes {n} days to arrive." for n in (2, 3, 4))), ranked()[1]]
    assert builder().rows(question(), late) == []


def test_of_sentences_that_hold_the_fact_the_first_is_quoted() -> None:
    both = told("prices", "Plus is $90 a year, and much else.", "Plus costs $90 a year.")
    (row,) = builder().rows(question(), both)
    assert row["wanted"]["citations"] == [1]


def test_an_answer_begins_with_the_first_sentence_and_ends_with_what_is_vital() -> None:
    both = question(facts=[["5 to 10"], ["$90"]], side_facts=["$90"])
    (served,) = builder().rows(both, ranked())
    assert served["wanted"]["answer"] == REFUNDS
    assert served["wanted"]["citations"] == [1, 2]


def test_a_stale_value_on_the_way_is_left_out() -> None:
    (served,) = builder().rows(question(facts=[["5 to 10"]], stale_values=["30 days"]), ranked())
    assert served["wanted"]["answer"] == "It arrives in 5 to 10 working days."
    assert served["wanted"]["citations"] == [2]


def test_an_escalated_answer_ends_with_the_fixed_sentence() -> None:
    passed_on = {"status": "escalated", "escalate": True, "escalation_reason": "billing_dispute"}
    (row,) = builder().rows(question(**passed_on, facts=[["30 days"]]), ranked())
    assert row["wanted"]["answer"].endswith(load_wording().passing_on)
    assert row["wanted"]["escalate"] is True


def test_a_case_about_another_company_becomes_a_row_of_its_own_sentences() -> None:
    case = {
        "id": "elsewhere-1",
        "question": "how do I quit",
        "sentences": [
            {"title": "Gym", "heading": "", "text": "The gym opens at 6.", "weak": True},
            {"title": "Gym", "heading": "Leaving", "text": "Quit at the desk.", "weak": False},
        ],
        "answer": [2],
        "intent": "cancellation",
        "escalate": False,
        "escalation_reason": "none",
        "status": "answered",
    }
    (row,) = builder().elsewhere(case)
    assert row["wanted"]["answer"] == "The gym opens at 6. Quit at the desk."
    assert row["wanted"]["intent"] == "cancellation"
    assert [(p["heading"], p["weak"]) for p in row["passages"]] == [("", True), ("Leaving", False)]

    nothing = case | {"answer": [], "status": "abstained", "escalation_reason": "not_in_help_centre"}
    assert builder().elsewhere(nothing)[0]["wanted"]["answer"] == load_wording().not_in_help_centre
    for intent, wording in (("abuse", load_wording().abusive), ("off_topic", load_wording().off_topic)):
        other = case | {"answer": [], "status": "abstained", "intent": intent}
        assert builder().elsewhere(other)[0]["wanted"]["answer"] == wording


def _texts(sentence: dict[str, Any]) -> tuple[str, ...]:
    return sentence["title"], sentence["heading"], sentence["text"]


def test_the_other_companies_are_not_the_demos() -> None:
    cases = read_elsewhere()
    assert len({case["id"] for case in cases}) == len(cases) > 80
    # Who is passed on is a rule's: rows that taught more of it were answered with it out of turn.
    assert {case["status"] for case in cases} == {"answered", "abstained"}
    text = " ".join(
        " ".join([case["question"], *(value for each in case["sentences"] for value in _texts(each))])
        for case in cases
    )
    assert not re.search(r"\b(pellworth|backup|sync)\b", text, re.IGNORECASE)


def test_a_question_without_an_answer_keeps_its_fixed_wording() -> None:
    wording = load_wording().not_in_help_centre
    open_ = question(gold=[], facts=[], status="abstained", answer=wording, escalate=True)
    (row,) = builder().rows(open_, ranked())
    assert row["wanted"]["answer"] == wording
    assert row["wanted"]["citations"] == []


def test_an_answer_against_the_house_tone_is_not_taught() -> None:
    loud = question(facts=[["now"]], gold=["loud"])
    assert builder().rows(loud, told("loud", "Buy Plus now!")) == []


def test_every_question_of_a_rare_intent_is_disguised() -> None:
    kinds = {
        intent: [row["kind"] for row in builder().rows(question(intent=intent), ranked())]
        for intent in ("policy", "billing")
    }
    assert kinds == {"policy": ["served", "disguised"], "billing": ["served"]}


def test_a_disguised_row_says_other_values_in_question_passages_and_answer_alike() -> None:
    row = row_of("disguised", text="what is Plus a year on Pellworth Sync")
    assert "$90" not in row["wanted"]["answer"]
    assert "Pellworth" not in row["question"]
    last = row["wanted"]["citations"][-1]
    assert row["wanted"]["answer"].rstrip(".").endswith(shown(row)[last])


def test_a_disguised_row_of_the_demo_names_the_company_nowhere_and_quotes_what_is_shown() -> None:
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    disguised = [row for row in rows if row["kind"] == "disguised"]
    assert len(disguised) > 30
    name = re.compile(r"\b(pellworth|sync|backup)\b", re.IGNORECASE)
    for row in disguised:
        said = [row["question"], row["wanted"]["answer"].removesuffix(load_wording().passing_on)]
        said += [passage[part] for passage in row["passages"] for part in ("title", "heading", "text")]
        assert not [text for text in said if name.search(text)], row["id"]
        for n in row["wanted"]["citations"]:
            assert row["passages"][n - 1]["text"].rstrip(".") in row["wanted"]["answer"], row["id"]


def test_a_number_at_the_end_of_a_quote_is_disguised_like_that_of_its_passage() -> None:
    prices = told("prices", "Plus costs $90. Free costs $0.")
    rows = builder(disguised=1).rows(question(), prices)
    (row,) = [row for row in rows if row["kind"] == "disguised"]
    assert "$90" not in row["wanted"]["answer"]
    assert row["wanted"]["answer"] == shown(row)[1]


def test_rows_that_were_found_to_be_wrong_are_not_taught() -> None:
    left_out = read_left_out()
    assert all(reason.strip() for reason in left_out.values())
    rows = [json.loads(line) for path in (ROWS, TONE) for line in path.read_text("utf-8").splitlines()]
    assert not left_out.keys() & {row["id"] for row in rows}
    asked = {row["id"] for folder in (QUESTIONS, WRITTEN) for row in read_questions(folder, "train")}
    asked |= {case["id"] for case in read_elsewhere()}
    asked_of = {row.rsplit("/", 1)[0] for row in left_out if not row.startswith("tone_")}
    assert asked_of <= asked


def test_an_outdated_passage_says_something_else_and_is_not_quoted() -> None:
    row = row_of("outdated", facts=[["30 days"]])
    dated = sorted(row["passages"], key=lambda passage: passage["effective_from"])
    old, current = [passage for passage in dated if "refund within" in passage["text"]]
    assert row["wanted"]["citations"] == [current["n"]]
    assert "30 days" in row["wanted"]["answer"]
    assert "30 days" not in old["text"]


def test_an_order_in_a_passage_is_shown_and_never_answered() -> None:
    rows = [
        row
        for n in range(20)
        for row in builder(instructed=1).rows(question(id=f"plans-{n}"), ranked())
        if row["kind"] == "instructed"
    ]
    assert len(rows) == 20
    for row in rows:
        assert sum(any(order in text for order in ORDERS) for text in shown(row).values()) == 1
        assert row["wanted"]["answer"].endswith("Yearly \u2014 Free: $0; Plus: $90.")
        assert not any(order in row["wanted"]["answer"] for order in ORDERS)


def test_a_removed_row_shows_no_fact_and_abstains() -> None:
    row = row_of("removed")
    assert not any("$90" in text for text in shown(row).values())
    assert row["wanted"]["answer"] == load_wording().not_in_help_centre
    assert row["wanted"]["escalation_reason"] == "not_in_help_centre"
    assert row["wanted"]["citations"] == []


def test_an_off_topic_question_gets_the_fixed_wording_of_the_help_centre() -> None:
    (row,) = builder().rows(question(gold=[], facts=[], kind="off_topic", status="abstained"), ranked())
    assert row["wanted"]["answer"] == load_wording().off_topic


def test_the_rows_of_a_question_depend_on_the_seed_alone() -> None:
    every = dict.fromkeys(NONE, 1.0)
    assert builder(**every).rows(question(), ranked()) == builder(**every).rows(question(), ranked())


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


def test_the_shipped_adapter_is_of_this_recipe_and_of_these_rows(tmp_path: Path) -> None:
    manifest = json.loads((SHIPPED_ADAPTER / "manifest.json").read_text(encoding="utf-8"))
    recipe = load_recipe(WRITTEN.parent.parent / "recipes" / "support.yaml")
    made = build(
        tmp_path / "set",
        Inputs(files=(ROWS, TONE)),
        schema=recipe.schema,
        wording=load_wording(),
        settings=Settings(negatives=NO_NEGATIVES, valid=0.03, test=0.01),
        redactor=None,
    )
    assert manifest["recipe_sha256"] == recipe.sha256
    assert manifest["prompt_sha256"] == recipe.prompt_sha256
    assert manifest["dataset_sha256"] == made.manifest.sha256
    assert manifest["adapter_digest"] == digest_folder(SHIPPED_ADAPTER)


def test_the_public_rows_are_of_sources_that_may_be_passed_on() -> None:
    source = Path(__file__).parents[4] / "shared" / "data" / "support_tone" / "train.jsonl"
    if not source.exists():
        pytest.skip("shared/data/support_tone does not lie beside this checkout")
    given = {row["id"]: row for row in map(json.loads, source.read_text(encoding="utf-8").splitlines())}
    rows = [json.loads(line) for line in TONE.read_text(encoding="utf-8").splitlines()]
    assert {given[row["id"].split("/")[0]]["license"] for row in rows} == {"MIT"}


def test_no_row_answers_what_an_instruction_in_a_passage_asks_for() -> None:
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    assert any(order in passage["text"] for row in rows for passage in row["passages"] for order in ORDERS)
    assert not [row["id"] for row in rows if any(order in row["wanted"]["answer"] for order in ORDERS)]

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from eval.errors import CaseFileError
from eval.sets.draft_command import read_documents
from eval.sets.drafting import SourceDocument, propose
from eval.sets.proposals import PROPOSED, read_accepted, read_proposals, write_proposals

ROOT = Path(__file__).parents[4]
BANK = ROOT.parent / "shared" / "data" / "bank_support" / "corpus.jsonl"

ARTICLE = SourceDocument(
    id="plus",
    title="Sync Plus: price and what you get",
    text="""Sync Plus: price and what you get

Sync Plus costs $9 a month. It was $8. The move takes up to 14 days.

- Monthly fee: $9
- Support: by e-mail
- Users: up to 3 people

Plan \u2014 Sync Free: 5 GB; Sync Plus: 1 TB

How to cancel the plan

1. Open Account > Plan > Cancel and choose a day.
2. Confirm.

Do I get money back?

A yearly renewal is refunded in full within 30 days of the payment.
""",
    effective_from=date(2026, 3, 1),
)


def test_statements_fields_steps_and_asked_headings_become_questions() -> None:
    made = {each.template + ": " + each.text: each for each in propose(ARTICLE, each=20)}
    wanted = {
        "price: How much does Sync Plus cost?": ("number", ("$9",)),
        "duration: How long does the move take?": ("number", ("14 days",)),
        "field: What is the monthly fee for Sync Plus?": ("number", ("$9",)),
        "field: What are the users for Sync Plus?": ("exact", ("3 people",)),
        "field: What is the plan for Sync Free?": ("number", ("5 GB",)),
        "field: What is the plan for Sync Plus?": ("number", ("1 TB",)),
        "how_to: How do I cancel the plan?": ("exact", ("Account > Plan > Cancel",)),
        "heading: Do I get money back?": ("number", ("30 days",)),
    }
    assert {
        key: (made[key].facts[0].match, made[key].facts[0].values) for key in wanted if key in made
    } == wanted
    assert not any("It" in each.text.split() for each in made.values()), "what `it` is, nobody can know"


def test_every_proposal_has_its_words_its_dates_and_a_fact_that_they_say() -> None:
    for each in propose(ARTICLE, each=20):
        assert ARTICLE.text[each.start : each.end] == each.quote
        assert each.facts[0].said_in(each.quote)
        assert (each.facts[0].valid_from, each.facts[0].document) == (date(2026, 3, 1), "plus")
        assert each.accepted is None


def test_at_most_so_many_of_a_document_and_always_the_same() -> None:
    assert len(propose(ARTICLE, each=2)) == 2
    assert propose(ARTICLE, each=9) == propose(ARTICLE, each=9)


def test_what_was_decided_stays_and_what_was_accepted_is_taken(tmp_path: Path) -> None:
    proposals = propose(ARTICLE, each=20)
    file, new = write_proposals(tmp_path, proposals)
    assert new == len(proposals)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0] |= {"accepted": True, "text": "what's the price of plus"}
    rows[1]["accepted"] = False
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, new = write_proposals(tmp_path, proposals)
    assert new == len(proposals) - 2
    (question,) = read_accepted(file)
    assert (question.text, question.status, question.gold) == (
        "what's the price of plus",
        "answerable",
        ("plus",),
    )
    assert question.source == f"draft:plus:{rows[0]['start']}-{rows[0]['end']}"
    assert len(read_proposals(file)) == len(proposals)


def test_nothing_accepted_is_an_error_that_says_what_waits(tmp_path: Path) -> None:
    write_proposals(tmp_path, propose(ARTICLE, each=2))
    with pytest.raises(CaseFileError, match=r"no proposal is accepted \(2 wait"):
        read_accepted(tmp_path / PROPOSED)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds no document"),
        ('{"id": "a"}\n', "field 'text'"),
        ('{"id":"a","text":""}\n' * 2, "stands already"),
    ],
)
def test_a_bad_document_file_is_named(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "docs.jsonl"
    file.write_text(content)
    with pytest.raises(CaseFileError, match=words):
        read_documents(file)


@pytest.mark.skipif(not BANK.exists(), reason="the public sets are not here")
def test_a_real_help_centre_gives_questions_to_choose_from() -> None:
    documents = read_documents(BANK)
    proposals = [each for document in documents for each in propose(document, each=3)]
    assert len(proposals) > 250
    assert len({each.id for each in proposals}) == len(proposals)
    assert all(each.facts[0].said_in(each.quote) for each in proposals)

"""As of when a question is asked again: the newest text with its facts that is not the one searched."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eval.cases import Case
from eval.documents import DocumentHistory
from eval.labelling.moments import Moment, moment_of, states_of
from tests.unit.eval.labelling.turns import CASE, OLD_TEXT, TEXT, history

NOTHING = "Nothing is said here."
TODAY = "2026-11-20"


def moment(*histories: DocumentHistory, case: Case = CASE, searched: int | None = 7) -> Moment | None:
    return moment_of(case, histories, searched=searched, day=TODAY)


@pytest.mark.parametrize(
    ("histories", "searched", "expected"),
    [
        # Taken out, then taken down: the last snapshot that had it.
        (history(TEXT, NOTHING), 7, Moment(snapshot=1)),
        (history(NOTHING, TEXT, NOTHING), 7, Moment(snapshot=2)),
        (history(TEXT, live=False), 7, Moment(snapshot=1)),
        # An index that was behind: the snapshot that is live.
        (history(OLD_TEXT, TEXT), 1, Moment(snapshot=7)),
        # Dates that do not cover the day: the day from which it held.
        (history(TEXT, since=("2025-01-01",), until="2025-12-31"), 7, Moment(snapshot=7, day="2025-01-01")),
        (history(TEXT, since=("2031-01-01",)), None, Moment(snapshot=7, day="2031-01-01")),
        # Never written, or there all the time: nothing to ask.
        (history(NOTHING, OLD_TEXT), 7, None),
        (history(TEXT), 7, None),
        (history(), 7, None),
    ],
)
def test_the_newest_text_with_the_facts(
    histories: DocumentHistory, searched: int | None, expected: Moment | None
) -> None:
    assert moment(histories, searched=searched) == expected


def test_all_articles_are_read_at_one_moment() -> None:
    case = replace(CASE, gold=("plus", "trial"), facts=(("$9",), ("14 days",)))
    price = history("Plus is $9.", NOTHING, NOTHING)
    trial = history(NOTHING, "The trial has 14 days.", "The trial has 14 days.", document_id="trial")
    assert moment(price, trial, case=case) is None
    both = history("The trial has 14 days.", NOTHING, document_id="trial")
    assert moment(price, both, case=case) == Moment(snapshot=1)


def test_words_in_another_order_count_where_no_text_has_the_fact_itself() -> None:
    case = replace(CASE, facts=(("only the account owner may do it",),))
    reworded = "The account owner only: he may do it."
    assert moment(history(reworded, NOTHING), case=case) == Moment(snapshot=1)
    assert moment(history("Only the account owner may do it.", reworded), case=case) == Moment(snapshot=1)


def test_each_state_of_the_articles_is_read_once() -> None:
    """A dated text for each of 400 days makes 160,000 moments, and no more states than texts."""
    days = [f"{2020 + n // 336}-{n // 28 % 12 + 1:02d}-{n % 28 + 1:02d}" for n in range(400)]
    found = states_of([history(*[NOTHING] * 400, since=tuple(days))], 400, TODAY)
    assert len(list(found)) == 401, "each text, and none at all"


def test_what_is_not_known_gives_no_moment() -> None:
    assert moment_of(CASE, None, searched=7, day=TODAY) is None
    assert moment_of(replace(CASE, facts=()), [history(TEXT, NOTHING)], searched=7, day=TODAY) is None

from __future__ import annotations

import pytest

from eval.matching import missing_facts, says, stale_values_in


@pytest.mark.parametrize(
    ("answer", "spelling"),
    [
        ("Sync Plus is $9 a month.", "$9"),
        ("It costs $9.00 now", "$9"),
        ("It costs 9 dollars now", "$9"),
        ("You pay $1,200 a year", "$1200"),
        ("It costs 9.00 $ now", "$9"),
        ("It costs 9 \u20ac now", "\u20ac9"),
        ("It costs \u20ac 9.00 now", "9 euros"),
        ("It costs 9 pounds now", "\u00a39"),
        ("Plan 9 $12, plan 10 $15", "$12"),
        ("within fourteen days", "14 days"),
        ("within forty-five days", "45 days"),
        ("a 14-day trial", "14 day"),
        ("holds 1TB", "1 TB"),
        ("75 percent of the line", "75 %"),
        ("75% of the line", "75 %"),
        ("Error b20 means", "B-20"),
        ("open Account, then Security and", "account then security"),
        ("since March 1st, 2026", "1 March 2026"),
        ("since 1 March 2026", "March 1, 2026"),
        ("don\u2019t need a card", "don't need a card"),
        ("leaves out symbolic links", "symbolic link"),
        ('leaves out "~$" files', "~$"),
        ("TLS 1.3 in transit", "TLS 1.3"),
    ],
)
def test_says_in_another_spelling(answer: str, spelling: str) -> None:
    assert says(answer, spelling)


@pytest.mark.parametrize(
    ("answer", "spelling"),
    [
        ("Plus is $90 a year", "$9"),
        ("Plus is $9.50", "$9"),
        ("within 140 days", "14 days"),
        ("within forty-five days", "5 days"),
        ("30 devices in 14 offices", "14 devices"),
        ("TLS 1.30", "TLS 1.3"),
        ("the card is needed", "no card"),
        ("anything", ""),
        ("9 users", "$9"),
        ("9 users", "\u20ac9"),
        ("$9 a month", "\u20ac9"),
        ("\u00a390 a year", "\u00a39"),
        ("Plan 9 $12", "$9"),
    ],
)
def test_does_not_say(answer: str, spelling: str) -> None:
    assert not says(answer, spelling)


def test_one_spelling_of_each_fact_is_enough() -> None:
    facts = [["14 days", "two weeks"], ["$9"], ["no card"]]
    assert missing_facts("Two weeks, then $9.", facts) == ("no card",)
    assert missing_facts("14 days with no card, then $9.", facts) == ()


def test_stale_values_are_named() -> None:
    assert stale_values_in("It is $8 a month", ["$80", "$8"]) == ("$8",)

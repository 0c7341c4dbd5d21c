"""Values compare by what they mean."""

from __future__ import annotations

import pytest

from serving.values import find_values, missing_values


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("$9", "$9.00"),
        ("$1,000 a year", "1000 dollars"),
        ("two weeks", "14 days"),
        ("fourteen days", "14-day"),
        ("1 year", "12 months"),
        ("25 %", "25 percent"),
        ("5GB", "5 GB"),
        ("300 gigs", "300 GB"),
        ("0.5 TB", "500 GB"),
        ("1 March 2026", "2026-03-01"),
        ("March 1st, 2026", "1 Mar 2026"),
        ("S-101", "s101"),
        ("8:00", "08:00"),
        ("forty-five days", "45 days"),
        ("seventy percent", "70 %"),
        ("maybe 10 minutes", "10 minutes"),
        ("5 Sept. 2026", "2026-09-05"),
        ("5 may 2026", "2026-05-05"),
        ("HELP@x.example", "help@x.example."),
        ("a hundred dollars", "$100"),
        ("a hundred and twenty days", "120 days"),
        ("forty five days", "45 days"),
        ("two thousand five hundred GB", "2.5 TB"),
        ("a thousand and one nights", "1001 nights"),
        # Letters that are equal to others whatever their case.
        ("6 m\u0131nutes", "6 minutes"),
        ("\u017fix day\u017f", "6 days"),
        ("5 \u017fep 2026", "2026-09-05"),
    ],
)
def test_two_ways_to_write_one_value(one: str, other: str) -> None:
    assert find_values(one)[0].key == find_values(other)[0].key


@pytest.mark.parametrize(
    ("text", "source", "missing"),
    [
        ("It costs $9 a month.", "Plus | $9 a month", ()),
        ("It costs $8 a month.", "Plus | $9 a month", ("$8",)),
        ("You have 30 days.", "Refunds within 14 days", ("30 days",)),
        ("Six devices are allowed.", "Devices | 6", ()),
        ("True since 1 March.", "valid from 2026-03-01", ()),
        ("True since 2 March.", "valid from 2026-03-01", ("2 March",)),
        ("Storage is 5 GB.", "GB | 5", ()),
        ("It costs $7.", "We are 7 staff, 7-strong", ("$7",)),
        ("It takes 7 days.", "for 7 people", ("7 days",)),
        ("It costs $7.", "Price in $ | 7\nDevices | 2", ()),
        ("It costs $7 a month.", "is it still 7 a month?", ()),
        ("It takes 5 days.", "5 to 10 days", ()),
        ("Code S-203 is about the clock.", "203 won't clear", ()),
        ("For your 7 people.", "It costs $7.", ()),
        ("Code B-44 means a pause.", "B-20 no permission", ("B-44",)),
        ("Needs version 4.6.2 or newer.", "fixed in 4.6.2", ()),
        ("Needs version 4.6.3 or newer.", "fixed in 4.6.2", ("4.6.3",)),
        ("It takes maybe 15 minutes.", "10 minutes", ("15 minutes",)),
        ("Five separate devices, up to 5 may be yours.", "Devices | 5", ()),
        ("You have forty-five days.", "within 5 days", ("forty-five days",)),
        ("You have forty-five days.", "within 45 days", ()),
        # Digits within another kind of thing are not that thing.
        ("Pay at https://pay24.example/now today.", "Version 24.", ("https://pay24.example/now",)),
        ("Needs version 4.6.3.", "Needs version 4.6.", ("4.6.3",)),
        ("We open at 10:30.", "We open at 10.", ("10:30",)),
        ("We open at 10:00.", "We open at 10.", ()),
        ("Only one of them at a time.", "", ()),
        ("It costs a hundred dollars.", "It costs $9, or a few hundred.", ("a hundred dollars",)),
        ("No values here at all.", "", ()),
    ],
)
def test_what_stands_in_no_source_is_named_as_written(
    text: str, source: str, missing: tuple[str, ...]
) -> None:
    assert missing_values(text, [source]) == missing


def test_a_long_row_of_dots_is_read_in_time() -> None:
    """Every part of it used to be tried against all that follow: minutes for this one."""
    assert [value.text for value in find_values("a." * 50_000 + " costs $9")] == ["$9"]

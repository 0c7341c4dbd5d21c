"""Lag from a change to the search that finds it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from retrieval.freshness import SourceFreshness, lags

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def test_lag_counts_from_the_change() -> None:
    changed = [ago(30), None, ago(5)]
    assert lags(changed, looked_before=ago(60), whole=True, found_at=NOW) == [30, 5]


def test_a_file_that_kept_an_old_time_came_after_the_last_look() -> None:
    assert lags([ago(9_999_999)], looked_before=ago(60), whole=True, found_at=NOW) == [60]


def test_the_first_look_at_a_source_tells_nothing() -> None:
    assert lags([ago(30)], looked_before=None, whole=True, found_at=NOW) == []


def test_documents_that_are_sent_count_from_the_time_sent_along() -> None:
    assert lags([ago(30), None], looked_before=None, whole=False, found_at=NOW) == [30]


def test_a_clock_that_is_fast_gives_no_negative_lag() -> None:
    assert lags([ago(-30)], looked_before=ago(60), whole=True, found_at=NOW) == [0]


def test_overdue_needs_an_expectation_and_a_look() -> None:
    def source(checked_at: datetime | None, every_s: int | None) -> SourceFreshness:
        return SourceFreshness(
            source="help",
            checked_at=checked_at,
            left_out=0,
            published_at=None,
            changed_at=None,
            lag_s=None,
            sync_every_s=every_s,
        )

    assert source(ago(61), 60).is_overdue(NOW)
    assert not source(ago(59), 60).is_overdue(NOW)
    assert not source(ago(9_999), None).is_overdue(NOW)
    assert not source(None, 60).is_overdue(NOW)

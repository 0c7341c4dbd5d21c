"""How figures are made from samples."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from bench.load import Reply, Request, Sample, percentile
from bench.overhead.leaving import MOMENTS, Departures
from bench.overhead.measuring import Call, Column, summarise
from bench.overhead.report import table


@pytest.mark.parametrize(
    ("values", "share", "wanted"),
    [([3.0], 0.5, 3.0), ([4.0, 1.0, 3.0, 2.0], 0.5, 2.0), ([float(n) for n in range(1, 101)], 0.99, 99.0)],
)
def test_percentile_is_the_nearest_rank(values: list[float], share: float, wanted: float) -> None:
    assert percentile(values, share) == wanted


def test_percentile_of_nothing_is_no_number() -> None:
    assert math.isnan(percentile([], 0.5))


def test_failed_replies_count_as_failures_only() -> None:
    sample = Sample(elapsed_s=2.0)
    sample.add(Reply(200, b"", 0.1, 0.2), late_s=1.0)
    sample.add(Reply(503, b"", None, 0.001, "status 503"))

    assert sample.total_s == [1.2]
    assert sample.first_text_s == [1.1]
    assert sample.failures == {"status 503": 1}
    assert sample.per_second == 0.5


def test_request_needs_host_and_port() -> None:
    with pytest.raises(ValueError, match="host and port"):
        Request.post("http://example/", b"{}", proof=())


def test_added_latency_is_the_median_of_the_differences_of_each_round() -> None:
    columns = {
        ("direct", Call.CHAT): Column(p50_ms=[1.0, 5.0, 1.0], p99_ms=[2.0, 9.0, 2.0]),
        ("ours", Call.CHAT): Column(p50_ms=[3.0, 8.0, 2.5], p99_ms=[4.0, 12.0, 5.0], cpu_ms=[1.0, 1.0, 1.0]),
        ("ours", Call.ANSWERS): Column(p50_ms=[4.0, 8.0, 4.0], p99_ms=[4.0, 12.0, 5.0]),
    }

    rows = {(row["target"], row["call"]): row for row in summarise(columns, "direct")}

    assert rows["ours", "chat"]["added_p50_ms"] == 2.0
    assert rows["ours", "answers"]["added_p50_ms"] == 3.0
    assert rows["direct", "chat"]["added_p50_ms"] == 0.0
    assert rows["direct", "chat"]["cpu_ms_per_request"] is None


def test_a_missing_round_gives_no_figure() -> None:
    columns = {
        ("direct", Call.CHAT): Column(p50_ms=[1.0, 1.0]),
        ("ours", Call.CHAT): Column(p50_ms=[3.0]),
    }

    (_, ours) = summarise(columns, "direct")

    assert ours["added_p50_ms"] is None


def test_one_try_that_was_not_freed_has_no_worst_time() -> None:
    assert Departures(freed_ms=(2.0, 3.0), limit_s=3.0).worst_ms == 3.0
    assert Departures(freed_ms=(2.0, None), limit_s=3.0).worst_ms is None


def test_table_shows_ours_beside_the_peer() -> None:
    def row(target: str, added: float | None, most: float) -> Mapping[str, object]:
        return {
            "target": target,
            "call": "chat",
            "added_p50_ms": added,
            "added_p99_ms": added,
            "cpu_ms_per_request": None,
            "most_per_second": most,
            "most_p99_ms": 1.0,
            "failures": {},
        }

    never = {moment: Departures(freed_ms=(None,), limit_s=3.0).as_json() for moment in MOMENTS}
    soon = {moment: Departures(freed_ms=(1.5,), limit_s=3.0).as_json() for moment in MOMENTS}
    shown = table(
        {
            "rows": [
                row("direct", 0.0, 9000.0),
                row("twinrail, retrieval off", 2.0, 600.0),
                row("litellm 1", 20.0, 60.0),
            ],
            "leaving": {"twinrail, retrieval off": soon, "litellm 1": never},
            "notes": ["a note"],
        }
    )

    assert "10.0 times the requests/s, 1/10.0 of the added p50" in shown
    assert "not within 3 s" in shown
    assert shown.endswith("a note")

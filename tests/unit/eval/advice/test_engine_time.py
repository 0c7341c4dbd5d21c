"""The engine's time for answers that were written at once: nobody pays for a second twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from eval.advice.engine_time import Writing, engine_seconds, engine_shares, writing_of
from eval.observations import Observation

NINE = datetime(2026, 3, 1, 9, tzinfo=UTC)


def seen(asked_s: float, generation_ms: float, **timings: float) -> Observation:
    return Observation(
        case_id="q",
        arm="rag",
        asked_at=(NINE + timedelta(seconds=asked_s)).isoformat(),
        timings_ms={"generation": generation_ms, **timings},
    )


def test_each_moment_is_shared_by_the_answers_that_were_written_in_it() -> None:
    #    0    2    4    6    8
    # a  =========
    # b       =========
    # c                      === alone
    worked = engine_seconds(
        {"a": Writing(begin=0, end=4), "b": Writing(begin=2, end=6), "c": Writing(begin=7, end=8)}
    )
    assert worked == pytest.approx({"a": 2 + 1, "b": 1 + 2, "c": 1})
    assert sum(worked.values()) == pytest.approx(7), "busy from 0 to 6 and from 7 to 8"


def test_answers_that_begin_and_end_together_have_equal_parts() -> None:
    worked = engine_seconds({n: Writing(begin=0, end=3) for n in range(4)})
    assert worked == pytest.approx(dict.fromkeys(range(4), 0.75))


def test_an_answer_is_written_after_it_was_searched_for() -> None:
    writing = writing_of(seen(10, 2000, assign=100.0, retrieval=300.0, assemble=100.0, total=2600.0))
    assert writing is not None
    assert writing.begin == pytest.approx(NINE.timestamp() + 10.5)
    assert writing.end - writing.begin == pytest.approx(2)


def test_shares_are_of_the_whole_run_and_one_where_nobody_knows() -> None:
    shares = engine_shares(
        {
            "first": seen(0, 4000),
            "beside it": seen(0, 4000),
            "alone": seen(60, 4000),
            "abstained": Observation(case_id="q", arm="rag", asked_at=NINE.isoformat()),
            "of before": Observation(case_id="q", arm="rag", timings_ms={"generation": 4000.0}),
        }
    )
    assert shares == pytest.approx(
        {"first": 0.5, "beside it": 0.5, "alone": 1.0, "abstained": 1.0, "of before": 1.0}
    )

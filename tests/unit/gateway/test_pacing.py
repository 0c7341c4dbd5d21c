"""Time is promised in the order of the chain, and never twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pacing import LEAST_DRAFT_S, Pace, Share, share_out

SHARES = st.lists(
    st.builds(
        Share,
        weight=st.floats(0.1, 10),
        least_s=st.floats(LEAST_DRAFT_S, 40),
        most_s=st.one_of(st.just(float("inf")), st.floats(LEAST_DRAFT_S, 40)),
    ),
    min_size=1,
    max_size=5,
)
LEFT = st.floats(0, 60)


@given(LEFT, SHARES)
def test_no_second_is_given_twice_and_nobody_gets_what_is_of_no_use(left: float, shares: list[Share]) -> None:
    seconds = share_out(left, shares)
    assert len(seconds) == len(shares)
    assert sum(seconds) <= left + 1e-6
    for got, share in zip(seconds, shares, strict=True):
        assert got == 0 or share.least_s - 1e-6 <= got <= share.most_s + 1e-6


@given(LEFT, SHARES)
def test_who_comes_first_is_never_passed_over_for_those_behind(left: float, shares: list[Share]) -> None:
    first = shares[0]
    assert (share_out(left, shares)[0] > 0) == (first.least_s <= min(left, first.most_s))


@given(LEFT, SHARES)
def test_nothing_lies_idle_while_somebody_could_use_it(left: float, shares: list[Share]) -> None:
    seconds = share_out(left, shares)
    served = [(got, share) for got, share in zip(seconds, shares, strict=True) if got]
    if any(share.most_s == float("inf") for _, share in served):
        assert sum(seconds) == pytest.approx(left)


def test_the_rest_goes_by_weight() -> None:
    needs = [Share(weight=4, least_s=1), Share(weight=2, least_s=1)]
    assert share_out(20, needs) == pytest.approx([13, 7])


def test_what_one_may_not_take_goes_to_the_others() -> None:
    needs = [Share(weight=1, least_s=1), Share(weight=1, least_s=1, most_s=3)]
    assert share_out(20, needs) == pytest.approx([17, 3])


def test_a_version_needs_what_its_fastest_draft_took_lately() -> None:
    now = 0.0
    pace = Pace(clock=lambda: now)
    assert pace.least_s("m") == LEAST_DRAFT_S
    for took in (9.0, 4.0, 6.0):
        pace.note("m", took)
    assert pace.least_s("m") == 4.0
    assert pace.least_s("other") == LEAST_DRAFT_S
    now = 301.0
    assert pace.least_s("m") == LEAST_DRAFT_S

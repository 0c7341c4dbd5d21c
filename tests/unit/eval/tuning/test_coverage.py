"""Risk against coverage, and abstaining at equal cost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from eval.arms import Arm, Pin
from eval.cases import Case
from eval.flips import Flips
from eval.gating.sides import Side
from eval.observations import Observation
from eval.scorers import Score
from eval.tuning.coverage import abstaining, confidence, curve


def case(number: int, status: str = "answered") -> Case:
    return Case(id=f"q{number}", topic=f"t{number}", split="test", text=f"question {number}", status=status)


def seen(number: int, status: str, retrieval: float | None, grounded: float | None = None) -> Observation:
    return Observation(case_id=f"q{number}", arm="a", status=status, confidence=retrieval, grounded=grounded)


def side(name: str, answers: Sequence[Observation], right: Sequence[bool] = ()) -> Side:
    return Side(
        run="run",
        arm=Arm(name=name, pin=Pin(model=name)),
        answers={each.case_id: each for each in answers},
        outcomes={f"q{n}": {"answer_vital": Score(float(good))} for n, good in enumerate(right)},
        flips=Flips(repeats=1, rates={}),
    )


def test_confidence_is_of_both_layers_or_of_the_one_that_is_known() -> None:
    assert confidence(seen(0, "answered", 0.8, 0.5)) == pytest.approx(0.4)
    assert confidence(seen(0, "answered", None, 0.5)) == 0.5
    assert confidence(seen(0, "answered", None, None)) == 1.0


def test_the_surest_answers_come_first_and_equally_sure_ones_together() -> None:
    answers = [
        seen(0, "answered", 0.9),
        seen(1, "answered", 0.8),
        seen(2, "answered", 0.8),
        seen(3, "answered", 0.2),
        seen(4, "abstained", 0.1),
    ]
    found = curve(
        side("a", answers, [True, True, False, False, True]), [case(n) for n in range(5)], "answer_vital"
    )
    assert found is not None
    assert [(point.coverage, point.risk) for point in found.points] == [
        (0.2, 0.0),
        (0.6, pytest.approx(1 / 3)),
        (0.8, 0.5),
    ]
    assert (found.served.k, found.served.n) == (4, 5)
    assert found.area == pytest.approx((0.4 / 3 + 0.2 * 0.5) / 0.8)
    assert (found.risk_at(0.6), found.risk_at(0.75), found.risk_at(0.9)) == (pytest.approx(1 / 3), 0.5, None)


def test_without_a_judged_answer_there_is_no_curve() -> None:
    assert curve(side("a", [seen(0, "answered", 0.9)]), [case(0)], "answer_vital") is None
    silent = curve(side("a", [seen(0, "abstained", 0.1)], [True]), [case(0)], "answer_vital")
    assert silent is not None
    assert (silent.area, silent.points) == (None, ())


def test_who_abstains_more_is_not_better_for_it() -> None:
    """One arm abstains on half of everything, the other on nothing: at equal cost the other knows more."""
    cases = [*(case(n) for n in range(4)), *(case(n, "abstained") for n in range(4, 8))]
    blunt = [seen(n, "abstained" if n % 2 else "answered", 0.9) for n in range(8)]
    sure = [seen(n, "answered", 0.9 if n < 4 else 0.1 + n / 100) for n in range(8)]
    found = abstaining(side("own", blunt), side("other", sure), cases)
    assert found is not None
    assert (found.own.k, found.theirs.k) == (2, 0)
    assert (found.given_up_own.k, found.given_up_theirs.k) == (2, 4), (
        "four are equally sure: they go together"
    )
    finer = [seen(n, "answered", (0.5 + n / 100) if n < 4 else 0.1) for n in range(8)]
    found = abstaining(side("own", blunt), side("other", finer), cases)
    assert found is not None
    assert (found.given_up_theirs.k, found.at_equal_theirs.k, found.at_equal_own.k) == (2, 4, 2)


def test_abstaining_needs_questions_of_both_kinds() -> None:
    one = side("own", [seen(0, "answered", 0.9)])
    assert abstaining(one, side("other", [seen(0, "answered", 0.9)]), [case(0)]) is None

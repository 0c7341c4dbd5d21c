"""Which version a verdict is about, and which questions both arms were measured on."""

from __future__ import annotations

import pytest

from eval.arms import Arm, Pin
from eval.errors import ArmError
from eval.gating.sides import METRIC, match, subject_of
from eval.gating.verdicts import Subject
from serving.prompting import PromptTemplate
from tests.fakes.gate_sides import CANDIDATE, STABLE, cases, side


def arm(name: str, **pin: str) -> Arm:
    return Arm(name=name, pin=Pin(**pin))


OLD = arm("old", knowledge="k-old-1@3", model="m-old-1")


def test_the_rail_is_the_one_that_differs() -> None:
    model = arm("new", knowledge="k-old-1@3", model="m-new-1")
    assert subject_of(OLD, model) == Subject(rail="model", version="m-new-1", against="m-old-1")
    index = arm("new", knowledge="k-new-1@4", model="m-old-1")
    assert subject_of(OLD, index) == Subject(rail="knowledge", version="k-new-1", against="k-old-1")


def test_two_changes_need_a_word() -> None:
    both = arm("new", knowledge="k-new-1@3", model="m-new-1")
    with pytest.raises(ArmError, match="differ on both rails"):
        subject_of(OLD, both)
    assert subject_of(OLD, both, rail="knowledge").version == "k-new-1"


@pytest.mark.parametrize(
    ("other", "rail", "words"),
    [
        (arm("new", knowledge="k-old-1@9", model="m-old-1"), None, "the same versions"),
        (arm("new", model="m-new-1", context="none"), None, "one is given its context"),
        (arm("new", knowledge="k-old-1@3", model="m-new-1"), "knowledge", "both arms use k-old-1"),
    ],
)
def test_what_no_verdict_can_be_about(other: Arm, rail: str | None, words: str) -> None:
    with pytest.raises(ArmError, match=words):
        subject_of(OLD, other, rail=rail)


def test_a_prompt_that_is_no_version_gets_no_verdict() -> None:
    tried = Arm(name="new", pin=Pin(model="m-old-1", prompt=PromptTemplate(name="terse", system="Be terse.")))
    with pytest.raises(ArmError, match=r"a prompt of no version \(terse\).*twinrail model register"):
        subject_of(OLD, tried)


def test_pairs_say_good_and_rates_say_what_the_metric_counts() -> None:
    of = cases(6)
    stable = side(STABLE, {"hallucination_draft": "1100?-"}, of)
    candidate = side(CANDIDATE, {"hallucination_draft": "10-111"}, of)
    matched = match(METRIC["hallucination_draft"], stable, candidate, of)
    assert [(pair.first, pair.second) for pair in matched.pairs] == [(0, 0), (0, 1), (1, 0)]
    assert (matched.stable.k, matched.candidate.k, matched.stable.n) == (2, 2, 3)
    assert (matched.missing, matched.one_arm_only) == (1, 2)

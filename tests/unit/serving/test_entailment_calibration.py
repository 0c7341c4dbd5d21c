"""How much a logit is believed follows from held rows, and never against a sign's direction."""

from __future__ import annotations

import random

import numpy as np
import pytest

from serving.entailment import Weights
from serving.entailment_calibration import auroc, calibrate, fit
from serving.entailment_rows import ANSWER, Row
from serving.grounding import Signs
from serving.negation import Contrary

EVIDENCE = "Yearly renewals are refunded in full within 30 days. Monthly renewals are not refunded."


def row(claim: str, *, supported: bool, kind: str = "right", source: str = "demo answers") -> Row:
    return Row(set=source, kind=kind, fold=0, claim=claim, evidence=EVIDENCE, supported=supported)


def rows(count: int) -> list[Row]:
    kinds = [("right", True), ("negation", False)]
    return [
        row("Yearly renewals are refunded.", supported=supported, kind=kind)
        for kind, supported in (kinds * count)[:count]
    ]


def test_a_telling_logit_is_believed_and_a_telling_overlap_is_not_turned_round() -> None:
    chance = random.Random(0)
    made = rows(200)
    logits = np.array([(1.0 if one.supported else -1.0) + chance.gauss(0, 1) for one in made])
    # Here more overlap goes with less support; the weight must not become negative for it.
    signs = [Signs(overlap=0.4 if one.supported else 0.8) for one in made]
    found = fit(made, logits, signs)
    assert found.logit > 0.5
    assert found.overlap == 0.0
    assert found.contradicted >= 0.0
    assert found.missing >= 0.0


def test_every_sign_moves_the_probability_its_own_way() -> None:
    weights = Weights(bias=0.0, logit=1.0, overlap=1.0, contradicted=2.0, missing=3.0)
    plain = Signs(overlap=0.5)
    middle = weights.probability(0.0, plain)
    assert weights.probability(1.0, plain) > middle
    assert weights.probability(0.0, Signs(overlap=0.9)) > middle
    contrary = Contrary(word="refunded", share=0.9)
    assert weights.probability(0.0, Signs(overlap=0.5, contrary=contrary)) < middle
    assert weights.probability(0.0, Signs(overlap=0.5, missing=("$9",))) < middle
    assert 0.0 < weights.probability(-1e9, plain) < weights.probability(1e9, plain) < 1.0


@pytest.mark.parametrize(("strays", "refused_by_both"), [(1, 1), (4, 0)])
def test_the_threshold_keeps_within_the_budget_of_refused_right_answers(
    strays: int, refused_by_both: int
) -> None:
    answers = [row("Yearly renewals are refunded in full.", supported=True, kind=ANSWER)] * 20
    stray = [row("Cats sleep all day long.", supported=True, kind=ANSWER)] * strays  # words refuse these

    def logit_of(one: Row) -> float:
        return 2.0 if one.supported and one not in stray else -2.0

    found = calibrate([*answers, *stray, *rows(60)], logit_of)
    refused = found.figures["right answers refused"]
    assert isinstance(refused, dict)
    count = len(answers) + strays
    assert refused["words and values"] == pytest.approx(strays / count, abs=1e-4)
    # One of 21 is within 8 %; four of 24 are not, and they are alike.
    assert refused["both"] == pytest.approx(refused_by_both / count, abs=1e-4)
    assert 0.0 < found.threshold <= 0.9


def test_auroc_is_the_chance_to_rank_right_before_wrong() -> None:
    supported = np.array([True, True, False, False])
    assert auroc(np.array([0.9, 0.8, 0.2, 0.1]), supported) == 1.0
    assert auroc(np.array([0.5, 0.5, 0.5, 0.5]), supported) == 0.5
    assert auroc(np.array([0.9, 0.1, 0.5, 0.0]), supported) == 0.75
    assert auroc(np.array([0.9]), np.array([True])) is None

"""Lists, rates, calibration and the choice of the blend. The whole program runs in tests/integration."""

from __future__ import annotations

import math
import random

import pytest

from retrieval.rerank_lists import Passage
from retrieval.rerank_training import (
    WEIGHTS,
    arguments,
    blend_table,
    calibrate,
    choose_blend,
    draw,
    rate_share,
    schedule,
)
from tests.fakes.rerank_rows import row

PATHS = ["--rows", "none", "--tokenizer", "none", "--out", "none"]


def test_a_list_has_its_positive_first_and_no_other_gold() -> None:
    item = draw(row(), 3, random.Random(0))
    assert item is not None
    assert item.passages[0] == "text of b"
    assert len(set(item.passages)) == 4
    assert draw(row(), 6, random.Random(0)) is None
    copy = Passage(document="z", text="the text of b", fused=0.3, gold=False)
    few = row(passages=(*row().passages[:2], copy, row().passages[3]))
    assert draw(few, 3, random.Random(0)) is None


def test_held_out_folds_and_role_play_are_never_trained_on() -> None:
    rows = [
        row(id="test", fold=0),
        row(id="dev", fold=1),
        row(id="long", kind="scenario"),
        row(id="yes"),
        row(id="made", kind="made: heading", fold=-1),
        row(id="made of a dev document", kind="made: heading", fold=1),
    ]
    args = arguments().parse_args([*PATHS, "--batch", "1", "--negatives", "3", "--labelled-passes", "3"])
    seen = [item.row.id for step in schedule(rows, args) for item in step]
    assert sorted(seen) == ["made", "yes", "yes", "yes"]
    assert schedule(rows, args) == schedule(rows, args)


def test_the_rate_rises_to_one_and_falls_to_nothing() -> None:
    shares = [rate_share(step, 100, 0.1) for step in range(100)]
    assert max(shares) == shares[9] == shares[10] == 1.0
    assert shares[0] == 0.1
    assert 0 < shares[-1] < 0.02


def test_calibrated_logits_are_log_odds() -> None:
    # Of logit 0 one in ten is gold, of logit 2 five in ten.
    rows = [row() for _ in range(20)]
    golds = [n == 0 for n in range(10)] + [n < 5 for n in range(10)]
    rows = [row(passages=(Passage(document="d", text="t", fused=1.0, gold=gold),), found=1) for gold in golds]
    fitted = calibrate(rows, [[0.0]] * 10 + [[2.0]] * 10)
    assert fitted["offset"] == pytest.approx(math.log(1 / 9), abs=0.02)
    assert 2 * fitted["scale"] + fitted["offset"] == pytest.approx(0.0, abs=0.02)


def test_the_weight_serves_every_set() -> None:
    right, wrong = [0.0, 3.0, 0.0, 0.0, 0.0, 0.0], [3.0, -3.0, 0.0, 0.0, 0.0, 0.0]
    useful = choose_blend(blend_table([row()], [right]))
    assert 0 < float(useful["weight"]) < 1
    assert choose_blend(blend_table([row()], [wrong]))["weight"] == 0.0
    # What one set gains does not pay for what another loses.
    gains = {"0.0": 0.5, **{str(weight): 0.5 + weight / 2 for weight in WEIGHTS[1:]}}
    loses = {"0.0": 0.5, **{str(weight): 0.515 - weight / 20 for weight in WEIGHTS[1:]}}
    assert choose_blend({"gains": gains, "loses": loses})["weight"] == 0.5
    # Weights that are as good as each other: the smallest.
    assert (
        choose_blend({"flat": {"0.0": 0.5, **{str(weight): 0.6 for weight in WEIGHTS[1:]}}})["weight"] == 0.1
    )
    assert choose_blend({})["weight"] == 0.0

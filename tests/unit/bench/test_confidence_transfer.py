"""What is learned from other help centres, and counted in a help centre's own units."""

from __future__ import annotations

import pytest

from bench.confidence_transfer import Units, adapted, pooled, transfer
from retrieval.calibrating import AS_IT_IS, GOLD_LEFT_OUT
from retrieval.fitting import Observation, auroc, quality_of


def help_centre(name: str, *, shift: float, scale: float = 1.0) -> list[Observation]:
    """Twenty questions with and without their gold; all cosines of a help centre are shifted alike."""
    return [
        Observation(
            features={"top_dense": shift + scale * (level + 0.01 * at)},
            sufficient=level > 0.2,
            group=f"{name} {at}",
            kind=kind,
        )
        for at in range(20)
        for level, kind in ((0.4 if at % 4 else 0.0, AS_IT_IS), (0.1, GOLD_LEFT_OUT))
    ]


def test_a_calibration_in_units_says_the_same_of_the_features_themselves() -> None:
    own = help_centre("own", shift=0.3)
    units = Units.of(own)
    counted = [units.counted(each) for each in own]
    calibration = pooled([counted], mass=13.0)
    folded = units.folded(calibration)
    assert [folded.probability(each.features) for each in own] == pytest.approx(
        [calibration.probability(each.features) for each in counted]
    )


def test_a_shifted_help_centre_is_judged_by_where_it_stands_among_its_own_questions() -> None:
    others = [help_centre("a", shift=0.0), help_centre("b", shift=0.2, scale=1.5)]
    own = help_centre("own", shift=-0.6, scale=0.5)
    truth = [each.sufficient for each in own]
    plain, moved = pooled(others, mass=13.0), adapted(others, own)
    error = {
        name: quality_of([fit.probability(each.features) for each in own], truth).ece
        for name, fit in (("plain", plain), ("moved", moved))
    }
    assert error["moved"] < error["plain"]
    assert auroc([moved.probability(each.features) for each in own], truth) == 1.0


def test_every_set_is_left_out_in_turn() -> None:
    sets = {name: help_centre(name, shift=at / 10) for at, name in enumerate(("a", "b", "c"))}
    found = transfer(sets)
    assert set(found) == set(sets)
    backwards = {
        **sets,
        "a": [
            Observation(
                features=each.features, sufficient=not each.sufficient, group=each.group, kind=each.kind
            )
            for each in sets["a"]
        ],
    }
    # Turning the labels of a set round changes how it is judged, and not the fit that judges it.
    turned = transfer(backwards)["a"]["other sets"]
    assert turned["auroc"] == pytest.approx(1 - found["a"]["other sets"]["auroc"])
    assert turned["threshold"] == found["a"]["other sets"]["threshold"]

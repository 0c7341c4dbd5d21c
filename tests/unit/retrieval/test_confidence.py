"""Features of a search, and the logistic that reads them."""

from __future__ import annotations

import pytest

from retrieval.confidence import COSINE_ONLY, FEATURES, Calibration, FittedCalibration, features_of
from retrieval.errors import RequestError
from retrieval.hits import Hit


def hit(document: str, text: str, *, dense: float, lexical: float = 0.0, rerank: float | None = None) -> Hit:
    return Hit(
        rank=1,
        chunk_id=1,
        document_id=document,
        document_version=1,
        title="Refunds",
        url="",
        heading_path=("Refunds",),
        text=text,
        start=0,
        end=len(text),
        score=0.5,
        dense_score=dense,
        lexical_score=lexical,
        effective_from=None,
        effective_to=None,
        metadata={},
        rerank_score=rerank,
    )


HITS = (
    hit("a", "A full refund within 30 days.", dense=0.5, lexical=8.0),
    hit("b", "Guests are free.", dense=0.6),
)


def test_features_say_what_was_matched_and_how_far_the_first_stands_out() -> None:
    found = features_of("Is a full refund for guests possible?", HITS, top_dense=0.6, lexical_unit=16.0)
    assert found["top_dense"] == 0.6
    assert found["dense_spread"] == pytest.approx(0.1)
    assert found["mean_dense"] == pytest.approx(0.55)
    assert found["top_lexical"] == pytest.approx(2.0)
    assert found["coverage"] == pytest.approx(2 / 4)  # full, refund; not guest, possible
    assert found["documents"] == 1.0
    assert not any(name.startswith("rerank") for name in found)


def test_a_reranker_adds_features() -> None:
    hits = (hit("a", "x", dense=0.5, rerank=2.0), hit("b", "y", dense=0.5, rerank=-4.0))
    found = features_of("refund", hits, top_dense=0.5, lexical_unit=1.0)
    assert (found["rerank_top"], found["rerank_spread"], found["rerank_mean"]) == (2.0, 6.0, -1.0)
    assert tuple(found) == FEATURES


def test_nothing_found_has_no_features() -> None:
    assert features_of("refund", (), top_dense=None, lexical_unit=1.0) == {}


def test_more_hits_than_are_looked_at_change_nothing() -> None:
    more = HITS * 4 + (hit("c", "refund", dense=0.1),)
    first = features_of("refund", more[:8], top_dense=0.6, lexical_unit=1.0)
    assert features_of("refund", more, top_dense=0.6, lexical_unit=1.0) == first


def test_a_definition_brings_the_calibration_back() -> None:
    plain = Calibration(intercept=-1.0, weights={"top_dense": 2.0})
    both = Calibration(intercept=0.5, weights={"rerank_top": 1.0}, unranked=plain)
    assert Calibration.from_definition(both.definition()) == both
    assert Calibration.from_definition(COSINE_ONLY.definition()) == COSINE_ONLY


@pytest.mark.parametrize(
    "broken", [{}, {"intercept": 1}, {"intercept": "x", "weights": {}}, {"intercept": 1, "weights": 3}]
)
def test_a_broken_definition_is_named(broken: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="calibration: needs"):
        Calibration.from_definition(broken)


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ({"intercept": float("nan"), "weights": {}}, "intercept: nan"),
        ({"intercept": "inf", "weights": {}}, "intercept: inf"),
        ({"intercept": 1, "weights": {"top_dense": float("nan")}}, "top_dense: nan"),
        (
            {"intercept": 1, "weights": {}, "unranked": {"intercept": 1, "weights": {"words": "-inf"}}},
            "words: -inf",
        ),
    ],
)
def test_numbers_are_finite(broken: dict[str, object], named: str) -> None:
    with pytest.raises(RequestError, match=f"calibration: {named} is not a finite number"):
        Calibration.from_definition(broken)


def test_a_misspelt_feature_is_refused_from_people_and_not_from_the_store() -> None:
    plain: dict[str, object] = {"intercept": 1.0, "weights": {"top_dens": 2.0}}
    for broken in (plain, {"intercept": 1.0, "weights": {"words": 1.0}, "unranked": plain}):
        with pytest.raises(RequestError, match="'top_dens' is no feature of a search; known: top_dense, "):
            Calibration.given(broken)
        assert Calibration.from_definition(broken).definition() == broken
    good = Calibration(intercept=0.5, weights={"rerank_top": 1.0}, unranked=COSINE_ONLY)
    assert Calibration.given(good.definition()) == good


def test_without_its_reranker_a_search_is_judged_by_the_other_fit() -> None:
    plain = Calibration(intercept=3.0, weights={})
    both = Calibration(intercept=-3.0, weights={"rerank_top": 1.0}, unranked=plain)
    assert both.probability({"top_dense": 0.5}) > 0.9
    assert both.probability({"top_dense": 0.5, "rerank_top": 0.0}) < 0.1


def test_a_tenants_fit_is_named_by_what_it_says() -> None:
    one = FittedCalibration(calibration=COSINE_ONLY, abstain_below=0.2)
    other = FittedCalibration(calibration=COSINE_ONLY, abstain_below=0.3)
    assert one.name.startswith("tenant-")
    assert one.name != other.name
    row = {"definition": COSINE_ONLY.definition(), "abstain_below": 0.2}
    assert FittedCalibration.from_row(row) == one

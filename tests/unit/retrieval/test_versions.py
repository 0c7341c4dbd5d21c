"""Identity of index versions, and confidence."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.models import RERANKER
from retrieval.confidence import Calibration
from retrieval.errors import RequestError, RetrievalError
from retrieval.sql import named_queries
from retrieval.versions import KnowledgeVersion, VersionState

VERSION = KnowledgeVersion.make(name="plain", embedder="e", dims=3)


def test_id_follows_from_the_parts_and_from_nothing_else() -> None:
    assert VERSION.id.startswith("k-plain-")
    assert len(VERSION.id) == len("k-plain-") + 8
    assert KnowledgeVersion.make(name="plain", embedder="e", dims=3).id == VERSION.id
    assert KnowledgeVersion.make(name="plain", embedder="e", dims=3, dense_weight=0.7).id != VERSION.id
    other_name = KnowledgeVersion.make(name="other", embedder="e", dims=3)
    assert other_name.id.rsplit("-", 1)[1] == VERSION.id.rsplit("-", 1)[1]
    assert VERSION.fusion == "coverage-1"
    assert replace(VERSION, state=VersionState.READY).id == VERSION.id


def test_a_derived_version_differs_in_what_is_given_only() -> None:
    base = KnowledgeVersion.make(
        name="base",
        embedder="e",
        dims=3,
        abstain_below=0.4,
        reranker="r",
        rerank_weight=0.5,
        avgdl=99,
        lexer="l",
    )
    same = base.derived(name="same")
    assert same.id.rsplit("-", 1)[1] == base.id.rsplit("-", 1)[1]
    lighter = base.derived(name="lighter", dense_weight=0.0, reranker="")
    assert (lighter.reranker, lighter.rerank_weight, lighter.lexer) == ("", 0.0, "l")
    same_but = {"dense_weight": base.dense_weight, "reranker": "r", "rerank_weight": 0.5}
    assert replace(lighter, id=base.id, name="base", **same_but) == base  # type: ignore[arg-type]  # one dict, two types
    # Cosines of another embedder mean something else.
    other = base.derived(name="other", embedder="f", dims=4)
    assert (other.embedder, other.dims, other.abstain_below) == ("f", 4, 0.0)
    assert base.derived(name="other", embedder="f", dims=4, abstain_below=0.3).abstain_below == 0.3


def test_a_reranker_that_is_named_alone_has_the_share_that_was_measured() -> None:
    manifest = json.loads((RERANKER / "manifest.json").read_text(encoding="utf-8"))
    reranked = VERSION.derived(name="reranked", reranker="r")
    assert reranked.rerank_weight == manifest["weight"]
    assert reranked.derived(name="more", rerank_weight=0.6).rerank_weight == 0.6
    assert (
        reranked.derived(name="more", rerank_weight=0.6).derived(name="other", dense_weight=0).reranker == "r"
    )
    assert VERSION.derived(name="own", reranker="r", rerank_weight=0.6).rerank_weight == 0.6
    assert reranked.derived(name="none", reranker="").rerank_weight == 0.0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "a b"}, "name: 'a b' is not a name"),
        ({"name": "-a"}, "name: "),
        ({"name": "a" * 41}, "name: "),
        ({"name": "a", "dense_weight": 1.1}, r"dense_weight: 1.1 is not a share"),
        ({"name": "a", "abstain_below": -0.1}, "abstain_below: -0.1"),
        ({"name": "a", "rerank_weight": float("nan")}, "rerank_weight: nan"),
        ({"name": "a", "reranker": "r", "rerank_weight": 0.0}, "rerank_weight: 0 leaves r to read passages"),
        ({"name": "a", "rerank_weight": 0.3}, "rerank_weight: 0.3 of no reranker"),
    ],
)
def test_what_a_version_cannot_be_names_the_field(given: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        VERSION.derived(**given)


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_confidence_rises_with_the_best_cosine(low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert 0.0 <= sureness(low) <= sureness(high) <= 1.0


def test_confidence_at_its_fixed_points() -> None:
    assert sureness(0.36) == pytest.approx(0.5)
    assert sureness(-1e9) >= 0.0
    assert Calibration.from_definition(VERSION.calibration.definition()) == VERSION.calibration


def sureness(cosine: float) -> float:
    return VERSION.calibration.probability({"top_dense": cosine})


def test_errors_have_a_default_message_and_a_root() -> None:
    for error in all_subclasses(RetrievalError):
        assert error.__name__.endswith("Error")
        assert error.__doc__


def all_subclasses(root: type[Exception]) -> list[type[Exception]]:
    return [sub for child in root.__subclasses__() for sub in (child, *all_subclasses(child))]


def test_named_queries_are_read_by_name() -> None:
    queries = named_queries("retrieval.sql", "queries.sql")
    assert queries["search"].startswith("SELECT retrieval.search(")
    assert "-- name" not in "".join(queries.values())

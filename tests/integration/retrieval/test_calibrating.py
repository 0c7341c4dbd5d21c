"""Searches that a fit learns from, and a tenant's own fit in the next search."""

from __future__ import annotations

from dataclasses import replace

import pytest

from retrieval.calibrating import GOLD_LEFT_OUT, collect, drop_calibration, save_calibration
from retrieval.confidence import Calibration, FittedCalibration
from retrieval.documents import Access
from retrieval.errors import UnknownVersionError
from retrieval.fitting import fused_scores
from retrieval.hits import Said, SearchRequest
from retrieval.questions import LabelledQuestion, generated_questions
from retrieval.rewriting import LastTurns
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion
from tests.fakes.embedding import WordEmbedder
from tests.integration.retrieval.conftest import Publish

PUBLIC = Access(tenant="acme", principals=("public",))
ARTICLES = {
    "price": "Sync Plus costs $9 a month or $90 a year. The free trial of Sync Plus lasts 14 days.",
    "refunds": "A full refund is possible within 30 days of a first payment or a yearly renewal.",
    "guests": "Guests are people outside the team who open a shared folder. Guests are free on Sync Team.",
    "linux": "Sync runs on Debian 12 and Ubuntu. There is no selective sync on Linux.",
}
REFUND = LabelledQuestion(
    text="Is a full refund possible within 30 days?", gold=frozenset({"refunds"}), group="r"
)


async def version_of(store: KnowledgeStore) -> str:
    return (await store.pointer()).stable


async def test_the_fusion_in_numpy_is_the_fusion_in_sql(
    retriever: Retriever, store: KnowledgeStore, publish: Publish
) -> None:
    await publish(ARTICLES)
    version = (await store.versions())[0]
    for question in ("full refund of Sync Plus", "Linux", "xylophone", "guests 30 days sync"):
        request = SearchRequest(question=question, access=PUBLIC, version=version.id)
        found = await retriever.candidates(request)
        assert len(found.hits) == found.candidates == len(ARTICLES)
        computed = fused_scores(
            [hit.dense_score for hit in found.hits],
            [hit.lexical_score for hit in found.hits],
            lexical_unit=found.lexical_unit,
            dense_weight=version.dense_weight,
        )
        assert computed == pytest.approx([hit.score for hit in found.hits], abs=1e-9)


async def test_each_question_is_searched_with_and_without_its_gold(
    retriever: Retriever, store: KnowledgeStore, publish: Publish
) -> None:
    await publish(ARTICLES)
    unanswerable = LabelledQuestion(text="xylophone zebra", gold=frozenset(), group="x")
    found = await collect(retriever, [REFUND, unanswerable], access=PUBLIC, version=await version_of(store))
    as_it_is, left_out, never = found.observations
    assert (as_it_is.sufficient, left_out.sufficient, never.sufficient) == (True, False, False)
    assert left_out.kind == GOLD_LEFT_OUT
    assert as_it_is.features["coverage"] > left_out.features["coverage"]
    [ranking] = found.rankings
    assert ranking.gold == {"refunds"}
    assert set(ranking.documents) == set(ARTICLES)


async def test_a_tenants_fit_judges_its_next_search_and_nobody_elses(
    retriever: Retriever, store: KnowledgeStore, publish: Publish
) -> None:
    await publish(ARTICLES)
    await publish(ARTICLES, tenant="umbrella")
    version = await version_of(store)
    request = SearchRequest(question=REFUND.text, access=PUBLIC, version=version)
    before = await retriever.search(request)
    assert (before.calibration, before.abstain_below) == ("default", 0.0)

    fitted = FittedCalibration(
        calibration=Calibration(intercept=0.0, weights={"coverage": 0.0}), abstain_below=0.7
    )
    await save_calibration(store, fitted, tenant="acme", version=version, evidence={"pairs": 60})
    after = await retriever.search(request)
    assert (after.calibration, after.abstain_below, after.confidence) == (fitted.name, 0.7, 0.5)
    other = await retriever.search(replace(request, access=replace(PUBLIC, tenant="umbrella")))
    assert other.calibration == "default"

    assert await drop_calibration(store, tenant="acme", version=version, dry_run=True)
    assert await drop_calibration(store, tenant="acme", version=version)
    assert not await drop_calibration(store, tenant="acme", version=version, dry_run=True)
    assert not await drop_calibration(store, tenant="acme", version=version)
    assert (await retriever.search(request)).calibration == "default"


async def test_a_fit_for_an_unknown_version_is_refused(store: KnowledgeStore) -> None:
    fitted = FittedCalibration(calibration=Calibration(intercept=0.0, weights={}), abstain_below=0.5)
    with pytest.raises(UnknownVersionError, match="no index version k-none-00000000"):
        await save_calibration(store, fitted, tenant="acme", version="k-none-00000000", evidence={})


async def test_confidence_does_not_depend_on_k(
    retriever: Retriever, store: KnowledgeStore, publish: Publish
) -> None:
    await publish(ARTICLES)
    request = SearchRequest(question=REFUND.text, access=PUBLIC, version=await version_of(store))
    one, many = [await retriever.search(replace(request, k=k)) for k in (1, 8)]
    assert (len(one.hits), len(many.hits)) == (1, 4)
    assert (one.confidence, one.features) == (many.confidence, many.features)


async def test_questions_are_made_from_a_tenants_own_texts(store: KnowledgeStore, publish: Publish) -> None:
    await publish(ARTICLES)
    await publish(
        {"other": "Quite another company sells bicycles with twelve gears to cyclists."}, tenant="x"
    )
    version = await version_of(store)
    made = await generated_questions(store, tenant="acme", version=version, limit=50)
    assert made == await generated_questions(store, tenant="acme", version=version, limit=50)
    assert {document for each in made for document in each.gold} <= set(ARTICLES)
    assert made
    assert not any("bicycles" in each.text for each in made)


class Failing:
    """A rewriter that never answers in time."""

    id = "last-turns-1"

    async def rewrite(self, question: str, history: object, *, timeout_s: float) -> str:
        raise TimeoutError


async def test_a_follow_up_is_rewritten_where_the_version_says_so(
    store: KnowledgeStore, embedder: WordEmbedder, publish: Publish
) -> None:
    await store.register(
        KnowledgeVersion.make(
            name="talk", embedder=embedder.id, dims=embedder.dims, rewriter="last-turns-1", abstain_below=0.0
        )
    )
    await publish(ARTICLES)
    request = SearchRequest(
        question="And for a year?",
        access=PUBLIC,
        version=(await store.versions())[0].id,
        history=(Said(role="user", text="How much is Sync Plus a month?"),),
    )
    embedders = {embedder.id: embedder}
    rewriting = Retriever(store=store, embedders=embedders, rewriters={"last-turns-1": LastTurns()})
    found = await rewriting.search(request)
    assert found.rewritten == "And for a year? Sync Plus month"
    assert found.hits[0].document_id == "price"
    assert "rewrite" in found.timings_ms
    assert found.degraded == ()

    alone = await rewriting.search(replace(request, history=()))
    assert (alone.rewritten, alone.degraded) == (None, ())

    for broken in (
        Retriever(store=store, embedders=embedders),
        Retriever(store=store, embedders=embedders, rewriters={"last-turns-1": Failing()}),
    ):
        asked = await broken.search(request)
        assert (asked.rewritten, asked.degraded) == (None, ("rewrite",))
        assert asked.hits

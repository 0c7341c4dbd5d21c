"""Search as a caller sees it: scores, filters, dates, permissions, and clear refusals."""

from __future__ import annotations

import math
from datetime import date

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.documents import Access, TextSpan
from retrieval.errors import (
    EmbedderMismatchError,
    FilterError,
    RequestError,
    UnknownVersionError,
)
from retrieval.hits import SearchRequest, SearchResult
from retrieval.lexing import bm25_weights, lex, term_id
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion
from tests.fakes.embedding import WordEmbedder
from tests.integration.retrieval.conftest import Publish

PUBLIC = Access(tenant="acme", principals=("public",))
STAFF = Access(tenant="acme", principals=("public", "staff"))


async def search(
    retriever: Retriever, store: KnowledgeStore, question: str, access: Access = PUBLIC, **changes: object
) -> SearchResult:
    version = (await store.pointer()).stable
    return await retriever.search(SearchRequest(question=question, access=access, version=version, **changes))  # type: ignore[arg-type]


def ids(result: SearchResult) -> list[str]:
    return [hit.document_id for hit in result.hits]


async def test_both_scores_are_exact_for_every_hit(
    retriever: Retriever, store: KnowledgeStore, publish: Publish, embedder: WordEmbedder
) -> None:
    texts = {
        "a": "the red fox and the red hen",
        "b": "blue sky",
        "c": "a red sky at night",
        "d": "nothing alike",
    }
    await publish(texts)
    result = await search(retriever, store, "red sky")
    assert len(result.hits) == 4
    question = await embedder.embed_query("red sky")
    tokens = {key: lex(f"{key}\n{text}") for key, text in texts.items()}
    rarity = {word: idf(word, list(tokens.values())) for word in ("red", "sky", "red sky")}
    for hit in result.hits:
        vector = await embedder.embed_query(f"{hit.document_id}\n{hit.text}")
        assert hit.dense_score == pytest.approx(float(np.dot(question, vector)), abs=0.01)
        weights = bm25_weights(tokens[hit.document_id], avgdl=330.0)
        expected = sum(weight * weights.get(term_id(word), 0.0) for word, weight in rarity.items())
        assert hit.lexical_score == pytest.approx(expected, rel=1e-3)
    assert [hit.rank for hit in result.hits] == [1, 2, 3, 4]
    scores = [hit.score for hit in result.hits]
    assert scores == sorted(scores, reverse=True)
    assert result.hits[0].text == texts[result.hits[0].document_id]
    # Fusion `coverage-1`: rare words matched, times the share of the question matched.
    low, high = min(hit.dense_score for hit in result.hits), max(hit.dense_score for hit in result.hits)
    unit = sum(rarity.values()) * idf("nowhere", list(tokens.values()))
    weight = KnowledgeVersion.make(name="any", embedder="any", dims=1).dense_weight
    for hit in result.hits:
        placed = 1 - (high - hit.dense_score) / max(high - low, 1 - high)
        fused = weight * placed + (1 - weight) * hit.lexical_score**2 / unit
        assert hit.score == pytest.approx(fused / (1 + fused), rel=1e-3, abs=1e-9)


async def test_a_page_with_the_questions_own_words_wins(
    retriever: Retriever, store: KnowledgeStore, publish: Publish
) -> None:
    """The nearest vector is another page's, but a long one holds the question word for word."""
    heading = "how do I pair a courier drive"
    padding = " ".join(f"filler{number}" for number in range(60))
    others = {f"other-{number}": f"something else {number}" for number in range(20)}
    await publish({"near": "pair drive courier", "long": f"{padding} {heading} {padding}", **others})
    version = (await store.pointer()).stable
    request = SearchRequest(question=heading, access=PUBLIC, version=version, k=2)
    assert ids(await retriever.search(request, legs="dense"))[0] == "near"
    assert ids(await retriever.search(request))[0] == "long"


def idf(word: str, chunks: list[list[str]]) -> float:
    """Inverse document frequency as BM25 has it."""
    df = sum(word in chunk for chunk in chunks)
    return math.log(1 + (len(chunks) - df + 0.5) / (df + 0.5))


async def test_codes_and_amounts_are_found_whole(
    retriever: Retriever, store: KnowledgeStore, publish: Publish
) -> None:
    await publish(
        {"a": "Error S-101 means no network.", "b": "Error S-102 means no disk.", "c": "It costs $9 a month."}
    )
    assert ids(await search(retriever, store, "what is s-102?", k=1)) == ["b"]
    assert ids(await search(retriever, store, "is it $9", k=1)) == ["c"]


async def test_a_search_says_when_fewer_rows_exist(
    retriever: Retriever, store: KnowledgeStore, publish: Publish
) -> None:
    await publish({"a": "alpha", "b": "beta"})
    result = await search(retriever, store, "alpha", k=5)
    assert (len(result.hits), result.underfilled, result.mode) == (2, True, "exact+words")
    assert not (await search(retriever, store, "alpha", k=2)).underfilled


async def test_narrow_filter_fills_up_from_an_exact_scan(
    retriever: Retriever, store: KnowledgeStore, publish: Publish
) -> None:
    many: dict[str, object] = {f"n{number}": f"gate number {number}" for number in range(150)}
    rare = {
        f"r{number}": {"text": f"far away {number}", "metadata": {"product": "rare"}} for number in range(6)
    }
    await publish({**many, **rare})  # type: ignore[dict-item]
    result = await search(retriever, store, "gate", k=6, filters={"product": "rare"})
    assert sorted(ids(result)) == sorted(rare)
    assert not result.underfilled


async def test_filters(retriever: Retriever, store: KnowledgeStore, publish: Publish) -> None:
    rows = {
        "a": {"text": "words", "metadata": {"product": "sync"}},
        "b": {"text": "words", "metadata": {"product": "backup"}},
        "c": {"text": "words", "metadata": {"product": "o'neil", "language": "de"}},
    }
    await publish(rows)
    assert ids(await search(retriever, store, "words", filters={"product": "sync"})) == ["a"]
    assert set(ids(await search(retriever, store, "words", filters={"product": ("sync", "o'neil")}))) == {
        "a",
        "c",
    }
    assert ids(await search(retriever, store, "words", filters={"language": "de"})) == ["c"]
    assert ids(await search(retriever, store, "words", filters={"product": "none"})) == []
    with pytest.raises(FilterError, match=r"no field colour; known fields: language, product"):
        await search(retriever, store, "words", filters={"colour": "red"})
    with pytest.raises(FilterError, match=r"product: \$in: give 1 to"):
        await search(retriever, store, "words", filters={"product": ()})
    with pytest.raises(FilterError, match=r"product: \$in: its values must be strings, got 3"):
        await search(retriever, store, "words", filters={"product": (3,)})


async def test_effective_dates(retriever: Retriever, store: KnowledgeStore, publish: Publish) -> None:
    await publish(
        {
            "old": {
                "text": "price eight",
                "metadata": {"effective_from": "2024-01-01", "effective_to": "2026-02-28"},
            },
            "new": {"text": "price nine", "metadata": {"effective_from": "2026-03-01"}},
            "next": {"text": "price ten", "metadata": {"effective_from": "2100-01-01"}},
        }
    )
    assert ids(await search(retriever, store, "price")) == ["new"]
    assert ids(await search(retriever, store, "price", effective_on=date(2026, 2, 28))) == ["old"]
    assert ids(await search(retriever, store, "price", effective_on=date(2100, 1, 1)))[-1] != "old"


async def test_internal_text_needs_a_staff_key(
    retriever: Retriever, store: KnowledgeStore, publish: Publish
) -> None:
    await publish(
        {"a": "public words", "b": {"text": "secret words", "metadata": {"visibility": "internal"}}}
    )
    assert ids(await search(retriever, store, "words")) == ["a"]
    assert set(ids(await search(retriever, store, "words", STAFF))) == {"a", "b"}
    assert ids(await search(retriever, store, "words", Access(tenant="acme", principals=()))) == []
    assert ids(await search(retriever, store, "words", Access(tenant="acme", principals=("nobody",)))) == []
    assert await store.text_spans(PUBLIC, [TextSpan("b", 1, 0, 6)]) == [None]
    assert await store.text_spans(STAFF, [TextSpan("b", 1, 0, 6)]) == ["secret"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_nobody_sees_what_is_not_theirs(
    retriever: Retriever, store: KnowledgeStore, publish: Publish, data: st.DataObject
) -> None:
    names = ("public", "staff", "legal")
    if await store.snapshot("t0") == 0:
        for tenant in ("t0", "t1"):
            await publish(
                {
                    f"{tenant}-{'-'.join(group)}-{number}": {
                        "text": "shared words",
                        "metadata": {"principals": list(group)},
                    }
                    for group in (("public",), ("staff",), ("legal",), ("legal", "staff"))
                    for number in range(2)
                },
                tenant=tenant,
            )
    tenant = data.draw(st.sampled_from(("t0", "t1", "t2")))
    principals = data.draw(st.lists(st.sampled_from(names), unique=True))
    snapshot = data.draw(st.sampled_from((None, 0)))
    access = Access(tenant=tenant, principals=tuple(principals))
    result = await search(retriever, store, "shared words", access, k=20, as_of=snapshot)
    expected = set()
    if snapshot is None and tenant != "t2":
        for group in (("public",), ("staff",), ("legal",), ("legal", "staff")):
            if set(group) & set(principals):
                expected |= {f"{tenant}-{'-'.join(group)}-{number}" for number in range(2)}
    assert set(ids(result)) == expected


async def test_rows_are_invisible_without_context(publish: Publish, database_url: str) -> None:
    await publish({"a": "words"})
    with psycopg.connect(database_url, autocommit=True) as conn:
        tables = [
            row[0]
            for row in conn.execute(
                "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant'"
                " WHERE n.nspname = 'retrieval' AND c.relkind IN ('r', 'p')"
            )
        ]
        assert {"retrieval.chunk", "retrieval.chunk_1", "retrieval.filter_value"} <= set(tables)
        for table in tables:
            assert conn.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table  # type: ignore[arg-type]
        conn.execute("SELECT set_config('retrieval.tenant', 'acme', false)")
        conn.execute("SELECT set_config('retrieval.principals', '{1,2,3}', false)")
        assert conn.execute("SELECT count(*) FROM retrieval.chunk").fetchone() == (1,)
        assert conn.execute("SELECT count(*) FROM retrieval.chunk_1").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("INSERT INTO retrieval.principal (tenant, name) VALUES ('other', 'public')")


async def test_settings_do_not_outlive_the_search(
    retriever: Retriever, store: KnowledgeStore, publish: Publish
) -> None:
    await publish({"a": "words"})
    await search(retriever, store, "words")
    async with store.pool.connection() as conn:
        row = await (await conn.execute("SELECT current_setting('retrieval.tenant', true)")).fetchone()
        count = await (await conn.execute("SELECT count(*) FROM retrieval.chunk")).fetchone()
        timeout = await (await conn.execute("SHOW statement_timeout")).fetchone()
    assert (row, count, timeout) == (("",), (0,), ("0",))


async def test_words_that_are_nowhere_now_are_found_where_they_were(
    retriever: Retriever, store: KnowledgeStore, publish: Publish
) -> None:
    """Counts are of the newest snapshot, which is not the one that is read."""

    async def found(question: str, as_of: int | None = None) -> list[str]:
        access = Access(tenant="acme", principals=("public",))
        version, nowhere = (await store.pointer()).stable, np.zeros(32, dtype=np.float32)
        leg = await store.search(
            access,
            version=version,
            question=question,
            embedding=nowhere,
            k=5,
            as_of=as_of,
            legs="lexical",
            timeout_s=5,
        )
        return [hit.document_id for hit in leg.hits]

    await publish({"a": "zyzzyva alpha", "b": "beta", "c": "gamma", "d": "gamma"})
    await publish({"b": "beta"})
    assert await found("zyzzyva") == []
    assert await found("zyzzyva", as_of=1) == ["a"]
    await store.undo("acme", "publish")
    assert await found("zyzzyva") == ["a"]
    # The rarer word weighs more, as it did before they were both removed.
    assert await found("zyzzyva gamma") == ["a", "c", "d"]
    await publish({"e": "epsilon"}, source="more")
    assert await found("zyzzyva") == ["a"]


async def test_one_leg_alone(retriever: Retriever, store: KnowledgeStore, publish: Publish) -> None:
    await publish({"a": "red", "b": "blue"})
    version = (await store.pointer()).stable
    request = SearchRequest(question="red", access=PUBLIC, version=version)
    lexical = await retriever.search(request, legs="lexical")
    assert (ids(lexical), lexical.mode) == (["a"], "none+words")
    dense = await retriever.search(request, legs="dense")
    assert (ids(dense)[0], len(dense.hits)) == ("a", 2)


async def test_confidence_and_stamp(retriever: Retriever, store: KnowledgeStore, publish: Publish) -> None:
    await publish({"a": "red fox", "b": "blue hen"})
    near, far = await search(retriever, store, "red fox a"), await search(retriever, store, "unrelated topic")
    assert 0 <= far.confidence < near.confidence <= 1
    assert (near.version, near.snapshot) == ((await store.pointer()).stable, 1)
    assert set(near.timings_ms) == {"embed", "search"}
    nothing = await search(retriever, store, "red", Access(tenant="nobody", principals=("public",)))
    assert (nothing.hits, nothing.confidence, nothing.snapshot, nothing.underfilled) == ((), 0.0, 0, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": "  "}, "question: is empty"),
        ({"question": "a\x00"}, "question: contains"),
        ({"k": 0}, "k: 0 is not"),
        ({"k": 101}, "k: 101 is not"),
        ({"filters": {str(number): "x" for number in range(60)}}, "filters: 60 comparisons"),
    ],
)
async def test_requests_that_cannot_be_searched(
    retriever: Retriever, changes: dict[str, object], message: str
) -> None:
    fields: dict[str, object] = {"question": "q", "access": PUBLIC, "version": "k-none-00000000", **changes}
    with pytest.raises(RequestError, match=message):
        await retriever.search(SearchRequest(**fields))  # type: ignore[arg-type]


async def test_unknown_version_and_foreign_embedder(
    retriever: Retriever, store: KnowledgeStore, publish: Publish
) -> None:
    await publish({"a": "red"})
    with pytest.raises(UnknownVersionError, match="known: k-start-"):
        await retriever.search(SearchRequest(question="q", access=PUBLIC, version="k-none-00000000"))
    stranger = WordEmbedder(name="other")
    with pytest.raises(EmbedderMismatchError, match="needs embedder fake-words-32"):
        await search(Retriever(store=store, embedders={stranger.id: stranger}), store, "q")


@pytest.mark.parametrize(
    "question", ["'; DROP TABLE x", "\\", "a'b\\'c", "%s %L", "💡", "::int", "& | ! <->", "x" * 5000]
)
async def test_any_question_is_only_text(
    retriever: Retriever, store: KnowledgeStore, publish: Publish, question: str
) -> None:
    await publish({"a": "red"})
    assert ids(await search(retriever, store, question)) == ["a"]

"""Filters where they are decided: by kind, narrowed or not, exact or not, and never too few rows."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from retrieval.connections import Pool
from retrieval.documents import Access
from retrieval.errors import FilterError
from retrieval.filters import FieldKind
from retrieval.hits import SearchRequest, SearchResult
from retrieval.instruments import KNOWLEDGE_VERSION
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from tests.fakes.embedding import WordEmbedder
from tests.fakes.telemetry import recorded
from tests.integration.retrieval.conftest import Publish

PUBLIC = Access(tenant="acme", principals=("public",))
ROWS: dict[str, dict[str, Any]] = {
    "a": {"product": "sync", "price": 9, "beta": True, "since": "2026-01-31", "tags": ["new", "paid"]},
    "b": {
        "product": "backup",
        "price": 12.5,
        "beta": False,
        "since": "2026-02-28T09:00:00Z",
        "tags": ["paid"],
    },
    "c": {"product": "o'neil %s", "price": 100, "language": "de", "since": "2025-12-01"},
    "d": {"price": -3},
}


async def search(
    retriever: Retriever, store: KnowledgeStore, access: Access = PUBLIC, **changes: Any
) -> SearchResult:
    version = (await store.pointer()).stable
    request = {"question": "words", "access": access, "version": version, "k": 10, **changes}
    return await retriever.search(SearchRequest(**request))


def ids(result: SearchResult) -> str:
    return "".join(sorted(hit.document_id for hit in result.hits))


async def test_operators_by_kind(
    retriever: Retriever, store: KnowledgeStore, publish: Publish, pool: Pool
) -> None:
    await publish({key: {"text": "words", "metadata": value} for key, value in ROWS.items()})
    assert await store.fields("acme") == {
        "beta": "boolean",
        "language": "text",
        "price": "number",
        "product": "text",
        "since": "date",
        "tags": "list",
    }
    expected: list[tuple[dict[str, Any], str]] = [
        ({"price": 9}, "a"),
        ({"price": 9.0}, "a"),
        ({"price": [9, 100]}, "ac"),
        ({"price": {"$ne": 9}}, "bcd"),
        ({"price": {"$gt": 9, "$lte": 100}}, "bc"),
        ({"price": {"$between": [9, 12.5]}}, "ab"),
        ({"price": {"$lt": 10}}, "ad"),
        ({"price": {"$gte": 10**200}}, ""),
        ({"beta": True}, "a"),
        ({"beta": {"$ne": True}}, "b"),
        ({"beta": {"$exists": False}}, "cd"),
        ({"since": "2026-02-28"}, "b"),
        ({"since": {"$gte": "2026-01-31"}}, "ab"),
        ({"since": {"$lte": "2026-02-28"}}, "abc"),
        ({"since": {"$between": ["2025-01-01", "2026-01-31"]}}, "ac"),
        ({"since": ["2026-01-31", "2025-12-01"]}, "ac"),
        ({"tags": "paid"}, "ab"),
        ({"tags": {"$in": ["new", "old"]}}, "a"),
        ({"tags": {"$nin": ["new"]}}, "b"),
        ({"product": "o'neil %s"}, "c"),
        ({"product": {"$like": "%c%"}}, "ab"),
        ({"product": {"$ilike": "SYN_"}}, "a"),
        ({"product": {"$nin": ["sync"]}}, "bc"),
        ({"product": {"$gte": "p"}}, "a"),
        ({"product": {"$exists": True}}, "abc"),
        ({"language": "de"}, "c"),
        ({"document_id": ["a", "d", "z"]}, "ad"),
        ({"document_id": {"$ne": "a"}}, "bcd"),
        ({"$or": [{"price": {"$lt": 0}}, {"product": "sync"}]}, "ad"),
        ({"$and": [{"price": {"$lt": 50}}, {"tags": "paid"}]}, "ab"),
        ({"$not": {"product": "sync"}}, "bcd"),
        ({"$not": {"$or": [{"beta": {"$exists": True}}, {"price": 100}]}}, "d"),
        ({"price": {"$gt": 0}, "product": "backup"}, "b"),
    ]
    for filters, documents in expected:
        assert ids(await search(retriever, store, filters=filters)) == documents, filters
    # A large tenant's filters are narrowed to documents first, and must leave the same ones.
    await large_index(pool, 20_000)
    for filters, documents in expected:
        assert ids(await search(retriever, store, filters=filters)) == documents, filters


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"colour": "red"}, r"no field colour; known fields: beta, language, price, product, since, tags"),
        ({"price": "9"}, r'price: \$eq: its values are numbers, got "9"'),
        ({"price": True}, r"price: \$eq: its values are numbers, got true"),
        ({"price": {"$like": "9%"}}, r"price: \$like does not apply to a number; a number takes \$eq"),
        ({"beta": "true"}, r"beta: \$eq: its values are true or false"),
        ({"beta": {"$gt": True}}, r"beta: \$gt does not apply to a boolean"),
        ({"since": "yesterday"}, r"since: \$eq: its values are days such as 2026-01-31"),
        ({"since": {"$gte": "2026-13-01"}}, r"since: \$gte: its values are days"),
        ({"tags": 3}, r"tags: \$eq: it is a list of texts"),
        ({"product": 3}, r"product: \$eq: its values must be strings, got 3"),
        ({"$or": [{"product": "sync"}, {"$not": {"none": 1}}]}, "no field none"),
    ],
)
async def test_refusals_name_field_operator_and_kind(
    retriever: Retriever, store: KnowledgeStore, publish: Publish, filters: dict[str, Any], message: str
) -> None:
    await publish({key: {"text": "words", "metadata": value} for key, value in ROWS.items()})
    with pytest.raises(FilterError, match=message):
        await search(retriever, store, filters=filters)


async def test_a_field_is_what_was_declared(
    retriever: Retriever, store: KnowledgeStore, publish: Publish
) -> None:
    await publish({"a": {"text": "words", "metadata": {"code": "2026-01-31"}}})
    with pytest.raises(FilterError, match="its values are days"):
        await search(retriever, store, filters={"code": "x"})
    await store.declare_fields("acme", {"code": FieldKind.TEXT, "later": FieldKind.NUMBER})
    assert ids(await search(retriever, store, filters={"code": {"$like": "2026%"}})) == "a"
    assert ids(await search(retriever, store, filters={"later": 5})) == ""
    await publish({"a": {"text": "words", "metadata": {"code": "2026-01-31", "later": "soon"}}})
    assert (await store.fields("acme"))["later"] == "number"
    # A value of another kind than the field's is no match, and no error of the search.
    assert ids(await search(retriever, store, filters={"later": {"$lt": 5}})) == ""
    with pytest.raises(FilterError, match="operator"):
        await store.declare_fields("acme", {"$code": FieldKind.TEXT})


async def test_metadata_comes_back_in_its_types(
    retriever: Retriever, store: KnowledgeStore, publish: Publish
) -> None:
    await publish({"a": {"text": "words", "metadata": ROWS["a"]}})
    (hit,) = (await search(retriever, store)).hits
    assert hit.metadata == {**ROWS["a"], "tags": ("new", "paid"), "language": "en"}


async def test_excluded_documents_are_not_found(
    retriever: Retriever, store: KnowledgeStore, publish: Publish
) -> None:
    await publish(dict.fromkeys("abc", "words"))
    assert ids(await search(retriever, store, exclude_documents=("b", "zz"))) == "ac"


async def large_index(pool: Pool, chunks: int) -> None:
    """Let the search believe in a large tenant, so that few documents do not mean few rows."""
    async with pool.connection() as conn:
        await conn.execute("SELECT set_config('retrieval.tenant', 'acme', false)")
        await conn.execute("UPDATE retrieval.chunk_stats SET chunks = %s", [chunks])


async def test_every_plan_finds_the_same_documents(
    retriever: Retriever, store: KnowledgeStore, publish: Publish, pool: Pool
) -> None:
    rows: dict[str, Any] = {
        f"n{number:03}": {"text": f"gate {number}", "metadata": {"size": number, "odd": number % 2 == 1}}
        for number in range(700)
    }
    await publish(rows)
    wide, narrow = {"size": {"$gte": 20}}, {"size": {"$between": [20, 25]}}
    unknown: dict[str, Any] = {"$not": {"size": {"$gte": 5}}}
    exact = [await search(retriever, store, filters=each, k=5) for each in (wide, narrow, unknown)]
    assert {result.mode for result in exact} == {"exact+words"}
    await large_index(pool, 20_000)
    planned = [await search(retriever, store, filters=each, k=5) for each in (wide, narrow, unknown)]
    assert [result.mode[:5] for result in planned] == ["index", "exact", "index"]
    assert ids(planned[1]) == ids(exact[1])
    # Open ends and several parts narrow as well as closed ones, and lose nothing.
    for part in (
        {"size": {"$gte": 695}},
        {"size": {"$lt": 5}},
        {"odd": True, "size": {"$gt": 690, "$lte": 697}},
    ):
        result = await search(retriever, store, filters=part, k=10)
        assert (result.mode[:6], len(result.hits)) == ("exact+", 4 if "odd" in part else 5)
    assert [len(result.hits) for result in planned] == [5, 5, 5]
    assert not any(result.underfilled for result in planned)


async def test_a_number_among_texts_is_found_in_every_plan(
    retriever: Retriever, store: KnowledgeStore, publish: Publish, pool: Pool
) -> None:
    releases = {"a": "2.1.3", "b": 2, "c": 2.5}
    await publish({key: {"text": "words", "metadata": {"release": each}} for key, each in releases.items()})
    for chunks in (3, 20_000):
        await large_index(pool, chunks)
        assert [ids(await search(retriever, store, filters={"release": each})) for each in ("2", "2.5")] == [
            "b",
            "c",
        ]


async def test_a_mass_removal_that_is_undone_is_searched_as_the_many_chunks_that_it_is(
    retriever: Retriever, store: KnowledgeStore, publish: Publish, pool: Pool
) -> None:
    await publish({"a": "words", "b": "words"})
    async with pool.connection() as conn:
        await conn.execute("SELECT set_config('retrieval.tenant', 'acme', false)")
        await conn.execute("UPDATE retrieval.chunk_stats SET dead = 20000")
    # As long as few live, reading all takes less than finding them among the dead; not so if those are seen.
    assert (await search(retriever, store)).mode.startswith("exact+")
    await publish({"b": "words"})
    await store.undo("acme", "publish")
    undone = await search(retriever, store)
    assert undone.mode.startswith("index")
    assert ids(undone) == "ab"


async def test_an_index_that_stops_early_is_followed_by_an_exact_scan(
    embedder: WordEmbedder, publish: Publish, pool: Pool, database_url: str
) -> None:
    """What the filter leaves cannot be told beforehand, and is far from the question."""
    many: dict[str, Any] = {f"n{number}": f"gate words {number}" for number in range(300)}
    rare = {f"r{number}": {"text": f"far {number}", "metadata": {"tag": "x"}} for number in range(6)}
    await publish({**many, **rare})
    await large_index(pool, 50_000)
    impatient = make_conninfo(database_url, options="-c hnsw.max_scan_tuples=1")
    async with AsyncConnectionPool(impatient, min_size=1, max_size=1, open=False) as own:
        store = KnowledgeStore(own)
        retriever = Retriever(store=store, embedders={embedder.id: embedder})
        result = await search(retriever, store, question="gate words", filters={"tag": {"$like": "x"}}, k=6)
    assert ids(result) == "".join(sorted(rare))
    assert (result.mode.split("+")[0], result.underfilled) == ("index-then-exact", False)


async def test_recall_of_sampled_searches_is_measured(
    store: KnowledgeStore, embedder: WordEmbedder, publish: Publish, pool: Pool
) -> None:
    telemetry = recorded()
    await publish({f"n{number}": f"gate words {number}" for number in range(60)})
    retriever = Retriever(store=store, embedders={embedder.id: embedder}, probe_share=1.0)
    result = await search(retriever, store)
    await retriever.settled()
    assert result.mode.startswith("exact+")
    version = {KNOWLEDGE_VERSION: result.version}
    assert version not in [labels for labels, _ in telemetry.points("twinrail.retrieval.recall_probe")]
    await large_index(pool, 50_000)
    assert (await search(retriever, store)).mode.startswith("index+")
    await retriever.settled()
    ((labels, point),) = telemetry.points("twinrail.retrieval.recall_probe")
    assert (labels, point.count) == (version, 1)
    assert 0.5 < point.max <= 1
    await retriever.close()

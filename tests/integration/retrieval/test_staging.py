"""What we encode for COPY is what PostgreSQL makes of the same words, weights and vectors."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from retrieval import binary_rows as rows
from retrieval.chunking import Chunk
from retrieval.connections import Pool, borrowed
from retrieval.documents import Access
from retrieval.errors import StoreError
from retrieval.hits import SearchRequest
from retrieval.ingest import apply
from retrieval.ingest_report import Changes
from retrieval.lexing import TERM_SPACE, bm25_weights, lex
from retrieval.parsing import ParsedDocument, parse_row
from retrieval.publishing import QUERIES
from retrieval.search import Retriever
from retrieval.staging import (
    HeldBy,
    StagedChunk,
    Target,
    copied,
    encoded_chunks,
    encoded_terms,
    searchable_words,
)
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion
from tests.fakes.embedding import WordEmbedder

TEXT = (
    "Zürich's cafés: 3 \u00d7 $9 for b-20, Ωmega and \u6771\u4eac or \U0001d7d8 \U0001f600 B20, "
    "and the \ufb01nal refund, refunds."
)
VERSION = KnowledgeVersion.make(name="any", embedder="e", dims=4, abstain_below=0.0, avgdl=20.0)


def staged(text: str, ordinal: int) -> StagedChunk:
    chunk = Chunk(
        ordinal=ordinal, start=0, end=len(text), text=text, heading_path=("A", "é"), embedded_text=text
    )
    return StagedChunk(target=Target(version=VERSION, number=3), document_id="d", chunk=chunk)


@pytest.mark.parametrize("tenant", ["acme", "Zürich \u6771\u4eac"])
async def test_rows_hold_what_the_server_would_have_made(pool: Pool, tenant: str) -> None:
    texts = [TEXT, "How?", "refund " * 40 + TEXT]
    held_by: HeldBy = {}
    async with pool.connection() as conn, conn.cursor() as cursor:
        await cursor.execute(QUERIES["stage"])
        chunks = [staged(text, place) for place, text in enumerate(texts)]
        async with cursor.copy(QUERIES["copy_chunks"]) as copy:
            for block in copied(encoded_chunks(tenant, chunks, held_by)):
                await copy.write(block)
        async with cursor.copy(QUERIES["copy_terms"]) as copy:
            for block in copied(encoded_terms(held_by)):
                await copy.write(block)
        for place, text in enumerate(texts):
            tokens = lex(staged(text, place).chunk.embedded_text)
            weights = sorted(bm25_weights(tokens, avgdl=20.0).items())
            found = await cursor.execute(
                "SELECT tsv = array_to_tsvector(retrieval.marked_words(%(tenant)s, %(words)s)),"
                " bm <-> %(bm)s::sparsevec,"
                " (index_number, embedder, document_id, document_version, born, ordinal, char_start,"
                " char_end, heading_path, body) IS NOT DISTINCT FROM"
                " (3, 'e', 'd', NULL, NULL, %(place)s, 0, %(end)s,"
                " ARRAY['A', 'é'], %(text)s) FROM staged_chunk WHERE ordinal = %(place)s",
                {
                    "tenant": tenant,
                    "words": tokens,
                    "bm": "{" + ",".join(f"{term}:{weight}" for term, weight in weights) + f"}}/{TERM_SPACE}",
                    "place": place,
                    "end": len(text),
                    "text": text,
                },
            )
            same_words, distance, same_rest = await found.fetchone() or (None, None, None)
            assert same_words
            assert same_rest
            assert distance == pytest.approx(0.0, abs=1e-5)
        await cursor.execute(
            "SELECT lexeme, chunks FROM staged_term EXCEPT"
            " SELECT retrieval.unmarked_word(word), count(*)"
            " FROM staged_chunk, unnest(tsvector_to_array(tsv)) AS word"
            " GROUP BY 1"
        )
        assert await cursor.fetchall() == []
        await conn.rollback()


async def test_vectors_are_those_that_were_sent(pool: Pool) -> None:
    vectors = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    params = {
        "embedder": "e",
        "tenant": "acme",
        "hashes": ["h0", "h1", "h2"],
        "values": rows.RealArray(np.concatenate(vectors)),
        "dims": 4,
    }
    async with pool.connection() as conn, conn.cursor() as cursor:
        await cursor.execute("SELECT set_config('retrieval.tenant', 'acme', true)")
        cursor.adapters.register_dumper(rows.RealArray, rows.RealArrayDumper)
        await cursor.execute(QUERIES["add_to_cache"], params)
        await cursor.execute("SELECT embedding::real[] FROM retrieval.embedding_cache ORDER BY chunk_hash")
        found = [row[0] for row in await cursor.fetchall()]
        await conn.rollback()
    assert np.array(found, dtype=np.float16).tolist() == vectors.astype(np.float16).tolist()


def document(key: str, text: str) -> ParsedDocument:
    return parse_row(key, {"id": key, "title": key, "text": text})


async def test_words_are_counted_as_they_live(
    store: KnowledgeStore, embedder: WordEmbedder, pool: Pool
) -> None:
    async def publish(*upserts: ParsedDocument, deletes: tuple[str, ...] = ()) -> None:
        await apply(store, [embedder], Changes(upserts=upserts, deletes=deletes), tenant="acme", source="api")
        await require_counts_of_what_lives(pool)

    await publish(document("a", "gates and hinges"), document("b", "blue gates"))
    await publish(document("c", "red gates"))
    await publish(document("a", "gates and handles"), deletes=("b",))
    await store.undo("acme", "publish")
    await publish(document("d", "green hinges"))
    await store.undo("acme", "publish")
    await publish(document("c", "yellow gates"), deletes=("a",))
    await store.purge("acme", "b", by="test")
    await require_counts_of_what_lives(pool)
    await store.purge("acme", "c", by="test")
    await require_counts_of_what_lives(pool)


async def require_counts_of_what_lives(pool: Pool) -> None:
    async with pool.connection() as conn, conn.cursor() as cursor:
        await cursor.execute("SELECT set_config('retrieval.tenant', 'acme', true)")
        await cursor.execute(
            "SELECT set_config('retrieval.principals', array_agg(id)::text, true) FROM retrieval.principal"
        )
        await cursor.execute(
            "SELECT lexeme, df, dead FROM retrieval.term_stats WHERE df <> 0 OR dead <> 0"
            ' ORDER BY lexeme COLLATE "C"'
        )
        counted = await cursor.fetchall()
        await cursor.execute(
            "SELECT retrieval.unmarked_word(word), count(*) FILTER (WHERE died IS NULL), count(died)"
            " FROM retrieval.chunk, unnest(tsvector_to_array(tsv)) AS word GROUP BY 1 ORDER BY 1"
        )
        assert counted == sorted(await cursor.fetchall())
        assert counted
        await cursor.execute("SELECT chunks, dead FROM retrieval.chunk_stats")
        stored = await cursor.fetchall()
        await cursor.execute("SELECT count(*) FILTER (WHERE died IS NULL), count(died) FROM retrieval.chunk")
        assert stored == await cursor.fetchall()


async def test_a_document_left_whole_with_more_words_than_a_row_takes_stops_no_other(
    store: KnowledgeStore, embedder: WordEmbedder
) -> None:
    version = KnowledgeVersion.make(
        name="whole", embedder=embedder.id, dims=embedder.dims, abstain_below=0.0, chunker="whole-1"
    )
    await store.register(version)
    long_words = " ".join(f"{'w' * 50}{number}" for number in range(20_000))
    texts = {"long": "gate gate " + long_words, "short": "gate"}
    rows = [parse_row(key, {"id": key, "text": text, "metadata": {}}) for key, text in texts.items()]
    report = await apply(store, [embedder], Changes(upserts=tuple(rows)), tenant="acme", source="api")
    assert (report.added, report.failures) == (2, ())
    request = SearchRequest(
        question="gate",
        access=Access(tenant="acme", principals=("public",)),
        version=(await store.pointer()).stable,
    )
    found = await Retriever(store=store, embedders={embedder.id: embedder}).search(request)
    assert {hit.document_id for hit in found.hits} == {"long", "short"}


@pytest.mark.parametrize("length", [3, 60])
def test_the_most_frequent_words_are_kept(length: int) -> None:
    few = Counter({"rare": 1, "a b": 2})
    assert set(searchable_words(few)) == {"rare", "a b"}
    many = Counter({f"{number:0{length}x} {number}": 1 for number in range(20_000)})
    many.update({"single": 1, "often said": 2})
    kept = list(searchable_words(many))
    assert kept[:2] == ["often said", "single"]
    assert 10_000 < len(kept) <= 16_000
    assert sum(len(word) + 6 for word in kept) <= 1_000_000


async def test_a_row_that_is_too_large_is_no_database_that_is_away(pool: Pool) -> None:
    name = "".join(map(chr, np.random.default_rng(0).integers(0x4E00, 0x9FFF, 5000)))

    async def write() -> None:
        async with borrowed(pool, timeout_s=5) as conn:
            await conn.execute("CREATE TEMP TABLE wide (name text UNIQUE)")
            await conn.execute("INSERT INTO wide VALUES (%s)", [name])

    with pytest.raises(StoreError, match="index row") as caught:
        await write()
    assert not caught.value.retryable

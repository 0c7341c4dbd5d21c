"""What the LangChain adapters promise beyond langchain-tests (test_langchain_standard.py)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.indexing import InMemoryRecordManager, aindex
from langchain_text_splitters import RecursiveCharacterTextSplitter

from retrieval.building import build
from retrieval.documents import Access
from retrieval.errors import (
    DocumentConflictError,
    DuplicateDocumentError,
    EmbedderMismatchError,
    EmbeddingError,
    FilterError,
    RequestError,
    StoreUnavailableError,
    UnknownSnapshotError,
)
from retrieval.ingest import apply, ingest
from retrieval.ingest_report import Changes
from retrieval.langchain import (
    LangchainEmbedder,
    PerLoop,
    Rails,
    SplitterChunker,
    TwinrailCompressor,
    TwinrailEmbeddings,
    TwinrailRetriever,
    TwinrailVectorStore,
    connect,
    open_rail,
)
from retrieval.parsing import parse_text
from retrieval.reranking import Reranker
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion
from tests.fakes.embedding import WordEmbedder
from tests.integration.retrieval.conftest import Publish, write_corpus

PUBLIC = Access(tenant="acme", principals=("public",))


@pytest.fixture
async def rails(database_url: str, embedder: WordEmbedder) -> AsyncIterator[Rails]:
    async with PerLoop(lambda: open_rail(database_url, [embedder])) as rails:
        yield rails


@pytest.fixture
def vectors(rails: Rails, embedder: WordEmbedder) -> Iterator[TwinrailVectorStore]:
    embeddings = TwinrailEmbeddings(embedder)
    yield TwinrailVectorStore(rails, PUBLIC, embeddings=embeddings)
    embeddings.close()


def ids(documents: list[Document]) -> list[str | None]:
    return [document.id for document in documents]


# ---- what is stored --------------------------------------------------------------------------------


async def test_documents_come_back_as_they_were_given(vectors: TwinrailVectorStore) -> None:
    metadata = {
        "text": "1", "number": 1, "share": 1.0, "tiny": 1e-7, "flag": False, "names": ["a", "b"], "none": [],
        "title": "A title", "language": "de", "Übung": "ü", "day": "2026-01-31", "id": 9, "start": -0.5,
    }  # fmt: skip
    given = [
        Document(id="a", page_content="\r\n  red fox\t\n\n# not a heading  \n", metadata=metadata),
        Document(id="b", page_content=" \n"),
    ]
    await vectors.aadd_documents(given)
    found = await vectors.aget_by_ids(["b", "nobody", "a"])
    assert found == given[::-1]
    types = {key: type(value) for key, value in metadata.items()}
    assert {key: type(value) for key, value in found[1].metadata.items()} == types
    assert sorted(await vectors.asimilarity_search("red fox", k=2), key=str) == sorted(given, key=str)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"x": 1}, "'deep' of document 'bad' holds a nested object"),
        ([1], "holds a list of other things than texts"),
        (("a",), "holds a tuple"),
        (None, r"holds nothing \(None\)"),
        (float("nan"), "is not a finite number"),
        (1e16, "is too large a number"),
        (2**63, "is too large a number"),
        ("a\x00", "contains a NUL"),
    ],
)
async def test_metadata_that_would_not_come_back_are_refused_by_name(
    vectors: TwinrailVectorStore, value: object, told: str
) -> None:
    documents = [
        Document(id="good", page_content="red"),
        Document(id="bad", page_content="blue", metadata={"deep": value}),
    ]
    with pytest.raises(RequestError, match=told):
        await vectors.aadd_documents(documents)
    assert await vectors.aget_by_ids(["good"]) == []


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (Document(id="a", page_content=""), "page_content: of document 'a' is empty"),
        (Document(id="a", page_content="\ud800"), "page_content: .* half of a character pair"),
        (Document(id="", page_content="x"), "1 to 200 printable"),
        (Document(id="x" * 201, page_content="x"), "1 to 200 printable"),
        (Document(id="a\n", page_content="x"), "1 to 200 printable"),
    ],
)
async def test_documents_that_cannot_be_stored(
    vectors: TwinrailVectorStore, document: Document, told: str
) -> None:
    with pytest.raises(RequestError, match=told):
        await vectors.aadd_documents([document])


async def test_a_call_is_one_publish_and_unchanged_documents_cost_nothing(
    vectors: TwinrailVectorStore, store: KnowledgeStore, embedder: WordEmbedder
) -> None:
    texts, names = ["red fox", "blue hen", "grey owl"], ["a", "b", "c"]
    assert await vectors.aadd_texts(texts, [{"n": n} for n in range(3)], ids=names) == names
    assert (await store.snapshot("acme"), embedder.texts) == (1, texts)
    await vectors.aadd_texts(texts, [{"n": n} for n in range(3)], ids=names)
    assert (await store.snapshot("acme"), embedder.texts) == (1, texts)
    await vectors.adelete(["a", "b", "a", "nobody"])
    assert await store.snapshot("acme") == 2
    assert ids(await vectors.aget_by_ids(names)) == ["c"]
    assert await vectors.aadd_documents([]) == []
    await vectors.adelete([])
    assert await store.snapshot("acme") == 2


async def test_all_of_a_call_or_nothing(
    vectors: TwinrailVectorStore, publish: Publish, store: KnowledgeStore
) -> None:
    await publish({"theirs": "red fox"})
    with pytest.raises(DocumentConflictError, match="belongs to source 'help'"):
        await vectors.aadd_texts(["blue hen", "mine now"], ids=["new", "theirs"])
    with pytest.raises(DocumentConflictError, match="belongs to source 'help'"):
        await vectors.aadd_texts(["mine now"], ids=["theirs"])
    with pytest.raises(DocumentConflictError, match="belongs to source 'help'"):
        await vectors.adelete(["theirs"])
    assert ids(await vectors.aget_by_ids(["new", "theirs"])) == ["theirs"]
    assert await store.snapshot("acme") == 1


async def test_writers_and_readers_at_the_same_time(
    vectors: TwinrailVectorStore, store: KnowledgeStore
) -> None:
    """From an empty rail on, on two event loops, where each of them would make the first version."""
    names = [f"d{number}" for number in range(12)]

    async def asynchronous(name: str) -> None:
        await vectors.aadd_texts([f"red {name}"], ids=[name])
        assert ids(await vectors.asimilarity_search(f"red {name}", k=1)) == [name]

    def synchronous(name: str) -> None:
        vectors.add_texts([f"red {name}"], ids=[name])
        assert ids(vectors.similarity_search(f"red {name}", k=1)) == [name]

    await asyncio.gather(
        *(asynchronous(name) for name in names[:6]),
        *(asyncio.to_thread(synchronous, name) for name in names[6:]),
    )
    assert ids(await vectors.aget_by_ids(names)) == names
    assert len(await store.versions()) == 1
    assert await store.snapshot("acme") == len(names)


async def test_arguments_that_do_not_fit(vectors: TwinrailVectorStore) -> None:
    with pytest.raises(DuplicateDocumentError, match="'a' is named twice"):
        await vectors.aadd_texts(["x", "y"], ids=["a", "a"])
    for call in (
        lambda: vectors.add_texts(["x", "y"], ids=["a"]),
        lambda: vectors.add_texts(["x"], [{}, {}]),
        lambda: vectors.add_documents([Document(page_content="x")], ids=[]),
        lambda: vectors.delete(),
    ):
        with pytest.raises(ValueError, match=r"give one each|name the documents"):
            call()
    await vectors.aadd_texts(["x"])
    for k in (0, 101):
        with pytest.raises(RequestError, match="k: "):
            await vectors.asimilarity_search("x", k=k)
    with pytest.raises(RequestError, match="embedding: "):
        await vectors.asimilarity_search_by_vector([0.0] * 32)
    with pytest.raises(EmbedderMismatchError, match="3 dimensions"):
        await vectors.asimilarity_search_by_vector([1.0, 2.0, 3.0])
    with pytest.raises(RequestError, match="lambda_mult"):
        await vectors.amax_marginal_relevance_search("x", lambda_mult=2)
    with pytest.raises(TypeError, match="filters"):
        await vectors.asimilarity_search("x", filters={})


# ---- searches --------------------------------------------------------------------------------------


async def test_filters_with_langchains_operators(vectors: TwinrailVectorStore) -> None:
    await vectors.aadd_texts(
        ["red fox", "red hen", "red owl"],
        [{"year": 2024, "kind": "x"}, {"year": 2025, "kind": "y"}, {"year": 2026, "kind": "y"}],
        ids=["a", "b", "c"],
    )

    async def found(**filters: Any) -> list[str | None]:
        return sorted(map(str, ids(await vectors.asimilarity_search("red", filter=filters))))

    assert await found(kind="y", year={"$gte": 2026}) == ["c"]
    assert await found(**{"$or": [{"year": {"$lt": 2025}}, {"year": {"$in": [2026]}}]}) == ["a", "c"]
    assert await found(document_id={"$ne": "a"}) == ["b", "c"]
    assert ids(await vectors.amax_marginal_relevance_search("red", filter={"year": 2025})) == ["b"]
    query = vectors.embeddings.embed_query("red") if vectors.embeddings else []
    assert ids(await vectors.asimilarity_search_by_vector(query, filter={"year": 2024})) == ["a"]
    retriever = vectors.as_retriever(search_kwargs={"k": 1, "filter": {"kind": "x"}})
    assert ids(await retriever.ainvoke("owl")) == ["a"]
    with pytest.raises(FilterError, match="no field colour"):
        await found(colour="red")


async def test_scores_are_cosines_and_relevance_is_a_share(
    vectors: TwinrailVectorStore, embedder: WordEmbedder
) -> None:
    await vectors.aadd_texts(["red fox", "blue hen", "grey owl"], ids=["a", "b", "c"])
    scored = await vectors.asimilarity_search_with_score("red fox", k=3)
    query = await embedder.embed_query("red fox")
    for document, score in scored:
        (vector,) = await embedder.embed_documents([document.page_content])
        assert score == pytest.approx(float(query @ vector), abs=2e-3)
    assert vectors.similarity_search_with_score_by_vector(query.tolist(), k=1)[0][0].id == "a"
    relevant = await vectors.asimilarity_search_with_relevance_scores("red fox", k=3)
    assert relevant[0][1] == pytest.approx(1, abs=2e-3)
    assert all(0 <= score <= 1 for _, score in relevant)
    assert vectors.similarity_search_with_relevance_scores("red fox", k=3) == relevant
    threshold = vectors.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.9}
    )
    assert ids(await threshold.ainvoke("red fox")) == ids(threshold.invoke("red fox")) == ["a"]


async def test_marginal_relevance_prefers_what_says_something_else(vectors: TwinrailVectorStore) -> None:
    await vectors.aadd_texts(["red fox", "red fox cub", "red hen"], ids=["a", "again", "else"])
    assert ids(await vectors.asimilarity_search("red fox", k=2)) == ["a", "again"]
    assert ids(await vectors.amax_marginal_relevance_search("red fox", k=2, lambda_mult=0.3)) == ["a", "else"]
    assert ids(vectors.max_marginal_relevance_search("red fox", k=2, lambda_mult=1.0)) == ["a", "again"]
    query = vectors.embeddings.embed_query("red fox") if vectors.embeddings else []
    for found in (
        await vectors.amax_marginal_relevance_search_by_vector(query, k=2, lambda_mult=0.3),
        vectors.max_marginal_relevance_search_by_vector(query, k=2, lambda_mult=0.3),
    ):
        assert ids(found) == ["a", "else"]


async def test_an_empty_rail_finds_nothing(rails: Rails, vectors: TwinrailVectorStore) -> None:
    assert await vectors.amax_marginal_relevance_search("x") == []
    assert await vectors.amax_marginal_relevance_search_by_vector([1.0] * 32) == []
    assert await vectors.asimilarity_search_by_vector([1.0] * 32) == []
    assert await TwinrailRetriever(rails=rails, access=PUBLIC).ainvoke("x") == []
    await vectors.adelete(["x"])


async def test_readers_tenants_and_principals(rails: Rails, vectors: TwinrailVectorStore) -> None:
    both = Access(tenant="acme", principals=("public", "staff"))
    with pytest.raises(RequestError, match="readers: say who may read"):
        await TwinrailVectorStore(rails, both).aadd_texts(["red fox"])
    staff = TwinrailVectorStore(rails, both, readers=["staff"])
    await staff.aadd_texts(["red fox"], ids=["secret"])
    await vectors.aadd_texts(["red hen"], ids=["open"])
    assert ids(await staff.aget_by_ids(["secret", "open"])) == ["secret", "open"]
    assert ids(await vectors.aget_by_ids(["secret", "open"])) == ["open"]
    assert ids(await vectors.asimilarity_search("red fox")) == ["open"]
    assert ids(await vectors.amax_marginal_relevance_search("red fox")) == ["open"]
    other = TwinrailVectorStore(rails, Access(tenant="other", principals=("public", "staff")))
    assert await other.aget_by_ids(["secret", "open"]) == []
    assert await other.asimilarity_search("red fox") == []


async def test_a_rail_with_versions_of_other_chunkers(
    rails: Rails,
    vectors: TwinrailVectorStore,
    store: KnowledgeStore,
    embedder: WordEmbedder,
    publish: Publish,
) -> None:
    await publish({"short": "red fox"})  # makes the version that cuts by structure
    long = "\n\n".join(f"red red fox number {number} " + "lorem " * 150 for number in range(6))
    await vectors.aadd_texts([long, "blue hen"], ids=["long", "hen"])
    found = await vectors.asimilarity_search("red fox", k=3)
    assert sorted(map(str, ids(found))) == ["hen", "long", "short"]
    assert {document.id: document.page_content for document in found}["long"] == long
    vector = (await embedder.embed_query("red fox")).tolist()
    assert len(await vectors.asimilarity_search_by_vector(vector, k=3)) == 3
    assert len(await vectors.amax_marginal_relevance_search("red fox", k=3)) == 3
    # The pointer's stable version counts from the next call on.
    whole = KnowledgeVersion.make(name="whole", embedder=embedder.id, dims=32, chunker="whole-1")
    await store.register(whole)
    await build(store, {embedder.id: embedder}, whole.id)
    retriever = TwinrailRetriever(rails=rails, access=PUBLIC)
    before = (await store.pointer()).stable
    await store.promote(whole.id)
    await vectors.aadd_texts(["green newt"], ids=["newt"])
    assert ids(await vectors.asimilarity_search("green newt", k=1)) == ["newt"]
    assert (await retriever.ainvoke("red", k=1))[0].metadata["knowledge"] == f"{whole.id}@3"
    assert (await retriever.ainvoke("red", k=1, version=before))[0].metadata["knowledge"] == f"{before}@3"
    pinned = TwinrailVectorStore(rails, PUBLIC, version=before)
    assert ids(await pinned.asimilarity_search("green newt", k=1)) == ["newt"]


async def test_a_snapshot_of_before(rails: Rails, vectors: TwinrailVectorStore) -> None:
    await vectors.aadd_texts(["red fox"], ids=["a"])
    await vectors.aadd_texts(["red hen"], ids=["a"])
    found = await vectors.asimilarity_search("red", as_of=1)
    assert [document.page_content for document in found] == ["red fox"]
    retriever = TwinrailRetriever(rails=rails, access=PUBLIC, as_of=1)
    assert [document.page_content for document in await retriever.ainvoke("red")] == ["red fox"]
    assert [document.page_content for document in await retriever.ainvoke("red", as_of=2)] == ["red hen"]
    with pytest.raises(UnknownSnapshotError):
        await vectors.asimilarity_search("red", as_of=9)


# ---- the ways in -----------------------------------------------------------------------------------


def test_without_an_event_loop(database_url: str) -> None:
    options = {"database_url": database_url, "tenant": "acme", "model_id": "fake-8"}
    fake = DeterministicFakeEmbedding(size=8)
    documents = [
        Document(id="a", page_content="red fox", metadata={"n": 1}),
        Document(page_content="blue hen"),
    ]
    with TwinrailVectorStore.from_documents(documents, fake, **options) as vectors:
        assert vectors.embeddings is fake
        assert vectors.get_by_ids(["a"]) == documents[:1]
        assert vectors.search("red fox", "mmr", k=1) == documents[:1]
        assert vectors.as_retriever().invoke("red fox", k=1) == documents[:1]
    with pytest.raises(RequestError, match="model_id: is missing"):
        TwinrailVectorStore.from_texts(["x"], fake, database_url=database_url, tenant="acme")
    with pytest.raises(RequestError, match="page_content"):
        TwinrailVectorStore.from_texts([""], fake, **options)


async def test_from_texts_on_the_running_loop(database_url: str, embedder: WordEmbedder) -> None:
    ours = TwinrailEmbeddings(embedder)
    async with await TwinrailVectorStore.afrom_texts(
        ["red fox"], ours, [{"n": 1}], ids=["a"], database_url=database_url, tenant="acme"
    ) as vectors:
        assert await vectors.asimilarity_search("red") == [
            Document(id="a", page_content="red fox", metadata={"n": 1})
        ]
        # Sync calls have a pool of their own, and a running loop does not keep them from it.
        assert ids(vectors.similarity_search("red")) == ids(
            await asyncio.to_thread(vectors.search, "red", "mmr")
        )


async def test_a_database_that_does_not_answer() -> None:
    async with PerLoop(lambda: open_rail("postgresql://127.0.0.1:9/none", [], timeout_s=0.5)) as rails:
        with pytest.raises(StoreUnavailableError, match="database_url: no answer"):
            await TwinrailVectorStore(rails, PUBLIC).aget_by_ids(["a"])


async def test_langchains_index_with_a_record_manager(vectors: TwinrailVectorStore) -> None:
    records = InMemoryRecordManager("acme")
    await records.acreate_schema()
    pages = [
        Document(page_content=text, metadata={"source": text[:1]}) for text in ("a one", "b two", "c three")
    ]

    async def index(documents: list[Document], cleanup: Any) -> dict[str, int]:
        done = await aindex(
            documents, records, vectors, cleanup=cleanup, source_id_key="source", key_encoder="sha256"
        )
        return {key: value for key, value in done.items() if isinstance(value, int) and value}

    assert await index(pages, "incremental") == {"num_added": 3}
    assert await index(pages, "incremental") == {"num_skipped": 3}
    changed = Document(page_content="a new one", metadata={"source": "a"})
    assert await index([changed], "incremental") == {"num_added": 1, "num_deleted": 1}
    assert await index([changed], "full") == {"num_skipped": 1, "num_deleted": 2}
    left = await vectors.asimilarity_search("one two three", k=10)
    assert [document.page_content for document in left] == ["a new one"]


# ---- retriever -------------------------------------------------------------------------------------


async def test_retriever(rails: Rails, store: KnowledgeStore, publish: Publish) -> None:
    await publish(
        {"a": "red fox", "b": "blue hen", "c": {"text": "grey owl", "metadata": {"product": ["sync"]}}}
    )
    retriever = TwinrailRetriever(rails=rails, access=PUBLIC, k=2)
    documents = await retriever.ainvoke("red fox")
    assert documents[0].page_content == "red fox"
    assert (len(documents), len(await retriever.ainvoke("red fox", k=1))) == (2, 1)
    assert ids(await asyncio.to_thread(retriever.invoke, "red fox")) == ids(documents)
    metadata = documents[0].metadata
    assert (metadata["document_id"], metadata["start"], metadata["end"]) == ("a", 0, 7)
    assert metadata["knowledge"] == f"{(await store.pointer()).stable}@1"
    assert 0 < metadata["dense_score"] <= 1
    assert metadata["lexical_score"] > 0
    assert 0 <= metadata["confidence"] <= 1
    assert (metadata["mode"], metadata["calibration"]) == ("exact+words", "default")
    assert (metadata["underfilled"], metadata["degraded"]) == (False, [])
    assert (await retriever.ainvoke("red fox", k=9))[0].metadata["underfilled"] is True
    (owl,) = await retriever.ainvoke("bird", filters={"product": {"$in": ["sync"]}})
    assert (owl.page_content, owl.metadata["product"]) == ("grey owl", ["sync"])
    assert retriever._get_ls_params()["ls_retriever_name"] == "twinrail"
    with pytest.raises(RequestError, match="k: 0"):
        await retriever.ainvoke("red fox", k=0)


async def test_a_search_without_its_reranker_says_so(
    rails: Rails, store: KnowledgeStore, publish: Publish, embedder: WordEmbedder
) -> None:
    version = KnowledgeVersion.make(
        name="reranked", embedder=embedder.id, dims=embedder.dims, reranker="gone", rerank_weight=0.3
    )
    await store.register(version)
    await publish({"a": "red fox"})
    (found,) = await TwinrailRetriever(rails=rails, access=PUBLIC).ainvoke("red fox")
    assert found.metadata["degraded"] == ["rerank"]


# ---- parts of an index version ---------------------------------------------------------------------


async def test_any_embeddings_and_splitter_make_an_index_version(
    database_url: str, store: KnowledgeStore, tmp_path: Any
) -> None:
    embedder = LangchainEmbedder(DeterministicFakeEmbedding(size=24), model_id="fake-24", dims=24)
    chunker = SplitterChunker(
        RecursiveCharacterTextSplitter(chunk_size=40, chunk_overlap=10), chunker_id="recursive-40-10"
    )
    version = KnowledgeVersion.make(
        name="theirs", embedder=embedder.id, dims=24, chunker=chunker.id, abstain_below=0.0
    )
    await store.register(version)
    text = "The red fox lives in the wood. The blue hen lives in a yard. The grey owl lives in a tower."
    corpus = write_corpus(tmp_path / "c.jsonl", {"animals": text})
    report = await ingest(
        store, embedder, corpus, tenant="acme", source_name="help", chunkers={chunker.id: chunker}
    )
    assert (report.versions, report.failures) == ((version.id,), ())
    assert report.chunks == len(chunker._splitter.split_text(text)) > 2
    async with PerLoop(lambda: open_rail(database_url, [embedder], chunkers={chunker.id: chunker})) as rails:
        (best, *_) = await TwinrailRetriever(rails=rails, access=PUBLIC).ainvoke("grey owl tower")
        assert "owl" in best.page_content
        assert text[best.metadata["start"] : best.metadata["end"]] == best.page_content
        vectors = TwinrailVectorStore(rails, PUBLIC)
        await vectors.aadd_texts(["A green newt. " * 9], ids=["newt"])
        assert ids(await vectors.asimilarity_search("green newt", k=2)) == ["newt", "animals"]
    wrong = LangchainEmbedder(DeterministicFakeEmbedding(size=8), model_id="fake-24", dims=8)
    newt = parse_text("x", "newt", {"id": "x"}, markdown=False)
    with pytest.raises(EmbedderMismatchError, match=f"dims: {version.id} has 24"):
        await apply(
            store,
            [wrong],
            Changes(upserts=(newt,)),
            tenant="acme",
            source="other",
            chunkers={chunker.id: chunker},
        )
    async with connect(database_url, DeterministicFakeEmbedding(size=8), model_id="fake-24") as rails:
        with pytest.raises(EmbedderMismatchError, match="embedding has 8 dimensions"):
            await TwinrailVectorStore(rails, PUBLIC).asimilarity_search("newt")


async def test_embeddings_that_lie_are_refused() -> None:
    embedder = LangchainEmbedder(DeterministicFakeEmbedding(size=16), model_id="fake-16", dims=16)
    vectors = await embedder.embed_documents(["a", "b"])
    assert vectors.shape == (2, 16)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0)
    assert np.allclose(await embedder.embed_query("a"), vectors[0], atol=1e-6)
    assert (await embedder.embed_documents([])).shape == (0, 16)
    inner: Embeddings = DeterministicFakeEmbedding(size=8)
    with pytest.raises(EmbedderMismatchError, match="of \\[8\\] dimensions for 1 texts, not of 16"):
        await LangchainEmbedder(inner, model_id="x", dims=16).embed_query("a")

    class Zeros(DeterministicFakeEmbedding):
        def embed_query(self, text: str) -> list[float]:
            return [0.0] * self.size

    with pytest.raises(EmbeddingError, match="zero or not finite"):
        await LangchainEmbedder(Zeros(size=8), model_id="x", dims=8).embed_query("a")


# ---- reranker --------------------------------------------------------------------------------------


class LengthReranker:
    """Longer passages are better."""

    id = "length"

    async def scores(self, question: str, passages: Any) -> list[float]:
        return [float(len(passage)) for passage in passages]


@asynccontextmanager
async def opened() -> AsyncIterator[Reranker]:
    yield LengthReranker()


@pytest.mark.parametrize("opener", [opened, lambda: nullcontext(LengthReranker())])
async def test_compressor(opener: Callable[[], AbstractAsyncContextManager[Reranker]]) -> None:
    documents = [
        Document(id="a", page_content="red"),
        Document(id="b", page_content="grey owl", metadata={"n": 1}),
        Document(id="c", page_content="red", metadata={"title": "A long title"}),
    ]
    async with PerLoop(opener) as rerankers:
        compressor = TwinrailCompressor(rerankers=rerankers, top_n=2)
        ordered = await compressor.acompress_documents(documents, "which?")
        assert ids(ordered) == ["c", "b"]
        assert ordered[1].metadata == {"n": 1, "rerank_score": 8.0}
        assert documents[1].metadata == {"n": 1}
        assert compressor.compress_documents(documents, "which?") == ordered
        assert await compressor.acompress_documents([], "which?") == []

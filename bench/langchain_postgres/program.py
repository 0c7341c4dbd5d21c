"""Runs langchain-postgres in an environment of its own and speaks JSON lines: a request in, a reply out.

It imports nothing of this repository, whose newer pgvector client it could not share an environment with. Vectors and
texts come as files, since lines of a million numbers would be slow to read and are no part of what is measured.

    {"do": "create"}                                         table with a tenant column, a tsvector and no index
    {"do": "index"}                                          its HNSW (its defaults) and its GIN index
    {"do": "add", "rows": FILE, "vectors": FILE}             add_embeddings; replies with seconds
    {"do": "search", "questions": FILE, "vectors": FILE, "tenants": [...], "k": 10, "hybrid": bool, "ef_search": null,
     "clients": 1}                                           replies with ids and milliseconds of each question
"""

import asyncio
import json
import sys
import time
from pathlib import Path

import numpy as np
from langchain_core.embeddings import Embeddings
from langchain_postgres import PGEngine
from langchain_postgres.v2.async_vectorstore import AsyncPGVectorStore
from langchain_postgres.v2.engine import Column
from langchain_postgres.v2.hybrid_search_config import HybridSearchConfig
from langchain_postgres.v2.indexes import HNSWIndex, HNSWQueryOptions
from sqlalchemy.ext.asyncio import create_async_engine

TABLE = "langchain_chunk"
DIMS = 384
#: As many from each leg as ours takes; its own default of 4 would not fill ten places.
CANDIDATES = 50


class NoEmbeddings(Embeddings):
    """Vectors are given: embedding is not what is measured. Both methods raise, so that a peer which embeds after
    all is an error and no slower figure."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise NotImplementedError

    def embed_query(self, text: str) -> list[float]:
        raise NotImplementedError


async def main(url: str) -> None:
    engine = create_async_engine(url, pool_size=16)
    postgres = PGEngine.from_engine(engine)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = await ACTIONS[request.pop("do")](postgres, **request)
        except Exception as exc:  # noqa: BLE001  # the caller decides what an error means
            reply = {"error": f"{type(exc).__name__}: {exc}"}
        print(json.dumps(reply), flush=True)
    await engine.dispose()


async def create(engine: PGEngine) -> dict:
    await engine.ainit_vectorstore_table(
        TABLE,
        DIMS,
        metadata_columns=[Column("tenant", "TEXT")],
        overwrite_existing=True,
        hybrid_search_config=hybrid_config(),
    )
    return {}


async def index(engine: PGEngine) -> dict:
    store = await open_store(engine, None)
    began = time.perf_counter()
    await store.aapply_vector_index(HNSWIndex())
    hnsw = time.perf_counter()
    await store.aapply_hybrid_search_index()
    return {"hnsw_s": hnsw - began, "gin_s": time.perf_counter() - hnsw}


async def add(engine: PGEngine, rows: str, vectors: str) -> dict:
    store = await open_store(engine, None)
    texts, metadatas, ids = [], [], []
    for line in Path(rows).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        texts.append(row["text"])
        metadatas.append(row["metadata"])
        ids.append(row["id"])
    embeddings = np.load(vectors).tolist()
    began = time.perf_counter()
    await store.aadd_embeddings(texts, embeddings, metadatas, ids)
    return {"seconds": time.perf_counter() - began, "rows": len(texts)}


async def search(
    engine: PGEngine,
    questions: str,
    vectors: str,
    tenants: list[str],
    k: int,
    hybrid: bool,
    ef_search: int | None,
    clients: int,
) -> dict:
    store = await open_store(engine, ef_search)
    texts = json.loads(Path(questions).read_text(encoding="utf-8"))
    embeddings = np.load(vectors).tolist()
    found: list[list[str]] = [[] for _ in texts]
    took: list[float] = [0.0] * len(texts)
    queue = iter(range(len(texts)))

    async def client() -> None:
        for place in queue:
            began = time.perf_counter()
            # A configuration of its own for each question: the one of the store keeps the first question for ever.
            documents = await store.asimilarity_search_with_score_by_vector(
                embeddings[place],
                k=k,
                filter={"tenant": tenants[place]},
                hybrid_search_config=hybrid_config(texts[place]) if hybrid else None,
            )
            took[place] = (time.perf_counter() - began) * 1000
            found[place] = [str(document.id) for document, _ in documents]

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return {"ids": found, "ms": took, "seconds": time.perf_counter() - began}


async def open_store(engine: PGEngine, ef_search: int | None) -> AsyncPGVectorStore:
    return await AsyncPGVectorStore.create(
        engine,
        NoEmbeddings(),
        TABLE,
        metadata_columns=["tenant"],
        hybrid_search_config=hybrid_config(),
        index_query_options=HNSWQueryOptions(ef_search=ef_search) if ef_search else None,
    )


def hybrid_config(question: str = "") -> HybridSearchConfig:
    return HybridSearchConfig(
        tsv_column="content_tsv",
        fts_query=question,
        primary_top_k=CANDIDATES,
        secondary_top_k=CANDIDATES,
    )


ACTIONS = {"create": create, "index": index, "add": add, "search": search}

if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

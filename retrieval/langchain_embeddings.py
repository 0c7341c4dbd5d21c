"""Embeddings in both directions: any LangChain `Embeddings` as our embedder, our embedder as `Embeddings`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

import numpy as np
from langchain_core.embeddings import Embeddings

from retrieval.embedding import Embedder, Vector
from retrieval.errors import EmbedderMismatchError, EmbeddingError, RequestError
from retrieval.eventloops import PerLoop

OpenEmbedder = Callable[[], AbstractAsyncContextManager[Embedder]]
#: Its vector says how many dimensions a model has.
_PROBE = "How many dimensions?"


class LangchainEmbedder:
    """A LangChain `Embeddings` as an `Embedder`. LangChain names no model, so the caller gives the id."""

    def __init__(self, embeddings: Embeddings, *, model_id: str, dims: int) -> None:
        self._embeddings = embeddings
        self.id = model_id
        self.dims = dims

    async def embed_query(self, text: str) -> Vector:
        """The vector of a question."""
        vector: Vector = self._unit([await self._embeddings.aembed_query(text)], 1)[0]
        return vector

    async def embed_documents(self, texts: Sequence[str]) -> Vector:
        """The vectors of texts."""
        return self._unit(await self._embeddings.aembed_documents(list(texts)), len(texts))

    def _unit(self, rows: list[list[float]], count: int) -> Vector:
        lengths = sorted({len(row) for row in rows})
        if len(rows) != count or (count and lengths != [self.dims]):
            raise EmbedderMismatchError(
                f"dims: {self.id} gave {len(rows)} vectors of {lengths} dimensions for {count} texts, "
                f"not of {self.dims}; correct its `dims`"
            )
        vectors = np.asarray(rows, dtype=np.float32).reshape(count, self.dims)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(vectors).all() or (norms == 0).any():
            raise EmbeddingError(f"{self.id}: a vector is zero or not finite")
        unit: Vector = vectors / norms
        return unit


class TwinrailEmbeddings(Embeddings):
    """One of our embedders, for anything of LangChain that wants vectors.

    `embedder` may be a function that opens one, for an embedder that belongs to the event loop it began on,
    as `HttpEmbedder` does with its session.
    """

    def __init__(self, embedder: Embedder | OpenEmbedder) -> None:
        self.opened: OpenEmbedder = embedder if callable(embedder) else lambda: nullcontext(embedder)
        self._embedders = PerLoop(self.opened)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """The vectors of texts, in their order."""
        embedder = await self._embedders.here()
        rows: list[list[float]] = (await embedder.embed_documents(texts)).tolist()
        return rows

    async def aembed_query(self, text: str) -> list[float]:
        """The vector of a question."""
        embedder = await self._embedders.here()
        row: list[float] = (await embedder.embed_query(text)).tolist()
        return row

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """`aembed_documents` for callers without an event loop."""
        return self._embedders.call(lambda: self.aembed_documents(texts))

    def embed_query(self, text: str) -> list[float]:
        """`aembed_query` for callers without an event loop."""
        return self._embedders.call(lambda: self.aembed_query(text))

    def close(self) -> None:
        """Close what sync calls opened."""
        self._embedders.close()

    async def aclose(self) -> None:
        """Close what this event loop and sync calls opened."""
        await self._embedders.aclose()


def opener_of(embeddings: Embeddings, *, model_id: str | None, dims: int | None) -> OpenEmbedder:
    """How to open `embeddings` as an `Embedder`; our own say themselves who they are."""
    if isinstance(embeddings, TwinrailEmbeddings):
        return embeddings.opened
    if not model_id:
        raise RequestError(
            f"model_id: is missing, and {type(embeddings).__name__} does not say which model it is; give a "
            "name that changes whenever the vectors do, such as 'openai-text-embedding-3-small'"
        )
    name = model_id

    @asynccontextmanager
    async def opened() -> AsyncIterator[Embedder]:
        known = dims or len(await embeddings.aembed_query(_PROBE))
        yield LangchainEmbedder(embeddings, model_id=name, dims=known)

    return opened

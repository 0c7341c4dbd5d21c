"""An embedder without a model: each word has a fixed random direction, a text is the sum of its words."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from retrieval.embedding import Vector
from retrieval.lexing import lex


class WordEmbedder:
    """Texts that share words have close vectors. Counts what it was asked for."""

    def __init__(self, *, name: str = "words", dims: int = 32) -> None:
        self.id = f"fake-{name}-{dims}"
        self.dims = dims
        self.texts: list[str] = []

    async def embed_query(self, text: str) -> Vector:
        return self._vector(text)

    async def embed_documents(self, texts: Sequence[str]) -> Vector:
        self.texts.extend(texts)
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Vector:
        total = np.full(self.dims, 1e-3, dtype=np.float32)
        for word in lex(text):
            seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
            total += np.random.default_rng(seed).standard_normal(self.dims).astype(np.float32)
        unit: Vector = (total / np.linalg.norm(total)).astype(np.float32)
        return unit


class FailingEmbedder(WordEmbedder):
    """Breaks off after some texts, as a killed run does."""

    def __init__(self, *, after: int, name: str = "words", dims: int = 32) -> None:
        super().__init__(name=name, dims=dims)
        self.after = after

    async def embed_documents(self, texts: Sequence[str]) -> Vector:
        if len(self.texts) >= self.after:
            raise ConnectionResetError("the run ends here")
        return await super().embed_documents(texts)


class InterruptedEmbedder(WordEmbedder):
    """Lets something else happen while it embeds: between what its caller read and what it will write."""

    def __init__(self, *, name: str = "words", dims: int = 32) -> None:
        super().__init__(name=name, dims=dims)
        self.meanwhile: list[Callable[[], Awaitable[object]]] = []

    async def embed_documents(self, texts: Sequence[str]) -> Vector:
        if self.meanwhile:
            await self.meanwhile.pop(0)()
        return await super().embed_documents(texts)


class LyingEmbedder(WordEmbedder):
    """Says one number of dimensions and makes another."""

    async def embed_documents(self, texts: Sequence[str]) -> Vector:
        return (await super().embed_documents(texts))[:, :-1]

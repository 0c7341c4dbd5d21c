"""Texts to unit vectors: on this machine with onnxruntime, or by an OpenAI-style /embeddings service."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import aiohttp
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from retrieval.errors import (
    EmbedderMismatchError,
    EmbedderUnavailableError,
    EmbeddingError,
    EmbeddingRefusedError,
)
from retrieval.minilm import file_sha256, prepare_minilm

__all__ = ["Embedder", "HttpEmbedder", "OnnxEmbedder", "prepare_minilm"]

Vector = NDArray[np.float32]
#: HTTP codes that say that something is wrong with a text of the request.
_REFUSED = (400, 413, 422)


class Embedder(Protocol):
    """Turns texts into unit vectors. `id` names the exact model: vectors of two ids are never compared."""

    @property
    def id(self) -> str: ...

    @property
    def dims(self) -> int: ...

    async def embed_query(self, text: str) -> Vector:
        """The vector of a question, of shape (dims,)."""

    async def embed_documents(self, texts: Sequence[str]) -> Vector:
        """The vectors of texts in their order, of shape (len(texts), dims)."""


async def unit_vectors(embedder: Embedder, texts: Sequence[str]) -> Vector:
    """The vectors of texts, if they are what the embedder says: one a text, of its number of dimensions."""
    vectors = await embedder.embed_documents(texts)
    if vectors.shape != (len(texts), embedder.dims):
        raise EmbedderMismatchError(
            f"dims: {embedder.id} gave vectors of shape {vectors.shape} for {len(texts)} text(s), "
            f"not of {embedder.dims} dimensions; correct its `dims`"
        )
    return vectors


class OnnxEmbedder:
    """The model of a folder that `prepare_minilm` wrote. Runs in worker threads, `threads` cores at a time.

    One text a run: on a CPU that beats padded batches (39 texts a second against 24 for 16 at once),
    and a vector does not depend on its neighbours, as dynamic quantisation of a batch would make it.
    """

    #: Texts between two looks at the event loop, so that a cancelled ingest stops soon.
    SLICE = 8

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            digest = file_sha256(folder / "model.onnx")
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as exc:  # tokenizers raises bare exceptions
            raise EmbeddingError(f"{folder}: no embedding model there; `twinrail up` prepares it") from exc
        if digest != manifest["sha256"]["model.onnx"]:
            raise EmbeddingError(f"{folder}: model.onnx is not the one of its manifest; remove the folder")
        self._tokenizer.enable_truncation(max_length=manifest["max_tokens"])
        self._tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.dims: int = manifest["dims"]
        self.id = f"{manifest['name']}-{digest[:8]}"

    async def embed_query(self, text: str) -> Vector:
        """The vector of a question."""
        vector: Vector = (await asyncio.to_thread(self._run, [text]))[0]
        return vector

    async def embed_documents(self, texts: Sequence[str]) -> Vector:
        """The vectors of texts, in their order."""
        slices = [texts[start : start + self.SLICE] for start in range(0, len(texts), self.SLICE)]
        parts = [await asyncio.to_thread(self._run, part) for part in slices]
        return np.concatenate(parts) if parts else np.empty((0, self.dims), dtype=np.float32)

    def _run(self, texts: Sequence[str]) -> Vector:
        vectors = np.empty((len(texts), self.dims), dtype=np.float32)
        for row, text in enumerate(texts):
            ids = np.array([self._tokenizer.encode(text).ids], dtype=np.int64)
            feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
            vectors[row] = self._session.run(["embedding"], feed)[0][0]
        return vectors


class HttpEmbedder:
    """A model behind an OpenAI-style `POST {base_url}/embeddings`, on the caller's session."""

    BATCH = 64

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        base_url: str,
        model: str,
        dims: int,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        query_prefix: str = "",
    ) -> None:
        self._session = session
        self._url = base_url.rstrip("/") + "/embeddings"
        self._model = model
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._query_prefix = query_prefix
        self.dims = dims
        # A service names its model but not the bytes; the address stays out, since services move.
        digest = hashlib.sha256(f"{model}\x00{dims}\x00{query_prefix}".encode()).hexdigest()[:8]
        self.id = f"http-{model.rsplit('/', 1)[-1].lower()}-{digest}"

    async def embed_query(self, text: str) -> Vector:
        """The vector of a question."""
        vector: Vector = (await self._embed([self._query_prefix + text]))[0]
        return vector

    async def embed_documents(self, texts: Sequence[str]) -> Vector:
        """The vectors of texts, asked for in batches."""
        parts = [
            await self._embed(texts[start : start + self.BATCH]) for start in range(0, len(texts), self.BATCH)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.dims), dtype=np.float32)

    async def _embed(self, texts: Sequence[str]) -> Vector:
        body = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        try:
            async with self._session.post(
                self._url, json=body, headers=self._headers, timeout=self._timeout
            ) as response:
                if response.status >= 500 or response.status == 429:
                    raise EmbedderUnavailableError(f"{self._url}: HTTP {response.status}")
                if response.status in _REFUSED:
                    text = (await response.text())[:200]
                    raise EmbeddingRefusedError(f"{self._url}: HTTP {response.status}: {text}")
                if response.status != 200:
                    text = (await response.text())[:200]
                    raise EmbeddingError(f"{self._url}: HTTP {response.status}: {text}")
                answer = await response.json()
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as exc:
            raise EmbedderUnavailableError(f"{self._url}: no answer: {exc}") from exc
        except TimeoutError as exc:
            raise EmbedderUnavailableError(f"{self._url}: no answer within {self._timeout.total} s") from exc
        except (aiohttp.ContentTypeError, ValueError) as exc:
            raise EmbeddingError(f"{self._url}: the answer is not JSON") from exc
        return self._vectors(answer, len(texts))

    def _vectors(self, answer: object, count: int) -> Vector:
        try:
            rows = sorted(answer["data"], key=lambda row: row["index"])  # type: ignore[index]
            vectors: Vector = np.asarray([row["embedding"] for row in rows], dtype=np.float32)
        except (TypeError, KeyError, ValueError) as exc:
            raise EmbeddingError(f"{self._url}: the answer has no list `data` of embeddings") from exc
        if vectors.shape != (count, self.dims):
            raise EmbeddingError(
                f"{self._url}: got vectors of shape {vectors.shape}, expected {(count, self.dims)}: "
                "set RETRIEVAL_EMBEDDINGS_DIMS to the model's dimensions"
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(vectors).all() or (lengths == 0).any():
            raise EmbeddingError(f"{self._url}: an embedding is zero or not finite")
        unit: Vector = vectors / lengths
        return unit

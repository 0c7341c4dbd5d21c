"""Score passages against a question, together: on this machine with onnxruntime, or by vLLM's score API.

A reranker's logits say more about a pair than either leg of the search, and less about unseen kinds of text;
so they are blended with the fused score, not put in its place (`blend`).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import aiohttp
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from retrieval.crossencoder import Shape, encode_pair
from retrieval.errors import RerankError, RerankerUnavailableError
from retrieval.minilm import file_sha256

__all__ = ["HttpReranker", "OnnxReranker", "Reranker", "blend"]


class Reranker(Protocol):
    """Reads question and passage together. `id` names the exact model."""

    @property
    def id(self) -> str: ...

    async def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        """A logit for each passage, in their order; higher is better.

        A passage is what the embedder saw of a chunk: title, heading path and text, a line each. Cancelling
        the call ends the work soon, so a deadline is the caller's `asyncio.timeout`.
        """


class OnnxReranker:
    """The model of a folder that `retrieval.rerank_training` wrote. Runs in worker threads, a pair at a time.

    One pair a run: nothing is padded, and a cancelled call leaves no more than one pair running.
    """

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            digests = {name: file_sha256(folder / name) for name in ("model.onnx", "tokenizer.json")}
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            wanted = {name: str(manifest["sha256"][name]) for name in digests}
            self._shape = Shape.of(manifest)
            name = str(manifest["name"])
        except Exception as exc:  # tokenizers raises bare exceptions
            raise RerankError(
                f"{folder}: no reranking model there; python -m retrieval.rerank_training makes one"
            ) from exc
        for file, digest in digests.items():
            if digest != wanted[file]:
                raise RerankError(
                    f"{folder}: {file} is not the one of its manifest; put the folder back whole"
                )
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.id = f"{name}-{digests['model.onnx'][:8]}"

    async def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        """A logit for each passage, in their order."""
        return [await asyncio.to_thread(self._score, question, passage) for passage in passages]

    def _score(self, question: str, passage: str) -> float:
        ids, segments = encode_pair(self._tokenizer, question, passage, self._shape)
        feed = {
            "input_ids": np.array([ids], dtype=np.int64),
            "segments": np.array([segments], dtype=np.int64),
        }
        return float(self._session.run(["logit"], feed)[0][0])


class HttpReranker:
    """A model behind vLLM's `POST {base_url}/score`, on the caller's session. One request a call."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        base_url: str,
        model: str,
        api_key: str | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        self._session = session
        self._url = base_url.rstrip("/") + "/score"
        self._model = model
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        # A service names its model but not the bytes; the address stays out, since services move.
        digest = hashlib.sha256(model.encode()).hexdigest()[:8]
        self.id = f"http-{model.rsplit('/', 1)[-1].lower()}-{digest}"

    async def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        """A logit for each passage, in their order."""
        if not passages:
            return []
        body = {
            "model": self._model,
            "text_1": question,
            "text_2": list(passages),
            # The logit itself: served models put a sigmoid over it unless they are told not to.
            "use_activation": False,
            # A pair longer than the model's window is cut, not refused.
            "truncate_prompt_tokens": -1,
        }
        try:
            async with self._session.post(
                self._url, json=body, headers=self._headers, timeout=self._timeout
            ) as response:
                if response.status >= 500 or response.status == 429:
                    raise RerankerUnavailableError(f"{self._url}: HTTP {response.status}")
                if response.status != 200:
                    text = (await response.text())[:200]
                    raise RerankError(f"{self._url}: HTTP {response.status}: {text}")
                answer = await response.json()
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as exc:
            raise RerankerUnavailableError(f"{self._url}: no answer: {exc}") from exc
        except TimeoutError as exc:
            raise RerankerUnavailableError(f"{self._url}: no answer within {self._timeout.total} s") from exc
        except (aiohttp.ContentTypeError, ValueError) as exc:
            raise RerankError(f"{self._url}: the answer is not JSON") from exc
        return self._scores(answer, len(passages))

    def _scores(self, answer: object, count: int) -> list[float]:
        try:
            found = {int(row["index"]): float(row["score"]) for row in answer["data"]}  # type: ignore[index]
        except (TypeError, KeyError, ValueError) as exc:
            raise RerankError(f"{self._url}: the answer has no list `data` of index and score") from exc
        if sorted(found) != list(range(count)):
            raise RerankError(f"{self._url}: scores of {len(found)} passages, expected one each of {count}")
        if not all(math.isfinite(score) for score in found.values()):
            raise RerankError(f"{self._url}: a score is not finite")
        return [found[place] for place in range(count)]


def blend(fused: Sequence[float], logits: Sequence[float], weight: float) -> list[float]:
    """The final scores: `weight` of the logits' sigmoid, the rest the fused scores by their place between the
    lowest and the highest. `weight` 0 keeps the fused order, 1 leaves it to the reranker."""
    if not fused:
        return []
    low, high = min(fused), max(fused)
    places = [(score - low) / (high - low) if high > low else 1.0 for score in fused]
    return [
        weight * _sigmoid(logit) + (1 - weight) * place for place, logit in zip(places, logits, strict=True)
    ]


def _sigmoid(logit: float) -> float:
    """Safe for any finite logit: exp never overflows."""
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))

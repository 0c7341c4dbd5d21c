"""The /embeddings client against a real HTTP server of our own, and the errors of a missing model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from retrieval.embedding import HttpEmbedder, OnnxEmbedder
from retrieval.errors import EmbedderUnavailableError, EmbeddingError


class Service:
    """Answers /v1/embeddings as told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[str | None] = []
        self.status = 200
        self.body: Any = None

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        self.headers.append(request.headers.get("Authorization"))
        if self.status != 200:
            return web.Response(status=self.status, text="no such model")
        if isinstance(self.body, str):
            return web.Response(text=self.body)
        rows = [
            {"index": n, "embedding": [float(len(text)), 0.0, 1.0]} for n, text in enumerate(body["input"])
        ]
        return web.json_response(self.body or {"data": rows[::-1]})


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def base_url(service: Service) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/embeddings", service.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_vectors_come_back_in_order_and_of_unit_length(
    session: aiohttp.ClientSession, base_url: str, service: Service
) -> None:
    embedder = HttpEmbedder(session, base_url=base_url, model="org/Model-S", dims=3, api_key="key")
    vectors = await embedder.embed_documents(["a", "bbb"])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0)
    assert vectors[1, 0] > vectors[0, 0]
    assert service.asked == [{"model": "org/Model-S", "input": ["a", "bbb"], "encoding_format": "float"}]
    assert service.headers == ["Bearer key"]
    assert embedder.id.startswith("http-model-s-")
    assert (await embedder.embed_query("a")).shape == (3,)
    assert (await embedder.embed_documents([])).shape == (0, 3)
    await embedder.embed_documents(["x"] * 100)
    assert [len(body["input"]) for body in service.asked[-2:]] == [64, 36]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_busy_service_is_worth_a_retry(
    session: aiohttp.ClientSession, base_url: str, service: Service, status: int
) -> None:
    service.status = status
    with pytest.raises(EmbedderUnavailableError, match=str(status)):
        await HttpEmbedder(session, base_url=base_url, model="m", dims=3).embed_query("a")


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (404, None, "HTTP 404: no such model"),
        (200, "hello", "not JSON"),
        (200, {"error": 1}, "no list `data`"),
        (200, {"data": [{"index": 0, "embedding": [1.0]}]}, "RETRIEVAL_EMBEDDINGS_DIMS"),
        (200, {"data": [{"index": 0, "embedding": [0.0, 0.0, 0.0]}]}, "zero or not finite"),
    ],
)
async def test_wrong_answers_are_explained(
    session: aiohttp.ClientSession, base_url: str, service: Service, status: int, body: Any, message: str
) -> None:
    service.status, service.body = status, body
    with pytest.raises(EmbeddingError, match=message) as caught:
        await HttpEmbedder(session, base_url=base_url, model="m", dims=3).embed_query("a")
    assert not caught.value.retryable


async def test_service_that_is_gone(session: aiohttp.ClientSession) -> None:
    with pytest.raises(EmbedderUnavailableError, match="no answer"):
        await HttpEmbedder(session, base_url="http://127.0.0.1:1/v1", model="m", dims=3).embed_query("a")


def test_missing_model_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingError, match="no embedding model there"):
        OnnxEmbedder(tmp_path)

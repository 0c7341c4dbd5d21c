"""An OpenAI-style /embeddings service without a model: the vectors of `WordEmbedder`, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.fakes.embedding import WordEmbedder


@dataclass(slots=True)
class FakeEmbeddings:
    """State of the service. While `failing`, it answers 503."""

    embedder: WordEmbedder = field(default_factory=WordEmbedder)
    failing: bool = False

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve on loopback; gives the base URL."""
        app = web.Application()
        app.router.add_post("/v1/embeddings", self._embed)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        finally:
            await runner.cleanup()

    async def _embed(self, request: web.Request) -> web.Response:
        if self.failing:
            return web.json_response({"error": {"message": "programmed fault"}}, status=503)
        body = await request.json()
        vectors = await self.embedder.embed_documents(body["input"])
        data = [{"index": i, "embedding": vector.tolist()} for i, vector in enumerate(vectors)]
        return web.json_response({"object": "list", "data": data, "model": body["model"]})

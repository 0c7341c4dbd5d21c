"""vLLM's score API without a model: a passage's score is how many words it shares with the question."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from retrieval.lexing import lex


@dataclass(slots=True)
class FakeScores:
    """State of the service: answers with `status`, and with `body` in place of scores if there is one."""

    status: int = 200
    body: Any = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    answered: list[dict[str, Any]] = field(default_factory=list)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve on loopback; gives the base URL."""
        app = web.Application()
        app.router.add_post("/score", self._score)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _score(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        self.keys.append(request.headers.get("Authorization"))
        if self.status != 200:
            return web.Response(status=self.status, text="no such model")
        if isinstance(self.body, str):
            return web.Response(text=self.body)
        wanted = set(lex(body["text_1"]))
        rows = [
            {"index": n, "object": "score", "score": float(len(wanted & set(lex(text))))}
            for n, text in enumerate(body["text_2"])
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1, "completion_tokens": 0}
        # Not in the order of the passages: an answer names its index.
        answer = {"id": "score-1", "object": "list", "created": 1, "model": body["model"], "data": rows[::-1]}
        self.answered.append(answer | {"usage": usage})
        return web.json_response(self.body or self.answered[-1])

"""A real model in the place of the responder: what vLLM writes, and a fault of the model put on top of that.

The engine is one that serves, such as that of a running stack. What it wrote for a prompt is kept, so that a
fault of the model costs no second answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from tests.fakes.responder import Reply, Responder, Writing

#: Body of a request -> text.
Complete = Callable[[Mapping[str, Any]], Awaitable[str]]


class Engine:
    """Completions of one model of an OpenAI-compatible engine, kept in a folder."""

    def __init__(
        self, url: str, model: str, session: aiohttp.ClientSession, kept: Path, *, timeout_s: float = 300.0
    ) -> None:
        self._url = f"{url.rstrip('/').removesuffix('/v1')}/v1/chat/completions"
        self._model = model
        self._session = session
        self._kept = kept
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        kept.mkdir(parents=True, exist_ok=True)

    async def complete(self, body: Mapping[str, Any]) -> str:
        """What the model writes for the request. Streams are put together: a writing spoils whole replies."""
        left_out = {"stream", "stream_options", "model"}
        asked = {key: value for key, value in body.items() if key not in left_out} | {"model": self._model}
        named = orjson.dumps([asked["messages"], asked.get("response_format"), self._model])
        file = self._kept / hashlib.sha256(named).hexdigest()
        if file.exists():
            return file.read_text(encoding="utf-8")
        async with self._session.post(self._url, json=asked, timeout=self._timeout) as response:
            response.raise_for_status()
            text = str((await response.json())["choices"][0]["message"]["content"] or "")
        file.write_text(text, encoding="utf-8")
        return text


class LiveResponder:
    """Writes what a model wrote. What no JSON reply was made of is handed on as it is: nothing can be spoilt there."""

    def __init__(self, known: Responder, complete: Complete, *, write: Writing | None = None) -> None:
        self._known = known
        self._complete = complete
        self._write = write

    async def __call__(self, body: Mapping[str, Any]) -> str:
        text = await self._complete(body)
        reply = reply_of(text) if self._write else None
        return self._write(reply, self._known.read(body)) if self._write and reply else text

    def writing(self, write: Writing) -> LiveResponder:
        """The same model, whose replies are written down in another way."""
        return LiveResponder(self._known, self._complete, write=write)


def reply_of(text: str) -> Reply | None:
    """The fields of a draft; None where it is not the task's JSON."""
    try:
        fields = orjson.loads(text)
        return Reply(
            answer=fields["answer"],
            citations=tuple(fields["citations"]),
            intent=fields["intent"],
            escalate=fields["escalate"],
            escalation_reason=fields["escalation_reason"],
            follow_up=fields["follow_up"],
        )
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None

"""A chat model that writes what it was told to, for what does not need the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

from serving.client import ChatDelta, ChatRequest
from serving.generation import Usage


class ScriptedChat:
    """Writes one text again and again, a few characters at a time; keeps the requests."""

    def __init__(self, text: str, *, piece: int = 7) -> None:
        self._text = text
        self._piece = piece
        self.requests: list[ChatRequest] = []

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatDelta]:
        """The text in pieces, then how it ended."""
        self.requests.append(request)
        for start in range(0, len(self._text), self._piece):
            yield ChatDelta(self._text[start : start + self._piece])
        yield ChatDelta("", finish_reason="stop", usage=Usage(input_tokens=10, output_tokens=5))


class ScriptedChats:
    """Several models behind one wire, each with a script of its own: what it does at each request, in turn.

    A script's last entry goes on for ever. An entry is a text, an error, or an event that is waited for.
    """

    def __init__(self, scripts: Mapping[str, Sequence[str | Exception | asyncio.Event]]) -> None:
        self._scripts = {name: list(script) for name, script in scripts.items()}
        self.requests: list[ChatRequest] = []
        #: Generations that were closed before their end.
        self.aborted = 0
        self._asked = asyncio.Condition()

    def asked(self) -> list[str]:
        """The names that were asked, in order."""
        return [request.served_name for request in self.requests]

    async def until_asked(self, name: str, times: int = 1) -> None:
        """Wait until a model has been asked so often."""
        async with self._asked:
            await self._asked.wait_for(lambda: self.asked().count(name) >= times)

    def tell(self, name: str, *script: str | Exception | asyncio.Event) -> None:
        """What a model does from now on."""
        self._scripts[name] = list(script)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatDelta]:
        """What the model's script says next."""
        self.requests.append(request)
        async with self._asked:
            self._asked.notify_all()
        script = self._scripts[request.served_name]
        step = script.pop(0) if len(script) > 1 else script[0]
        try:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, asyncio.Event):
                await step.wait()
                step = ""
            for start in range(0, len(step), 7):
                yield ChatDelta(step[start : start + 7])
            yield ChatDelta("", finish_reason="stop", usage=Usage(input_tokens=10, output_tokens=5))
        except (asyncio.CancelledError, GeneratorExit):
            self.aborted += 1
            raise

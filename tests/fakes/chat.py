"""A chat model that writes what it was told to, for what does not need the wire."""

from __future__ import annotations

from collections.abc import AsyncGenerator

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

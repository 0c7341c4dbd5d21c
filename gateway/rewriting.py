"""Follow-ups rewritten by the chat model: for index versions that name `model-1`.

One short generation before the search, by the fallback model where there is one: a tuned model has learnt to
answer, not to rephrase. What it writes is only ever searched for, never shown. Where it writes nothing, the
question is searched as it was asked.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

from gateway.rails import ChatModel, ModelRail
from gateway.rollouts.live import Remembered
from retrieval.errors import RewriteError
from retrieval.hits import Said
from serving.client import ChatRequest
from serving.errors import ServingError
from serving.prompting import Message
from serving.versions import Decoding, Pointer, RegisteredVersion

#: What the model is told. Another prompt is another rewriter, with another id.
SYSTEM: Final = (
    "Rewrite the customer's last message as one question that can be understood alone. "
    "Replace words such as it, that and there by what they stand for. Add nothing. Write only the question."
)
_MAX_TOKENS: Final = 40
#: Messages of the conversation that the model sees, and characters of each.
_LAST_MESSAGES: Final = 4
_MESSAGE_CHARS: Final = 400


class ModelRewriter:
    """Asks the chat model for a question that stands alone."""

    id: Final = "model-1"

    def __init__(self, *, chat: ChatModel, models: ModelRail) -> None:
        self._chat = chat
        self._models = models
        self._pointer: Remembered[Pointer] = Remembered(models.pointer, max_age_s=1.0)
        self._versions: dict[str, RegisteredVersion] = {}

    async def rewrite(self, question: str, history: Sequence[Said], *, timeout_s: float) -> str:
        """The question that stands alone; RewriteError where the model gives none."""
        try:
            version = await self._version()
            request = ChatRequest(
                served_name=version.served_name,
                messages=_messages(question, history),
                decoding=Decoding(max_tokens=_MAX_TOKENS, constrained=False),
                timeout_s=timeout_s,
                first_token_timeout_s=timeout_s,
                # Nobody may learn from a warm cache what others asked.
                cache_salt=secrets.token_hex(8),
                version=version.id,
                prompt_name=self.id,
            )
            # The protocol says AsyncIterator, since an async generator function is declared as that.
            async with aclosing(self._chat.stream(request)) as deltas:  # type: ignore[type-var]
                written = "".join([delta.text async for delta in deltas])
        except ServingError as exc:
            raise RewriteError(f"rewriter: {self.id}: {exc}") from exc
        return _checked(written)

    async def _version(self) -> RegisteredVersion:
        pointer = await self._pointer.get()
        version_id = pointer.fallback or pointer.stable
        if version_id not in self._versions:
            self._versions[version_id] = await self._models.version(version_id)
        return self._versions[version_id]


def _messages(question: str, history: Sequence[Said]) -> tuple[Message, ...]:
    said = [
        f"{each.role}: {' '.join(each.text.split())[:_MESSAGE_CHARS]}" for each in history[-_LAST_MESSAGES:]
    ]
    talk = "\n".join([*said, f"user: {question}"])
    return (Message("system", SYSTEM), Message("user", talk))


def _checked(written: str) -> str:
    """The first line that was written, if it says something."""
    line = next((line.strip(" \t\"'") for line in written.splitlines() if line.strip(" \t\"'")), "")
    line = line.removeprefix("user:").strip()
    if not any(char.isalnum() for char in line):
        raise RewriteError(f"rewriter: {ModelRewriter.id}: the model wrote no question")
    return line

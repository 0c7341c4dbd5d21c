"""The OpenAI-compatible surface: bodies in, bodies out. An official client works by changing its base URL.

Three kinds of parameters: those we use, those we take and ignore because they have no meaning here (the
version decides how it decodes), and those that would change what the caller gets, which are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.citations import Cited
from gateway.errors import InvalidFieldError, UnsupportedParameterError
from gateway.events import Completed
from gateway.schemas.answers import AnswerBody
from gateway.schemas.fields import MAX_QUESTION, ConversationId, FilterValue, ShortText
from serving.prompting import Message

#: The name under which the assigned model version answers.
MODEL: Final = "twinrail"

#: Taken and ignored: how the model decodes is part of its version, and the rest asks for nothing that we do.
IGNORED: Final = frozenset(
    {
        "temperature",
        "top_p",
        "seed",
        "max_tokens",
        "max_completion_tokens",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "stop",
        "store",
        "metadata",
        "service_tier",
        "parallel_tool_calls",
        "reasoning_effort",
        "verbosity",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
    }
)
#: Refused, unless the value is one that changes nothing.
_HARMLESS: Final[Mapping[str, tuple[Any, ...]]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
}


class TextPart(BaseModel):
    """A part of a message's content."""

    type: Literal["text"]
    text: str = Field(max_length=8_000)


class ChatMessage(BaseModel):
    """A message of the conversation."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["user", "assistant", "system", "developer"]
    content: Annotated[str, Field(max_length=8_000)] | list[TextPart]

    @property
    def text(self) -> str:
        """The content as text."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    """What a stream adds."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class ChatExtension(BaseModel):
    """Our own parameters (`extra_body={"twinrail": {...}}` in the Python client)."""

    model_config = ConfigDict(extra="forbid")

    conversation_id: ConversationId | None = None
    filters: dict[ShortText, FilterValue] = Field(default_factory=dict, max_length=20)


class ChatBody(BaseModel):
    """Body of `POST /v1/chat/completions`, as far as it is used."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"model": MODEL, "messages": [{"role": "user", "content": "How much is Sync Plus a month?"}]}
            ]
        },
    )

    model: str = Field(max_length=200, description="`twinrail`, or a model version id (scope `eval`).")
    messages: list[ChatMessage] = Field(
        min_length=1,
        max_length=200,
        description="The last one, from the user, is the question; the ones before are history. "
        "System messages are ignored: the model version has its own.",
    )
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(
        default=None, max_length=128, description="Keeps the arms, where no conversation id is given."
    )
    twinrail: ChatExtension = Field(default_factory=ChatExtension)

    @property
    def question(self) -> str:
        """The last message."""
        return self.messages[-1].text.strip()

    @property
    def history(self) -> tuple[Message, ...]:
        """The messages before it."""
        return tuple(
            Message(message.role, message.text)
            for message in self.messages[:-1]
            if message.role in ("user", "assistant") and message.text.strip()
        )


def parse_chat(raw: Any) -> ChatBody:
    """Check a body; raises ValidationError or UnsupportedParameterError."""
    if not isinstance(raw, dict):
        raise InvalidFieldError("The body is not an object.", field="body", fix="Send one JSON object.")
    for name, harmless in _HARMLESS.items():
        value = raw.get(name)
        if value is not None and value not in harmless:
            fix = f"Leave {name} out" + (f" or send {harmless[0]!r}." if harmless else ".")
            raise UnsupportedParameterError(f"{name} is not supported.", field=name, fix=fix)
    used = {name: value for name, value in raw.items() if name not in IGNORED and name not in _HARMLESS}
    for name in used:
        if name not in ChatBody.model_fields:
            raise UnsupportedParameterError(
                f"{name} is not a parameter of this API.",
                field=name,
                fix=f"Leave {name} out, or correct its spelling.",
            )
    body = ChatBody.model_validate({name: value for name, value in used.items() if value is not None})
    last = body.messages[-1]
    if last.role != "user":
        raise InvalidFieldError(
            f"The last message is from {last.role}.", field="messages", fix="End with a message of role user."
        )
    if not body.question:
        raise InvalidFieldError(
            "The last message is empty.", field="messages", fix="Put the question into the last message."
        )
    if len(body.question) > MAX_QUESTION:
        raise InvalidFieldError(
            f"The question has {len(body.question)} characters.",
            field="messages",
            fix=f"Shorten the last message to at most {MAX_QUESTION} characters.",
        )
    if any("\x00" in message.text for message in body.messages):
        raise InvalidFieldError("A message holds a NUL character.", field="messages", fix="Remove it.")
    return body


def completion(done: Completed, *, created: int) -> dict[str, Any]:
    """The body of a completion that is not streamed."""
    body = done.body
    return {
        "id": f"chatcmpl-{body.id}",
        "object": "chat.completion",
        "created": created,
        "model": body.versions.model or MODEL,
        "system_fingerprint": body.versions.knowledge,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": body.answer,
                    "refusal": None,
                    "annotations": url_citations(done.cited, body.answer),
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": usage(body),
        "twinrail": extension(body),
    }


def chunk(
    *, turn_id: str, model: str, created: int, delta: Mapping[str, Any], finish_reason: str | None = None
) -> dict[str, Any]:
    """One chunk of a stream."""
    return {
        "id": f"chatcmpl-{turn_id}",
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "delta": dict(delta), "logprobs": None, "finish_reason": finish_reason}],
    }


def url_citations(cited: Sequence[Cited], answer: str) -> list[dict[str, Any]]:
    """Citations as OpenAI has them: the piece of the answer, and where it comes from."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": item.answer_start,
                "end_index": min(item.answer_end, len(answer)),
                "title": item.citation.title,
                "url": item.citation.url or f"urn:twinrail:document:{item.citation.document_id}",
            },
        }
        for item in cited
    ]


def usage(body: AnswerBody) -> dict[str, int]:
    """Tokens in OpenAI's words."""
    tokens = body.usage
    return {
        "prompt_tokens": tokens.prompt_tokens,
        "completion_tokens": tokens.completion_tokens,
        "total_tokens": tokens.prompt_tokens + tokens.completion_tokens,
    }


def extension(body: AnswerBody) -> dict[str, Any]:
    """What OpenAI's bodies have no place for."""
    return body.model_dump(mode="json", exclude={"answer", "usage"})

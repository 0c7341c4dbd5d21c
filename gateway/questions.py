"""From a request body to a question: what may be asked, by whom, and which conversation it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.access import ApiKey, Scope
from gateway.errors import InvalidFieldError, NotFoundError
from gateway.identifiers import new_conversation_id
from gateway.openai_api import MODEL, parse_chat
from gateway.schemas.answers import AnswerRequest, Pin, PinnedPrompt
from gateway.turn import Pinned, PinnedContext, Question, TurnDraft
from gateway.wire import Headers
from serving.prompting import Message, PromptTemplate, Shot

_CONVERSATION_HEADER = b"x-twinrail-conversation"
_LONGEST_ID = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatQuestion:
    """A question of the OpenAI surface with what only concerns its form."""

    question: Question
    include_usage: bool


def native_question(raw: Any, *, key: ApiKey, headers: Headers, turn: TurnDraft) -> Question:
    """The question of a native body; also noted in the turn, so that a refusal shows what was asked."""
    if isinstance(raw, dict) and isinstance(raw.get("question"), str):
        turn.question = raw["question"][:500]
    body = AnswerRequest.model_validate(raw)
    pin = pinned(body.pin, key) if body.pin is not None else None
    question = Question(
        text=body.question,
        key=key,
        conversation_id=body.conversation_id or _from_header(headers) or new_conversation_id(),
        history=tuple(Message(message.role, message.content) for message in body.history),
        filters=body.filters,
        pin=pin,
        stream=body.stream,
    )
    _note(turn, question)
    return question


def chat_question(raw: Any, *, key: ApiKey, headers: Headers, turn: TurnDraft) -> ChatQuestion:
    """The question of an OpenAI body."""
    body = parse_chat(raw)
    turn.question = body.question
    extra = body.twinrail
    question = Question(
        text=body.question,
        key=key,
        conversation_id=(
            extra.conversation_id or _user(body.user) or _from_header(headers) or new_conversation_id()
        ),
        history=body.history,
        filters=extra.filters,
        pin=_pinned_model(body.model, key),
        stream=bool(body.stream),
    )
    _note(turn, question)
    return ChatQuestion(
        question=question,
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
    )


def pinned(pin: Pin, key: ApiKey) -> Pinned | None:
    """The pin, for a key that may pin. A pin that fixes nothing is still a pin: its turn is not counted."""
    key.require(Scope.EVAL, field="pin")
    version, _, snapshot = (pin.knowledge or "").partition("@")
    if snapshot and pin.as_of is not None:
        raise InvalidFieldError(
            "pin.as_of: `pin.knowledge` names a snapshot already",
            field="pin.as_of",
            fix="Give one of the two.",
        )
    context: tuple[PinnedContext, ...] | None = None
    if pin.context == "none":
        context = ()
    elif pin.context is not None:
        context = tuple(
            PinnedContext(
                title=given.title,
                text=given.text,
                effective_from=given.effective_from.isoformat() if given.effective_from else "",
            )
            for given in pin.context
        )
    if pin.prompt is not None and pin.model is None:
        raise InvalidFieldError(
            "pin.prompt: no model is pinned, and each conversation may get another one",
            field="pin.prompt",
            fix="Pin the model whose prompt this takes the place of, too.",
        )
    return Pinned(
        knowledge=version or None,
        model=pin.model,
        as_of=int(snapshot) if snapshot else pin.as_of,
        effective_on=pin.effective_on,
        context=context,
        prompt=_prompt(pin.prompt),
        constrained=pin.constrained,
    )


def _prompt(given: PinnedPrompt | None) -> PromptTemplate | None:
    if given is None:
        return None
    return PromptTemplate(
        name=given.name,
        system=given.system.strip(),
        shots=tuple(
            Shot(context=shot.context.strip(), question=shot.question.strip(), answer=shot.answer.strip())
            for shot in given.shots
        ),
        shows=given.shows,
    )


def _pinned_model(model: str, key: ApiKey) -> Pinned | None:
    if model == MODEL:
        return None
    if not model.startswith("m-"):
        raise NotFoundError(
            f"There is no model {model!r}.",
            field="model",
            fix=f"Use {MODEL!r}; `GET /v1/models` lists the names.",
        )
    key.require(Scope.EVAL, field="model")
    return Pinned(model=model)


def _note(turn: TurnDraft, question: Question) -> None:
    turn.question = question.text
    turn.conversation_id = question.conversation_id
    turn.filters = question.filters
    turn.pin = question.pin


def _user(user: str | None) -> str | None:
    """OpenAI's `user` keeps the arms as well; it may hold any text, a header may not."""
    return user if user and user.isascii() and user.isprintable() else None


def _from_header(headers: Headers) -> str | None:
    value = next((value for name, value in headers if name == _CONVERSATION_HEADER), None)
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    if not 0 < len(text) <= _LONGEST_ID or not text.isascii() or not text.isprintable():
        raise InvalidFieldError(
            "The conversation id is not 1 to 128 printable ASCII characters.",
            field="header x-twinrail-conversation",
            fix="Send the id that an earlier answer returned, or leave it out.",
        )
    return text

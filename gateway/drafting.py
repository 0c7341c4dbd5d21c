"""One draft of an answer: the model writes, each sentence is checked, and only checked sentences come out.

A sentence is released when it is complete and its check has passed; one that claims nothing waits for a claim
that holds, because "Yes, you can." is an answer too. The first sentence that fails ends the draft and, by
closing the stream, the generation behind it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from jsonschema.protocols import Validator

from gateway.answer_text import FieldReader
from gateway.checking import checked
from gateway.outcome import FOLLOW_UP_FIELD, Parsed, Unfit, is_question, parse_draft, status_of
from gateway.rails import ChatModel, SentenceCheck, ToneCheck
from gateway.schemas.answers import Status
from gateway.sentences import SentenceSplitter, split_sentences
from serving.client import ChatRequest
from serving.errors import EngineError
from serving.generation import Usage
from serving.grounding import Support
from serving.prompting import Passage
from serving.repetition import LoopWatch


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSentence:
    """A sentence of the answer with what its check found. `start` and `end` count in the answer."""

    text: str
    start: int
    end: int
    support: Support
    tone: tuple[str, ...]
    released: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftResult:
    """How a draft ended: `parsed` if it can be used, else `failure`."""

    text: str
    parsed: Parsed | None
    #: `engine`, `unsupported`, `schema`, `truncated`, `repetitive`, `mismatch`, `empty`; None if usable.
    failure: str | None
    detail: str
    sentences: tuple[CheckedSentence, ...]
    usage: Usage
    finish_reason: str | None
    first_token_s: float | None
    #: Time that the model took, and time that the checks took.
    generation_s: float
    checking_s: float
    error: EngineError | None = None
    #: What was left out of a draft that can be used, and why.
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Released:
    """Text that has passed its check."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftOrder:
    """What a draft is to be made from, and how it is judged."""

    request: ChatRequest
    question: str
    passages: tuple[Passage, ...]
    validator: Validator
    #: Field with the text to stream; None: the whole JSON is the answer, checked as one.
    field: str | None
    #: False where nothing can be grounded (prompt-only arm): then checks are measured only.
    enforce: bool = True
    #: Read a draft to its end even when a sentence has failed, so that evaluation can judge all of it.
    finish: bool = False


@dataclass(slots=True)
class _Progress:
    written: list[str] = field(default_factory=list)
    sentences: list[CheckedSentence] = field(default_factory=list)
    answer: list[str] = field(default_factory=list)
    offset: int = 0
    usage: Usage = field(default_factory=Usage)
    finish_reason: str | None = None
    #: The model has begun to repeat itself; the generation was ended.
    looping: bool = False
    first_token_s: float | None = None
    began_at: float = field(default_factory=time.perf_counter)
    checking_s: float = 0.0


class Drafter:
    """Writes drafts with a model and two checks."""

    def __init__(
        self,
        *,
        chat: ChatModel,
        check_sentence: SentenceCheck,
        check_tone: ToneCheck,
        slow_checks: bool = False,
    ) -> None:
        self._chat = chat
        self._check_sentence = check_sentence
        self._check_tone = check_tone
        self._slow_checks = slow_checks

    async def write(self, order: DraftOrder) -> AsyncGenerator[Released | DraftResult]:
        """The released pieces of one draft, then its result."""
        progress = _Progress()
        refused: str | None = None
        waiting: list[str] = []
        try:
            async with aclosing(self._sentences(order, progress)) as sentences:
                async for sentence in sentences:
                    found = await checked(
                        partial(self._check, sentence, order, progress), slow=self._slow_checks
                    )
                    if progress.looping:  # read on for evaluation only; the loop is what the draft failed by
                        continue
                    if refused is None and not found.released:
                        refused = sentence.strip()
                    if refused is None:
                        waiting.append(sentence)
                        if found.support.is_claim or found.support.is_fixed:
                            yield Released("".join(waiting))
                            waiting.clear()
                    elif not order.finish:
                        break
        except EngineError as exc:
            yield _failed(progress, "engine", str(exc), error=exc)
            return
        if refused is not None:
            yield _failed(progress, "unsupported", refused)
        elif progress.looping:
            yield _failed(progress, "repetitive", "the model repeats itself")
        else:
            yield await checked(partial(self._finish, order, progress), slow=self._slow_checks)

    async def _sentences(self, order: DraftOrder, progress: _Progress) -> AsyncGenerator[str]:
        """Complete sentences of the answer's text, as early as they are known to be complete."""
        reader = FieldReader(order.field) if order.field else None
        splitter = SentenceSplitter()
        watch = LoopWatch()
        # The type says AsyncIterator; every stream here is a generator whose closing aborts the generation.
        async with aclosing(self._chat.stream(order.request)) as deltas:  # type: ignore[type-var]
            async for delta in deltas:
                if delta.finish_reason:
                    progress.finish_reason = delta.finish_reason
                if delta.usage:
                    progress.usage = delta.usage
                if not delta.text:
                    continue
                if progress.first_token_s is None:
                    progress.first_token_s = time.perf_counter() - progress.began_at
                progress.written.append(delta.text)
                if reader is None or reader.done:
                    continue
                said = reader.feed(delta.text)
                progress.looping = progress.looping or watch.feed(said)
                if progress.looping and not order.finish:
                    return
                for sentence in splitter.feed(said):
                    yield sentence
                if reader.done and (rest := splitter.flush()):
                    yield rest

    def _check(self, sentence: str, order: DraftOrder, progress: _Progress) -> CheckedSentence:
        began = time.perf_counter()
        bare = sentence.strip()
        support = self._check_sentence(bare, order.passages, question=order.question)
        tone = self._check_tone(bare)
        progress.checking_s += time.perf_counter() - began
        left = progress.offset + len(sentence) - len(sentence.lstrip())
        checked = CheckedSentence(
            text=bare,
            start=left,
            end=left + len(bare),
            support=support,
            tone=tone,
            released=support.supported or not order.enforce or not bare,
        )
        progress.sentences.append(checked)
        if checked.released:
            progress.answer.append(sentence)
            progress.offset += len(sentence)
        return checked

    def _finish(self, order: DraftOrder, progress: _Progress) -> DraftResult:
        text = "".join(progress.written)
        if progress.finish_reason == "length":
            return _failed(progress, "truncated", "the model reached max_tokens")
        parsed = parse_draft(text, validator=order.validator, field=order.field)
        if isinstance(parsed, Unfit):
            return _failed(progress, "schema", parsed.reason)
        if order.field is not None and "".join(progress.answer) != parsed.answer:
            return _failed(progress, "mismatch", "the streamed text is not the text of the finished JSON")
        if order.field is not None and status_of(parsed) is None:
            return _failed(progress, "empty", "neither an answer nor a question back")
        return self._with_follow_up(order, progress, parsed)

    def _with_follow_up(self, order: DraftOrder, progress: _Progress, parsed: Parsed) -> DraftResult:
        """The question back is shown to the customer too, so it passes the same check or is not shown."""
        text = str(parsed.fields.get(FOLLOW_UP_FIELD) or "").strip()
        if order.field is None or not text:
            return _result(progress, parsed=parsed, failure=None, detail="")
        aside = _Progress()
        checked = [self._check(sentence, order, aside) for sentence in split_sentences(text)]
        progress.checking_s += aside.checking_s
        refused = next((sentence.text for sentence in checked if not sentence.released), None)
        if refused is None and order.enforce and not is_question(text):
            refused = text
        if status_of(parsed) is Status.CLARIFY:  # it takes the place of the answer
            progress.sentences = aside.sentences
            if refused is not None:
                return _failed(progress, "unsupported", refused)
        if refused is None:
            return _result(progress, parsed=parsed, failure=None, detail="")
        kept = replace(parsed, fields={**parsed.fields, FOLLOW_UP_FIELD: ""})
        return _result(progress, parsed=kept, failure=None, detail="", flags=("follow_up: unsupported",))


def check_rows(sentences: Sequence[CheckedSentence]) -> list[dict[str, Any]]:
    """The checks as they are recorded with the turn."""
    return [
        {
            "sentence": sentence.text,
            "supported": sentence.support.supported,
            "score": round(sentence.support.score, 3),
            "n": sentence.support.n,
            "unsupported": list(sentence.support.unsupported),
            "tone": list(sentence.tone),
        }
        for sentence in sentences
    ]


def _failed(
    progress: _Progress, failure: str, detail: str, *, error: EngineError | None = None
) -> DraftResult:
    return _result(progress, parsed=None, failure=failure, detail=detail, error=error)


def _result(
    progress: _Progress,
    *,
    parsed: Parsed | None,
    failure: str | None,
    detail: str,
    error: EngineError | None = None,
    flags: tuple[str, ...] = (),
) -> DraftResult:
    return DraftResult(
        text="".join(progress.written),
        parsed=parsed,
        failure=failure,
        detail=detail,
        sentences=tuple(progress.sentences),
        usage=progress.usage,
        finish_reason=progress.finish_reason,
        first_token_s=progress.first_token_s,
        generation_s=time.perf_counter() - progress.began_at - progress.checking_s,
        checking_s=progress.checking_s,
        error=error,
        flags=flags,
    )

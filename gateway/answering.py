"""The path of a question, from assignment to answer, as one stream of events for every surface.

    assign an arm per rail -> retrieve -> too little confidence? abstain
      -> prompt -> model writes, sentences are checked -> verify the whole -> cite
      -> fails? one repair, then the fallback model, then fixed wording and a review ticket

Retrieval and generation fail apart: without retrieval there is no uncited answer but the abstain wording,
without generation the fixed wording with what was found. A draft of which something was shown is never taken
back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from jsonschema.protocols import Validator
from opentelemetry import trace

from gateway import instruments as names
from gateway.assembling import Assembler, Context
from gateway.citations import CitationDesk, Cited
from gateway.drafting import Drafter, DraftOrder, DraftResult
from gateway.errors import InvalidFieldError
from gateway.outcome import Parsed, status_of, text_field, validator_of
from gateway.rails import KnowledgeRail, Searcher, SentenceCheck
from gateway.rollouts.assignment import Arm, Assignment
from gateway.rollouts.live import LiveRails
from gateway.schemas import AnswerBody, Confidence, Status
from gateway.turn import Question, TurnDraft
from gateway.verifying import Verifier
from retrieval.errors import NoStableVersionError, RetrievalError, UnknownVersionError
from retrieval.errors import RequestError as BadSearchError
from retrieval.hits import SearchRequest, SearchResult
from serving.client import ChatRequest
from serving.errors import ModelNotServedError, UnknownModelVersionError
from serving.prompting import Message
from serving.versions import RegisteredVersion
from serving.wording import Wording

#: Share of the time left that stays for the fallback model while the first model writes.
_FALLBACK_SHARE: Final = 0.35
#: Without so much time left, another draft is not begun.
_LEAST_DRAFT_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Delta:
    """Text of the answer that has passed its check."""

    text: str


@dataclass(frozen=True, slots=True)
class Completed:
    """The answer, with the citations tied to the pieces of its text."""

    body: AnswerBody
    cited: tuple[Cited, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweringLimits:
    """Times and sizes of the path of a question."""

    retrieval_timeout_s: float = 5.0
    first_token_timeout_s: float = 12.0
    hits: int = 8
    history_messages: int = 6


class Deadline:
    """A moment on the loop's clock that is passed down, so that each layer knows what is left."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._at - time.monotonic())


class Answering:
    """Answers questions. All state is in the turn's draft, so one instance serves every request."""

    def __init__(
        self,
        *,
        live: LiveRails,
        searcher: Searcher,
        knowledge: KnowledgeRail,
        drafter: Drafter,
        check_sentence: SentenceCheck,
        count_tokens: Callable[[str], int],
        wording: Wording,
        limits: AnsweringLimits,
    ) -> None:
        self._live = live
        self._searcher = searcher
        self._assembler = Assembler(count_tokens=count_tokens, history_messages=limits.history_messages)
        self._drafter = drafter
        self._verifier = Verifier(desk=CitationDesk(knowledge), check_sentence=check_sentence)
        self._wording = wording
        self._limits = limits
        self._validators: dict[str, Validator] = {}

    async def run(
        self, question: Question, turn: TurnDraft, deadline: Deadline
    ) -> AsyncGenerator[Delta | Completed]:
        """The events of one question; the last one is Completed."""
        began = time.perf_counter()
        version = await self._assign(question, turn)
        result = await self._retrieve(question, turn, deadline)
        if result is None or self._is_hopeless(question, turn, result):
            yield Delta(self._wording.not_in_help_centre)
            yield self._complete(turn, Status.ABSTAINED, self._wording.not_in_help_centre, began=began)
            return
        context = self._assemble(question, turn, version, result)
        async with aclosing(self._generate(question, turn, deadline, version, context, began)) as events:
            async for event in events:
                yield event

    # ---- assign
    # ------------------------------------------------------------------------------------------------

    async def _assign(self, question: Question, turn: TurnDraft) -> RegisteredVersion:
        with names.tracer.start_as_current_span(names.ASSIGN_SPAN) as span, turn.timed("assign"):
            pin = question.pin
            if pin and pin.skips_retrieval:
                turn.knowledge = Assignment(arm=Arm.NONE, version=None)
            elif pin and pin.knowledge:
                await self._pinned_knowledge(pin.knowledge)
                turn.knowledge = Assignment(arm=Arm.PINNED, version=pin.knowledge)
            else:
                try:
                    turn.knowledge = await self._live.assign_knowledge(question.unit)
                except (RetrievalError, TimeoutError):
                    turn.degrade("retrieval")
            if pin and pin.model:
                turn.model = Assignment(arm=Arm.PINNED, version=pin.model)
            else:
                turn.model = await self._live.assign_model(question.unit)
            for rail, assigned in (("knowledge", turn.knowledge), ("model", turn.model)):
                span.add_event(
                    names.FLAG_EVENT,
                    {names.FLAG_KEY: f"twinrail.{rail}", names.FLAG_VARIANT: assigned.arm.value},
                )
            version = await self._model_version(turn)
            turn.prompt_name = version.version.prompt.name
        return version

    async def _pinned_knowledge(self, version_id: str) -> None:
        try:
            await self._live.knowledge_version(version_id)
        except UnknownVersionError as exc:
            raise InvalidFieldError(
                str(exc), field="pin.knowledge", fix="Use an id of `GET /v1/rails/knowledge/versions`."
            ) from exc

    async def _model_version(self, turn: TurnDraft) -> RegisteredVersion:
        try:
            return await self._live.model_version(turn.model.version or "")
        except UnknownModelVersionError as exc:
            raise InvalidFieldError(
                str(exc), field="pin.model", fix="Use an id of `GET /v1/rails/model/versions`."
            ) from exc

    # ---- retrieve
    # ----------------------------------------------------------------------------------------------

    async def _retrieve(
        self, question: Question, turn: TurnDraft, deadline: Deadline
    ) -> SearchResult | tuple[()] | None:
        """What was found; None when retrieval failed, an empty tuple when there is nothing to retrieve."""
        if question.pin and question.pin.skips_retrieval:
            return ()
        with turn.timed("retrieval"):
            try:
                return await self._search(question, turn, deadline)
            except BadSearchError:
                raise
            except NoStableVersionError:
                turn.degrade("retrieval")
            except UnknownVersionError:
                # The pointer moved and the version is gone: read it again and try once more.
                self._live.forget()
                try:
                    turn.knowledge = await self._live.assign_knowledge(question.unit)
                    return await self._search(question, turn, deadline)
                except RetrievalError:
                    turn.degrade("retrieval")
            except (RetrievalError, TimeoutError):
                turn.degrade("retrieval")
        return None

    async def _search(self, question: Question, turn: TurnDraft, deadline: Deadline) -> SearchResult | None:
        if turn.knowledge.version is None:
            turn.degrade("retrieval")
            return None
        timeout_s = min(self._limits.retrieval_timeout_s, deadline.left_s)
        async with asyncio.timeout(timeout_s + 0.2):
            result = await self._searcher.search(
                SearchRequest(
                    question=question.text,
                    access=question.key.access,
                    version=turn.knowledge.version,
                    k=self._limits.hits,
                    filters=question.filters,
                    snapshot=question.pin.snapshot if question.pin else None,
                    as_of=question.pin.as_of if question.pin else None,
                    timeout_s=timeout_s,
                ),
                arm=turn.knowledge.arm.value,
            )
        turn.hits = result.hits
        turn.snapshot = result.snapshot
        turn.confidence = result.confidence
        turn.retrieval = {
            "mode": result.mode,
            "candidates": result.candidates,
            "underfilled": result.underfilled,
            "stages_ms": dict(result.timings_ms),
        }
        for part in result.degraded:
            turn.degrade(part)
        version = await self._live.knowledge_version(turn.knowledge.version)
        turn.retrieval["abstain_below"] = version.abstain_below
        return result

    @staticmethod
    def _is_hopeless(question: Question, turn: TurnDraft, result: SearchResult | tuple[()]) -> bool:
        """Whether the hits are too weak to be worth a generation."""
        if isinstance(result, tuple):
            return False
        return not result.hits or result.confidence < turn.retrieval["abstain_below"]

    # ---- assemble
    # ----------------------------------------------------------------------------------------------

    def _assemble(
        self,
        question: Question,
        turn: TurnDraft,
        version: RegisteredVersion,
        result: SearchResult | tuple[()],
    ) -> Context:
        with names.tracer.start_as_current_span(names.ASSEMBLE_SPAN) as span, turn.timed("assemble"):
            context = self._assembler.assemble(
                question, version, () if isinstance(result, tuple) else result.hits
            )
            turn.prompt = context.messages
            turn.passages = context.rows()
            span.set_attributes(
                {
                    names.CONTEXT_DOCUMENTS: len(context.passages),
                    names.CONTEXT_TOKENS: context.tokens,
                    names.CONTEXT_TRUNCATED: len(context.passages) < len(context.candidates),
                }
            )
            if question.pin is None:
                names.context_tokens.record(context.tokens, {names.MODEL_VERSION: version.id})
        return context

    # ---- generate and verify
    # -----------------------------------------------------------------------------------

    async def _generate(
        self,
        question: Question,
        turn: TurnDraft,
        deadline: Deadline,
        version: RegisteredVersion,
        context: Context,
        began: float,
    ) -> AsyncGenerator[Delta | Completed]:
        shown: list[str] = []
        failed: DraftResult | None = None
        used = context
        stand_in = None if question.pin and question.pin.model else await self._stand_in(version)
        for attempt in ("first", "repair", "fallback"):
            if attempt == "repair" and (failed is None or failed.failure == "engine"):
                continue
            if attempt == "fallback":
                if stand_in is None:
                    break
                version = stand_in
                used = self._assembler.assemble(question, version, turn.hits)
            if deadline.left_s < _LEAST_DRAFT_S:
                break
            order = self._order(
                question,
                turn,
                version,
                used,
                deadline,
                keep_for_fallback=attempt != "fallback" and stand_in is not None,
                failed=failed if attempt == "repair" else None,
            )
            result: DraftResult | None = None
            async with aclosing(self._drafter.write(order)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, DraftResult):
                        result = piece
                    elif question.stream and order.field is not None:
                        turn.timings_ms.setdefault("first_sentence", (time.perf_counter() - began) * 1000)
                        shown.append(piece.text)
                        yield Delta(piece.text)
            if result is None:
                break
            accepted = await self._verifier.verify(question, turn, used, order, result, attempt)
            if isinstance(result.error, ModelNotServedError):
                self._live.forget()
            if accepted is not None:
                text, tail = self._text_of(accepted.parsed, shown)
                if tail:
                    yield Delta(tail)
                status = status_of(accepted.parsed) or Status.ANSWERED
                if attempt == "fallback":
                    turn.model = Assignment(arm=turn.model.arm, version=version.id)
                    turn.prompt_name = version.version.prompt.name
                    if status is Status.ANSWERED:
                        status = Status.FALLBACK
                yield self._complete(
                    turn,
                    status,
                    text,
                    fields=accepted.parsed.fields,
                    cited=accepted.citations.cited,
                    began=began,
                )
                return
            failed = result
            if shown:
                break
        async for event in self._give_up(question, turn, used, shown, failed, began):
            yield event

    async def _stand_in(self, version: RegisteredVersion) -> RegisteredVersion | None:
        fallback = await self._live.fallback()
        if fallback is None or fallback == version.id:
            return None
        try:
            return await self._live.model_version(fallback)
        except UnknownModelVersionError:
            return None

    def _order(
        self,
        question: Question,
        turn: TurnDraft,
        version: RegisteredVersion,
        context: Context,
        deadline: Deadline,
        *,
        keep_for_fallback: bool,
        failed: DraftResult | None,
    ) -> DraftOrder:
        messages = list(context.messages)
        if failed is not None:
            messages += [Message("assistant", failed.text), Message("user", _repair_words(failed))]
        left = deadline.left_s
        share = 1 - _FALLBACK_SHARE if keep_for_fallback else 1.0
        timeout_s = left if question.stream else left * share
        registered = version.version
        return DraftOrder(
            request=ChatRequest(
                served_name=version.served_name,
                messages=messages,
                schema=registered.schema,
                decoding=registered.decoding,
                timeout_s=timeout_s,
                first_token_timeout_s=min(self._limits.first_token_timeout_s, left * share),
                cache_salt=question.key.tenant,
                version=version.id,
                arm=turn.model.arm.value,
                prompt_name=registered.prompt.name,
            ),
            passages=context.passages,
            validator=self._validator(version),
            field=text_field(registered.schema),
            enforce=not (question.pin and question.pin.prompt_only),
            finish=question.pin is not None and not question.stream,
        )

    def _validator(self, version: RegisteredVersion) -> Validator:
        if version.id not in self._validators:
            self._validators[version.id] = validator_of(version.version.schema)
        return self._validators[version.id]

    @staticmethod
    def _text_of(parsed: Parsed, shown: Sequence[str]) -> tuple[str, str]:
        """The answer's text and the part of it that is not shown yet."""
        text = parsed.answer if parsed.answer.strip() else str(parsed.fields.get("follow_up") or "")
        return text, text[len("".join(shown)) :]

    async def _give_up(
        self,
        question: Question,
        turn: TurnDraft,
        context: Context,
        shown: Sequence[str],
        failed: DraftResult | None,
        began: float,
    ) -> AsyncGenerator[Delta | Completed]:
        """Fixed wording, what was found, and a person who looks at it."""
        wording = self._wording.failed
        tail = f"\n\n{wording}" if shown else wording
        yield Delta(tail)
        cited: tuple[Cited, ...] = ()
        if failed is None or failed.failure == "engine":
            turn.degrade("generation")
            cited = await self._verifier.found(question, turn, context)
        turn.ticket = failed.failure if failed and failed.failure else "deadline"
        yield self._complete(turn, Status.FALLBACK, "".join(shown) + tail, cited=cited, began=began)

    # ---- complete
    # ----------------------------------------------------------------------------------------------

    def _complete(
        self,
        turn: TurnDraft,
        status: Status,
        text: str,
        *,
        began: float,
        fields: Mapping[str, object] | None = None,
        cited: tuple[Cited, ...] = (),
    ) -> Completed:
        if turn.ticket is None and status in (Status.ABSTAINED, Status.ESCALATED):
            turn.ticket = status.value
        total = (time.perf_counter() - began) * 1000
        timings = turn.timings_ms
        timings["total"] = total
        timings["overhead"] = max(0.0, total - timings.get("retrieval", 0.0) - timings.get("generation", 0.0))
        turn.answer = AnswerBody(
            id=turn.id,
            conversation_id=turn.conversation_id,
            status=status,
            answer=text,
            fields=dict(fields or {}),
            citations=[item.citation for item in cited],
            confidence=Confidence(retrieval=turn.confidence, grounded=turn.grounded),
            versions=turn.versions,
            arms=turn.arms,
            degraded=list(turn.degraded),
            usage=turn.usage,
            timings_ms={name: round(value, 2) for name, value in timings.items()},
            trace_id=turn.trace_id,
        )
        trace.get_current_span().set_attributes(
            {
                names.STATUS: status.value,
                names.CITATIONS: len(cited),
                names.REFUSED: status in (Status.ABSTAINED, Status.ESCALATED),
            }
        )
        return Completed(body=turn.answer, cited=cited)


def _repair_words(failed: DraftResult) -> str:
    """What the model is told when its draft did not pass; short, because the prompt is nearly full."""
    if failed.failure == "unsupported":
        return (
            f'The passages do not say this: "{failed.detail[:300]}". '
            "Write the JSON again with only what the passages say."
        )
    if failed.failure == "uncited":
        return (
            "No passage supports that answer. "
            "Write the JSON again with only what the passages say, and cite them."
        )
    if failed.failure == "truncated":
        return "That was too long. Write the JSON again, shorter."
    return "That was not the JSON asked for. Write it again, exactly in the form asked for."

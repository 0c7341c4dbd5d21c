"""The path of a question, from assignment to answer, as one stream of events for every surface.

    assign an arm per rail -> retrieve -> too little confidence? abstain, or ask which article is meant
      -> prompt -> model writes, sentences are checked -> verify the whole -> cite
      -> fails? one repair, then those that stand in, then fixed wording and a review ticket

Whether a person has to see the question is looked up while it is searched for (gateway/handover.py).

Retrieval and generation fail apart: without retrieval there is no uncited answer but the abstain wording,
without generation the fixed wording with what was found. A draft of which something was shown is never taken
back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from gateway import instruments as names
from gateway.assembling import Assembler, Context
from gateway.citations import CitationDesk
from gateway.clarifying import choices_for, clarifying_text
from gateway.errors import InvalidFieldError
from gateway.events import Completed, Deadline, Delta, complete
from gateway.generating import Generating
from gateway.handover import Handover, pass_on
from gateway.highlighting import Highlighter
from gateway.rails import KnowledgeRail, Searcher, SentenceCheck
from gateway.rollouts.assignment import Arm, Assignment
from gateway.rollouts.live import LiveRails
from gateway.schemas.answers import Cause, Status, Step, Tried
from gateway.standins import Chain
from gateway.turn import Question, TurnDraft
from gateway.verifying import Verifier
from retrieval.errors import NoStableVersionError, RetrievalError, UnknownVersionError
from retrieval.errors import RequestError as BadSearchError
from retrieval.hits import Said, SearchRequest, SearchResult
from serving.circuit import Circuits
from serving.errors import UnknownModelVersionError, VersionUnreadableError
from serving.versions import RegisteredVersion
from serving.wording import Wording


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweringLimits:
    """Times and sizes of the path of a question."""

    retrieval_timeout_s: float = 5.0
    first_token_timeout_s: float = 12.0
    hits: int = 8
    history_messages: int = 6
    #: Whether to ask which article is meant, where confidence nearly suffices.
    clarify: bool = False


class Answering:
    """Answers questions. All state is in the turn's draft, so one instance serves every request."""

    def __init__(
        self,
        *,
        live: LiveRails,
        searcher: Searcher,
        knowledge: KnowledgeRail,
        chain: Chain,
        circuits: Circuits,
        check_sentence: SentenceCheck,
        slow_checks: bool,
        count_tokens: Callable[[str], int],
        wording: Wording,
        limits: AnsweringLimits,
        highlighter: Highlighter | None = None,
        handover: Handover | None = None,
    ) -> None:
        self._handover = handover
        self._live = live
        self._chain = chain
        self._searcher = searcher
        self._assembler = Assembler(
            count_tokens=count_tokens,
            history_messages=limits.history_messages,
            highlighter=highlighter,
        )
        self._generating = Generating(
            live=live,
            chain=chain,
            circuits=circuits,
            assembler=self._assembler,
            verifier=Verifier(
                desk=CitationDesk(knowledge), check_sentence=check_sentence, slow_checks=slow_checks
            ),
            wording=wording,
            first_token_timeout_s=limits.first_token_timeout_s,
        )
        self._wording = wording
        self._limits = limits

    async def run(
        self, question: Question, turn: TurnDraft, deadline: Deadline
    ) -> AsyncGenerator[Delta | Completed]:
        """The events of one question; the last one is Completed."""
        began = time.perf_counter()
        version = await self._assign(question, turn)
        async with self._judged(question, turn, deadline, version):
            result = await self._retrieve(question, turn, deadline)
        if result is None or _is_hopeless(result):
            if turn.handover:
                fields, text = pass_on(
                    turn.handover, {}, "", schema=version.version.schema, wording=self._wording
                )
                yield Delta(text)
                yield complete(turn, Status.ESCALATED, text, fields=fields, began=began)
                return
            if result and self._limits.clarify and (choices := choices_for(question, result, self._wording)):
                text = clarifying_text(choices, self._wording)
                yield Delta(text)
                fields = {"choices": [choice.row() for choice in choices]}
                yield complete(turn, Status.CLARIFY, text, fields=fields, began=began)
                return
            yield Delta(self._wording.not_in_help_centre)
            yield complete(turn, Status.ABSTAINED, self._wording.not_in_help_centre, began=began)
            return
        context = await self._assemble(question, turn, deadline, version, result)
        async with aclosing(
            self._generating.run(question, turn, deadline, version, context, began)
        ) as events:
            async for event in events:
                yield event

    # ---- assign ----

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
            turn.prompt_name = question.prompt_of(version).name
        return version

    async def _pinned_knowledge(self, version_id: str) -> None:
        try:
            await self._live.knowledge_version(version_id)
        except UnknownVersionError as exc:
            raise _unknown_pin(exc) from exc

    async def _model_version(self, turn: TurnDraft) -> RegisteredVersion:
        try:
            return await self._live.model_version(turn.model.version or "")
        except UnknownModelVersionError as exc:
            raise InvalidFieldError(
                str(exc), field="pin.model", fix="Use an id of `GET /v1/rails/model/versions`."
            ) from exc
        except VersionUnreadableError:
            stand_in = None
            if turn.model.arm is not Arm.PINNED:
                stand_in = await self._chain.in_place_of(turn.model)
            if stand_in is None:
                raise
            turn.tried.append(
                Tried(
                    step=Step.ASSIGNED,
                    version=turn.model.version or "",
                    because=Cause.UNREADABLE,
                    failure=None,
                )
            )
            turn.degrade("generation")
            return stand_in

    # ---- a person? ----

    @asynccontextmanager
    async def _judged(
        self, question: Question, turn: TurnDraft, deadline: Deadline, version: RegisteredVersion
    ) -> AsyncGenerator[None]:
        """While the block runs, finds out whether a person has to see the question."""
        if self._handover is None or "escalate" not in version.version.schema.get("properties", {}):
            yield
            return
        timeout_s = min(self._limits.retrieval_timeout_s, deadline.left_s)
        finding = asyncio.create_task(self._find_match(self._handover, question, turn, timeout_s))
        try:
            yield
            with turn.timed("handover"):  # what is left of it when the search is done
                await finding
        finally:
            finding.cancel()

    async def _find_match(
        self, handover: Handover, question: Question, turn: TurnDraft, timeout_s: float
    ) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                turn.handover = await handover.find(question.text)
        except (RetrievalError, TimeoutError):
            turn.degrade("handover")

    # ---- retrieve ----

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
            except UnknownVersionError as exc:
                if turn.knowledge.arm is Arm.PINNED:
                    raise _unknown_pin(exc) from exc
                # The pointer moved and the version is gone: read it again and try once more.
                self._live.forget()
                try:
                    turn.knowledge = await self._live.assign_knowledge(question.unit)
                    return await self._search(question, turn, deadline)
                except (RetrievalError, TimeoutError):
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
                    as_of=question.pin.as_of if question.pin else None,
                    effective_on=question.pin.effective_on if question.pin else None,
                    timeout_s=timeout_s,
                    history=self._said(question),
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
            "abstain_below": result.abstain_below,
            "calibration": result.calibration,
            "rewritten": result.rewritten,
            "features": dict(result.features),
        }
        for part in result.degraded:
            turn.degrade(part)
        return result

    def _said(self, question: Question) -> tuple[Said, ...]:
        last = question.history[max(0, len(question.history) - self._limits.history_messages) :]
        return tuple(
            Said(role="user" if message.role == "user" else "assistant", text=message.content)
            for message in last
            if message.role in ("user", "assistant")
        )

    # ---- assemble ----

    async def _assemble(
        self,
        question: Question,
        turn: TurnDraft,
        deadline: Deadline,
        version: RegisteredVersion,
        result: SearchResult | tuple[()],
    ) -> Context:
        with names.tracer.start_as_current_span(names.ASSEMBLE_SPAN) as span, turn.timed("assemble"):
            context = await self._assembler.assemble(
                question,
                version,
                () if isinstance(result, tuple) else result.hits,
                searched=None if isinstance(result, tuple) else result.rewritten,
                timeout_s=deadline.left_s,
            )
            for part in context.degraded:
                turn.degrade(part)
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
                labels = {names.MODEL_VERSION: version.id, names.MODEL_ARM: turn.model.arm.value}
                names.context_tokens.record(context.tokens, labels)
        return context


def _unknown_pin(error: UnknownVersionError) -> InvalidFieldError:
    return InvalidFieldError(
        str(error), field="pin.knowledge", fix="Use an id of `GET /v1/rails/knowledge/versions`."
    )


def _is_hopeless(result: SearchResult | tuple[()]) -> bool:
    """Whether the hits are too weak to be worth a generation."""
    if isinstance(result, tuple):
        return False
    return not result.hits or result.confidence < result.abstain_below

"""From a prompt to the answer: drafts, their verification, and what happens when one does not hold.

    assigned version -> previous one -> base with its strong prompt -> endpoint -> fixed wording and a ticket

A step is left by an error, a missed deadline, an open circuit, or a draft that does not hold; the first
writer whose draft does not hold repairs it once. As soon as something was shown, the draft stands: then only
the fixed wording can follow.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass, field
from typing import Any

from jsonschema.protocols import Validator

from gateway.assembling import Assembler, Context
from gateway.citations import Cited
from gateway.drafting import DraftOrder, DraftResult
from gateway.events import Completed, Deadline, Delta, complete
from gateway.handover import pass_on
from gateway.outcome import status_of, text_field, text_of, validator_of
from gateway.pacing import LEAST_DRAFT_S, Pace, Share, share_out
from gateway.rollouts.assignment import Arm, Assignment
from gateway.rollouts.live import LiveRails
from gateway.schemas.answers import Cause, Status, Step, Tried
from gateway.standins import Chain, Writer
from gateway.turn import Question, TurnDraft
from gateway.verifying import Accepted, Attempt, Refused, Verifier
from serving.circuit import Circuits, Outcome, Permit
from serving.client import ChatRequest
from serving.endpoint import SetAside
from serving.errors import (
    EngineError,
    EngineRejectedError,
    EngineStreamError,
    EngineTimeoutError,
    EngineUnavailableError,
    ModelNotServedError,
    NoEngineError,
    PromptBudgetError,
)
from serving.prompting import Message
from serving.versions import RegisteredVersion
from serving.wording import Wording

#: What is left of the time when each has what it needs.
_WEIGHTS = {Step.ASSIGNED: 4.0, Step.PREVIOUS: 1.0, Step.BASE: 2.0, Step.ENDPOINT: 2.0}
#: A version that had less of the turn's time than this and did not finish has not failed.
_FAIR_SHARE = 0.25
#: Statuses with which an endpoint says that it will not have us, whatever we ask.
_NOT_WELCOME = (401, 403)


@dataclass(slots=True, kw_only=True)
class _Making:
    """An answer in the making."""

    question: Question
    turn: TurnDraft
    deadline: Deadline
    #: Of the assigned version.
    schema: Mapping[str, Any]
    #: What the last draft may use.
    context: Context
    shown: list[str] = field(default_factory=list)
    began: float
    repaired: bool = False
    accepted: Accepted | None = None

    def leave(self, writer: Writer, because: Cause, failure: str | None = None) -> None:
        """The writer gave no answer."""
        self.turn.tried.append(
            Tried(step=writer.step, version=writer.version.id, because=because, failure=failure)
        )
        if writer.step is Step.ASSIGNED and because is not Cause.INVALID:
            self.turn.degrade("generation")

    def uses(self, writer: Writer, context: Context, order: DraftOrder) -> None:
        """The writer is asked now: with these passages and this prompt."""
        self.turn.prompt = order.request.messages
        if writer.step is not Step.ASSIGNED:
            self.context = context
            self.turn.passages = context.rows()

    def stamp(self, writer: Writer) -> None:
        """What is shown now is the writer's."""
        self.turn.step = writer.step
        self.turn.model = Assignment(arm=self.turn.model.arm, version=writer.version.id)
        self.turn.prompt_name = self.question.prompt_of(writer.version).name


class Generating:
    """Makes answers from prompts."""

    def __init__(
        self,
        *,
        live: LiveRails,
        chain: Chain,
        circuits: Circuits,
        assembler: Assembler,
        verifier: Verifier,
        wording: Wording,
        first_token_timeout_s: float,
        pace: Pace | None = None,
    ) -> None:
        self._live = live
        self._chain = chain
        self._circuits = circuits
        self._assembler = assembler
        self._verifier = verifier
        self._wording = wording
        self._first_token_timeout_s = first_token_timeout_s
        self._pace = pace or Pace()
        self._validators: dict[str, Validator] = {}

    async def run(
        self,
        question: Question,
        turn: TurnDraft,
        deadline: Deadline,
        version: RegisteredVersion,
        context: Context,
        began: float,
    ) -> AsyncGenerator[Delta | Completed]:
        """Delta for what is shown, then Completed."""
        making = _Making(
            question=question,
            turn=turn,
            deadline=deadline,
            schema=version.version.schema,
            context=context,
            began=began,
        )
        first = await self._chain.first(turn.model, version)
        writers = [first, *await self._chain.stand_ins(question, turn.model, version)]
        for n, writer in enumerate(writers):
            if not self._chain.is_at_hand(writer):
                continue
            async with aclosing(self._step(making, writer, writers[n + 1 :])) as deltas:
                async for delta in deltas:
                    yield delta
            if making.accepted is not None:
                for event in self._accept(making, writer, making.accepted):
                    yield event
                return
            if making.shown:
                break
        async for event in self._give_up(making):
            yield event

    # ---- one step ----

    async def _step(
        self, making: _Making, writer: Writer, followers: Sequence[Writer]
    ) -> AsyncGenerator[Delta]:
        """The drafts of one writer: one is accepted, or the turn says why the step was left."""
        question, version = making.question, writer.version
        seconds = self._seconds(making, writer, followers)
        if seconds < LEAST_DRAFT_S:
            making.leave(writer, Cause.DEADLINE)
            return
        until = Deadline(seconds)
        assigned = writer.step is Step.ASSIGNED
        context = making.context if assigned else await self._assembled(making, writer, until)
        if context is None:
            making.leave(writer, Cause.BUDGET)
            return
        # Evaluations say nothing about the traffic, and ask whatever the traffic has come to.
        permit = self._circuits.admit(version.id) if question.pin is None else Permit()
        if permit is None:
            making.leave(writer, Cause.CIRCUIT)
            return
        refused: Refused | None = None
        draft = ""
        with permit:
            while True:
                attempt: Attempt = "first" if refused is None else "repair"
                order = self._order(making, writer, context, until, refused, draft)
                with _paid_by(writer, context, order) as paid:
                    if paid is None:
                        break
                    making.uses(writer, context, order)
                    result: DraftResult | None = None
                    async with aclosing(writer.drafter.write(order)) as pieces:
                        async for piece in pieces:
                            if isinstance(piece, DraftResult):
                                result = piece
                            elif question.stream and order.field is not None:
                                making.turn.timings_ms.setdefault(
                                    "first_sentence", (time.perf_counter() - making.began) * 1000
                                )
                                making.stamp(writer)
                                making.shown.append(piece.text)
                                yield Delta(piece.text)
                    assert result is not None  # a draft ends with its result
                    paid.used = _used(result)
                if question.pin is None and result.error is None and result.finish_reason:
                    self._pace.note(version.id, result.generation_s + result.checking_s)
                verdict = await self._verifier.verify(
                    question, making.turn, making.context, order, result, step=writer.step, attempt=attempt
                )
                if isinstance(verdict, Accepted):
                    making.accepted = verdict
                    permit.say(Outcome.GOOD)
                    return
                if result.error is not None:
                    self._failed(making, writer, result.error, permit, seconds)
                    return
                refused, draft = verdict, result.text
                if making.shown or making.repaired or until.left_s < self._pace.least_s(version.id):
                    break
                making.repaired = True
            if refused is not None:
                permit.say(Outcome.INVALID)
        if refused is None:
            making.leave(writer, Cause.BUDGET)
        else:
            making.leave(writer, Cause.INVALID, refused.failure)

    def _seconds(self, making: _Making, writer: Writer, followers: Sequence[Writer]) -> float:
        """What the writer may take of the time that is left; 0: it could not finish."""
        left = making.deadline.left_s
        own = self._share(writer)
        if writer.step is Step.ASSIGNED and own.least_s > left >= LEAST_DRAFT_S:
            own = Share(weight=own.weight, least_s=left)
        later = [
            self._share(other)
            for other in followers
            if self._chain.is_at_hand(other)
            and (making.question.pin is not None or self._circuits.admits(other.version.id))
        ]
        return share_out(left, [own, *later])[0]

    def _share(self, writer: Writer) -> Share:
        least = self._pace.least_s(writer.version.id)
        if writer.endpoint is None:
            return Share(weight=_WEIGHTS[writer.step], least_s=least)
        return Share(weight=_WEIGHTS[writer.step], least_s=least, most_s=writer.endpoint.timeout_s)

    async def _assembled(self, making: _Making, writer: Writer, until: Deadline) -> Context | None:
        """The writer's own prompt; None where it has no room for the question."""
        try:
            context = await self._assembler.assemble(
                making.question,
                writer.version,
                making.turn.hits,
                searched=making.turn.retrieval.get("rewritten"),
                timeout_s=max(0.0, until.left_s - LEAST_DRAFT_S),
            )
        except PromptBudgetError:
            return None
        for part in context.degraded:
            making.turn.degrade(part)
        return None if context.candidates and not context.passages else context

    def _order(
        self,
        making: _Making,
        writer: Writer,
        context: Context,
        until: Deadline,
        refused: Refused | None,
        draft: str,
    ) -> DraftOrder:
        question, version = making.question, writer.version
        messages = list(context.messages)
        if refused is not None:
            messages += [Message("assistant", draft), Message("user", _repair_words(refused))]
        registered = version.version
        left = until.left_s
        return DraftOrder(
            request=ChatRequest(
                served_name=version.served_name,
                messages=messages,
                schema=registered.schema,
                decoding=question.decoding_of(version),
                # What is shown cannot be taken back, so nothing is kept for others once it has begun.
                timeout_s=making.deadline.left_s if question.stream else left,
                # A pinned version has nobody to hand its time to.
                first_token_timeout_s=left
                if making.turn.model.arm is Arm.PINNED
                else min(self._first_token_timeout_s, left),
                cache_salt=question.key.tenant if writer.endpoint is None else None,
                version=version.id,
                arm=making.turn.model.arm.value,
                prompt_name=question.prompt_of(version).name,
            ),
            question=question.text,
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

    def _failed(
        self, making: _Making, writer: Writer, error: EngineError, permit: Permit, seconds: float
    ) -> None:
        """No draft came to its end."""
        late = isinstance(error, EngineTimeoutError)
        making.leave(writer, Cause.DEADLINE if late else Cause.ERROR, "engine")
        if isinstance(error, ModelNotServedError):
            self._live.forget()
        if late and seconds < _FAIR_SHARE * making.deadline.seconds:
            return
        if (outcome := _outcome(error, ours=writer.endpoint is None)) is not None:
            permit.say(outcome)

    # ---- the end ----

    def _accept(self, making: _Making, writer: Writer, accepted: Accepted) -> tuple[Delta | Completed, ...]:
        making.stamp(writer)
        cited = accepted.citations.cited
        status = status_of(accepted.parsed, cited=bool(cited), wording=self._wording) or Status.ANSWERED
        text = text_of(accepted.parsed, status, self._wording)
        fields = accepted.parsed.fields
        if match := making.turn.handover:
            schema = writer.version.version.schema
            fields, text = pass_on(match, fields, text, schema=schema, wording=self._wording)
            status = Status.ESCALATED
        tail = text[len("".join(making.shown)) :]
        if writer.step is not Step.ASSIGNED and status is Status.ANSWERED:
            status = Status.FALLBACK
        done = complete(
            making.turn,
            status,
            text,
            fields=fields,
            cited=cited,
            began=making.began,
        )
        return (Delta(tail), done) if tail else (done,)

    async def _give_up(self, making: _Making) -> AsyncGenerator[Delta | Completed]:
        """Fixed wording, what was found, and a person who looks at it."""
        turn = making.turn
        turn.step = Step.FIXED
        wording = self._wording.failed
        tail = f"\n\n{wording}" if making.shown else wording
        yield Delta(tail)
        cited: tuple[Cited, ...] = ()
        refused = next((tried.failure for tried in turn.tried if tried.because is Cause.INVALID), None)
        if refused is None:  # nothing was written that a person could judge
            cited = await self._verifier.found(making.question, turn, making.context)
        turn.ticket = refused or turn.tried[0].failure or turn.tried[0].because.value
        text = "".join(making.shown) + tail
        fields: dict[str, Any] = {}
        if turn.handover:  # the wording says already that a person has it
            fields, _ = pass_on(turn.handover, {}, text, schema=making.schema, wording=self._wording)
        yield complete(turn, Status.FALLBACK, text, fields=fields, cited=cited, began=making.began)


def _paid_by(writer: Writer, context: Context, order: DraftOrder) -> AbstractContextManager[SetAside | None]:
    """What a draft may cost at most, kept until it is known what it did cost; None: more than is left."""
    most = context.tokens + order.request.decoding.max_tokens
    if len(order.request.messages) > len(
        context.messages
    ):  # a repair shows the draft, and says what is wrong
        most += order.request.decoding.max_tokens + len(order.request.messages[-1].content)
    return nullcontext(SetAside(most)) if writer.endpoint is None else writer.endpoint.set_aside(most)


def _used(result: DraftResult) -> int | None:
    """Tokens of a draft, as its model counted them; nothing where it would not begin; None: nobody knows."""
    if spent := result.usage.input_tokens + result.usage.output_tokens:
        return spent
    if isinstance(result.error, EngineStreamError):
        return None
    return 0 if isinstance(result.error, EngineRejectedError | EngineUnavailableError) else None


def _outcome(error: EngineError, *, ours: bool) -> Outcome | None:
    """What an error says about the version; None: nothing, or nothing that the pool does not know."""
    if ours and isinstance(error, NoEngineError | ModelNotServedError):
        return None
    if isinstance(error, EngineRejectedError) and error.status not in _NOT_WELCOME:
        return Outcome.INVALID  # this question; only if it refuses nearly all of them is it the version
    return Outcome.ERROR


def _repair_words(refused: Refused) -> str:
    """What the model is told when its draft did not pass; short, because the prompt is nearly full."""
    if refused.failure == "unsupported":
        return (
            f'The passages do not say this: "{refused.detail[:300]}". '
            "Write the JSON again with only what the passages say."
        )
    if refused.failure == "uncited":
        return (
            "No passage supports that answer. "
            "Write the JSON again with only what the passages say, and cite them."
        )
    if refused.failure == "truncated":
        return "That was too long. Write the JSON again, shorter."
    if refused.failure == "repetitive":
        return "That repeats itself. Write the JSON again, shorter, each thing once."
    return "That was not the JSON asked for. Write it again, exactly in the form asked for."

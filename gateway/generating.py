"""From a prompt to the answer: drafts, their verification, and what happens when one does not hold.

One repair, then the fallback model, then fixed wording and a review ticket. As soon as something was shown,
the draft stands: then only the fixed wording can follow.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from jsonschema.protocols import Validator

from gateway.assembling import Assembler, Context
from gateway.citations import Cited
from gateway.drafting import Drafter, DraftOrder, DraftResult
from gateway.events import Completed, Deadline, Delta, complete
from gateway.outcome import status_of, text_field, text_of, validator_of
from gateway.rollouts.assignment import Assignment
from gateway.rollouts.live import LiveRails
from gateway.schemas.answers import Status
from gateway.turn import Question, TurnDraft
from gateway.verifying import Verifier
from serving.client import ChatRequest
from serving.errors import ModelNotServedError, PromptBudgetError, UnknownModelVersionError
from serving.prompting import Message
from serving.versions import RegisteredVersion
from serving.wording import Wording

#: Share of the time left that stays for the fallback model while the first model writes.
_FALLBACK_SHARE: Final = 0.35
#: Without so much time left, another draft is not begun.
_LEAST_DRAFT_S: Final = 0.25


class Generating:
    """Makes answers from prompts."""

    def __init__(
        self,
        *,
        live: LiveRails,
        assembler: Assembler,
        drafter: Drafter,
        verifier: Verifier,
        wording: Wording,
        first_token_timeout_s: float,
    ) -> None:
        self._live = live
        self._assembler = assembler
        self._drafter = drafter
        self._verifier = verifier
        self._wording = wording
        self._first_token_timeout_s = first_token_timeout_s
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
                try:
                    used = self._assembler.assemble(question, version, turn.hits)
                except PromptBudgetError:
                    break  # its longer prompt leaves no room for this question
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
            turn.prompt = order.request.messages
            if used is not context:
                turn.passages = used.rows()
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
                cited = accepted.citations.cited
                status = status_of(accepted.parsed, cited=bool(cited)) or Status.ANSWERED
                text = text_of(accepted.parsed, status, self._wording)
                if tail := text[len("".join(shown)) :]:
                    yield Delta(tail)
                if attempt == "fallback":
                    turn.model = Assignment(arm=turn.model.arm, version=version.id)
                    turn.prompt_name = question.prompt_of(version).name
                    if status is Status.ANSWERED:
                        status = Status.FALLBACK
                yield complete(
                    turn,
                    status,
                    text,
                    fields=accepted.parsed.fields,
                    cited=cited,
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
                decoding=question.decoding_of(version),
                timeout_s=timeout_s,
                first_token_timeout_s=min(self._first_token_timeout_s, left * share),
                cache_salt=question.key.tenant,
                version=version.id,
                arm=turn.model.arm.value,
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
        yield complete(turn, Status.FALLBACK, "".join(shown) + tail, cited=cited, began=began)


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
    if failed.failure == "repetitive":
        return "That repeats itself. Write the JSON again, shorter, each thing once."
    return "That was not the JSON asked for. Write it again, exactly in the form asked for."

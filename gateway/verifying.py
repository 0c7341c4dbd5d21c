"""Whether a finished draft may become the answer: its checks, its citations, and a record of both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from gateway import instruments as names
from gateway.assembling import Context
from gateway.checking import checked
from gateway.citations import CitationDesk, Citations, Cited, gather_evidence, whole_passages
from gateway.drafting import DraftOrder, DraftResult, check_rows
from gateway.outcome import Parsed, status_of
from gateway.rails import SentenceCheck
from gateway.schemas.answers import Status, Step, Usage
from gateway.turn import Question, TurnDraft

#: A writer's own draft, or its second one, after it was told what the first failed by.
Attempt = Literal["first", "repair"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A draft that passed, with its citations."""

    parsed: Parsed
    citations: Citations


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A draft that did not, and what it failed by."""

    failure: str
    detail: str


class Verifier:
    """Judges drafts and writes into the turn what it found."""

    def __init__(
        self, *, desk: CitationDesk, check_sentence: SentenceCheck, slow_checks: bool = False
    ) -> None:
        self._desk = desk
        self._check_sentence = check_sentence
        self._slow_checks = slow_checks

    async def verify(
        self,
        question: Question,
        turn: TurnDraft,
        context: Context,
        order: DraftOrder,
        result: DraftResult,
        *,
        step: Step,
        attempt: Attempt,
    ) -> Accepted | Refused:
        """The accepted answer if the draft holds, else what it fails by."""
        _record_generation(turn, result)
        accepted: Accepted | None = None
        refused = None if result.failure is None else Refused(failure=result.failure, detail=result.detail)
        with names.tracer.start_as_current_span(names.VERIFY_SPAN) as span, turn.timed("verify"):
            turn.checks.extend(check_rows(result.sentences))
            broken = dict.fromkeys(rule for sentence in result.sentences for rule in sentence.tone)
            turn.flags.extend(f"tone: {rule}" for rule in broken)
            turn.grounded = _grounded(result)
            if turn.grounded is not None:
                span.add_event(
                    names.EVALUATION_EVENT,
                    {names.EVALUATION_NAME: "grounding", names.EVALUATION_SCORE: turn.grounded},
                )
            turn.flags.extend(result.flags)
            if result.parsed is not None:
                accepted = await self._cite(question, turn, context, order, result, result.parsed)
                if order.enforce and _lacks_citation(result, accepted):
                    refused = Refused(failure="uncited", detail="no claim could be tied to a stored document")
            if refused is not None:
                span.set_attribute(names.ERROR_TYPE, refused.failure)
        turn.drafts.append(
            {
                "step": step.value,
                "attempt": attempt,
                "model": order.request.version,
                "text": result.text,
                "finish_reason": result.finish_reason,
                "failure": refused.failure if refused else None,
                "detail": refused.detail if refused else "",
                "prompt": turn.prompt,
                "passages": turn.passages,
            }
        )
        if question.pin is None:
            names.drafts.add(
                1,
                {
                    names.STEP: step.value,
                    names.ATTEMPT: attempt,
                    names.OUTCOME: refused.failure if refused else "accepted",
                    names.MODEL_VERSION: order.request.version,
                    names.MODEL_ARM: order.request.arm,
                },
            )
        if refused is not None or accepted is None:
            return refused or Refused(failure="empty", detail="nothing was written")
        return accepted

    async def found(self, question: Question, turn: TurnDraft, context: Context) -> tuple[Cited, ...]:
        """The packed passages as citations: what a turn without a usable answer can still show."""
        citations = await self._desk.cite(
            whole_passages(context.passages),
            context.sources,
            access=question.key.access,
            snapshot=turn.snapshot,
        )
        _note(turn, citations)
        return citations.cited

    async def _cite(
        self,
        question: Question,
        turn: TurnDraft,
        context: Context,
        order: DraftOrder,
        result: DraftResult,
        parsed: Parsed,
    ) -> Accepted:
        gather = partial(
            gather_evidence,
            result.sentences,
            parsed.cited,
            context.passages,
            self._check_sentence,
            question=question.text,
        )
        evidence, flags = await checked(gather, slow=self._slow_checks)
        citations = await self._desk.cite(
            evidence, context.sources, access=question.key.access, snapshot=turn.snapshot
        )
        turn.flags.extend(flags)
        _note(turn, citations)
        invalid = len(flags) + citations.invalid
        if invalid and question.pin is None:
            labels = {names.MODEL_VERSION: order.request.version, names.MODEL_ARM: order.request.arm}
            names.citations_invalid.add(invalid, labels)
        return Accepted(parsed=parsed, citations=citations)


def _note(turn: TurnDraft, citations: Citations) -> None:
    turn.flags.extend(citations.flags)
    if citations.unverified:
        turn.degrade("citations")


def _record_generation(turn: TurnDraft, result: DraftResult) -> None:
    turn.usage = Usage(
        prompt_tokens=turn.usage.prompt_tokens + result.usage.input_tokens,
        completion_tokens=turn.usage.completion_tokens + result.usage.output_tokens,
        cached_tokens=turn.usage.cached_tokens + result.usage.cached_tokens,
    )
    turn.add_time("generation", result.generation_s)
    turn.add_time("verify", result.checking_s)
    if result.first_token_s is not None:
        turn.timings_ms.setdefault("first_token", result.first_token_s * 1000)


def _grounded(result: DraftResult) -> float | None:
    """Share of the claims that a passage supports; None if nothing was claimed."""
    claims = [sentence.support for sentence in result.sentences if sentence.support.is_claim]
    return sum(support.supported for support in claims) / len(claims) if claims else None


def _lacks_citation(result: DraftResult, accepted: Accepted) -> bool:
    """An answer that is not fixed wording and cannot show where it stands: "Yes, you can." is one."""
    own_words = any(not sentence.support.is_fixed for sentence in result.sentences)
    return own_words and not accepted.citations.cited and status_of(accepted.parsed) is Status.ANSWERED

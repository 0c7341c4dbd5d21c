"""How fast the engine was in a run: tokens read and written in a second, for the price of its hour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval.advice.evidence import CaseUsage

#: Fewer answers give no rate.
_LEAST_ANSWERS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRates:
    """Tokens a second of the engine, as these answers took it, many at once where they were so."""

    prompt_tokens_a_s: float
    completion_tokens_a_s: float
    answers: int


def measured_rates(usage: Sequence[CaseUsage]) -> EngineRates | None:
    """All tokens over the engine's seconds: until the first token for the prompt, then for the answer.

    The prompt of a repair is read within the second part, as the gateway times it; the sum is right.
    None where too few answers tell both times, or nothing was computed.
    """
    timed = [
        (each.tokens, each.first_token_ms * each.engine_share, each.generation_ms * each.engine_share)
        for each in usage
        if each.tokens and each.first_token_ms is not None and each.generation_ms is not None
    ]
    if len(timed) < _LEAST_ANSWERS:
        return None
    reading_s = sum(first for _, first, _ in timed) / 1000
    writing_s = sum(max(0.0, whole - first) for _, first, whole in timed) / 1000
    computed = sum(tokens.prompt - tokens.cached for tokens, _, _ in timed)
    written = sum(tokens.completion for tokens, _, _ in timed)
    if min(reading_s, writing_s, computed, written) <= 0:
        return None
    return EngineRates(
        prompt_tokens_a_s=computed / reading_s,
        completion_tokens_a_s=written / writing_s,
        answers=len(timed),
    )

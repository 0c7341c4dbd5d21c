"""How long the engine worked for an answer, where several were written at once.

A machine is paid for the hour, not for each answer in flight: a moment in which four answers are written is a
quarter of that moment for each. Whoever adds up their times instead pays for it four times.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import TypeVar

from eval.observations import Observation

#: What a turn goes through before the engine gets it.
_BEFORE = ("assign", "retrieval", "assemble")
_GENERATION = "generation"

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """When an answer was being written, in seconds."""

    begin: float
    end: float


def writing_of(seen: Observation) -> Writing | None:
    """From its turn's own clock; None where nothing was generated, or nobody knows when."""
    generation_ms = seen.timings_ms.get(_GENERATION)
    if seen.failed or not generation_ms or not seen.asked_at:
        return None
    asked = datetime.fromisoformat(seen.asked_at)
    asked = asked if asked.tzinfo else asked.replace(tzinfo=UTC)
    begin = asked.timestamp() + sum(seen.timings_ms.get(stage, 0.0) for stage in _BEFORE) / 1000
    return Writing(begin=begin, end=begin + generation_ms / 1000)


def engine_seconds(written: Mapping[_Key, Writing]) -> dict[_Key, float]:
    """The engine's time, every moment shared evenly among the answers that were being written in it."""
    shared = dict.fromkeys(written, 0.0)
    moments = sorted({moment for each in written.values() for moment in (each.begin, each.end)})
    begins = sorted(written, key=lambda key: written[key].begin)
    running: list[_Key] = []
    waiting = iter(begins)
    following = next(waiting, None)
    for moment, later in pairwise(moments):
        while following is not None and written[following].begin <= moment:
            running.append(following)
            following = next(waiting, None)
        running = [key for key in running if written[key].end > moment]
        for key in running:
            shared[key] += (later - moment) / len(running)
    return shared


def engine_shares(seen: Mapping[_Key, Observation]) -> dict[_Key, float]:
    """The part of its time in which the engine worked for an answer: 1 where it was alone or nobody knows."""
    written = {key: writing for key, each in seen.items() if (writing := writing_of(each))}
    worked = engine_seconds(written)
    return {
        key: worked[key] / (written[key].end - written[key].begin) if key in written else 1.0 for key in seen
    }

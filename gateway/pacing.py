"""How the time that is left for an answer is shared among those who may write it.

Time is promised in the order of the chain: to each as much as it needs, and the rest by weight. Who could not
finish in what is left gets nothing, so that its time is of use to somebody else.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

#: Without so much time, no draft is begun.
LEAST_DRAFT_S: Final = 0.25
#: Drafts of a version that are remembered, and for how long.
_REMEMBERED: Final = 20
_REMEMBERED_S: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one of them asks of the time."""

    weight: float
    #: Less is of no use.
    least_s: float = LEAST_DRAFT_S
    #: More is not taken.
    most_s: float = float("inf")


def share_out(left_s: float, shares: Sequence[Share]) -> list[float]:
    """Seconds for each, 0 for who cannot finish. The first comes first: nobody else gets what it needs."""
    served: list[int] = []
    needed = 0.0
    for n, share in enumerate(shares):
        if share.least_s <= share.most_s and needed + share.least_s <= left_s:
            served.append(n)
            needed += share.least_s
    seconds = [0.0] * len(shares)
    for n in served:
        seconds[n] = shares[n].least_s
    rest, open_ = left_s - needed, served
    while open_ and rest > 1e-9:
        weights = sum(shares[n].weight for n in open_)
        full = [n for n in open_ if seconds[n] + rest * shares[n].weight / weights >= shares[n].most_s]
        for n in full or open_:
            gets = shares[n].most_s - seconds[n] if full else rest * shares[n].weight / weights
            seconds[n] += gets
        if not full:
            break
        rest = left_s - sum(seconds)
        open_ = [n for n in open_ if n not in full]
    return seconds


class Pace:
    """How fast versions have written lately."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._took: dict[str, deque[tuple[float, float]]] = {}

    def note(self, version_id: str, seconds: float) -> None:
        """A whole draft took so long."""
        self._took.setdefault(version_id, deque(maxlen=_REMEMBERED)).append((self._clock(), seconds))

    def least_s(self, version_id: str) -> float:
        """What the fastest of its last drafts took: with less time, there is no use in asking."""
        since = self._clock() - _REMEMBERED_S
        lately = [took for at, took in self._took.get(version_id, ()) if at >= since]
        return max(LEAST_DRAFT_S, min(lately, default=0.0))

"""Train, valid and test rows that have nothing in common.

Rows of one conversation, one customer, one cluster, nearly the same question, or the same answer out of the
same passage stay together. Where times are known the newest groups are the test: a tuned model answers
questions that come after those it has seen.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from serving.examples import Row, free_texts
from serving.similarity import groups
from serving.tuning.dataset_folder import SPLITS
from serving.tuning.dataset_reading import moment_of
from serving.tuning.likeness import Task, asked, cited_in, plain, texts_of

#: What may hold rows together, most telling first.
CONVERSATION, CUSTOMER, CLUSTER, ASKED, ANSWER = (
    "conversation",
    "customer",
    "cluster",
    "near question",
    "answer out of the same passage",
)
#: Words from which an answer says something of its own.
_TELLING = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Rows by split, and what was held together."""

    rows: Mapping[str, tuple[Row, ...]]
    groups: int
    largest: int
    #: Links by what made them.
    ties: Mapping[str, int]
    #: Whether the test rows are the newest.
    by_time: bool


def split_rows(
    rows: Sequence[Row],
    shares: Mapping[str, float],
    *,
    task: Task,
    seed: int,
) -> Split:
    """Draw the splits by group, so that each gets its share of what rows teach."""
    ties = list(_ties(rows, task))
    leaders = groups(len(rows), [(one, other) for _, one, other in ties])
    members: defaultdict[int, list[int]] = defaultdict(list)
    for at, leader in enumerate(leaders):
        members[leader].append(at)
    timed = [leader for leader, ats in members.items() if all(rows[at].at for at in ats)]
    by_time = len(timed) * 2 >= len(members)
    drawn = _draw(rows, members, timed if by_time else None, shares, task, random.Random(seed))
    return Split(
        rows={
            name: tuple(rows[at] for at, leader in enumerate(leaders) if drawn[leader] == name)
            for name in SPLITS
        },
        groups=len(members),
        largest=max(map(len, members.values()), default=0),
        ties=dict(Counter(what for what, _, _ in ties)),
        by_time=by_time,
    )


def _ties(rows: Sequence[Row], task: Task) -> Iterator[tuple[str, int, int]]:
    for what, members in shared(rows, task):
        yield from ((what, one, other) for one, other in pairwise(members))
    texts = texts_of(rows)
    for pair in texts.near():
        yield ASKED, texts.rows[pair.first][0], texts.rows[pair.second][0]


def shared(rows: Sequence[Row], task: Task) -> Iterator[tuple[str, list[int]]]:
    """Rows that share a name, a text or an answer, by what they share."""
    keys: tuple[tuple[str, Callable[[Row], object]], ...] = (
        (CONVERSATION, lambda row: row.group),
        (CUSTOMER, lambda row: row.customer),
        (CLUSTER, lambda row: row.cluster),
        (ASKED, lambda row: plain(asked(row))),
        (ANSWER, lambda row: _answer(row, task)),
    )
    for what, key in keys:
        members: defaultdict[object, list[int]] = defaultdict(list)
        for at, row in enumerate(rows):
            if name := key(row):
                members[name].append(at)
        yield from ((what, ats) for ats in members.values() if len(ats) > 1)


def _answer(row: Row, task: Task) -> object:
    """The answer with the passages that it cites; nothing for a fixed wording and for a few words."""
    texts = [text for text in free_texts(row.wanted, task.schema).values() if text not in task.wordings]
    said = plain(" ".join(texts))
    cited = cited_in(row)
    return (said, cited) if cited and len(said.split()) >= _TELLING else None


def _draw(
    rows: Sequence[Row],
    members: Mapping[int, Sequence[int]],
    timed: Sequence[int] | None,
    shares: Mapping[str, float],
    task: Task,
    draw: random.Random,
) -> dict[int, str]:
    """Which split each group goes to."""
    drawn: dict[int, str] = {}
    wanted = {name: shares[name] * len(rows) for name in SPLITS}
    have = dict.fromkeys(SPLITS, 0)
    if timed is not None:
        last = {leader: max(moment_of(rows[at].at) for at in members[leader]) for leader in timed}
        newest = sorted(timed, key=lambda leader: (last[leader], leader))
        while newest and have["test"] < wanted["test"]:
            leader = newest.pop()
            if have["test"] + len(members[leader]) > 2 * wanted["test"]:
                continue  # a group that would be most of the test, and the training would miss
            drawn[leader] = "test"
            have["test"] += len(members[leader])
    teaches = {leader: Counter(taught(rows[at], task) for at in ats) for leader, ats in members.items()}
    total = sum((teaches[leader] for leader in members if leader not in drawn), Counter[str]())
    open_splits = [name for name in SPLITS if name != "test" or timed is None]
    whole = sum(shares[name] for name in open_splits)
    there: dict[str, Counter[str]] = {name: Counter() for name in open_splits}
    free = [leader for leader in members if leader not in drawn]
    draw.shuffle(free)
    free.sort(key=lambda leader: -len(members[leader]))
    for leader in free:

        def lack(name: str, group: Counter[str] = teaches[leader]) -> float:
            share = shares[name] / whole
            return sum(n * (1 - there[name][what] / (share * total[what])) for what, n in group.items())

        # Large groups come first, and the largest split lacks as much as any.
        best = max(open_splits, key=lambda name: (lack(name), shares[name]))
        drawn[leader] = best
        there[best] += teaches[leader]
    return drawn


def taught(row: Row, task: Task) -> str:
    """What a split must have its share of: the kind of row, and its first field chosen from a list."""
    texts = free_texts(row.wanted, task.schema)
    chosen = (value for name, value in row.wanted.items() if isinstance(value, str) and name not in texts)
    return f"{row.kind}/{next(chosen, '')}"

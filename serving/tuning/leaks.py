"""The leak test: rows that are trained on and rows that judge have nothing in common.

It looks at the rows as they stand, whoever split them, and at questions that others keep for themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

from serving.examples import Row
from serving.tuning.dataset_folder import SPLITS
from serving.tuning.likeness import Task, near_texts, texts_of
from serving.tuning.splitting import ASKED, shared

_QUOTED = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Two rows on two sides that must not be."""

    first: Row
    first_split: str
    second: Row
    second_split: str
    #: What they share.
    what: str

    def sentence(self) -> str:
        """The pair in words."""
        places = f"{self.first.id!r} ({self.first_split}) and {self.second.id!r} ({self.second_split})"
        texts = f"{self.first.question[:_QUOTED]!r} and {self.second.question[:_QUOTED]!r}"
        return f"{places} share a {self.what}: {texts}"


def find_leaks(splits: Mapping[str, Sequence[Row]], *, task: Task) -> list[Leak]:
    """Every pair of rows that share something across splits; rows of any origin, not only of `split_rows`."""
    rows = [row for name in SPLITS for row in splits.get(name, ())]
    where = [name for name in SPLITS for _ in splits.get(name, ())]
    leaks: dict[tuple[int, int], Leak] = {}
    for what, members in shared(rows, task):
        first_in: dict[str, int] = {}
        for at in members:
            first_in.setdefault(where[at], at)
        for one, other in pairwise(first_in.values()):
            leaks.setdefault((one, other), _leak(rows, where, one, other, what))
    texts = texts_of(rows)
    for pair in texts.near():
        ones, others = ({where[at]: at for at in texts.rows[side]} for side in (pair.first, pair.second))
        for one, other in product(ones.values(), others.values()):
            if where[one] != where[other]:
                leaks.setdefault((one, other), _leak(rows, where, one, other, ASKED))
    return list(leaks.values())


def find_repeats(rows: Sequence[Row], questions: Mapping[str, str]) -> list[tuple[Row, str, float]]:
    """Rows that ask what a held-out question asks: the row, the question's name and how alike they are.

    In the middle of a conversation the same may be asked as out of the blue, so a row is looked at with what
    was said before it and without.
    """
    names = list(questions)
    alone = [row for row in rows if row.history]
    mine = texts_of([*rows, *(replace(row, history=()) for row in alone)])
    owners = [*rows, *alone]
    texts = [*mine.texts, *(questions[name] for name in names)]
    bound = len(mine.texts)
    found = {
        (pair.first, pair.second - bound): pair.score
        for pair in near_texts(texts)
        if pair.first < bound <= pair.second
    }
    repeats = {
        (owners[at].id, names[name]): (owners[at], names[name], score)
        for (text, name), score in sorted(found.items(), key=lambda item: (item[1], item[0]))
        for at in mine.rows[text]
    }
    return sorted(repeats.values(), key=lambda each: (-each[2], each[0].id, each[1]))


def _leak(rows: Sequence[Row], where: Sequence[str], one: int, other: int, what: str) -> Leak:
    return Leak(
        first=rows[one], first_split=where[one], second=rows[other], second_split=where[other], what=what
    )

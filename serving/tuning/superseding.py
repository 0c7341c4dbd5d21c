"""An older copy of a passage that says something else: two versions in one prompt, the newest is right.

Nothing is made up about the product: the copy is older than what the row proves, and never what is wanted.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

from serving.prompting import Passage
from serving.sentences import sentences
from serving.values import Value, find_values, known_values, missing_values

#: Kinds of value of which another amount is as plausible.
_AMOUNTS = frozenset({"number", "time", "months", "bytes", "rate", "percent", "$", "\u20ac", "\u00a3"})
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_FACTORS = (0.5, 0.75, 1.5, 2.0, 3.0)
#: Days by which the copy is older.
_OLDER_DAYS = (60, 700)


def superseded(passage: Passage, answer: str, others: Sequence[str], draw: random.Random) -> Passage | None:
    """The place of the passage that the answer is from, with other amounts and an earlier date; None where
    the passage has no date or the answer no amount of it."""
    try:
        valid_from = date.fromisoformat(passage.effective_from[:10])
    except ValueError:
        return None
    known = known_values([answer, passage.text, *others])
    text = _around(passage.text, answer)
    changed = 0
    for value in _amounts(answer):
        other = _other_amount(value.text, known.numbers, draw)
        if other is None:
            continue
        text, times = re.subn(rf"(?<![\w.]){re.escape(value.text)}(?![\w]|\.\d)", other, text)
        changed += times
    if not changed or not missing_values(answer, [text]):
        return None
    older = valid_from - timedelta(days=draw.randint(*_OLDER_DAYS))
    return replace(passage, text=text, start=0, end=len(text), effective_from=older.isoformat())


def _amounts(text: str) -> list[Value]:
    return [value for value in find_values(text) if value.kind in _AMOUNTS and _NUMBER.search(value.text)]


def _around(text: str, answer: str) -> str:
    """The sentences that hold an amount of the answer, with those beside them."""
    spans = sentences(text)
    wanted = {value.key for value in _amounts(answer)}
    holding = [
        at
        for at, span in enumerate(spans)
        if wanted & {value.key for value in find_values(text[span.start : span.end])}
    ]
    if not holding:
        return text
    first, last = spans[max(holding[0] - 1, 0)], spans[min(holding[-1] + 1, len(spans) - 1)]
    return text[first.start : last.end]


def _other_amount(text: str, numbers: frozenset[str], draw: random.Random) -> str | None:
    """The amount with another number that nothing else here names."""
    match = _NUMBER.search(text)
    if match is None or "," in text:
        return None
    number = float(match.group())
    digits = len(match.group().partition(".")[2])
    for factor in draw.sample(_FACTORS, len(_FACTORS)):
        other = f"{number * factor:.{digits}f}"
        if float(other) > 0 and other not in numbers and float(other) != number:
            return text[: match.start()] + other + text[match.end() :]
    return None

"""Values of a text that say how much, as facts that a program can check."""

from __future__ import annotations

import re

from eval.sets.questions import GoldFact, Match
from serving.values import Value, find_values

#: What a bare number counts.
_COUNTED = re.compile(
    r" (?!(?:a|an|and|at|for|from|in|of|on|or|per|to|with)\b)[a-z][\w-]*(?: [a-z][\w-]*s\b)?"
)


def values_in(text: str) -> list[Value]:
    """Values with digits that say how much: no codes, addresses or versions."""
    return [
        value
        for value in find_values(text)
        if value.kind not in ("code", "address") and any(letter.isdigit() for letter in value.text)
    ]


def match_of(value: Value, text: str) -> Match:
    """A bare number is in half of all answers, so it counts with what it counts."""
    return "exact" if written_with(value, text) != value.text else "number"


def written_with(value: Value, text: str) -> str:
    """The value as it stands in the text, a bare number with what it counts."""
    if value.kind != "number":
        return value.text
    after = _COUNTED.match(text, text.index(value.text) + len(value.text))
    return value.text + (after[0] if after else "")


def facts_of(text: str, *, besides: str = "") -> tuple[GoldFact, ...]:
    """Each value of the text once, but those that `besides` holds: to repeat them tells nothing."""
    known = {value.key for value in values_in(besides)}
    facts: dict[tuple[str, str], GoldFact] = {}
    for value in values_in(text):
        if value.key not in known:
            fact = GoldFact(match=match_of(value, text), values=(written_with(value, text),))
            facts.setdefault(value.key, fact)
    return tuple(facts.values())

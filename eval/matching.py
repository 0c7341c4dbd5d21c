"""Whether an answer says a fact, in any accepted spelling, with numbers and units written in one way.

Word order inside a spelling counts, words around it do not. A negation outside the spelling is not
seen: write "no card", not "card". A spelling may be marked as a value (`number:$9`) or as a pattern
(`regex:...`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from serving.spelling import tokens
from serving.values import find_values, known_values

#: What a spelling begins with that is compared as a value, or searched as a pattern.
NUMBER_MARK, REGEX_MARK = "number:", "regex:"


def says(answer: str, spelling: str) -> bool:
    """Whether the spelling's words stand side by side in the answer; `$6` is not said by `$60` or `$6.50`.

    A spelling of signs alone (`~$`) is looked for as it is.
    """
    if spelling.startswith(REGEX_MARK):
        return re.search(spelling.removeprefix(REGEX_MARK), answer, re.IGNORECASE) is not None
    if spelling.startswith(NUMBER_MARK):
        wanted_values = find_values(spelling.removeprefix(NUMBER_MARK))
        known = known_values([answer])
        return bool(wanted_values) and all(known.hold(value) for value in wanted_values)
    wanted, given = tokens(spelling), tokens(answer)
    if not wanted:
        return bool(spelling.strip()) and spelling.strip() in answer
    width = len(wanted)
    return any(given[start : start + width] == wanted for start in range(len(given) - width + 1))


def broken_pattern(spelling: str) -> str:
    """What keeps a spelling from being searched as a pattern; "" where nothing does."""
    if spelling.startswith(REGEX_MARK):
        try:
            re.compile(spelling.removeprefix(REGEX_MARK))
        except re.error as exc:
            return f"{spelling!r} does not compile ({exc})"
    return ""


def missing_facts(answer: str, facts: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """First spelling of every fact that no accepted spelling puts into the answer, as a person reads it."""
    return tuple(shown(fact[0]) for fact in facts if not any(says(answer, spelling) for spelling in fact))


def shown(spelling: str) -> str:
    """A spelling without its mark: a value as it is, a pattern between slashes."""
    if spelling.startswith(REGEX_MARK):
        return f"/{spelling.removeprefix(REGEX_MARK)}/"
    return spelling.removeprefix(NUMBER_MARK)


def stale_values_in(answer: str, stale_values: Sequence[str]) -> tuple[str, ...]:
    """Values of a superseded article that the answer states."""
    return tuple(shown(value) for value in stale_values if says(answer, value))

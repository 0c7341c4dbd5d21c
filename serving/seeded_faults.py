"""Right sentences made wrong in one known place: what a grounding check is trained on and measured with.

Each fault is small, so that word overlap hardly moves: another value of the same kind, a negation put in or
taken out, a name or a direction exchanged, a claim added from elsewhere. Pure: the caller's `random.Random`
decides.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serving.values import find_values


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A sentence made wrong. `start` and `end` mark the words that are wrong now."""

    kind: str
    text: str
    start: int
    end: int


_ADDED = (
    (r"\bcannot\b", "can"), (r"\bcan't\b", "can"), (r"\b(do|does|did) not\b", r"\1"),
    (r"\bdoesn't\b", "does"),
    (r"\bdon't\b", "do"), (r"\bisn't\b", "is"), (r"\baren't\b", "are"), (r"\bwon't\b", "will"),
    (r"\b(is|are|was|were|will|has|have|may|must) not\b", r"\1"), (r"\bnever\b", "always"),
    (r"\bwithout\b", "with"), (r"\bno longer\b", "still"),
    (r"\b(has|have|needs|need|asks for) no\b", r"\1 a"),
)  # fmt: skip
_LOST = (
    (r"\bcan\b(?! not)", "cannot"), (r"\b(is|are|was|were|will|must|may|should)\b(?! not)", r"\1 not"),
    (r"\b(keep|need|cost|last|take|cover|include|start|work)s\b", r"does not \1"),
    (r"\b(you|we|they|people) (keep|need|get|pay|have|want|see|lose)\b", r"\1 do not \2"),
    (r"\balways\b", "never"), (r"\bwith\b", "without"), (r"\b(has|have) (?=been|a\b|an\b|the\b)", r"\1 not "),
)  # fmt: skip
_OPPOSITES = (
    "before/after up_to/at_least at_most/at_least more/less more/fewer most/least first/last monthly/yearly "
    "month/year day/week hour/day minimum/maximum all/none included/excluded earlier/later older/newer "
    "old/new free/paid allowed/forbidden upload/download on/off open/close largest/smallest above/below "
    "increase/decrease increased/decreased won/lost north/south east/west every/no both/neither "
    "only/also public/private manual/automatic higher/lower customers/staff deleted/kept removed/added "
    "started/ended begins/ends male/female american/british men/women man/woman best/worst born/died"
)
_SWAPS: dict[str, tuple[str, ...]] = {}
for _pair in _OPPOSITES.split():
    _left, _right = (word.replace("_", " ") for word in _pair.split("/"))
    _SWAPS[_left] = (*_SWAPS.get(_left, ()), _right)
    _SWAPS[_right] = (*_SWAPS.get(_right, ()), _left)
_OPPOSITE = re.compile(
    rf"\b(?:{'|'.join(sorted(map(re.escape, _SWAPS), key=len, reverse=True))})\b", re.IGNORECASE
)
_NAME = re.compile(r"(?<![.!?:] )(?<!^)\b[A-Z][\w'-]+(?: [A-Z][\w'-]+)*")


def swap_value(sentence: str, sources: Sequence[str], chance: random.Random) -> Fault | None:
    """One value exchanged for another of its kind, from the sources if they have one, else near it."""
    values = [value for value in find_values(sentence) if value.kind not in {"address"}]
    if not values:
        return None
    value = chance.choice(values)
    mine = {other.key for other in values}
    others = [
        other.text
        for source in sources
        for other in find_values(source)
        if other.kind == value.kind and other.key not in mine
    ]
    other = chance.choice(others) if others else _near(value.text, chance)
    if other is None or any(one.key in mine for one in find_values(other)):
        return None
    return _replace("value", sentence, sentence.find(value.text), value.text, other)


def flip_negation(sentence: str, chance: random.Random) -> Fault | None:
    """A negation taken out if there is one, else one put in."""
    flips = negation_flips(sentence)
    return chance.choice(flips) if flips else None


def negation_flips(sentence: str) -> list[Fault]:
    """Every way to take a negation out; if there is none, every way to put one in."""
    for rules in (_ADDED, _LOST):
        found = [
            _replace("negation", sentence, match.start(), match.group(), match.expand(new))
            for old, new in rules
            for match in re.finditer(old, sentence, re.IGNORECASE)
        ]
        if flips := [fault for fault in found if fault is not None]:
            return flips
    return []


def swap_opposite(sentence: str, chance: random.Random) -> Fault | None:
    """A word exchanged for one that says the contrary: before, after; most, least."""
    found = list(_OPPOSITE.finditer(sentence))
    if not found:
        return None
    match = chance.choice(found)
    new = chance.choice(_SWAPS[match.group().lower()])
    if match.group()[0].isupper():
        new = new[0].upper() + new[1:]
    return _replace("opposite", sentence, match.start(), match.group(), new)


def swap_name(sentence: str, sources: Sequence[str], chance: random.Random) -> Fault | None:
    """A name exchanged for another one of the sources."""
    own = list(_NAME.finditer(sentence))
    names = sorted(
        {match.group() for source in sources for match in _NAME.finditer(source)}
        - {match.group() for match in own}
    )
    names = [name for name in names if name.lower() not in sentence.lower()]
    if not own or not names:
        return None
    match = chance.choice(own)
    return _replace("name", sentence, match.start(), match.group(), chance.choice(names))


def add_claim(sentence: str, elsewhere: Sequence[str], chance: random.Random) -> Fault | None:
    """A clause of another text joined on."""
    clauses = [
        clause for text in elsewhere for clause in re.split(r"[;:,]\s", text) if 3 < len(clause.split()) < 16
    ]
    if not clauses:
        return None
    bare, clause = sentence.rstrip(" .!?"), chance.choice(clauses).rstrip(" .!?")
    joint = chance.choice((", and ", ", because ", ", so that ", "; ", " and "))
    begin = len(bare) + len(joint)
    clause = clause[0].lower() + clause[1:] if clause[:2].istitle() else clause
    return Fault(kind="added", text=f"{bare}{joint}{clause}.", start=begin, end=begin + len(clause))


def any_small_fault(sentence: str, sources: Sequence[str], chance: random.Random) -> Fault | None:
    """One of the faults that change a word or a value in place; None where the sentence offers no hold."""
    makers: list[Callable[[], Fault | None]] = [
        lambda: swap_value(sentence, sources, chance),
        lambda: swap_value(sentence, sources, chance),
        lambda: flip_negation(sentence, chance),
        lambda: swap_opposite(sentence, chance),
        lambda: swap_name(sentence, sources, chance),
    ]
    chance.shuffle(makers)
    return next((fault for make in makers if (fault := make()) is not None), None)


def _replace(kind: str, sentence: str, start: int, old: str, new: str) -> Fault | None:
    text = sentence[:start] + new + sentence[start + len(old) :]
    if text == sentence:
        return None
    return Fault(kind=kind, text=text, start=start, end=start + len(new.rstrip()))


def _near(text: str, chance: random.Random) -> str | None:
    """The same value with another number in it."""
    match = re.search(r"\d+", text)
    if match is None:
        return None
    number = int(match.group())
    other = chance.choice([number + 1, number * 2, number + 10, max(1, number // 2), number * 10])
    if 1000 < number < 2200:
        other = number + chance.choice([-20, -3, -1, 1, 2, 10])
    return None if other == number else text[: match.start()] + str(other) + text[match.end() :]

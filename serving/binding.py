"""What a value belongs to: `$9` in the row of Plus is not the price of Team.

A value of a sentence is misplaced when, wherever the passages hold it, the words around it are hardly those
of the sentence. Measured on the demo's train and dev answers next to their articles: refuses 4 % of the
sentences with values, and finds 47 % of those in which one value was swapped for another of its kind from
the same passages (words and values alone find 6 %).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from serving.sentences import content_stems, sentences
from serving.values import KnownValues, Value, find_values, known_values

#: Share of the best fitting place's words that a place of the value must have.
THRESHOLD = 0.2
#: A table row as canonical text: `price - Plus: $9; Team: $14`.
_ROW = re.compile(r"(?P<label>[^\u2014\n]{1,80}) \u2014 (?P<cells>[^\n]+)")
_CLAUSE = re.compile(r"(?:[^,;:]|[,:](?=\d))+")


@dataclass(frozen=True, slots=True)
class ValuePlace:
    """A sentence, a line or a table cell: the values in it and the words that they belong to."""

    values: KnownValues
    stems: frozenset[str]


def value_places(text: str, *, title: str = "") -> tuple[ValuePlace, ...]:
    """Every place of a passage; cells of a table row are places of their own, with the row's label and
    column name."""
    about = frozenset(content_stems(title))
    return tuple(
        ValuePlace(known_values([said]), frozenset(content_stems(around)) | about)
        for unit in sentences(text)
        for said, around in _pieces(text[unit.start : unit.end])
    )


def misplaced_values(sentence: str, places: Sequence[ValuePlace], *, said: KnownValues) -> tuple[str, ...]:
    """Values of the sentence, as written, that the passages hold only beside other words. `said` ones are
    exempt."""
    values = [value for value in find_values(sentence) if not said.hold(value)]
    if not values:
        return ()
    own = {stem for value in find_values(sentence) for stem in content_stems(value.text)}
    seen = Counter(stem for place in places for stem in place.stems)
    whole = _fit(set(content_stems(sentence)) - own, places, seen)
    if whole is None:
        return ()
    return tuple(
        value.text
        for value in values
        if _best(value, places, (whole, _fit(_clause_stems(sentence, value) - own, places, seen) or whole))
        < THRESHOLD
    )


_Fit = Callable[[ValuePlace], float]


def _best(value: Value, places: Iterable[ValuePlace], fits: Sequence[_Fit]) -> float:
    """How well the value's best place fits; 1 where the passages do not hold it (that is another finding)."""
    scores = [sum(fit(place) for fit in fits) / len(fits) for place in places if place.values.hold(value)]
    return max(scores, default=1.0)


def _fit(wanted: set[str], places: Sequence[ValuePlace], seen: Counter[str]) -> _Fit | None:
    """How much of the wanted words a place has, next to the place that has most; rarer words count more."""
    weight = {stem: 1.0 / (1.0 + seen[stem]) for stem in wanted if seen[stem]}

    def held(place: ValuePlace) -> float:
        return sum(one for stem, one in weight.items() if stem in place.stems)

    most = max(map(held, places), default=0.0)
    return (lambda place: held(place) / most) if most else None


def _clause_stems(sentence: str, value: Value) -> set[str]:
    """Words of the clause in which the value stands; those of the sentence if they are too few to tell."""
    at = sentence.find(value.text)
    clause = next((m.group() for m in _CLAUSE.finditer(sentence) if m.start() <= at < m.end()), sentence)
    stems = set(content_stems(clause))
    return stems if len(stems) > 2 else set(content_stems(sentence))


def _pieces(unit: str) -> list[tuple[str, str]]:
    """What is said and what it is said about: (cell, label + column + cell) for a row, (unit, unit) for a
    sentence."""
    row = _ROW.fullmatch(unit)
    if row:
        return [(cell, f"{row['label']} {cell}") for cell in row["cells"].split("; ")]
    cells = [cell.strip() for cell in unit.strip("| ").split("|")]
    return [(cell, f"{cells[0]} {cell}") for cell in cells] if len(cells) > 2 else [(unit, unit)]

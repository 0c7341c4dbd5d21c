"""What a value belongs to: `$9` in the row of Plus is not the price of Team.

A value of a sentence is misplaced when, wherever the passages hold it, the words around it are hardly those
of the sentence. Measured on the demo's train and dev answers next to their articles: refuses 4 % of the
sentences with values, and finds 47 % of those in which one value was swapped for another of its kind from
the same passages (words and values alone find 6 %).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from serving.sentences import content_stems, sentences
from serving.values import KnownValues, Value, known_values

#: Share of the best fitting place's words that a place of the value must have.
THRESHOLD = 0.2
#: A table row as canonical text: `price - Plus: $9; Team: $14`.
_ROW = re.compile(r"(?P<label>[^\u2014\n]{1,80}) \u2014 (?P<cells>[^\n]+)")
#: A row of a list of codes says of each what its cells do.
_CODE = re.compile(r"[-*|\s]*[A-Za-z]{1,8}-\d{1,6}\s*")
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
        ValuePlace(place.values, place.stems | about)
        for unit in sentences(text)
        for place in _places_of(text[unit.start : unit.end])
    )


@lru_cache(maxsize=1 << 12)
def _places_of(unit: str) -> tuple[ValuePlace, ...]:
    """Kept, because other questions show other windows of the same articles."""
    return tuple(
        ValuePlace(known_values([said]), frozenset(content_stems(around))) for said, around in _pieces(unit)
    )


@dataclass(frozen=True, slots=True)
class ValuePlaces:
    """Places, and which of them have values or a stem."""

    places: tuple[ValuePlace, ...]
    with_values: Sequence[int]
    with_stem: Mapping[str, Sequence[int]]

    @classmethod
    def of(cls, places: Iterable[ValuePlace]) -> Self:
        """Number the places."""
        numbered = tuple(places)
        with_stem: dict[str, list[int]] = {}
        for number, place in enumerate(numbered):
            for stem in place.stems:
                with_stem.setdefault(stem, []).append(number)
        with_values = [number for number, place in enumerate(numbered) if place.values.keys]
        return cls(numbered, with_values, with_stem)


def misplaced_values(
    sentence: str, values: Sequence[Value], places: ValuePlaces, *, said: KnownValues
) -> tuple[str, ...]:
    """Those of the sentence's values, as written, that the passages hold only beside other words. `said` ones
    are exempt."""
    judged = [value for value in values if not said.hold(value)]
    if not judged:
        return ()
    own = {stem for value in values for stem in content_stems(value.text)}
    whole = _fits(set(content_stems(sentence)) - own, places)
    if whole is None:
        return ()
    misplaced: list[str] = []
    for value in judged:
        clause = _fits(_clause_stems(sentence, value) - own, places) or whole
        if _best(value, places, whole, clause) < THRESHOLD:
            misplaced.append(value.text)
    return tuple(misplaced)


def _best(value: Value, places: ValuePlaces, whole: Sequence[float], clause: Sequence[float]) -> float:
    """How well the value's best place fits; 1 where the passages do not hold it (that is another finding)."""
    scores = [
        (whole[number] + clause[number]) / 2
        for number in places.with_values
        if places.places[number].values.hold(value)
    ]
    return max(scores, default=1.0)


def _fits(wanted: set[str], places: ValuePlaces) -> list[float] | None:
    """How much of the wanted words each place has, next to the place that has most; rarer words count
    more."""
    held = [0.0] * len(places.places)
    for stem in wanted:
        with_stem = places.with_stem.get(stem, ())
        for number in with_stem:
            held[number] += 1.0 / (1.0 + len(with_stem))
    most = max(held, default=0.0)
    return [one / most for one in held] if most else None


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
        label = row["label"]
        said = f"{label} " if _CODE.fullmatch(label) else ""
        return [(f"{said}{cell}", f"{label} {cell}") for cell in row["cells"].split("; ")]
    cells = [cell.strip() for cell in unit.strip("| ").split("|")]
    return [(cell, f"{cells[0]} {cell}") for cell in cells] if len(cells) > 2 else [(unit, unit)]

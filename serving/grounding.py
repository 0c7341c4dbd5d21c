"""Whether the passages support a sentence, and which span of which document does.

No model: values and names must stand in the passages, values beside the words of the sentence, and the
sentence's words must be those of one place. It is cheap (a millisecond) and says what is missing. What it
does not see: half of the values that are taken from the wrong place of the right passage, and more
than half of the negations that were added or lost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from itertools import chain
from operator import or_

from serving.binding import ValuePlace, misplaced_values, value_places
from serving.claims import only_asks, unknown_deeds
from serving.prompting import Passage
from serving.sentences import STOPWORDS, Span, content_stems, sentences, stem, words
from serving.values import KnownValues, Value, find_values, known_values

#: Score from which a claim counts as supported. On the demo's train and dev answers it refuses 1.5 % of the
#: claims next to their own article and passes 7 % next to another one (0.5: 5.5 % and 5 %; 0.6: 11 % and 2
#: %).
THRESHOLD = 0.4
#: Units (sentences, lines) of a passage that may support a sentence together.
_WINDOW = 3
#: What a missing value or name leaves of the score.
_PENALTY = 0.5
#: Weight of the words that stand in that one place; the rest goes to those that stand anywhere in the
#: passages.
_NEAR = 0.7
#: Score that each further unit of a place costs.
_LENGTH_COST = 0.02
#: Score that a clause costs whose words are denied on one side only. On the demo's training rows it refuses
#: 42 % of the sentences with one negation added or taken away, and 3 % of the right ones (0.3: 6 % and none).
_NEGATION_COST = 0.65
#: Share of a clause's words from which a unit speaks of the same thing.
_SAME_CLAUSE = 0.5

#: Words of service talk that claim nothing about the subject.
_SERVICE_TALK = (
    "answer ask check choose click colleague contact follow go guess happy help here hope kind know let like "
    "look make mean more need open order please question reach read reply see sentence step sure take tell "
    "thank thing try understand use want way welcome work wrong able also available instead first then next "
    "currently simply still yes no okay ok sorry however example according based information provided "
    "passage article"
)
_GENERIC = frozenset(stem(word) for word in _SERVICE_TALK.split())
_NAME = re.compile(r"\b[A-Z][\w&]*(?:[-'][A-Za-z]+)*\b")
_JOINT = re.compile(r"[-.,:/'\u2019]")
_NEGATION = re.compile(
    r"\b(?:no(?! (?:more|less|fewer|later|earlier) than)|not(?! only)|never|cannot|none|without)\b"
    r"|\b(?:neither|nor)\b|n['\u2019]t\b",
    re.IGNORECASE,
)
#: What a negation does not reach across.
_CLAUSE = re.compile(
    r"[,;:](?=\s)|[()\u2013\u2014|]|(?=\b(?:no|without)\b)|\b(?:and|but|or|because|so|if|when|while|unless|until|which|who)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """What was found for one sentence."""

    supported: bool
    #: 0 to 1, higher is better supported.
    score: float
    #: Whether the sentence claims anything that could be wrong.
    is_claim: bool
    #: Whether it is one of the fixed wordings.
    is_fixed: bool = False
    #: Number of the passage that supports it best, and the span there, in the document's offsets.
    n: int | None = None
    start: int | None = None
    end: int | None = None
    #: Values and names of the sentence that stand in no passage, or beside something else only.
    unsupported: tuple[str, ...] = ()


def check_sentence(
    sentence: str,
    passages: Sequence[Passage],
    *,
    question: str = "",
    fixed: Sequence[str] = (),
    threshold: float = THRESHOLD,
) -> Support:
    """Check one sentence against the passages that the model was shown.

    Values and names that the customer used in the `question` may be repeated; `fixed` wordings claim nothing.
    """
    bare = " ".join(sentence.split())
    if any(bare and bare in wording for wording in fixed):
        return Support(supported=True, score=1.0, is_claim=False, is_fixed=True)
    seen = [_read(passage) for passage in passages]
    said = _said(question)
    values = find_values(bare)
    missing = _missing_values(values, [*seen, said]) + _missing_names(bare, values, [*seen, said])
    if values:
        places = [place for one in seen for place in one.places]
        missing += misplaced_values(bare, values, places, said=said.values)
    missing += unknown_deeds(bare, [one.passage.text for one in seen])
    wanted = set(content_stems(bare))
    is_claim = bool(missing) or (bool(wanted - _GENERIC) and not only_asks(bare))
    place = _best_place(bare, wanted, seen)
    if place is None:
        return Support(supported=not is_claim, score=0.0, is_claim=is_claim, unsupported=missing)
    score = place.score * _PENALTY ** len(missing)
    return Support(
        supported=not is_claim or (not missing and score >= threshold),
        score=score,
        is_claim=is_claim,
        n=place.passage.n,
        start=place.passage.start + place.start,
        end=place.passage.start + place.end,
        unsupported=missing,
    )


@dataclass(frozen=True, slots=True)
class _Read:
    """A passage taken apart, once for all sentences of an answer."""

    passage: Passage
    units: tuple[Span, ...]
    #: Which units hold a stem.
    units_with: Mapping[str, Sequence[int]]
    #: Which units deny it, in a clause with a negation, and which assert it, in a clause without.
    denied_in: Mapping[str, Sequence[int]]
    asserted_in: Mapping[str, Sequence[int]]
    title: frozenset[str]
    #: Every word and part of a word, for names.
    words: frozenset[str]
    values: KnownValues
    places: tuple[ValuePlace, ...]


def _said(question: str) -> _Read:
    return _read(Passage(n=0, title="", text=question, start=0, end=len(question)))


@lru_cache(maxsize=256)
def _read(passage: Passage) -> _Read:
    whole = f"{passage.title}\n{passage.effective_from}\n{passage.text}"
    units = tuple(sentences(passage.text))
    units_with: dict[str, list[int]] = {}
    denied_in: dict[str, list[int]] = {}
    asserted_in: dict[str, list[int]] = {}
    for place, unit in enumerate(units):
        found = _polarity(passage.text[unit.start : unit.end])
        for index, stems in (
            (units_with, found.denied | found.asserted),
            (denied_in, found.denied),
            (asserted_in, found.asserted),
        ):
            for word in stems:
                index.setdefault(word, []).append(place)
    return _Read(
        passage=passage,
        units=units,
        units_with=units_with,
        denied_in=denied_in,
        asserted_in=asserted_in,
        title=frozenset(content_stems(passage.title)),
        words=frozenset(stem(part) for part in _parts(whole)),
        values=known_values([whole]),
        places=value_places(passage.text, title=passage.title),
    )


@dataclass(frozen=True, slots=True)
class _Polarity:
    """The content stems of a sentence by whether their clause denies them."""

    denied: frozenset[str]
    asserted: frozenset[str]
    clauses: tuple[frozenset[str], ...]


def _polarity(sentence: str) -> _Polarity:
    clauses = _CLAUSE.split(sentence)
    stems = tuple(frozenset(content_stems(clause)) for clause in clauses)
    denies = [bool(_NEGATION.search(clause)) for clause in clauses]
    return _Polarity(
        denied=frozenset[str]().union(*(found for found, deny in zip(stems, denies, strict=True) if deny)),
        asserted=frozenset[str]().union(
            *(found for found, deny in zip(stems, denies, strict=True) if not deny)
        ),
        clauses=stems,
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """A run of units in one passage; offsets count in the passage's text."""

    score: float
    passage: Passage
    start: int
    end: int


def _best_place(sentence: str, wanted: set[str], seen: Sequence[_Read]) -> _Place | None:
    """The shortest run of units that holds most of the wanted words, weighing rarer words more."""
    # Words as bits, so that a run of units is one `or` a unit.
    bits = {word: 1 << place for place, word in enumerate(sorted(wanted))}
    held = [_words_of_units(one.units_with, len(one.units), bits) for one in seen]
    polarity = _polarity(sentence)
    denied = {word: bit for word, bit in bits.items() if word in polarity.denied}
    asserted = {word: bit for word, bit in bits.items() if word in polarity.asserted}
    agreeing = [
        list(
            map(
                or_,
                _words_of_units(one.denied_in, len(one.units), denied),
                _words_of_units(one.asserted_in, len(one.units), asserted),
            )
        )
        for one in seen
    ]
    titles = [sum(bit for word, bit in bits.items() if word in one.title) for one in seen]
    everywhere = [sum(len(one.units_with.get(word, ())) for one in seen) for word in bits]
    weights = [1.0 / (1.0 + 0.1 * count) for count in everywhere]
    total = sum(weights) or 1.0
    shares: dict[int, float] = {}

    def share(words: int) -> float:
        """The weight of some of the words in that of all."""
        if words not in shares:
            shares[words] = sum(one for place, one in enumerate(weights) if words >> place & 1) / total
        return shares[words]

    anywhere = (1 - _NEAR) * share(reduce(or_, chain(titles, *held), 0))

    # Each set of words once: most units say nothing of the sentence, and hardly any says the contrary.
    said = {unit for units in agreeing for unit in units}
    contrary = {
        unit & ~agree
        for units, agrees in zip(held, agreeing, strict=True)
        for unit, agree in zip(units, agrees, strict=True)
        if unit != agree
    }
    contradicted = 0.0
    for clause in polarity.clauses if contrary else ():
        mask = sum(bit for word, bit in bits.items() if word in clause)
        agreed = max((share(unit & mask) for unit in said), default=0.0)
        denial = max((share(unit & mask) for unit in contrary), default=0.0)
        if denial > max(agreed, _SAME_CLAUSE * share(mask)):
            contradicted = max(contradicted, denial / share(mask))

    best: _Place | None = None
    for one, units, title in zip(seen, held, titles, strict=True):
        silent = False
        for first, unit in enumerate(units):
            if not unit & ~title:
                if silent:
                    continue  # as good as the first one that says nothing
                silent = True
            words = title
            for last in range(first, min(first + _WINDOW, len(units))):
                if last > first and not units[last] & ~words:
                    continue  # longer, and no better
                words |= units[last]
                score = _NEAR * share(words) + anywhere - _LENGTH_COST * (last - first)
                if best is None or score > best.score:
                    start, end = one.units[first].start, one.units[last].end
                    best = _Place(score, one.passage, start, end)
                if words == title:
                    break  # without this first unit it is as good and shorter
    if best is not None and contradicted:
        best = replace(best, score=max(0.0, best.score - _NEGATION_COST * contradicted))
    return best


def _words_of_units(
    units_with: Mapping[str, Sequence[int]], units: int, bits: Mapping[str, int]
) -> list[int]:
    """The wanted words in each unit, as bits."""
    held = [0] * units
    for word, bit in bits.items():
        for unit in units_with.get(word, ()):
            held[unit] |= bit
    return held


def _missing_values(values: Sequence[Value], seen: Sequence[_Read]) -> tuple[str, ...]:
    return tuple(value.text for value in values if not any(one.values.hold(value) for one in seen))


def _missing_names(sentence: str, values: Sequence[Value], seen: Sequence[_Read]) -> tuple[str, ...]:
    """Names of the sentence that no passage holds. A first word counts only if it can be nothing but a
    name."""
    missing: list[str] = []
    for value in values:
        sentence = sentence.replace(value.text, " " * len(value.text))
    for match in _NAME.finditer(sentence):
        name = match.group()
        before = sentence[: match.start()].rstrip(" \"'([\u201c")
        begins = not before or before.endswith((".", "!", "?", ":", ">"))
        if begins and sum(letter.isupper() for letter in name) < 2:
            continue
        if name.lower() in STOPWORDS or stem(name.lower()) in _GENERIC:
            continue
        parts = [stem(part) for part in _parts(name)]
        if not any(part in one.words for part in parts for one in seen):
            missing.append(name)
    return tuple(missing)


def _parts(text: str) -> list[str]:
    found = words(text)
    return found + [part for word in found if not word.isalnum() for part in _JOINT.split(word)]

"""Whether the passages support a sentence, and which span of which document does.

No model: values and names must stand in the passages, values beside the words of the sentence, a code of a
list beside what is said of it, what is denied must be denied there, and the sentence's words must be those
of one place. It is cheap (a fraction of a millisecond once the passages are read, some milliseconds for
that) and says what is missing. What it does not see: half of the values that are taken from the wrong place
of the right passage, and the negations that serving.negation does not see.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

from serving.binding import misplaced_values
from serving.claims import only_asks, says_unknown, unknown_deeds
from serving.negation import Contrary, find_contrary
from serving.prompting import Passage
from serving.reading import Page, Reading, WordPlaces, as_written, parts, read, read_question
from serving.sentences import STOPWORDS, content_stems, stem
from serving.values import Value, find_values

#: Rises when the rules judge differently, so that verdicts say by which they were reached.
RULES = 6
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
#: What is left of the score where a passage says the contrary: below every sensible threshold.
_CONTRARY = 0.3

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
_NOWHERE = WordPlaces()


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
    #: Values and names of the sentence that stand in no passage, or beside something else only, and the word
    #: whose contrary a passage says.
    unsupported: tuple[str, ...] = ()


class Entailment(Protocol):
    """Reads a sentence beside passages. `id` names the exact model."""

    @property
    def id(self) -> str: ...

    @property
    def threshold(self) -> float:
        """Probability from which a claim counts as supported."""

    def probability(self, sentence: str, passages: Sequence[Passage], signs: Signs) -> float | None:
        """How probable it is that the passages support the sentence, 0 to 1; None: could not tell in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What words and values say of one sentence."""

    #: Share of the sentence's weighted words that stand together in the passages, 0 to 1.
    overlap: float
    #: Values and names that stand in no passage, or beside something else only, and deeds that none reports.
    missing: tuple[str, ...] = ()
    #: The word that is denied in the sentence and asserted in a passage, or the other way round.
    contrary: Contrary | None = None

    @property
    def score(self) -> float:
        """The signs as one score, 0 to 1: what decides where no model is asked."""
        kept = 1.0 if self.contrary is None else _CONTRARY
        return self.overlap * kept * _PENALTY ** len(self.missing)

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong by name. It refuses a sentence by itself: no model talks it away."""
        told = () if self.contrary is None else (f"{self.contrary.word}: a passage says the contrary",)
        return (*self.missing, *told)


def word_signs(sentence: str, passages: Sequence[Passage], *, question: str = "") -> Signs:
    """The signs of a sentence by themselves."""
    return _look(" ".join(sentence.split()), read(passages), read_question(question)).signs


def check_sentence(
    sentence: str,
    passages: Sequence[Passage],
    *,
    question: str = "",
    fixed: Sequence[str] = (),
    threshold: float = THRESHOLD,
    entailment: Entailment | None = None,
) -> Support:
    """Check one sentence against the passages that the model was shown.

    Values and names that the customer used in the `question` may be repeated; of a code (S-102) where the
    passages hold others of its kind and not this one, only that it is not known. `fixed` wordings claim
    nothing.
    With `entailment` its probability and its threshold decide what is left when missing values and contraries
    have refused; without it, and where it runs out of time, the words' score and `threshold` do.
    """
    bare = " ".join(sentence.split())
    if any(bare and bare in wording for wording in fixed):
        return Support(supported=True, score=1.0, is_claim=False, is_fixed=True)
    seen = read(passages)
    look = _look(bare, seen, read_question(question))
    signs, place = look.signs, look.place
    if place is None:
        return Support(
            supported=not look.is_claim, score=0.0, is_claim=look.is_claim, unsupported=signs.faults
        )
    score = signs.score
    if entailment is not None and look.is_claim and not signs.faults:
        probability = entailment.probability(bare, seen.passages, signs)
        if probability is not None:
            score, threshold = probability, entailment.threshold
    return Support(
        supported=not look.is_claim or (not signs.faults and score >= threshold),
        score=score,
        is_claim=look.is_claim,
        n=place.passage.n,
        start=place.passage.start + place.start,
        end=place.passage.start + place.end,
        unsupported=signs.faults,
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """What one sentence says and where that stands."""

    signs: Signs
    place: _Place | None
    is_claim: bool


def _look(bare: str, seen: Reading, said: Page) -> _Look:
    values = find_values(bare)
    repeats = as_written(bare) in seen.written
    missing = tuple(
        value.text for value in values if not (seen.values.hold(value) or said.values.hold(value))
    )
    if unlisted := [value for value in values if seen.values.list_without(value)]:
        missing += _given_a_meaning(bare, unlisted, missing, seen)
    missing += _missing_names(bare, values, (seen.words, said.words))
    if values and not repeats:
        missing += misplaced_values(bare, values, seen.places, said=said.values)
        if not only_asks(bare):
            missing += tuple(code for code in seen.code_lists.mistaken(bare) if code not in missing)
    missing += unknown_deeds(bare, [passage.text for passage in seen.passages])
    wanted = set(content_stems(bare))
    weights = {word: 1.0 / (1.0 + 0.1 * len(seen.stems.get(word, _NOWHERE).units)) for word in sorted(wanted)}
    place = _best_place(weights, seen)
    signs = Signs(
        overlap=place.score if place else 0.0,
        missing=missing,
        contrary=None if repeats else find_contrary(bare, seen.polarities, seen.denying, weights),
    )
    return _Look(signs, place, bool(missing) or (bool(wanted - _GENERIC) and not only_asks(bare)))


def _given_a_meaning(
    sentence: str, unlisted: Sequence[Value], missing: Sequence[str], seen: Reading
) -> tuple[str, ...]:
    """Codes of the customer of which the sentence says more than that they are not known. What the customer
    said may be repeated, but whatever is said of a code that a list of such codes lacks was said of another
    one."""
    titles = {word for word, places in seen.stems.items() if places.titles}
    own = {word for value in unlisted for word in content_stems(value.text)}
    if only_asks(sentence) or says_unknown(sentence, titles | own | _GENERIC):
        return ()
    return tuple(value.text for value in unlisted if value.text not in missing)


@dataclass(frozen=True, slots=True)
class _Place:
    """A run of units in one passage; offsets count in the passage's text."""

    #: Share of the wanted words, less what a long place costs.
    score: float
    passage: Passage
    start: int
    end: int


def _best_place(weights: Mapping[str, float], seen: Reading) -> _Place | None:
    """The shortest run of units that holds most of the wanted words, weighing rarer words more."""
    # Words as bits, so that a run of units is one `or` a unit.
    held = [0] * len(seen.units)
    titles = [0] * len(seen.passages)
    anywhere = 0
    for place, word in enumerate(weights):
        stands = seen.stems.get(word, _NOWHERE)
        if stands is _NOWHERE:
            continue
        bit = 1 << place
        anywhere |= bit
        for unit in stands.units:
            held[unit] |= bit
        for passage in stands.titles:
            titles[passage] |= bit
    share = _Shares(tuple(weights.values()))
    return _best_run(seen, held, titles, share, (1 - _NEAR) * share(anywhere))


class _Shares:
    """The weight of some of the words in that of all; the same sets come again and again."""

    __slots__ = ("_known", "_total", "_weights")

    def __init__(self, weights: Sequence[float]) -> None:
        self._weights = weights
        self._total = sum(weights) or 1.0
        self._known: dict[int, float] = {}

    def __call__(self, words: int) -> float:
        known = self._known.get(words)
        if known is None:
            known, left = 0.0, words
            while left:
                bit = left & -left
                known += self._weights[bit.bit_length() - 1]
                left ^= bit
            known = self._known[words] = known / self._total
        return known


def _best_run(
    seen: Reading, held: Sequence[int], titles: Sequence[int], share: _Shares, anywhere: float
) -> _Place | None:
    score, place = -1.0, None
    for number, (begin, end) in enumerate(seen.bounds):
        title = titles[number]
        silent = False
        for first in range(begin, end):
            if not held[first] & ~title:
                if silent:
                    continue  # as good as the first one that says nothing
                silent = True
            words = title
            for last in range(first, min(first + _WINDOW, end)):
                if last > first and not held[last] & ~words:
                    continue  # longer, and no better
                words |= held[last]
                found = _NEAR * share(words) + anywhere - _LENGTH_COST * (last - first)
                if place is None or found > score:
                    score, place = found, (number, first, last)
                if words == title:
                    break  # without this first unit it is as good and shorter
    if place is None:
        return None
    number, first, last = place
    return _Place(score, seen.passages[number], seen.units[first].start, seen.units[last].end)


def _missing_names(sentence: str, values: Sequence[Value], known: Sequence[Set[str]]) -> tuple[str, ...]:
    """Names of the sentence that no passage holds. A first word counts only if it can be nothing but a
    name."""
    missing: list[str] = []
    for value in values:
        # Not within a word: what is left of `22H2` is no name.
        sentence = re.sub(rf"{re.escape(value.text)}(?!\w)", " " * len(value.text), sentence)
    for match in _NAME.finditer(sentence):
        name = match.group()
        before = sentence[: match.start()].rstrip(" \"'([\u201c")
        begins = not before or before.endswith((".", "!", "?", ":", ">"))
        if begins and sum(letter.isupper() for letter in name) < 2:
            continue
        if name.lower() in STOPWORDS or stem(name.lower()) in _GENERIC:
            continue
        if not any(stem(part) in words for part in parts(name) for words in known):
            missing.append(name)
    return tuple(missing)

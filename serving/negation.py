"""Whether passages say the contrary of a sentence: the same words, with a negation on one side only.

A negation is held by the word that it denies (`not refunded`, `no card`, `never asks`), not by its whole
clause. A sentence is contradicted where the unit that speaks of the same thing most denies that word and the
sentence does not, or the other way round; a unit that agrees and is as near clears it. Everything here is
counted from the texts: no model, some tenths of a millisecond a sentence.

On the demo's training answers beside five passages a check of all signs refuses 18 of 483 right sentences and
60 % of those with one negation put in or taken away. What it does not see: a contrary in other words ("is
free", "costs $5"), what follows from a passage without being said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from serving.sentences import STOPWORDS, content_stems, stem, words_as_written

#: Words after a negation within which the word stands that it denies.
_REACH = 4
#: Content words from which a clause tells what it speaks of; below it the whole sentence is taken.
_FEW = 3
#: Share of the clause's words, and of the sentence's, that a unit must hold to speak of the same thing.
_OF_CLAUSE, _OF_SENTENCE = 0.5, 0.3
#: Share of a denying clause's words that the sentence must hold.
_OF_DENIAL = 0.6
#: Share of the words after a negation that a unit must hold in which the denied word itself is missing.
_OF_REACH = 0.6
_FEW_REACHED = 2
#: What the share of the sentence counts for beside that of the clause when units are compared.
_SENTENCE_WEIGHT = 0.5
#: What is left of the sentence's share where the negation is only supposed ("if it is not connected").
_SUPPOSED = 0.7
#: A unit with fewer content words that ends in a negation ("If it is not:") speaks of the one before.
_BARE = 3

_NEGATION = re.compile(
    r"\b(?:no(?! (?:more|less|fewer|later|earlier|longer) than\b| (?:matter|problem|other)\b"
    r"|\s*[.,;:!?|)]|\s*$)"
    r"|(?<!\bor )(?<!\bif )not(?! only\b| until\b)"
    r"|never|cannot|none|nothing|nobody|nowhere|without|neither|nor|unable|impossible)\b"
    r"|n['\u2019]t\b",
    re.IGNORECASE,
)
#: Whether a negation is worth looking for.
_SIGN = re.compile(
    r"\bn(?:o|ot|ever|one|othing|obody|owhere|either|or)\b|n['\u2019]t\b|\bcannot\b|\bwithout\b|\bunable\b|\bimposs",
    re.I,
)
#: What a negation does not reach across.
_BOUNDARY = re.compile(
    r"[,;:.!?](?=\s|$)|[()\u2013\u2014|>]|(?=\b(?:no|without|neither|nor)\b)"
    r"|\b(?P<joint>and|but|because|so|if|when|while|unless|until|which|who|since|before|after|although|though"
    r"|whatever|whether|where|as)\b",
    re.IGNORECASE,
)
#: A table cell that denies its own label: `Linux — Selective sync: no`.
_CELL = re.compile(r"(?P<label>[^\u2014;:|,]{1,80}): (?:no|none)(?=\s*(?:[;,.|]|$))", re.IGNORECASE)
_EXCLUSIVE = re.compile(r"\b(?:only|alone|except)\b", re.IGNORECASE)
_ROW = re.compile(r"[^\u2014]{1,80} \u2014 ")
_CONTRACTED = re.compile(r"n['\u2019]t$")
_CUES = frozenset(
    ["cannot", "never", "without", "nothing", "nobody", "nowhere", "none", "neither", "unable", "impossible"]
)
_EXCLUDES = frozenset(("nobody", "none", "nothing", "nowhere", "without", "neither", "nor"))
_SUPPOSES = frozenset(("if", "unless", "whether", "when", "until"))
#: Words that say too little to be what is denied.
_DULL = frozenset(stem(word) for word in ["anything", "anyone", "anybody", "thing", "one", "ones", "way"])
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """One negation: the word that it denies, as a stem, and what stands around it."""

    word: str
    #: False where the word is written like a name.
    is_plain: bool
    #: Content stems after the negation, to the end of its clause, and all of that clause.
    reach: frozenset[str]
    clause: frozenset[str]
    supposed: bool
    #: It denies whoever or whatever is not named: "nobody", "without".
    excludes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """The content stems of a clause; `free` ones are under no negation, `plain` ones of these no names."""

    stems: frozenset[str]
    free: frozenset[str]
    plain: frozenset[str]
    supposed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Polarity:
    """What a sentence denies and what it does not."""

    text: str = ""
    stems: frozenset[str] = _NONE
    denials: tuple[Denial, ...] = ()
    #: Stems under no negation in one of the clauses.
    free: frozenset[str] = _NONE
    #: It denies something that it does not name: "SOCKS proxies do not."
    elliptic: bool = False

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """Its clauses. Few units are ever asked for theirs."""
        return _taken_apart(self.text).clauses

    @property
    def exclusive(self) -> bool:
        """Whether it says what alone does something: "only you can" is "nobody can without you"."""
        return _EXCLUSIVE.search(self.text) is not None

    @property
    def denies(self) -> bool:
        """Whether there is a negation in it."""
        return bool(self.denials) or self.elliptic


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrary:
    """A word of the sentence, as written, that a passage denies or asserts against it."""

    word: str
    #: How much of the sentence that passage speaks of, 0 to 1.
    share: float


def polarity(sentence: str) -> Polarity:
    """What a sentence denies."""
    if not _SIGN.search(sentence):
        stems = frozenset(content_stems(sentence))
        return Polarity(text=sentence, stems=stems, free=stems)
    taken = _taken_apart(sentence)
    return Polarity(
        text=sentence,
        stems=_NONE.union(*(clause.stems for clause in taken.clauses)),
        denials=taken.denials,
        free=_NONE.union(*(clause.free for clause in taken.clauses)),
        elliptic=taken.elliptic,
    )


@dataclass(frozen=True, slots=True)
class _Apart:
    clauses: tuple[Clause, ...]
    denials: tuple[Denial, ...]
    elliptic: bool


@lru_cache(maxsize=1 << 11)
def _taken_apart(sentence: str) -> _Apart:
    clauses: list[Clause] = []
    denials: list[Denial] = []
    elliptic, begins = False, True
    # Each cell of a table row speaks of the row's label too.
    row = _ROW.match(sentence)
    label = _stems([(word, _content(word)) for word in words_as_written(row.group())]) if row else _NONE
    for piece, joint in _pieces(_CELL.sub(r" no \g<label>", sentence)):
        cues, (before, *after) = _between_negations(piece)
        free = [(word, found) for word in words_as_written(before) if (found := _content(word))]
        denied = [[(word, _content(word)) for word in words_as_written(part)] for part in after]
        stems = label.union(_stems(free), *map(_stems, denied))
        supposed = joint in _SUPPOSES
        for cue, part in zip(cues, denied, strict=True):
            told = next(
                ((word, found) for word, found in part[:_REACH] if found and found not in _DULL), None
            )
            if told is not None:
                word, found = told
                denials.append(
                    Denial(
                        word=found,
                        is_plain=word[0].islower(),
                        reach=_stems(part),
                        clause=stems,
                        supposed=supposed,
                        excludes=cue.lower() in _EXCLUDES,
                    )
                )
            elliptic = elliptic or not part
        first = next(iter(words_as_written(before)), "") if begins else ""
        plain = frozenset(found for word, found in free if word == first or not word[0].isupper())
        clauses.append(Clause(stems=stems, free=_stems(free), plain=plain, supposed=supposed))
        begins = begins and not words_as_written(piece)
    return _Apart(tuple(clauses), tuple(denials), elliptic)


def polarities(units: Iterable[str]) -> tuple[Polarity, ...]:
    """The units of a text. One that asks says nothing."""
    found = [Polarity() if unit.endswith("?") else polarity(unit) for unit in units]
    for place, (said, after) in enumerate(pairwise(found)):
        if after.elliptic and len(after.stems) < _BARE:
            found[place] = replace(said, elliptic=True)
    return tuple(found)


def find_contrary(
    sentence: str, units: Sequence[Polarity], denying: Sequence[int], weights: Mapping[str, float]
) -> Contrary | None:
    """The word of the sentence of which the units say the contrary, if there is one.

    `denying` are the places of the units that deny anything; `weights` those of the sentence's stems, rarer
    ones more.
    """
    said = polarity(sentence)
    shares = _Shares(said.stems, weights, units)
    found = [*_denied_here(said, units, denying, shares), *_denied_there(said, units, denying, shares)]
    if not found:
        return None
    word, share = max(found, key=lambda pair: pair[1])
    written = next((w for w in words_as_written(sentence) if _content(w) == word), word)
    return Contrary(word=written, share=round(share, 4))


class _Shares:
    """How much of some of the sentence's words, and of all, a unit holds."""

    def __init__(
        self, wanted: frozenset[str], weights: Mapping[str, float], units: Sequence[Polarity]
    ) -> None:
        self._wanted, self._weights, self._units = wanted, weights, units

    def of(self, words: frozenset[str], place: int) -> float:
        held = self._units[place].stems
        # In a fixed order: sums of floats depend on it.
        total = sum(self._weights.get(word, 1.0) for word in sorted(words))
        return sum(self._weights.get(word, 1.0) for word in sorted(words & held)) / (total or 1.0)

    def of_sentence(self, place: int) -> float:
        return self.of(self._wanted, place)

    def nearness(self, clause: frozenset[str], place: int) -> float:
        """What units are compared by."""
        return self.of(clause, place) + _SENTENCE_WEIGHT * self.of_sentence(place)

    def near(self, words: frozenset[str]) -> list[int]:
        """Units that hold most of the words."""
        return [place for place in range(len(self._units)) if self.of(words, place) >= _OF_REACH]

    def enough(self, clause: frozenset[str]) -> frozenset[str]:
        """The clause, or the whole sentence where the clause is too short to tell."""
        return clause if len(clause) >= _FEW else self._wanted


def _denied_here(
    said: Polarity, units: Sequence[Polarity], denying: Sequence[int], shares: _Shares
) -> Iterator[tuple[str, float]]:
    """Words that the sentence denies and the nearest unit does not."""
    for denial in said.denials:
        clause = shares.enough(denial.clause)
        agreeing = {place for place in denying if _agrees(denial, units[place], said.stems)}
        agreed = max((shares.nearness(clause, place) for place in agreeing), default=0.0)
        against = [
            place
            for place, unit in enumerate(units)
            if place not in agreeing and denial.word in unit.stems and _asserts(denial, unit)
        ]
        against += [
            place
            for place in shares.near(denial.reach)
            if place not in agreeing and place not in against and len(denial.reach) >= _FEW_REACHED
        ]
        nearest = max(against, key=lambda place: shares.nearness(clause, place), default=None)
        if nearest is None or shares.nearness(clause, nearest) <= agreed:
            continue
        share = shares.of_sentence(nearest) * (_SUPPOSED if denial.supposed else 1.0)
        if shares.of(clause, nearest) >= _OF_CLAUSE and share >= _OF_SENTENCE:
            yield denial.word, share


def _denied_there(
    said: Polarity, units: Sequence[Polarity], denying: Sequence[int], shares: _Shares
) -> Iterator[tuple[str, float]]:
    """Words that the nearest unit denies and the sentence does not."""
    if said.elliptic:
        return
    against: dict[str, list[int]] = {}
    for place in denying:
        unit = units[place]
        for denial in unit.denials:
            if denial.word not in said.free or denial.word in unit.free:
                continue
            if any(_meet(own, denial) for own in said.denials) or (said.exclusive and denial.excludes):
                continue
            about = denial.clause if len(denial.clause) >= _FEW else unit.stems
            if len(about & said.stems) >= _OF_DENIAL * len(about):
                against.setdefault(denial.word, []).append(place)
    for word, places in against.items():
        clause = shares.enough(_NONE.union(*(one.stems for one in said.clauses if word in one.stems)))
        nearest = max(places, key=lambda place: shares.nearness(clause, place))
        agreed = max(
            (
                shares.nearness(clause, place)
                for place, unit in enumerate(units)
                if word in unit.free or (unit.elliptic and word in unit.stems)
            ),
            default=0.0,
        )
        share = shares.of_sentence(nearest)
        if (
            shares.nearness(clause, nearest) > agreed
            and shares.of(clause, nearest) >= _OF_CLAUSE
            and share >= _OF_SENTENCE
        ):
            yield word, share


def _agrees(denial: Denial, unit: Polarity, wanted: frozenset[str]) -> bool:
    """Whether a unit that denies something may well deny what the sentence does."""
    return unit.elliptic or any(
        bool(denial.reach & other.reach)
        or (other.word in denial.clause and denial.word in unit.stems)
        or (denial.word in other.clause and other.word in wanted)
        for other in unit.denials
    )


def _meet(one: Denial, other: Denial) -> bool:
    """Whether the first negation, of the sentence, may well deny what the other does."""
    return bool(one.reach & other.reach) or other.word in one.clause


def _asserts(denial: Denial, unit: Polarity) -> bool:
    """Whether a unit says the denied word without a negation. What it only supposes it does not say."""
    return any(
        denial.word in (clause.plain if denial.is_plain else clause.free)
        and (denial.supposed or not clause.supposed)
        for clause in unit.clauses
    )


def _pieces(sentence: str) -> Iterator[tuple[str, str]]:
    """The clauses, each with the word that leads into it."""
    begin, joint = 0, ""
    for match in _BOUNDARY.finditer(sentence):
        yield sentence[begin : match.start()], joint
        begin, joint = match.end(), (match["joint"] or "").lower()
    yield sentence[begin:], joint


def _between_negations(piece: str) -> tuple[list[str], list[str]]:
    """The negations, and what stands before the first and after each one."""
    found = list(_NEGATION.finditer(piece)) if _SIGN.search(piece) else []
    ends = [0, *(match.end() for match in found)]
    starts = [*(match.start() for match in found), len(piece)]
    parts = [piece[end:start] for end, start in zip(ends, starts, strict=True)]
    return [match.group() for match in found], parts


def _content(word: str) -> str:
    """The stem of a word that carries meaning, else nothing."""
    plain = word.lower()
    return "" if plain in STOPWORDS or plain in _CUES or _CONTRACTED.search(plain) else stem(plain)


def _stems(part: Sequence[tuple[str, str]]) -> frozenset[str]:
    return frozenset(found for _, found in part if found)

"""Whether texts state a fact: in its words, perhaps in other ones, or as another article does.

An article that the question set does not name may state a fact in the same relation as a gold one.

The same words can be the answer or a coincidence: "$9" is in many price lists. They are the answer where the
sentence or table cell around them speaks of what the gold article's sentence speaks of, and where not each
names something that the other one does not ("Home" and "Team"). On the demo's train and dev questions, which
the rule was made with, about one in ten of 91 accepted pairs was a coincidence, most of them facts of one
word. What is not accepted is left open: other words may still say the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from eval.matching import missing_facts, says
from serving.sentences import content_stems, sentences
from serving.spelling import tokens

Facts = tuple[tuple[str, ...], ...]

#: A fact of so many words may stand in an article in another order; a price or a name may not.
_REWORDED_FROM = 3
#: Share of the shorter of two places' words that both must have.
_SHARE = 0.5
#: Words that two places must have in common beside a value, beside a fact of one word, and beside a phrase.
_BESIDE_VALUE, _BESIDE_WORD, _BESIDE_PHRASE = 2, 3, 1
#: What stands between the label of a table row and its cells in canonical text, and between cells.
_ROW, _CELLS = " \u2014 ", "; "
_BULLET = re.compile(r"^(?:[-*\u2022#]+|\d+\.)\s+")
#: Capitalised in the middle of a sentence.
_NAME = re.compile(r"(?<![.!?:] )(?<!^)\b[A-Z][\w'-]+")
_UNITS = frozenset(
    (
        *("minute", "hour", "day", "week", "month", "year", "gb", "mb", "tb", "%", "working"),
        *("within", "a", "an", "of", "to", "per", "the", "at", "least", "up", "after", "in", "on", "by"),
    )
)


def missing_in(facts: Facts, texts: Iterable[str]) -> Facts:
    """The facts that none of the texts states."""
    whole = "\n\n".join(texts)
    return tuple(fact for fact in facts if missing_facts(whole, [fact]))


def perhaps_reworded(fact: Sequence[str], texts: Iterable[str]) -> bool:
    """Whether a line holds all words of a fact in another order."""
    wanted = [set(tokens(spelling)) for spelling in fact]
    lines = [set(tokens(line)) for text in texts for line in text.splitlines()]
    return any(len(words) >= _REWORDED_FROM and any(words <= line for line in lines) for words in wanted)


@dataclass(frozen=True, slots=True)
class Place:
    """A sentence or a table cell with its row's label, and the title of what it stands in."""

    text: str
    title: str


def places(text: str, title: str) -> Iterator[Place]:
    """Every place of a text; each cell of a table row is one."""
    for span in sentences(text):
        unit = _BULLET.sub("", text[span.start : span.end].strip())
        label, is_row, cells = unit.partition(_ROW)
        for piece in [f"{label}: {cell}" for cell in cells.split(_CELLS)] if is_row else [unit]:
            yield Place(piece, title)


def same_statement(
    fact: Sequence[str], here: Iterable[Place], gold: Iterable[Place], *, question: str
) -> Place | None:
    """The place here that states the fact as a gold place states it; None if there is none."""
    known = [place for place in gold if _states(place, fact)]
    return next(
        (
            place
            for place in here
            if _states(place, fact) and any(_alike(fact, place, other, question) for other in known)
        ),
        None,
    )


def _states(place: Place, fact: Sequence[str]) -> bool:
    return any(says(place.text, spelling) for spelling in fact)


def _alike(fact: Sequence[str], here: Place, gold: Place, question: str) -> bool:
    own = {stem for spelling in fact for stem in content_stems(spelling)}
    said, meant = set(content_stems(here.text)) - own, set(content_stems(gold.text)) - own
    around, wanted = said | set(content_stems(here.title)), meant | set(content_stems(gold.title))
    # Two titles alone say nothing of the two places.
    shared = (around & wanted & (said | meant)) - own
    if len(shared) < _least(fact) or len(shared) < _SHARE * min(len(said), len(meant)):
        return False
    lacking = _names(gold.text) - _words(f"{here.text} {here.title}")
    alien = _names(here.text) - _words(f"{gold.text} {gold.title} {question}")
    return not lacking & _words(question) and not (lacking and alien)


def _least(fact: Sequence[str]) -> int:
    """How many words must be shared: a phrase carries its relation, a value or a lone word does not."""
    words = [
        [
            token
            for token in tokens(spelling)
            if token not in _UNITS and not token.strip("$").replace(".", "").isdigit()
        ]
        for spelling in fact
    ]
    fewest = min(words, key=len)
    if not fewest:
        return _BESIDE_VALUE
    return _BESIDE_WORD if len(fewest) == 1 and len(tokens(fact[0])) == 1 else _BESIDE_PHRASE


def _names(text: str) -> set[str]:
    return {match[0].lower() for match in _NAME.finditer(text)}


def _words(text: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[\w'-]+", text)}

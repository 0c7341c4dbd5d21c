"""The short stretches of the passages that a sentence is read against by the entailment model.

A model that reads two texts together costs by the word, so it is shown the few stretches that share most
words with the sentence, rarer words first. Training and checking choose them by the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serving.prompting import Passage
from serving.reading import Reading, read
from serving.sentences import content_stems

#: Words of a window at most; one longer unit is taken alone.
WORDS = 60
#: Windows of one sentence at most.
MOST = 3
#: Words of the passage's title that stand before a window.
_TITLE_WORDS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A run of sentences of one passage, under its title."""

    #: Share of the sentence's weighted words that it holds, 0 to 1.
    overlap: float
    #: Place of the passage among those given.
    passage: int
    text: str


def evidence_windows(sentence: str, passages: Sequence[Passage], *, most: int = MOST) -> list[Window]:
    """The windows to read the sentence against, best overlap first; none where no passage has a text."""
    seen = read(passages)
    held, titles, total = _held(sentence, seen)
    found: list[tuple[float, int, int, int]] = []
    for number, (begin, end) in enumerate(seen.bounds):
        text = seen.passages[number].text
        lengths = [len(text[unit.start : unit.end].split()) for unit in seen.units[begin:end]]
        for first in range(begin, end):
            last, size, score = _longest(first, end, begin, lengths, held, titles[number])
            # Of equal ones that in which the words stand earlier, so that what follows them is seen too.
            found.append((score, -size, -first, last))
            if last == end - 1:
                break  # what follows is part of it
    return _apart(found, seen, total, most)


def _longest(
    first: int,
    end: int,
    begin: int,
    lengths: Sequence[int],
    held: Sequence[dict[str, float]],
    title: dict[str, float],
) -> tuple[int, int, float]:
    """The last unit, the words and the score of the window that begins with `first`."""
    words = dict(title)
    size, last = 0, first
    for place in range(first, end):
        if place > first and size + lengths[place - begin] > WORDS:
            break
        size += lengths[place - begin]
        words.update(held[place])
        last = place
    return last, size, round(sum(words.values()), 9)


def _held(sentence: str, seen: Reading) -> tuple[list[dict[str, float]], list[dict[str, float]], float]:
    """The sentence's words that each unit and each title holds, with their weights, and the weight of all."""
    held: list[dict[str, float]] = [{} for _ in seen.units]
    titles: list[dict[str, float]] = [{} for _ in seen.passages]
    total = 0.0
    for word in sorted(set(content_stems(sentence))):  # sums of floats depend on their order
        stands = seen.stems.get(word)
        weight = 1.0 / (1.0 + 0.1 * (len(stands.units) if stands else 0))
        total += weight
        if stands is None:
            continue
        for unit in stands.units:
            held[unit][word] = weight
        for passage in stands.titles:
            titles[passage][word] = weight
    return held, titles, total or 1.0


def _apart(
    found: Sequence[tuple[float, int, int, int]], seen: Reading, total: float, most: int
) -> list[Window]:
    """The best windows of which none has half of its units in a better one."""
    chosen: list[tuple[float, int, int]] = []
    for score, _, before, last in sorted(found, reverse=True):
        first = -before
        shared = (min(last, other_last) - max(first, other) + 1 for _, other, other_last in chosen)
        if any(2 * count > last - first + 1 for count in shared):
            continue
        chosen.append((score, first, last))
        if len(chosen) == most:
            break
    windows: list[Window] = []
    for score, first, last in chosen:
        number = next(n for n, (begin, end) in enumerate(seen.bounds) if begin <= first < end)
        passage = seen.passages[number]
        text = " ".join(passage.text[seen.units[first].start : seen.units[last].end].split())
        title = " ".join(passage.title.split()[:_TITLE_WORDS])
        windows.append(
            Window(
                overlap=min(1.0, score / total), passage=number, text=f"{title}: {text}" if title else text
            )
        )
    return windows

"""Rows that teach what not to do, made of rows that are there: abstain, keep to what is asked, take the
newest, obey no document, refuse.

Each holds only what its row proves. What cannot be made without inventing is not made, and counted. A made
row stands in the split of the row that it is made of, and uses passages, instructions and requests of that
split alone.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from serving.examples import Row
from serving.grounding import check_sentence
from serving.prompting import MAX_PASSAGES, Passage
from serving.sentences import content_stems, sentences
from serving.tuning.dataset_folder import SPLITS
from serving.tuning.likeness import Task
from serving.tuning.superseding import superseded
from serving.wording import Wording

MATERIAL = Path(__file__).parent / "negatives.yaml"
#: Passages of other rows that are looked at for a distractor; the closest to the question is the hardest.
_LOOKED_AT = 40
#: Share of a sentence's words below which no passage supports it.
_SHARED = 0.25
#: How often one request may be made, each time with other passages.
_TIMES = 3
#: Shares of instructions and requests that each split may use.
_OF_MATERIAL = {"train": 0.6, "valid": 0.2, "test": 0.2}


class Kind(StrEnum):
    """What a made row teaches."""

    UNANSWERABLE = "unanswerable"
    DISTRACTOR = "distractor"
    STALE = "stale"
    INJECTION = "injection"
    OUT_OF_POLICY = "out_of_policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Made rows of each kind, as a share of the rows that they are made of.

    Abstaining and refusing are always the same sentence: a small model falls back on it when they are many.
    """

    unanswerable: float = 0.1
    distractor: float = 0.15
    stale: float = 0.1
    injection: float = 0.05
    out_of_policy: float = 0.05


NO_NEGATIVES = Shares(unanswerable=0, distractor=0, stale=0, injection=0, out_of_policy=0)


@dataclass(slots=True, kw_only=True)
class Made:
    """The made rows of one split."""

    rows: list[Row] = field(default_factory=list)
    wanted: Counter[str] = field(default_factory=Counter)


class NegativeMaker:
    """Makes rows for one dataset. `accepts` is what every other row of it has passed."""

    def __init__(
        self, *, task: Task, wording: Wording, shares: Shares, seed: int, accepts: Callable[[Row], bool]
    ) -> None:
        self._task = task
        self._wording = wording
        self._shares = shares
        self._seed = seed
        self._accepts = accepts
        self._material = yaml.safe_load(MATERIAL.read_text(encoding="utf-8"))

    def make(self, split: str, rows: Sequence[Row]) -> Made:
        """The made rows of a split; fewer than wanted where its rows do not give them."""
        made = Made()
        ids = {row.id for row in rows}
        for kind in Kind:
            share = getattr(self._shares, kind.value)
            wanted = round(share * len(rows)) - sum(self._is_already(row, kind) for row in rows)
            if wanted <= 0:
                continue
            made.wanted[kind] = wanted
            draw = random.Random(f"{self._seed}:{split}:{kind}")
            for row in self._all(kind, split, rows, draw):
                if row.id not in ids and self._accepts(row):
                    ids.add(row.id)
                    made.rows.append(row)
                    wanted -= 1
                if not wanted:
                    break
        return made

    def _is_already(self, row: Row, kind: Kind) -> bool:
        if kind is Kind.UNANSWERABLE and row.wanted.get("answer") == self._wording.not_in_help_centre:
            return True
        return row.kind == kind

    def _all(self, kind: Kind, split: str, rows: Sequence[Row], draw: random.Random) -> Iterator[Row]:
        """Rows of a kind as long as there are some, in a drawn order."""
        sources = [row for row in rows if not row.kind]
        draw.shuffle(sources)
        if kind is Kind.OUT_OF_POLICY:
            yield from self._refused(split, sources, draw)
            return
        pool = [passage for row in rows for passage in row.passages]
        for row in sources:
            made = self._of(kind, row, pool, split, draw)
            if made is not None:
                yield replace(made, id=f"{row.id}/{kind}", kind=kind.value)

    def _of(
        self, kind: Kind, row: Row, pool: Sequence[Passage], split: str, draw: random.Random
    ) -> Row | None:
        if kind is Kind.INJECTION:
            return self._injected(row, self._share_of("instructions", split), draw)
        if not self._is_answered(row):
            return None
        if kind is Kind.UNANSWERABLE:
            return self._without_answer(row, pool, draw)
        if kind is Kind.DISTRACTOR:
            return self._distracted(row, pool, draw)
        return self._with_older(row, draw)

    # ---- kinds ---------------------------------------------------------------------------------------

    def _without_answer(self, row: Row, pool: Sequence[Passage], draw: random.Random) -> Row | None:
        """The passages that hold the answer taken out, so that it must abstain."""
        if row.wanted.get("escalate"):
            return None  # passed on for a reason that the question still gives
        cited = {passage.title for passage in row.passages if passage.n in row.wanted["citations"]}
        left = [
            passage
            for passage in row.passages
            if passage.title not in cited and not self._holds_answer(passage, row)
        ]
        more = self._distractors(row, pool, len(row.passages) - len(left), draw)
        left = [*left, *more]
        wanted = self._abstaining(row)
        if not left or not wanted:
            return None
        # Nothing that the answer was held to is left in it.
        return replace(row, passages=_numbered(left), wanted=wanted, required=(), stale_values=())

    def _distracted(self, row: Row, pool: Sequence[Passage], draw: random.Random) -> Row | None:
        """A passage of another row beside the right ones, in any order."""
        cited = [passage for passage in row.passages if passage.n in row.wanted["citations"]]
        others = [passage for passage in row.passages if passage not in cited]
        more = self._distractors(row, pool, 1, draw)
        if not more or len(cited) >= MAX_PASSAGES:
            return None
        return _shown(row, [*cited, *more, *others][:MAX_PASSAGES], draw)

    def _with_older(self, row: Row, draw: random.Random) -> Row | None:
        """An older version of the cited passage that says something else."""
        cited = [passage for passage in row.passages if passage.n in row.wanted["citations"]]
        if len(cited) != 1:
            return None
        others = [passage for passage in row.passages if passage not in cited]
        older = superseded(cited[0], str(row.wanted["answer"]), [p.text for p in others], draw)
        if older is None:
            return None
        return _shown(row, [*cited, replace(older, n=-1), *others][:MAX_PASSAGES], draw)

    def _injected(self, row: Row, instructions: Sequence[str], draw: random.Random) -> Row | None:
        """An instruction inside a passage; what is wanted stays what it was."""
        if not row.passages or not instructions:
            return None
        at = draw.randrange(len(row.passages))
        passage = row.passages[at]
        parts = passage.text.split("\n\n")
        parts.insert(draw.randint(0, len(parts)), draw.choice(list(instructions)))
        text = "\n\n".join(parts)
        spoilt = replace(passage, text=text, start=0, end=len(text))
        return replace(row, passages=(*row.passages[:at], spoilt, *row.passages[at + 1 :]))

    def _refused(self, split: str, sources: Sequence[Row], draw: random.Random) -> Iterator[Row]:
        """Requests that the desk does not answer, over passages that happen to be found."""
        if "answer" not in self._task.schema.get("properties", {}) or not sources:
            return
        requests = list(self._share_of("requests", split))
        for time in range(_TIMES):
            for request in draw.sample(requests, len(requests)):
                source = draw.choice(sources)
                about = {name: request[name] for name in ("intent",) if name in request}
                wanted = self._fixed(source.wanted, request["wording"], about)
                name = hashlib.sha256(request["text"].encode()).hexdigest()[:8]
                yield Row(
                    id=f"request-{name}/{split}-{time}",
                    question=request["text"],
                    passages=source.passages,
                    wanted=wanted,
                    task=source.task,
                    kind=Kind.OUT_OF_POLICY.value,
                    source=MATERIAL.name,
                )

    # ---- parts ---------------------------------------------------------------------------------------

    def _is_answered(self, row: Row) -> bool:
        """Whether the row answers out of its passages, and not by a fixed wording."""
        return (
            bool(row.wanted.get("citations"))
            and isinstance(row.wanted.get("answer"), str)
            and row.wanted["answer"] not in self._task.wordings
        )

    def _abstaining(self, row: Row) -> dict[str, Any]:
        return self._fixed(row.wanted, "not_in_help_centre", {})

    def _fixed(self, wanted: Mapping[str, Any], wording: str, about: Mapping[str, Any]) -> dict[str, Any]:
        """The wanted JSON with a fixed wording, and with the fields that go with it as far as the task has
        them."""
        given = {"answer": asdict(self._wording)[wording], **self._material["fields"][wording], **about}
        return {name: given.get(name, value) for name, value in wanted.items()}

    def _distractors(
        self, row: Row, pool: Sequence[Passage], count: int, draw: random.Random
    ) -> list[Passage]:
        """Passages of other articles that do not hold the answer, closest to the question first."""
        if count <= 0 or not pool:
            return []
        asked = set(content_stems(row.question))
        titles = {passage.title for passage in row.passages}
        looked_at = [draw.choice(pool) for _ in range(_LOOKED_AT)]
        closest = sorted(
            (passage for passage in looked_at if passage.title not in titles),
            key=lambda passage: (-len(asked & _stems(passage.text)), passage.title, passage.text),
        )
        found: list[Passage] = []
        for passage in closest:
            if passage.title not in {each.title for each in found} and not self._holds_answer(passage, row):
                found.append(replace(passage, n=-1 - len(found)))
            if len(found) == count:
                break
        return found

    def _holds_answer(self, passage: Passage, row: Row) -> bool:
        answer = str(row.wanted["answer"])
        for wording in self._task.wordings:
            answer = answer.replace(wording, "")
        there = _stems(f"{passage.title}\n{passage.text}")
        for span in sentences(answer):
            sentence = answer[span.start : span.end].strip()
            words = _stems(sentence)
            # The check itself takes long, and most passages are about something else.
            if len(words & there) < _SHARED * len(words) or not words:
                continue
            found = check_sentence(sentence, [passage])
            if found.is_claim and found.supported:
                return True
        return False

    def _share_of(self, name: str, split: str) -> Sequence[Any]:
        """The part of the material that a split may use: the others never show it."""
        items = list(self._material[name])
        random.Random(f"{self._seed}:{name}").shuffle(items)
        begin = sum(_OF_MATERIAL[each] for each in SPLITS[: SPLITS.index(split)])
        return items[round(begin * len(items)) : round((begin + _OF_MATERIAL[split]) * len(items))]


@lru_cache(maxsize=1 << 15)
def _stems(text: str) -> frozenset[str]:
    return frozenset(content_stems(text))


def _numbered(passages: Sequence[Passage]) -> tuple[Passage, ...]:
    return tuple(replace(passage, n=n) for n, passage in enumerate(passages, 1))


def _shown(row: Row, passages: Sequence[Passage], draw: random.Random) -> Row:
    """The row with these passages in a drawn order, its citations on the same ones as before."""
    order = list(passages)
    draw.shuffle(order)
    number = {passage.n: n for n, passage in enumerate(order, 1)}
    citations = sorted(number[n] for n in row.wanted["citations"])
    wanted = {name: citations if name == "citations" else value for name, value in row.wanted.items()}
    return replace(row, passages=_numbered(order), wanted=wanted)

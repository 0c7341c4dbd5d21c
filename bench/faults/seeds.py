"""The faults: what each puts where, on which questions, and the label that it must get.

A seed is one way to go wrong; on one question it is one fault. Mixed seeds put in two at a time, of which the
one that comes first on the way of a question must be primary and the other contributing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eval.cases import Case
from eval.labelling.labels import Label
from eval.matching import stale_values_in

#: The place that a seed leaves as it is.
SOUND, STABLE, PLAIN, HITS = "sound", "stable", "plain", 8


def _answered(case: Case) -> bool:
    return case.status == "answered" and bool(case.facts)


def _of_customer(case: Case) -> bool:
    return _answered(case) and case.asker == "customer"


def _unprompted(case: Case) -> bool:
    """The question itself, which the threads repeat, states no superseded value."""
    return _answered(case) and not stale_values_in(case.text, case.stale_values)


def _superseded(case: Case) -> bool:
    return _answered(case) and bool(case.stale_values)


def _several_facts(case: Case) -> bool:
    return _answered(case) and len(case.vital_facts) > 1


def _numbered(case: Case) -> bool:
    return _answered(case) and any(character.isdigit() for fact in case.vital_facts for character in fact[0])


def _unanswerable(case: Case) -> bool:
    return case.kind == "unanswerable"


def _forbidden(case: Case) -> bool:
    """What only staff may know, asked by a customer."""
    return case.kind == "internal" and case.status == "abstained"


def _escalated(case: Case) -> bool:
    return case.status == "escalated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """A way to go wrong."""

    name: str
    label: Label
    #: The second label of a mixed seed.
    contributing: Label | None = None
    #: Where it is put: documents, index, hits that the gateway takes, model.
    world: str = SOUND
    index: str = STABLE
    hits: int = HITS
    #: The publish that is searched; None: the last.
    snapshot: int | None = None
    writing: str = PLAIN
    #: Questions on which it can be put in.
    asks: Callable[[Case], bool] = _answered
    take: int = 12
    #: Beyond what the checks claim to see: shown apart.
    hard: bool = False

    @property
    def is_grounded(self) -> bool:
        """Whether it changes what the model is shown."""
        return (self.world, self.index, self.hits) != (SOUND, STABLE, HITS)

    @property
    def is_written(self) -> bool:
        """Whether it changes what the model makes of it."""
        return self.writing != PLAIN

    def choose(self, cases: Sequence[Case], most: int | None = None) -> list[Case]:
        """Questions for it: the same ones each time, others for each seed."""
        fitting = [case for case in cases if self.asks(case)]
        fitting.sort(key=lambda case: hashlib.sha256(f"{self.name} {case.id}".encode()).digest())
        return fitting[: min(self.take, most or self.take)]


#: What everything else is set against.
NO_FAULT = Seed(name="no-fault", label=Label.UNDETERMINED)


def _seeds(label: Label, *seeds: tuple[str, dict[str, Any]]) -> list[Seed]:
    return [Seed(name=name, label=label, **given) for name, given in seeds]


def _written(label: Label, *writings: str, take: int = 8, **given: Any) -> list[Seed]:
    return _seeds(label, *((name, {"writing": name, "take": take, **given}) for name in writings))


SEEDS: tuple[Seed, ...] = (
    *_seeds(
        Label.MISSING_KNOWLEDGE,
        ("removed", {"world": "removed", "take": 16}),
        ("taken-down", {"world": "taken-down", "take": 10}),
        ("fact-deleted", {"world": "fact-deleted", "take": 20}),
    ),
    *_seeds(
        Label.STALE_KNOWLEDGE,
        ("not-ingested", {"world": "not-ingested", "asks": _superseded}),
        ("not-synced", {"world": "not-synced", "asks": _superseded}),
        ("behind", {"world": "behind", "snapshot": 1, "asks": _superseded, "take": 8}),
        ("put-back", {"world": "put-back", "asks": _superseded, "take": 8}),
        ("dated-ahead", {"world": "dated-ahead"}),
        ("expired", {"world": "expired"}),
        ("prefer-outdated", {"world": "both-live", "writing": "prefer-outdated", "asks": _superseded}),
    ),
    *_seeds(
        Label.WRONG_RETRIEVAL,
        ("noise-vectors", {"index": "noise-vectors", "take": 12}),
        ("small-chunks", {"index": "small-chunks", "take": 16}),
        ("words-alone", {"index": "words-alone", "take": 60}),
        ("one-hit", {"hits": 1, "take": 40}),
        ("hidden", {"world": "hidden", "take": 12, "asks": _of_customer}),
        ("flooded", {"world": "flooded", "asks": _unprompted, "take": 12}),
    ),
    *_written(Label.HALLUCINATION, "change-number", asks=_numbered, take=16),
    *_written(Label.HALLUCINATION, "add-claim", "add-name"),
    *_written(Label.HALLUCINATION, "guess", asks=_unanswerable, take=12),
    *_written(
        Label.BAD_FORMAT, "drop-field", "unknown-intent", "break-json", "fence", "prose", "cut-short", take=6
    ),
    *_written(Label.WRONG_TONE, "exclaim", "regret", "greet", "apologise", "note", "decorate", take=6),
    *_written(Label.WEAK_REASONING, "over-abstain", take=14),
    *_written(Label.WEAK_REASONING, "wrong-passage", take=16),
    *_written(Label.WEAK_REASONING, "half-answer", asks=_several_facts, take=24),
    *_written(Label.POLICY_VIOLATION, "promise-refund", "promise-outcome", "give-address"),
    *_written(Label.POLICY_VIOLATION, "leak", asks=_of_customer),
    *_seeds(Label.POLICY_VIOLATION, ("leak-when-asked", {"writing": "leak", "asks": _forbidden, "take": 7})),
    *_written(Label.POLICY_VIOLATION, "keep-from-people", asks=_escalated, take=12),
)


def _mixed(name: str, first: Label, second: Label, **given: Any) -> Seed:
    return Seed(name=name, label=first, contributing=second, **{"take": 8, **given})


MIXED: tuple[Seed, ...] = (
    _mixed("removed+guess", Label.MISSING_KNOWLEDGE, Label.HALLUCINATION, world="removed", writing="guess"),
    _mixed("expired+guess", Label.STALE_KNOWLEDGE, Label.HALLUCINATION, world="expired", writing="guess"),
    _mixed(
        "not-ingested+regret",
        Label.STALE_KNOWLEDGE,
        Label.WRONG_TONE,
        world="not-ingested",
        writing="regret",
        asks=_superseded,
    ),
    _mixed(
        "flooded+guess",
        Label.WRONG_RETRIEVAL,
        Label.HALLUCINATION,
        world="flooded",
        writing="guess",
        asks=_unprompted,
    ),
    _mixed(
        "flooded+regret",
        Label.WRONG_RETRIEVAL,
        Label.WRONG_TONE,
        world="flooded",
        writing="regret",
        asks=_unprompted,
    ),
    _mixed(
        "change-number+exclaim",
        Label.HALLUCINATION,
        Label.WRONG_TONE,
        writing="change-number+exclaim",
        asks=_numbered,
    ),
    _mixed(
        "half-answer+regret",
        Label.WEAK_REASONING,
        Label.WRONG_TONE,
        writing="half-answer+regret",
        asks=_several_facts,
    ),
    _mixed("add-claim+drop-field", Label.BAD_FORMAT, Label.HALLUCINATION, writing="add-claim+drop-field"),
    _mixed(
        "keep-from-people+exclaim",
        Label.POLICY_VIOLATION,
        Label.WRONG_TONE,
        writing="keep-from-people+exclaim",
        asks=_escalated,
    ),
)

#: Not in the figure: the contrary in the words of the right answer, of which the checks see a part only.
HARD: tuple[Seed, ...] = (Seed(name="deny", label=Label.HALLUCINATION, writing="deny", take=30, hard=True),)

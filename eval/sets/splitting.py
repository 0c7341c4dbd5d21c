"""Splits of a set: one to look at, one for gates, one that stays shut until a decision.

Clusters stay whole, and so do questions that are nearly the same: who has seen one has seen the other.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.errors import CaseFileError, NotEnoughQuestionsError
from eval.sets.clustering import tied
from eval.sets.freezing import NONE
from eval.sets.questions import Question, Split
from serving.similarity import near_duplicates

SHARES: Mapping[Split, float] = {"dev": 0.4, "gate": 0.4, "holdout": 0.2}
_QUOTED = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Two questions that are in different splits and must not be."""

    first: Question
    second: Question
    #: 1 for the same words; None: another question of the same cluster.
    score: float | None

    def sentence(self) -> str:
        """The pair in words."""
        first, second = self.first, self.second
        places = f"{first.id!r} ({first.split}) and {second.id!r} ({second.split})"
        if self.score is None:
            return f"{places} are of one cluster, {first.cluster!r}"
        texts = f"{first.text[:_QUOTED]!r} and {second.text[:_QUOTED]!r}"
        return f"{places} are nearly the same question ({self.score:.2f}): {texts}"


def split_questions(
    questions: Sequence[Question],
    *,
    shares: Mapping[Split, float] = SHARES,
    seed: int,
    again: bool = False,
) -> tuple[Question, ...]:
    """The questions with a split each, drawn by cluster so that every split gets its share of every status.

    A split that is there stays, unless it is drawn `again`; `train` stays always: somebody has trained on it.
    """
    bound = tied(_clusters(questions), near_duplicates([question.text for question in questions]))
    members: defaultdict[int, list[Question]] = defaultdict(list)
    for leader, question in zip(bound, questions, strict=True):
        members[leader].append(question)
    chosen: dict[int, Split] = {}
    for leader, group in members.items():
        kept = [each.split for each in group if each.split and (each.split == "train" or not again)]
        if kept:
            chosen[leader] = kept[0]
    free = [leader for leader in members if leader not in chosen]
    _draw(free, members, chosen, shares, random.Random(seed))
    return tuple(
        question
        if question.split and (question.split == "train" or not again)
        else question.model_copy(update={"split": chosen[leader]})
        for leader, question in zip(bound, questions, strict=True)
    )


def _draw(
    free: list[int],
    members: Mapping[int, Sequence[Question]],
    chosen: dict[int, Split],
    shares: Mapping[Split, float],
    draw: random.Random,
) -> None:
    """Large groups first, each to the split that lacks most of what the group has."""
    statuses = {leader: Counter(each.status or NONE for each in members[leader]) for leader in members}
    drawn = [leader for leader in members if chosen.get(leader) != "train"]
    total = sum((statuses[leader] for leader in drawn), Counter[str]())
    whole = sum(shares.values())
    have: dict[Split, Counter[str]] = {split: Counter() for split in shares}
    for leader, split in chosen.items():
        if split in have:
            have[split] += statuses[leader]
    draw.shuffle(free)
    free.sort(key=lambda leader: -len(members[leader]))
    for leader in free:

        def lack(split: Split, group: Counter[str] = statuses[leader]) -> float:
            wanted = shares[split] / whole
            return sum(
                n * (1 - have[split][status] / (wanted * total[status])) for status, n in group.items()
            )

        best = max(shares, key=lack)
        chosen[leader] = best
        have[best] += statuses[leader]


def find_leaks(questions: Sequence[Question]) -> list[Leak]:
    """Pairs across splits: nearly the same question first, then clusters that are torn apart."""
    placed = [question for question in questions if question.split]
    leaks = [
        Leak(first=placed[pair.first], second=placed[pair.second], score=pair.score)
        for pair in near_duplicates([question.text for question in placed])
        if placed[pair.first].split != placed[pair.second].split
    ]
    first_of: dict[str, Question] = {}
    for question in placed:
        first = first_of.setdefault(question.cluster or question.id, question)
        if first.split != question.split:
            leaks.append(Leak(first=first, second=question, score=None))
    return leaks


def require_no_leak(file: Path, questions: Sequence[Question]) -> None:
    """Refuse splits that share a question or a cluster."""
    leaks = find_leaks(questions)
    if leaks:
        more = f" (and {len(leaks) - 1} pairs more)" if len(leaks) > 1 else ""
        raise CaseFileError(
            file=file,
            field="split",
            what=leaks[0].sentence() + more,
            fix="put both into one split or drop one, or draw the splits with `twinrail eval split --again`",
        )


def require_enough(file: Path, questions: Sequence[Question], *, fewest: int) -> None:
    """Refuse a set on which nothing can be decided."""
    if len(questions) < fewest:
        raise NotEnoughQuestionsError(
            f"{file}: {len(questions)} questions, and nothing can be decided on fewer than {fewest} "
            "(EVAL_MIN_QUESTIONS); import more, or propose some with `twinrail eval draft`"
        )


def require_filled(file: Path, questions: Sequence[Question], shares: Mapping[Split, float]) -> None:
    """Refuse splits of which one is empty, for want of clusters."""
    there = {question.split for question in questions}
    if empty := [split for split in shares if split not in there]:
        clusters = len(set(_clusters(questions)))
        raise NotEnoughQuestionsError(
            f"{file}: nothing is left for {', '.join(empty)}, because {clusters} clusters stay whole and "
            "what has a split keeps it; draw all but train with --again, import questions on "
            "other topics, or ask for fewer splits with --shares"
        )


def _clusters(questions: Sequence[Question]) -> list[str]:
    return [question.cluster or question.id for question in questions]

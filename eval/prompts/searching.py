"""Tries prompts on a running gateway: one round on all, then twice the questions for the better half.

At the end the best is asked beside the prompt that there was, on questions that took no part in the choice:
the best of many on a few questions looks better than it is. Stopped at any moment, the same call goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TextIO

from eval.arms import Arm
from eval.cases import Case, CaseSet
from eval.errors import PromptSearchError
from eval.metrics import METRICS
from eval.observations import Observation
from eval.prompts.grid import CURRENT
from eval.prompts.halving import Round, Standing, ranked, rounds_of, standing_of, ties_at_the_cut
from eval.prompts.record import Confirmed, RoundDone, SearchFolder, SearchRecord
from eval.record import RunData, RunFolder
from eval.run import Gateway, duration, measure, plan
from eval.scorers import Outcome, Scoring
from eval.stats import mean
from eval.summary import compare, score_all

_METRIC = {metric.name: metric for metric in METRICS}

#: Answers of one prompt with their outcomes.
_Answers = list[tuple[Observation, Mapping[str, Outcome]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One search at work."""

    folder: SearchFolder
    cases: Mapping[str, Case]
    gateway: Gateway
    scoring: Scoring
    concurrency: int
    resamples: int
    out: TextIO

    async def run(self) -> SearchRecord:
        """Ask what is still to be asked, and give back the finished record."""
        record = self.folder.read()
        stages = stages_of(record)
        answers: dict[str, _Answers] = {each.name: [] for each in record.candidates}
        for number, stage in enumerate(stages, start=1):
            data = await self._round(record, number, stage)
            _add(answers, data, self.scoring)
            if number > len(record.rounds):
                record = _after(record, stage, answers, last=number == len(stages))
                self.folder.save(record)
        if not record.complete:
            confirmed = await self._confirmed(record) if record.best != CURRENT else None
            record = replace(record, confirmed=confirmed, complete=True)
            self.folder.save(record)
        return record

    async def _round(self, record: SearchRecord, number: int, stage: Round) -> RunData:
        run = self.folder.round(number)
        if number <= len(record.rounds):
            return run.read()
        kept = record.rounds[-1].kept if record.rounds else _tried(record)
        done = record.rounds[-1].questions if record.rounds else 0
        asked = record.questions[done : stage.questions]
        self._say(record, f"round {number}: {len(kept)} prompts and {CURRENT} on {len(asked)} questions more")
        return await self._ask(run, record, (CURRENT, *kept), asked)

    async def _confirmed(self, record: SearchRecord) -> Confirmed | None:
        done = record.rounds[-1].questions
        fresh = record.questions[done : done + record.confirm]
        if not fresh:
            return None
        self._say(record, f"{record.best} and {CURRENT} on {len(fresh)} questions that no prompt has seen")
        data = await self._ask(self.folder.confirmation(), record, (CURRENT, record.best), fresh)
        answers: dict[str, _Answers] = {CURRENT: [], record.best: []}
        _add(answers, data, self.scoring)
        outcomes = score_all(data, self.scoring)
        metric = _METRIC[record.objective]
        found = compare(
            metric,
            (CURRENT, outcomes),
            (record.best, outcomes),
            data.cases,
            resamples=self.resamples,
            seed=record.seed,
        )
        before, after = (
            standing_of(name, answers[name], objective=record.objective) for name in (CURRENT, record.best)
        )
        # Of a metric of mistakes fewer is more right.
        sign = 1 if metric.higher_is_better else -1
        interval = found.interval if found else None
        low, high = sorted((sign * interval.low, sign * interval.high)) if interval else (None, None)
        return Confirmed(
            questions=len(fresh),
            current=before,
            best=after,
            difference=sign * found.difference if found else None,
            low=low,
            high=high,
            p=found.test.p if found else None,
            sentence=found.sentence() if found else "No question has a score in both: nothing is shown.",
        )

    async def _ask(
        self, run: RunFolder, record: SearchRecord, names: Sequence[str], questions: Sequence[str]
    ) -> RunData:
        if not run.exists:
            cases = CaseSet.of(record.question_set, [self.cases[each] for each in questions])
            arms = [arm_with(record, name) for name in names]
            run.create(
                plan(
                    run_id=f"{self.folder.path.name}-{run.path.name}",
                    gateway_url=record.gateway_url,
                    cases=cases,
                    selection={"prompt_search": self.folder.path.name, "objective": record.objective},
                    requested=arms,
                    arms=arms,
                    stable_knowledge=record.knowledge,
                ),
                cases,
            )
        return await measure(run, self.gateway, concurrency=self.concurrency, out=self.out)

    def _say(self, record: SearchRecord, what: str) -> None:
        taken = [
            seen.wall_ms
            for number in range(1, len(record.rounds) + 1)
            for seen in self.folder.round(number).read().observations.values()
            if not seen.failed
        ]
        left = answers_left(record)
        time = f", {duration(mean(taken) / 1000 * left / self.concurrency)} left" if taken else ""
        self.out.write(f"twinrail eval prompts: {what}; {left} answers to go at most{time}\n")


def stages_of(record: SearchRecord) -> tuple[Round, ...]:
    """The rounds of a search. Questions of the confirmation are kept out of them."""
    most = max(len(record.questions) - record.confirm, min(record.first, len(record.questions)))
    return rounds_of(len(_tried(record)), first=record.first, most=most)


def answers_left(record: SearchRecord) -> int:
    """How many answers a search still asks for, the current prompt's and the confirmation's too."""
    stages = stages_of(record)
    before = [Round(questions=0, prompts=0, kept=0), *stages]
    asked = [
        (stage.prompts + 1) * (stage.questions - earlier.questions) for earlier, stage in pairwise(before)
    ]
    fresh = min(record.confirm, len(record.questions) - stages[-1].questions)
    return sum(asked[len(record.rounds) :]) + 2 * fresh


def arm_with(record: SearchRecord, name: str) -> Arm:
    """The arm of a search with one of its prompts."""
    pin = replace(record.arm.pin, prompt=record.candidate(name).prompt)
    return replace(record.arm, name=name, pin=pin)


def _tried(record: SearchRecord) -> tuple[str, ...]:
    return tuple(each.name for each in record.candidates if each.name != CURRENT)


def _add(answers: dict[str, _Answers], data: RunData, scoring: Scoring) -> None:
    outcomes = score_all(data, scoring)
    for key, seen in sorted(data.observations.items()):
        answers[seen.arm].append((seen, outcomes.get(key, {})))


def _after(
    record: SearchRecord, stage: Round, answers: Mapping[str, _Answers], *, last: bool
) -> SearchRecord:
    """The record with one more round. The current prompt is never dropped, and wins a tie."""
    names = record.rounds[-1].kept if record.rounds else _tried(record)
    current, *tried = (
        standing_of(name, answers[name], objective=record.objective) for name in (CURRENT, *names)
    )
    order = ranked(tried)
    best = _best(current, order[0])
    kept = tuple(each.name for each in order[: stage.kept] if not each.lost) or (order[0].name,)
    done = RoundDone(
        questions=stage.questions,
        standings=ranked((current, *order)),
        kept=kept,
        tie=ties_at_the_cut(order, stage.kept),
    )
    record = replace(record, rounds=(*record.rounds, done))
    return replace(record, best=best.name) if last else record


def _best(current: Standing, tried: Standing) -> Standing:
    best = ranked((current, tried))[0]
    if best.lost or best.share is None:
        raise PromptSearchError(
            f"no prompt has an answer with a score ({best.lost or 'the objective applies to no question'}); "
            "mend that (`twinrail status`) and search in a new folder, or choose another --objective"
        )
    return best

"""Asks every question in every arm, keeps each answer as it comes, and goes on where it stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO

from eval.arms import Arm
from eval.cases import Case, CaseSet
from eval.errors import EvalError
from eval.observations import Observation, Ranking
from eval.provenance import provenance
from eval.record import RunData, RunFolder, RunRecord

#: Hits asked of a search: enough chunks for ten different documents.
SEARCH_DEPTH = 30


class Gateway(Protocol):
    """What a run needs of a gateway."""

    @property
    def askers(self) -> frozenset[str]:
        """Whose questions can be asked."""
        ...

    async def answer(self, case: Case, arm: Arm) -> Observation:
        """One question in one arm."""
        ...

    async def search(self, case: Case, knowledge: str, *, depth: int) -> Ranking:
        """One question on one knowledge version."""
        ...


@dataclass(kw_only=True)
class Progress:
    """One line: how far, how fast, how long still. Overwritten on a terminal, now and then elsewhere."""

    out: TextIO
    total: int
    done: int = 0
    failed: int = 0
    skipped: int = 0
    clock: Callable[[], float] = time.monotonic
    every_s: float = 15.0

    def __post_init__(self) -> None:
        self._began = self.clock()
        self._shown_at = float("-inf")
        self._live = self.out.isatty()

    def step(self, *, failed: bool) -> None:
        """One answer or search more."""
        self.done += 1
        self.failed += failed
        last = self.done + self.skipped == self.total
        if self._live or last or self.clock() - self._shown_at >= self.every_s:
            self._shown_at = self.clock()
            self.out.write(f"\r{self.line()}\x1b[K" if self._live else f"{self.line()}\n")
            self.out.flush()

    def line(self) -> str:
        """The progress in words."""
        elapsed = max(self.clock() - self._began, 1e-9)
        rate = self.done / elapsed
        left = self.total - self.skipped - self.done
        parts = [
            f"{self.done + self.skipped}/{self.total}",
            f"{rate:.2f}/s",
            f"{duration(left / rate)} left",
        ]
        if self.failed:
            parts.append(f"{self.failed} failed")
        return "eval: " + ", ".join(parts)

    def close(self) -> None:
        """Leave the last line standing."""
        if self._live and self.done:
            self.out.write("\n")
            self.out.flush()


def duration(seconds: float) -> str:
    """A time in words, to the second."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


async def measure(
    folder: RunFolder,
    gateway: Gateway,
    *,
    concurrency: int,
    out: TextIO,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> RunData:
    """Ask what is still missing, and answers that failed once more; then give back the whole run.

    The record gets a session entry even when this is interrupted or the gateway goes away.
    """
    data = folder.read()
    jobs = tuple(_missing(data, gateway, folder))
    total = _total(data, gateway)
    progress = Progress(out=out, total=total, skipped=total - len(jobs))
    session: dict[str, Any] = {
        "started": now().isoformat(timespec="seconds"),
        "asked": len(jobs),
        "ended": None,
        "outcome": "interrupted",
        **provenance(),
    }
    record = replace(data.record, sessions=(*data.record.sessions, session))
    folder.save(record)
    try:
        await drain(jobs, workers=concurrency, progress=progress)
        session["outcome"] = "complete"
    except EvalError as exc:
        session["outcome"] = f"stopped: {exc}"
        raise
    finally:
        progress.close()
        session["ended"] = now().isoformat(timespec="seconds")
        folder.save(record)
    return folder.read()


#: Does its work, keeps the result and says whether that is a failure.
Job = Callable[[], Awaitable[bool]]


def _total(data: RunData, gateway: Gateway) -> int:
    asked = [case for case in data.cases if case.asker in gateway.askers]
    searched = sum(case.passages is None for case in asked)
    return len(asked) * len(data.record.arms) * data.record.repeats + searched * len(data.record.knowledge)


def _missing(data: RunData, gateway: Gateway, folder: RunFolder) -> Iterator[Job]:
    """Question by question through all arms, so that an interrupted run still holds comparable pairs.

    Repeats come after everything was asked once: what metrics count is whole first.
    """
    cases = [case for case in data.cases if case.asker in gateway.askers]
    for repeat in range(data.record.repeats):
        for case in cases:
            # What comes with its passages is searched for nowhere.
            for knowledge in data.record.knowledge if repeat == 0 and case.passages is None else ():
                ranking = data.rankings.get((case.id, knowledge))
                if ranking is None or ranking.error:
                    yield _search_job(case, knowledge, gateway, folder)
            for arm in data.record.arms:
                seen = data.seen(case.id, arm.name, repeat)
                if seen is None or seen.failed:
                    yield _answer_job(case, arm, repeat, gateway, folder)


def _search_job(case: Case, knowledge: str, gateway: Gateway, folder: RunFolder) -> Job:
    async def job() -> bool:
        ranking = await gateway.search(case, knowledge, depth=SEARCH_DEPTH)
        folder.add_ranking(ranking)
        return bool(ranking.error)

    return job


def _answer_job(case: Case, arm: Arm, repeat: int, gateway: Gateway, folder: RunFolder) -> Job:
    async def job() -> bool:
        observation = replace(await gateway.answer(case, arm), repeat=repeat)
        folder.add_observation(observation)
        return observation.failed

    return job


async def drain(jobs: Sequence[Job], *, workers: int, progress: Progress) -> None:
    """Work through the jobs in order, a few at a time; the first error that ends the run stops all."""
    waiting = iter(jobs)

    async def work() -> None:
        for job in waiting:
            progress.step(failed=await job())

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())
    except* EvalError as stopped:
        first: BaseException = stopped
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


def plan(
    *,
    run_id: str,
    gateway_url: str,
    cases: CaseSet,
    selection: Mapping[str, Any],
    requested: Sequence[Arm],
    arms: Sequence[Arm],
    stable_knowledge: str | None,
    prompts: Mapping[str, str] | None = None,
    repeats: int = 1,
) -> RunRecord:
    """The record of a run that has not begun. Each knowledge version is searched once, not once per arm.

    `prompts` is the digest of the prompt of each model version, as the gateway tells it.
    """
    pinned = [arm.pin.knowledge for arm in arms if arm.pin.knowledge]
    models = {arm.pin.model for arm in arms}
    searched = pinned or ([stable_knowledge] if stable_knowledge else [])
    return RunRecord(
        id=run_id,
        gateway_url=gateway_url,
        question_set=cases.name,
        question_set_sha256=cases.sha256,
        selection=selection,
        requested_arms=tuple(requested),
        arms=tuple(arms),
        knowledge=tuple(dict.fromkeys(searched)),
        prompts={model: digest for model, digest in (prompts or {}).items() if model in models},
        repeats=repeats,
    )

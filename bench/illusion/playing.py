"""Plays a case from the first run to the last comparison, by what the commands of the product print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.eval_advice import commonest_label, most_failures
from bench.faults.suite import DEMO
from bench.illusion.cases import Fix, IllusionCase
from bench.illusion.commands import Commands
from bench.illusion.stage import Stage
from eval.advice.loading import read_logs
from eval.record import RunFolder

LIVE = "live"
_TEAM = DEMO / "team.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A fix that was tried, and what the same questions say of it."""

    role: str
    title: str
    #: The metric before and after, each as k and n.
    before: tuple[int, int]
    after: tuple[int, int]
    #: After minus before as a share of the questions that both answered, with its interval over topics.
    difference: float | None
    interval: tuple[float, float] | None
    #: Whether the questions tell before and after apart.
    resolved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A case with everything that the page shows of it."""

    name: str
    title: str
    ground: str
    looks_like: str
    expected: str
    verdict: str
    sentence: str
    order: tuple[str, ...]
    missing: int | None
    #: Rules that people use instead.
    rules: Mapping[str, str]
    questions: int
    topics: int
    labels: Mapping[str, int]
    metric: str
    metric_title: str
    higher_is_better: bool
    tried: tuple[Tried, ...]
    #: The right fix against the wrong one.
    right_over_wrong: Tried | None
    commands: tuple[str, ...]

    @property
    def as_expected(self) -> bool:
        """Whether the advice is the right one."""
        return self.verdict == self.expected

    def shown_better(self, tried: Tried | None) -> bool:
        """Whether the questions show that it helped."""
        if tried is None or tried.difference is None or not tried.resolved:
            return False
        return (tried.difference > 0) == self.higher_is_better


@dataclass(slots=True)
class Comparing:
    """Reads the headline of one case from reports and comparisons."""

    commands: Commands
    metric: str

    async def tried(
        self,
        role: str,
        title: str,
        before: tuple[str, str],
        after: tuple[str, str],
        reports: Mapping[str, Any],
    ) -> Tried:
        """One pair of RUN and arm."""
        said = await self.commands.compare(before, after)
        row = next((row for row in said.content if row["metric"] == self.metric), None)
        return Tried(
            role=role,
            title=title,
            before=self._of(reports[before[0]], before[1]),
            after=self._of(reports[after[0]], after[1]),
            difference=None if row is None else round(row["difference"], 4),
            interval=None if row is None or row["interval"] is None else _rounded(row["interval"]),
            # Fewer questions than the product asks for show nothing, whatever the test says.
            resolved=row is not None and row["resolved"] and not said.thin,
        )

    def _of(self, report: Mapping[str, Any], arm: str) -> tuple[int, int]:
        figure = report["arms"][arm]["metrics"][self.metric]
        return figure["k"], figure["n"]


async def play(case: IllusionCase, stage: Stage) -> Played:
    """Run, label, advise; then each fix, the same questions again, and what has changed."""
    commands = await stage.commands(case.live.world)
    asked = await stage.questions(case.ask, case.limit)
    before = f"{case.name}-before"
    arms = [
        await stage.arm(LIVE, case.live),
        *[await stage.arm(model, replace(case.live, model=model)) for model in case.prompts],
        *([await stage.arm("oracle", case.live, oracle=True)] if case.oracle else []),
    ]
    reports = {before: (await commands.ask(before, asked, arms)).content}
    stage.asked[asked, arms[0], case.live.world] = before
    labels = (await commands.label(before)).content
    team = write_team(stage.folder / f"{case.name}.toml", case.tried)
    advice = (await commands.advise(before, team)).content
    comparing = Comparing(commands, case.metric)
    tried: list[Tried] = []
    runs: dict[str, str] = {}
    for role, fix in _fixes(case):
        if fix.publish:
            await stage.publish(case.live.world, fix.publish)
        arm = await stage.arm(LIVE, fix.then)
        # The same arm was perhaps asked the same questions by a case before: once is enough.
        known = None if fix.publish else stage.asked.get((asked, arm, fix.then.world))
        run = known or f"{case.name}-{role}"
        said = await (commands.score(run) if known else commands.ask(run, asked, [arm]))
        reports[run], runs[role] = said.content, run
        stage.asked[asked, arm, fix.then.world] = run
        tried.append(await comparing.tried(role, fix.title, (before, LIVE), (run, LIVE), reports))
    versus = await comparing.tried(
        "versus", case.right.title, (runs["wrong"], LIVE), (runs["right"], LIVE), reports
    )
    return played(
        case,
        folder=stage.folder / before,
        report=reports[before],
        labels=labels,
        advice=advice,
        tried=tuple(tried),
        versus=versus,
        commands=commands,
    )


def played(
    case: IllusionCase,
    *,
    folder: Path,
    report: Mapping[str, Any],
    labels: Mapping[str, Any],
    advice: Mapping[str, Any],
    tried: tuple[Tried, ...],
    versus: Tried | None,
    commands: Commands,
    arm: str = LIVE,
) -> Played:
    """Everything in one place."""
    logs = read_logs(RunFolder(folder))
    figure = report["arms"][arm]["metrics"][case.metric]
    return Played(
        name=case.name,
        title=case.title,
        ground=case.ground,
        looks_like=case.looks_like,
        expected=case.verdict,
        verdict=advice["verdict"],
        sentence=advice["sentence"],
        order=tuple(f"{step['title']} ({step['when']})" for step in advice["order"]),
        missing=advice["power"]["missing"],
        rules={"commonest label": commonest_label(logs), "most failures": most_failures(logs)},
        questions=report["question_set"]["questions"],
        topics=report["question_set"]["topics"],
        labels={label: share["k"] for label, share in labels["arms"][arm]["labels"].items()},
        metric=case.metric,
        metric_title=figure["title"],
        higher_is_better=figure["higher_is_better"],
        tried=tried,
        right_over_wrong=versus,
        commands=tuple(commands.typed),
    )


def write_team(path: Path, tried: Mapping[str, bool]) -> Path:
    """The demo's team file with what this team says it has tried."""
    head = _TEAM.read_text(encoding="utf-8").partition("\n[tried]")[0]
    rows = "".join(f"{name} = {str(value).lower()}\n" for name, value in tried.items())
    path.write_text(f"{head}\n[tried]\n{rows}", encoding="utf-8")
    return path


def _fixes(case: IllusionCase) -> list[tuple[str, Fix]]:
    fixes = [("wrong", case.wrong), ("halfway", case.halfway), ("right", case.right)]
    return [(role, fix) for role, fix in fixes if fix is not None]


def _rounded(interval: list[float]) -> tuple[float, float]:
    low, high = interval
    return round(low, 4), round(high, 4)

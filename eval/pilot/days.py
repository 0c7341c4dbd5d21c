"""The seven days on a running gateway: what each rests on, and its work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from eval.advice.layers import Layer, layer_of
from eval.advice.team import Team, read_team
from eval.arms import DEFAULT_ARMS, OTHER_ARMS, Arm
from eval.cases import CaseSet, load_cases
from eval.client import GatewayClient
from eval.errors import PilotError
from eval.labelling.labels import Label
from eval.pilot.comparing_arms import (
    Compared,
    arm_log,
    cluster_table,
    compare_passed,
    finer_table,
    label_table,
    metrics_table,
    most_passed,
    moved_table,
    passed_table,
)
from eval.pilot.deciding import choose, judge_tuning
from eval.pilot.guide import Day, DayResult
from eval.pilot.measuring import Measured, Workbench
from eval.pilot.not_fixed import NOT_FIXED, not_fixed_lines, unfixed
from eval.pilot.questions_day import Source, collect_questions
from eval.pilot.reports import DayReport
from eval.pilot.retrieval_day import candidate_arm, ready_versions, what_to_build
from eval.pilot.state import PilotFolder, PilotState, digest_of, digest_of_path
from eval.report import Table
from eval.stats import holm

PROMPT, RAG, ORACLE = "prompt_only", "rag", "oracle"
_ARMS = {arm.name: arm for arm in (*DEFAULT_ARMS, *OTHER_ARMS)}


def _rag() -> Arm:
    base = _ARMS["rag_base"]
    return Arm(name=RAG, pin=base.pin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The days of one pilot."""

    folder: PilotFolder
    bench: Workbench
    source: Source
    #: Team file; days 6 and 7 cannot go without.
    team: Path | None
    connect: Callable[[], AbstractAsyncContextManager[GatewayClient]]

    def days(self) -> dict[int, Day]:
        """All seven."""
        return {
            1: Day(inputs=self._source_inputs, work=self._questions),
            2: Day(inputs=_nothing_more, work=self._baseline),
            3: Day(inputs=_nothing_more, work=self._retrieval),
            4: Day(inputs=self._version_inputs, work=self._better_retrieval),
            5: Day(inputs=_nothing_more, work=self._leftovers),
            6: Day(inputs=self._team_inputs, work=self._tuning),
            7: Day(inputs=self._team_inputs, work=self._choice),
        }

    # ---- inputs ----------------------------------------------------------------------------

    async def _source_inputs(self, state: PilotState) -> dict[str, str]:
        source = self.source
        how = {
            "splits": list(source.splits),
            "limit": source.limit,
            "columns": dict(source.columns),
            "redact": source.redact,
            "seed": source.seed,
        }
        return {"questions": digest_of_path(source.path), "selection": digest_of(how)}

    async def _version_inputs(self, state: PilotState) -> dict[str, str]:
        return {"index versions": ", ".join(await self._candidates(state)) or "none beside the stable one"}

    async def _team_inputs(self, state: PilotState) -> dict[str, str]:
        # With what the searches of the prompt found, which the file names by their folders.
        return {"team": digest_of(read_team(self._team_file()).model_dump(mode="json"))}

    async def _candidates(self, state: PilotState) -> list[str]:
        async with self.connect() as client:
            return ready_versions(await client.versions("knowledge"), besides=_searched(state))

    # ---- days ------------------------------------------------------------------------------

    async def _questions(self, state: PilotState) -> DayResult:
        async with self.connect() as client:
            return await collect_questions(
                self.source,
                self.folder.path,
                client,
                concurrency=self.bench.settings.concurrency,
                fewest=self.bench.settings.min_questions,
                today=datetime.now(UTC).date(),
            )

    async def _baseline(self, state: PilotState) -> DayResult:
        measured = await self._measure(state, [_ARMS[PROMPT]])
        arm = arm_log(measured, PROMPT)
        return DayResult(
            outputs={"arms": [PROMPT], **_versions(measured, [PROMPT])},
            report=DayReport(
                sentences=(
                    f"The prompt alone passes {_passed(measured, PROMPT)}.",
                    "It is the prompt of the base model that the gateway falls back on.",
                    "Failures are labelled from evidence, by rules in order.",
                ),
                tables=(*_tables(measured, [PROMPT]), cluster_table(arm.rows)),
                thin=measured.summary.thin,
                files=self._files(state),
            ),
        )

    async def _retrieval(self, state: PilotState) -> DayResult:
        measured = await self._measure(state, [_rag()])
        compared = compare_passed(measured, PROMPT, RAG)
        pinned = next(arm for arm in measured.data.record.arms if arm.name == RAG)
        return DayResult(
            outputs={
                "arms": [RAG],
                **_versions(measured, [RAG]),
                "knowledge": pinned.pin.knowledge,
            },
            report=DayReport(
                sentences=(
                    compared.sentence() if compared else "No question was answered in both arms.",
                    f"Documents come from {pinned.pin.knowledge}; passages are cited by sentence.",
                ),
                tables=(
                    *_tables(measured, [PROMPT, RAG]),
                    moved_table(measured, PROMPT, RAG),
                    cluster_table(arm_log(measured, RAG).rows),
                ),
                notes=tuple(filter(None, (_open_causes(measured, RAG),))),
                thin=measured.summary.thin,
                files=self._files(state),
            ),
        )

    async def _better_retrieval(self, state: PilotState) -> DayResult:
        versions = await self._candidates(state)
        snapshot = _searched(state).partition("@")[2]
        async with self.connect() as client:
            live = ((await client.pointers())["knowledge"]["stable"] or "").partition("@")[2]
        # A version built today need not reach back to the documents of day 3.
        arms = [candidate_arm(version, snapshot=live) for version in versions]
        measured = await self._measure(state, arms)
        names = [arm.name for arm in arms]
        compared = {name: found for name in names if (found := compare_passed(measured, RAG, name))}
        chosen = most_passed(compared, of=len(arm_log(measured, RAG).decided))
        notes = [
            f"Compare what the failures ask for: {each}" for each in what_to_build(_causes(measured, RAG))
        ]
        if notes:
            notes.append("Once a version is built, day 4 says so: do it again with --day 4 --redo.")
        if live != snapshot:
            notes.append(
                f"Documents were published since day 3 (snapshot {snapshot} then, {live} now): what is "
                "compared here differs in its documents too; --day 3 --redo measures both on the same ones."
            )
        return DayResult(
            outputs={"arms": names, **_versions(measured, names), "chosen": chosen},
            report=DayReport(
                sentences=_retrieval_sentences(compared, chosen),
                tables=(
                    *_tables(measured, [RAG, *names]),
                    *_rankings(measured),
                    *((moved_table(measured, RAG, chosen),) if chosen else ()),
                ),
                notes=tuple(notes),
                thin=measured.summary.thin,
                files=self._files(state),
            ),
        )

    async def _leftovers(self, state: PilotState) -> DayResult:
        measured = await self._measure(state, [_ARMS[ORACLE]])
        best = state.days[4].outputs["chosen"] or RAG
        found = unfixed(measured, PROMPT, best, ORACLE)
        self.folder.write(NOT_FIXED, not_fixed_lines(measured, found, best))
        behaviour = [each for each in found if each.behaviour_only]
        compared = compare_passed(measured, best, ORACLE)
        return DayResult(
            outputs={
                "arms": [ORACLE],
                **_versions(measured, [ORACLE]),
                "best": best,
                "behaviour_only": [each.row.case_id for each in behaviour],
            },
            report=DayReport(
                sentences=(
                    f"{best} leaves {len(found)} of {len(arm_log(measured, best).decided)} questions wrong.",
                    f"Behaviour only, wrong with the gold documents too: {len(behaviour)} of them.",
                    compared.sentence() if compared else "No question has gold documents to give.",
                ),
                tables=(
                    *_tables(measured, [PROMPT, best, ORACLE]),
                    moved_table(measured, best, ORACLE),
                    _behaviours(measured, best),
                    cluster_table(each.row for each in found),
                ),
                notes=tuple(filter(None, (_open_causes(measured, best), _cut_documents(measured)))),
                thin=measured.summary.thin,
                files=(NOT_FIXED, *self._files(state)),
            ),
        )

    async def _tuning(self, state: PilotState) -> DayResult:
        return judge_tuning(self.bench.judge(state.run_number), self.folder, state, self._team())

    async def _choice(self, state: PilotState) -> DayResult:
        return choose(self.bench.judge(state.run_number), self.folder, state, self._team())

    # ---- parts -----------------------------------------------------------------------------

    async def _measure(self, state: PilotState, arms: Sequence[Arm]) -> Measured:
        kept = [name for done in state.days.values() for name in done.outputs.get("arms", ())]
        async with self.connect() as client:
            return await self.bench.measure(client, state.run_number, self._cases(state), arms, kept=kept)

    def _cases(self, state: PilotState) -> CaseSet:
        """The frozen questions with the facts of the first day, whatever runs out during the week."""
        day = state.days[1].outputs
        folder = self.folder.path / str(day["set"])
        return CaseSet.of(str(folder), load_cases(folder, as_of=date.fromisoformat(day["as_of"])))

    def _files(self, state: PilotState) -> tuple[str, ...]:
        name = self.bench.run_folder(state.run_number).path.name
        return (f"{name}/report.md", f"{name}/labels.jsonl")

    def _team_file(self) -> Path:
        if self.team is None:
            raise PilotError(
                "--team: days 6 and 7 weigh the team's size, duties, prices and traffic; name its file "
                "(docs/evaluation.md shows one)"
            )
        return self.team

    def _team(self) -> Team:
        return read_team(self._team_file())


async def _nothing_more(state: PilotState) -> Mapping[str, str]:
    """The day before is all that this one rests on."""
    return {}


def _searched(state: PilotState) -> str:
    """The index version with snapshot that day 3 was measured on."""
    return str(state.days[3].outputs["knowledge"]) if 3 in state.days else ""


def _versions(measured: Measured, arms: Sequence[str]) -> dict[str, dict[str, dict[str, str]]]:
    pins = {arm.name: arm.pin.as_body() for arm in measured.data.record.arms if arm.name in arms}
    return {"pins": pins}


def _passed(measured: Measured, name: str) -> str:
    rows = arm_log(measured, name).decided
    return f"{sum(not row.failed for row in rows)} of {len(rows)} questions"


def _tables(measured: Measured, arms: Sequence[str]) -> tuple[Table, ...]:
    return (
        passed_table(measured, arms),
        label_table(measured, arms),
        finer_table(measured, arms),
        metrics_table(measured, arms),
    )


def _causes(measured: Measured, name: str) -> Mapping[str, int]:
    return next(arm.subs for arm in measured.labels.arms if arm.arm == name)


def _open_causes(measured: Measured, name: str) -> str:
    rows = arm_log(measured, name)
    n = sum(layer_of(row, rows.kind) is Layer.UNKNOWN for row in rows.decided)
    if not n:
        return ""
    return (
        f"{n} failures of {name} have no decided cause yet: day 5 gives the gold documents and decides most; "
        "`twinrail eval label` with --rerun, or a reader, decides the rest."
    )


def _cut_documents(measured: Measured) -> str:
    """Whole articles may be longer than a prompt: then the oracle is less than it could be."""
    n = sum(row.failed and row.label is Label.WRONG_RETRIEVAL for row in arm_log(measured, ORACLE).decided)
    if not n:
        return ""
    return (
        f"{n} answers of {ORACLE} lacked a fact in the prompt as well, because whole articles are cut to "
        "its budget: what the gold documents gain is the least that they can."
    )


def _retrieval_sentences(compared: Mapping[str, Compared], chosen: str | None) -> tuple[str, ...]:
    if not compared:
        return ("No other index version is ready on the gateway, so retrieval stays as day 3 measured it.",)
    if chosen is None:
        stays = "No other index version passes more than the stable one on enough of the questions: it stays."
        return (stays, *(found.sentence() for found in compared.values()))
    corrected = holm({name: found.difference.p for name, found in compared.items()})
    shown = compared[chosen].difference.better and corrected[chosen] < 0.05
    said = [found.sentence() for found in compared.values()]
    n = len(compared)
    several = f" (p {corrected[chosen]:.3f} after Holm for {n} versions)" if n > 1 else ""
    verdict = (
        f"{chosen} is better than the stable version{several}."
        if shown
        else f"{chosen} looks best of {n} and is not shown to be better than the stable version{several}."
    )
    return (verdict, *said)


def _rankings(measured: Measured) -> tuple[Table, ...]:
    """What each version finds, whatever the model makes of it."""
    rows = tuple(
        (
            found.knowledge,
            f"{found.ndcg_at_10:.3f}",
            f"{found.hit_at_1.k}/{found.hit_at_1.n}",
            f"{found.hit_at_10.k}/{found.hit_at_10.n}",
        )
        for found in measured.summary.rankings
        if not found.kind
    )
    header = ("index version", "nDCG@10", "hit@1", "hit@10")
    return (Table(title="Retrieval by index version", header=header, rows=rows),)


def _behaviours(measured: Measured, best: str) -> Table:
    """Failures by the layer that would mend them."""
    arm = arm_log(measured, best)
    layers = Counter(layer.value for row in arm.decided if (layer := layer_of(row, arm.kind)))
    return Table(
        title=f"Failures of {best} by the layer that mends them",
        header=("layer", "failures"),
        rows=tuple((layer, str(n)) for layer, n in layers.most_common()),
    )

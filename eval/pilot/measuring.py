"""One run that grows by the arms of each day: all are asked the same questions and labelled the same way.

The whole pilot is one run, so that any of its arms can be compared with any other, and so that the answers
from the gold documents, which come last, decide causes that were open on earlier days.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import orjson

from eval.advice.counts import Draws
from eval.advice.evidence import Logs
from eval.advice.loading import read_logs
from eval.arms import Arm, resolve_arms
from eval.cases import CaseSet
from eval.client import GatewayClient
from eval.connecting import prompt_digests
from eval.gating.gate_report import with_section
from eval.labelling.asking import add_documents
from eval.labelling.corpus import CorpusFile
from eval.labelling.counterfactuals import RerunFile, Reruns
from eval.labelling.labelling_report import Labels, count_labels, json_labels, markdown_labels
from eval.labelling.records import LabelFile, changes, label_run
from eval.labelling.sending import send
from eval.record import RunData, RunFolder
from eval.report import json_report, markdown_report
from eval.run import measure, plan
from eval.scorers import Scoring
from eval.settings import EvalSettings
from eval.summary import Summary, summarise


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The run after a day."""

    data: RunData
    summary: Summary
    labels: Labels
    #: How each question came out in each arm, as the advice reads it.
    logs: Logs
    draws: Draws


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """Where a pilot measures, and with what."""

    path: Path
    settings: EvalSettings
    scoring: Scoring
    url: str
    out: TextIO

    def run_folder(self, number: int) -> RunFolder:
        """The run of a pilot; a day that is done again gets the next one."""
        return RunFolder(self.path / ("run" if number == 1 else f"run-{number}"))

    async def measure(
        self,
        client: GatewayClient,
        number: int,
        cases: CaseSet,
        arms: Sequence[Arm],
        *,
        kept: Collection[str],
    ) -> Measured:
        """Ask these arms what they were not asked yet, and judge the whole run.

        `kept` are arms of earlier days, which a run that begins again takes along.
        """
        folder = await self._with_arms(client, number, cases, arms, kept=kept)
        data = await measure(folder, client, concurrency=self.settings.concurrency, out=self.out)
        await add_documents(folder, data, self.scoring, client, at_once=self.settings.concurrency)
        return self.judge(number)

    def judge(self, number: int) -> Measured:
        """Scores, labels and reports of what is there, without the gateway."""
        folder = self.run_folder(number)
        data = folder.read()
        summary = summarise(
            data,
            self.scoring,
            min_questions=self.settings.min_questions,
            resamples=self.settings.resamples,
            seed=self.settings.seed,
        )
        labels = LabelFile(folder.path)
        before = labels.read()
        records = label_run(
            data,
            self.scoring,
            CorpusFile(folder.path).read(),
            Reruns.of(data, RerunFile(folder.path).read()),
            before=before,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        labels.write(records)
        counted = count_labels(records, changes(before, records))
        folder.write("report.json", orjson.dumps(json_report(summary), option=orjson.OPT_INDENT_2).decode())
        folder.write("report.md", with_section(markdown_report(summary), markdown_labels(counted)))
        return Measured(
            data=data,
            summary=summary,
            labels=counted,
            logs=read_logs(folder),
            draws=Draws(resamples=self.settings.resamples, seed=self.settings.seed),
        )

    async def send(self, client: GatewayClient, number: int) -> None:
        """Labels and metrics beside the turns of the run, its counts as a report; nothing before day 2."""
        folder = self.run_folder(number)
        if not LabelFile(folder.path).exists:
            return
        records = LabelFile(folder.path).read()
        counted = count_labels(records, changes(records, records))
        await send(
            client,
            folder.read(),
            self.scoring,
            records,
            json_labels(counted),
            markdown=markdown_labels(counted),
            at_once=self.settings.concurrency,
        )

    async def _with_arms(
        self,
        client: GatewayClient,
        number: int,
        cases: CaseSet,
        arms: Sequence[Arm],
        *,
        kept: Collection[str],
    ) -> RunFolder:
        """The run's folder with these arms in its record; those that are there keep their versions."""
        folder = self.run_folder(number)
        if not folder.exists:
            self._take_along(folder, number, kept)
        known = folder.read().record if folder.exists else None
        names = {arm.name for arm in known.arms} if known else set()
        new = [arm for arm in arms if arm.name not in names]
        if not new:
            return folder
        pointers = await client.pointers()
        requested = (*(known.requested_arms if known else ()), *new)
        resolved = resolve_arms((*(known.arms if known else ()), *new), pointers)
        record = plan(
            run_id=f"{self.path.resolve().name}-{folder.path.name}",
            gateway_url=self.url,
            cases=cases,
            selection={"pilot": self.path.resolve().name},
            requested=requested,
            arms=resolved,
            stable_knowledge=pointers.get("knowledge", {}).get("stable"),
            prompts=await prompt_digests(client),
        )
        if known is None:
            folder.create(record, cases)
        else:
            searched = dict.fromkeys((*known.knowledge, *record.knowledge))
            folder.save(
                replace(
                    known,
                    requested_arms=requested,
                    arms=resolved,
                    knowledge=tuple(searched),
                    prompts={**known.prompts, **record.prompts},
                )
            )
        return folder

    def _take_along(self, folder: RunFolder, number: int, kept: Collection[str]) -> None:
        """Begin a later run with the answers that still count, and with what people said of them."""
        older = next((run for n in range(number - 1, 0, -1) if (run := self.run_folder(n)).exists), None)
        if older is None or not kept:
            return
        data = older.read()
        arms = tuple(arm for arm in data.record.arms if arm.name in kept)
        record = replace(
            data.record,
            id=f"{self.path.resolve().name}-{folder.path.name}",
            arms=arms,
            requested_arms=tuple(arm for arm in data.record.requested_arms if arm.name in kept),
        )
        folder.create(record, CaseSet.of(record.question_set, data.cases))
        for observation in data.observations.values():
            if observation.arm in kept:
                folder.add_observation(observation)
        for ranking in data.rankings.values():
            folder.add_ranking(ranking)
        LabelFile(folder.path).write(
            replace(label, run=record.id) for label in LabelFile(older.path).read() if label.arm in kept
        )

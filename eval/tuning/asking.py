"""Asks the arms of an evaluation, and labels why each answer failed."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from eval.arms import Arm
from eval.cases import CaseSet
from eval.client import GatewayClient
from eval.errors import GatewayUnavailableError, RunError
from eval.labelling.asking import add_documents
from eval.labelling.corpus import CorpusFile
from eval.labelling.counterfactuals import Reruns
from eval.labelling.labels import LabelRecord
from eval.labelling.records import LabelFile, label_run
from eval.record import RunData, RunFolder
from eval.run import measure, plan
from eval.sets.openings import Kind, Opening, OpeningLog, opens_holdout
from eval.settings import EvalSettings
from eval.tuning.ordering import FREE, SERVED, Order


async def require_served(order: Order, client: GatewayClient) -> None:
    """Each arm answers one question before the first is kept: a version that no engine serves would be
    measured by the deployment's fixed wording."""
    askable = [case for case in order.asked.cases.cases if case.asker in client.askers]
    if not askable:
        raise RunError("no question can be asked with these keys; set EVAL_STAFF_API_KEY")
    for arm in order.contest.arms:
        seen = await client.answer(askable[0], arm)
        if "generation" in seen.degraded:
            raise GatewayUnavailableError(
                f"{arm.name}: no engine answers for {arm.pin.model}; have it served "
                f"(`twinrail model stage {arm.pin.model}`)"
            )


async def ask(
    order: Order,
    name: str,
    cases: CaseSet,
    arms: Sequence[Arm],
    client: GatewayClient,
    options: argparse.Namespace,
    settings: EvalSettings,
) -> RunData:
    """One run of the evaluation; what is there already is not asked again."""
    folder = RunFolder(order.folder / name)
    repeats = options.repeats if name == SERVED else 1
    if not folder.exists:
        knowledge = order.contest.candidate.pin.knowledge
        record = plan(
            run_id=f"{order.folder.name}-{name}",
            gateway_url=order.url,
            cases=cases,
            selection={"splits": options.split, "limit": options.limit},
            requested=arms,
            arms=arms,
            stable_knowledge=knowledge,
            repeats=repeats,
        )
        if name == FREE:
            # Retrieval is the same as in the other run, and only the form of the drafts is looked at.
            record = replace(record, knowledge=())
        _log_opening(order, options, settings, record.id)
        folder.create(record, cases)
    elif (record := folder.read().record).repeats < repeats:
        folder.save(replace(record, repeats=repeats))
    sys.stderr.write(f"twinrail tune evaluate: {name} answers in {folder.path}\n")
    concurrency = options.concurrency or settings.concurrency
    return await measure(folder, client, concurrency=concurrency, out=sys.stderr)


def _log_opening(order: Order, options: argparse.Namespace, settings: EvalSettings, run_id: str) -> None:
    """Say who looks at the holdout, before anything of it is asked."""
    if not opens_holdout(case.split for case in order.asked.cases.cases):
        return
    for path in options.questions or [settings.questions]:
        OpeningLog(str(path), runs=settings.runs).add(
            Opening(
                kind=Kind.RUN,
                at=datetime.now(UTC).isoformat(timespec="seconds"),
                who=getpass.getuser(),
                run=run_id,
                versions=tuple(arm.pin.model for arm in order.contest.arms if arm.pin.model),
                questions=str(path),
                sha256=order.asked.cases.sha256,
            )
        )


async def label(order: Order, data: RunData, client: GatewayClient, at_once: int) -> tuple[LabelRecord, ...]:
    """Why each answer failed; of a task without a text there is nothing that a label knows."""
    if not order.scoring.writes_text:
        return ()
    folder = RunFolder(order.folder / SERVED)
    await add_documents(folder, data, order.scoring, client, at_once=at_once)
    file = LabelFile(folder.path)
    records = label_run(
        data,
        order.scoring,
        CorpusFile(folder.path).read(),
        Reruns.of(data, ()),
        before=file.read(),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    file.write(records)
    return records

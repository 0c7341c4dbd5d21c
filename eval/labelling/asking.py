"""What labelling asks of the gateway: articles and internal look-ups, and re-runs of failed questions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TextIO

from eval.arms import Arm
from eval.cases import Case
from eval.client import GatewayClient
from eval.documents import snapshot_of
from eval.labelling.corpus import CorpusFile, look_up
from eval.labelling.counterfactuals import Rerun, RerunFile, Reruns, wanted_reruns
from eval.labelling.evidence import Turn, unsupported_sentences
from eval.labelling.labels import PASSED_ON_BY_RULE, LabelRecord, Outcome
from eval.labelling.moments import Moment, moment_of
from eval.labelling.records import AUTO, HUMAN, human_record, label_run, turns_of
from eval.record import RunData, RunFolder
from eval.run import Job, Progress, drain
from eval.scorers import Scoring

#: Model versions that failed questions are asked of again, by the words for them.
_MODELS = ("fallback", "previous")


async def add_documents(
    folder: RunFolder, data: RunData, scoring: Scoring, client: GatewayClient, *, at_once: int
) -> None:
    """Read every gold article once, and look up with the staff's key what no passage supports."""
    file = CorpusFile(folder.path)
    known = file.read()
    turns = turns_of(data, scoring, known)
    corpus = await look_up(
        client,
        known,
        documents=[document for turn in turns for document in turn.subject.case.gold],
        sentences=[sentence for turn in turns for sentence in unsupported_sentences(turn)],
        knowledge=next(iter(data.record.knowledge), ""),
        at_once=at_once,
    )
    if corpus != known:
        file.write(corpus)


async def add_reruns(
    folder: RunFolder,
    data: RunData,
    scoring: Scoring,
    client: GatewayClient,
    *,
    at_once: int,
    out: TextIO,
) -> None:
    """Ask failed questions again with one thing changed; nothing that is there is asked twice."""
    file, corpus = RerunFile(folder.path), CorpusFile(folder.path).read()
    reruns = Reruns.of(data, file.read())
    records = label_run(data, scoring, corpus, reruns, at="")
    pointers = (await client.pointers()).get("model", {})
    models = {word: version for word in _MODELS if (version := pointers.get(word))}
    turns = {(turn.subject.case.id, turn.arm.name): turn for turn in turns_of(data, scoring, corpus)}
    jobs = [
        _job(turn.subject.case, arm, client, file)
        for record in records
        if record.outcome is Outcome.FAILED
        # A rule passes the same question on in every re-run.
        and (record.primary is None or record.primary.sub != PASSED_ON_BY_RULE)
        and (turn := turns[record.case_id, record.arm]).subject.case.asker in client.askers
        for arm in wanted_reruns(
            turn.subject.case, turn.arm, reruns, models=models, moment=_moment(turn, record)
        )
    ]
    if not jobs:
        return
    progress = Progress(out=out, total=len(jobs))
    try:
        await drain(jobs, workers=at_once, progress=progress)
    finally:
        progress.close()


async def read_reviews(
    data: RunData, records: Sequence[LabelRecord], client: GatewayClient, *, at_once: int
) -> tuple[LabelRecord, ...]:
    """The records with what people say of their turns by now, in place of what they said before: also of a
    turn of which they say nothing any more, because a reading was taken back or the review is open again."""
    askers = {case.id: case.asker for case in data.cases}
    gate = asyncio.Semaphore(at_once)

    async def read(record: LabelRecord) -> list[LabelRecord]:
        async with gate:
            rows = await client.labels(record.turn_id, asker=askers[record.case_id])
        return [human_record(record, row) for row in rows if row["source"] == HUMAN]

    auto = [record for record in records if record.source == AUTO]
    found = await asyncio.gather(*(read(record) for record in auto if record.turn_id))
    said = [record for each in found for record in each]
    read_again = {record.turn_id for record in auto}
    kept = [record for record in records if record.source == HUMAN and record.turn_id not in read_again]
    return (*auto, *kept, *said)


def _moment(turn: Turn, record: LabelRecord) -> Moment | None:
    """As of when to ask again: only where the text that was searched is not known to state every fact."""
    current = record.check("current")
    if current is None or current.value:
        return None
    case, seen = turn.subject.case, turn.subject.seen
    return moment_of(
        case,
        turn.corpus.histories(case.gold),
        searched=snapshot_of(seen.knowledge_version or turn.arm.pin.knowledge or ""),
        day=(seen.asked_at or case.asked_at)[:10],
    )


def _job(case: Case, arm: Arm, client: GatewayClient, file: RerunFile) -> Job:
    async def job() -> bool:
        seen = await client.answer(case, arm)
        file.add(Rerun(arm=arm, seen=seen))
        return seen.failed

    return job

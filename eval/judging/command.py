"""`twinrail eval judge`: a model's verdict on every answer of a run, shown only corrected for its error."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from eval.connecting import open_client
from eval.errors import RunError
from eval.gating.gate_report import with_section
from eval.judging.calibration import MOST_MISSING, Calibration, CalibrationFile, calibrate
from eval.judging.correction import FEWEST_LABELS, NoRate, correct
from eval.judging.deciding import judge_run
from eval.judging.endpoint import JudgeEndpoint
from eval.judging.evidence import Subject, subjects
from eval.judging.judge import Judge, load_judge
from eval.judging.judged import JudgedRun, judged_file, with_judged
from eval.judging.judged_report import TITLE, judged_json, judged_lines, judged_rows
from eval.judging.judgements import Item, Judgement, JudgementFile, waiting
from eval.judging.people import Labelled, of_run, read_labelled, read_readings
from eval.labelling.records import HUMAN, LabelFile
from eval.record import RunData, RunFolder
from eval.report import Table, as_markdown, as_text, bullets
from eval.run import Job, Progress, drain
from eval.scoring import scoring_of
from eval.settings import EvalSettings

_DONE, _THIN = 0, 4
_CALIBRATE = "calibrate"
_JUDGEMENTS = "judgements.jsonl"
#: So many answers are asked about first: a judge that can say nothing of them costs no more.
_TRIAL = 20
_MOST_MISSING_IN_TRIAL = 0.5

_EXAMPLE = """examples:
  twinrail eval judge calibrate --judge supported.toml --labels dev.jsonl      answers with people's labels
  twinrail eval judge calibrate --judge supported.toml --run RUN               people's labels of a run
  twinrail eval judge RUN --judge supported.toml

exit codes: 0 done, 2 bad usage or judge file, 3 endpoint down (the same command goes on), 4 no share can be
shown: not calibrated, too few labels, or a judge that tells nothing"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "judge",
        help="ask a model about every answer of a run; its share is shown only corrected for its error",
        description=__doc__,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", metavar="RUN|calibrate", help="folder of a run, or the word calibrate")
    parser.add_argument("--judge", type=Path, required=True, metavar="FILE", help="judge file (TOML)")
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="calibrate: JSONL of answers with people's labels; with --run of case_id, arm and label",
    )
    parser.add_argument(
        "--run", type=Path, metavar="RUN", help="calibrate: the run whose answers people labelled"
    )
    parser.add_argument("--send", action="store_true", help="put the verdicts beside the gateway's turns")
    parser.add_argument("--url", help="address of the gateway [the run's]")
    parser.add_argument("--concurrency", type=int, metavar="N", help="requests in flight [EVAL_CONCURRENCY]")
    parser.add_argument("--dry-run", action="store_true", help="say how many answers would be asked about")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


async def run(options: argparse.Namespace, settings: EvalSettings) -> int:
    """Judge a run, or measure the judge."""
    if options.concurrency is not None and options.concurrency < 1:
        raise RunError("--concurrency: must be 1 or more")
    judge = load_judge(options.judge, url=settings.judge_url, model=settings.judge_model)
    if options.what == _CALIBRATE:
        return await _calibrate(judge, options, settings)
    if options.labels or options.run:
        raise RunError("--labels, --run: belong to `twinrail eval judge calibrate`; drop them")
    return await _judge(judge, options, settings)


# ---- a run -------------------------------------------------------------------------------------


async def _judge(judge: Judge, options: argparse.Namespace, settings: EvalSettings) -> int:
    folder = RunFolder(Path(options.what))
    data = folder.read()
    found = _subjects(data, judge, settings)
    items = [subject.item for subject in found if subject.item]
    if not items:
        raise RunError(f"{folder.path}: holds no answer that {judge.name} applies to; nothing to judge")
    file = JudgementFile(folder.path / _JUDGEMENTS)
    left = waiting(items, file.read(judge.version))
    if options.dry_run:
        return _say_plan(judge, len(left), len(items))
    await _ask(judge, left, file, options, settings)
    said = file.read(judge.version)
    calibrations = CalibrationFile(judge)
    judged = judge_run(judge, found, said, calibrations.read(), calibrated_before=calibrations.others())
    folder.write(*judged_file(with_judged(data.judged, judged)))
    report = folder.path / "report.md"
    earlier = report.read_text(encoding="utf-8") if report.exists() else ""
    table = _table(judged, data)
    lines = judged_lines([judged])
    folder.write("report.md", with_section(earlier, _markdown(with_judged(data.judged, judged), data)))
    if options.send:
        await _send(judge, found, said, options.url or data.record.gateway_url, options, settings)
    plain = json.dumps(judged_json([judged]), indent=2, ensure_ascii=False)
    print(plain if options.json else f"{as_text(table)}\n{bullets('', lines)}")
    return _DONE if judged.has_rate else _thin(f"no share by {judge.name} can be shown")


def _subjects(data: RunData, judge: Judge, settings: EvalSettings) -> list[Subject]:
    wordings = scoring_of(settings).wordings
    return list(subjects(data, judge, wordings=wordings))


def _table(judged: JudgedRun, data: RunData) -> Table:
    arms = [arm.name for arm in data.record.arms]
    return Table(title=TITLE, header=("", *arms), rows=judged_rows([judged], arms))


def _markdown(judged: Sequence[JudgedRun], data: RunData) -> str:
    """The section as `eval run` writes it, with all judges."""
    arms = [arm.name for arm in data.record.arms]
    table = Table(title=TITLE, header=("", *arms), rows=judged_rows(judged, arms))
    lines = "\n".join(f"- {line}" for line in judged_lines(judged))
    return f"## {TITLE}\n\n{as_markdown(table)}\n\n{lines}\n"


async def _send(
    judge: Judge,
    found: Sequence[Subject],
    said: Mapping[tuple[str, str], Judgement],
    url: str,
    options: argparse.Namespace,
    settings: EvalSettings,
) -> None:
    """Single verdicts beside the turns; null where there is none."""
    at_once = options.concurrency or settings.concurrency
    async with open_client(settings, url=url, concurrency=at_once) as client:
        jobs: list[Job] = []
        for subject in found:
            judgement = said.get((subject.item.id, subject.item.digest)) if subject.item else None
            if judgement is not None:
                score = _score(judge, judgement)
                jobs.append(_putting(client.put_scores, subject, score))
        progress = Progress(out=sys.stderr, total=len(jobs))
        try:
            await drain(jobs, workers=at_once, progress=progress)
        finally:
            progress.close()


def _putting(put: Callable[..., Any], subject: Subject, score: Mapping[str, Any]) -> Job:
    async def job() -> bool:
        await put(subject.seen.turn_id, [score], asker=subject.asker)
        return False

    return job


def _score(judge: Judge, said: Judgement) -> dict[str, Any]:
    return {
        "name": f"judge_{judge.name}",
        "value": None if said.verdict is None else float(said.verdict),
        "detail": said.missing or said.reason,
        "version": said.version,
    }


# ---- against people ----------------------------------------------------------------------------


async def _calibrate(judge: Judge, options: argparse.Namespace, settings: EvalSettings) -> int:
    if options.send:
        raise RunError("--send: belongs to `twinrail eval judge RUN`; drop it")
    labelled = _labelled(judge, options, settings)
    file = JudgementFile(judge.judgements_file)
    left = waiting([row.item for row in labelled.rows], file.read(judge.version))
    few = _too_few(labelled)
    if options.dry_run:
        return _say_plan(judge, len(left), len(labelled.rows), left_out=labelled.left_out)
    if few:
        # Asking would cost money and decide nothing.
        return _thin(f"{few}; left out: {json.dumps(dict(labelled.left_out))}")
    await _ask(judge, left, file, options, settings)
    calibration = calibrate(
        judge,
        labelled,
        file.read(judge.version),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    CalibrationFile(judge).write(calibration)
    print(_calibration_json(calibration, labelled) if options.json else _sentences(calibration, labelled))
    print(f"twinrail eval: calibration {judge.calibration_file}", file=sys.stderr)
    problem = _tells_nothing(calibration)
    return _thin(problem) if problem else _DONE


def _labelled(judge: Judge, options: argparse.Namespace, settings: EvalSettings) -> Labelled:
    if options.run is None:
        if options.labels is None:
            raise RunError("calibrate: needs people's labels; add --labels FILE, or --run of a reviewed run")
        return read_labelled(judge, options.labels)
    data = RunFolder(options.run).read()
    items = {
        (subject.seen.case_id, subject.seen.arm): subject.item
        for subject in _subjects(data, judge, settings)
        if subject.item
    }
    if options.labels is not None:
        readings = read_readings(options.labels)
        return of_run(judge, items, readings, source=f"{options.labels.name} on run {data.record.id}")
    people = [record for record in LabelFile(options.run).read() if record.source == HUMAN]
    if not people:
        raise RunError(
            f"{options.run}: nobody labelled its answers; run `twinrail eval label {options.run} --reviews` "
            "after people reviewed them, or give --labels"
        )
    said = [
        (
            (record.case_id, record.arm),
            (
                record.primary.label.value if record.primary else "passed",
                *(finding.label.value for finding in record.contributing),
            ),
        )
        for record in people
    ]
    return of_run(judge, items, said, source=f"reviews of run {data.record.id}")


def _too_few(labelled: Labelled) -> str:
    good = sum(row.good for row in labelled.rows)
    bad = len(labelled.rows) - good
    if min(good, bad) >= FEWEST_LABELS:
        return ""
    return f"people call {good} answers good and {bad} bad; a judge is measured on {FEWEST_LABELS} of each"


def _tells_nothing(calibration: Calibration) -> str:
    if calibration.missing_share > MOST_MISSING:
        return f"judge refused: no verdict on {calibration.missing_share:.0%} of the answers"
    if calibration.skill is None:
        return "not calibrated: no verdict on answers of one kind"
    # Of any sample: what is wrong with the skill alone does not depend on it.
    probe = correct(calibration.good_said_good, calibration.good, calibration.skill)
    return probe.reason if isinstance(probe, NoRate) else ""


def _sentences(calibration: Calibration, labelled: Labelled) -> str:
    first = (
        f"{calibration.version} on {calibration.labels}: of {calibration.good} answers that people call good "
        f"it calls {calibration.good_said_good} good; of {calibration.bad} that they call bad, "
        f"{calibration.bad_said_bad} bad."
    )
    lines = [first]
    if calibration.missing:
        lines.append(f"No verdict: {json.dumps(dict(calibration.missing))}")
    if labelled.left_out:
        lines.append(f"Left out: {json.dumps(dict(labelled.left_out))}")
    return "\n".join(lines)


def _calibration_json(calibration: Calibration, labelled: Labelled) -> str:
    return json.dumps({**calibration.as_json(), "left_out": dict(labelled.left_out)}, indent=2)


# ---- both --------------------------------------------------------------------------------------


async def _ask(
    judge: Judge,
    left: Sequence[Item],
    file: JudgementFile,
    options: argparse.Namespace,
    settings: EvalSettings,
) -> None:
    """Ask what is left, a few first: a judge that has nothing to say about them is not asked on."""
    if not left:
        return
    at_once = options.concurrency or settings.concurrency
    missing = 0
    async with _endpoint(judge, settings, at_once) as endpoint:

        def asking(item: Item) -> Job:
            async def job() -> bool:
                nonlocal missing
                said = await endpoint.ask(item)
                file.add(said)
                missing += said.verdict is None
                return said.verdict is None

            return job

        progress = Progress(out=sys.stderr, total=len(left))
        jobs = [asking(item) for item in left]
        try:
            await drain(jobs[:_TRIAL], workers=at_once, progress=progress)
            if missing <= _MOST_MISSING_IN_TRIAL * len(jobs[:_TRIAL]):
                await drain(jobs[_TRIAL:], workers=at_once, progress=progress)
        finally:
            progress.close()


@asynccontextmanager
async def _endpoint(judge: Judge, settings: EvalSettings, at_once: int) -> AsyncIterator[JudgeEndpoint]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once)) as session:
        yield JudgeEndpoint(
            session,
            judge,
            key=settings.judge_key.get_secret_value() if settings.judge_key else "",
            timeout_s=settings.timeout_s,
            attempts=settings.attempts,
        )


def _say_plan(judge: Judge, left: int, items: int, *, left_out: Mapping[str, int] | None = None) -> int:
    plan = {"judge": judge.version, "answers": items, "to_ask": left, "left_out": dict(left_out or {})}
    print(json.dumps(plan, indent=2))
    return _DONE


def _thin(what: str) -> int:
    print(f"twinrail eval: not enough evidence: {what}", file=sys.stderr)
    return _THIN

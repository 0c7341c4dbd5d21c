"""`twinrail tune evaluate`: has a tuned version earned its place?

Candidate, base with a strong prompt and the stable version answer the same unseen questions through the
gateway; a second time with nothing that holds them to the schema. Then every failure is labelled, the gates
are asked, and the verdict is stored beside the version.
"""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from eval.answer_scores import AnswerScorer
from eval.arms import Arm
from eval.cases import CaseSet, spread
from eval.client import GatewayClient
from eval.connecting import open_client
from eval.errors import ArmError, EvalError, GatewayUnavailableError, RunError
from eval.flips import Flips, count_flips
from eval.gating.policies import policy_from_labels
from eval.gating.rules import GateRules
from eval.gating.sides import Side
from eval.gating.verdicts import EXIT_CODES
from eval.labelling.asking import add_documents
from eval.labelling.corpus import CorpusFile
from eval.labelling.counterfactuals import Reruns
from eval.labelling.labels import LabelRecord
from eval.labelling.records import LabelFile, label_run
from eval.observations import Observation
from eval.record import RunData, RunFolder
from eval.run import measure, plan
from eval.scorers import Scoring
from eval.scoring import scoring_of
from eval.sets.openings import Kind, Opening, OpeningLog, opens_holdout
from eval.settings import EvalSettings
from eval.summary import score_all
from eval.tuning.content import Inputs, Report, Trained, report_of
from eval.tuning.contest import CANDIDATE, Contest, Strong, arrange, freely
from eval.tuning.deciding import Judged, judge, rules_for
from eval.tuning.figures import Sides
from eval.tuning.questions import Asked, Sources, collect, unseen
from eval.tuning.report import markdown_report, page_report, text_report
from serving.errors import ServingError
from serving.examples import Row
from serving.manifests import RUN_RECORD
from serving.prompting import load_prompt
from serving.tuning.dataset_folder import read_dataset
from serving.versions import SCHEMAS

SERVED, FREE = "served", "free"
REPORT_JSON, REPORT_MD, REPORT_HTML = "report.json", "report.md", "report.html"
_PROMPT_SUFFIXES = (".yaml", ".yml")
_EXAMPLE = """examples:
  twinrail tune evaluate m-support-1a2b3c4d --dataset datasets/march --regression reviewed/march/regression
  twinrail tune evaluate runs/march --dataset datasets/march --strong searches/a/best.yaml --split holdout
  twinrail tune evaluate m-routing-5e6f7a8b --dataset datasets/routing --questions datasets/routing/test.jsonl

The same command goes on with an evaluation that was interrupted.

exit codes: 0 pass, 1 refused, 2 bad usage, 3 gateway down (run it again), 4 not enough evidence"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The parser of this command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "tuned",
        help="has a tuned version earned its place? records the verdict that registration asks for",
        description=__doc__,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("candidate", metavar="VERSION|RUN", help="id of the version, or its training run")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the evaluation [runs/VERSION]")
    parser.add_argument(
        "--strong",
        metavar="VERSION|FILE",
        help="the base model with a strong prompt, or a prompt file to try on it [the fallback version]",
    )
    parser.add_argument(
        "--dataset", type=Path, metavar="DIR", help="what it was trained on: nothing of it is asked"
    )
    parser.add_argument(
        "--questions", type=Path, action="append", metavar="PATH", help="again for more [EVAL_QUESTIONS]"
    )
    parser.add_argument(
        "--split", action="append", metavar="NAME", help="again for more [gate, else holdout, else test]"
    )
    parser.add_argument("--limit", type=_positive, metavar="N", help="a sample of N, spread over topics")
    parser.add_argument(
        "--regression", type=Path, action="append", metavar="PATH", help="questions that must all be right"
    )
    parser.add_argument(
        "--policy",
        type=Path,
        action="append",
        metavar="PATH",
        help="questions that policy is about, or attacks",
    )
    parser.add_argument("--rules", type=Path, metavar="FILE", help="TOML file of what is asked [defaults]")
    parser.add_argument(
        "--free", type=int, metavar="N", help="questions asked without constrained decoding, 0: none [all]"
    )
    parser.add_argument(
        "--repeats", type=_positive, metavar="K", default=1, help="ask K times, for flips [1]"
    )
    parser.add_argument(
        "--schema", type=Path, metavar="FILE", help="the task's JSON Schema [the version's task]"
    )
    parser.add_argument("--url", help="address of the gateway [EVAL_GATEWAY_URL]")
    parser.add_argument("--concurrency", type=_positive, metavar="N", help="in flight [EVAL_CONCURRENCY]")
    parser.add_argument("--no-record", action="store_true", help="write the files, store no verdict")
    parser.add_argument("--dry-run", action="store_true", help="say what would be asked, ask nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What is to be measured."""

    version: str
    contest: Contest
    asked: Asked
    trained: Trained
    scoring: Scoring
    rules: GateRules
    folder: Path
    url: str
    #: Questions of the run without constrained decoding.
    free: CaseSet | None


async def run(options: argparse.Namespace, settings: EvalSettings) -> int:
    """Ask, label, decide, write, record, and end with the verdict's exit code."""
    version = _version(options.candidate)
    url = options.url or settings.gateway_url
    concurrency = options.concurrency or settings.concurrency
    async with open_client(settings, url=url, concurrency=concurrency) as client:
        order = await _order(version, options, settings, client, url)
        if options.dry_run:
            return _say_plan(order, options.repeats)
        try:
            await _require_served(order, client)
            served = await _ask(
                order, SERVED, order.asked.cases, order.contest.arms, client, options, settings
            )
            free = None
            if order.free is not None:
                free = await _ask(
                    order, FREE, order.free, freely(order.contest.arms), client, options, settings
                )
            labels = await _label(order, served, client, concurrency)
        except GatewayUnavailableError as exc:
            raise GatewayUnavailableError(f"{exc}; then the same command goes on") from exc
        judged, report = _decide(order, served, free, labels, settings)
        _publish(order.folder, report, as_json=options.json)
        if not options.no_record:
            await _record(client, judged, report)
    return EXIT_CODES[judged.verdict]


# ---- what is asked ---------------------------------------------------------------------------------


def _version(named: str) -> str:
    """The version itself, or the one that a training run was registered as."""
    folder = Path(named)
    if not folder.is_dir():
        return named
    file = folder / RUN_RECORD
    try:
        version = orjson.loads(file.read_bytes()).get("version")
    except (OSError, ValueError, AttributeError) as exc:
        raise RunError(f"{file}: not the record of a training run ({exc}); name a version's id") from exc
    if not isinstance(version, str):
        raise RunError(
            f"{file}: names no version, so it is not registered yet; register it as a candidate first "
            "(`twinrail tune register`)"
        )
    return version


async def _order(
    version: str, options: argparse.Namespace, settings: EvalSettings, client: GatewayClient, url: str
) -> _Order:
    known = {str(row["id"]): row.get("details") or {} for row in await client.versions("model")}
    if version not in known:
        raise ArmError(f"{version}: no such version on the model rail; register it as a candidate first")
    scoring = scoring_of(settings, options.schema or _task_schema(known[version]))
    trained, rows = _trained(version, known[version], options.dataset, scoring)
    asked = collect(
        Sources(
            questions=options.questions or [settings.questions],
            splits=options.split or (),
            limit=options.limit,
            regression=options.regression or (),
            policy=options.policy or (),
        ),
        rows,
        seed=settings.seed,
    )
    folder = options.out or settings.runs / f"tuned-{version}"
    contest = arrange(version, _strong(options.strong), await client.pointers())
    began = RunFolder(folder / SERVED)
    if began.exists:
        contest = _same(folder, began.read(), contest, asked, options.repeats)
    sample = unseen(asked.cases.cases)
    free = len(sample) if options.free is None else options.free
    return _Order(
        version=version,
        contest=contest,
        asked=asked,
        trained=trained,
        scoring=scoring,
        rules=GateRules.load(options.rules) if options.rules else rules_for(scoring),
        folder=folder,
        url=url,
        free=CaseSet.of(asked.cases.name, spread(list(sample), free, settings.seed)[:free])
        if free > 0 and sample
        else None,
    )


def _task_schema(details: Mapping[str, Any]) -> Path | None:
    """The packaged schema of the version's task; the settings' where it is somebody's own."""
    packaged = SCHEMAS / f"{details.get('task')}.json"
    return packaged if packaged.is_file() else None


def _strong(named: str | None) -> Strong:
    if named is None:
        return Strong()
    if not named.endswith(_PROMPT_SUFFIXES):
        return Strong(version=named)
    try:
        return Strong(prompt=load_prompt(Path(named)))
    except ServingError as exc:
        raise ArmError(f"--strong: {exc}") from exc


def _trained(
    version: str, details: Mapping[str, Any], folder: Path | None, scoring: Scoring
) -> tuple[Trained, Sequence[Row]]:
    """The rows that it learnt from and stopped by, if the dataset is the one that its manifest names."""
    wanted = (details.get("manifest") or {}).get("dataset_sha256")
    if folder is None:
        return Trained(sha256=wanted), ()
    try:
        dataset = read_dataset(folder, scoring.schema)
    except ServingError as exc:
        raise RunError(f"--dataset: {exc}") from exc
    if wanted is not None and dataset.manifest.sha256 != wanted:
        raise RunError(
            f"--dataset {folder}: is dataset {dataset.manifest.sha256[:12]}, and {version} was trained on "
            f"{str(wanted)[:12]}; name the one that it was trained on"
        )
    rows = (*dataset.train, *dataset.valid)
    return Trained(sha256=dataset.manifest.sha256, rows=len(rows)), rows


def _same(folder: Path, data: RunData, contest: Contest, asked: Asked, repeats: int) -> Contest:
    """The arms of the evaluation that began here: a rail that moved since changes nothing."""
    record = data.record
    if record.question_set_sha256 != asked.cases.sha256:
        raise RunError(
            f"--out {folder}: was begun with other questions; repeat its options, or name a new folder"
        )
    mine = {arm.name: arm for arm in record.arms}
    for arm in contest.arms[:2]:
        before = mine.get(arm.name)
        if before is None or (before.pin.model, before.pin.prompt) != (arm.pin.model, arm.pin.prompt):
            raise RunError(f"--out {folder}: was begun with another {arm.name}; name a new folder")
    if record.repeats > repeats:
        raise RunError(
            f"--out {folder}: asks {record.repeats} times already; repeat --repeats {record.repeats}"
        )
    return replace(contest, arms=record.arms)


def _say_plan(order: _Order, repeats: int) -> int:
    questions, free = len(order.asked.cases.cases), len(order.free.cases) if order.free else 0
    print(
        json.dumps(
            {
                "folder": str(order.folder),
                "questions": questions,
                "left_out": dict(order.asked.left_out),
                "without_constrained_decoding": free,
                "arms": {arm.name: arm.pin.as_body() for arm in order.contest.arms},
                "answers": (questions * repeats + free) * len(order.contest.arms),
                "notes": list(order.contest.notes),
            },
            indent=2,
        )
    )
    return 0


# ---- asking and labelling --------------------------------------------------------------------------


async def _require_served(order: _Order, client: GatewayClient) -> None:
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
                "(`twinrail model versions` shows who does)"
            )


async def _ask(
    order: _Order,
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
    print(f"twinrail tune evaluate: {name} answers in {folder.path}", file=sys.stderr)
    concurrency = options.concurrency or settings.concurrency
    return await measure(folder, client, concurrency=concurrency, out=sys.stderr)


def _log_opening(order: _Order, options: argparse.Namespace, settings: EvalSettings, run_id: str) -> None:
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


async def _label(
    order: _Order, data: RunData, client: GatewayClient, at_once: int
) -> tuple[LabelRecord, ...]:
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


# ---- deciding and writing --------------------------------------------------------------------------


def _decide(
    order: _Order,
    served: RunData,
    free: RunData | None,
    labels: Sequence[LabelRecord],
    settings: EvalSettings,
) -> tuple[Judged, Report]:
    scorer = AnswerScorer(served, order.scoring)
    sides = Sides(
        candidate=CANDIDATE,
        served=_sides(served, order.scoring, run=order.folder / SERVED),
        free=_sides(free, order.scoring, run=order.folder / FREE) if free else {},
        cases=served.cases,
        subjects={
            key: subject
            for key, seen in served.observations.items()
            if (subject := scorer.subject(seen)) is not None
        },
        scoring=order.scoring,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    judged = judge(
        order.contest,
        sides.served,
        served.cases,
        rules=order.rules,
        policy=policy_from_labels(order.folder / SERVED, sides.served[CANDIDATE]),
        unchecked=_unchecked(order),
        notes=_notes(served),
        min_questions=settings.min_questions,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    report = report_of(
        Inputs(
            contest=order.contest,
            judged=judged,
            sides=sides,
            record=served.record,
            labels=labels,
            left_out=order.asked.left_out,
            trained=order.trained,
            rules=order.rules.model_dump(mode="json", exclude={"regression"}),
        )
    )
    return judged, report


def _sides(data: RunData, scoring: Scoring, *, run: Path) -> dict[str, Side]:
    outcomes = score_all(data, scoring)
    flips: Flips = count_flips(data, scoring)
    answers: dict[str, dict[str, Observation]] = {arm.name: {} for arm in data.record.arms}
    for (case_id, name), seen in data.observations.items():
        answers[name][case_id] = seen
    return {
        arm.name: Side(
            run=str(run),
            arm=arm,
            answers=answers[arm.name],
            outcomes={case_id: found for (case_id, name), found in outcomes.items() if name == arm.name},
            flips=flips,
        )
        for arm in data.record.arms
    }


def _unchecked(order: _Order) -> str:
    """Who does not say what the candidate was trained on has not shown that anything is unseen."""
    if order.trained.rows is not None:
        return ""
    return (
        "nobody has looked whether the questions were trained on; name the rows that the candidate learnt "
        "from (--dataset)"
    )


def _notes(data: RunData) -> list[str]:
    notes = []
    if data.record.repeats == 1:
        notes.append("flips: not measured, each question was asked once (--repeats 3)")
    asked = {case_id for case_id, _ in data.observations}
    if waiting := sum(case.id not in asked for case in data.cases):
        notes.append(f"{waiting} questions were asked in no arm: of staff, without EVAL_STAFF_API_KEY")
    return notes


def _publish(folder: Path, report: Report, *, as_json: bool) -> None:
    home = RunFolder(folder)
    plain = json.dumps({**report.content, "sha256": report.sha256}, indent=2, ensure_ascii=False) + "\n"
    home.write(REPORT_JSON, plain)
    home.write(REPORT_HTML, page_report(report.content))
    path = home.write(REPORT_MD, markdown_report(report.content))
    sys.stdout.write(plain if as_json else text_report(report.content))
    print(f"twinrail tune evaluate: report {path}", file=sys.stderr)


async def _record(client: GatewayClient, judged: Judged, report: Report) -> None:
    """The report first: a verdict never points to one that is not there."""
    try:
        sha256 = await client.put_report(report.name, kind="gate", content=report.content)
        await client.put_verdict(
            "model",
            judged.version,
            gate=judged.gate,
            verdict=judged.verdict,
            report=report.name,
            sha256=sha256,
        )
    except EvalError as exc:
        said = f"verdict {judged.verdict} is not recorded: {exc}"
        raise type(exc)(f"{said}; run the same command again, or add --no-record") from exc
    print(f"twinrail tune evaluate: recorded for {judged.version} as {report.name}", file=sys.stderr)

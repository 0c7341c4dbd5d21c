"""`twinrail tune evaluate`: has a tuned version earned its place?

Candidate, base with a strong prompt and the stable version answer the same unseen questions through the
gateway; a second time with nothing that holds them to the schema. Then every failure is labelled, the gates
are asked, and the verdict is stored beside the version.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.answer_scores import AnswerScorer
from eval.client import GatewayClient
from eval.connecting import open_client
from eval.errors import EvalError, GatewayUnavailableError
from eval.flips import Flips, count_flips
from eval.gating.policies import policy_from_labels
from eval.gating.sides import Side
from eval.gating.verdicts import EXIT_CODES
from eval.labelling.labels import LabelRecord
from eval.observations import Observation
from eval.record import RunData, RunFolder
from eval.scorers import Scoring
from eval.settings import EvalSettings
from eval.summary import score_all
from eval.tuning.asking import ask, label, require_served
from eval.tuning.content import Inputs, Report, report_of
from eval.tuning.contest import CANDIDATE, freely
from eval.tuning.deciding import Judged, judge
from eval.tuning.figures import Sides
from eval.tuning.ordering import FREE, SERVED, Order, order_of, version_of
from eval.tuning.report import markdown_report, page_report, text_report

REPORT_JSON, REPORT_MD, REPORT_HTML = "report.json", "report.md", "report.html"
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
        prog="twinrail tune evaluate",
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


async def run(options: argparse.Namespace, settings: EvalSettings) -> int:
    """Ask, label, decide, write, record, and end with the verdict's exit code."""
    version = version_of(options.candidate)
    url = options.url or settings.gateway_url
    concurrency = options.concurrency or settings.concurrency
    async with open_client(settings, url=url, concurrency=concurrency) as client:
        order = await order_of(version, options, settings, client, url)
        if options.dry_run:
            return _say_plan(order, options.repeats)
        try:
            await require_served(order, client)
            served = await ask(
                order, SERVED, order.asked.cases, order.contest.arms, client, options, settings
            )
            free = None
            if order.free is not None:
                free = await ask(
                    order, FREE, order.free, freely(order.contest.arms), client, options, settings
                )
            labels = await label(order, served, client, concurrency)
        except GatewayUnavailableError as exc:
            raise GatewayUnavailableError(f"{exc}; then the same command goes on") from exc
        judged, report = _decide(order, served, free, labels, settings)
        _publish(order.folder, report, as_json=options.json)
        if not options.no_record:
            await _record(client, judged, report)
    return EXIT_CODES[judged.verdict]


def _say_plan(order: Order, repeats: int) -> int:
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


def _decide(
    order: Order,
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


def _unchecked(order: Order) -> str:
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
        sha256 = await client.put_report(
            report.name, kind="gate", content=report.content, html=page_report(report.content)
        )
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

"""`twinrail eval`: measure a running gateway, score a run again, compare two runs or two index versions."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from eval.advice import command as advising
from eval.advice.team import read_team
from eval.arms import Arm, choose_arms, parse_arm, resolve_arms
from eval.cases import CaseSet, choose_cases
from eval.client import GatewayClient
from eval.connecting import open_client, pointers_for, prompt_digests
from eval.errors import EvalError, GatewayUnavailableError, RunError
from eval.exporting import command as exporting
from eval.gating import command as gating
from eval.judging import command as judging
from eval.labelling import command as labelling
from eval.metrics import FIVE, headline
from eval.online import command as watching
from eval.pilot import command as piloting
from eval.prompts import command as prompting
from eval.record import RunData, RunFolder, RunRecord
from eval.report import comparisons_json, comparisons_text, json_report, markdown_report, text_report
from eval.run import measure, plan
from eval.scorers import Scoring
from eval.scoring import scoring_of
from eval.sets import command as sets
from eval.sets.draft_command import add_draft, run_draft
from eval.sets.freezing import frozen_sha256
from eval.sets.import_command import add_import, run_import
from eval.sets.openings import Kind, Opening, OpeningLog, first_by_run, opens_holdout
from eval.settings import EvalSettings
from eval.summary import Comparison, Outcomes, Summary, compare, score_all, summarise
from eval.tuning import command as tuning
from eval.versions import add_versions, compare_found
from eval.versions_report import versions_json, versions_text

DONE, USAGE, UNAVAILABLE, THIN = 0, 2, 3, 4
_INTERRUPTED = 130

_RUN_EXAMPLE = """examples:
  twinrail eval run                                  three arms on the demo's dev questions
  twinrail eval run --split holdout --arms rag_base,rag_tuned
  twinrail eval run --arm old=knowledge:previous,model:stable --arm new=knowledge:stable,model:stable
  twinrail eval run --run ~/.twinrail/runs/20260301-120000   goes on with an interrupted run

exit codes: 0 done, 2 bad usage or settings, 3 gateway down (resume with --run), 4 not enough evidence"""


def main(argv: Sequence[str] | None = None, *, settings: EvalSettings | None = None) -> int:
    """Run one command. `settings` is for callers that know the gateway and its keys already."""
    try:
        options = _parser().parse_args(argv)
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else USAGE
    try:
        settings = settings or EvalSettings()
        result: int = options.command(options, settings)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        name = name if name.startswith(("EVAL_", "TWINRAIL_")) else f"EVAL_{name}"
        return _complain(f"{name}: {first['msg']}; correct the environment variable", USAGE)
    except EvalError as exc:
        return _complain(str(exc), UNAVAILABLE if exc.retryable else USAGE)
    except KeyboardInterrupt:
        return _complain(
            "stopped; what was answered is kept: the same command goes on (`eval run`: with --run DIR)",
            _INTERRUPTED,
        )
    return result


def _awaited(
    work: Callable[[argparse.Namespace, EvalSettings], Coroutine[Any, Any, int]],
) -> Callable[[argparse.Namespace, EvalSettings], int]:
    """A command of another module as `main` calls it."""
    return lambda options, settings: asyncio.run(work(options, settings))


def _complain(message: str, code: int) -> int:
    print(f"twinrail eval: {message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="twinrail eval", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="ask questions in several arms and print the five metrics",
        epilog=_RUN_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.set_defaults(command=_run)
    run.add_argument("--questions", type=Path, metavar="PATH", help="question file or folder [the demo's]")
    run.add_argument(
        "--split", action="append", metavar="NAME", help="train, dev, holdout or all; again for more [dev]"
    )
    run.add_argument("--kind", action="append", metavar="NAME", help="only this kind; again for more")
    run.add_argument("--limit", type=_positive, metavar="N", help="a sample of N, spread over topics")
    run.add_argument(
        "--arms",
        metavar="A,B",
        help="of prompt_only, rag_base, rag_tuned [all three]; rag_improved, oracle, tuned",
    )
    run.add_argument(
        "--arm",
        action="append",
        metavar="NAME=PIN",
        help="an arm: name=knowledge:ID,model:ID,context:none|gold,prompt:FILE,kind:KIND; ID may also be "
        "stable, canary, previous, fallback, and of knowledge improved",
    )
    run.add_argument("--run", type=Path, metavar="DIR", help="folder of the run; one that exists is resumed")
    run.add_argument("--url", help="address of the gateway [EVAL_GATEWAY_URL]")
    run.add_argument("--concurrency", type=_positive, metavar="N", help="in flight [EVAL_CONCURRENCY]")
    run.add_argument(
        "--repeats",
        type=_positive,
        metavar="K",
        help="ask each question K times in each arm; metrics count the first, flips are printed [1]",
    )
    run.add_argument("--dry-run", action="store_true", help="say what would be asked, ask nothing")
    _add_team(run)
    _add_shared(run)
    score = commands.add_parser(
        "score",
        help="score a run again, without the gateway",
        epilog="example: twinrail eval score ~/.twinrail/runs/20260301-120000 --json",
    )
    score.set_defaults(command=_score)
    score.add_argument("folder", type=Path, metavar="RUN")
    _add_team(score)
    _add_shared(score)
    against = commands.add_parser(
        "compare",
        help="compare an arm of one run with an arm of another, on the same questions",
        epilog="example: twinrail eval compare runs/before:rag_tuned runs/after:rag_tuned",
    )
    against.set_defaults(command=_compare)
    against.add_argument("first", metavar="RUN:ARM")
    against.add_argument("second", metavar="RUN:ARM")
    _add_shared(against)
    add_versions(commands).set_defaults(command=_versions)
    gating.add_parser(commands).set_defaults(command=_awaited(gating.run))
    add_import(commands).set_defaults(command=_awaited(run_import))
    sets.add_split(commands).set_defaults(command=_awaited(sets.run_split))
    sets.add_freeze(commands).set_defaults(command=_awaited(sets.run_freeze))
    add_draft(commands).set_defaults(command=_awaited(run_draft))
    advising.add_parser(commands).set_defaults(command=_awaited(advising.run))
    labelling.add_parser(commands).set_defaults(command=_awaited(labelling.run))
    judging.add_parser(commands).set_defaults(command=_awaited(judging.run))
    watching.add_parser(commands).set_defaults(command=_awaited(watching.run))
    prompting.add_parser(commands).set_defaults(command=_awaited(prompting.run))
    exporting.add_parser(commands).set_defaults(command=_awaited(exporting.run))
    tuning.add_parser(commands).set_defaults(command=_awaited(tuning.run))
    piloting.add_parser(commands).set_defaults(command=_awaited(piloting.run))
    return parser


def _add_team(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--team", type=Path, metavar="FILE", help="team file: its prices cost the answers")


def _add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--schema", type=Path, metavar="FILE", help="the task's JSON Schema [support_answer]")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _scoring(options: argparse.Namespace, settings: EvalSettings) -> Scoring:
    return scoring_of(settings, options.schema)


# ---- run ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What the command line asks for; None where it leaves the choice to an existing run."""

    cases: CaseSet | None
    arms: tuple[Arm, ...] | None
    selection: dict[str, Any]
    repeats: int | None


def _run(options: argparse.Namespace, settings: EvalSettings) -> int:
    folder = RunFolder(options.run or settings.runs / datetime.now(UTC).strftime("%Y%m%d-%H%M%S"))
    team = read_team(options.team) if options.team else None
    order = _order(options, settings, resuming=folder.exists)
    if options.dry_run:
        return _say_plan(order, folder)
    scoring = _scoring(options, settings)
    data = asyncio.run(_ask(folder, order, options, settings))
    summary = summarise(
        data,
        scoring,
        min_questions=settings.min_questions,
        resamples=settings.resamples,
        seed=settings.seed,
        team=team,
    )
    return _publish(folder, summary, as_json=options.json)


def _order(options: argparse.Namespace, settings: EvalSettings, *, resuming: bool) -> _Order:
    selection = {"splits": options.split, "kinds": options.kind, "limit": options.limit}
    cases = None
    if not resuming or options.questions or any(selection.values()):
        cases, selection["splits"] = choose_cases(
            options.questions or settings.questions,
            splits=options.split,
            kinds=options.kind,
            limit=options.limit,
            seed=settings.seed,
        )
    arms = None
    if not resuming or options.arms or options.arm:
        names = [name.strip() for name in (options.arms or "").split(",") if name.strip()]
        arms = choose_arms(names, [parse_arm(text) for text in options.arm or ()])
    return _Order(cases=cases, arms=arms, selection=selection, repeats=options.repeats)


def _say_plan(order: _Order, folder: RunFolder) -> int:
    data = folder.read() if folder.exists else None
    if data is not None:
        _check_same(order, data.record)
    cases = order.cases.cases if order.cases else data.cases if data else ()
    arms = order.arms or (data.record.requested_arms if data else ())
    plan_json = {
        "run": str(folder.path),
        "questions": len(cases),
        "arms": {arm.name: arm.pin.as_body() for arm in arms},
        "answers": len(cases) * len(arms) * (order.repeats or (data.record.repeats if data else 1)),
        "answers_already_there": len(data.observations) + len(data.repeated) if data else 0,
    }
    print(json.dumps(plan_json, indent=2))
    return DONE


async def _ask(
    folder: RunFolder, order: _Order, options: argparse.Namespace, settings: EvalSettings
) -> RunData:
    url = options.url or settings.gateway_url
    concurrency = options.concurrency or settings.concurrency
    async with open_client(settings, url=url, concurrency=concurrency) as client:
        if folder.exists:
            record = folder.read().record
            _check_same(order, record)
            if order.repeats and order.repeats > record.repeats:
                folder.save(replace(record, repeats=order.repeats))
        else:
            await _begin(folder, order, client, url, runs=settings.runs)
        print(f"twinrail eval: run {folder.path}", file=sys.stderr)
        try:
            return await measure(folder, client, concurrency=concurrency, out=sys.stderr)
        except GatewayUnavailableError as exc:
            raise GatewayUnavailableError(f"{exc}; then resume with --run {folder.path}") from exc


async def _begin(folder: RunFolder, order: _Order, client: GatewayClient, url: str, *, runs: Path) -> None:
    if order.cases is None or order.arms is None:
        raise RunError(f"--run {folder.path}: is gone; start again")
    pointers = await pointers_for(client, order.arms)
    record = plan(
        run_id=folder.path.name,
        gateway_url=url,
        cases=order.cases,
        selection={**order.selection, "frozen_sha256": frozen_sha256(Path(order.cases.name))},
        requested=order.arms,
        arms=resolve_arms(order.arms, pointers),
        stable_knowledge=pointers.get("knowledge", {}).get("stable"),
        prompts=await prompt_digests(client),
        repeats=order.repeats or 1,
    )
    # Before anything is written: a run that could not be logged cannot be resumed around the log.
    _log_opening(order.cases, record, runs=runs)
    folder.create(record, order.cases)


def _log_opening(cases: CaseSet, record: RunRecord, *, runs: Path) -> None:
    """Say who looks at the holdout, and who did before."""
    if not opens_holdout(case.split for case in cases.cases):
        return
    pins = (pin for arm in record.arms for pin in (arm.pin.knowledge, arm.pin.model) if pin)
    before = first_by_run(
        OpeningLog(cases.name, runs=runs).add(
            Opening(
                kind=Kind.RUN,
                at=datetime.now(UTC).isoformat(timespec="seconds"),
                who=getpass.getuser(),
                run=record.id,
                versions=tuple(dict.fromkeys(pins)),
                questions=cases.name,
                sha256=record.selection["frozen_sha256"] or cases.sha256,
            )
        )
    )
    if before:
        last = before[-1]
        print(
            f"twinrail eval: the holdout was opened {len(before)} times before, last on {last.at[:10]} by "
            f"{last.who}; whoever looks at it twice has tuned on it",
            file=sys.stderr,
        )


def _check_same(order: _Order, record: RunRecord) -> None:
    """A resumed run keeps its questions and arms; options that say otherwise are a mistake."""
    if order.cases is not None and order.cases.sha256 != record.question_set_sha256:
        raise RunError(
            f"--run {record.id}: was begun with other questions; drop --questions, --split, --kind and "
            "--limit, or name a new folder"
        )
    if order.arms is not None and order.arms != record.requested_arms:
        names = ", ".join(arm.name for arm in record.requested_arms)
        raise RunError(f"--run {record.id}: was begun with the arms {names}; drop --arms and --arm")
    if order.repeats is not None and order.repeats < record.repeats:
        raise RunError(
            f"--run {record.id}: asks {record.repeats} times already; drop --repeats or give a larger number"
        )


# ---- score and compare -------------------------------------------------------------------------


def _score(options: argparse.Namespace, settings: EvalSettings) -> int:
    folder = RunFolder(options.folder)
    summary = summarise(
        folder.read(),
        _scoring(options, settings),
        min_questions=settings.min_questions,
        resamples=settings.resamples,
        seed=settings.seed,
        team=read_team(options.team) if options.team else None,
    )
    return _publish(folder, summary, as_json=options.json)


def _publish(folder: RunFolder, summary: Summary, *, as_json: bool) -> int:
    plain = json.dumps(json_report(summary), indent=2, ensure_ascii=False)
    folder.write("report.json", plain + "\n")
    markdown = folder.write("report.md", markdown_report(summary))
    print(plain if as_json else text_report(summary), end="\n" if as_json else "")
    print(f"twinrail eval: report {markdown}", file=sys.stderr)
    if summary.thin:
        return _complain(f"not enough evidence: {'; '.join(summary.thin)}", THIN)
    return DONE


def _compare(options: argparse.Namespace, settings: EvalSettings) -> int:
    scoring = _scoring(options, settings)
    (first, first_arm), (second, second_arm) = _side(options.first), _side(options.second)
    if first.record.question_set_sha256 != second.record.question_set_sha256:
        raise RunError(f"{options.first} and {options.second}: asked different questions; run one again")
    sides = [
        # Names say which run, so that the same arm of two runs can be told apart.
        (f"{data.record.id}:{arm}", _only(arm, f"{data.record.id}:{arm}", score_all(data, scoring)))
        for data, arm in ((first, first_arm), (second, second_arm))
    ]
    found: list[Comparison] = []
    for group in FIVE:
        comparison = compare(
            headline(group), sides[0], sides[1], first.cases, resamples=settings.resamples, seed=settings.seed
        )
        if comparison is not None:
            found.append(comparison)
    print(json.dumps(comparisons_json(found), indent=2) if options.json else comparisons_text(found))
    most = max((comparison.test.n for comparison in found), default=0)
    if most < settings.min_questions:
        return _complain(
            f"not enough evidence: {most} questions in both arms; {settings.min_questions} are needed", THIN
        )
    return DONE


def _versions(options: argparse.Namespace, settings: EvalSettings) -> int:
    found = asyncio.run(compare_found(options, settings))
    print(json.dumps(versions_json(found), indent=2) if options.json else versions_text(found))
    if found.comparison.thin:
        return _complain(f"not enough evidence: {found.comparison.thin}", THIN)
    return DONE


def _side(text: str) -> tuple[RunData, str]:
    path, colon, arm = text.rpartition(":")
    if not colon or not path:
        raise RunError(f"{text}: write RUN:ARM, for example runs/20260301-120000:rag_tuned")
    data = RunFolder(Path(path)).read()
    names = [other.name for other in data.record.arms]
    if arm not in names:
        raise RunError(f"{text}: the run has no arm {arm!r}; choose from {', '.join(names)}")
    return data, arm


def _only(arm: str, name: str, outcomes: Outcomes) -> Outcomes:
    return {(case_id, name): value for (case_id, other), value in outcomes.items() if other == arm}

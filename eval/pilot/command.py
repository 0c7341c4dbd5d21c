"""`twinrail pilot`: seven days from real questions to a decision, resumable, on a running gateway."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.advice.team import read_team
from eval.client import GatewayClient
from eval.connecting import open_client
from eval.errors import PilotError
from eval.pilot.days import Plan
from eval.pilot.guide import PAGE, Guide, next_day, page_of, views
from eval.pilot.measuring import Workbench
from eval.pilot.questions_day import Source
from eval.pilot.reports import text_day
from eval.pilot.state import DAYS, PilotFolder, PilotState, missing_days
from eval.scoring import scoring_of
from eval.sets.rows import parse_columns
from eval.settings import EvalSettings

DONE, THIN = 0, 4
#: As the gateway takes it.
_LONGEST_NAME = 120
_ODD = re.compile(r"[^A-Za-z0-9._-]")

_EXAMPLE = """examples:
  twinrail pilot pilots/march --questions export.csv --team team.toml   day 1; the next call does day 2
  twinrail pilot pilots/march                                           the next day, or the rest of it
  twinrail pilot pilots/march --day 4 --redo                            once an index version was built
  twinrail pilot pilots/demo --all                                      all seven days on the demo
  twinrail pilot pilots/demo --all --limit 20                           the same on a sample

Stop it at any time: the same command goes on where it stopped.
exit codes: 0 done, 2 bad usage or a day that cannot be done now, 3 gateway down (run again to go on),
4 not enough evidence (the reports say what is missing)"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Declare the command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "pilot",
        prog="twinrail pilot",
        help="a guided week: questions, baseline, retrieval, what is left, tuning or not, the choice",
        description=__doc__,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of this pilot; made if it is not there")
    parser.add_argument(
        "--questions", type=Path, metavar="PATH", help="set, CSV, TSV or JSONL, or a folder [the demo's]"
    )
    parser.add_argument(
        "--split",
        action="append",
        metavar="NAME",
        help="of the questions; again for more [dev, where there is one]",
    )
    parser.add_argument("--limit", type=_positive, metavar="N", help="a sample of N, spread over clusters")
    parser.add_argument(
        "--column", action="append", metavar="FIELD=COLUMN", help="a column with another name; again for more"
    )
    parser.add_argument("--no-redact", action="store_true", help="the questions hold no personal data")
    parser.add_argument(
        "--team", type=Path, metavar="FILE", help="team file (TOML) [team.toml beside the questions' folder]"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--day", type=int, choices=list(DAYS), metavar="N", help="1 to 7 [the next one]")
    which.add_argument("--all", action="store_true", help="every day that is not done")
    parser.add_argument(
        "--redo", action="store_true", help="do days again whose inputs changed, or the one that --day names"
    )
    parser.add_argument(
        "--send", action="store_true", help="store labels, metrics and the pilot in the gateway"
    )
    parser.add_argument("--url", help="address of the gateway [EVAL_GATEWAY_URL]")
    parser.add_argument("--schema", type=Path, metavar="FILE", help="the task's JSON Schema [support_answer]")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, do nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    return parser


async def run(options: argparse.Namespace, settings: EvalSettings) -> int:
    """Do the days that are due and print what they found."""
    folder = PilotFolder(options.folder)
    state = folder.read()
    said = _options(options, state, settings)
    asked = list(DAYS) if options.all else [options.day or next_day(state)]
    if options.dry_run:
        return _say_plan(folder, state, said, asked)
    if said["team"]:
        read_team(Path(said["team"]))  # a mistake in it should not wait for day 6
    if options.redo or not state.days:
        folder.save(replace(state, options=said))
    url = options.url or settings.gateway_url
    plan = Plan(
        folder=folder,
        bench=Workbench(
            path=folder.path,
            settings=settings,
            scoring=scoring_of(settings, options.schema),
            url=url,
            out=sys.stderr,
        ),
        source=Source(
            path=Path(said["questions"]),
            splits=tuple(said["splits"]),
            limit=said["limit"],
            columns=parse_columns(said["columns"]),
            redact=said["redact"],
            seed=settings.seed,
        ),
        team=Path(said["team"]) if said["team"] else None,
        connect=lambda: open_client(settings, url=url, concurrency=settings.concurrency),
    )
    state = await Guide(folder=folder, days=plan.days(), say=_say).go(asked, redo=options.redo)
    if options.send:
        async with plan.connect() as client:
            await plan.bench.send(client, state.run_number)
            await _send(client, folder, state, url)
    shown = [view for view in views(state) if view.day in asked]
    if options.json:
        sys.stdout.write(json.dumps(state.as_json(), indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write("\n\n".join(text_day(view) for view in shown) + "\n")
    _say(f"page {folder.path / PAGE}")
    return THIN if any(view.report and view.report.thin for view in shown) else DONE


def _options(options: argparse.Namespace, state: PilotState, settings: EvalSettings) -> dict[str, Any]:
    """What the command line says, and what it said first where it is silent now."""
    known = state.options
    questions = options.questions or Path(known.get("questions", settings.questions))
    if not questions.exists():
        raise PilotError(f"--questions {questions}: does not exist; name a question file or folder")
    beside = questions.resolve().parent / "team.toml"
    team = options.team or known.get("team") or (beside if beside.is_file() else None)
    # The demo's questions are made up, and so are the people in them.
    redact = known.get("redact", questions.resolve() != settings.questions.resolve())
    return {
        "questions": str(questions.resolve()),
        "splits": options.split or known.get("splits", []),
        "limit": options.limit or known.get("limit"),
        "columns": options.column or known.get("columns", []),
        "redact": redact and not options.no_redact,
        "team": str(Path(team).resolve()) if team else None,
    }


def _say_plan(folder: PilotFolder, state: PilotState, said: Mapping[str, Any], asked: list[int]) -> int:
    plan = {
        "pilot": str(folder.path),
        "options": dict(said),
        "days": {
            str(day): {
                "title": title,
                "done": state.days[day].at if day in state.days else None,
                "would_be_done": day in asked and day not in state.days,
                "missing_first": [each for each in missing_days(state, day) if each not in asked],
            }
            for day, title in DAYS.items()
        },
    }
    sys.stdout.write(json.dumps(plan, indent=2, ensure_ascii=False) + "\n")
    return DONE


async def _send(client: GatewayClient, folder: PilotFolder, state: PilotState, url: str) -> None:
    name = _ODD.sub("-", f"pilot-{folder.path.resolve().name}")[:_LONGEST_NAME]
    await client.put_report(name, kind="pilot", content=state.as_json(), html=page_of(folder, state))
    _say(f"stored at {url} as {name}")


def _say(text: str) -> None:
    sys.stderr.write(f"twinrail pilot: {text}\n")


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value

"""`twinrail eval prompts`: search the prompt of a model on the dev questions, on a running gateway."""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.arms import Arm, choose_arms, parse_arm, resolve_arms
from eval.cases import CaseSet, choose_cases, spread
from eval.client import GatewayClient
from eval.connecting import open_client, pointers_for
from eval.errors import GatewayUnavailableError, PromptSearchError
from eval.metrics import METRICS
from eval.prompts.grid import CURRENT, Candidate, Grid, read_grid
from eval.prompts.record import SearchFolder, SearchRecord
from eval.prompts.search_report import (
    BEST_FILE,
    REPORT_FILE,
    prompt_file,
    search_json,
    search_markdown,
    search_text,
)
from eval.prompts.searching import Search, answers_left, stages_of
from eval.scoring import scoring_of
from eval.settings import EvalSettings

DONE, THIN = 0, 4
#: The demo's: for an untuned model that answers customers.
DEMO_GRID = Path(__file__).parents[2] / "deploy" / "demo" / "prompt_grid.yaml"
#: Whoever chooses by other questions has none left to judge by.
_SPLITS = ("dev", "train")
_FIRST, _ARM, _OBJECTIVE = 12, "prompt_only", "answer_right"
#: What must not change in mid-search, and the option that says it.
_KEPT = {
    "grid_sha256": "--grid or --prompts",
    "candidates": "--grid or --prompts",
    "requested_arm": "--arm",
    "question_set_sha256": "--questions, --split or --kind",
    "objective": "--objective",
    "first": "--first",
    "confirm": "--confirm",
    "seed": "EVAL_SEED",
}

_EXAMPLE = """examples:
  twinrail eval prompts searches/a                          the demo's grid, prompt only, dev questions
  twinrail eval prompts searches/b --arm rag_base           the same with retrieval
  twinrail eval prompts searches/b                          goes on with an interrupted search

exit codes: 0 done, 2 bad usage or grid, 3 gateway down (the same command goes on), 4 too few questions"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "prompts",
        help="search the prompt of a model: many on few questions, fewer on more, one that is left",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="one that exists is gone on with")
    parser.add_argument("--grid", type=Path, metavar="FILE", help="prompts to compare [the demo's]")
    parser.add_argument("--prompts", type=_positive, metavar="N", help="only N of the grid, drawn")
    parser.add_argument(
        "--arm", metavar="NAME[=PIN]", help=f"what the prompts are tried in, as of `eval run` [{_ARM}]"
    )
    parser.add_argument("--questions", type=Path, metavar="PATH", help="question file or folder [the demo's]")
    parser.add_argument("--split", action="append", choices=_SPLITS, help="again for more [dev]")
    parser.add_argument("--kind", action="append", metavar="NAME", help="only this kind; again for more")
    parser.add_argument(
        "--objective",
        choices=sorted(metric.name for metric in METRICS),
        help=f"the metric to choose by [{_OBJECTIVE}]",
    )
    parser.add_argument(
        "--first", type=_positive, metavar="N", help=f"questions of the first round [{_FIRST}]"
    )
    parser.add_argument(
        "--confirm",
        type=int,
        metavar="N",
        help="questions for the best and the current prompt at the end, 0: none [twice --first]",
    )
    parser.add_argument("--url", help="address of the gateway [EVAL_GATEWAY_URL]")
    parser.add_argument("--concurrency", type=_positive, metavar="N", help="in flight [EVAL_CONCURRENCY]")
    parser.add_argument("--schema", type=Path, metavar="FILE", help="the task's JSON Schema [support_answer]")
    parser.add_argument("--dry-run", action="store_true", help="say what would be asked, ask nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)


async def run(options: argparse.Namespace, settings: EvalSettings) -> int:
    """Search, print, and leave the best prompt as a file."""
    folder = SearchFolder(options.folder)
    scoring = scoring_of(settings, options.schema)
    known = folder.read() if folder.exists else None
    cases = _cases(options, settings, known)
    url = options.url or settings.gateway_url
    concurrency = options.concurrency or settings.concurrency
    async with open_client(settings, url=url, concurrency=concurrency) as client:
        wanted = await _plan(options, settings, known, cases, client, scoring.schema, url)
        if options.dry_run:
            return _say_plan(wanted, folder)
        if known is None:
            folder.save(wanted)
        search = Search(
            folder=folder,
            cases={case.id: case for case in cases.cases},
            gateway=client,
            scoring=scoring,
            concurrency=concurrency,
            resamples=settings.resamples,
            out=sys.stderr,
        )
        try:
            record = await search.run()
        except GatewayUnavailableError as exc:
            raise GatewayUnavailableError(f"{exc}; then the same command goes on") from exc
    return _publish(record, folder, settings, as_json=options.json)


def _cases(options: argparse.Namespace, settings: EvalSettings, known: SearchRecord | None) -> CaseSet:
    path = options.questions or (Path(known.question_set) if known else settings.questions)
    splits = options.split or (list(known.splits) if known else None)
    kinds = options.kind or (list(known.kinds) if known else None)
    cases, _ = choose_cases(path, splits=splits, kinds=kinds, limit=None, seed=settings.seed)
    if other := sorted({case.split for case in cases.cases} - set(_SPLITS)):
        raise PromptSearchError(
            f"{path}: holds questions of the split {other[0]!r}, and a prompt is chosen by dev questions: "
            "what it is worth has to be judged by others; split the set first (`twinrail eval split`)"
        )
    return cases


async def _plan(
    options: argparse.Namespace,
    settings: EvalSettings,
    known: SearchRecord | None,
    cases: CaseSet,
    client: GatewayClient,
    schema: Any,
    url: str,
) -> SearchRecord:
    """The record of a search that has not begun; of one that has, the known one if nothing was changed."""
    requested = _arm(options.arm) if options.arm or known is None else known.requested_arm
    first = options.first or (known.first if known else _FIRST)
    confirm = options.confirm if options.confirm is not None else known.confirm if known else 2 * first
    if confirm < 0:
        raise PromptSearchError(f"--confirm: {confirm} is no number of questions; give 0 or more")
    candidates, grid = _candidates(options, settings, known, schema)
    pointers = await pointers_for(client, [requested]) if known is None else {}
    asked = [case for case in cases.cases if case.asker in client.askers]
    if not asked:
        raise PromptSearchError(f"{cases.name}: no question can be asked; set EVAL_STAFF_API_KEY")
    wanted = SearchRecord(
        gateway_url=url,
        question_set=cases.name,
        question_set_sha256=cases.sha256,
        splits=tuple(sorted({case.split for case in cases.cases})),
        kinds=tuple(options.kind or (known.kinds if known else ())),
        questions=tuple(case.id for case in spread(asked, len(asked), settings.seed)),
        grid=str(grid[0]),
        grid_sha256=grid[1],
        candidates=candidates,
        arm=known.arm if known else resolve_arms([requested], pointers)[0],
        requested_arm=requested,
        knowledge=known.knowledge if known else pointers.get("knowledge", {}).get("stable"),
        objective=options.objective or (known.objective if known else _OBJECTIVE),
        first=first,
        confirm=confirm,
        seed=settings.seed,
    )
    if known is None:
        return wanted
    for field, option in _KEPT.items():
        if getattr(known, field) != getattr(wanted, field):
            raise PromptSearchError(
                f"{options.folder}: was begun with another {field}; leave out {option}, or name a new folder"
            )
    return known


def _candidates(
    options: argparse.Namespace, settings: EvalSettings, known: SearchRecord | None, schema: Any
) -> tuple[tuple[Candidate, ...], tuple[str, str]]:
    """The prompts, the current one among them, and the grid's path and digest."""
    if known is not None and options.grid is None and options.prompts is None:
        return known.candidates, (known.grid, known.grid_sha256)
    grid: Grid = read_grid(options.grid or DEMO_GRID, schema)
    chosen: Sequence[Candidate] = grid.candidates
    if options.prompts is not None and options.prompts < len(chosen):
        drawn = set(random.Random(settings.seed).sample(range(len(chosen)), options.prompts))
        chosen = [each for place, each in enumerate(chosen) if place in drawn]
    return (Candidate(name=CURRENT, prompt=None), *chosen), (str(grid.path), grid.sha256)


def _arm(text: str | None) -> Arm:
    arm = parse_arm(text) if text and "=" in text else choose_arms([text or _ARM], [])[0]
    if arm.pin.prompt is not None:
        raise PromptSearchError(f"--arm {arm.name}: the prompt is what is searched; drop prompt:")
    return replace(arm, stated=arm.kind)


def _say_plan(record: SearchRecord, folder: SearchFolder) -> int:
    plan = {
        "folder": str(folder.path),
        "arm": record.arm.pin.as_body(),
        "prompts": [each.name for each in record.candidates],
        "rounds": [
            {"prompts": stage.prompts + 1, "questions": stage.questions} for stage in stages_of(record)
        ],
        "confirm": record.confirm,
        "answers_at_most": answers_left(record),
    }
    print(json.dumps(plan, indent=2))
    return DONE


def _publish(record: SearchRecord, folder: SearchFolder, settings: EvalSettings, *, as_json: bool) -> int:
    best = record.candidate(record.best).prompt
    if best is not None:
        folder.write(BEST_FILE, prompt_file(best, record))
    report = folder.write(REPORT_FILE, search_markdown(record, folder.path))
    if as_json:
        print(json.dumps(search_json(record, folder.path), indent=2, ensure_ascii=False))
    else:
        print(search_text(record, folder.path), end="")
    print(f"twinrail eval: report {report}", file=sys.stderr)
    asked = record.rounds[-1].questions
    if asked < settings.min_questions:
        print(
            f"twinrail eval: not enough evidence: chosen on {asked} questions, fewer than "
            f"{settings.min_questions} (EVAL_MIN_QUESTIONS)",
            file=sys.stderr,
        )
        return THIN
    return DONE

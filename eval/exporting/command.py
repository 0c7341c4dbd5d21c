"""`twinrail eval export`: what became of reviewed turns, as files for those who go on with it."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from eval.connecting import open_client
from eval.errors import StorageError
from eval.exporting.cleaning import Cleaner
from eval.exporting.examples import example_of
from eval.exporting.gaps import gaps_markdown
from eval.exporting.questions import needs_facts, policy_case, regression_test
from eval.exporting.reviewed_turns import Collected, ReviewedTurn, collect
from eval.online.command import moment, window_of
from eval.scorers import Scoring
from eval.scoring import scoring_of
from eval.sets.command import add_redaction, redactor_of
from eval.sets.freezing import require_open
from eval.sets.questions import QUESTIONS, Question, canonical_bytes
from eval.settings import EvalSettings

TRAINING, GAPS, MANIFEST = "training.jsonl", "gaps.md", "export.json"
REGRESSION, POLICY = "regression", "policy"
_DONE = 0
_LONG_AGO_DAYS = 3_650
_MOST = 10_000
_EXAMPLE = """examples:
  twinrail eval export reviewed/march --since 2026-03-01 --keep pellworth.example
  twinrail eval run --questions reviewed/march/regression --arms rag_tuned

writes training.jsonl, regression/questions.jsonl, policy/questions.jsonl, gaps.md and export.json
exit codes: 0 done, 2 bad usage, 3 gateway down or disk full"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The parser of this command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "export",
        help="write what became of reviewed turns: examples, tests, cases, articles to write",
        description=__doc__,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="made if it is not there, else replaced")
    parser.add_argument(
        "--since", type=moment, metavar="TIME", help="ISO day or time of the question [the first]"
    )
    parser.add_argument("--until", type=moment, metavar="TIME", help="the first that is not meant [now]")
    parser.add_argument(
        "--evaluations",
        action="store_true",
        help="turns of evaluations too; only where nothing is decided on their questions",
    )
    add_redaction(parser)
    parser.add_argument("--schema", type=Path, metavar="FILE", help="the task's JSON Schema [support_answer]")
    parser.add_argument("--url", help="address of the gateway [EVAL_GATEWAY_URL]")
    parser.add_argument("--dry-run", action="store_true", help="say what would be written, write nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of sentences")
    parser.set_defaults(version=None, limit=_MOST)
    return parser


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """The files by name, and what stands in them."""

    files: Mapping[str, bytes]
    summary: Mapping[str, Any]
    #: Regression tests that a program cannot judge yet.
    unfinished: int


async def run(options: argparse.Namespace, settings: EvalSettings) -> int:
    """Read, clean, sort by ending, write."""
    for name in (REGRESSION, POLICY):
        require_open(options.folder / name)
    window = window_of(options, now=datetime.now(UTC), days=_LONG_AGO_DAYS)
    scoring = scoring_of(settings, options.schema)
    cleaner = Cleaner(redactor_of(options))
    url = options.url or settings.gateway_url
    async with open_client(settings, url=url, concurrency=settings.concurrency) as client:
        collected = await collect(
            client,
            window,
            evaluations=options.evaluations,
            at_once=settings.concurrency,
            out=sys.stderr,
        )
    export = sort_by_ending(collected, scoring, cleaner)
    if not options.dry_run:
        write(options.folder, export)
    if options.json:
        print(json.dumps(export.summary, indent=2, ensure_ascii=False))
    else:
        print(_sentences(options.folder, export.summary), end="")
    if export.unfinished:
        print(
            f"twinrail eval: {export.unfinished} regression tests hold no value that a program can check; "
            f"write facts into {options.folder / REGRESSION / QUESTIONS} (the wanted answer is in `note`)",
            file=sys.stderr,
        )
    return _DONE


def sort_by_ending(collected: Collected, scoring: Scoring, cleaner: Cleaner) -> Export:
    """Each closed review into the file of its one ending; the same reviews give the same bytes."""
    by_ending: dict[str, list[ReviewedTurn]] = {}
    for each in collected.turns:
        by_ending.setdefault(each.review.ending, []).append(cleaner.turn(each))
    examples = [example_of(each, scoring) for each in by_ending.get("training_example", ())]
    tests = _made(regression_test, by_ending.get("regression_test", ()), scoring)
    cases = _made(policy_case, by_ending.get("policy_case", ()), scoring)
    files: dict[str, bytes] = {}
    if examples:
        files[TRAINING] = b"".join(orjson.dumps(example) + b"\n" for example in examples)
    if tests:
        files[f"{REGRESSION}/{QUESTIONS}"] = canonical_bytes(tests)
    if cases:
        files[f"{POLICY}/{QUESTIONS}"] = canonical_bytes(cases)
    if collected.gaps:
        files[GAPS] = gaps_markdown(collected.gaps, cleaner).encode()
    summary = {
        "reviews": len(collected.turns) + sum(collected.left_out.values()),
        "endings": dict(sorted(Counter(each.review.ending for each in collected.turns).items())),
        "left_out": dict(collected.left_out),
        "training_examples": dict(Counter(example["kind"] for example in examples)),
        "articles_to_write": len(collected.gaps),
        "redacted": None if cleaner.redacts_nothing else dict(sorted(cleaner.found.items())),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
    }
    files[MANIFEST] = orjson.dumps(summary, option=orjson.OPT_INDENT_2) + b"\n"
    return Export(files=files, summary=summary, unfinished=sum(needs_facts(test) for test in tests))


def write(folder: Path, export: Export) -> None:
    """Replace what an earlier export left; a file that nothing belongs to any more goes."""
    known = (TRAINING, GAPS, MANIFEST, f"{REGRESSION}/{QUESTIONS}", f"{POLICY}/{QUESTIONS}")
    try:
        for name in known:
            target = folder / name
            if name not in export.files:
                target.unlink(missing_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = target.with_name(f".{target.name}.new")
            draft.write_bytes(export.files[name])
            draft.replace(target)
    except OSError as exc:
        raise StorageError(f"{folder}: {exc.strerror}; make the folder writable or free space") from exc


def _made(
    make: Callable[[ReviewedTurn, Scoring], Question], turns: Sequence[ReviewedTurn], scoring: Scoring
) -> list[Question]:
    return [make(each, scoring) for each in turns]


def _sentences(folder: Path, summary: Mapping[str, Any]) -> str:
    def listed(counted: Mapping[str, int]) -> str:
        return ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counted.items()) or "none"

    taken = "not looked for" if summary["redacted"] is None else listed(summary["redacted"])
    lines = [
        f"{summary['reviews']} closed reviews: {listed(summary['endings'])}",
        f"left out: {listed(summary['left_out'])}",
        f"taken out: {taken}; a person must read it all the same",
        *(f"{folder / name}" for name in summary["files"]),
    ]
    return "\n".join(lines) + "\n"

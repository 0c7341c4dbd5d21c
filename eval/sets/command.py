"""`twinrail eval split` and `freeze`: what a set is measured on, and that it stays what it is."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.errors import NotEnoughQuestionsError, RunError, UnknownRegionError
from eval.sets.freezing import Manifest, check_frozen, count, freeze, require_open
from eval.sets.questions import QUESTIONS, SPLITS, Split, read_questions, write_questions
from eval.settings import EvalSettings
from serving import errors as serving_errors

if TYPE_CHECKING:
    from serving.redaction import Redactor

DONE, THIN = 0, 4


def add_split(commands: Any) -> argparse.ArgumentParser:
    """The parser of `split`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "split",
        help="draw dev, gate and holdout by cluster, and check that nothing leaks between them",
        epilog="example: twinrail eval split sets/march --shares dev=30,gate=50,holdout=20",
    )
    parser.add_argument("set", type=Path, metavar="SET")
    parser.add_argument("--shares", metavar="SPLIT=N,...", help="[dev=40,gate=40,holdout=20]")
    parser.add_argument("--seed", type=int, metavar="N", help="[EVAL_SEED]")
    parser.add_argument("--again", action="store_true", help="draw all but train anew")
    add_shared(parser)
    return parser


def add_freeze(commands: Any) -> argparse.ArgumentParser:
    """The parser of `freeze`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "freeze",
        help="fingerprint a set, so that any later change is refused",
        epilog="example: twinrail eval freeze sets/march",
    )
    parser.add_argument("set", type=Path, metavar="SET")
    add_shared(parser)
    return parser


def add_shared(parser: argparse.ArgumentParser) -> None:
    """Options of all commands on sets."""
    parser.add_argument("--dry-run", action="store_true", help="say what would be written, write nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of sentences")


def add_redaction(parser: argparse.ArgumentParser) -> None:
    """Options of commands that keep what customers wrote."""
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="WORD",
        help="never personal: your domain, your hotline",
    )
    parser.add_argument(
        "--region", action="append", metavar="CC", help="country of phone numbers; again for more [US, GB]"
    )
    parser.add_argument("--no-redact", action="store_true", help="the questions hold no personal data")


def redactor_of(options: argparse.Namespace) -> Redactor | None:
    """What the options ask for; None: nothing is taken out."""
    if options.no_redact:
        return None
    # Number plans take a while to load: no other command should wait for them.
    from serving.redaction import Redactor

    try:
        return Redactor(regions=tuple(options.region or ("US", "GB")), keep=tuple(options.keep))
    except serving_errors.UnknownRegionError as exc:
        raise UnknownRegionError(f"--region: {exc}") from exc


async def run_split(options: argparse.Namespace, settings: EvalSettings) -> int:
    """Draw the splits that are missing."""
    # SciPy takes a second to load: no other command should wait for it.
    from eval.sets.splitting import (
        SHARES,
        require_enough,
        require_filled,
        require_no_leak,
        split_questions,
    )

    require_open(options.set)
    file = options.set / QUESTIONS
    questions = read_questions(file)
    shares = parse_shares(options.shares) if options.shares else SHARES
    seed = settings.seed if options.seed is None else options.seed
    try:
        require_enough(file, questions, fewest=settings.min_questions)
        split = split_questions(questions, shares=shares, seed=seed, again=options.again)
        require_filled(file, split, shares)
    except NotEnoughQuestionsError as exc:
        return say_thin(exc)
    require_no_leak(file, split)
    if not options.dry_run:
        write_questions(options.set, split)
    table = count(split)
    if options.json:
        say_json({"set": str(options.set), "seed": seed, "questions": len(split), "counts": table})
    else:
        sys.stdout.write(counts_text(table))
    for name in shares:
        n = sum(each.split == name for each in split)
        if n < settings.min_questions:
            _note(f"{name} holds {n} questions: too few to decide on by itself ({settings.min_questions})")
    return DONE


async def run_freeze(options: argparse.Namespace, settings: EvalSettings) -> int:
    """Freeze a set that is whole."""
    from eval.sets.splitting import require_enough, require_no_leak

    file = options.set / QUESTIONS
    questions = read_questions(file)
    manifest = check_frozen(options.set)
    if manifest is None:
        try:
            require_enough(file, questions, fewest=settings.min_questions)
        except NotEnoughQuestionsError as exc:
            return say_thin(exc)
        unsplit = [each.id for each in questions if each.split is None]
        if unsplit:
            raise RunError(
                f"{file}: field 'split': {len(unsplit)} questions have none (first {unsplit[0]!r}); "
                "run `twinrail eval split` first"
            )
        require_no_leak(file, questions)
        unknown = sum(each.status is None for each in questions)
        if unknown:
            _note(f"{unknown} questions have no status yet, so most metrics will not apply to them")
        if options.dry_run:
            say_json({"set": str(options.set), "questions": len(questions), "counts": count(questions)})
            return DONE
        manifest = freeze(options.set)
    if options.json:
        say_json({"set": str(options.set), **manifest.as_json()})
    else:
        sys.stdout.write(_frozen_text(manifest))
    return DONE


def parse_shares(text: str) -> dict[Split, float]:
    """`dev=40,gate=40,holdout=20` as shares."""
    shares: dict[Split, float] = {}
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        split = next((split for split in SPLITS if split == name), None)
        try:
            share = float(number)
        except ValueError:
            share = 0.0
        if split is None or not 0 < share < float("inf"):
            raise RunError(
                f"--shares {part!r}: write SPLIT=N with N above 0, and for SPLIT one of {', '.join(SPLITS)}"
            )
        shares[split] = share
    return shares


def counts_text(table: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    """Questions of each split, and of each status in it."""
    lines = []
    for split, statuses in table.items():
        by_status = {status: sum(types.values()) for status, types in statuses.items()}
        parts = ", ".join(f"{n} {status}" for status, n in by_status.items())
        lines.append(f"{split:<8} {sum(by_status.values()):>5}  {parts}\n")
    return "".join(lines)


def _frozen_text(manifest: Manifest) -> str:
    return (
        f"{manifest.name}: {manifest.questions} questions in {manifest.clusters} clusters, frozen "
        f"{manifest.frozen_at}\nsha256 {manifest.sha256}\n{counts_text(manifest.counts)}"
    )


def say_json(value: Mapping[str, Any]) -> None:
    """Data for programs."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def say_thin(exc: NotEnoughQuestionsError) -> int:
    """Too few questions are no mistake of the command, so they have an exit code of their own."""
    _note(f"not enough evidence: {exc}")
    return THIN


def _note(text: str) -> None:
    sys.stderr.write(f"twinrail eval: {text}\n")

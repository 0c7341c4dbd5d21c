"""`tune dataset`: rows that may be trained on, out of reviewed turns and files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from deploy.commands.context import CommandLine, Context
from deploy.errors import UsageError
from deploy.progress import Progress
from deploy.settings import load
from serving.checker import GroundingChecker
from serving.examples import ChatTokenizer
from serving.prompting import PROMPTS, PromptTemplate, load_prompt
from serving.settings import ServingSettings
from serving.tuning.negatives import NO_NEGATIVES, Shares
from serving.tuning.recipe import Training, load_recipe
from serving.versions import SCHEMAS, load_task_schema
from serving.wording import DEFAULT_WORDING, load_wording

NONE = "none"


def add(group: CommandLine) -> None:
    """Declare the command."""
    command = group.command(
        "dataset",
        _dataset,
        summary="Make a dataset: rows checked, cleaned and split, with negatives and a report.",
        example="twinrail tune dataset tone reviewed/march rows.jsonl --against sets/march --for wrong_tone",
        exit_codes="0 made; 1 training does not mend the failure, or the rows give away what judges; "
        "2 a file or setting cannot be used; 4 too few rows",
    )
    command.add_argument("folder", type=Path, metavar="FOLDER", help="made, or replaced if it is a dataset")
    command.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="JSONL of rows, or a folder of `twinrail eval export`",
    )
    command.add_argument(
        "--recipe", type=Path, metavar="FILE", help="its schema, prompt and longest row count"
    )
    command.add_argument(
        "--corrections",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="corrected answers by id",
    )
    command.add_argument(
        "--against",
        type=Path,
        action="append",
        default=[],
        metavar="SET",
        help="a question set that judges: no row may ask what it asks",
    )
    command.add_argument(
        "--drop-held-out", action="store_true", help="leave such rows out instead of refusing them"
    )
    command.add_argument(
        "--for",
        dest="mends",
        action="append",
        default=[],
        metavar="LABEL",
        help="a failure that it is meant to mend",
    )
    command.add_argument(
        "--negatives",
        metavar="KIND=SHARE,...",
        help=f"made rows as shares of the others, or `{NONE}` (default: {_shown(Shares())})",
    )
    command.add_argument(
        "--shares", metavar="SPLIT=SHARE,...", help="rows that judge (default: valid=0.1,test=0.1)"
    )
    command.add_argument("--seed", type=int, default=0, metavar="N")
    command.add_argument("--least", type=int, metavar="N", help="fewest rows that are left (default: 100)")
    command.add_argument("--strict", action="store_true", help="refuse every sentence that the gateway would")
    command.add_argument("--base", type=Path, metavar="DIR", help="base model, for its tokenizer")
    command.add_argument("--wording", type=Path, metavar="FILE", help="fixed wordings (SERVING_WORDING_FILE)")
    command.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="WORD",
        help="never personal: your domain, your hotline",
    )
    command.add_argument("--region", action="append", metavar="CC", help="country of phone numbers (US, GB)")
    command.add_argument("--no-redact", action="store_true", help="the rows hold no personal data")
    command.add_argument(
        "--mask-passages", action="store_true", help="the passages are not published articles"
    )
    command.add_argument("--dry-run", action="store_true", help="do everything but write")


async def _dataset(args: argparse.Namespace, context: Context) -> int:
    # SciPy and the number plans take a second to load: no other command should wait for them.
    from serving.redaction import Redactor
    from serving.tuning.cleaning import Encoding
    from serving.tuning.dataset import STEPS, Inputs, Settings, build, write

    schema, prompt, max_tokens = _recipe(args)
    settings = Settings(
        seed=args.seed,
        negatives=_negatives(args.negatives),
        max_tokens=max_tokens,
        drop_held_out=args.drop_held_out,
    )
    judging = _judging(args.shares)
    settings = replace(
        settings, valid=judging.get("valid", settings.valid), test=judging.get("test", settings.test)
    )
    if args.least is not None:
        settings = replace(
            settings, least_rows=args.least, least_groups=min(args.least, settings.least_groups)
        )
    serving = load(ServingSettings)
    wording = load_wording(args.wording or serving.wording_file or DEFAULT_WORDING)
    checker = None
    if args.strict:
        checker = GroundingChecker.load(
            wording=args.wording or serving.wording_file,
            threshold=serving.support_threshold,
            model=serving.entailment_model,
            patient=True,
        )
    tokenizer = _tokenizer(args, context)
    progress = Progress(STEPS, context.out.note)
    built = build(
        args.folder,
        Inputs(
            files=tuple(args.files),
            corrections=tuple(args.corrections),
            against=tuple(args.against),
            mends=tuple(args.mends),
        ),
        schema=schema,
        wording=wording,
        settings=settings,
        redactor=None
        if args.no_redact
        else Redactor(regions=tuple(args.region or ("US", "GB")), keep=tuple(args.keep)),
        checker=checker,
        encoding=Encoding(template=prompt, tokenizer=tokenizer, max_tokens=max_tokens) if tokenizer else None,
        mask_passages=args.mask_passages,
        say=progress.note,
    )
    for warning in built.report["warnings"]:
        context.out.note(f"mind: {warning}")
    if not args.dry_run:
        write(args.folder, built)
        progress.note("write", f"{args.folder}; read {args.folder / 'report.md'}")
    context.out.result(built.report, built.manifest.sha256)
    return 0


def _recipe(args: argparse.Namespace) -> tuple[Mapping[str, Any], PromptTemplate, int]:
    """Schema, prompt and longest row: the recipe's, else those of the packaged support task."""
    if args.recipe is None:
        training = Training()
        return (
            load_task_schema(SCHEMAS / "support_answer.json"),
            load_prompt(PROMPTS / "support_short.yaml"),
            training.max_row_tokens,
        )
    recipe = load_recipe(args.recipe)
    return recipe.schema, recipe.prompt, recipe.file.training.max_row_tokens


def _tokenizer(args: argparse.Namespace, context: Context) -> ChatTokenizer | None:
    """The base model's, None where no base is named and none is prepared."""
    folder = args.base or context.models.base
    if not (folder / "tokenizer.json").is_file():
        if args.base:
            raise UsageError(f"--base: {folder} holds no tokenizer.json; name the folder of a base model")
        return None
    from transformers import AutoTokenizer

    tokenizer: ChatTokenizer = AutoTokenizer.from_pretrained(str(folder))
    return tokenizer


def _negatives(text: str | None) -> Shares:
    if text is None:
        return Shares()
    if text == NONE:
        return NO_NEGATIVES
    known = {field.name for field in fields(Shares)}
    return replace(NO_NEGATIVES, **_parsed("--negatives", text, known, most=1.0))


def _judging(text: str | None) -> dict[str, float]:
    if text is None:
        return {}
    shares = _parsed("--shares", text, {"valid", "test"}, most=0.5)
    if any(share == 0 for share in shares.values()):
        raise UsageError("--shares: valid and test need rows of their own; give each more than 0")
    return shares


def _parsed(option: str, text: str, known: set[str], *, most: float) -> dict[str, float]:
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        if name not in known:
            raise UsageError(f"{option}: {name!r} is none of {', '.join(sorted(known))}")
        try:
            shares[name] = float(number)
        except ValueError:
            raise UsageError(f"{option}: {part.strip()!r} must be {name}=NUMBER") from None
        if not 0 <= shares[name] <= most:
            raise UsageError(f"{option}: {name} is {number}; give a share from 0 to {most:g}")
    return shares


def _shown(shares: Shares) -> str:
    return ",".join(f"{field.name}={getattr(shares, field.name):g}" for field in fields(shares))

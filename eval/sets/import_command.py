"""`twinrail eval import`: questions from turns, tables, other formats and accepted proposals into a set."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.cases import case_of
from eval.client import GatewayClient, Recorded
from eval.connecting import open_client
from eval.errors import CaseFileError, GatewayRefusedError, GatewayUnavailableError
from eval.sets.checking import check_documents
from eval.sets.command import DONE, add_redaction, add_shared, redactor_of, say_json
from eval.sets.questions import Question
from eval.sets.rows import COLUMNS, parse_columns
from eval.sets.sources import notes_of, read_source
from eval.settings import EvalSettings

if TYPE_CHECKING:
    from eval.sets.importing import Imported

#: Searches deep enough for the documents that say what a question is about.
_SEARCH_DEPTH = 10
_SHOWN = 10
_DEFAULT_TURNS = 1_000
#: Tries for what an import can do without.
_CHECK_ATTEMPTS = 2

_EXAMPLE = f"""examples:
  twinrail eval import sets/march --turns --limit 200
  twinrail eval import sets/march --from export.csv --column text=Message --column gold=Article --region DE
  twinrail eval import sets/march --accepted           takes what was accepted in proposed.jsonl
  twinrail eval import sets/demo --from deploy/demo/questions --no-redact

columns of a file: {", ".join(COLUMNS)}
in a table `;` stands between documents and between facts, `|` between the spellings of a fact"""


@dataclass(kw_only=True)
class _Source:
    """What was read, before it is cleaned."""

    questions: Sequence[Question]
    #: Documents that the turn of a question found.
    found: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def add_import(commands: Any) -> argparse.ArgumentParser:
    """The parser of `import`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "import",
        help="take questions into a set: redacted, each once, in named clusters",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("set", type=Path, metavar="SET", help="folder of the set; made if it is not there")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--turns", action="store_true", help="what was asked of the gateway, newest first")
    source.add_argument(
        "--from", dest="file", type=Path, metavar="PATH", help="CSV, TSV or JSONL, or a folder of questions"
    )
    source.add_argument(
        "--accepted",
        nargs="?",
        const="",
        metavar="FILE",
        help="proposals of `eval draft` with accepted true [SET/proposed.jsonl]",
    )
    parser.add_argument("--limit", type=_positive, metavar="N", help=f"turns to read [{_DEFAULT_TURNS}]")
    parser.add_argument(
        "--column", action="append", default=[], metavar="FIELD=COLUMN", help="a column with another name"
    )
    add_redaction(parser)
    parser.add_argument(
        "--by-search", action="store_true", help="cluster also by the documents that the gateway finds"
    )
    parser.add_argument("--no-check", action="store_true", help="do not look the gold documents up")
    parser.add_argument("--url", help="address of the gateway [EVAL_GATEWAY_URL]")
    add_shared(parser)
    return parser


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


async def run_import(options: argparse.Namespace, settings: EvalSettings) -> int:
    """Read, clean, check and write. Nothing is written unless all of it is good."""
    # SciPy takes a second to load: no other command should wait for it.
    from eval.sets.importing import add_questions, existing, save

    known = existing(options.set)
    source = await _read(options, settings)
    if not source.questions:
        raise CaseFileError(
            file=options.file or options.set,
            what="no question to take in",
            fix="name another source; turns of evaluations and proposals that nobody accepted do not count",
        )
    found = dict(source.found)
    if options.by_search:
        found |= await _search(source.questions, options, settings)
    imported = add_questions(
        known,
        source.questions,
        redactor=redactor_of(options),
        found=found,
    )
    if not options.no_check:
        source.notes += await _check(source.questions, options, settings)
    if not options.dry_run:
        save(options.set, imported)
    _say(options, imported, source.notes)
    return DONE


async def _read(options: argparse.Namespace, settings: EvalSettings) -> _Source:
    from eval.sets.importing import questions_of_turns

    if options.column and options.file is None:
        raise CaseFileError(
            file=options.set, field="--column", what="goes with --from only", fix="leave it out"
        )
    if options.turns:
        turns: dict[str, tuple[str, Recorded]] = {}
        async with _open(options, settings) as client:
            # The staff's key sees what customers asked too: that stays theirs.
            for asker in sorted(client.askers):
                async for turn in client.recorded(options.limit or _DEFAULT_TURNS, asker=asker):
                    turns.setdefault(turn.id, (asker, turn))
        questions, found = questions_of_turns(turns.values())
        blank = len(turns) - len(questions)
        notes = [f"{blank} turns without their text left out"] if blank else []
        return _Source(questions=questions, found=found, notes=notes)
    if options.accepted is not None:
        from eval.sets.proposals import PROPOSED, read_accepted

        return _Source(questions=read_accepted(Path(options.accepted or options.set / PROPOSED)))
    rows = read_source(options.file, parse_columns(options.column))
    return _Source(questions=rows.questions, notes=notes_of(rows))


@asynccontextmanager
async def _open(
    options: argparse.Namespace, settings: EvalSettings, *, attempts: int | None = None
) -> AsyncIterator[GatewayClient]:
    wanted = settings if attempts is None else settings.model_copy(update={"attempts": attempts})
    url = options.url or settings.gateway_url
    async with open_client(wanted, url=url, concurrency=settings.concurrency) as client:
        yield client


async def _search(
    questions: Sequence[Question], options: argparse.Namespace, settings: EvalSettings
) -> dict[str, Sequence[str]]:
    """The documents that the stable version finds, for questions that there is a key for."""
    from eval.sets.importing import TOP_DOCUMENTS

    today = datetime.now(UTC).date()
    free = asyncio.Semaphore(settings.concurrency)
    async with _open(options, settings) as client:
        stable = (await client.pointers())["knowledge"]["stable"]
        if stable is None:
            raise GatewayRefusedError("--by-search: the gateway has no stable index version; ingest first")

        async def search(question: Question) -> tuple[str, Sequence[str]]:
            async with free:
                ranking = await client.search(case_of(question, today), stable, depth=_SEARCH_DEPTH)
            return question.id, ranking.documents[:TOP_DOCUMENTS]

        asked = [question for question in questions if question.asker in client.askers]
        return dict(await asyncio.gather(*(search(question) for question in asked)))


async def _check(
    questions: Sequence[Question], options: argparse.Namespace, settings: EvalSettings
) -> list[str]:
    """Doubts about facts; that nothing could be looked up is one too."""
    named = [each for each in questions if each.gold or any(fact.document for fact in each.facts)]
    if not named:
        return []
    try:
        async with _open(options, settings, attempts=_CHECK_ATTEMPTS) as client:
            doubts = await check_documents(client, named, concurrency=settings.concurrency)
    except (GatewayUnavailableError, GatewayRefusedError) as exc:
        return [f"gold documents were not looked up: {exc}"]
    more = [f"{len(doubts) - _SHOWN} facts more"] if len(doubts) > _SHOWN else []
    return [*(f"check {doubt.sentence()}" for doubt in doubts[:_SHOWN]), *more]


def _say(options: argparse.Namespace, imported: Imported, notes: Sequence[str]) -> None:
    if options.json:
        say_json(
            {
                "set": str(options.set),
                "questions": len(imported.questions),
                "read": imported.read,
                "added": imported.added,
                "repeated": imported.repeated,
                "clusters": imported.clusters,
                "redacted": dict(imported.redacted),
                "near": [[pair.first, pair.second, round(pair.score, 3)] for pair in imported.near],
                "notes": list(notes),
            }
        )
        return
    taken = ", ".join(f"{n} {kind}" for kind, n in imported.redacted.items()) or "nothing"
    sys.stdout.write(
        f"{imported.added} of {imported.read} questions added ({imported.repeated} asked before); the set "
        f"has {len(imported.questions)} in {imported.clusters} clusters\n"
        f"taken out: {'not looked for' if options.no_redact else taken}\n"
    )
    for pair in imported.near[:_SHOWN]:
        sys.stdout.write(f"nearly the same ({pair.score:.2f}): {pair.first}, {pair.second}\n")
    if len(imported.near) > _SHOWN:
        sys.stdout.write(f"and {len(imported.near) - _SHOWN} pairs more (--json)\n")
    for note in notes:
        sys.stderr.write(f"twinrail eval import: {note}\n")

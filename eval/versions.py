"""`twinrail knowledge compare A B` (`twinrail eval versions A B`): two index versions, the same questions."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from eval.cases import Case, choose_cases
from eval.client import GatewayClient
from eval.comparing import MOST_DOCUMENTS, Query, pin_sides, search_both
from eval.connecting import open_client
from eval.differences import Found, compare_versions
from eval.errors import RunError
from eval.run import Progress
from eval.settings import EvalSettings

_EXAMPLE = """examples:
  twinrail knowledge compare stable k-smaller-1a2b3c4d            the demo's dev questions
  twinrail knowledge compare previous stable --questions asked.jsonl --json
  twinrail knowledge compare stable shadow --recorded 500         what was asked lately; no gold documents

exit codes: 0 done, 2 bad usage or settings, 3 gateway down, 4 not enough evidence"""


def add_versions(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser(
        "versions",
        prog="twinrail knowledge compare",
        help="compare two index versions by what they find for the same questions",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in ("first", "second"):
        parser.add_argument(
            name,
            metavar="VERSION",
            help="an id, or stable, canary, previous, shadow; @<snapshot> reads another than the live one",
        )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--questions", type=Path, metavar="PATH", help="question file or folder [the demo's]")
    source.add_argument(
        "--recorded", type=_counted(), metavar="N", help="the questions of the latest N turns"
    )
    parser.add_argument(
        "--split", action="append", metavar="NAME", help="train, dev, holdout or all; again for more [dev]"
    )
    parser.add_argument("--kind", action="append", metavar="NAME", help="only this kind; again for more")
    parser.add_argument("--limit", type=_counted(), metavar="N", help="a sample of N, spread over topics")
    parser.add_argument(
        "--k", type=_counted(MOST_DOCUMENTS), default=10, metavar="K", help="documents to compare [10]"
    )
    parser.add_argument("--url", help="address of the gateway [EVAL_GATEWAY_URL]")
    parser.add_argument("--concurrency", type=_counted(), metavar="N", help="in flight [EVAL_CONCURRENCY]")
    parser.add_argument("--json", action="store_true", help="print JSON, with every question that changed")
    return parser


def _counted(most: int | None = None) -> Callable[[str], int]:
    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = 0
        if value < 1 or (most is not None and value > most):
            raise argparse.ArgumentTypeError("must be 1 or more" if most is None else f"must be 1 to {most}")
        return value

    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The questions to compare on, and what was left out."""

    source: str
    queries: tuple[Query, ...]
    #: In words, for the report.
    left_out: str = ""


async def compare_found(options: argparse.Namespace, settings: EvalSettings) -> Found:
    """Ask and compare."""
    if options.recorded and (options.split or options.kind or options.limit):
        raise RunError("--recorded: recorded questions have no split and no kind; leave the other option out")
    concurrency = options.concurrency or settings.concurrency
    # Before anything is asked, so that a bad file costs nothing.
    cases = None if options.recorded else _cases(options, settings)
    async with open_client(
        settings, url=options.url or settings.gateway_url, concurrency=concurrency
    ) as client:
        sides = pin_sides(options.first, options.second, (await client.pointers())["knowledge"])
        asked = await recorded_questions(client, options.recorded) if cases is None else _for(client, cases)
        searched = await search_both(
            client,
            asked.queries,
            sides,
            k=options.k,
            concurrency=concurrency,
            progress=Progress(out=sys.stderr, total=len(asked.queries)),
        )
    comparison = compare_versions(
        searched,
        sides,
        k=options.k,
        min_questions=settings.min_questions,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    return Found(comparison=comparison, source=asked.source, left_out=asked.left_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cases:
    source: str
    cases: tuple[Case, ...]


def _cases(options: argparse.Namespace, settings: EvalSettings) -> _Cases:
    path = options.questions or settings.questions
    chosen, _ = choose_cases(
        path, splits=options.split, kinds=options.kind, limit=options.limit, seed=settings.seed
    )
    return _Cases(source=f"{path} (sha256 {chosen.sha256[:12]})", cases=chosen.cases)


def _for(client: GatewayClient, found: _Cases) -> Asked:
    """Questions that there is a key for."""
    queries = tuple(Query(case=case) for case in found.cases if case.asker in client.askers)
    waiting = len(found.cases) - len(queries)
    return Asked(
        source=found.source,
        queries=queries,
        left_out=f"{waiting} of staff (set EVAL_STAFF_API_KEY)" if waiting else "",
    )


async def recorded_questions(client: GatewayClient, limit: int) -> Asked:
    """What was asked lately, each question once, newest first; asked again as who could have asked it.

    A turn keeps no history of its own, so follow-ups are searched by their last message alone.
    """
    queries: dict[tuple[str, str], Query] = {}
    seen: set[str] = set()
    blank = repeated = 0
    for asker in ("customer", "staff"):
        if asker not in client.askers:
            continue
        async for turn in client.recorded(limit, asker=asker):
            if turn.id in seen:
                continue
            seen.add(turn.id)
            case = Case(
                id=turn.id,
                topic=turn.conversation_id or turn.id,
                split="recorded",
                text=turn.question,
                asker=asker,
                facts_known=False,
            )
            key = (" ".join(turn.question.casefold().split()), json.dumps(turn.filters, sort_keys=True))
            if not key[0]:
                blank += 1
            elif key in queries:
                repeated += 1
            else:
                queries[key] = Query(case=case, filters=turn.filters)
    left_out = [
        text
        for count, text in ((repeated, f"{repeated} asked again"), (blank, f"{blank} without their text"))
        if count
    ]
    return Asked(
        source=f"{len(seen)} recorded turns, follow-ups without what was said before",
        queries=tuple(queries.values()),
        left_out=", ".join(left_out),
    )

"""`twinrail eval online`: the metrics of live traffic, from recorded turns and their reviews."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from eval.client import GatewayClient
from eval.connecting import open_client
from eval.errors import RunError
from eval.labelling.sending import score_rows
from eval.online.measuring import GroupBy, Online, measure_online, turn_outcomes
from eval.online.online_report import online_json, online_text
from eval.online.recorded import LiveTurn, Window, read_window
from eval.scorers import Scoring
from eval.scoring import scoring_of
from eval.settings import EvalSettings

_DONE, _THIN = 0, 4
_DAYS = 7
_MOST = 10_000
_EXAMPLE = """examples:
  twinrail eval online                                   the last seven days, per pair of versions
  twinrail eval online --since 2026-03-01 --until 2026-03-08 --by model
  twinrail eval online --version m-support-1a2b3c4d --send

exit codes: 0 done, 2 bad usage, 3 gateway down, 4 not enough evidence"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The parser of this command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "online",
        help="measure live traffic by the metrics of a run",
        description=__doc__,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_window(parser)
    parser.add_argument(
        "--by", type=GroupBy, choices=list(GroupBy), default=GroupBy.PAIR, help="keep apart by [pair]"
    )
    parser.add_argument(
        "--send", action="store_true", help="put scores beside the turns, and the numbers as a report"
    )
    parser.add_argument("--schema", metavar="FILE", help="the task's JSON Schema [support_answer]")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


def add_window(parser: argparse.ArgumentParser) -> None:
    """Options that say which live turns are meant."""
    parser.add_argument(
        "--since",
        type=moment,
        metavar="TIME",
        help=f"ISO day or time, UTC if it has no zone [{_DAYS} days ago]",
    )
    parser.add_argument("--until", type=moment, metavar="TIME", help="the first that is not meant [now]")
    parser.add_argument("--version", metavar="ID", help="only turns of this index or model version")
    parser.add_argument("--limit", type=_positive, default=_MOST, metavar="N", help=f"the latest N [{_MOST}]")
    parser.add_argument("--url", help="address of the gateway [EVAL_GATEWAY_URL]")
    parser.add_argument(
        "--concurrency", type=_positive, metavar="N", help="requests in flight [EVAL_CONCURRENCY]"
    )


def moment(text: str) -> datetime:
    """A day or a time; without a zone it is UTC, as the gateway's own times are."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; write 2026-03-01 or 2026-03-01T09:00:00Z"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def window_of(options: argparse.Namespace, *, now: datetime, days: int = _DAYS) -> Window:
    """The window that the options name."""
    until = options.until or now
    since = options.since or until - timedelta(days=days)
    if since >= until:
        raise RunError(f"--since {since.isoformat()}: is not before --until {until.isoformat()}; swap them")
    return Window(since=since, until=until, version=options.version, limit=options.limit)


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


async def run(options: argparse.Namespace, settings: EvalSettings) -> int:
    """Read, measure, print, and send if that is asked for."""
    window = window_of(options, now=datetime.now(UTC))
    scoring = scoring_of(settings, options.schema)
    at_once = options.concurrency or settings.concurrency
    url = options.url or settings.gateway_url
    async with open_client(settings, url=url, concurrency=at_once) as client:
        recording = await read_window(client, window, at_once=at_once, out=sys.stderr)
        online = measure_online(recording, window, scoring, by=options.by, floor=settings.min_questions)
        if options.send:
            name = await send(client, online, recording.turns, scoring, at_once=at_once)
            print(f"twinrail eval: report {name}", file=sys.stderr)
    if options.json:
        print(json.dumps(online_json(online), indent=2, ensure_ascii=False))
    else:
        print(online_text(online), end="")
    if online.thin:
        print(f"twinrail eval: not enough evidence: {'; '.join(online.thin)}", file=sys.stderr)
        return _THIN
    return _DONE


async def send(
    client: GatewayClient, online: Online, turns: Sequence[LiveTurn], scoring: Scoring, *, at_once: int
) -> str:
    """What every turn shows by itself beside it, and all numbers as a report; the report's name."""
    gate = asyncio.Semaphore(at_once)

    async def put(turn: LiveTurn) -> None:
        if turn.erased:
            return  # what was measured before the erasure stays
        if scores := score_rows(turn_outcomes(turn, scoring), scoring.version):
            async with gate:
                await client.put_scores(turn.id, scores, asker=turn.asker)

    await asyncio.gather(*(put(turn) for turn in turns))
    window = online.window
    name = "-".join(
        (
            *("online", f"{window.since:%Y%m%dT%H%M}", f"{window.until:%Y%m%dT%H%M}", online.by.value),
            *((window.version,) if window.version else ()),
        )
    )
    await client.put_report(name, kind="online", content=online_json(online))
    return name

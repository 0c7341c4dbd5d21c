"""`twinrail eval label`: why did each answer of a run fail?"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval.client import GatewayClient
from eval.connecting import open_client
from eval.errors import RunError
from eval.gating.gate_report import with_section
from eval.labelling.asking import add_documents, add_reruns, read_reviews
from eval.labelling.corpus import CorpusFile
from eval.labelling.counterfactuals import RerunFile, Reruns
from eval.labelling.labelling_report import count_labels, json_labels, markdown_labels, text_labels
from eval.labelling.records import LabelFile, changes, is_looked_up, label_run, turns_of
from eval.labelling.sending import send
from eval.record import RunData, RunFolder
from eval.scorers import Scoring
from eval.scoring import scoring_of
from eval.settings import EvalSettings

_EXAMPLE = """examples:
  twinrail eval label runs/20260301-120000             reads what is missing from the gateway, once
  twinrail eval label runs/20260301-120000 --rerun     asks failed questions again with the gold documents
  twinrail eval label runs/20260301-120000 --offline   from what the folder holds
  twinrail eval label runs/20260301-120000 --send      puts the labels beside the gateway's turns

exit codes: 0 done, 2 bad usage, 3 gateway down, 4 not enough evidence"""
_DONE, _THIN = 0, 4


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The parser of this command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "label",
        help="say why each answer of a run failed, from evidence",
        description=__doc__,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="RUN")
    parser.add_argument(
        "--rerun", action="store_true", help="ask failed questions again with one thing changed"
    )
    parser.add_argument("--reviews", action="store_true", help="take in what people said of the turns")
    parser.add_argument("--send", action="store_true", help="put the labels beside the turns of the gateway")
    parser.add_argument("--offline", action="store_true", help="use only what the run's folder holds")
    parser.add_argument("--dry-run", action="store_true", help="print the labels, write and send nothing")
    parser.add_argument("--url", help="address of the gateway [the run's]")
    parser.add_argument("--concurrency", type=int, metavar="N", help="requests in flight [EVAL_CONCURRENCY]")
    parser.add_argument("--schema", type=Path, metavar="FILE", help="the task's JSON Schema [support_answer]")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


async def run(options: argparse.Namespace, settings: EvalSettings) -> int:
    """Look up what is missing, label, write, and send if that is asked for."""
    if options.offline and (options.rerun or options.send or options.reviews):
        raise RunError("--offline: asks nothing of the gateway; drop it, or --rerun, --send and --reviews")
    if options.concurrency is not None and options.concurrency < 1:
        raise RunError("--concurrency: must be 1 or more")
    at_once = options.concurrency or settings.concurrency
    folder = RunFolder(options.folder)
    data = folder.read()
    if not data.observations:
        raise RunError(
            f"{folder.path}: holds no answer yet; run `twinrail eval run --run {folder.path}` first"
        )
    scoring = scoring_of(settings, options.schema)
    labels = LabelFile(folder.path)
    before = labels.read()
    async with AsyncExitStack() as stack:
        # What is there is not asked for again; without anything to ask, no gateway is needed.
        client = await _client(stack, options, settings, folder, data, scoring)
        if client is not None and not options.dry_run:
            await add_documents(folder, data, scoring, client, at_once=at_once)
            if options.rerun:
                await add_reruns(folder, data, scoring, client, at_once=at_once, out=sys.stderr)
        records = label_run(
            data,
            scoring,
            CorpusFile(folder.path).read(),
            Reruns.of(data, RerunFile(folder.path).read()),
            before=before,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        if options.reviews and client is not None:
            records = await read_reviews(data, records, client, at_once=at_once)
        counted = count_labels(records, changes(before, records))
        if not options.dry_run:
            labels.write(records)
            report = folder.path / "report.md"
            earlier = report.read_text(encoding="utf-8") if report.exists() else ""
            told = markdown_labels(counted)
            folder.write("report.md", with_section(earlier, told))
            if options.send and client is not None:
                plain = json_labels(counted)
                await send(client, data, scoring, records, plain, markdown=told, at_once=at_once)
    print(json.dumps(json_labels(counted), indent=2) if options.json else text_labels(counted), end="\n")
    print(f"twinrail eval: labels {labels.path}", file=sys.stderr)
    judged = max((arm.judged for arm in counted.arms), default=0)
    if judged < settings.min_questions:
        print(
            f"twinrail eval: not enough evidence: {judged} answers; {settings.min_questions} are needed",
            file=sys.stderr,
        )
        return _THIN
    return _DONE


async def _client(
    stack: AsyncExitStack,
    options: argparse.Namespace,
    settings: EvalSettings,
    folder: RunFolder,
    data: RunData,
    scoring: Scoring,
) -> GatewayClient | None:
    """A client, where there is something to ask."""
    corpus = CorpusFile(folder.path).read()
    as_staff = settings.staff_api_key is not None
    needed = (
        options.rerun
        or options.send
        or options.reviews
        or not is_looked_up(turns_of(data, scoring, corpus), corpus, as_staff=as_staff)
    )
    if options.offline or not needed:
        return None
    url = options.url or data.record.gateway_url or settings.gateway_url
    return await stack.enter_async_context(
        open_client(settings, url=url, concurrency=options.concurrency or settings.concurrency)
    )

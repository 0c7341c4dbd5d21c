"""`twinrail eval draft`: proposals from documents, for a person to accept."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from eval.connecting import open_client
from eval.errors import CaseFileError
from eval.lines import Places, parse_line, read_lines
from eval.sets.command import DONE, add_shared, say_json
from eval.sets.drafting import SourceDocument, propose
from eval.sets.proposals import PROPOSED, Proposal, write_proposals
from eval.sets.questions import FORMAT_PAGE, Text
from eval.settings import EvalSettings


class _DocumentRow(BaseModel):
    """A document as `twinrail knowledge ingest` takes it from JSONL."""

    model_config = ConfigDict(extra="ignore", strict=True)

    id: Text
    title: str = ""
    text: str
    effective_from: date | None = None
    effective_to: date | None = None


def add_draft(commands: Any) -> argparse.ArgumentParser:
    """The parser of `draft`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "draft",
        help="propose questions and gold facts from documents, for a person to accept",
        epilog="example: twinrail eval draft sets/march, then `twinrail eval import sets/march --accepted`",
    )
    parser.add_argument("set", type=Path, metavar="SET", help="folder of the set; made if it is not there")
    parser.add_argument(
        "--from", dest="file", type=Path, metavar="FILE", help="JSONL with id, title and text [the gateway]"
    )
    parser.add_argument("--id", action="append", default=[], metavar="ID", help="only this document")
    parser.add_argument("--each", type=int, default=3, metavar="N", help="at most N from a document [3]")
    parser.add_argument("--url", help="address of the gateway [EVAL_GATEWAY_URL]")
    add_shared(parser)
    return parser


async def run_draft(options: argparse.Namespace, settings: EvalSettings) -> int:
    """Propose, and leave what was decided before as it is."""
    if options.each < 1:
        raise CaseFileError(file=options.set, field="--each", what="must be 1 or more", fix="write a number")
    documents = read_documents(options.file) if options.file is not None else await _fetch(options, settings)
    if options.id:
        unknown = sorted(set(options.id) - {document.id for document in documents})
        if unknown:
            raise CaseFileError(
                file=options.file or options.set,
                field="--id",
                what=f"no document {', '.join(unknown)}",
                fix="name one that is there",
            )
        documents = [document for document in documents if document.id in options.id]
    proposals = [proposal for document in documents for proposal in propose(document, each=options.each)]
    if not proposals:
        raise CaseFileError(
            file=options.file or options.set,
            what=f"no pattern finds a question in {len(documents)} documents",
            fix="write questions by hand, or import what customers asked (`twinrail eval import --turns`)",
        )
    new = len(proposals) if options.dry_run else write_proposals(options.set, proposals)[1]
    _say(options, documents, proposals, new)
    return DONE


def read_documents(file: Path) -> list[SourceDocument]:
    """Documents of a JSONL file."""
    places = Places()
    documents = []
    for number, line in read_lines(file):
        row = parse_line(_DocumentRow, file, number, line, format_page=FORMAT_PAGE)
        places.add(file, number, row.id)
        documents.append(SourceDocument(**row.model_dump()))
    if not documents:
        raise CaseFileError(file=file, what="holds no document", fix="name a file with one a line")
    return documents


async def _fetch(options: argparse.Namespace, settings: EvalSettings) -> list[SourceDocument]:
    """The live documents that any key may read."""
    url = options.url or settings.gateway_url
    async with open_client(settings, url=url, concurrency=settings.concurrency) as client:
        ids = options.id or await client.document_ids()
        free = asyncio.Semaphore(settings.concurrency)

        async def read(document_id: str) -> SourceDocument | None:
            async with free:
                live = (await client.document(document_id)).live
            if live is None:
                return None
            return SourceDocument(
                id=document_id,
                title=live.title,
                text=live.text,
                effective_from=_day(live.effective_from),
                effective_to=_day(live.effective_to),
            )

        found = await asyncio.gather(*(read(document_id) for document_id in ids))
    return [document for document in found if document is not None]


def _day(text: str) -> date | None:
    return date.fromisoformat(text) if text else None


def _say(
    options: argparse.Namespace,
    documents: list[SourceDocument],
    proposals: list[Proposal],
    new: int,
) -> None:
    templates = Counter(proposal.template for proposal in proposals)
    if options.json:
        say_json(
            {
                "set": str(options.set),
                "documents": len(documents),
                "proposals": len(proposals),
                "new": new,
                "templates": dict(templates.most_common()),
            }
        )
        return
    named = ", ".join(f"{n} {name}" for name, n in templates.most_common())
    sys.stdout.write(
        f"{len(proposals)} questions from {len({each.document for each in proposals})} of {len(documents)} "
        f"documents ({named}), {new} of them undecided\n"
        f"read {options.set / PROPOSED}, set `accepted` on each line, then run\n"
        f"  twinrail eval import {options.set} --accepted\n"
    )

"""Any LangChain `BaseLoader` as a source."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document as LangchainDocument

from retrieval.errors import DuplicateDocumentError, EmptySourceError, UnparsableDocumentError
from retrieval.ingest import ingest
from retrieval.ingest_report import IngestReport
from retrieval.langchain_rail import Rails
from retrieval.parsing import ParsedDocument, parse_text
from retrieval.sources import Reading

#: Metadata that tell apart the documents of one source.
_PARTS = ("page", "row", "seq_num")


async def ingest_loader(
    rails: Rails,
    loader: BaseLoader,
    *,
    tenant: str,
    name: str,
    markdown: bool = False,
    dry_run: bool = False,
    allow_purged: bool = False,
    replace_most: bool = False,
) -> IngestReport:
    """Make the tenant's documents of the source `name` equal to what a loader gives, in one publish.

    As with a folder: unchanged documents cost no embedding and no write, those that the loader no longer
    gives are removed, bad ones are listed and stay as they are. A loader that fails removes nothing, and one
    that would remove more than half of the source is refused with MassRemovalError, unless `replace_most`
    says that it is meant. Without an event loop: `rails.call(lambda: ingest_loader(rails, ...))`.
    """
    rail = await rails.here()
    reading = await read_loader(loader, name=name, markdown=markdown)
    first, *others = rail.embedders
    async with rail.writing:
        return await ingest(
            rail.store,
            first,
            reading,
            tenant=tenant,
            dry_run=dry_run,
            other_embedders=others,
            chunkers=rail.chunkers,
            allow_purged=allow_purged,
            replace_most=replace_most,
        )


async def read_loader(loader: BaseLoader, *, name: str, markdown: bool = False) -> Reading:
    """Every document that a loader gives, for `ingest`. `name` is that of the source.

    Metadata count as front matter does: `title`, `language`, `audience` and the others have their meaning.
    The loader runs in this process, without the limits that files have. One that fails midway is a failure
    beside the documents before it, and keeps what it gave in earlier runs from being removed.
    """
    began_at = datetime.now(UTC)
    documents: dict[str, ParsedDocument] = {}
    failures: list[UnparsableDocumentError] = []
    number = 0
    complete = True
    try:
        async for loaded in loader.alazy_load():
            number += 1
            origin = f"{name}:{number}"
            try:
                parsed = _parsed(loaded, origin, markdown=markdown)
            except UnparsableDocumentError as exc:
                failures.append(exc)
                continue
            _add(documents, parsed)
    except DuplicateDocumentError:
        raise
    except Exception as exc:  # noqa: BLE001 - a loader is anybody's code
        problem = (
            f"failed after {number} documents ({type(exc).__name__}: {' '.join(str(exc).split())[:200]})"
        )
        failures.append(UnparsableDocumentError(name, "loader", problem, "mend the loader and run it again"))
        complete = False
    if not documents and not failures:
        raise EmptySourceError(f"{name}: the loader gave no document; mend what it reads from")
    return Reading(
        name=name,
        began_at=began_at,
        documents=tuple(documents.values()),
        failures=tuple(failures),
        complete=complete,
    )


def _add(documents: dict[str, ParsedDocument], parsed: ParsedDocument) -> None:
    earlier = documents.setdefault(parsed.document.id, parsed)
    if earlier is not parsed:
        raise DuplicateDocumentError(
            f"id: {parsed.document.id!r} is in both {earlier.origin} and {parsed.origin}: "
            "have the loader give each document an id"
        )


def _parsed(loaded: LangchainDocument, origin: str, *, markdown: bool) -> ParsedDocument:
    fields: Mapping[str, Any] = loaded.metadata
    document_id = loaded.id or fields.get("id") or _place(fields)
    if not document_id:
        fix = "have the loader set Document.id or metadata['source']"
        raise UnparsableDocumentError(origin, "id", "is missing", fix)
    return parse_text(origin, loaded.page_content, {**fields, "id": document_id}, markdown=markdown)


def _place(fields: Mapping[str, Any]) -> str:
    """Where a document comes from: `guide.pdf#page=3`."""
    if not fields.get("source"):
        return ""
    parts = "&".join(f"{part}={fields[part]}" for part in _PARTS if fields.get(part) is not None)
    return f"{fields['source']}#{parts}" if parts else str(fields["source"])

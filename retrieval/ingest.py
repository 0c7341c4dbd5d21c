"""Bring a source into the knowledge rail: read, compare, chunk, embed what is new, publish once.

Running it again on an unchanged source embeds nothing and writes nothing. A run that was killed goes on where
it was: vectors are kept batch by batch, and the publish is one transaction at the end.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from retrieval.building import CACHE_BATCH, require_parts
from retrieval.chunking import NO_CHUNKERS, Chunker, chunker_of, cut
from retrieval.connections import Connection
from retrieval.differences import Difference, compare_documents, compare_source, refuse_mass_removal
from retrieval.embedding import Embedder, unit_vectors
from retrieval.errors import (
    DocumentError,
    EmbeddingRefusedError,
    PublishConflictError,
    RetrievalError,
    StoreError,
)
from retrieval.freshness import Look, note
from retrieval.ingest_report import Changes, IngestProgress, IngestReport, OnProgress, OnPublish
from retrieval.limits import DEFAULT_LIMITS, ReadLimits
from retrieval.parsing import ParsedDocument
from retrieval.parsing_process import ParsingPool, ParsingProcess
from retrieval.publishing import Position, Publication, Publisher
from retrieval.reading import OnRead, read_apart
from retrieval.sources import Reading, read_source
from retrieval.staging import StagedChunk, Target
from retrieval.starting import first_version, settle
from retrieval.store import KnowledgeStore
from retrieval.tombstones import refusals

logger = logging.getLogger(__name__)

#: How often one run compares again because somebody else published meanwhile.
ATTEMPTS = 5


async def ingest(
    store: KnowledgeStore,
    embedder: Embedder,
    source: Path | Reading,
    *,
    tenant: str,
    on_progress: OnProgress = lambda _progress: None,
    on_publish: OnPublish | None = None,
    dry_run: bool = False,
    source_name: str | None = None,
    other_embedders: Sequence[Embedder] = (),
    chunkers: Mapping[str, Chunker] = NO_CHUNKERS,
    limits: ReadLimits = DEFAULT_LIMITS,
    parsers: ParsingPool | None = None,
    allow_purged: bool = False,
    replace_most: bool = True,
) -> IngestReport:
    """Make the tenant's documents of this source equal to a folder of files, a JSONL corpus or a reading of
    something else, such as `read_loader`'s.

    Documents that left the source are removed, those of other sources stay. On an empty rail the first index
    version is made for `embedder` and becomes stable. While several versions are reachable, all are written,
    and each needs its embedder: `other_embedders` are for the versions that were made with another one.
    A document that was purged is left out and listed, unless `allow_purged` lets it in as a new one. Without
    `replace_most`, a source that would lose more than half of its documents is refused: it is a part, or
    another help centre.
    """
    on_progress(IngestProgress(stage="read", done=0, total=0))
    reading = source if isinstance(source, Reading) else await _read(source, limits, parsers, on_progress)
    name = source_name or reading.name

    async def compare(publisher: Publisher, position: Position) -> Difference:
        found = compare_source(reading, await publisher.live_documents(position), name)
        if not replace_most:
            refuse_mass_removal(found, name)
        return found

    run = _Run(
        store,
        tenant,
        name,
        (embedder, *other_embedders),
        on_progress,
        on_publish,
        chunkers=chunkers,
        allow_purged=allow_purged,
    )
    report = await run.bring_in(compare, dry_run=dry_run)
    if not dry_run:
        # A look that broke off may have missed anything.
        await run.note(began_at=reading.began_at if reading.complete else None, seen=reading.documents)
    return replace(report, skipped=reading.skipped)


async def _read(
    source: Path, limits: ReadLimits, parsers: ParsingPool | None, on_progress: OnProgress
) -> Reading:
    def read(process: ParsingProcess, on_read: OnRead) -> Reading:
        return read_source(source, process=process, on_progress=on_read)

    used = parsers or ParsingPool(limits)
    try:
        return await read_apart(
            read, parsers=used, on_progress=lambda progress: on_progress(IngestProgress.of(progress))
        )
    finally:
        if parsers is None:
            used.close()


async def apply(
    store: KnowledgeStore,
    embedders: Sequence[Embedder],
    changes: Changes,
    *,
    tenant: str,
    source: str,
    on_progress: OnProgress = lambda _progress: None,
    on_publish: OnPublish | None = None,
    chunkers: Mapping[str, Chunker] = NO_CHUNKERS,
) -> IngestReport:
    """Write and take away single documents of a source, in one publish; the rest of the source stays.

    Unchanged ones cost no embedding and no write. The first of `embedders` makes the first index version of
    an empty rail.
    """
    ids = [*(parsed.document.id for parsed in changes.upserts), *changes.deletes]

    async def compare(publisher: Publisher, position: Position) -> Difference:
        live = await publisher.documents(position, ids)
        return compare_documents(changes.upserts, changes.deletes, live, source)

    run = _Run(store, tenant, source, embedders, on_progress, on_publish, chunkers=chunkers)
    report = await run.bring_in(compare)
    await run.note(began_at=None, seen=changes.upserts)
    return report


Compare = Callable[[Publisher, Position], Awaitable[Difference]]


class _Run:
    """One ingest of one tenant: compare, chunk, embed what is new, publish once."""

    def __init__(
        self,
        store: KnowledgeStore,
        tenant: str,
        source: str,
        embedders: Sequence[Embedder],
        on_progress: OnProgress,
        on_publish: OnPublish | None,
        *,
        chunkers: Mapping[str, Chunker],
        allow_purged: bool = False,
    ) -> None:
        self._store = store
        self._tenant = tenant
        self._source = source
        self._publisher = Publisher(store, tenant)
        self._first = embedders[0]
        self._embedders = {each.id: each for each in embedders}
        self._chunkers = chunkers
        self._say = on_progress
        self._on_publish = on_publish
        self._allow_purged = allow_purged
        #: Vectors made so far, also by an attempt that another publish overtook.
        self._embedded = 0
        #: What was published in the end.
        self._published = Difference(access={}, renamed={}, unchanged=0)

    async def bring_in(self, compare: Compare, *, dry_run: bool = False) -> IngestReport:
        """Publish the difference. When somebody else publishes meanwhile, compare again: vectors are kept.

        The last attempt keeps the others waiting instead, so that small quick writers cannot starve a large
        slow one.
        """
        report = await self._unless_overtaken(compare, dry_run=dry_run)
        if report is None:
            async with self._publisher.alone():
                report = await self._attempt(compare, dry_run=dry_run)
        if not dry_run:
            await settle(self._store)
            self._say(IngestProgress(stage="publish", done=report.chunks, total=report.chunks))
        return report

    async def _unless_overtaken(self, compare: Compare, *, dry_run: bool) -> IngestReport | None:
        """None: others published during each of these attempts."""
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._attempt(compare, dry_run=dry_run)
            except PublishConflictError:
                continue
        return None

    async def note(self, *, began_at: datetime | None, seen: Sequence[ParsedDocument]) -> None:
        """Record how fresh the source is. After the publish, and apart: it must never take one back."""
        changed = [parsed.modified_at for parsed in seen if parsed.modified_at is not None]
        look = Look(
            began_at=began_at,
            changed_at=max(changed, default=None),
            left_out=len(self._published.failures),
            published=[parsed.modified_at for parsed in self._published.changed],
        )
        try:
            await note(self._store, self._tenant, self._source, look)
        except StoreError:
            logger.warning("freshness not recorded", exc_info=True, extra={"action": "note_freshness"})

    async def _attempt(self, compare: Compare, *, dry_run: bool) -> IngestReport:
        publisher = self._publisher
        position = await publisher.position()
        difference = await compare(publisher, position)
        if not self._allow_purged:
            erased = refusals(await publisher.tombstones(), difference.changed, difference.added)
            difference = difference.without(erased)
        targets = await self._targets(dry_run=dry_run)
        chunks, uncut = _cut(targets, difference.changed, self._chunkers)
        difference = difference.without(uncut)
        missing = await _missing(publisher, chunks)
        if dry_run:
            self._embedded = sum(len(texts) for texts in missing.values())
        else:
            unfit = await self._embed(missing)
            if unfit:
                refused = {
                    staged.document_id: unfit[staged.chunk.hash]
                    for staged in chunks
                    if staged.chunk.hash in unfit
                }
                chunks = [staged for staged in chunks if staged.document_id not in refused]
                difference = difference.without(_refusals(difference.changed, refused))
        added = len(difference.added)
        report = IngestReport(
            source=self._source,
            documents=len(difference.changed) + difference.unchanged,
            added=added,
            changed=len(difference.changed) - added,
            removed=len(difference.removed),
            unchanged=difference.unchanged,
            access_changed=len(difference.access),
            renamed=len(difference.renamed),
            chunks=len(chunks),
            embedded=self._embedded,
            failures=difference.failures,
            skipped=(),
            snapshot=position.head,
            versions=tuple(target.version.id for target in targets),
            dry_run=dry_run,
        )
        if dry_run:
            return report
        self._say(IngestProgress(stage="publish", done=0, total=len(chunks)))
        if difference.changed or difference.removed or difference.access or difference.renamed:
            report = await self._publish(position, targets, difference, chunks, report)
        self._published = difference
        return report

    async def _publish(
        self,
        position: Position,
        targets: Sequence[Target],
        difference: Difference,
        chunks: Sequence[StagedChunk],
        report: IngestReport,
    ) -> IngestReport:
        async def within(conn: Connection, snapshot: int) -> None:
            if self._on_publish is not None:
                await self._on_publish(conn, replace(report, snapshot=snapshot))

        snapshot = await self._publisher.publish(
            Publication(
                source=self._source,
                position=position,
                targets=targets,
                documents=difference.changed,
                removed=difference.removed,
                access=difference.access,
                renamed=difference.renamed,
                chunks=chunks,
                added=len(difference.added),
                within=within,
            )
        )
        return replace(report, snapshot=snapshot)

    async def _targets(self, *, dry_run: bool) -> list[Target]:
        targets = await self._publisher.targets()
        if not targets:
            first = first_version(self._first)
            if dry_run:
                targets = [Target(version=first, number=0)]
            else:
                await self._store.register(first)
                targets = await self._publisher.targets()
        for target in targets:
            require_parts(target.version, self._embedders, self._chunkers)
        return targets

    async def _embed(self, missing: Mapping[str, Mapping[str, str]]) -> dict[str, EmbeddingRefusedError]:
        """Make and keep the missing vectors; returns those that the embedder refuses: hash -> reason.

        One refused text spoils its whole request, so that batch is sent again text by text.
        """
        total, done = sum(len(texts) for texts in missing.values()), 0
        unfit: dict[str, EmbeddingRefusedError] = {}
        for embedder, texts in missing.items():
            hashes = list(texts)
            for start in range(0, len(hashes), CACHE_BATCH):
                batch = {each: texts[each] for each in hashes[start : start + CACHE_BATCH]}
                try:
                    await self._keep(embedder, batch)
                except EmbeddingRefusedError:
                    for chunk_hash, text in batch.items():
                        try:
                            await self._keep(embedder, {chunk_hash: text})
                        except EmbeddingRefusedError as exc:
                            unfit[chunk_hash] = exc
                done += len(batch)
                self._say(IngestProgress(stage="embed", done=done, total=total))
        return unfit

    async def _keep(self, embedder: str, texts: Mapping[str, str]) -> None:
        vectors = await unit_vectors(self._embedders[embedder], list(texts.values()))
        await self._publisher.add_to_cache(embedder, zip(texts, vectors, strict=True))
        self._embedded += len(texts)


def _cut(
    targets: Sequence[Target], documents: Sequence[ParsedDocument], chunkers: Mapping[str, Chunker]
) -> tuple[list[StagedChunk], dict[str, DocumentError]]:
    """The chunks of every target, and the documents that a chunker cannot cut: id -> reason."""
    staged: dict[str, list[StagedChunk]] = {parsed.document.id: [] for parsed in documents}
    uncut: dict[str, DocumentError] = {}
    for target in targets:
        chunker = chunker_of(target.version.chunker, chunkers)
        for parsed in documents:
            document = parsed.document
            try:
                chunks = cut(chunker, document.title, document.text, parsed.blocks)
            except RetrievalError as exc:
                uncut[document.id] = DocumentError(
                    parsed.origin, "text", str(exc), f"version {target.version.id} cannot hold it"
                )
                continue
            staged[document.id] += [
                StagedChunk(target=target, document_id=document.id, chunk=chunk) for chunk in chunks
            ]
    return [each for key, row in staged.items() if key not in uncut for each in row], uncut


def _refusals(
    documents: Sequence[ParsedDocument], refused: Mapping[str, EmbeddingRefusedError]
) -> dict[str, DocumentError]:
    reasons = {}
    for parsed in documents:
        if reason := refused.get(parsed.document.id):
            problem = f"the embedder refuses it: {reason}"
            reasons[parsed.document.id] = DocumentError(parsed.origin, "text", problem, "shorten or split it")
    return reasons


async def _missing(publisher: Publisher, chunks: Sequence[StagedChunk]) -> dict[str, dict[str, str]]:
    """Embedder -> hash -> text, of what has no vector yet. Equal texts count once."""
    texts: dict[str, dict[str, str]] = {}
    for staged in chunks:
        texts.setdefault(staged.target.version.embedder, {})[staged.chunk.hash] = staged.chunk.embedded_text
    for embedder, wanted in texts.items():
        for known in await publisher.cached(embedder, list(wanted)):
            del wanted[known]
    return texts

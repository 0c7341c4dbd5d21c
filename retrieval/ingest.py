"""Bring a source into the knowledge rail: read, compare, chunk, embed what is new, publish once.

Running it again on an unchanged source embeds nothing and writes nothing. A run that was killed goes on where
it was: vectors are kept batch by batch, and the publish is one transaction at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from retrieval.chunking import StructureChunker
from retrieval.connections import Connection
from retrieval.differences import Difference, compare_documents, compare_source
from retrieval.embedding import Embedder
from retrieval.errors import (
    DocumentError,
    EmbedderMismatchError,
    EmbeddingRefusedError,
    PublishConflictError,
    RetrievalError,
    UnknownVersionError,
)
from retrieval.lexing import LEXER
from retrieval.minilm import NAME as MINILM
from retrieval.parsing import ParsedDocument
from retrieval.publishing import Position, Publication, Publisher, StagedChunk, Target, Unfilled
from retrieval.sources import MAX_DOCUMENT_BYTES, read_source
from retrieval.store import KnowledgeStore
from retrieval.tombstones import refusals
from retrieval.versions import KnowledgeVersion, VersionState

#: Chunks between two commits of vectors: what a killed run may have to embed again.
CACHE_BATCH = 32
#: How often one run compares again because somebody else published meanwhile.
ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Single documents of a source to write and to take away; the rest of the source stays."""

    upserts: tuple[ParsedDocument, ...] = ()
    #: Ids.
    deletes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestProgress:
    """How far an ingest is. `total` is 0 while it is not known."""

    stage: str
    done: int
    total: int


#: Called between two batches. What it raises stops the run there: nothing is published, and the vectors so
#: far are kept for the next one.
OnProgress = Callable[[IngestProgress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What an ingest did, or with `dry_run` would do."""

    source: str
    documents: int
    added: int
    changed: int
    removed: int
    unchanged: int
    access_changed: int
    #: Unchanged documents that are read from another file now.
    renamed: int
    chunks: int
    embedded: int
    #: Documents that were left out, each with its reason; what is live of them stays.
    failures: tuple[DocumentError, ...]
    skipped: tuple[str, ...]
    #: Live snapshot afterwards; the one before, if nothing moved.
    snapshot: int
    versions: tuple[str, ...]
    dry_run: bool
    #: Those of the versions that take no traffic yet, because other tenants have content that they lack.
    waiting: tuple[str, ...] = ()


#: Runs in the publish's own transaction: what it writes becomes visible with the snapshot, or not at all.
OnPublish = Callable[[Connection, IngestReport], Awaitable[None]]


async def ingest(
    store: KnowledgeStore,
    embedder: Embedder,
    source: Path,
    *,
    tenant: str,
    on_progress: OnProgress = lambda _progress: None,
    on_publish: OnPublish | None = None,
    dry_run: bool = False,
    source_name: str | None = None,
    other_embedders: Sequence[Embedder] = (),
    max_document_bytes: int = MAX_DOCUMENT_BYTES,
    allow_purged: bool = False,
) -> IngestReport:
    """Make the tenant's documents of this source equal to a folder of files or a JSONL corpus.

    Documents that left the source are removed, those of other sources stay. On an empty rail the first index
    version is made for `embedder` and becomes stable. While several versions are reachable, all are written,
    and each needs its embedder: `other_embedders` are for the versions that were made with another one.
    A document that was purged is left out and listed, unless `allow_purged` lets it in as a new one.
    """
    name = source_name or source.resolve().name
    on_progress(IngestProgress(stage="read", done=0, total=0))
    reading = await asyncio.to_thread(read_source, source, max_document_bytes=max_document_bytes)

    async def compare(publisher: Publisher, position: Position) -> Difference:
        return compare_source(reading, await publisher.live_documents(position), name)

    run = _Run(
        store,
        tenant,
        name,
        (embedder, *other_embedders),
        on_progress,
        on_publish,
        allow_purged=allow_purged,
    )
    report = await run.bring_in(compare, dry_run=dry_run)
    return replace(report, skipped=reading.skipped)


async def apply(
    store: KnowledgeStore,
    embedders: Sequence[Embedder],
    changes: Changes,
    *,
    tenant: str,
    source: str,
    on_progress: OnProgress = lambda _progress: None,
    on_publish: OnPublish | None = None,
) -> IngestReport:
    """Write and take away single documents of a source, in one publish; the rest of the source stays.

    Unchanged ones cost no embedding and no write. The first of `embedders` makes the first index version of
    an empty rail.
    """
    ids = [*(parsed.document.id for parsed in changes.upserts), *changes.deletes]

    async def compare(publisher: Publisher, position: Position) -> Difference:
        live = await publisher.documents(position, ids)
        return compare_documents(changes.upserts, changes.deletes, live, source)

    return await _Run(store, tenant, source, embedders, on_progress, on_publish).bring_in(compare)


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
        allow_purged: bool = False,
    ) -> None:
        self._store = store
        self._source = source
        self._publisher = Publisher(store, tenant)
        self._first = embedders[0]
        self._embedders = {each.id: each for each in embedders}
        self._say = on_progress
        self._on_publish = on_publish
        self._allow_purged = allow_purged
        #: Vectors made so far, also by an attempt that another publish overtook.
        self._embedded = 0

    async def bring_in(self, compare: Compare, *, dry_run: bool = False) -> IngestReport:
        """Publish the difference. When somebody else publishes meanwhile, compare again: vectors are kept."""
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._attempt(compare, dry_run=dry_run)
            except PublishConflictError:
                continue
        return await self._attempt(compare, dry_run=dry_run)

    async def _attempt(self, compare: Compare, *, dry_run: bool) -> IngestReport:
        publisher = self._publisher
        position = await publisher.position()
        difference = await compare(publisher, position)
        if not self._allow_purged:
            erased = refusals(await publisher.tombstones(), difference.changed, difference.added)
            difference = difference.without(erased)
        targets = await self._targets(dry_run=dry_run)
        fills = [
            staged
            for target in targets
            for staged in _fill(target, await publisher.unfilled(position, target))
        ]
        chunks, uncut = _cut(targets, difference.changed)
        difference = difference.without(uncut)
        missing = await _missing(publisher, [*fills, *chunks])
        if dry_run:
            self._embedded = sum(len(texts) for texts in missing.values())
        else:
            unfit = await self._embed(missing, needed={staged.chunk.hash for staged in fills})
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
            chunks=len(fills) + len(chunks),
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
        if fills:
            await publisher.publish(
                Publication(source=self._source, position=position, targets=targets, chunks=fills)
            )
        if difference.changed or difference.removed or difference.access or difference.renamed:
            report = await self._publish(position, targets, difference, chunks, report)
        report = replace(report, waiting=await settle(self._store, publisher, targets))
        self._say(IngestProgress(stage="publish", done=len(chunks), total=len(chunks)))
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
        _require_embedders(targets, self._embedders)
        return targets

    async def _embed(
        self, missing: Mapping[str, Mapping[str, str]], *, needed: Collection[str]
    ) -> dict[str, EmbeddingRefusedError]:
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
                            if chunk_hash in needed:
                                raise
                            unfit[chunk_hash] = exc
                done += len(batch)
                self._say(IngestProgress(stage="embed", done=done, total=total))
        return unfit

    async def _keep(self, embedder: str, texts: Mapping[str, str]) -> None:
        vectors = await self._embedders[embedder].embed_documents(list(texts.values()))
        await self._publisher.add_to_cache(embedder, zip(texts, vectors, strict=True))
        self._embedded += len(texts)


async def settle(store: KnowledgeStore, publisher: Publisher, targets: Sequence[Target]) -> tuple[str, ...]:
    """What follows a publish, and may be done again: filled versions become ready, the first one stable.

    Returns the versions that other tenants keep waiting.
    """
    waiting = [
        target.version.id
        for target in targets
        if target.version.state is VersionState.BUILDING and not await publisher.mark_ready(target.version.id)
    ]
    await store.promote_first(targets[0].version.id)
    return tuple(waiting)


def first_version(embedder: Embedder) -> KnowledgeVersion:
    """The index version of an empty rail. Weight and threshold come from bench/retrieval_quality.py.

    The threshold was measured with the packaged MiniLM. Cosines of another model mean something else, so with
    one nothing is refused until somebody has measured it.
    """
    threshold = 0.1 if embedder.id.startswith(MINILM) else 0.0
    return KnowledgeVersion.make(
        name="start", embedder=embedder.id, dims=embedder.dims, abstain_below=threshold
    )


def _require_embedders(targets: Sequence[Target], embedders: Mapping[str, Embedder]) -> None:
    for target in targets:
        version = target.version
        if version.embedder not in embedders:
            raise EmbedderMismatchError(
                f"index version {version.id} was made with embedder {version.embedder}, and only "
                f"{', '.join(embedders)} is at hand: give that one too, or promote a version of this embedder"
            )
        if version.lexer != LEXER:
            raise UnknownVersionError(f"lexer: {version.id} needs {version.lexer}; this release has {LEXER}")


def _cut(
    targets: Sequence[Target], documents: Sequence[ParsedDocument]
) -> tuple[list[StagedChunk], dict[str, DocumentError]]:
    """The chunks of every target, and the documents that a chunker cannot cut: id -> reason."""
    chunks: dict[str, list[StagedChunk]] = {parsed.document.id: [] for parsed in documents}
    uncut: dict[str, DocumentError] = {}
    for target in targets:
        chunker = StructureChunker.from_id(target.version.chunker)
        for parsed in documents:
            document = parsed.document
            try:
                cut = list(chunker.chunk(document.title, document.text, parsed.blocks))
            except RetrievalError as exc:
                uncut[document.id] = DocumentError(
                    parsed.origin, "text", str(exc), f"version {target.version.id} cannot hold it"
                )
                continue
            chunks[document.id] += [
                StagedChunk(target=target, document_id=document.id, chunk=chunk) for chunk in cut
            ]
    return [staged for key, cut in chunks.items() if key not in uncut for staged in cut], uncut


def _refusals(
    documents: Sequence[ParsedDocument], refused: Mapping[str, EmbeddingRefusedError]
) -> dict[str, DocumentError]:
    reasons = {}
    for parsed in documents:
        if reason := refused.get(parsed.document.id):
            problem = f"the embedder refuses it: {reason}"
            reasons[parsed.document.id] = DocumentError(parsed.origin, "text", problem, "shorten or split it")
    return reasons


def _fill(target: Target, releases: Sequence[Unfilled]) -> Iterator[StagedChunk]:
    chunker = StructureChunker.from_id(target.version.chunker)
    for release in releases:
        for chunk in chunker.chunk(release.title, release.body, release.blocks):
            yield StagedChunk(target=target, document_id=release.document_id, chunk=chunk, release=release)


async def _missing(publisher: Publisher, chunks: Sequence[StagedChunk]) -> dict[str, dict[str, str]]:
    """Embedder -> hash -> text, of what has no vector yet. Equal texts count once."""
    texts: dict[str, dict[str, str]] = {}
    for staged in chunks:
        texts.setdefault(staged.target.version.embedder, {})[staged.chunk.hash] = staged.chunk.embedded_text
    for embedder, wanted in texts.items():
        for known in await publisher.cached(embedder, list(wanted)):
            del wanted[known]
    return texts

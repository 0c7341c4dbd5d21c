"""Bring a source into the knowledge rail: read, compare, chunk, embed what is new, publish once.

Running it again on an unchanged source embeds nothing and writes nothing. A run that was killed goes on where
it was: vectors are kept batch by batch, and the publish is one transaction at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval.chunking import StructureChunker
from retrieval.embedding import Embedder
from retrieval.errors import (
    DuplicateDocumentError,
    EmbedderMismatchError,
    UnknownVersionError,
    UnparsableDocumentError,
)
from retrieval.lexing import LEXER
from retrieval.minilm import NAME as MINILM
from retrieval.parsing import ParsedDocument
from retrieval.publishing import (
    LiveDocument,
    Publication,
    Publisher,
    StagedChunk,
    Target,
    Unfilled,
)
from retrieval.sources import MAX_DOCUMENT_BYTES, Reading, read_source
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion, VersionState

#: Chunks between two commits of vectors: what a killed run may have to embed again.
CACHE_BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestProgress:
    """How far an ingest is. `total` is 0 while it is not known."""

    stage: str
    done: int
    total: int


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
    chunks: int
    embedded: int
    failures: tuple[UnparsableDocumentError, ...]
    skipped: tuple[str, ...]
    #: Live snapshot afterwards; the one before, if nothing moved.
    snapshot: int
    versions: tuple[str, ...]
    dry_run: bool
    #: Those of the versions that take no traffic yet, because other tenants have content that they lack.
    waiting: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A source compared with what is live."""

    changed: tuple[ParsedDocument, ...]
    added: int
    removed: tuple[str, ...]
    access: dict[str, tuple[str, ...]]


async def ingest(
    store: KnowledgeStore,
    embedder: Embedder,
    source: Path,
    *,
    tenant: str,
    on_progress: Callable[[IngestProgress], None] = lambda _progress: None,
    dry_run: bool = False,
    source_name: str | None = None,
    other_embedders: Sequence[Embedder] = (),
    max_document_bytes: int = MAX_DOCUMENT_BYTES,
) -> IngestReport:
    """Make the tenant's documents of this source equal to a folder of files or a JSONL corpus.

    Documents that left the source are removed, those of other sources stay. On an empty rail the first index
    version is made for `embedder` and becomes stable. While several versions are reachable, all are written,
    and each needs its embedder: `other_embedders` are for the versions that were made with another one.
    """
    name = source_name or source.resolve().name
    on_progress(IngestProgress(stage="read", done=0, total=0))
    reading = await asyncio.to_thread(read_source, source, max_document_bytes=max_document_bytes)
    publisher = Publisher(store, tenant)
    position = await publisher.position()
    difference = compare(reading, await publisher.live_documents(position), name)
    targets = await publisher.targets()
    if not targets:
        first = first_version(embedder)
        if dry_run:
            targets = [Target(version=first, number=0)]
        else:
            await store.register(first)
            targets = await publisher.targets()
    embedders = {each.id: each for each in (embedder, *other_embedders)}
    _require_embedders(targets, embedders)

    fills = [
        staged for target in targets for staged in _fill(target, await publisher.unfilled(position, target))
    ]
    chunks = [staged for target in targets for staged in _cut(target, difference.changed)]
    missing = await _missing(publisher, [*fills, *chunks])
    snapshot = position.head
    waiting: list[str] = []
    if not dry_run:
        await _embed(publisher, embedders, missing, on_progress)
        on_progress(IngestProgress(stage="publish", done=0, total=len(chunks)))
        if fills:
            await publisher.publish(
                Publication(source=name, position=position, targets=targets, chunks=fills)
            )
        if difference.changed or difference.removed or difference.access:
            snapshot = await publisher.publish(
                Publication(
                    source=name,
                    position=position,
                    targets=targets,
                    documents=difference.changed,
                    removed=difference.removed,
                    access=difference.access,
                    chunks=chunks,
                    added=difference.added,
                )
            )
        for target in targets:
            version = target.version
            if version.state is VersionState.BUILDING and not await publisher.mark_ready(version.id):
                waiting.append(version.id)
        await store.promote_first(targets[0].version.id)
        on_progress(IngestProgress(stage="publish", done=len(chunks), total=len(chunks)))
    return IngestReport(
        source=name,
        documents=len(reading.documents),
        added=difference.added,
        changed=len(difference.changed) - difference.added,
        removed=len(difference.removed),
        unchanged=len(reading.documents) - len(difference.changed),
        access_changed=len(difference.access),
        chunks=len(fills) + len(chunks),
        embedded=sum(len(texts) for texts in missing.values()),
        failures=reading.failures,
        skipped=reading.skipped,
        snapshot=snapshot,
        versions=tuple(target.version.id for target in targets),
        dry_run=dry_run,
        waiting=tuple(waiting),
    )


def first_version(embedder: Embedder) -> KnowledgeVersion:
    """The index version of an empty rail. Weight and threshold come from bench/retrieval_quality.py.

    The threshold was measured with the packaged MiniLM. Cosines of another model mean something else, so with
    one nothing is refused until somebody has measured it.
    """
    threshold = 0.1 if embedder.id.startswith(MINILM) else 0.0
    return KnowledgeVersion.make(
        name="start", embedder=embedder.id, dims=embedder.dims, abstain_below=threshold
    )


def compare(reading: Reading, live: dict[str, LiveDocument], source: str) -> Difference:
    """What has to change. While a file cannot be read, its documents stay as they are."""
    changed, access, added = [], {}, 0
    for parsed in reading.documents:
        document = parsed.document
        known = live.get(document.id)
        if known and known.content_hash is not None and known.source != source:
            raise DuplicateDocumentError(
                f"id: {document.id!r} in {parsed.origin} belongs to source {known.source!r} already: "
                "rename it, or ingest under that source's name"
            )
        if known is None or known.content_hash is None:
            added += 1
            changed.append(parsed)
        elif known.content_hash != parsed.content_hash:
            changed.append(parsed)
        elif known.principals != tuple(sorted(document.principals)):
            access[document.id] = document.principals
    seen = {parsed.document.id for parsed in reading.documents}
    unreadable = {failure.file.partition(":")[0] for failure in reading.failures}
    removed = tuple(
        known.id
        for known in live.values()
        if known.source == source
        and known.content_hash is not None
        and known.id not in seen
        and known.file not in unreadable
    )
    return Difference(changed=tuple(changed), added=added, removed=removed, access=access)


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


def _cut(target: Target, documents: Sequence[ParsedDocument]) -> Iterator[StagedChunk]:
    chunker = StructureChunker.from_id(target.version.chunker)
    for parsed in documents:
        for chunk in chunker.chunk(parsed.document.title, parsed.document.text, parsed.blocks):
            yield StagedChunk(target=target, document_id=parsed.document.id, chunk=chunk)


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


async def _embed(
    publisher: Publisher,
    embedders: Mapping[str, Embedder],
    missing: Mapping[str, Mapping[str, str]],
    on_progress: Callable[[IngestProgress], None],
) -> None:
    total, done = sum(len(texts) for texts in missing.values()), 0
    for embedder, texts in missing.items():
        hashes = list(texts)
        for start in range(0, len(hashes), CACHE_BATCH):
            batch = hashes[start : start + CACHE_BATCH]
            vectors = await embedders[embedder].embed_documents([texts[each] for each in batch])
            await publisher.add_to_cache(embedder, zip(batch, vectors, strict=True))
            done += len(batch)
            on_progress(IngestProgress(stage="embed", done=done, total=total))

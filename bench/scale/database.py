"""A generated corpus in the real schema: loaded by COPY, indexed afterwards, kept for the next run.

The rows are what publishing them would have left: documents, releases, one snapshot a
tenant, term and chunk counts, vectors kept, so that the real search function works on them and all bytes count. A
database is kept by what was generated, by the tables and by the names of the migrations; functions of later migrations that were changed since are replaced when it is opened.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from bench.scale.corpus import Corpus, GeneratedDocument, Shape, bm25_of, tenant_name, tenant_sizes
from bench.scale.seeds import Seeds
from deploy.errors import DeployError
from deploy.migrate import QUERIES as MIGRATE_QUERIES
from deploy.migrate import migrate, migrations
from deploy.postgres import DATABASE, EmbeddedPostgres
from retrieval import binary_rows as rows
from retrieval.documents import Access
from retrieval.embedding import Vector
from retrieval.partitions import QUERIES as PARTITION_QUERIES
from retrieval.sql import named_queries
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion

QUERIES = named_queries("bench.scale.sql", "loading.sql")
PRINCIPALS = ("public", "staff")
#: Tables that the loader fills, and what decides how chunks are kept.
LOADED_TABLES = frozenset({
    "principal", "tenant", "document", "document_version", "document_release", "snapshot", "snapshot_head", "chunk",
    "term_stats", "chunk_stats", "filter_field", "filter_value", "embedding_cache",
})  # fmt: skip
MAKING_FUNCTIONS = frozenset({"create_partition", "partition_indexes", "filter_values_of", "marked_words"})
_TABLE = re.compile(r"^CREATE TABLE retrieval\.(?P<name>\w+) \(.*?;$", re.MULTILINE | re.DOTALL)
_FUNCTION = re.compile(r"^CREATE FUNCTION retrieval\.(?P<name>\w+)\(.*?\$\$;$", re.MULTILINE | re.DOTALL)
#: Generation or loading changed in a way that a kept database does not have.
REVISION = 4
CHUNK_COLUMNS = (
    "id", "index_number", "tenant", "document_id", "document_version", "ordinal", "char_start", "char_end",
    "heading_path", "body", "chunk_hash", "acl", "born", "died", "effective_from", "effective_to", "embedding", "tsv",
    "bm", "metadata",
)  # fmt: skip
#: Of the server while it loads and answers; memory follows the number of chunks.
SETTINGS: Mapping[str, str] = {
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "max_parallel_maintenance_workers": "2",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A database that holds a generated corpus."""

    url: str
    admin_url: str
    version: str
    embedder: str
    #: Chunks of each tenant, largest first; tenants are named by `tenant_name`.
    sizes: tuple[int, ...]
    partition: str
    #: Seconds of each step of the load, when it happened.
    seconds: Mapping[str, float]


class GivenVectors:
    """An embedder that knows the vectors of some texts, so that a search's time has no embedding in it."""

    def __init__(self, embedder: str, texts: Sequence[str], vectors: Vector) -> None:
        self.id = embedder
        self.dims = int(vectors.shape[1])
        self._vectors = dict(zip(texts, vectors, strict=True))

    async def embed_query(self, text: str) -> Vector:
        """The vector that was given for a text."""
        vector: Vector = self._vectors[text]
        return vector

    async def embed_documents(self, texts: Sequence[str]) -> Vector:
        """The vectors that were given for texts."""
        stacked: Vector = np.stack([self._vectors[text] for text in texts])
        return stacked


def everybody(tenant: str) -> Access:
    """Eyes that see all of a tenant."""
    return Access(tenant=tenant, principals=PRINCIPALS)


def server_settings(chunks: int) -> dict[str, str]:
    """Memory for so many chunks: buffers hold the indexes, and the graph is built in memory."""
    buffers_mb = min(6144, max(512, chunks * 6 // 1000))
    build_mb = min(3072, max(256, chunks * 25 // 10_000))
    return {
        **SETTINGS,
        "shared_buffers": f"{buffers_mb}MB",
        "maintenance_work_mem": f"{build_mb}MB",
    }


def folder_of(home: Path, seeds: Seeds, shape: Shape) -> Path:
    """Where the database of a shape is kept; another one when the tables or the indexes of chunks have changed."""
    texts = "\n".join(migration.text for migration in migrations(("retrieval",)))
    # A migration under another name would run a second time.
    names = [migration.name for migration in migrations()]
    tables = [found.group() for found in _TABLE.finditer(texts) if found["name"] in LOADED_TABLES]
    making = [found.group() for found in _FUNCTION.finditer(texts) if found["name"] in MAKING_FUNCTIONS]
    parts = [asdict(shape), len(seeds.texts), seeds.embedder, tables, making, names, REVISION]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]
    return home / "scale" / f"{shape.chunks}x{shape.tenants}-{digest}"


def open_database(
    home: Path, seeds: Seeds, shape: Shape, *, say: Callable[[str], None] = print
) -> tuple[EmbeddedPostgres, Loaded]:
    """Start the server of a shape and load it unless that was done. The caller stops it."""
    folder = folder_of(home, seeds, shape)
    needed = 300_000_000 if (folder / "loaded").exists() else shape.chunks * 30_000
    postgres = EmbeddedPostgres(
        folder,
        settings=server_settings(shape.chunks),
        free_bytes_needed=needed,
        timeout_s=300,
    )
    if not (folder / "loaded").exists():
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)  # a load that was cut short
    url = postgres.start()
    try:
        admin_url = psycopg.conninfo.make_conninfo(postgres.admin_url, dbname=DATABASE)
        if (folder / "loaded").exists():
            _replace_functions(url)
        else:
            asyncio.run(_load(url, admin_url, Corpus(seeds, shape), say))
            (folder / "loaded").touch()
        loaded = _facts(url, admin_url, tenant_sizes(shape))
        prewarm(loaded)
    except BaseException:
        postgres.stop()
        raise
    return postgres, loaded


def prewarm(loaded: Loaded) -> None:
    """Read the partition and its indexes into memory."""
    with psycopg.connect(loaded.admin_url, autocommit=True) as conn:
        conn.execute(QUERIES["prewarm_extension"])
        conn.execute(_named("prewarm", partition=loaded.partition))


def sizes(loaded: Loaded) -> dict[str, int]:
    """Bytes of the partition's parts and of what grows with it."""
    with psycopg.connect(loaded.admin_url) as conn:
        found = conn.execute(_named("sizes", partition=loaded.partition)).fetchall()
    return {str(name): int(size) for name, size in found}


async def _load(url: str, admin_url: str, corpus: Corpus, say: Callable[[str], None]) -> None:
    await migrate(url)
    version = KnowledgeVersion.make(
        name="scale", embedder=corpus.seeds.embedder, dims=corpus.seeds.vectors.shape[1]
    )
    steps = Steps(say)
    async with AsyncConnectionPool(url, min_size=1, max_size=1, open=False) as pool:
        store = KnowledgeStore(pool)
        await store.register(version)
        await asyncio.to_thread(_copy, admin_url, corpus, version, say)
        steps.done("copy")
        async with pool.connection() as conn:
            await conn.set_autocommit(True)
            await _index(conn, version.id, server_settings(corpus.shape.chunks), steps)
        with psycopg.connect(admin_url, autocommit=True) as admin:
            admin.execute(QUERIES["move_sequence"], {"last": corpus.shape.chunks})
            admin.execute(QUERIES["analyze"])
            admin.execute(QUERIES["checkpoint"])
        steps.done("analyse")
        lacking = await store.make_ready(version.id)
        if lacking:
            raise DeployError(f"the loader left documents without chunks: {', '.join(lacking[:5])}")
        steps.done("make ready")
        await store.promote_first(version.id)
    with psycopg.connect(admin_url, autocommit=True) as conn:
        conn.execute(QUERIES["remember"])
        facts = {"version": version.id, "embedder": version.embedder, "seconds": steps.seconds}
        conn.execute(QUERIES["remember_facts"], {"facts": Jsonb(facts)})


class Steps:
    """Seconds of each step, said as it ends."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._say = say
        self._began = time.perf_counter()

    def done(self, step: str) -> None:
        """The step that ends now."""
        self.seconds[step] = round(time.perf_counter() - self._began, 1)
        self._say(f"  {step}: {self.seconds[step]} s")
        self._began = time.perf_counter()


async def _index(
    conn: psycopg.AsyncConnection[Any], version: str, settings: Mapping[str, str], steps: Steps
) -> None:
    """The statements by which `index_partition` makes a version's indexes, each timed."""
    await conn.execute(
        PARTITION_QUERIES["resources"],
        {"memory": settings["maintenance_work_mem"], "workers": settings["max_parallel_maintenance_workers"]},
    )
    missing = await conn.execute(PARTITION_QUERIES["missing_indexes"], {"version": version})
    for name, _, statement in await missing.fetchall():
        await conn.execute(statement)
        steps.done(f"index {name.partition('_')[2].partition('_')[2]}")


def _copy(admin_url: str, corpus: Corpus, version: KnowledgeVersion, say: Callable[[str], None]) -> None:
    """As superuser, whom row-level security lets COPY. Two of them need two connections, and so share both cores."""
    with psycopg.connect(admin_url) as conn, psycopg.connect(admin_url) as other:
        _write(conn, other, corpus, version, say)


def _write(
    conn: psycopg.Connection[Any],
    other: psycopg.Connection[Any],
    corpus: Corpus,
    version: KnowledgeVersion,
    say: Callable[[str], None],
) -> None:
    tenants = [tenant_name(place) for place in range(len(corpus.sizes))]
    found = conn.execute(QUERIES["number"], {"version": version.id}).fetchone()
    if found is None:
        raise DeployError(f"index version {version.id} has no partition")
    number = int(found[0])
    partition = f"chunk_{number}"
    conn.execute(QUERIES["add_tenants"], {"tenants": tenants})
    known = conn.execute(
        QUERIES["add_principals"], {"tenants": tenants, "names": list(PRINCIPALS)}
    ).fetchall()
    acl = {(tenant, name): int(principal) for tenant, name, principal in known}
    marks = dict(conn.execute(QUERIES["marks"], {"tenants": tenants}).fetchall())
    terms = TermCounts(len(tenants))
    encoder = ChunkEncoder(corpus, version, number)
    documents_of: list[tuple[str, str, list[int]]] = []
    columns = sql.SQL(", ").join(map(sql.Identifier, CHUNK_COLUMNS))
    copy_chunks = sql.SQL(QUERIES["copy_chunks"]).format(partition=sql.Identifier(partition), columns=columns)
    conn.execute(_named("empty", partition=partition))
    with (
        conn.cursor() as cursor,
        other.cursor() as other_cursor,
        cursor.copy(copy_chunks) as chunks,
        other_cursor.copy(QUERIES["copy_document_versions"]) as versions,
    ):
        chunks.write(rows.HEADER)
        for place, documents in corpus.documents():
            tenant = tenants[place]
            for document in documents:
                readers = [acl[tenant, "staff"]]
                if not document.internal:
                    readers.append(acl[tenant, "public"])
                chunks.write(b"".join(encoder.rows(tenant, marks[tenant], document, readers)))
                versions.write_row(_version_row(tenant, document, readers))
                documents_of.append((tenant, document.id, readers))
            terms.add(place, documents)
            if place == 0 and documents:
                say(f"  {encoder.written} of {corpus.shape.chunks} chunks")
        chunks.write(rows.TRAILER)
    conn.commit()
    other.commit()
    with conn.transaction(), conn.cursor() as cursor:
        with cursor.copy(QUERIES["copy_documents"]) as copy:
            for tenant, document_id, readers in documents_of:
                copy.write_row((tenant, document_id, "generated", f"{document_id}.md", readers))
        with cursor.copy(QUERIES["copy_terms"]) as copy:
            copy.write(rows.HEADER)
            for block in terms.rows(corpus, number, tenants):
                copy.write(block)
            copy.write(rows.TRAILER)
        for name in ("add_releases", "add_snapshots", "add_heads", "add_filter_fields"):
            cursor.execute(QUERIES[name])
        keep = sql.SQL(QUERIES["keep_vectors"]).format(partition=sql.Identifier(partition))
        cursor.execute(keep, {"embedder": version.embedder})
        cursor.execute(
            QUERIES["add_chunk_stats"], {"number": number, "tenants": tenants, "counts": corpus.sizes}
        )


def _version_row(tenant: str, document: GeneratedDocument, readers: list[int]) -> tuple[object, ...]:
    body = "\n\n".join(chunk.text for chunk in document.chunks)
    blocks = [
        ["paragraph", 0, start, start + len(chunk.text)]
        for start, chunk in zip(_starts(document), document.chunks, strict=True)
    ]
    return (
        tenant, document.id, 1, hashlib.sha256(body.encode()).hexdigest()[:32], document.title, body, Jsonb(blocks), "",
        document.language, Jsonb(_metadata(document)), readers,
    )  # fmt: skip


def _metadata(document: GeneratedDocument) -> dict[str, object]:
    return {"product": document.product, "year": document.year}


class ChunkEncoder:
    """Rows of the chunk table, numbered from 1."""

    def __init__(self, corpus: Corpus, version: KnowledgeVersion, number: int) -> None:
        self.written = 0
        self._corpus = corpus
        self._avgdl = version.avgdl
        self._number = rows.int4(number)

    def rows(
        self, tenant: str, mark: str, document: GeneratedDocument, acl: Sequence[int]
    ) -> Iterator[bytes]:
        """A document's chunks. `mark` goes before each word of the text index."""
        corpus = self._corpus
        shared = rows.int_array(acl)
        metadata = rows.jsonb({**_metadata(document), "language": document.language})
        for ordinal, (start, chunk) in enumerate(zip(_starts(document), document.chunks, strict=True)):
            self.written += 1
            yield rows.row((
                rows.int8(self.written), self._number, rows.text(tenant), rows.text(document.id), rows.int4(1),
                rows.int4(ordinal), rows.int4(start), rows.int4(start + len(chunk.text)),
                rows.text_array((document.title,)), rows.text(chunk.text),
                rows.text(f"{self.written:032x}"), shared, rows.int4(1), rows.NULL, rows.NULL, rows.NULL,
                rows.halfvec(chunk.vector),
                rows.tsvector([corpus.vocabulary[place] for place in chunk.lexemes], mark=mark.encode()),
                rows.sparsevec(corpus.terms[chunk.lexemes], bm25_of(chunk.counts, avgdl=self._avgdl)),
                metadata,
            ))  # fmt: skip


class TermCounts:
    """How many chunks of each tenant hold a lexeme."""

    def __init__(self, tenants: int) -> None:
        self._parts: list[list[tuple[NDArray[np.int32], NDArray[np.int32]]]] = [[] for _ in range(tenants)]

    def add(self, tenant: int, documents: Sequence[GeneratedDocument]) -> None:
        """Count documents of one tenant."""
        if documents:
            places = np.concatenate([chunk.lexemes for document in documents for chunk in document.chunks])
            found, counts = np.unique(places, return_counts=True)
            self._parts[tenant].append((found.astype(np.int32), counts.astype(np.int32)))

    def counted(self, tenant: int, size: int) -> NDArray[np.int64]:
        """Chunks with each lexeme of the vocabulary."""
        counts = np.zeros(size, dtype=np.int64)
        for places, found in self._parts[tenant]:
            counts[places] += found
        return counts

    def rows(self, corpus: Corpus, number: int, tenants: Sequence[str]) -> Iterator[bytes]:
        """Rows of the term table, tenant by tenant."""
        index_number = rows.int4(number)
        for place, tenant in enumerate(tenants):
            counts = self.counted(place, len(corpus.vocabulary))
            name = rows.text(tenant)
            held = np.flatnonzero(counts)
            for start in range(0, len(held), 1_000):
                yield b"".join(
                    rows.row(
                        (
                            index_number,
                            name,
                            rows.sized(corpus.vocabulary[each]),
                            rows.int4(int(counts[each])),
                        )
                    )
                    for each in held[start : start + 1_000]
                )


def _starts(document: GeneratedDocument) -> list[int]:
    starts, start = [], 0
    for chunk in document.chunks:
        starts.append(start)
        start += len(chunk.text) + 2
    return starts


def _facts(url: str, admin_url: str, sizes: Sequence[int]) -> Loaded:
    with psycopg.connect(admin_url) as conn:
        row = conn.execute(QUERIES["facts"]).fetchone()
        if row is None:
            raise LookupError("the database says nothing of a corpus: remove its folder")
        facts = row[0]
        found = conn.execute(QUERIES["number"], {"version": facts["version"]}).fetchone()
    return Loaded(
        url=url,
        admin_url=admin_url,
        version=facts["version"],
        embedder=facts["embedder"],
        sizes=tuple(sizes),
        partition=f"chunk_{found[0] if found else 0}",
        seconds=facts["seconds"],
    )


def _replace_functions(url: str) -> None:
    """Take over functions edited since the load, and new migrations, so that a kept corpus is measured with them."""
    with psycopg.connect(url) as conn:
        applied: dict[str, str] = dict(conn.execute(MIGRATE_QUERIES["applied"]).fetchall())
        for migration in migrations():
            known = applied.get(migration.name)
            if known == migration.sha256:
                continue
            if known is None:
                conn.execute(migration.text)
            else:
                for found in _FUNCTION.finditer(migration.text):
                    _replace(conn, found["name"], found.group())
                conn.execute(QUERIES["unrecord"], {"name": migration.name})
            conn.execute(MIGRATE_QUERIES["record"], {"name": migration.name, "sha256": migration.sha256})


def _replace(conn: psycopg.Connection[Any], name: str, definition: str) -> None:
    """Dropped first, since its parameters may have changed; unless a trigger or a view needs it."""
    with suppress(psycopg.errors.DependentObjectsStillExist), conn.transaction():
        conn.execute(_named("forget_function", name=name))
    conn.execute(cast("Any", definition.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)))


def _named(query: str, **names: str | int) -> sql.Composed:
    parts = {
        name: sql.Literal(value) if isinstance(value, int) else sql.SQL(cast("Any", value))
        for name, value in names.items()
    }
    return sql.SQL(QUERIES[query]).format(**parts)

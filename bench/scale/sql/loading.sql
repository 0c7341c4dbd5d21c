-- name: remember
CREATE SCHEMA bench;
CREATE TABLE bench.corpus (facts jsonb NOT NULL)

-- name: remember_facts
INSERT INTO bench.corpus (facts) VALUES (%(facts)s)

-- name: facts
SELECT facts FROM bench.corpus

-- name: unrecord
DELETE FROM twinrail_migration WHERE name = %(name)s

-- name: forget_function
DROP ROUTINE IF EXISTS retrieval.{name}

-- name: number
SELECT number FROM retrieval.index_version WHERE id = %(version)s

-- name: copy_chunks
COPY retrieval.{partition} ({columns}) FROM STDIN (FORMAT binary)

-- name: empty
-- In the transaction of the COPY, so that with wal_level minimal no write-ahead log is written.
TRUNCATE retrieval.{partition}

-- name: add_tenants
INSERT INTO retrieval.tenant (name) SELECT unnest(%(tenants)s::text[])

-- name: add_principals
INSERT INTO retrieval.principal (tenant, name)
SELECT tenant, name FROM unnest(%(tenants)s::text[]) AS tenant, unnest(%(names)s::text[]) AS name
RETURNING tenant, name, id

-- name: marks
SELECT tenant, (retrieval.marked_words(tenant, ARRAY['']))[1] FROM unnest(%(tenants)s::text[]) AS tenant

-- name: copy_documents
COPY retrieval.document (tenant, id, source, file, acl) FROM STDIN

-- name: copy_document_versions
COPY retrieval.document_version (tenant, document_id, number, content_hash, title, body, blocks, url, language, metadata,
                                 acl) FROM STDIN

-- name: add_releases
INSERT INTO retrieval.document_release (tenant, document_id, document_version, born)
SELECT tenant, document_id, number, 1 FROM retrieval.document_version

-- name: copy_terms
COPY retrieval.term_stats (index_number, tenant, lexeme, df) FROM STDIN (FORMAT binary)

-- name: add_snapshots
INSERT INTO retrieval.snapshot (tenant, number, parent, source, added, changed, removed)
SELECT tenant, 1, 0, 'generated', count(*), 0, 0 FROM retrieval.document GROUP BY tenant

-- name: add_heads
INSERT INTO retrieval.snapshot_head (tenant, snapshot, previous, moved_seq)
SELECT tenant, 1, 0, nextval('retrieval.move_seq') FROM retrieval.snapshot

-- name: add_filter_fields
INSERT INTO retrieval.filter_field (tenant, name, kind)
SELECT DISTINCT ON (d.tenant, key) d.tenant, key, retrieval.filter_kind(value)
FROM retrieval.document_version d, jsonb_each(d.metadata || jsonb_build_object('language', d.language))
ORDER BY d.tenant, key

-- name: keep_vectors
INSERT INTO retrieval.embedding_cache (embedder, tenant, chunk_hash, embedding)
SELECT %(embedder)s, tenant, chunk_hash, embedding FROM retrieval.{partition}

-- name: add_chunk_stats
INSERT INTO retrieval.chunk_stats (index_number, tenant, chunks)
SELECT %(number)s, tenant, chunks FROM unnest(%(tenants)s::text[], %(counts)s::int[]) AS t (tenant, chunks)

-- name: move_sequence
SELECT setval(pg_get_serial_sequence('retrieval.chunk', 'id'), %(last)s)

-- name: analyze
VACUUM (ANALYZE) retrieval.chunk, retrieval.document_version, retrieval.document, retrieval.document_release,
    retrieval.term_stats, retrieval.chunk_stats, retrieval.principal

-- name: checkpoint
CHECKPOINT

-- name: prewarm_extension
CREATE EXTENSION IF NOT EXISTS pg_prewarm

-- name: prewarm
-- Indexes first: where memory is short, rows are what can be read from the file cache.
SELECT pg_prewarm(i.indexrelid) FROM pg_index i WHERE i.indrelid = 'retrieval.{partition}'::regclass
UNION ALL SELECT pg_prewarm('retrieval.{partition}'::regclass)

-- name: sizes
SELECT relation, bytes FROM (
    SELECT 'rows' AS relation, pg_relation_size('retrieval.{partition}'::regclass) AS bytes
    UNION ALL SELECT 'toast', coalesce(pg_total_relation_size(nullif(reltoastrelid, 0)), 0)
    FROM pg_class WHERE oid = 'retrieval.{partition}'::regclass
    UNION ALL SELECT i.indexrelid::regclass::text, pg_relation_size(i.indexrelid)
    FROM pg_index i WHERE i.indrelid = 'retrieval.{partition}'::regclass
    UNION ALL SELECT name, pg_total_relation_size('retrieval.' || name)
    FROM unnest(ARRAY['term_stats', 'document', 'document_version', 'document_release', 'filter_value', 'embedding_cache']) AS name
) AS parts ORDER BY 1

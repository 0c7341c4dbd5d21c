-- name: lock
-- One publish at a time per tenant; searches and undo wait for nobody.
SELECT pg_advisory_xact_lock(hashtextextended('retrieval.publish:' || %(tenant)s, 0))

-- name: lock_versions_shared
-- Held by every publish while it writes: meanwhile no version comes or goes.
SELECT pg_advisory_xact_lock_shared(hashtextextended('retrieval.versions', 0))

-- name: lock_versions
SELECT pg_advisory_xact_lock(hashtextextended('retrieval.versions', 0))

-- name: allow_pauses
-- Where one transaction holds a whole ingest, the server waits while we cut and embed, and not for those who are gone.
SELECT set_config('idle_in_transaction_session_timeout', '10min', true)

-- name: add_tenant
INSERT INTO retrieval.tenant (name) VALUES (%(tenant)s) ON CONFLICT DO NOTHING

-- name: position
SELECT coalesce((SELECT snapshot FROM retrieval.snapshot_head WHERE tenant = %(tenant)s), 0) AS head,
       (SELECT previous FROM retrieval.snapshot_head WHERE tenant = %(tenant)s) AS previous,
       coalesce((SELECT max(number) FROM retrieval.snapshot WHERE tenant = %(tenant)s), 0) AS newest,
       (SELECT count(*) FROM retrieval.tombstone WHERE tenant = %(tenant)s) AS erasures

-- name: targets
-- Versions that a publish writes: every one that may take traffic, and those being built.
SELECT v.id, v.name, v.embedder, v.dims, v.chunker, v.lexer, v.fusion, v.dense_weight, v.avgdl, v.abstain_below,
       v.calibration, v.reranker, v.rerank_weight, v.rewriter, v.state, v.number
FROM retrieval.index_version v
WHERE v.state <> 'retired'
ORDER BY v.number

-- name: live_documents
SELECT d.id, d.source, d.file, v.content_hash,
       ARRAY(SELECT p.name FROM retrieval.principal p WHERE p.id = ANY (d.acl) ORDER BY p.name) AS principals
FROM retrieval.document d
LEFT JOIN retrieval.document_release r ON r.tenant = d.tenant AND r.document_id = d.id
    AND r.born <= %(head)s AND (r.died IS NULL OR r.died > %(head)s)
LEFT JOIN retrieval.document_version v
    ON v.tenant = r.tenant AND v.document_id = r.document_id AND v.number = r.document_version
WHERE d.tenant = %(tenant)s

-- name: live_documents_by_id
SELECT d.id, d.source, d.file, v.content_hash,
       ARRAY(SELECT p.name FROM retrieval.principal p WHERE p.id = ANY (d.acl) ORDER BY p.name) AS principals
FROM retrieval.document d
LEFT JOIN retrieval.document_release r ON r.tenant = d.tenant AND r.document_id = d.id
    AND r.born <= %(head)s AND (r.died IS NULL OR r.died > %(head)s)
LEFT JOIN retrieval.document_version v
    ON v.tenant = r.tenant AND v.document_id = r.document_id AND v.number = r.document_version
WHERE d.tenant = %(tenant)s AND d.id = ANY (%(ids)s)

-- name: cached
SELECT chunk_hash FROM retrieval.embedding_cache
WHERE embedder = %(embedder)s AND tenant = %(tenant)s AND chunk_hash = ANY (%(hashes)s)

-- name: lock_shared
-- Of those who add what a publish will need; an erasure waits for them, and they for it.
SELECT pg_advisory_xact_lock_shared(hashtextextended('retrieval.publish:' || %(tenant)s, 0))

-- name: add_to_cache
-- All vectors one after the other in `values`.
INSERT INTO retrieval.embedding_cache (embedder, tenant, chunk_hash, embedding)
SELECT %(embedder)s, %(tenant)s, chunk_hash,
       (%(values)s::real[])[(place - 1) * %(dims)s::int + 1 : place * %(dims)s::int]::halfvec
FROM unnest(%(hashes)s::text[]) WITH ORDINALITY AS h (chunk_hash, place)
ON CONFLICT DO NOTHING

-- name: add_principals
INSERT INTO retrieval.principal (tenant, name)
SELECT %(tenant)s, name FROM unnest(%(names)s::text[]) AS name
ON CONFLICT (tenant, name) DO NOTHING

-- name: stage
CREATE TEMP TABLE staged_document (
    id text PRIMARY KEY, content_hash text, title text, body text, blocks jsonb, url text, language text,
    effective_from date, effective_to date, metadata jsonb, principals text[], file text, number int, acl int[]
) ON COMMIT DROP;
CREATE TEMP TABLE staged_chunk (
    index_number int, embedder text, document_id text, document_version int, born int, ordinal int,
    char_start int, char_end int, heading_path text[], body text, chunk_hash text, tsv tsvector, bm sparsevec
) ON COMMIT DROP;
CREATE TEMP TABLE staged_term (index_number int, lexeme text, chunks int) ON COMMIT DROP;
CREATE TEMP TABLE staged_removal (id text PRIMARY KEY) ON COMMIT DROP;
CREATE TEMP TABLE staged_access (id text PRIMARY KEY, principals text[]) ON COMMIT DROP;
CREATE TEMP TABLE moved_chunk (index_number int, lexemes text[], alive int, dead int) ON COMMIT DROP

-- name: copy_documents
COPY staged_document (id, content_hash, title, body, blocks, url, language, effective_from, effective_to, metadata,
                      principals, file) FROM STDIN

-- name: copy_chunks
COPY staged_chunk (index_number, embedder, document_id, document_version, born, ordinal, char_start, char_end,
                   heading_path, body, chunk_hash, tsv, bm) FROM STDIN (FORMAT binary)

-- name: copy_terms
COPY staged_term (index_number, lexeme, chunks) FROM STDIN (FORMAT binary)

-- name: index_staged
-- Of a tenant that is new the planner expects no documents, and so compares each of them with all that is staged.
CREATE INDEX ON staged_chunk (document_id)

-- name: analyze_staged
-- By what they are joined; the words and the texts would take the longest, and say nothing.
-- Also what is empty: of a table that nobody has looked at the planner expects a thousand rows.
ANALYZE staged_document (id, number, content_hash), staged_chunk (index_number, embedder, document_id, born, chunk_hash),
        staged_removal (id), staged_access (id)

-- name: stage_removals
INSERT INTO staged_removal SELECT unnest(%(ids)s::text[])

-- name: stage_access
INSERT INTO staged_access (id, principals) VALUES (%(id)s, %(principals)s::text[])

-- name: rename_files
UPDATE retrieval.document d SET file = r.file FROM unnest(%(ids)s::text[], %(files)s::text[]) AS r (id, file)
WHERE d.tenant = %(tenant)s AND d.id = r.id

-- name: retire_chunks
-- What is replaced or removed now goes, by document: a publish reads what it changes, and not the tenant's every chunk.
WITH retired AS (
    UPDATE retrieval.chunk c SET died = %(new)s
    WHERE c.tenant = %(tenant)s AND c.died IS NULL
      AND c.document_id IN (SELECT id FROM staged_document UNION ALL SELECT id FROM staged_removal)
    RETURNING c.index_number, tsvector_to_array(c.tsv) AS lexemes
)
INSERT INTO moved_chunk SELECT index_number, lexemes, -1, 1 FROM retired

-- name: retire_releases
UPDATE retrieval.document_release r SET died = %(new)s
WHERE r.tenant = %(tenant)s AND r.died IS NULL
  AND r.document_id IN (SELECT id FROM staged_document UNION ALL SELECT id FROM staged_removal)

-- name: retire_undone_chunks
-- What an undone publish had added goes. Chunks are born and die with their release, which is found in fewer rows.
WITH retired AS (
    UPDATE retrieval.chunk c SET died = %(new)s
    WHERE c.tenant = %(tenant)s AND c.died IS NULL AND c.born > %(head)s
      AND c.document_id IN (SELECT r.document_id FROM retrieval.document_release r
                            WHERE r.tenant = %(tenant)s AND r.died IS NULL AND r.born > %(head)s)
    RETURNING c.index_number, tsvector_to_array(c.tsv) AS lexemes
)
INSERT INTO moved_chunk SELECT index_number, lexemes, -1, 1 FROM retired

-- name: retire_undone_releases
UPDATE retrieval.document_release r SET died = %(new)s
WHERE r.tenant = %(tenant)s AND r.died IS NULL AND r.born > %(head)s

-- name: restore_chunks
-- What an undone publish had taken away comes back, unless it is replaced or removed now.
WITH restored AS (
    INSERT INTO retrieval.chunk (index_number, tenant, document_id, document_version, ordinal, char_start, char_end,
        heading_path, body, chunk_hash, acl, born, effective_from, effective_to, embedding, tsv, bm, metadata)
    SELECT index_number, tenant, document_id, document_version, ordinal, char_start, char_end, heading_path, body,
           chunk_hash, acl, %(new)s, effective_from, effective_to, embedding, tsv, bm, metadata
    FROM retrieval.chunk c
    WHERE c.tenant = %(tenant)s AND c.born <= %(head)s AND c.died > %(head)s AND c.died < %(new)s
      AND c.document_id IN (SELECT r.document_id FROM retrieval.document_release r
                            WHERE r.tenant = %(tenant)s AND r.born <= %(head)s AND r.died > %(head)s AND r.died < %(new)s)
      AND c.document_id NOT IN (SELECT id FROM staged_document UNION ALL SELECT id FROM staged_removal)
    RETURNING index_number, tsvector_to_array(tsv) AS lexemes
)
INSERT INTO moved_chunk SELECT index_number, lexemes, 1, 0 FROM restored

-- name: restore_releases
INSERT INTO retrieval.document_release (tenant, document_id, document_version, born)
SELECT tenant, document_id, document_version, %(new)s FROM retrieval.document_release r
WHERE r.tenant = %(tenant)s AND r.born <= %(head)s AND r.died > %(head)s AND r.died < %(new)s
  AND r.document_id NOT IN (SELECT id FROM staged_document UNION ALL SELECT id FROM staged_removal)

-- name: number_documents
-- Content seen before keeps its number: version n of a document is one text for ever.
UPDATE staged_document s SET
    acl = ARRAY(SELECT p.id FROM retrieval.principal p WHERE p.tenant = %(tenant)s AND p.name = ANY (s.principals)
                ORDER BY p.id),
    number = coalesce(
        (SELECT v.number FROM retrieval.document_version v
         WHERE v.tenant = %(tenant)s AND v.document_id = s.id AND v.content_hash = s.content_hash),
        (SELECT max(v.number) + 1 FROM retrieval.document_version v
         WHERE v.tenant = %(tenant)s AND v.document_id = s.id),
        -- Numbers of an erased document are not given again: what cited them must not mean another text.
        (SELECT max(t.last_version) + 1 FROM retrieval.tombstone t
         WHERE t.tenant = %(tenant)s AND t.document = retrieval.digest(%(tenant)s, s.id)), 1)

-- name: add_documents
INSERT INTO retrieval.document (tenant, id, source, file, acl)
SELECT %(tenant)s, id, %(source)s, file, acl FROM staged_document
ON CONFLICT (tenant, id) DO UPDATE SET source = excluded.source, file = excluded.file, acl = excluded.acl

-- name: add_document_versions
INSERT INTO retrieval.document_version (tenant, document_id, number, content_hash, title, body, blocks, url, language,
                                        effective_from, effective_to, metadata, acl)
SELECT %(tenant)s, id, number, content_hash, title, body, blocks, url, language, effective_from, effective_to,
       metadata, acl
FROM staged_document
ON CONFLICT (tenant, document_id, content_hash) DO NOTHING

-- name: add_releases
INSERT INTO retrieval.document_release (tenant, document_id, document_version, born)
SELECT %(tenant)s, id, number, %(new)s FROM staged_document

-- name: lost_vectors
-- Chunks of releases that still exist whose vectors an erasure, or the end of a version, has taken since.
SELECT EXISTS (
    SELECT FROM staged_chunk s
    JOIN retrieval.document_release r ON r.tenant = %(tenant)s AND r.document_id = s.document_id
        AND r.document_version = s.document_version AND r.born = s.born
    WHERE NOT EXISTS (SELECT FROM retrieval.embedding_cache e
                      WHERE e.embedder = s.embedder AND e.tenant = %(tenant)s AND e.chunk_hash = s.chunk_hash))

-- name: drop_filled
-- Releases that are gone, and those that the version has got chunks of meanwhile.
DELETE FROM staged_chunk s
WHERE NOT EXISTS (SELECT FROM retrieval.document_release r
                  WHERE r.tenant = %(tenant)s AND r.document_id = s.document_id
                    AND r.document_version = s.document_version AND r.born = s.born)
   OR EXISTS (SELECT FROM retrieval.chunk c
              WHERE c.index_number = s.index_number AND c.tenant = %(tenant)s AND c.document_id = s.document_id
                AND c.document_version = s.document_version AND c.born = s.born)

-- name: add_chunks
-- Of new documents (their releases were made just now) or, where `born` is given, of releases that there were.
INSERT INTO retrieval.chunk (index_number, tenant, document_id, document_version, ordinal, char_start, char_end,
    heading_path, body, chunk_hash, acl, born, died, effective_from, effective_to, embedding, tsv, bm, metadata)
SELECT s.index_number, %(tenant)s, s.document_id, v.number, s.ordinal, s.char_start, s.char_end, s.heading_path,
       s.body, s.chunk_hash, d.acl, r.born, r.died, v.effective_from, v.effective_to, e.embedding, s.tsv, s.bm,
       v.metadata || jsonb_build_object('language', v.language)
FROM staged_chunk s
LEFT JOIN staged_document sd ON sd.id = s.document_id
JOIN retrieval.document d ON d.tenant = %(tenant)s AND d.id = s.document_id
JOIN retrieval.document_version v ON v.tenant = %(tenant)s AND v.document_id = s.document_id
    AND v.number = coalesce(s.document_version, sd.number)
JOIN retrieval.document_release r ON r.tenant = %(tenant)s AND r.document_id = s.document_id
    AND r.document_version = v.number AND r.born = coalesce(s.born, %(new)s)
JOIN retrieval.embedding_cache e
    ON e.embedder = s.embedder AND e.tenant = %(tenant)s AND e.chunk_hash = s.chunk_hash

-- name: move_added
-- Their words are counted in `staged_term`.
INSERT INTO moved_chunk SELECT index_number, '{}', 1, 0 FROM staged_chunk

-- name: move_filled
INSERT INTO moved_chunk
SELECT s.index_number, tsvector_to_array(s.tsv), (r.died IS NULL)::int, (r.died IS NOT NULL)::int
FROM staged_chunk s
JOIN retrieval.document_release r ON r.tenant = %(tenant)s AND r.document_id = s.document_id
    AND r.document_version = s.document_version AND r.born = s.born

-- name: count_terms
INSERT INTO retrieval.term_stats AS t (index_number, tenant, lexeme, df, dead)
SELECT index_number, %(tenant)s, lexeme, sum(alive), sum(dead)
FROM (SELECT index_number, lexeme, chunks AS alive, 0 AS dead FROM staged_term
      UNION ALL
      SELECT m.index_number, retrieval.unmarked_word(word), m.alive, m.dead
      FROM moved_chunk m, unnest(m.lexemes) AS word) AS moved
GROUP BY 1, 3 HAVING sum(alive) <> 0 OR sum(dead) <> 0
ORDER BY 1, 3
ON CONFLICT (index_number, tenant, lexeme) DO UPDATE SET df = t.df + excluded.df, dead = t.dead + excluded.dead

-- name: count_chunks
INSERT INTO retrieval.chunk_stats AS t (index_number, tenant, chunks, dead)
SELECT m.index_number, %(tenant)s, sum(m.alive), sum(m.dead) FROM moved_chunk m GROUP BY 1
ON CONFLICT (index_number, tenant) DO UPDATE SET chunks = t.chunks + excluded.chunks, dead = t.dead + excluded.dead

-- name: add_filter_fields
-- A field is what its first value is, until somebody declares it to be something else.
INSERT INTO retrieval.filter_field (tenant, name, kind)
SELECT DISTINCT ON (key) %(tenant)s, key, retrieval.filter_kind(value)
FROM (SELECT id, key, value FROM staged_document, jsonb_each(metadata)
      UNION ALL SELECT '', 'language', '""') AS seen
WHERE retrieval.filter_kind(value) IS NOT NULL AND length(key) <= 200
ORDER BY key, id
ON CONFLICT DO NOTHING

-- name: change_access
-- Permissions are not versioned: every row of the document, at every snapshot, follows in this transaction.
WITH wanted AS (
    SELECT s.id, ARRAY(SELECT p.id FROM retrieval.principal p
                       WHERE p.tenant = %(tenant)s AND p.name = ANY (s.principals) ORDER BY p.id) AS acl
    FROM (SELECT id, principals FROM staged_access UNION ALL SELECT id, principals FROM staged_document) AS s
), chunks AS (
    UPDATE retrieval.chunk c SET acl = w.acl FROM wanted w
    WHERE c.tenant = %(tenant)s AND c.document_id = w.id AND c.acl <> w.acl
), versions AS (
    UPDATE retrieval.document_version v SET acl = w.acl FROM wanted w
    WHERE v.tenant = %(tenant)s AND v.document_id = w.id AND v.acl <> w.acl
)
UPDATE retrieval.document d SET acl = w.acl FROM wanted w
WHERE d.tenant = %(tenant)s AND d.id = w.id AND d.acl <> w.acl

-- name: add_snapshot
INSERT INTO retrieval.snapshot (tenant, number, parent, source, added, changed, removed)
VALUES (%(tenant)s, %(new)s, %(head)s, %(source)s, %(added)s, %(changed)s, %(removed)s)

-- name: move_head
-- The condition fails if somebody undid meanwhile; then this publish is rolled back.
INSERT INTO retrieval.snapshot_head AS h (tenant, snapshot, previous, moved_seq)
VALUES (%(tenant)s, %(new)s, 0, nextval('retrieval.move_seq'))
ON CONFLICT (tenant) DO UPDATE SET snapshot = %(new)s, previous = h.snapshot, moved_seq = nextval('retrieval.move_seq')
WHERE h.snapshot = %(head)s
RETURNING snapshot

-- name: analyzed_chunks
-- How many there were when the statistics were made; -1: never.
SELECT reltuples::bigint FROM pg_class WHERE oid = 'retrieval.chunk'::regclass

-- name: analyze_chunks
-- Right after a large publish the planner would otherwise guess. Not where a build makes its indexes: they wait for each
-- other, and the build looks again at its end.
ANALYZE (SKIP_LOCKED) retrieval.chunk

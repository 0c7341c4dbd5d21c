-- name: holdings
-- What there is to erase: texts, also those that were only sent, and chunks over all index versions.
SELECT (SELECT count(*) FROM retrieval.document_version WHERE tenant = %(tenant)s AND document_id = %(document)s)
       + (SELECT count(content) FROM retrieval.job_document WHERE tenant = %(tenant)s AND document_id = %(document)s),
       (SELECT count(*) FROM retrieval.chunk WHERE tenant = %(tenant)s AND document_id = %(document)s)

-- name: last_tombstone
SELECT encode(document, 'hex'), purged_at FROM retrieval.tombstone
WHERE tenant = %(tenant)s AND document = retrieval.digest(%(tenant)s, %(document)s)
ORDER BY last_version DESC LIMIT 1

-- name: add_tombstone
INSERT INTO retrieval.tombstone (tenant, document, last_version, texts, purged_by)
SELECT %(tenant)s, retrieval.digest(%(tenant)s, %(document)s), coalesce(max(number), 0),
       coalesce(array_agg(DISTINCT retrieval.digest(%(tenant)s, body)), '{}'), %(by)s
FROM retrieval.document_version WHERE tenant = %(tenant)s AND document_id = %(document)s
-- Sent again and erased again before it was published.
ON CONFLICT DO NOTHING

-- name: erase_chunks
-- Words are counted apart where they live at the newest snapshot and where they do not, and taken away likewise.
WITH gone AS (
    DELETE FROM retrieval.chunk WHERE tenant = %(tenant)s AND document_id = %(document)s
    RETURNING index_number, (died IS NULL)::int AS alive, (died IS NOT NULL)::int AS dead, tsvector_to_array(tsv) AS lexemes
), fewer AS (
    SELECT index_number, retrieval.unmarked_word(word) AS lexeme, sum(alive) AS df, sum(dead) AS dead
    FROM gone, unnest(lexemes) AS word GROUP BY 1, 2
), terms AS (
    UPDATE retrieval.term_stats t SET df = t.df - fewer.df, dead = t.dead - fewer.dead FROM fewer
    WHERE t.tenant = %(tenant)s AND t.index_number = fewer.index_number AND t.lexeme = fewer.lexeme
), chunks AS (
    UPDATE retrieval.chunk_stats t SET chunks = t.chunks - less.chunks, dead = t.dead - less.dead
    FROM (SELECT index_number, sum(alive) AS chunks, sum(dead) AS dead FROM gone GROUP BY 1) AS less
    WHERE t.tenant = %(tenant)s AND t.index_number = less.index_number
)
SELECT count(*) FROM gone

-- name: erase_words
-- A word that is in no chunk any more may have been this document's only.
DELETE FROM retrieval.term_stats WHERE tenant = %(tenant)s AND df <= 0 AND dead <= 0

-- name: erase_vectors
-- Every vector that belongs to no chunk: those of this document that no other one shares, and those that a run which
-- was killed had kept of it. A run that is embedding now has to embed again.
DELETE FROM retrieval.embedding_cache e
WHERE e.tenant = %(tenant)s
  AND NOT EXISTS (SELECT FROM retrieval.chunk c WHERE c.tenant = e.tenant AND c.chunk_hash = e.chunk_hash)

-- name: erase_versions
DELETE FROM retrieval.document_version WHERE tenant = %(tenant)s AND document_id = %(document)s

-- name: erase_releases
DELETE FROM retrieval.document_release WHERE tenant = %(tenant)s AND document_id = %(document)s

-- name: erase_document
DELETE FROM retrieval.document WHERE tenant = %(tenant)s AND id = %(document)s

-- name: erase_sent
-- As it was sent to be ingested, with jobs that are waiting, and with those that failed.
DELETE FROM retrieval.job_document WHERE tenant = %(tenant)s AND document_id = %(document)s

-- name: analyze
-- The planner's statistics hold samples of what was there. Those of a partition whose indexes a build makes meanwhile are
-- renewed at its end; here they would wait for each other.
ANALYZE (SKIP_LOCKED) retrieval.document, retrieval.document_version, retrieval.chunk, retrieval.term_stats

-- name: tombstones
SELECT t.document, t.texts, t.purged_at, s.salt
FROM retrieval.tombstone t JOIN retrieval.tenant s ON s.name = t.tenant
WHERE t.tenant = %(tenant)s ORDER BY t.purged_at

-- name: missing_indexes
-- What a version's partition still needs. An index whose making was interrupted is there and not valid: it goes first.
SELECT i.name, c.oid IS NOT NULL AS broken, concat_ws(' ', 'CREATE INDEX CONCURRENTLY', i.name, i.definition) AS statement
FROM retrieval.index_version v, retrieval.partition_indexes(v.number) AS i
LEFT JOIN pg_class c ON c.relname = i.name AND c.relnamespace = 'retrieval'::regnamespace
LEFT JOIN pg_index x ON x.indexrelid = c.oid
WHERE v.id = %(version)s AND NOT coalesce(x.indisvalid, false)
ORDER BY i.name

-- name: resources
-- For the session: an index cannot be made concurrently inside a transaction.
SELECT set_config('maintenance_work_mem', %(memory)s, false),
       set_config('max_parallel_maintenance_workers', %(workers)s, false)

-- name: drop_index
DROP INDEX CONCURRENTLY IF EXISTS retrieval.{index}

-- name: reset_resources
SELECT set_config(name, reset_val, false) FROM pg_settings
WHERE name IN ('maintenance_work_mem', 'max_parallel_maintenance_workers')

-- name: partition_of
SELECT 'chunk_' || number FROM retrieval.index_version WHERE id = %(version)s

-- name: analyze
ANALYZE retrieval.{partition}

-- name: begin_sweep
-- One sweep at a time.
SELECT pg_advisory_lock(hashtextextended('retrieval.sweep', 0))

-- name: end_sweep
SELECT pg_advisory_unlock(hashtextextended('retrieval.sweep', 0))

-- name: orphans
-- Partitions of no version that is in use, also those that a sweep which was killed had detached, or begun to.
SELECT c.relname, i.inhrelid IS NOT NULL AS attached, coalesce(i.inhdetachpending, false) AS pending
FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
WHERE c.relnamespace = 'retrieval'::regnamespace AND c.relkind = 'r' AND c.relname ~ '^chunk_[0-9]+$'
  AND c.relname NOT IN (SELECT 'chunk_' || number FROM retrieval.index_version WHERE state <> 'retired')
ORDER BY pending DESC, c.relname

-- name: detach
-- Concurrently, since the plain form waits for all searches and makes new ones wait for it.
ALTER TABLE retrieval.chunk DETACH PARTITION retrieval.{partition} CONCURRENTLY

-- name: finish_detaching
ALTER TABLE retrieval.chunk DETACH PARTITION retrieval.{partition} FINALIZE

-- name: drop_partition
DROP TABLE IF EXISTS retrieval.{partition}

-- name: tenants
SELECT name FROM retrieval.tenant ORDER BY name

-- name: unused_numbers
-- Counts that a tenant has of versions that are no more.
SELECT coalesce(array_agg(index_number), '{}') FROM (
    SELECT index_number FROM retrieval.chunk_stats UNION SELECT index_number FROM retrieval.index_coverage
    UNION SELECT index_number FROM retrieval.calibration
) AS counted
WHERE index_number NOT IN (SELECT number FROM retrieval.index_version WHERE state <> 'retired')

-- name: forget_terms
DELETE FROM retrieval.term_stats WHERE index_number = ANY (%(numbers)s) AND tenant = %(tenant)s

-- name: forget_calibration
DELETE FROM retrieval.calibration WHERE index_number = ANY (%(numbers)s) AND tenant = %(tenant)s

-- name: forget_coverage
DELETE FROM retrieval.index_coverage WHERE index_number = ANY (%(numbers)s) AND tenant = %(tenant)s

-- name: forget_chunks
-- Last of these: by its rows an interrupted sweep knows what is left.
DELETE FROM retrieval.chunk_stats WHERE index_number = ANY (%(numbers)s) AND tenant = %(tenant)s

-- name: forget_vectors
DELETE FROM retrieval.embedding_cache
WHERE tenant = %(tenant)s
  AND embedder IN (SELECT embedder FROM retrieval.index_version WHERE state = 'retired'
                   EXCEPT SELECT embedder FROM retrieval.index_version WHERE state <> 'retired')

-- name: try_lock
-- One build of a version at a time, for as long as this connection lives: a killed one leaves nothing behind.
SELECT pg_try_advisory_lock(hashtextextended('retrieval.build:' || %(version)s, 0))

-- name: unlock
SELECT pg_advisory_unlock(hashtextextended('retrieval.build:' || %(version)s, 0))

-- name: earliest
-- From which snapshot on the tenant's content goes in: what can be reached, or earlier if so wanted or done before. A
-- version that no build has said anything of holds all from the first snapshot on, unless it lacks some of it: it is the
-- rail's first, or the tenant began after it.
SELECT least(retrieval.reachable_from(%(tenant)s), %(since)s::int, coalesce(
    (SELECT earliest FROM retrieval.index_coverage WHERE index_number = %(index_number)s AND tenant = %(tenant)s),
    CASE WHEN NOT retrieval.lacks_release(%(index_number)s, %(tenant)s, 0) THEN 0 END))

-- name: count_unfilled
SELECT count(*) FROM retrieval.document_release r
WHERE r.tenant = %(tenant)s AND (r.died IS NULL OR r.died > %(earliest)s)
  AND NOT EXISTS (SELECT FROM retrieval.chunk c WHERE c.index_number = %(index_number)s AND c.tenant = r.tenant
                  AND c.document_id = r.document_id AND c.document_version = r.document_version AND c.born = r.born)

-- name: unfilled
-- The next releases without chunks, as many as fit the budget of bytes, and one at least.
WITH next AS (
    SELECT r.document_id, r.document_version, r.born, v.title, v.blocks,
           sum(octet_length(v.body)) OVER (ORDER BY r.document_id, r.born) - octet_length(v.body) AS bytes_before
    FROM retrieval.document_release r
    JOIN retrieval.document_version v
        ON v.tenant = r.tenant AND v.document_id = r.document_id AND v.number = r.document_version
    WHERE r.tenant = %(tenant)s AND (r.died IS NULL OR r.died > %(earliest)s)
      AND (r.document_id, r.born) > (%(after_id)s, %(after_born)s)
      AND NOT EXISTS (SELECT FROM retrieval.chunk c WHERE c.index_number = %(index_number)s AND c.tenant = r.tenant
                      AND c.document_id = r.document_id AND c.document_version = r.document_version AND c.born = r.born)
    ORDER BY r.document_id, r.born LIMIT %(limit)s
)
SELECT n.document_id, n.document_version, n.born, n.title, v.body, n.blocks
FROM next n
JOIN retrieval.document_version v
    ON v.tenant = %(tenant)s AND v.document_id = n.document_id AND v.number = n.document_version
WHERE n.bytes_before < %(budget)s
ORDER BY n.document_id, n.born

-- name: cover
INSERT INTO retrieval.index_coverage (index_number, tenant, earliest)
VALUES (%(index_number)s, %(tenant)s, %(earliest)s)
ON CONFLICT (index_number, tenant) DO UPDATE SET earliest = excluded.earliest

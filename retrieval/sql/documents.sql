-- name: enter_with_principals
SELECT set_config('retrieval.principals',
                  retrieval.principal_ids(%(tenant)s, %(principals)s::text[]), true)

-- name: source
SELECT d.source
FROM retrieval.document d
JOIN retrieval.snapshot_head h ON h.tenant = d.tenant
JOIN retrieval.document_release r ON r.tenant = d.tenant AND r.document_id = d.id
    AND r.born <= h.snapshot AND (r.died IS NULL OR r.died > h.snapshot)
WHERE d.tenant = %(tenant)s AND d.id = %(id)s

-- name: documents
-- In the order asked; an id that is asked twice is there once.
SELECT d.id, d.source, v.number AS version, r.born AS snapshot, v.title, v.body AS text, v.url, v.language,
       v.effective_from, v.effective_to, v.metadata, v.created_at,
       ARRAY(SELECT p.name FROM retrieval.principal p WHERE p.id = ANY (d.acl) ORDER BY p.name) AS principals
FROM retrieval.document d
JOIN retrieval.snapshot_head h ON h.tenant = d.tenant
JOIN retrieval.document_release r ON r.tenant = d.tenant AND r.document_id = d.id
    AND r.born <= h.snapshot AND (r.died IS NULL OR r.died > h.snapshot)
JOIN retrieval.document_version v
    ON v.tenant = r.tenant AND v.document_id = r.document_id AND v.number = r.document_version
WHERE d.tenant = %(tenant)s AND d.id = ANY (%(ids)s::text[])
ORDER BY array_position(%(ids)s::text[], d.id)

-- name: history
-- Every version that these eyes may see, oldest first, with the snapshots that showed it.
SELECT v.number AS version, v.title, v.body AS text, v.effective_from, v.effective_to,
       array_agg(r.born ORDER BY r.born) FILTER (WHERE r.born IS NOT NULL) AS born,
       array_agg(r.died ORDER BY r.born) FILTER (WHERE r.born IS NOT NULL) AS died,
       (SELECT h.snapshot FROM retrieval.snapshot_head h WHERE h.tenant = %(tenant)s) AS head
FROM retrieval.document_version v
LEFT JOIN retrieval.document_release r
    ON r.tenant = v.tenant AND r.document_id = v.document_id AND r.document_version = v.number
WHERE v.tenant = %(tenant)s AND v.document_id = %(id)s
GROUP BY v.number, v.title, v.body, v.effective_from, v.effective_to
ORDER BY v.number

-- name: listing
-- Live documents that these eyes may see, by id, behind the one that was listed last.
SELECT d.id, v.title, v.effective_from, v.effective_to
FROM retrieval.document d
JOIN retrieval.snapshot_head h ON h.tenant = d.tenant
JOIN retrieval.document_release r ON r.tenant = d.tenant AND r.document_id = d.id
    AND r.born <= h.snapshot AND (r.died IS NULL OR r.died > h.snapshot)
JOIN retrieval.document_version v
    ON v.tenant = r.tenant AND v.document_id = r.document_id AND v.number = r.document_version
WHERE d.tenant = %(tenant)s AND d.id > %(after)s
ORDER BY d.id
LIMIT %(limit)s

-- name: contents
SELECT v.document_id, v.number, v.body, v.metadata
FROM unnest(%(ids)s::text[], %(numbers)s::int[]) AS asked (document_id, number)
JOIN retrieval.document_version v
    ON v.tenant = %(tenant)s AND v.document_id = asked.document_id AND v.number = asked.number

-- name: embeddings
SELECT c.id, c.embedding::real[]
FROM retrieval.chunk c
WHERE c.index_number = (SELECT number FROM retrieval.index_version WHERE id = %(version)s)
  AND c.tenant = %(tenant)s AND c.id = ANY (%(chunks)s::bigint[])

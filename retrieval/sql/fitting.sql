-- name: enter
SELECT set_config('retrieval.tenant', %(tenant)s, true)

-- name: see_all
-- After `enter`: a fit looks at all of the tenant's texts.
SELECT set_config('retrieval.principals',
                  (SELECT coalesce(array_agg(id), '{}')::text FROM retrieval.principal), true)

-- name: see_as
-- After `enter`: only what these principals may read.
SELECT set_config('retrieval.principals',
                  (SELECT coalesce(array_agg(id), '{}')::text FROM retrieval.principal
                   WHERE name = ANY (%(principals)s::text[])), true)

-- name: unreadable
-- Which of the documents are not live, or not to be read with the eyes of `see_as`.
SELECT coalesce(array_agg(wanted.id), '{}') FROM unnest(%(documents)s::text[]) AS wanted (id)
WHERE NOT EXISTS (
    SELECT 1 FROM retrieval.document d
    JOIN retrieval.document_release r ON r.tenant = d.tenant AND r.document_id = d.id
    JOIN retrieval.snapshot_head h ON h.tenant = d.tenant
    WHERE d.tenant = %(tenant)s AND d.id = wanted.id
      AND r.born <= h.snapshot AND (r.died IS NULL OR r.died > h.snapshot))

-- name: sample_texts
-- Live chunks in an order that does not change while they do not.
SELECT coalesce(jsonb_agg(row_to_json(sample)), '[]') FROM (
    SELECT c.document_id, d.title, c.heading_path, c.body AS text
    FROM retrieval.index_version v
    JOIN retrieval.chunk c ON c.index_number = v.number
    JOIN retrieval.snapshot_head h ON h.tenant = c.tenant
    JOIN retrieval.document_version d
        ON d.tenant = c.tenant AND d.document_id = c.document_id AND d.number = c.document_version
    WHERE v.id = %(version)s AND c.born <= h.snapshot AND (c.died IS NULL OR c.died > h.snapshot)
    ORDER BY md5(c.chunk_hash), c.id LIMIT %(limit)s) AS sample

-- name: calibration
SELECT c.definition, c.abstain_below, c.evidence, c.created_at
FROM retrieval.calibration c JOIN retrieval.index_version v ON v.number = c.index_number
WHERE v.id = %(version)s AND c.tenant = %(tenant)s

-- name: save_calibration
INSERT INTO retrieval.calibration (index_number, tenant, definition, abstain_below, evidence)
SELECT number, %(tenant)s, %(definition)s::jsonb, %(abstain_below)s, %(evidence)s::jsonb
FROM retrieval.index_version WHERE id = %(version)s
ON CONFLICT (index_number, tenant) DO UPDATE
SET definition = excluded.definition, abstain_below = excluded.abstain_below, evidence = excluded.evidence,
    created_at = now()
RETURNING index_number

-- name: drop_calibration
DELETE FROM retrieval.calibration c USING retrieval.index_version v
WHERE v.number = c.index_number AND v.id = %(version)s AND c.tenant = %(tenant)s

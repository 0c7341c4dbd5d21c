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

-- name: document
SELECT d.id, d.source, v.number AS version, r.born AS snapshot, v.title, v.body AS text, v.url, v.language,
       v.effective_from, v.effective_to, v.metadata, v.created_at,
       ARRAY(SELECT p.name FROM retrieval.principal p WHERE p.id = ANY (d.acl) ORDER BY p.name) AS principals
FROM retrieval.document d
JOIN retrieval.snapshot_head h ON h.tenant = d.tenant
JOIN retrieval.document_release r ON r.tenant = d.tenant AND r.document_id = d.id
    AND r.born <= h.snapshot AND (r.died IS NULL OR r.died > h.snapshot)
JOIN retrieval.document_version v
    ON v.tenant = r.tenant AND v.document_id = r.document_id AND v.number = r.document_version
WHERE d.tenant = %(tenant)s AND d.id = %(id)s

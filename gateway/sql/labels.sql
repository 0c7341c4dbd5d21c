-- name: newest_label
SELECT source, label, sub, rule, contributing, checks, criteria, cluster, reviewer, note, created_at
FROM gateway.turn_label WHERE turn_id = %(turn_id)s AND source = %(source)s ORDER BY id DESC LIMIT 1;

-- name: insert_label
INSERT INTO gateway.turn_label
    (turn_id, tenant, source, label, sub, rule, contributing, checks, criteria, cluster, reviewer, note)
VALUES (%(turn_id)s, %(tenant)s, %(source)s, %(label)s, %(sub)s, %(rule)s, %(contributing)s::jsonb, %(checks)s::jsonb,
    %(criteria)s, %(cluster)s, %(reviewer)s, %(note)s)
RETURNING source, label, sub, rule, contributing, checks, criteria, cluster, reviewer, note, created_at;

-- name: labels_of_turn: the newest of each source; a closed review says what its readers said
SELECT DISTINCT ON (source) source, label, sub, rule, contributing, checks, criteria, cluster, reviewer, note, created_at
FROM (
    SELECT source, label, sub, rule, contributing, checks, criteria, cluster, reviewer, note, created_at
    FROM gateway.turn_label WHERE turn_id = %(turn_id)s
    UNION ALL
    SELECT 'human', label, sub, '', '[]', '[]', '', '', closed_by, note, closed_at
    FROM gateway.review WHERE turn_id = %(turn_id)s AND state = 'closed'
) said ORDER BY source, created_at DESC;

-- name: upsert_scores: gives those that are new or say something else
INSERT INTO gateway.turn_score AS s (turn_id, name, tenant, value, detail, version)
SELECT %(turn_id)s, name, %(tenant)s, value, detail, version
FROM jsonb_to_recordset(%(scores)s::jsonb) AS given(name text, value double precision, detail text, version text)
ON CONFLICT (turn_id, name) DO UPDATE SET
    value = EXCLUDED.value, detail = EXCLUDED.detail, version = EXCLUDED.version, updated_at = now()
    WHERE (s.value, s.detail, s.version) IS DISTINCT FROM (EXCLUDED.value, EXCLUDED.detail, EXCLUDED.version)
RETURNING name, value, version;

-- name: scores_of_turn
SELECT name, value, detail, version, updated_at FROM gateway.turn_score WHERE turn_id = %(turn_id)s ORDER BY name;

-- name: open_review: once more for the same reason changes nothing
INSERT INTO gateway.review AS r (turn_id, tenant, reasons, ticket)
VALUES (%(turn_id)s, %(tenant)s, ARRAY[%(reason)s]::text[], %(reason)s)
ON CONFLICT (turn_id) DO UPDATE SET reasons = r.reasons || EXCLUDED.reasons WHERE NOT r.reasons @> EXCLUDED.reasons;

-- name: reopen_review: only a closed one
UPDATE gateway.review
SET state = 'open', ending = NULL, label = NULL, sub = NULL, note = NULL, corrected_answer = NULL, closed_by = NULL,
    closed_at = NULL, readers = 0, same_label = NULL, same_ending = NULL, reopened_at = now()
WHERE turn_id = %(turn_id)s AND state = 'closed'
RETURNING turn_id;

-- name: supersede_readings
UPDATE gateway.reading SET superseded_at = now() WHERE turn_id = %(turn_id)s AND superseded_at IS NULL;

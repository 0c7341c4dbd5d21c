-- name: note
-- Returns when the source was looked through before.
WITH before AS (SELECT checked_at FROM retrieval.source WHERE tenant = %(tenant)s AND name = %(source)s),
noted AS (
    INSERT INTO retrieval.source AS s (tenant, name, checked_at, left_out, published_at, changed_at)
    VALUES (%(tenant)s, %(source)s, %(checked_at)s, %(left_out)s, %(published_at)s, %(changed_at)s)
    ON CONFLICT (tenant, name) DO UPDATE SET
        checked_at = coalesce(excluded.checked_at, s.checked_at),
        left_out = CASE WHEN excluded.checked_at IS NULL THEN s.left_out ELSE excluded.left_out END,
        published_at = coalesce(excluded.published_at, s.published_at),
        changed_at = greatest(excluded.changed_at, s.changed_at)
)
SELECT (SELECT checked_at FROM before)

-- name: note_lag
UPDATE retrieval.source SET lag_s = %(lag_s)s WHERE tenant = %(tenant)s AND name = %(source)s

-- name: sources
SELECT name AS source, checked_at, left_out, published_at, changed_at, lag_s, sync_every_s
FROM retrieval.source WHERE tenant = %(tenant)s ORDER BY name

-- name: expect
UPDATE retrieval.source SET sync_every_s = %(every_s)s WHERE tenant = %(tenant)s AND name = %(source)s RETURNING name

-- name: oldest_syncs
SELECT source, checked_at, due_at FROM retrieval.oldest_syncs(%(sources)s)

-- name: announce
INSERT INTO serving.replica (url, announced_by, takes_adapters)
VALUES (%(url)s, %(by)s, %(takes_adapters)s)
ON CONFLICT (url) DO UPDATE
SET announced_by = EXCLUDED.announced_by, announced_at = now(), takes_adapters = EXCLUDED.takes_adapters;

-- name: withdraw
DELETE FROM serving.replica WHERE announced_by = %(by)s AND NOT url = ANY(%(kept)s);

-- name: leave
UPDATE serving.replica SET leaving = true WHERE url = %(url)s;

-- name: expire
DELETE FROM serving.replica WHERE announced_at < now() - make_interval(secs => %(older_than_s)s);

-- name: replicas
SELECT url, announced_by, takes_adapters, leaving, life, build, reason, listed, adapters, bases, strange,
    looks, looked_at
FROM serving.replica ORDER BY url;

-- name: holdings
SELECT url, version, state, reason, life, evidence, since FROM serving.replica_version ORDER BY url, version;

-- name: looked
UPDATE serving.replica
SET life = %(life)s, build = %(build)s, reason = %(reason)s, listed = %(listed)s,
    adapters = %(adapters)s, bases = %(bases)s, strange = %(strange)s,
    looks = looks + 1, looked_at = now()
WHERE url = %(url)s;

-- name: hold
INSERT INTO serving.replica_version (url, version, state, reason, life, evidence)
SELECT %(url)s, %(version)s, %(state)s, %(reason)s, %(life)s, %(evidence)s
-- An engine that was withdrawn meanwhile holds nothing.
WHERE EXISTS (SELECT FROM serving.replica WHERE url = %(url)s)
ON CONFLICT (url, version) DO UPDATE
SET state = EXCLUDED.state, reason = EXCLUDED.reason, life = EXCLUDED.life, evidence = EXCLUDED.evidence,
    since = CASE WHEN (replica_version.state, replica_version.life) = (EXCLUDED.state, EXCLUDED.life)
                 THEN replica_version.since ELSE now() END;

-- name: release
DELETE FROM serving.replica_version WHERE url = %(url)s AND version = %(version)s;

-- name: wanted
-- In the order in which they matter. What an undo leads to is wanted too: it must find it served.
WITH goal AS (SELECT stable, canary FROM serving.before_last_move),
named AS (
    SELECT 1 AS place, 'stable' AS role, stable AS version FROM serving.pointer
    UNION ALL SELECT 2, 'canary', canary FROM serving.pointer
    UNION ALL SELECT 3, 'staged', version FROM serving.staged
    UNION ALL SELECT 4, 'fallback', fallback FROM serving.pointer
    UNION ALL SELECT 5, 'previous', previous FROM serving.pointer
    UNION ALL SELECT 6, 'shadow', shadow FROM serving.pointer
    UNION ALL SELECT 7, 'undo', stable FROM goal
    UNION ALL SELECT 7, 'undo', canary FROM goal
)
SELECT n.version, array_agg(n.role ORDER BY n.place) AS roles
FROM named n WHERE n.version IS NOT NULL
GROUP BY n.version ORDER BY min(n.place), n.version;

-- name: stage
INSERT INTO serving.staged (version, staged_by) VALUES (%(version)s, %(by)s) ON CONFLICT (version) DO NOTHING;

-- name: is_retired
SELECT retired_at IS NOT NULL AS retired FROM serving.model_version WHERE id = %(version)s;

-- name: unstage
DELETE FROM serving.staged WHERE version = %(version)s;

-- name: references
SELECT base_digest, adapter_digest, form, places FROM serving.probe_reference
WHERE base_digest = %(base_digest)s AND build = %(build)s;

-- name: keep_reference
INSERT INTO serving.probe_reference (base_digest, adapter_digest, form, build, places, seen_on)
VALUES (%(base_digest)s, %(adapter_digest)s, %(form)s, %(build)s, %(places)s, %(seen_on)s)
ON CONFLICT DO NOTHING;

-- name: lead
UPDATE serving.reconciler SET holder = %(holder)s, until = now() + make_interval(secs => %(lease_s)s)
WHERE holder = %(holder)s OR until < now() RETURNING holder;

-- name: resign
UPDATE serving.reconciler SET until = '-infinity' WHERE holder = %(holder)s;

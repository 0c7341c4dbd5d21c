-- name: pointer
SELECT stable, canary, canary_weight_bp, previous, taken_back, shadow, fallback, salt, revision FROM serving.pointer;

-- name: versions
SELECT id, definition, manifest, served_name, releasable, forced, author, created_at, retired_at
FROM serving.model_version ORDER BY created_at, id;

-- name: version
SELECT id, definition, manifest, served_name, releasable, forced, author, created_at, retired_at
FROM serving.model_version WHERE id = %(id)s;

-- name: register
WITH added AS (
    INSERT INTO serving.model_version
        (id, name, definition, manifest, served_name, releasable, forced, author, created_at)
    VALUES
        (%(id)s, %(name)s, %(definition)s, %(manifest)s, %(served_name)s, %(releasable)s, %(forced)s, %(author)s,
         %(created_at)s)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, definition, manifest, served_name, releasable, forced, author, created_at, retired_at
), noted AS (
    INSERT INTO serving.version_event (version, action, by, reason)
    SELECT id, 'registered', %(author)s, '' FROM added
    UNION ALL
    SELECT id, 'forced', %(author)s, %(reason)s FROM added WHERE forced
)
SELECT * FROM added
UNION ALL
SELECT id, definition, manifest, served_name, releasable, forced, author, created_at, retired_at
FROM serving.model_version WHERE id = %(id)s AND NOT EXISTS (SELECT FROM added);

-- name: uses_of_adapter
-- What is registered with the same weights: its manifest says how it uses them.
SELECT id, definition, manifest, served_name, releasable, forced, author, created_at, retired_at
FROM serving.model_version WHERE definition ->> 'adapter_digest' = %(digest)s ORDER BY created_at, id;

-- name: make_releasable
-- A version that a person forced and a gate passes later is not called forced any more; the event stays.
WITH changed AS (
    UPDATE serving.model_version
    SET releasable = true, forced = %(forced)s,
        manifest = jsonb_set(
            manifest || jsonb_build_object('forced', %(forced)s),
            '{metrics}', COALESCE(manifest -> 'metrics', '{}') || %(metrics)s)
    WHERE id = %(id)s AND retired_at IS NULL AND (NOT releasable OR forced AND NOT %(forced)s)
    RETURNING id, definition, manifest, served_name, releasable, forced, author, created_at, retired_at
), noted AS (
    INSERT INTO serving.version_event (version, action, by, reason)
    SELECT id, CASE WHEN %(forced)s THEN 'forced' ELSE 'passed' END, %(by)s, %(reason)s FROM changed
)
SELECT * FROM changed;

-- name: lock_pointer
-- Who gives a version a role or retires it holds this first: either sees what the other has done.
SELECT FROM serving.pointer FOR UPDATE;

-- name: roles
-- What a version is needed for: what has a role is not retired.
SELECT version, role
FROM (
    SELECT each.version, each.role
    FROM serving.pointer p, LATERAL (VALUES
        (p.stable, 'stable'), (p.canary, 'canary'), (p.previous, 'previous'), (p.shadow, 'shadow'),
        (p.fallback, 'fallback')
    ) AS each (version, role)
    UNION
    SELECT each.version, 'undo'
    FROM serving.before_last_move g, LATERAL (VALUES (g.stable), (g.canary)) AS each (version)
    UNION
    SELECT version, 'staged' FROM serving.staged
) AS needed
WHERE version IS NOT NULL AND (%(id)s::text IS NULL OR version = %(id)s)
ORDER BY version, role;

-- name: set_retired
WITH changed AS (
    UPDATE serving.model_version SET retired_at = CASE WHEN %(retired)s THEN now() END
    WHERE id = %(id)s AND (retired_at IS NOT NULL) <> %(retired)s
    RETURNING id, definition, manifest, served_name, releasable, forced, author, created_at, retired_at
), noted AS (
    INSERT INTO serving.version_event (version, action, by, reason)
    SELECT id, CASE WHEN %(retired)s THEN 'retired' ELSE 'revived' END, %(by)s, %(reason)s FROM changed
)
SELECT * FROM changed;

-- name: note_event
INSERT INTO serving.version_event (version, action, by, reason) VALUES (%(id)s, %(action)s, %(by)s, %(reason)s);

-- name: events
SELECT version, at, action, by, reason FROM serving.version_event
WHERE version = %(id)s ORDER BY id DESC LIMIT %(limit)s;

-- name: moves_of
-- The moves that gave the version a part, another part, or none.
SELECT revision, action, stable, canary, canary_weight_bp, previous, shadow, fallback, moved_by, moved_at
FROM (
    SELECT h.*, lag(%(id)s = ANY (ARRAY[stable, canary, previous, shadow, fallback])) OVER (ORDER BY revision) AS before
    FROM serving.pointer_history h
) AS told
WHERE %(id)s = ANY (ARRAY[stable, canary, previous, shadow, fallback]) OR before
ORDER BY revision DESC LIMIT %(limit)s;

-- name: promote
UPDATE serving.pointer
SET previous = COALESCE(stable, previous), taken_back = false, stable = %(version)s, canary = NULL,
    canary_weight_bp = 0, action = 'promote', revision = revision + 1, moved_at = now()
WHERE stable IS DISTINCT FROM %(version)s
  AND revision = COALESCE(%(expected_revision)s, revision)
RETURNING stable, canary, canary_weight_bp, previous, taken_back, shadow, fallback, salt, revision;

-- name: set_canary
UPDATE serving.pointer
SET canary = %(version)s, canary_weight_bp = %(weight_bp)s,
    action = 'set_canary', revision = revision + 1, moved_at = now()
WHERE stable IS NOT NULL AND (canary, canary_weight_bp) IS DISTINCT FROM (%(version)s::text, %(weight_bp)s::int)
  AND revision = COALESCE(%(expected_revision)s, revision)
RETURNING stable, canary, canary_weight_bp, previous, taken_back, shadow, fallback, salt, revision;

-- name: set_fallback
UPDATE serving.pointer
SET fallback = %(version)s, action = 'set_fallback', revision = revision + 1, moved_at = now()
WHERE stable IS NOT NULL AND revision = COALESCE(%(expected_revision)s, revision)
RETURNING stable, canary, canary_weight_bp, previous, taken_back, shadow, fallback, salt, revision;

-- name: undo
-- What took traffic before the last move takes it again. The undo is a move itself, so the next one brings it back.
-- Previous names the version that was left: that is where a redo leads, and what engines keep serving.
UPDATE serving.pointer AS p
SET stable = goal.stable, canary = goal.canary, canary_weight_bp = goal.canary_weight_bp,
    previous = CASE WHEN goal.stable = p.stable THEN p.previous ELSE p.stable END,
    -- The second undo is a redo: what it leaves was never taken back.
    taken_back = CASE WHEN goal.stable = p.stable THEN p.taken_back ELSE NOT p.taken_back END,
    action = 'undo', revision = p.revision + 1, moved_at = now()
FROM serving.before_last_move AS goal
WHERE p.revision = COALESCE(%(expected_revision)s, p.revision)
  -- Fails for the later of two that undo at the same moment: it would take back what it has not seen.
  AND (goal.stable, goal.canary, goal.canary_weight_bp) IS DISTINCT FROM (p.stable, p.canary, p.canary_weight_bp)
RETURNING p.stable, p.canary, p.canary_weight_bp, p.previous, p.taken_back, p.shadow, p.fallback, p.salt, p.revision;

-- name: undo_goal
SELECT stable, canary, canary_weight_bp FROM serving.before_last_move;

-- name: history
SELECT revision, action, stable, canary, canary_weight_bp, previous, shadow, fallback, moved_by, moved_at
FROM serving.pointer_history ORDER BY revision DESC LIMIT %(limit)s;

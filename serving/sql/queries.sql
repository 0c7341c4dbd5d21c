-- name: pointer
SELECT stable, canary, canary_weight_bp, previous, shadow, fallback, salt, revision FROM serving.pointer;

-- name: versions
SELECT id, definition, manifest, served_name, releasable, author, created_at
FROM serving.model_version ORDER BY created_at, id;

-- name: version
SELECT id, definition, manifest, served_name, releasable, author, created_at
FROM serving.model_version WHERE id = %(id)s;

-- name: register
WITH added AS (
    INSERT INTO serving.model_version (id, name, definition, manifest, served_name, releasable, author)
    VALUES (%(id)s, %(name)s, %(definition)s, %(manifest)s, %(served_name)s, %(releasable)s, %(author)s)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, definition, manifest, served_name, releasable, author, created_at
)
SELECT * FROM added
UNION ALL
SELECT id, definition, manifest, served_name, releasable, author, created_at
FROM serving.model_version WHERE id = %(id)s AND NOT EXISTS (SELECT FROM added);

-- name: promote
UPDATE serving.pointer
SET previous = COALESCE(stable, previous), stable = %(version)s, canary = NULL, canary_weight_bp = 0,
    action = 'promote', revision = revision + 1, moved_at = now()
WHERE stable IS DISTINCT FROM %(version)s
  AND revision = COALESCE(%(expected_revision)s, revision)
RETURNING stable, canary, canary_weight_bp, previous, shadow, fallback, salt, revision;

-- name: set_canary
UPDATE serving.pointer
SET canary = %(version)s, canary_weight_bp = %(weight_bp)s,
    action = 'set_canary', revision = revision + 1, moved_at = now()
WHERE stable IS NOT NULL AND (canary, canary_weight_bp) IS DISTINCT FROM (%(version)s::text, %(weight_bp)s::int)
  AND revision = COALESCE(%(expected_revision)s, revision)
RETURNING stable, canary, canary_weight_bp, previous, shadow, fallback, salt, revision;

-- name: set_fallback
UPDATE serving.pointer
SET fallback = %(version)s, action = 'set_fallback', revision = revision + 1, moved_at = now()
WHERE stable IS NOT NULL AND revision = COALESCE(%(expected_revision)s, revision)
RETURNING stable, canary, canary_weight_bp, previous, shadow, fallback, salt, revision;

-- name: undo
-- What took traffic before the last move takes it again. The undo is a move itself, so the next one brings it back.
-- Previous names the version that was left: that is where a redo leads, and what engines keep serving.
UPDATE serving.pointer AS p
SET stable = goal.stable, canary = goal.canary, canary_weight_bp = goal.canary_weight_bp,
    previous = CASE WHEN goal.stable = p.stable THEN p.previous ELSE p.stable END,
    action = 'undo', revision = p.revision + 1, moved_at = now()
FROM serving.before_last_move AS goal
WHERE p.revision = COALESCE(%(expected_revision)s, p.revision)
  -- Fails for the later of two that undo at the same moment: it would take back what it has not seen.
  AND (goal.stable, goal.canary, goal.canary_weight_bp) IS DISTINCT FROM (p.stable, p.canary, p.canary_weight_bp)
RETURNING p.stable, p.canary, p.canary_weight_bp, p.previous, p.shadow, p.fallback, p.salt, p.revision;

-- name: undo_goal
SELECT stable, canary, canary_weight_bp FROM serving.before_last_move;

-- name: history
SELECT revision, action, stable, canary, canary_weight_bp, previous, shadow, fallback, moved_by, moved_at
FROM serving.pointer_history ORDER BY revision DESC LIMIT %(limit)s;

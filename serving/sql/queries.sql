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
WHERE stable IS NOT NULL AND revision = COALESCE(%(expected_revision)s, revision)
RETURNING stable, canary, canary_weight_bp, previous, shadow, fallback, salt, revision;

-- name: set_fallback
UPDATE serving.pointer
SET fallback = %(version)s, action = 'set_fallback', revision = revision + 1, moved_at = now()
WHERE stable IS NOT NULL AND revision = COALESCE(%(expected_revision)s, revision)
RETURNING stable, canary, canary_weight_bp, previous, shadow, fallback, salt, revision;

-- name: undo
-- A promote clears the canary, so a canary that is there was set after it: it is the last move and goes first.
UPDATE serving.pointer
SET stable = CASE WHEN canary IS NULL THEN previous ELSE stable END,
    previous = CASE WHEN canary IS NULL THEN stable ELSE previous END,
    canary = NULL, canary_weight_bp = 0,
    action = 'undo', revision = revision + 1, moved_at = now()
WHERE (canary IS NOT NULL OR previous IS NOT NULL)
  AND revision = COALESCE(%(expected_revision)s, revision)
RETURNING stable, canary, canary_weight_bp, previous, shadow, fallback, salt, revision;

-- name: history
SELECT revision, action, stable, canary, canary_weight_bp, previous, shadow, fallback, moved_by, moved_at
FROM serving.pointer_history ORDER BY revision DESC LIMIT %(limit)s;

-- name: pointer
SELECT stable, canary, canary_weight_bp, previous, shadow, salt, revision FROM retrieval.pointer

-- name: versions
SELECT id, name, embedder, dims, chunker, lexer, fusion, dense_weight, avgdl, abstain_below, calibration,
       reranker, rerank_weight, rewriter, state
FROM retrieval.index_version ORDER BY number

-- name: roles
SELECT version, array_agg(DISTINCT role) FROM retrieval.version_role GROUP BY version

-- name: partition_sizes
SELECT id, coalesce(pg_total_relation_size(to_regclass('retrieval.chunk_' || number)), 0)
FROM retrieval.index_version

-- name: facts
SELECT version, tenant, chunks, earliest, filled, wanted FROM retrieval.version_facts()

-- name: register
-- One that was retired begins anew, with a number of its own: nothing of the old one can be mistaken for it.
INSERT INTO retrieval.index_version AS v (id, name, embedder, dims, chunker, lexer, fusion, dense_weight, avgdl,
                                          abstain_below, calibration, reranker, rerank_weight, rewriter, state)
VALUES (%(id)s, %(name)s, %(embedder)s, %(dims)s, %(chunker)s, %(lexer)s, %(fusion)s, %(dense_weight)s, %(avgdl)s,
        %(abstain_below)s, %(calibration)s::jsonb, %(reranker)s, %(rerank_weight)s, %(rewriter)s, 'building')
ON CONFLICT (id) DO UPDATE SET state = 'building', number = DEFAULT WHERE v.state = 'retired'
RETURNING retrieval.create_partition(number, dims)

-- name: lock_versions
-- Every publish holds it shared while it writes: which versions are written changes between publishes only.
SELECT pg_advisory_xact_lock(hashtextextended('retrieval.versions', 0))

-- name: lock_pointer
-- Taken before each move and before a version is retired, so that none moves to a version that is being retired.
SELECT FROM retrieval.pointer FOR UPDATE

-- name: unfilled_tenants
SELECT retrieval.unfilled_tenants(%(version)s)

-- name: set_ready
UPDATE retrieval.index_version SET state = 'ready' WHERE id = %(version)s AND state = 'building'

-- name: retire
UPDATE retrieval.index_version SET state = 'retired' WHERE id = %(version)s

-- name: operation
SELECT set_config('retrieval.operation', %(operation)s, true)

-- name: promote
-- A move to where the pointer stands already is none: it would count as the last one, which undo takes back.
UPDATE retrieval.pointer
SET previous = CASE WHEN stable = %(version)s THEN previous ELSE stable END, stable = %(version)s, canary = NULL,
    canary_weight_bp = 0, shadow = nullif(shadow, %(version)s), revision = revision + 1,
    moved_seq = nextval('retrieval.move_seq')
WHERE (stable IS DISTINCT FROM %(version)s OR canary IS NOT NULL)
  AND EXISTS (SELECT FROM retrieval.index_version WHERE id = %(version)s AND state = 'ready')
RETURNING stable, canary, canary_weight_bp, previous, shadow, salt, revision

-- name: promote_first
UPDATE retrieval.pointer SET stable = %(version)s, revision = revision + 1, moved_seq = nextval('retrieval.move_seq')
WHERE stable IS NULL AND EXISTS (SELECT FROM retrieval.index_version WHERE id = %(version)s AND state = 'ready')

-- name: set_canary
UPDATE retrieval.pointer
SET canary = %(version)s, canary_weight_bp = %(weight_bp)s, shadow = nullif(shadow, %(version)s),
    revision = revision + 1, moved_seq = nextval('retrieval.move_seq')
WHERE stable IS NOT NULL AND (canary, canary_weight_bp) IS DISTINCT FROM (%(version)s::text, %(weight_bp)s::int)
  AND (%(version)s::text IS NULL
    OR EXISTS (SELECT FROM retrieval.index_version WHERE id = %(version)s AND state = 'ready'))
RETURNING stable, canary, canary_weight_bp, previous, shadow, salt, revision

-- name: set_shadow
-- Moves no traffic, so it is none of the moves that an undo takes back and leaves `moved_seq` as it is.
UPDATE retrieval.pointer SET shadow = %(version)s, revision = revision + 1
WHERE stable IS NOT NULL AND shadow IS DISTINCT FROM %(version)s::text
  AND (%(version)s::text IS NULL
    OR EXISTS (SELECT FROM retrieval.index_version WHERE id = %(version)s AND state = 'ready'))
RETURNING stable, canary, canary_weight_bp, previous, shadow, salt, revision

-- name: undo_version
-- What took traffic before the last move takes it again. The undo is a move itself, so the next one brings it back.
-- Previous names the version that was left: that is where a redo leads, and it is never a retired one.
UPDATE retrieval.pointer AS p
SET stable = goal.stable, canary = goal.canary, canary_weight_bp = goal.canary_weight_bp,
    previous = CASE WHEN goal.stable = p.stable THEN p.previous ELSE p.stable END,
    shadow = CASE WHEN p.shadow IN (goal.stable, goal.canary) THEN NULL ELSE p.shadow END,
    revision = p.revision + 1, moved_seq = nextval('retrieval.move_seq')
FROM retrieval.before_last_move AS goal
WHERE p.revision = coalesce(%(expected_revision)s, p.revision)
  AND (%(expected_snapshot)s::int IS NULL OR %(expected_snapshot)s = coalesce(
        (SELECT snapshot FROM retrieval.snapshot_head WHERE tenant = %(tenant)s), 0))
  -- Fails for the later of two that undo at the same moment: it would take back what it has not seen.
  AND (goal.stable, goal.canary, goal.canary_weight_bp) IS DISTINCT FROM (p.stable, p.canary, p.canary_weight_bp)
RETURNING p.stable, p.canary, p.canary_weight_bp, p.previous, p.shadow, p.salt, p.revision

-- name: undo_goal
SELECT stable, canary, canary_weight_bp FROM retrieval.before_last_move

-- name: undo_publish
UPDATE retrieval.snapshot_head
SET snapshot = previous, previous = snapshot, moved_seq = nextval('retrieval.move_seq')
WHERE tenant = %(tenant)s AND snapshot = coalesce(%(expected_snapshot)s, snapshot)
  AND previous >= CASE WHEN %(may_empty)s THEN 0 ELSE 1 END
  AND (%(expected_revision)s::bigint IS NULL OR %(expected_revision)s = (SELECT revision FROM retrieval.pointer))
RETURNING snapshot, previous

-- name: would_empty
-- Whether an undo leads to before the first publish.
SELECT EXISTS (SELECT FROM retrieval.snapshot_head WHERE tenant = %(tenant)s AND previous = 0)

-- name: moves
-- What could be undone, and when it moved.
SELECT (SELECT moved_seq FROM retrieval.snapshot_head WHERE tenant = %(tenant)s AND previous IS NOT NULL) AS publish,
       (SELECT moved_seq FROM retrieval.pointer WHERE EXISTS (SELECT FROM retrieval.before_last_move)) AS version

-- name: seen
-- What `expected_revision` and `expected_snapshot` of an undo are compared with.
SELECT revision, coalesce((SELECT snapshot FROM retrieval.snapshot_head WHERE tenant = %(tenant)s), 0)
FROM retrieval.pointer

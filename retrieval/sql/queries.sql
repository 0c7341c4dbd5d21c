-- name: enter
-- Tenant and eyes of this transaction; row-level security reads both.
SELECT set_config('retrieval.tenant', %(tenant)s, true)

-- name: enter_with_all_principals
SELECT set_config('retrieval.principals',
                  (SELECT coalesce(array_agg(id), '{}')::text FROM retrieval.principal), true)

-- name: limit_statement
SELECT set_config('statement_timeout', %(timeout)s, true)

-- name: search
SELECT retrieval.search(%(tenant)s, %(principals)s::text[], %(version)s, %(embedding)s, %(lexemes)s::text[],
                        %(terms)s::int[], %(counts)s::int[], %(filters)s::jsonb, %(snapshot)s::int,
                        %(moment)s::timestamptz, %(effective_on)s::date, %(k)s::int, %(candidates)s::int, %(legs)s)

-- name: role
SELECT rolsuper OR rolbypassrls, rolname FROM pg_roles WHERE rolname = current_user

-- name: match_is_leakproof
SELECT proleakproof FROM pg_proc WHERE oid = 'pg_catalog.ts_match_vq(tsvector, tsquery)'::regprocedure

-- name: text_spans
SELECT retrieval.text_spans(%(tenant)s, %(principals)s::text[], %(documents)s::text[], %(numbers)s::int[],
                            %(starts)s::int[], %(lengths)s::int[])

-- name: pointer
SELECT stable, canary, canary_weight_bp, previous, shadow, salt, revision FROM retrieval.pointer

-- name: versions
SELECT id, name, embedder, dims, chunker, lexer, fusion, dense_weight, avgdl, abstain_below, calibration,
       reranker, rerank_weight, rewriter, state
FROM retrieval.index_version ORDER BY number

-- name: register
INSERT INTO retrieval.index_version (id, name, embedder, dims, chunker, lexer, fusion, dense_weight, avgdl,
                                     abstain_below, calibration, reranker, rerank_weight, rewriter, state)
VALUES (%(id)s, %(name)s, %(embedder)s, %(dims)s, %(chunker)s, %(lexer)s, %(fusion)s, %(dense_weight)s, %(avgdl)s,
        %(abstain_below)s, %(calibration)s::jsonb, %(reranker)s, %(rerank_weight)s, %(rewriter)s, 'building')
ON CONFLICT (id) DO NOTHING
RETURNING retrieval.create_partition(number, dims)

-- name: set_state
UPDATE retrieval.index_version SET state = %(state)s WHERE id = %(id)s

-- name: unfilled_tenants
SELECT retrieval.unfilled_tenants(%(version)s)

-- name: retire_replaced
-- The version that a promote pushes out gets no writes any more, so it may not come back without being filled.
UPDATE retrieval.index_version SET state = 'retired'
WHERE id = (SELECT previous FROM retrieval.pointer)
  AND id NOT IN (SELECT name FROM retrieval.pointer, unnest(ARRAY[stable, canary, shadow, %(version)s]) AS name
                 WHERE name IS NOT NULL)
  AND EXISTS (SELECT FROM retrieval.index_version WHERE id = %(version)s AND state = 'ready')
  AND %(version)s <> (SELECT stable FROM retrieval.pointer)

-- name: operation
SELECT set_config('retrieval.operation', %(operation)s, true)

-- name: promote
-- A move to where the pointer stands already is none: it would count as the last one, which undo takes back.
UPDATE retrieval.pointer
SET previous = CASE WHEN stable = %(version)s THEN previous ELSE stable END, stable = %(version)s, canary = NULL,
    canary_weight_bp = 0, revision = revision + 1, moved_seq = nextval('retrieval.move_seq')
WHERE (stable IS DISTINCT FROM %(version)s OR canary IS NOT NULL)
  AND EXISTS (SELECT FROM retrieval.index_version WHERE id = %(version)s AND state = 'ready')
RETURNING stable, canary, canary_weight_bp, previous, shadow, salt, revision

-- name: promote_first
UPDATE retrieval.pointer SET stable = %(version)s, revision = revision + 1, moved_seq = nextval('retrieval.move_seq')
WHERE stable IS NULL AND EXISTS (SELECT FROM retrieval.index_version WHERE id = %(version)s AND state = 'ready')

-- name: set_canary
UPDATE retrieval.pointer
SET canary = %(version)s, canary_weight_bp = %(weight_bp)s, revision = revision + 1,
    moved_seq = nextval('retrieval.move_seq')
WHERE stable IS NOT NULL AND (canary, canary_weight_bp) IS DISTINCT FROM (%(version)s::text, %(weight_bp)s::int)
  AND (%(version)s::text IS NULL
    OR EXISTS (SELECT FROM retrieval.index_version WHERE id = %(version)s AND state = 'ready'))
RETURNING stable, canary, canary_weight_bp, previous, shadow, salt, revision

-- name: undo_version
-- What took traffic before the last move takes it again. The undo is a move itself, so the next one brings it back.
-- Previous names the version that was left: that is where a redo leads, and it is never a retired one.
UPDATE retrieval.pointer AS p
SET stable = goal.stable, canary = goal.canary, canary_weight_bp = goal.canary_weight_bp,
    previous = CASE WHEN goal.stable = p.stable THEN p.previous ELSE p.stable END,
    revision = p.revision + 1, moved_seq = nextval('retrieval.move_seq')
FROM retrieval.before_last_move AS goal
WHERE p.revision = coalesce(%(expected_revision)s, p.revision)
  -- Fails for the later of two that undo at the same moment: it would take back what it has not seen.
  AND (goal.stable, goal.canary, goal.canary_weight_bp) IS DISTINCT FROM (p.stable, p.canary, p.canary_weight_bp)
RETURNING p.stable, p.canary, p.canary_weight_bp, p.previous, p.shadow, p.salt, p.revision

-- name: undo_goal
SELECT stable, canary, canary_weight_bp FROM retrieval.before_last_move

-- name: undo_publish
UPDATE retrieval.snapshot_head
SET snapshot = previous, previous = snapshot, moved_seq = nextval('retrieval.move_seq')
WHERE tenant = %(tenant)s AND previous IS NOT NULL AND snapshot = coalesce(%(expected_snapshot)s, snapshot)
RETURNING snapshot, previous

-- name: lacking_versions
-- Versions that may take traffic and have not all of the live snapshot: searches there would find nothing or less.
SELECT ARRAY(SELECT v.id FROM retrieval.index_version v, retrieval.snapshot_head h
             WHERE v.state = 'ready' AND h.tenant = %(tenant)s
               AND retrieval.lacks_snapshot(v.number, h.tenant, h.snapshot)
             ORDER BY v.number)

-- name: moves
-- What could be undone, and when it moved.
SELECT (SELECT moved_seq FROM retrieval.snapshot_head WHERE tenant = %(tenant)s AND previous IS NOT NULL) AS publish,
       (SELECT moved_seq FROM retrieval.pointer WHERE EXISTS (SELECT FROM retrieval.before_last_move)) AS version

-- name: snapshot
SELECT coalesce((SELECT snapshot FROM retrieval.snapshot_head WHERE tenant = %(tenant)s), 0)

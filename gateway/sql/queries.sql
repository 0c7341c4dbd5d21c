-- name: set_tenant
SELECT set_config('gateway.tenant', %(tenant)s, true);

-- name: key_by_digest
SELECT id, name, tenant, principals, scopes, created_at, revoked_at
FROM gateway.key_by_digest(%(digest)s);

-- name: insert_key
INSERT INTO gateway.api_key (id, name, digest, tenant, principals, scopes)
VALUES (%(id)s, %(name)s, %(digest)s, %(tenant)s, %(principals)s, %(scopes)s)
RETURNING id, name, tenant, principals, scopes, created_at, revoked_at;

-- name: list_keys
SELECT id, name, tenant, principals, scopes, created_at, revoked_at
FROM gateway.api_key ORDER BY created_at, id;

-- name: revoke_key
UPDATE gateway.api_key SET revoked_at = COALESCE(revoked_at, now()) WHERE id = %(id)s
RETURNING id, name, tenant, principals, scopes, created_at, revoked_at;

-- name: write_turns
SELECT gateway.write_turns(%(tenant)s, %(turns)s::jsonb);

-- name: erase_document
SELECT gateway.erase_document(%(tenant)s, %(document)s, %(dry_run)s) AS turns;

-- name: turn
SELECT t.id, t.tenant, t.key_id, t.conversation_id, t.surface, t.status, t.question, t.pinned, t.knowledge_version,
    t.model_version, t.knowledge_arm, t.model_arm, t.degraded, t.trace_id, t.created_at, t.finished_at, t.answer,
    t.used, r.ticket
FROM gateway.turn t LEFT JOIN gateway.review r ON r.turn_id = t.id
WHERE t.id = %(id)s;

-- name: latest_turns: for a list, so without the texts, which are most of a turn; what the reader's key may not see is left out
SELECT t.id, t.status, left(t.question, %(question_characters)s) AS question, t.pinned, t.knowledge_version,
    t.model_version, t.knowledge_arm, t.model_arm, t.degraded, t.trace_id, t.created_at, r.ticket,
    t.used - '{prompt,passages,checks,flags,filters,principals,pin,retrieval}'::text[] AS used
FROM gateway.turn t LEFT JOIN gateway.review r ON r.turn_id = t.id
WHERE (%(sees_all)s OR t.key_id = %(key_id)s OR t.principals <@ to_jsonb(%(principals)s::text[]))
    -- In the order of the list: ids of one millisecond are in none. A turn that is not written yet has its id only.
    AND (%(before)s::uuid IS NULL OR CASE WHEN EXISTS (SELECT FROM gateway.turn b WHERE b.id = %(before)s::uuid)
        THEN (t.created_at, t.id) < (SELECT b.created_at, b.id FROM gateway.turn b WHERE b.id = %(before)s::uuid)
        ELSE t.id < %(before)s::uuid END)
    AND (%(since)s::timestamptz IS NULL OR t.created_at >= %(since)s::timestamptz)
    AND (%(until)s::timestamptz IS NULL OR t.created_at < %(until)s::timestamptz)
    AND (%(pinned)s::boolean IS NULL OR t.pinned = %(pinned)s::boolean)
    AND (%(conversation_id)s::text IS NULL OR t.conversation_id = %(conversation_id)s)
    AND (%(version)s::text IS NULL OR %(version)s IN (split_part(t.knowledge_version, '@', 1), t.model_version))
ORDER BY t.created_at DESC, t.id DESC LIMIT %(limit)s;

-- name: upsert_feedback
INSERT INTO gateway.feedback AS f (turn_id, key_id, tenant, rating, comment, corrected_answer, label)
VALUES (%(turn_id)s, %(key_id)s, %(tenant)s, %(rating)s, %(comment)s, %(corrected_answer)s, %(label)s)
ON CONFLICT (turn_id, key_id) DO UPDATE SET
    rating = EXCLUDED.rating, comment = EXCLUDED.comment, corrected_answer = EXCLUDED.corrected_answer,
    label = EXCLUDED.label,
    updated_at = CASE WHEN (f.rating, f.comment, f.corrected_answer, f.label)
        IS NOT DISTINCT FROM (EXCLUDED.rating, EXCLUDED.comment, EXCLUDED.corrected_answer, EXCLUDED.label)
        THEN f.updated_at ELSE now() END
RETURNING turn_id, key_id, rating, comment, corrected_answer, label, created_at, updated_at, updated_at = now() AS is_new;

-- name: turn_feedback
SELECT turn_id, key_id, rating, comment, corrected_answer, label, created_at, updated_at
FROM gateway.feedback WHERE turn_id = %(turn_id)s ORDER BY created_at;

-- name: ping
SELECT 1;

-- name: schema_is_there
SELECT to_regclass('gateway.turn') IS NOT NULL AS there;

-- name: drafts: the last draft of each turn that ended with an answer of the model
SELECT used -> 'drafts' -> -1 ->> 'text' AS text FROM gateway.turn
WHERE model_version = ANY (%(versions)s) AND status IN ('answered', 'escalated', 'clarify')
  AND used -> 'drafts' -> -1 ->> 'text' IS NOT NULL
ORDER BY created_at DESC LIMIT %(limit)s;

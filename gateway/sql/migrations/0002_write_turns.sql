-- A tenant's turns and the reviews they need in one statement, so one round trip and no open transaction. A turn that is
-- already there stays as it is, so replay is safe. Runs as the caller: row-level security refuses rows of others.

CREATE FUNCTION gateway.write_turns(p_tenant text, p_turns jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('gateway.tenant', p_tenant, true);
    INSERT INTO gateway.turn (id, tenant, key_id, conversation_id, surface, status, question, pinned,
        knowledge_version, model_version, knowledge_arm, model_arm, degraded, trace_id, created_at, finished_at,
        answer, used)
    SELECT id, tenant, key_id, conversation_id, surface, status, question, pinned,
        knowledge_version, model_version, knowledge_arm, model_arm, degraded, trace_id, created_at, finished_at,
        answer, used
    FROM jsonb_to_recordset(p_turns) AS t(id uuid, tenant text, key_id uuid, conversation_id text, surface text,
        status text, question text, pinned boolean, knowledge_version text, model_version text, knowledge_arm text,
        model_arm text, degraded text[], trace_id text, created_at timestamptz, finished_at timestamptz,
        answer jsonb, used jsonb)
    ON CONFLICT (id) DO NOTHING;
    -- Always in the same order, so that nobody waits for one who waits for him.
    PERFORM gateway.hold_review_of(id) FROM (
        SELECT id FROM jsonb_to_recordset(p_turns) AS t(id uuid) ORDER BY id OFFSET 0) written;
    INSERT INTO gateway.review AS r (turn_id, tenant, reasons, ticket, created_at)
    SELECT id, tenant, reasons, ticket, finished_at
    FROM jsonb_to_recordset(p_turns) AS t(id uuid, tenant text, reasons text[], ticket text, finished_at timestamptz)
    WHERE ticket IS NOT NULL
    -- Feedback may have been quicker than the turn.
    ON CONFLICT (turn_id) DO UPDATE
    SET reasons = EXCLUDED.reasons || ARRAY(SELECT unnest(r.reasons) EXCEPT SELECT unnest(EXCLUDED.reasons))
    WHERE NOT r.reasons @> EXCLUDED.reasons;
    UPDATE gateway.review r SET key_id = t.key_id, principals = t.principals, asked_at = t.created_at
    FROM gateway.turn t
    WHERE r.key_id IS NULL AND t.id = r.turn_id
        AND r.turn_id IN (SELECT id FROM jsonb_to_recordset(p_turns) AS written(id uuid));
END $$;

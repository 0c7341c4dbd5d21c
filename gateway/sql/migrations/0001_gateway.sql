-- The gateway's own tables: keys, turns, feedback, reviews. Row-level security from the start.

CREATE SCHEMA IF NOT EXISTS gateway;

CREATE TABLE gateway.api_key (
    id           uuid PRIMARY KEY,
    name         text NOT NULL,
    -- SHA-256 of the key; the key itself is shown once and kept nowhere.
    digest       text NOT NULL CONSTRAINT api_key_digest_v1 UNIQUE,
    tenant       text NOT NULL,
    principals   text[] NOT NULL,
    scopes       text[] NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    revoked_at   timestamptz
);

CREATE TABLE gateway.turn (
    id              uuid PRIMARY KEY,
    tenant          text NOT NULL,
    key_id          uuid NOT NULL,
    conversation_id text NOT NULL,
    surface         text NOT NULL,
    -- answered, abstained, clarify, escalated, fallback; or client_cancelled, failed, rejected.
    status          text NOT NULL,
    question        text NOT NULL,
    pinned          boolean NOT NULL,
    knowledge_version text,
    model_version   text,
    knowledge_arm   text NOT NULL,
    model_arm       text NOT NULL,
    degraded        text[] NOT NULL,
    trace_id        text NOT NULL,
    created_at      timestamptz NOT NULL,
    finished_at     timestamptz NOT NULL,
    -- The answer as it was sent.
    answer          jsonb,
    -- Everything that was used: principals, filters, hits, prompt, drafts, checks, timings, usage, problem.
    used            jsonb NOT NULL,
    -- Whose documents it holds, which decides who may see it; apart, so that a list need not unpack `used`.
    principals      jsonb GENERATED ALWAYS AS (used -> 'principals') STORED
);
CREATE INDEX turn_latest_v1 ON gateway.turn (tenant, created_at DESC);
CREATE INDEX turn_conversation_v1 ON gateway.turn (tenant, conversation_id, created_at);

CREATE TABLE gateway.feedback (
    turn_id          uuid NOT NULL,
    key_id           uuid NOT NULL,
    tenant           text NOT NULL,
    rating           text,
    comment          text,
    corrected_answer text,
    label            text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    -- The last word of each key counts, so sending the same feedback again changes nothing.
    PRIMARY KEY (turn_id, key_id)
);

-- A turn that a person has to look at, or has looked at.
CREATE TABLE gateway.review (
    turn_id          uuid PRIMARY KEY,
    tenant           text NOT NULL,
    -- low_confidence, escalated, failed_verification, no_answer, negative_feedback, labelled, canary_disagreement, sample.
    reasons          text[] NOT NULL,
    -- The first of them in detail: unsupported, deadline, ...
    ticket           text NOT NULL,
    -- open, second (waits for a second reader), disputed, closed.
    state            text NOT NULL DEFAULT 'open',
    -- What it was closed with; null until then.
    ending           text,
    label            text,
    sub              text,
    note             text,
    corrected_answer text,
    closed_by        text,
    closed_at        timestamptz,
    -- How many have read it, and whether the two of them agree.
    readers          smallint NOT NULL DEFAULT 0,
    same_label       boolean,
    same_ending      boolean,
    -- When changed criteria gave it another label after it was closed.
    reopened_at      timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    -- Of the turn, so that a queue is counted without reading turns; null while the turn is being written.
    key_id           uuid,
    principals       jsonb,
    asked_at         timestamptz,
    -- Of the newest automatic label; criteria is null as long as there is none.
    proposed_label   text,
    proposed_sub     text,
    proposed_rule    text,
    criteria         text,
    cluster          text NOT NULL DEFAULT ''
);
CREATE INDEX review_queue_v1 ON gateway.review (tenant, state, turn_id);

-- No tenant in the session: no rows. NULLIF, because a pooled session reads '' after a transaction that set it.
ALTER TABLE gateway.api_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE gateway.api_key FORCE ROW LEVEL SECURITY;
ALTER TABLE gateway.turn ENABLE ROW LEVEL SECURITY;
ALTER TABLE gateway.turn FORCE ROW LEVEL SECURITY;
ALTER TABLE gateway.feedback ENABLE ROW LEVEL SECURITY;
ALTER TABLE gateway.feedback FORCE ROW LEVEL SECURITY;
ALTER TABLE gateway.review ENABLE ROW LEVEL SECURITY;
ALTER TABLE gateway.review FORCE ROW LEVEL SECURITY;

CREATE POLICY tenant_only ON gateway.turn
    USING (tenant = NULLIF(current_setting('gateway.tenant', true), ''));
CREATE POLICY tenant_only ON gateway.feedback
    USING (tenant = NULLIF(current_setting('gateway.tenant', true), ''));
CREATE POLICY tenant_only ON gateway.review
    USING (tenant = NULLIF(current_setting('gateway.tenant', true), ''));
CREATE POLICY tenant_only ON gateway.api_key
    USING (tenant = NULLIF(current_setting('gateway.tenant', true), ''));
-- Who holds a key may find its row before the tenant is known, and only that row.
CREATE POLICY digest_holder ON gateway.api_key FOR SELECT
    USING (digest = NULLIF(current_setting('gateway.key_digest', true), ''));

CREATE FUNCTION gateway.key_by_digest(wanted text)
RETURNS SETOF gateway.api_key LANGUAGE plpgsql VOLATILE SECURITY INVOKER AS $$
BEGIN
    PERFORM set_config('gateway.key_digest', wanted, true);
    RETURN QUERY SELECT * FROM gateway.api_key WHERE digest = wanted;
END $$;

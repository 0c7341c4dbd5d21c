-- Work that is done in the background, one row a job. The queue (0005_queue.sql) says when and by whom; this table says
-- what and how far, and is what callers see.

-- Whose jobs there are, so that what is done for all tenants finds those too that never published anything.
CREATE TABLE retrieval.job_tenant (name text PRIMARY KEY CHECK (name <> ''));

CREATE TABLE retrieval.job (
    tenant text NOT NULL CHECK (tenant <> ''),
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    -- Orders jobs as they were sent.
    number bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL CONSTRAINT job_kind_v1 CHECK (kind IN ('documents', 'source', 'build')),
    -- Source of the documents; for a build the index version.
    source text NOT NULL,
    -- What the kind needs besides, such as the folder of a source.
    details jsonb NOT NULL DEFAULT '{}',
    state text NOT NULL DEFAULT 'queued'
        CONSTRAINT job_state_v1 CHECK (state IN ('queued', 'running', 'paused', 'done', 'failed', 'cancelled')),
    stage text NOT NULL DEFAULT '',
    done int NOT NULL DEFAULT 0,
    total int NOT NULL DEFAULT 0,
    -- Starts. Whoever started it with another number has lost it.
    attempts int NOT NULL DEFAULT 0,
    -- Attempts in a row that ended badly or with their worker.
    failures int NOT NULL DEFAULT 0,
    -- {"type", "field", "problem", "fix"} of the last failure.
    error jsonb,
    report jsonb,
    -- Written in the publish's own transaction: what was published is never published again.
    snapshot int,
    -- Row of retrieval_queue.procrastinate_jobs.
    queued_as bigint,
    idempotency_key text,
    request_sha256 text,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Since when it waits: sent, resumed or given back, or the first of the failures in a row.
    queued_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    CONSTRAINT job_v1 PRIMARY KEY (tenant, id),
    CONSTRAINT job_idempotency_v1 UNIQUE (tenant, idempotency_key)
);
CREATE INDEX job_number ON retrieval.job (tenant, number);
CREATE INDEX job_open ON retrieval.job (tenant) WHERE state IN ('queued', 'running', 'paused', 'failed');

-- The documents of a job, as they were sent. Their text goes when the job is done.
CREATE TABLE retrieval.job_document (
    tenant text NOT NULL,
    job uuid NOT NULL,
    ordinal int NOT NULL,
    document_id text NOT NULL,
    action text NOT NULL CHECK (action IN ('upsert', 'delete')),
    content jsonb,
    CONSTRAINT job_document_v1 PRIMARY KEY (tenant, job, ordinal),
    CONSTRAINT job_document_job_v1 FOREIGN KEY (tenant, job) REFERENCES retrieval.job ON DELETE CASCADE
);
CREATE INDEX job_document_id ON retrieval.job_document (tenant, document_id);

DO $$
DECLARE
    name text;
    own constant text := $q$tenant = NULLIF(current_setting('retrieval.tenant', true), '')$q$;
BEGIN
    FOREACH name IN ARRAY ARRAY['job', 'job_document'] LOOP
        EXECUTE format('ALTER TABLE retrieval.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY own_tenant ON retrieval.%I USING (%s) WITH CHECK (%s)', name, own, own);
    END LOOP;
END $$;

-- For the metrics, which name no tenant: jobs that have not ended well, by kind and by what has become of them, and since
-- when the oldest one waits. `retrying`: queued after a failure. `abandoned`: its worker gives no sign of life, and no
-- other one has taken it over. Takes each tenant's eyes in turn and leaves with nobody's.
CREATE FUNCTION retrieval.queue_facts(p_stalled_s double precision)
    RETURNS TABLE (kind text, state text, jobs bigint, waits_since timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    v_tenant text;
    v_facts jsonb := '[]';
BEGIN
    FOR v_tenant IN SELECT name FROM retrieval.job_tenant ORDER BY name LOOP
        PERFORM set_config('retrieval.tenant', v_tenant, true);
        v_facts := v_facts || coalesce((
            SELECT jsonb_agg(to_jsonb(facts)) FROM (
                SELECT j.kind, seen.state, count(*) AS jobs, min(j.queued_at) AS waits_since
                FROM retrieval.job j
                CROSS JOIN LATERAL (SELECT CASE
                    WHEN j.state = 'queued' AND j.error IS NOT NULL THEN 'retrying'
                    WHEN j.state = 'running' AND NOT EXISTS (
                        SELECT FROM retrieval_queue.procrastinate_jobs place
                        JOIN retrieval_queue.procrastinate_workers worker ON worker.id = place.worker_id
                        WHERE place.id = j.queued_as AND place.status = 'doing'
                          AND worker.last_heartbeat > now() - make_interval(secs => p_stalled_s)) THEN 'abandoned'
                    ELSE j.state END AS state) AS seen
                WHERE j.tenant = v_tenant AND j.state IN ('queued', 'running', 'paused', 'failed')
                GROUP BY 1, 2) AS facts), '[]');
    END LOOP;
    PERFORM set_config('retrieval.tenant', '', true);
    RETURN QUERY
        SELECT f.kind, f.state, sum(f.jobs)::bigint, min(f.waits_since)
        FROM jsonb_to_recordset(v_facts) AS f (kind text, state text, jobs bigint, waits_since timestamptz)
        GROUP BY 1, 2;
END $$;

-- Give a job its place in the queue. One lock a tenant: its jobs run one after another in the order in which they were
-- sent. A build writes beside what is published, and may take hours: it holds up nobody's documents.
CREATE FUNCTION retrieval.enqueue(p_tenant text, p_job uuid, p_queue text, p_task text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE retrieval.job SET queued_as = (
        SELECT id FROM unnest(retrieval_queue.procrastinate_defer_jobs_v1(ARRAY[ROW(
            p_queue, p_task, 0, CASE WHEN kind = 'build' THEN 'build:' || source ELSE 'tenant:' || tenant END, NULL,
            jsonb_build_object('tenant', p_tenant, 'job', p_job), NULL
        )]::retrieval_queue.procrastinate_job_to_defer_v1[])) AS id)
    WHERE tenant = p_tenant AND id = p_job;
END $$;

-- Enqueue the jobs that are to be done and have no place in the queue: their worker lost its connection, or the disk was
-- full, just when it should have told the queue. How many there were. Takes each tenant's eyes in turn and leaves with
-- nobody's.
CREATE FUNCTION retrieval.requeue_lost(p_queue text, p_task text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    v_tenant text;
    v_job uuid;
    v_lost int := 0;
BEGIN
    FOR v_tenant IN SELECT name FROM retrieval.job_tenant ORDER BY name LOOP
        PERFORM set_config('retrieval.tenant', v_tenant, true);
        FOR v_job IN
            SELECT j.id FROM retrieval.job j
            WHERE j.tenant = v_tenant AND j.state IN ('queued', 'running') AND NOT EXISTS (
                SELECT FROM retrieval_queue.procrastinate_jobs place
                WHERE place.id = j.queued_as AND place.status IN ('todo', 'doing'))
            FOR UPDATE SKIP LOCKED
        LOOP
            PERFORM retrieval.enqueue(v_tenant, v_job, p_queue, p_task);
            v_lost := v_lost + 1;
        END LOOP;
    END LOOP;
    PERFORM set_config('retrieval.tenant', '', true);
    RETURN v_lost;
END $$;

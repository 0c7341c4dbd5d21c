-- Work that is done in the background, one row a job. The queue (0004_queue.sql) says when and by whom; this table says
-- what and how far, and is what callers see.

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
    started_at timestamptz,
    finished_at timestamptz,
    CONSTRAINT job_v1 PRIMARY KEY (tenant, id),
    CONSTRAINT job_idempotency_v1 UNIQUE (tenant, idempotency_key)
);
CREATE INDEX job_number ON retrieval.job (tenant, number);

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

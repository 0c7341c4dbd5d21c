-- name: add_job
-- A request that is sent again with the same key finds the job that it made.
WITH known AS (INSERT INTO retrieval.job_tenant (name) VALUES (%(tenant)s) ON CONFLICT DO NOTHING)
INSERT INTO retrieval.job (tenant, kind, source, details, total, idempotency_key, request_sha256)
VALUES (%(tenant)s, %(kind)s, %(source)s, %(details)s, %(total)s, %(idempotency_key)s, %(request_sha256)s)
ON CONFLICT (tenant, idempotency_key) DO NOTHING
RETURNING id

-- name: add_document
INSERT INTO retrieval.job_document (tenant, job, ordinal, document_id, action, content)
VALUES (%(tenant)s, %(job)s, %(ordinal)s, %(document_id)s, %(action)s, %(content)s)

-- name: enqueue
SELECT retrieval.enqueue(%(tenant)s, %(job)s, %(queue)s, %(task)s)

-- name: dequeue
-- Taken out if nobody has fetched it yet, so that it does not hold up the tenant's other jobs.
SELECT retrieval_queue.procrastinate_cancel_job_v1(queued_as, false, true)
FROM retrieval.job WHERE tenant = %(tenant)s AND id = %(job)s AND queued_as IS NOT NULL

-- name: job
SELECT id, tenant, kind, source, details, state, stage, done, total, attempts, error, report, snapshot, created_at,
       started_at, finished_at
FROM retrieval.job WHERE tenant = %(tenant)s AND id = %(job)s

-- name: jobs
SELECT id, tenant, kind, source, details, state, stage, done, total, attempts, error, report, snapshot, created_at,
       started_at, finished_at
FROM retrieval.job WHERE tenant = %(tenant)s ORDER BY number DESC LIMIT %(limit)s

-- name: open_jobs
SELECT id, tenant, kind, source, details, state, stage, done, total, attempts, error, report, snapshot, created_at,
       started_at, finished_at
FROM retrieval.job WHERE tenant = %(tenant)s AND state IN ('queued', 'running', 'paused', 'failed')
ORDER BY number DESC LIMIT %(limit)s

-- name: job_of_key
SELECT id, request_sha256 FROM retrieval.job WHERE tenant = %(tenant)s AND idempotency_key = %(idempotency_key)s

-- name: move
-- The condition makes it one step: whoever comes too late changes nothing.
UPDATE retrieval.job SET state = %(state)s,
    failures = CASE WHEN %(state)s = 'queued' THEN 0 ELSE failures END,
    error = CASE WHEN %(state)s = 'queued' THEN NULL ELSE error END,
    queued_at = CASE WHEN %(state)s = 'queued' THEN now() ELSE queued_at END,
    finished_at = CASE WHEN %(state)s = 'cancelled' THEN now() ELSE NULL END
WHERE tenant = %(tenant)s AND id = %(job)s AND state = ANY (%(from)s) AND snapshot IS NULL
RETURNING id

-- name: drop_content
UPDATE retrieval.job_document SET content = NULL WHERE tenant = %(tenant)s AND job = %(job)s

-- name: claim
-- `running` is the job of a worker that died.
UPDATE retrieval.job SET state = 'running', attempts = attempts + 1, started_at = coalesce(started_at, now()),
    failures = failures + CASE WHEN state = 'running' THEN 1 ELSE 0 END
WHERE tenant = %(tenant)s AND id = %(job)s AND state IN ('queued', 'running')
RETURNING attempts, failures, kind, source, details, snapshot

-- name: documents
-- What a later job has written already is not written again by an earlier one that was paused or had failed.
SELECT d.document_id, d.action, d.content,
       EXISTS (SELECT FROM retrieval.job_document later
               JOIN retrieval.job l ON l.tenant = later.tenant AND l.id = later.job
               WHERE later.tenant = d.tenant AND later.document_id = d.document_id
                 AND l.source = j.source AND l.number > j.number AND l.state = 'done') AS superseded
FROM retrieval.job j
JOIN retrieval.job_document d ON d.tenant = j.tenant AND d.job = j.id
WHERE j.tenant = %(tenant)s AND j.id = %(job)s
ORDER BY d.ordinal

-- name: note_progress
UPDATE retrieval.job SET stage = %(stage)s, done = %(done)s, total = %(total)s
WHERE tenant = %(tenant)s AND id = %(job)s AND attempts = %(attempt)s AND state = 'running'
RETURNING id

-- name: still_held
SELECT id FROM retrieval.job
WHERE tenant = %(tenant)s AND id = %(job)s AND attempts = %(attempt)s AND state = 'running'

-- name: note_publish
UPDATE retrieval.job SET snapshot = %(snapshot)s, report = %(report)s::jsonb
WHERE tenant = %(tenant)s AND id = %(job)s AND attempts = %(attempt)s AND state = 'running'
RETURNING id

-- name: finish
UPDATE retrieval.job SET state = %(state)s, error = %(error)s::jsonb,
    report = coalesce(%(report)s::jsonb, report), finished_at = now(),
    stage = %(stage)s, done = %(done)s, total = %(total)s
WHERE tenant = %(tenant)s AND id = %(job)s AND attempts = %(attempt)s AND state = 'running'
RETURNING id

-- name: postpone
-- Left for another attempt.
UPDATE retrieval.job SET state = 'queued', error = %(error)s::jsonb, failures = failures + %(failed)s,
    queued_at = CASE WHEN %(failed)s = 1 AND failures > 0 THEN queued_at ELSE now() END
WHERE tenant = %(tenant)s AND id = %(job)s AND attempts = %(attempt)s AND state = 'running'
RETURNING failures

-- name: tenants
SELECT name FROM retrieval.job_tenant ORDER BY name

-- name: forget_old
DELETE FROM retrieval.job WHERE tenant = %(tenant)s AND finished_at < now() - make_interval(days => %(days)s)

-- name: take_over
-- Back to the queue with jobs whose worker gives no sign of life, or which their worker itself knows nothing of.
WITH stalled AS (
    SELECT job.id FROM retrieval_queue.procrastinate_jobs job
    LEFT JOIN retrieval_queue.procrastinate_workers worker ON worker.id = job.worker_id
    WHERE job.status = 'doing'
      AND (worker.id IS NULL OR worker.last_heartbeat < now() - make_interval(secs => %(stalled_s)s)
           OR job.id = ANY (%(strays)s))
    FOR UPDATE OF job SKIP LOCKED
)
SELECT stalled.id, retrieval_queue.procrastinate_retry_job_v2(stalled.id, now(), NULL, NULL, NULL) FROM stalled

-- name: waiting_copies
-- COPYs of a publish that wait for their client, and how far each is. `state_change` is when it began.
SELECT p.pid, a.state_change, p.bytes_processed
FROM pg_stat_progress_copy p
JOIN pg_stat_activity a ON a.pid = p.pid
WHERE a.datname = current_database() AND a.usename = session_user AND a.wait_event = 'ClientRead'
  AND a.query ~ '^COPY staged_(document|chunk|term) [(]'

-- name: end_copy
-- Unless it went on meanwhile, or has ended and another one has its process.
SELECT pg_terminate_backend(p.pid)
FROM pg_stat_progress_copy p
JOIN pg_stat_activity a ON a.pid = p.pid
WHERE p.pid = %(pid)s AND a.state_change = %(began_at)s AND p.bytes_processed = %(bytes_read)s

-- name: doing
SELECT id FROM retrieval_queue.procrastinate_jobs WHERE status = 'doing' AND worker_id = %(worker)s

-- name: queue_facts
SELECT kind, state, jobs, waits_since FROM retrieval.queue_facts(%(stalled_s)s)

-- name: workers
SELECT count(*) FROM retrieval_queue.procrastinate_workers
WHERE last_heartbeat > now() - make_interval(secs => %(stalled_s)s)

-- name: requeue_lost
-- Back to the queue with jobs that it knows nothing of.
SELECT retrieval.requeue_lost(%(queue)s, %(task)s)

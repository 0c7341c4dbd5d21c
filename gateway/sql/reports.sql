-- name: put_report: the same content again makes it the newest
INSERT INTO gateway.report (tenant, name, sha256, kind, content, page_type, page, written_by)
VALUES (%(tenant)s, %(name)s, %(sha256)s, %(kind)s, %(content)s::jsonb, %(page_type)s, %(page)s, %(written_by)s)
ON CONFLICT (tenant, name, sha256) DO UPDATE SET
    kind = EXCLUDED.kind, page_type = EXCLUDED.page_type, page = EXCLUDED.page,
    written_by = EXCLUDED.written_by, written_at = EXCLUDED.written_at
RETURNING name, kind, sha256, written_by, written_at, page_type;

-- name: reports: the newest content of each name, newest first
SELECT name, kind, sha256, written_by, written_at, page_type FROM (
    SELECT DISTINCT ON (name) name, kind, sha256, written_by, written_at, page_type
    FROM gateway.report ORDER BY name, written_at DESC
) newest
WHERE %(kind)s::text IS NULL OR kind = %(kind)s
ORDER BY written_at DESC, name LIMIT %(limit)s;

-- name: report
SELECT name, kind, sha256, written_by, written_at, content, page_type, page FROM gateway.report
WHERE name = %(name)s AND (%(sha256)s::text IS NULL OR sha256 = %(sha256)s)
ORDER BY written_at DESC LIMIT 1;

-- name: put_verdict
INSERT INTO gateway.verdict (rail, version, gate, verdict, report, sha256, given_by)
VALUES (%(rail)s, %(version)s, %(gate)s, %(verdict)s, %(report)s, %(sha256)s, %(given_by)s)
RETURNING version, gate, verdict, report, sha256, given_by, created_at;

-- name: verdicts: the newest of each version and gate
SELECT DISTINCT ON (version, gate) version, gate, verdict, report, sha256, given_by, created_at
FROM gateway.verdict WHERE rail = %(rail)s AND (%(version)s::text IS NULL OR version = %(version)s)
ORDER BY version, gate, id DESC;

-- name: put_forced_promotion
INSERT INTO gateway.forced_promotion (rail, version, gates, forced_by)
VALUES (%(rail)s, %(version)s, %(gates)s, %(forced_by)s);

-- name: forced_promotions: newest first
SELECT version, gates, forced_by, created_at FROM gateway.forced_promotion WHERE rail = %(rail)s ORDER BY id DESC;

-- name: lock
-- Held until the connection closes: two starters wait for each other instead of running a step twice.
SELECT pg_advisory_lock(7824651093)

-- name: unlock
SELECT pg_advisory_unlock(7824651093)

-- name: create_record
CREATE TABLE IF NOT EXISTS twinrail_migration (
    name text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)

-- name: applied
SELECT name, sha256 FROM twinrail_migration ORDER BY name

-- name: record
INSERT INTO twinrail_migration (name, sha256) VALUES (%(name)s, %(sha256)s)

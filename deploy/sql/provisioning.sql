-- name: role_exists
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %(role)s)

-- name: database_exists
SELECT EXISTS (SELECT FROM pg_database WHERE datname = %(database)s)

-- name: create_role
CREATE ROLE {role} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE PASSWORD {password}

-- name: alter_role
ALTER ROLE {role} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE PASSWORD {password}

-- name: create_database
CREATE DATABASE {database} OWNER {role} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'

-- name: create_vector
CREATE EXTENSION IF NOT EXISTS vector

-- name: leakproof_match
-- Row-level security keeps the planner from using a text index unless `@@` is known not to leak its arguments.
ALTER FUNCTION pg_catalog.ts_match_vq(tsvector, tsquery) LEAKPROOF

-- name: enter
-- Tenant and eyes of this transaction; row-level security reads both. A client that stands still, such as the worker of a
-- machine that was suspended, must not keep its locks: between two statements we compute for milliseconds only, except
-- where `allow_pauses` says otherwise.
SELECT set_config('retrieval.tenant', %(tenant)s, true), set_config('idle_in_transaction_session_timeout', '20s', true)

-- name: enter_with_all_principals
SELECT set_config('retrieval.principals',
                  (SELECT coalesce(array_agg(id), '{}')::text FROM retrieval.principal), true)

-- name: limit_statement
SELECT set_config('statement_timeout', %(timeout)s, true)

-- name: search
SELECT retrieval.search(%(tenant)s, %(principals)s::text[], %(version)s, %(embedding)s, %(lexemes)s::text[],
                        %(terms)s::int[], %(counts)s::int[], %(filter)s::jsonb, %(excluded)s::text[],
                        %(snapshot)s::int, %(moment)s::timestamptz, %(effective_on)s::date, %(k)s::int,
                        %(candidates)s::int, %(legs)s, %(exact)s)

-- name: declare_field
INSERT INTO retrieval.filter_field (tenant, name, kind) VALUES (%(tenant)s, %(name)s, %(kind)s)
ON CONFLICT (tenant, name) DO UPDATE SET kind = excluded.kind

-- name: tenants
SELECT name FROM retrieval.tenant ORDER BY name

-- name: fields
SELECT name, kind FROM retrieval.filter_field WHERE tenant = %(tenant)s ORDER BY name

-- name: match_is_leakproof
SELECT proleakproof FROM pg_proc WHERE oid = 'pg_catalog.ts_match_vq(tsvector, tsquery)'::regprocedure

-- name: text_spans
SELECT retrieval.text_spans(%(tenant)s, %(principals)s::text[], %(documents)s::text[], %(numbers)s::int[],
                            %(starts)s::int[], %(lengths)s::int[])

-- name: resolve
SELECT quote, live_number, live_since, erased_at
FROM retrieval.resolve(%(tenant)s, %(principals)s::text[], %(documents)s::text[], %(numbers)s::int[],
                       %(starts)s::int[], %(lengths)s::int[])

-- name: snapshot
SELECT coalesce((SELECT snapshot FROM retrieval.snapshot_head WHERE tenant = %(tenant)s), 0)

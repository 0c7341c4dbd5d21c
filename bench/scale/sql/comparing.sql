-- name: peer_is_filled
SELECT to_regclass('public.langchain_chunk') IS NOT NULL AND (SELECT facts ? 'peer' FROM bench.corpus)

-- name: fill_peer
-- What its own add_embeddings would have left, a row at a time: text, vector, English tsvector, tenant.
INSERT INTO langchain_chunk (langchain_id, content, embedding, content_tsv, tenant, langchain_metadata)
SELECT lpad(to_hex(id), 32, '0')::uuid, body, embedding::vector({dims}), to_tsvector('pg_catalog.english', body), tenant,
       metadata::json
FROM retrieval.{partition}

-- name: remember_peer
UPDATE bench.corpus SET facts = facts || jsonb_build_object('peer', %(seconds)s::jsonb)

-- name: peer_seconds
SELECT facts -> 'peer' FROM bench.corpus

-- name: analyze_peer
VACUUM (ANALYZE) langchain_chunk

-- name: prewarm_peer
SELECT pg_prewarm(i.indexrelid) FROM pg_index i WHERE i.indrelid = 'langchain_chunk'::regclass
UNION ALL SELECT pg_prewarm('langchain_chunk'::regclass)

-- name: sizes_peer
SELECT i.indexrelid::regclass::text, pg_relation_size(i.indexrelid)
FROM pg_index i WHERE i.indrelid = 'langchain_chunk'::regclass
UNION ALL SELECT 'rows', pg_table_size('langchain_chunk'::regclass)

-- name: plain
-- pgvector as its manual shows it, on our own rows: no row-level security, no second leg, no text of the document.
SELECT id, body FROM retrieval.{partition} WHERE tenant = %(tenant)s
ORDER BY (embedding::halfvec({dims})) <#> %(vector)s::halfvec({dims}) LIMIT %(k)s

-- name: default
-- pgvector as it is without further indexes or settings: the filter runs after the index scan.
SELECT langchain_id FROM langchain_chunk WHERE tenant = %(tenant)s
ORDER BY embedding <=> %(vector)s::vector({dims}) LIMIT %(k)s

-- name: iterative_settings
-- The best that pgvector's own settings give (reference/retrieval.md, 1): it goes on until enough rows pass the filter.
SELECT set_config('hnsw.iterative_scan', 'relaxed_order', false), set_config('hnsw.ef_search', '100', false)

-- name: iterative
-- On our own rows, whose table has a B-tree that begins with the tenant: the planner is free to choose. Relaxed order
-- wants to be sorted; `+ 0` as the manual says.
WITH nearest AS MATERIALIZED (
    SELECT id, (embedding::halfvec({dims})) <#> %(vector)s::halfvec({dims}) AS distance
    FROM retrieval.{partition} WHERE tenant = %(tenant)s
    ORDER BY (embedding::halfvec({dims})) <#> %(vector)s::halfvec({dims}) LIMIT %(k)s
)
SELECT id FROM nearest ORDER BY distance + 0

-- name: exact
-- The truth: all rows of the tenant, sorted. `+ 0` keeps every index out.
SELECT id FROM retrieval.{partition} WHERE tenant = %(tenant)s
ORDER BY ((embedding::halfvec({dims})) <#> %(vector)s::halfvec({dims})) + 0, id LIMIT %(k)s

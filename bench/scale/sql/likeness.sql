-- name: table
CREATE TEMP TABLE likeness (id int PRIMARY KEY, v halfvec(384) NOT NULL) ON COMMIT DROP

-- name: copy
COPY likeness (id, v) FROM STDIN

-- name: index
CREATE INDEX ON likeness USING hnsw (v halfvec_ip_ops)

-- name: search_list
SELECT set_config('hnsw.ef_search', %(ef_search)s, true), set_config('enable_seqscan', 'off', true)

-- name: nearest
SELECT id FROM likeness ORDER BY v <#> %(vector)s::halfvec(384) LIMIT %(k)s

-- name: watch
CREATE EXTENSION IF NOT EXISTS pg_stat_statements

-- name: reset
SELECT pg_stat_statements_reset()

-- name: slowest
-- Where the server's time went, of the statements that a publish sends.
SELECT left(regexp_replace(query, '\s+', ' ', 'g'), 90) AS statement, calls, total_exec_time AS ms
FROM pg_stat_statements WHERE query !~ '^(COMMIT|BEGIN|SELECT pg_stat)' AND toplevel
ORDER BY total_exec_time DESC LIMIT %(count)s

-- name: writes
-- Rows inserted, updated and deleted in tables of ours since the statistics began.
SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) FROM pg_stat_user_tables
WHERE schemaname IN ('retrieval', 'retrieval_queue')

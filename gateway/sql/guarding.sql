-- name: unguarded
-- Tables of tenants that are not guarded as the migrations made them, each with what is wrong. The conditions must be
-- exactly these: one that merely names the settings may let everything through.
WITH condition AS (
    SELECT $$(tenant = NULLIF(current_setting('gateway.tenant'::text, true), ''::text))$$ AS own,
           $$(digest = NULLIF(current_setting('gateway.key_digest'::text, true), ''::text))$$ AS held
), guarded AS (
    SELECT c.oid, c.relname, c.relrowsecurity AND c.relforcerowsecurity AS forced
    FROM pg_class c
    WHERE c.relnamespace = to_regnamespace('gateway') AND c.relkind IN ('r', 'p')
      AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant')
), policy AS (
    SELECT g.relname, p.polname,
           p.polpermissive
           AND (coalesce(pg_get_expr(p.polqual, p.polrelid), own) = own
                -- Who holds a key finds its row before the tenant is known.
                OR g.relname = 'api_key' AND p.polcmd = 'r' AND pg_get_expr(p.polqual, p.polrelid) = held)
           AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid), own) = own AS as_made
    FROM guarded g JOIN pg_policy p ON p.polrelid = g.oid, condition
)
SELECT relname AS "table", 'row-level security is not forced' AS problem FROM guarded WHERE NOT forced
UNION ALL
SELECT relname, 'no policy says which rows may be read' FROM guarded g
WHERE NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = g.oid AND p.polcmd IN ('r', '*'))
UNION ALL
SELECT relname, format('policy %s is not as the migrations make it', polname) FROM policy WHERE NOT as_made
ORDER BY 1, 2

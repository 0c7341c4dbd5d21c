-- name: bypassing_roles
-- This role, and every role that row-level security does not bind and that this login is or could become.
SELECT current_user, ARRAY(
    SELECT rolname FROM pg_roles
    WHERE (rolsuper OR rolbypassrls)
      AND (pg_has_role(session_user, oid, 'MEMBER') OR pg_has_role(current_user, oid, 'MEMBER'))
    ORDER BY rolname)

-- name: row_security
SELECT current_setting('row_security')::boolean

-- name: unguarded
-- Tables of tenants that are not guarded as the migrations made them, each with what is wrong. The conditions must be
-- exactly these: one that merely names the settings may let everything through.
WITH condition AS (
    SELECT $$(tenant = NULLIF(current_setting('retrieval.tenant'::text, true), ''::text))$$ AS own,
           $$((tenant = NULLIF(current_setting('retrieval.tenant'::text, true), ''::text)) AND $$
           || $$(acl && (NULLIF(current_setting('retrieval.principals'::text, true), ''::text))::integer[]))$$ AS readable
), guarded AS (
    SELECT c.oid, c.relname, c.relrowsecurity AND c.relforcerowsecurity AS forced,
           -- Partitions of chunks are closed to all and read through the parent, also while they are taken away.
           c.relispartition OR c.relname ~ '^chunk_\d+$' AS closed,
           EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'acl') AS has_readers
    FROM pg_class c
    WHERE c.relnamespace = to_regnamespace('retrieval') AND c.relkind IN ('r', 'p')
      AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant')
), policy AS (
    SELECT g.relname, p.polname, g.closed,
           p.polpermissive
           AND coalesce(pg_get_expr(p.polqual, p.polrelid), own)
               = CASE WHEN g.has_readers AND p.polcmd IN ('r', '*') THEN readable ELSE own END
           AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid), own) = own AS as_made
    FROM guarded g JOIN pg_policy p ON p.polrelid = g.oid, condition
)
SELECT relname, 'row-level security is not forced' FROM guarded WHERE NOT forced
UNION ALL
SELECT relname, 'no policy says which rows may be read' FROM guarded g
WHERE NOT closed AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = g.oid AND p.polcmd IN ('r', '*'))
UNION ALL
SELECT relname, format('policy %s is not as the migrations make it', polname) FROM policy WHERE closed OR NOT as_made
ORDER BY 1, 2

-- Whether an index version has no chunks of a release that a snapshot shows: a search there would miss documents.
-- For callers that act as the tenant, with all its principals.
CREATE FUNCTION retrieval.lacks_snapshot(p_number int, p_tenant text, p_snapshot int) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM retrieval.document_release r
        WHERE r.tenant = p_tenant AND r.born <= p_snapshot AND (r.died IS NULL OR r.died > p_snapshot)
          AND NOT EXISTS (SELECT FROM retrieval.chunk c WHERE c.index_number = p_number AND c.tenant = r.tenant
                          AND c.document_id = r.document_id AND c.document_version = r.document_version
                          AND c.born = r.born))
$$;

-- Everybody is asked for both snapshots, the live one and the one that an undo leads to. One is let off: who took a
-- publish back and shows no document since. It may never come again, and would keep every new version from taking
-- traffic; should it redo that publish, the redo is refused until an ingest has filled the version.
CREATE OR REPLACE FUNCTION retrieval.unfilled_tenants(p_version text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    v_number constant int := (SELECT number FROM retrieval.index_version WHERE id = p_version);
    v_tenant text;
    v_unfilled text[] := '{}';
BEGIN
    FOR v_tenant IN SELECT name FROM retrieval.tenant ORDER BY name LOOP
        PERFORM set_config('retrieval.tenant', v_tenant, true);
        PERFORM set_config('retrieval.principals',
                           (SELECT coalesce(array_agg(id), '{}')::text FROM retrieval.principal), true);
        -- A redo at this moment waits until the version is declared filled or not, and then sees which.
        PERFORM FROM retrieval.snapshot_head WHERE tenant = v_tenant FOR SHARE;
        IF EXISTS (
            SELECT FROM retrieval.snapshot_head h
            WHERE h.tenant = v_tenant
              AND (retrieval.lacks_snapshot(v_number, h.tenant, h.snapshot)
                   OR retrieval.lacks_snapshot(v_number, h.tenant, h.previous)
                   AND (h.previous < h.snapshot
                        OR EXISTS (SELECT FROM retrieval.document_release r WHERE r.tenant = h.tenant
                                   AND r.born <= h.snapshot AND (r.died IS NULL OR r.died > h.snapshot))))
        ) THEN
            v_unfilled := v_unfilled || v_tenant;
        END IF;
    END LOOP;
    PERFORM set_config('retrieval.tenant', '', true), set_config('retrieval.principals', '', true);
    RETURN v_unfilled;
END $$;

-- A tenant that shows no document now holds nobody up: one that took its only publish back and never came again would
-- keep every new index version from taking traffic. Should it redo that publish, its next ingest fills the version.
-- Everybody else is asked for both snapshots, the live one and the one that an undo leads to, so that an undo loses nothing.
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
        IF EXISTS (
            SELECT FROM retrieval.snapshot_head h
            JOIN retrieval.document_release r ON r.tenant = h.tenant
                AND r.born <= h.snapshot AND (r.died IS NULL OR r.died > h.snapshot)
            WHERE h.tenant = v_tenant
        ) AND EXISTS (
            SELECT FROM retrieval.snapshot_head h
            JOIN retrieval.document_release r ON r.tenant = h.tenant
                AND (r.born <= h.snapshot AND (r.died IS NULL OR r.died > h.snapshot)
                     OR r.born <= h.previous AND (r.died IS NULL OR r.died > h.previous))
            WHERE h.tenant = v_tenant
              AND NOT EXISTS (SELECT FROM retrieval.chunk c WHERE c.index_number = v_number AND c.tenant = r.tenant
                              AND c.document_id = r.document_id AND c.document_version = r.document_version
                              AND c.born = r.born)
        ) THEN
            v_unfilled := v_unfilled || v_tenant;
        END IF;
    END LOOP;
    PERFORM set_config('retrieval.tenant', '', true), set_config('retrieval.principals', '', true);
    RETURN v_unfilled;
END $$;

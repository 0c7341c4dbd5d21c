-- How fresh a source is: when it was last looked through, what was new in it, and how long that took to be found.
CREATE TABLE retrieval.source (
    tenant text NOT NULL CHECK (tenant <> ''),
    name text NOT NULL,
    -- Begin of the last look at the whole source that ended well, whether anything had changed or not. NULL: documents
    -- are only ever sent to it.
    checked_at timestamptz,
    -- Documents that this look could not take in.
    left_out int NOT NULL DEFAULT 0,
    published_at timestamptz,
    -- Newest change in the source that was seen.
    changed_at timestamptz,
    -- From change to searchable, of the slowest document of the last publish.
    lag_s double precision,
    -- How often it is meant to be looked through; NULL: no alarm.
    sync_every_s int CONSTRAINT source_sync_v1 CHECK (sync_every_s > 0),
    CONSTRAINT source_v1 PRIMARY KEY (tenant, name)
);
ALTER TABLE retrieval.source ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON retrieval.source
    USING (tenant = NULLIF(current_setting('retrieval.tenant', true), ''))
    WITH CHECK (tenant = NULLIF(current_setting('retrieval.tenant', true), ''));

-- For the metrics, which name no tenant: of each source that is looked through, the oldest look, and the earliest moment
-- by which another one is due. Takes each tenant's eyes in turn and leaves with nobody's.
CREATE FUNCTION retrieval.oldest_syncs(p_sources int)
    RETURNS TABLE (source text, checked_at timestamptz, due_at timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    v_tenant text;
    v_syncs jsonb := '[]';
BEGIN
    FOR v_tenant IN SELECT name FROM retrieval.tenant ORDER BY name LOOP
        PERFORM set_config('retrieval.tenant', v_tenant, true);
        v_syncs := v_syncs || coalesce((
            SELECT jsonb_agg(jsonb_build_object(
                'source', s.name, 'checked_at', s.checked_at,
                'due_at', s.checked_at + make_interval(secs => s.sync_every_s)))
            FROM retrieval.source s WHERE s.tenant = v_tenant AND s.checked_at IS NOT NULL), '[]');
    END LOOP;
    PERFORM set_config('retrieval.tenant', '', true);
    RETURN QUERY
        SELECT s.source, min(s.checked_at), min(s.due_at)
        FROM jsonb_to_recordset(v_syncs) AS s (source text, checked_at timestamptz, due_at timestamptz)
        GROUP BY 1 ORDER BY 3, 2 LIMIT p_sources;
END $$;

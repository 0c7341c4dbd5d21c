-- Erasure for good: what remains of a purged document is a tombstone, from which nothing can be read back.

-- Digests are salted, each tenant's with its own: a tombstone can be asked about a name or a text that one has, and
-- says nothing to who tries out names.
ALTER TABLE retrieval.tenant ADD COLUMN salt uuid NOT NULL DEFAULT gen_random_uuid();

CREATE FUNCTION retrieval.digest(p_tenant text, p_text text) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT sha256(uuid_send(salt) || convert_to(p_text, 'UTF8')) FROM retrieval.tenant WHERE name = p_tenant
$$;

CREATE TABLE retrieval.tombstone (
    tenant text NOT NULL,
    -- Digest of the document's id.
    document bytea NOT NULL,
    -- Version numbers up to this one are never given again: a citation of them can only ever mean what was erased.
    last_version int NOT NULL,
    -- Digests of all its texts, by which a copy under another name is known.
    texts bytea[] NOT NULL,
    purged_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    purged_by text NOT NULL,
    CONSTRAINT tombstone_v1 PRIMARY KEY (tenant, document, last_version)
);
ALTER TABLE retrieval.tombstone ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON retrieval.tombstone
    USING (tenant = NULLIF(current_setting('retrieval.tenant', true), ''))
    WITH CHECK (tenant = NULLIF(current_setting('retrieval.tenant', true), ''));

-- What citations point at, in one round trip: the characters, which version is live now and since when, and when the
-- document was erased if it was. Runs as the caller: what these eyes do not see is all NULL, as if it never was.
CREATE FUNCTION retrieval.resolve(
    p_tenant text, p_principals text[], p_documents text[], p_numbers int[], p_starts int[], p_lengths int[]
) RETURNS TABLE (quote text, live_number int, live_since timestamptz, erased_at timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    v_head int;
BEGIN
    PERFORM set_config('retrieval.tenant', p_tenant, true);
    PERFORM set_config('retrieval.principals', retrieval.principal_ids(p_tenant, p_principals), true);
    SELECT h.snapshot INTO v_head FROM retrieval.snapshot_head h WHERE h.tenant = p_tenant;
    RETURN QUERY
        SELECT substr(version.body, asked.start + 1, asked.length), release.document_version, snapshot.created_at,
               tombstone.purged_at
        FROM unnest(p_documents, p_numbers, p_starts, p_lengths)
             WITH ORDINALITY AS asked (document_id, number, start, length, place)
        LEFT JOIN retrieval.document_version AS version
               ON version.tenant = p_tenant AND version.document_id = asked.document_id
              AND version.number = asked.number
        -- Through the version, so that a release is told to those only who may read the document.
        LEFT JOIN retrieval.document_release AS release
               ON release.tenant = version.tenant AND release.document_id = version.document_id
              AND release.born <= v_head AND (release.died IS NULL OR release.died > v_head)
        LEFT JOIN retrieval.snapshot AS snapshot
               ON snapshot.tenant = release.tenant AND snapshot.number = release.born
        LEFT JOIN LATERAL (
            SELECT t.purged_at FROM retrieval.tombstone t
            WHERE version.body IS NULL AND t.tenant = p_tenant
              AND t.document = retrieval.digest(p_tenant, asked.document_id) AND t.last_version >= asked.number
            ORDER BY t.last_version LIMIT 1
        ) AS tombstone ON true
        ORDER BY asked.place;
END $$;

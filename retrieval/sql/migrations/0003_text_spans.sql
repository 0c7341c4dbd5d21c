-- The characters that citations point at, in one statement and so in one round trip; NULL where these eyes see none.
-- Runs as the caller: row-level security decides with the permissions of this moment.

CREATE FUNCTION retrieval.text_spans(
    p_tenant text, p_principals text[], p_documents text[], p_numbers int[], p_starts int[], p_lengths int[]
) RETURNS text[] LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('retrieval.tenant', p_tenant, true);
    PERFORM set_config('retrieval.principals', retrieval.principal_ids(p_tenant, p_principals), true);
    RETURN ARRAY(
        SELECT substr(version.body, asked.start + 1, asked.length)
        FROM unnest(p_documents, p_numbers, p_starts, p_lengths)
             WITH ORDINALITY AS asked (document_id, number, start, length, place)
        LEFT JOIN retrieval.document_version AS version
               ON version.tenant = p_tenant AND version.document_id = asked.document_id
              AND version.number = asked.number
        ORDER BY asked.place
    );
END $$;

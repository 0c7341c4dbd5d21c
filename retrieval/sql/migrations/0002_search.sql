-- One search in one round trip: both legs, exact scores of both for every candidate, and the facts of how.
-- Runs as the caller, so row-level security decides what exists; the statements are built for one partition.

CREATE FUNCTION retrieval.search(
    p_tenant text, p_principals text[], p_version text,
    p_embedding text, p_lexemes text[], p_terms int[], p_counts int[],
    p_filters jsonb, p_snapshot int, p_moment timestamptz, p_effective_on date, p_k int, p_candidates int,
    -- 'both', or one leg alone (for comparisons): then only its candidates and its score count.
    p_legs text
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_version retrieval.index_version;
    v_snapshot int;
    v_newest int;
    v_earliest int;
    v_day date := coalesce(p_effective_on, (coalesce(p_moment, now()) AT TIME ZONE 'UTC')::date);
    v_unknown text;
    v_from text;
    v_distance text;
    v_query halfvec := p_embedding::halfvec;
    v_chunks int;
    v_match tsquery;
    v_weights sparsevec;
    v_dense bigint[] := '{}';
    v_lexical bigint[] := '{}';
    v_mode text := p_legs;
    v_weight double precision;
    v_mass double precision;
    v_unit double precision;
    v_result jsonb;
BEGIN
    PERFORM set_config('retrieval.tenant', p_tenant, true);
    PERFORM set_config('retrieval.principals', retrieval.principal_ids(p_tenant, p_principals), true);
    PERFORM set_config('hnsw.iterative_scan', 'relaxed_order', true);
    PERFORM set_config('hnsw.ef_search', greatest(100, 2 * p_candidates)::text, true);

    SELECT * INTO v_version FROM retrieval.index_version WHERE id = p_version;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'TWR01', MESSAGE = format('version: no index version %s', p_version);
    END IF;
    IF vector_dims(v_query) <> v_version.dims THEN
        RAISE EXCEPTION USING ERRCODE = 'TWR04', MESSAGE =
            format('embedding has %s dimensions, index version %s has %s', vector_dims(v_query), p_version, v_version.dims);
    END IF;
    SELECT snapshot INTO v_snapshot FROM retrieval.snapshot_head WHERE tenant = p_tenant;
    v_snapshot := coalesce(v_snapshot, 0);
    IF p_snapshot IS NOT NULL THEN
        SELECT coalesce(max(number), 0) INTO v_newest FROM retrieval.snapshot WHERE tenant = p_tenant;
        IF p_snapshot > v_newest OR p_snapshot < 0 THEN
            RAISE EXCEPTION USING ERRCODE = 'TWR02', MESSAGE =
                format('as_of: snapshot %s does not exist; the newest is %s', p_snapshot, v_newest);
        END IF;
        v_snapshot := p_snapshot;
    ELSIF p_moment IS NOT NULL THEN
        SELECT snapshot INTO v_snapshot FROM retrieval.head_move
            WHERE tenant = p_tenant AND moved_at <= p_moment ORDER BY moved_seq DESC LIMIT 1;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'TWR02', MESSAGE = format(
                'as_of: nothing was published by %s; the first snapshot is of %s', p_moment,
                coalesce((SELECT min(moved_at)::text FROM retrieval.head_move WHERE tenant = p_tenant), 'no time yet'));
        END IF;
    END IF;
    SELECT earliest INTO v_earliest FROM retrieval.index_coverage
        WHERE index_number = v_version.number AND tenant = p_tenant;
    IF v_snapshot < coalesce(v_earliest, 0) THEN
        RAISE EXCEPTION USING ERRCODE = 'TWR02', MESSAGE = format(
            'as_of: index version %s was built from snapshot %s on, and snapshot %s is earlier; '
            'ask an older version, or build one with --since %s', p_version, v_earliest, v_snapshot, v_snapshot);
    END IF;
    SELECT string_agg(key, ', ' ORDER BY key) INTO v_unknown FROM jsonb_object_keys(p_filters) AS key
        WHERE key NOT IN (SELECT name FROM retrieval.filter_field WHERE tenant = p_tenant);
    IF v_unknown IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'TWR03', MESSAGE = format('filters: no field %s; known fields: %s', v_unknown,
            coalesce((SELECT string_agg(name, ', ' ORDER BY name) FROM retrieval.filter_field WHERE tenant = p_tenant), 'none'));
    END IF;

    -- The rows that this search may see, as text for the statements below.
    v_from := format(
        'retrieval.chunk c WHERE c.index_number = %s AND c.born <= %s AND (c.died IS NULL OR c.died > %s)'
        ' AND (c.effective_from IS NULL OR c.effective_from <= %L) AND (c.effective_to IS NULL OR c.effective_to >= %L)',
        v_version.number, v_snapshot, v_snapshot, v_day, v_day);
    SELECT v_from || coalesce(string_agg(format(' AND c.metadata ->> %L = ANY (%L)', key,
            ARRAY(SELECT jsonb_array_elements_text(value))), '' ORDER BY key), '')
        INTO v_from FROM jsonb_each(p_filters);
    v_distance := format('((c.embedding::halfvec(%s)) <#> $1)', v_version.dims);

    -- Weight of each query term: inverse document frequency; a term seen nowhere weighs most and matches nothing.
    SELECT coalesce((SELECT chunks FROM retrieval.chunk_stats WHERE tenant = p_tenant AND index_number = v_version.number), 0)
        INTO v_chunks;
    WITH term AS (
        SELECT q.lexeme, q.term, q.count, least(coalesce(s.df, 0), v_chunks) AS df
        FROM unnest(p_lexemes, p_terms, p_counts) AS q (lexeme, term, count)
        LEFT JOIN retrieval.term_stats s
            ON s.index_number = v_version.number AND s.tenant = p_tenant AND s.lexeme = q.lexeme
    ), weighed AS (
        SELECT *, count * ln(1 + (v_chunks - df + 0.5) / (df + 0.5)) AS weight,
               -- Words of more than one chunk in twenty find nothing that the others miss, and cost most of the time.
               df > greatest(v_chunks / 20.0, 500) AS common,
               row_number() OVER (ORDER BY df, lexeme) AS rarity
        FROM term
    ), pruned AS (
        SELECT * FROM weighed WHERE NOT common OR rarity = 1
    )
    SELECT (SELECT string_agg('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''', ' | ') FROM pruned)::tsquery,
           (SELECT '{' || coalesce(string_agg(term || ':' || weight, ',' ORDER BY term), '') || '}/1000000000'
              FROM (SELECT term, max(weight)::real AS weight FROM weighed GROUP BY term) AS unique_term)::sparsevec,
           (SELECT coalesce(sum(weight), 0) FROM weighed)
        INTO v_match, v_weights, v_mass;
    -- BM25 of the whole question times that of one word seen nowhere else. Never zero, since it divides.
    v_unit := greatest(v_mass * ln(1 + (v_chunks + 0.5) / 0.5), 1e-6);

    IF p_legs IN ('both', 'dense') THEN
        EXECUTE format('SELECT coalesce(array_agg(id), ''{}'') FROM (SELECT c.id FROM %s ORDER BY %s LIMIT $2) AS leg',
                       v_from, v_distance) INTO v_dense USING v_query, p_candidates;
    END IF;
    IF p_legs IN ('both', 'lexical') AND v_match IS NOT NULL THEN
        EXECUTE format('SELECT coalesce(array_agg(id), ''{}'') FROM (SELECT c.id FROM %s AND c.tsv @@ $1'
                       ' ORDER BY c.bm <#> $2, c.id LIMIT $3) AS leg', v_from)
            INTO v_lexical USING v_match, v_weights, p_candidates;
    END IF;
    IF p_legs IN ('both', 'dense') AND cardinality(v_dense) < p_k THEN
        -- The approximate index stops early under narrow filters. `+ 0` cannot be read from it: this scan is exact.
        EXECUTE format('SELECT coalesce(array_agg(id), ''{}'') FROM (SELECT c.id FROM %s ORDER BY %s + 0, c.id LIMIT $2) AS leg',
                       v_from, v_distance) INTO v_dense USING v_query, p_candidates;
        v_mode := v_mode || '+exact';
    END IF;

    v_weight := CASE p_legs WHEN 'dense' THEN 1 WHEN 'lexical' THEN 0 ELSE v_version.dense_weight END;
    EXECUTE format($q$
        WITH candidate AS (
            SELECT c.*, -%1$s AS dense, greatest(-(c.bm <#> $2), 0) AS lexical
            FROM retrieval.chunk c WHERE c.index_number = %2$s AND c.id = ANY ($3)
        ), bounds AS (
            SELECT count(*) AS candidates, min(dense) AS dense_min, max(dense) AS dense_max FROM candidate
        ), ranked AS (
            SELECT candidate.*,
                   -- Cosines of embedders differ in scale, so they count by their place between this search's worst and best.
                   $4 * CASE WHEN dense_max > dense_min THEN (dense - dense_min) / (dense_max - dense_min) ELSE 1 END
                   -- How many rare words a chunk matched, times the share of the question that it matched. Absolute on
                   -- purpose: a chunk that holds the question's own words outweighs any cosine, a few common words
                   -- weigh next to nothing.
                   + (1 - $4) * lexical * lexical / $7 AS fused
            FROM candidate, bounds
            ORDER BY fused DESC, dense DESC, id LIMIT $5
        )
        -- The fused score has no upper bound; what callers see stays below 1, in the same order.
        SELECT jsonb_build_object(
            'candidates', (SELECT candidates FROM bounds), 'top_dense', (SELECT dense_max FROM bounds),
            'lexical_unit', $7::double precision,
            'hits', coalesce((SELECT jsonb_agg(jsonb_build_object(
                'chunk_id', r.id, 'document_id', r.document_id, 'document_version', r.document_version,
                'title', d.title, 'url', d.url, 'heading_path', r.heading_path, 'text', r.body,
                'start', r.char_start, 'end', r.char_end, 'score', r.fused / (1 + r.fused), 'dense_score', r.dense,
                'lexical_score', r.lexical, 'effective_from', r.effective_from, 'effective_to', r.effective_to,
                'metadata', r.metadata) ORDER BY r.fused DESC, r.dense DESC, r.id)
                FROM ranked r JOIN retrieval.document_version d
                ON d.tenant = $6 AND d.document_id = r.document_id AND d.number = r.document_version), '[]'))
        $q$, v_distance, v_version.number)
        INTO v_result USING v_query, v_weights, v_dense || v_lexical, v_weight, p_k, p_tenant, v_unit;
    RETURN (v_result || jsonb_build_object('snapshot', v_snapshot, 'mode', v_mode,
                                           'underfilled', jsonb_array_length(v_result -> 'hits') < p_k))::text;
END $$;

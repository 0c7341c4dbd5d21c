-- One search in one round trip: both legs, exact scores of both for every candidate, and the facts of how.
-- Runs as the caller, so row-level security decides what exists; the statements are built for one partition.

-- The snapshot to read: the one asked for, what was live at a moment, or what is live now. Refuses what the index
-- version does not hold.
CREATE FUNCTION retrieval.snapshot_to_read(
    p_tenant text, p_version retrieval.index_version, p_snapshot int, p_moment timestamptz
) RETURNS int LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_snapshot int;
    v_newest int;
    v_earliest int;
BEGIN
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
    ELSE
        SELECT snapshot INTO v_snapshot FROM retrieval.snapshot_head WHERE tenant = p_tenant;
        v_snapshot := coalesce(v_snapshot, 0);
    END IF;
    SELECT earliest INTO v_earliest FROM retrieval.index_coverage
        WHERE index_number = p_version.number AND tenant = p_tenant;
    IF v_snapshot < coalesce(v_earliest, 0) THEN
        RAISE EXCEPTION USING ERRCODE = 'TWR02', MESSAGE = format(
            'as_of: index version %s was built from snapshot %s on, and snapshot %s is earlier; '
            'ask an older version, or build one with --since %s', p_version.id, v_earliest, v_snapshot, v_snapshot);
    END IF;
    RETURN v_snapshot;
END $$;

-- A filter (retrieval/filters.py) as a condition on `retrieval.chunk c`. Whether fields exist and values are of their
-- kind is decided here, and %L is the only way into the text. A comparison with a field that a chunk lacks is unknown,
-- so not true; `$not` holds for all that its part does not hold for.
CREATE FUNCTION retrieval.filter_condition(p_node jsonb, p_kinds jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    day constant text := '^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])($|[T ])';
    v_field constant text := p_node ->> 'field';
    v_op constant text := p_node ->> 'op';
    v_kind constant text := CASE v_field WHEN 'document_id' THEN 'text' ELSE p_kinds ->> v_field END;
    v_parts text;
    v_bad jsonb;
    v_values text[];
    v_type text;
    v_own text;
BEGIN
    IF p_node ?| '{and,or}' THEN
        SELECT string_agg(retrieval.filter_condition(part, p_kinds), CASE WHEN p_node ? 'and' THEN ' AND ' ELSE ' OR ' END)
            INTO v_parts FROM jsonb_array_elements(coalesce(p_node -> 'and', p_node -> 'or')) AS part;
        RETURN '(' || v_parts || ')';
    ELSIF p_node ? 'not' THEN
        RETURN '(' || retrieval.filter_condition(p_node -> 'not', p_kinds) || ') IS NOT TRUE';
    END IF;
    IF v_kind IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'TWR03', MESSAGE = format('filters: no field %s; known fields: %s', v_field,
            coalesce((SELECT string_agg(name, ', ' ORDER BY name) FROM jsonb_object_keys(p_kinds) AS name), 'none'));
    END IF;
    IF v_op IN ('$like', '$ilike') AND v_kind <> 'text' OR v_op IN ('$lt', '$lte', '$gt', '$gte', '$between')
            AND v_kind IN ('boolean', 'list') THEN
        RAISE EXCEPTION USING ERRCODE = 'TWR03', MESSAGE = format(
            'filters: %s: %s does not apply to a %s; a %s takes $eq $ne $in $nin $exists%s', v_field, v_op, v_kind, v_kind,
            CASE WHEN v_kind IN ('number', 'date') THEN ' $lt $lte $gt $gte $between' ELSE '' END);
    END IF;
    SELECT value INTO v_bad FROM jsonb_array_elements(p_node -> 'values') AS value
        WHERE v_op <> '$exists' AND NOT CASE v_kind
            WHEN 'number' THEN jsonb_typeof(value) = 'number' WHEN 'boolean' THEN jsonb_typeof(value) = 'boolean'
            WHEN 'date' THEN jsonb_typeof(value) = 'string' AND value #>> '{}' ~ day ELSE jsonb_typeof(value) = 'string' END
        LIMIT 1;
    IF v_bad IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'TWR03', MESSAGE = format('filters: %s: %s: %s, got %s', v_field, v_op,
            CASE v_kind WHEN 'number' THEN 'its values are numbers' WHEN 'boolean' THEN 'its values are true or false'
                        WHEN 'date' THEN 'its values are days such as 2026-01-31'
                        WHEN 'list' THEN 'it is a list of texts; give a text that it holds'
                        ELSE 'its values must be strings' END, left(v_bad::text, 50));
    END IF;
    IF v_op = '$exists' THEN
        RETURN CASE WHEN v_field = 'document_id' THEN (p_node #>> '{values,0}')
                    WHEN (p_node #> '{values,0}')::boolean THEN format('c.metadata ? %L', v_field)
                    ELSE format('NOT c.metadata ? %L', v_field) END;
    END IF;
    v_values := ARRAY(SELECT CASE v_kind WHEN 'date' THEN left(value, 10) ELSE value END
                      FROM jsonb_array_elements_text(p_node -> 'values') WITH ORDINALITY AS given (value, place)
                      ORDER BY place);
    IF v_kind = 'list' THEN
        RETURN format(CASE WHEN v_op IN ('$eq', '$in') THEN '(c.metadata -> %L) ?| %L'
                           ELSE 'NOT (c.metadata -> %L) ?| %L' END, v_field, v_values);
    END IF;
    v_type := CASE v_kind WHEN 'number' THEN 'numeric' ELSE 'text' END;
    v_own := CASE
        WHEN v_field = 'document_id' THEN 'c.document_id COLLATE "C"'
        WHEN v_kind = 'text' THEN format('(c.metadata ->> %L) COLLATE "C"', v_field)
        WHEN v_kind = 'boolean' THEN format('(c.metadata -> %L)::text', v_field)
        WHEN v_kind = 'number' THEN
            format('CASE WHEN jsonb_typeof(c.metadata -> %1$L) = ''number'' THEN (c.metadata ->> %1$L)::numeric END', v_field)
        ELSE format('CASE WHEN c.metadata ->> %1$L ~ %2$L THEN left(c.metadata ->> %1$L, 10) COLLATE "C" END', v_field, day)
        END;
    RETURN CASE
        WHEN v_op IN ('$eq', '$in') THEN format('%s = ANY (%L::%s[])', v_own, v_values, v_type)
        WHEN v_op IN ('$ne', '$nin') THEN format('%s <> ALL (%L::%s[])', v_own, v_values, v_type)
        WHEN v_op = '$between' THEN
            format('%s BETWEEN %L::%s AND %L::%s', v_own, v_values[1], v_type, v_values[2], v_type)
        ELSE format('%s %s %L::%s', v_own, CASE v_op WHEN '$lt' THEN '<' WHEN '$lte' THEN '<=' WHEN '$gt' THEN '>'
                    WHEN '$gte' THEN '>=' WHEN '$like' THEN 'LIKE' ELSE 'ILIKE' END, v_values[1], v_type)
        END;
END $$;

-- A query for the ids of all documents that the filter can hold for, and maybe some more; NULL where `filter_value`
-- cannot tell. For a filter that `filter_condition` has let pass.
CREATE FUNCTION retrieval.filter_documents(p_node jsonb, p_kinds jsonb, p_tenant text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_op constant text := p_node ->> 'op';
    v_kind constant text := p_kinds ->> (p_node ->> 'field');
    v_parts text[];
    v_values text[];
    v_low text;
    v_high text;
    v_condition text;
BEGIN
    IF p_node ?| '{and,or}' THEN
        SELECT array_agg(retrieval.filter_documents(part, p_kinds, p_tenant)) INTO v_parts
            FROM jsonb_array_elements(coalesce(p_node -> 'and', p_node -> 'or')) AS part;
        IF p_node ? 'or' THEN
            RETURN CASE WHEN array_position(v_parts, NULL) IS NULL THEN '(' || array_to_string(v_parts, ' UNION ALL ') || ')' END;
        END IF;
        RETURN '(' || nullif(array_to_string(v_parts, ' INTERSECT '), '') || ')';
    ELSIF p_node ? 'not' OR v_op IN ('$ne', '$nin', '$exists', '$like', '$ilike') THEN
        RETURN NULL;
    END IF;
    -- A day is the start of a time, a long text is cut: both orders stay as they are.
    v_values := ARRAY(SELECT left(value, CASE v_kind WHEN 'date' THEN 10 ELSE 200 END)
                      FROM jsonb_array_elements_text(p_node -> 'values') WITH ORDINALITY AS given (value, place)
                      ORDER BY place);
    IF p_node ->> 'field' = 'document_id' THEN
        RETURN CASE WHEN v_op IN ('$eq', '$in') THEN format('SELECT unnest(%L::text[]) AS document_id', v_values) END;
    END IF;
    IF v_op IN ('$eq', '$in') AND v_kind <> 'date' THEN
        v_condition := format(CASE v_kind WHEN 'number' THEN 'number_value = ANY (%L::double precision[])'
                                          ELSE 'text_value = ANY (%L::text[])' END, v_values);
    ELSE
        v_low := CASE WHEN v_op IN ('$gt', '$gte', '$between') THEN v_values[1] WHEN v_op IN ('$eq', '$in') THEN
            (SELECT min(value COLLATE "C") FROM unnest(v_values) AS value) END;
        v_high := CASE WHEN v_op IN ('$lt', '$lte') THEN v_values[1] WHEN v_op = '$between' THEN v_values[2]
            WHEN v_op IN ('$eq', '$in') THEN (SELECT max(value COLLATE "C") FROM unnest(v_values) AS value) END
            || CASE v_kind WHEN 'date' THEN '~' ELSE '' END;
        -- An open end is no condition.
        v_condition := concat_ws(' AND ',
            CASE WHEN v_low IS NOT NULL THEN
                format(CASE v_kind WHEN 'number' THEN 'number_value >= %L::double precision' ELSE 'text_value >= %L' END, v_low) END,
            CASE WHEN v_high IS NOT NULL THEN
                format(CASE v_kind WHEN 'number' THEN 'number_value <= %L::double precision' ELSE 'text_value <= %L' END, v_high) END);
    END IF;
    RETURN format('SELECT document_id FROM retrieval.filter_value WHERE tenant = %L AND field = %L AND %s',
                  p_tenant, p_node ->> 'field', v_condition);
END $$;

-- What to look up in the text index: words, the rarest first, until so many chunks are to be read; then pairs of the
-- commoner words, which say more than each alone and are seldom together. NULL where nothing is worth it.
CREATE FUNCTION retrieval.words_to_match(p_lexemes text[], p_counts int[], p_chunks int, p_rows int)
    RETURNS TABLE (match tsquery, is_whole boolean) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_found text[] := '{}';
    v_common text[] := '{}';
    v_commoner double precision[] := '{}';
    v_rows double precision := 0;
    v_together double precision;
    v_word text;
BEGIN
    FOR place IN 1 .. cardinality(p_lexemes) LOOP
        CONTINUE WHEN p_counts[place] = 0;
        v_word := '''' || replace(replace(p_lexemes[place], '\', '\\'), '''', '''''') || '''';
        IF v_rows + p_counts[place] <= p_rows AND cardinality(v_found) < 40 THEN
            v_found := v_found || v_word;
            v_rows := v_rows + p_counts[place];
        ELSE
            v_common := v_common || v_word;
            v_commoner := v_commoner || p_counts[place]::double precision;
            EXIT WHEN cardinality(v_common) = 6;
        END IF;
    END LOOP;
    FOR one IN 1 .. cardinality(v_common) - 1 LOOP
        FOR other IN one + 1 .. cardinality(v_common) LOOP
            -- Words of one question stand together more often than chance has it.
            v_together := 3 * v_commoner[one] * v_commoner[other] / greatest(p_chunks, 1);
            IF v_rows + v_together <= p_rows THEN
                v_found := v_found || format('(%s & %s)', v_common[one], v_common[other]);
                v_rows := v_rows + v_together;
            END IF;
        END LOOP;
    END LOOP;
    IF cardinality(v_found) = 0 AND cardinality(v_common) > 1 THEN
        v_found := ARRAY[array_to_string(v_common, ' & ')];
    END IF;
    match := nullif(array_to_string(v_found, ' | '), '')::tsquery;
    is_whole := cardinality(v_common) = 0;
    RETURN NEXT;
END $$;

CREATE FUNCTION retrieval.search(
    p_tenant text, p_principals text[], p_version text,
    p_embedding text, p_lexemes text[], p_terms int[], p_counts int[],
    p_filter jsonb, p_excluded text[], p_snapshot int, p_moment timestamptz, p_effective_on date,
    p_k int, p_candidates int,
    -- 'both', or one leg alone (for comparisons): then only its candidates and its score count.
    p_legs text,
    -- Compare with every chunk, whatever it costs: what the vector index is measured against.
    p_exact boolean
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    -- Chunks that the lexical leg reads at most, about: each costs some microseconds.
    word_rows constant int := 1500;
    both_exact_chunks constant int := 2500;
    v_version retrieval.index_version;
    v_snapshot int;
    v_day date := coalesce(p_effective_on, (coalesce(p_moment, now()) AT TIME ZONE 'UTC')::date);
    v_kinds jsonb;
    v_from text;
    v_few text;
    v_distance text;
    v_query halfvec := p_embedding::halfvec;
    v_chunks int;
    v_rows int;
    v_all_chunks double precision;
    v_few_chunks double precision;
    v_is_few boolean;
    v_part jsonb;
    v_documents text;
    v_ids text[];
    v_lexemes text[];
    v_frequencies int[];
    v_match tsquery;
    v_is_whole boolean;
    v_weights sparsevec;
    v_dense bigint[] := '{}';
    v_lexical bigint[] := '{}';
    v_dense_plan text := 'none';
    v_lexical_plan text := 'none';
    v_weight double precision;
    v_mass double precision;
    v_unit double precision;
    v_result jsonb;
BEGIN
    PERFORM set_config('retrieval.tenant', p_tenant, true);
    PERFORM set_config('retrieval.principals', retrieval.principal_ids(p_tenant, p_principals), true);
    PERFORM set_config('jit', 'off', true), set_config('hnsw.iterative_scan', 'relaxed_order', true);

    SELECT * INTO v_version FROM retrieval.index_version WHERE id = p_version;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'TWR01', MESSAGE = format('version: no index version %s', p_version);
    END IF;
    IF v_version.state = 'retired' THEN
        RAISE EXCEPTION USING ERRCODE = 'TWR05', MESSAGE =
            format('version: %s is retired and its chunks are gone; `twinrail knowledge build %s` builds it again', p_version, p_version);
    END IF;
    IF v_version.state = 'building' THEN
        RAISE EXCEPTION USING ERRCODE = 'TWR06', MESSAGE =
            format('version: %s is not built to its end; go on with `twinrail knowledge build %s`', p_version, p_version);
    END IF;
    IF vector_dims(v_query) <> v_version.dims THEN
        RAISE EXCEPTION USING ERRCODE = 'TWR04', MESSAGE =
            format('embedding has %s dimensions, index version %s has %s', vector_dims(v_query), p_version, v_version.dims);
    END IF;
    v_snapshot := retrieval.snapshot_to_read(p_tenant, v_version, p_snapshot, p_moment);

    -- The rows that this search may see, as text for the statements below.
    v_from := format(
        'retrieval.chunk c WHERE c.index_number = %s AND c.born <= %s AND (c.died IS NULL OR c.died > %s)'
        ' AND (c.effective_from IS NULL OR c.effective_from <= %L) AND (c.effective_to IS NULL OR c.effective_to >= %L)',
        v_version.number, v_snapshot, v_snapshot, v_day, v_day);
    IF cardinality(p_excluded) > 0 THEN
        v_from := v_from || format(' AND c.document_id <> ALL (%L)', p_excluded);
    END IF;
    IF p_filter IS NOT NULL THEN
        SELECT coalesce(jsonb_object_agg(name, kind), '{}') INTO v_kinds FROM retrieval.filter_field WHERE tenant = p_tenant;
        v_from := v_from || ' AND ' || retrieval.filter_condition(p_filter, v_kinds);
    END IF;
    v_distance := format('((c.embedding::halfvec(%s)) <#> $1)', v_version.dims);

    -- Weight of each query term: inverse document frequency; a term seen nowhere weighs most and matches nothing.
    -- What is dead counts wherever not the newest snapshot is read (an earlier one, or the head after an undo): a word may
    -- be alive there that is nowhere now. All in one statement, so that no publish comes between.
    WITH newest AS (
        SELECT coalesce(s.chunks, 0) AS chunks, coalesce(s.dead, 0) AS dead,
               EXISTS (SELECT FROM retrieval.snapshot n WHERE n.tenant = p_tenant AND n.number > v_snapshot)::int AS is_older
        FROM (SELECT) AS one LEFT JOIN retrieval.chunk_stats s ON s.tenant = p_tenant AND s.index_number = v_version.number
    ), counted AS (
        SELECT chunks + is_older * dead AS chunks, chunks + dead AS rows, is_older FROM newest
    ), term AS (
        SELECT q.lexeme, q.term, q.count, c.chunks, least(coalesce(s.df + c.is_older * s.dead, 0), c.chunks) AS df
        FROM counted c, unnest(p_lexemes, p_terms, p_counts) AS q (lexeme, term, count)
        LEFT JOIN retrieval.term_stats s
            ON s.index_number = v_version.number AND s.tenant = p_tenant AND s.lexeme = q.lexeme
    ), weighed AS (
        SELECT *, count * ln(1 + (chunks - df + 0.5) / (df + 0.5)) AS weight FROM term
    )
    SELECT (SELECT '{' || coalesce(string_agg(term || ':' || weight, ',' ORDER BY term), '') || '}/1000000000'
              FROM (SELECT term, max(weight)::real AS weight FROM weighed GROUP BY term) AS unique_term)::sparsevec,
           coalesce(sum(weight), 0), coalesce(array_agg(lexeme ORDER BY df, lexeme), '{}'),
           coalesce(array_agg(df ORDER BY df, lexeme), '{}'), (SELECT chunks FROM counted), (SELECT rows FROM counted)
        INTO v_weights, v_mass, v_lexemes, v_frequencies, v_chunks, v_rows FROM weighed;
    -- BM25 of the whole question times that of one word seen nowhere else. Never zero, since it divides.
    v_unit := greatest(v_mass * ln(1 + (v_chunks + 0.5) / 0.5), 1e-6);

    -- The vector index looks at chunks from the nearest on until enough of them may be seen: the fewer may, the longer.
    -- Comparing with all of few is exact and quicker. Where both cost the same, v_few_chunks says, from measured times.
    SELECT reltuples INTO v_all_chunks FROM pg_class WHERE oid = format('retrieval.chunk_%s', v_version.number)::regclass;
    -- A scan reads all the tenant's rows, dead ones too; the index, for each chunk to be seen, the more the fewer can be. So
    -- it is the mean of both, the geometric one, that is to be compared.
    v_few_chunks := least(greatest(sqrt(200 * greatest(v_all_chunks, v_rows)), 2000), 12000);
    v_few := v_from;
    v_is_few := p_exact OR sqrt(v_rows::double precision * v_chunks) <= v_few_chunks;
    IF p_filter IS NOT NULL AND NOT v_is_few THEN
        -- Documents have several chunks. The first part of the filter that leaves few is enough.
        FOR v_part IN SELECT part FROM jsonb_array_elements(coalesce(p_filter -> 'and', jsonb_build_array(p_filter))) AS part LOOP
            v_documents := retrieval.filter_documents(v_part, v_kinds, p_tenant);
            CONTINUE WHEN v_documents IS NULL;
            EXECUTE format('SELECT array_agg(document_id) FROM (SELECT document_id FROM (%s) AS d LIMIT $1) AS found', v_documents)
                INTO v_ids USING (v_few_chunks / 4)::int;
            v_is_few := coalesce(cardinality(v_ids), 0) < (v_few_chunks / 4)::int;
            IF v_is_few THEN
                v_from := v_from || format(' AND c.tenant = %L AND c.document_id = ANY (%L)', p_tenant, coalesce(v_ids, '{}'));
                v_few := v_from;
                EXIT;
            END IF;
        END LOOP;
        IF NOT v_is_few THEN
            v_documents := retrieval.filter_documents(p_filter, v_kinds, p_tenant);
            IF v_documents IS NOT NULL THEN
                v_few := v_few || format(' AND c.tenant = %L AND c.document_id IN (%s)', p_tenant, v_documents);
            END IF;
        END IF;
    END IF;

    IF p_legs <> 'lexical' AND NOT v_is_few THEN
        v_dense_plan := 'index';
        -- The larger the graph, the wider the search must be for the same recall: 335 for 50,000 chunks, where it costs
        -- a millisecond more than 100 does, and from 450,000 on the 1000 that pgvector takes at most.
        PERFORM set_config('enable_sort', 'off', true), set_config('hnsw.ef_search', least(greatest(
            100, 2 * p_candidates, 1.5 * sqrt(greatest(v_all_chunks, v_rows))), 1000)::int::text, true);
        EXECUTE format('SELECT coalesce(array_agg(id), ''{}'') FROM (SELECT c.id FROM %s ORDER BY %s LIMIT $2) AS leg',
                       v_from, v_distance) INTO v_dense USING v_query, p_candidates;
        PERFORM set_config('enable_sort', 'on', true);
    END IF;
    IF p_legs <> 'lexical' AND (v_is_few OR cardinality(v_dense) < p_k) THEN
        -- `+ 0` cannot be read from the index.
        v_dense_plan := CASE v_dense_plan WHEN 'index' THEN 'index-then-exact' ELSE 'exact' END;
        IF p_legs = 'both' AND v_chunks <= both_exact_chunks THEN
            -- Of so few, reading the words' weights on the way costs less than looking the words up.
            v_lexical_plan := 'words';
            EXECUTE format($q$
                WITH seen AS MATERIALIZED (SELECT c.id, %2$s AS distance, c.bm <#> $2 AS unlikeness FROM %1$s)
                SELECT coalesce((SELECT array_agg(id) FROM (SELECT id FROM seen ORDER BY distance, id LIMIT $3) AS leg), '{}'),
                       coalesce((SELECT array_agg(id) FROM (SELECT id FROM seen WHERE unlikeness < 0
                                                            ORDER BY unlikeness, id LIMIT $3) AS leg), '{}')
                $q$, v_few, v_distance) INTO v_dense, v_lexical USING v_query, v_weights, p_candidates;
        ELSE
            EXECUTE format('SELECT coalesce(array_agg(id), ''{}'') FROM (SELECT c.id FROM %s ORDER BY %s + 0, c.id LIMIT $2) AS leg',
                           v_few, v_distance) INTO v_dense USING v_query, p_candidates;
        END IF;
    END IF;
    IF p_legs <> 'dense' AND v_lexical_plan = 'none' THEN
        SELECT match, is_whole INTO v_match, v_is_whole
            FROM retrieval.words_to_match(retrieval.marked_words(p_tenant, v_lexemes), v_frequencies, v_chunks, word_rows);
        IF v_match IS NOT NULL THEN
            v_lexical_plan := CASE WHEN v_is_whole THEN 'words' ELSE 'rare-words' END;
            -- Asked twice, and in a way that the planner cannot look into: so it expects next to no rows. Of what it
            -- would guess for many words it makes a scan of the whole tenant, or of its permissions besides.
            EXECUTE format('SELECT coalesce(array_agg(id), ''{}'') FROM (SELECT c.id FROM %s AND c.tsv @@ (SELECT $1)'
                           ' AND c.tsv @@ (SELECT $1) ORDER BY c.bm <#> $2, c.id LIMIT $3) AS leg', v_from)
                INTO v_lexical USING v_match, v_weights, p_candidates;
        END IF;
    END IF;

    v_weight := CASE p_legs WHEN 'dense' THEN 1 WHEN 'lexical' THEN 0 ELSE v_version.dense_weight END;
    EXECUTE format($q$
        WITH candidate AS (
            SELECT c.*, -%1$s AS dense, greatest(-(c.bm <#> $2), 0) AS lexical
            FROM retrieval.chunk c WHERE c.index_number = %2$s AND c.id = ANY ($3)
        ), bounds AS (
            SELECT count(*) AS candidates, max(dense) AS dense_max,
                   nullif(greatest(max(dense) - min(dense), 1 - max(dense)), 0) AS dense_scale FROM candidate
        ), ranked AS (
            SELECT candidate.*,
                   -- Cosines of embedders differ in scale, so they count by how far they are below this search's best: in
                   -- parts of the way to the worst, or of the best's own way to 1 if that is longer. The latter keeps noise
                   -- apart from meaning: where nothing is near, no cosine says much.
                   $4 * coalesce(1 - (dense_max - dense) / dense_scale, 1)
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
    RETURN (v_result || jsonb_build_object(
        'snapshot', v_snapshot, 'mode', v_dense_plan || '+' || v_lexical_plan,
        -- The tenant's own fit of confidence, if it has one.
        'calibration', (SELECT jsonb_build_object('definition', definition, 'abstain_below', abstain_below)
                        FROM retrieval.calibration WHERE index_number = v_version.number AND tenant = p_tenant)))::text;
END $$;

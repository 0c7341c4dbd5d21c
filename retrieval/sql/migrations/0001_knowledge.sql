-- The knowledge rail. Tables with a tenant are under forced row-level security: without
-- `retrieval.tenant` and, where there is an acl, `retrieval.principals` set for the transaction they are empty.
-- The settings are read plainly, not through (SELECT ...): the wrapper makes the planner leave the vector index.

CREATE SCHEMA retrieval;

-- One sequence orders every move of either kind (publish, pointer), so that "undo the last one" is well defined.
CREATE SEQUENCE retrieval.move_seq;

CREATE TABLE retrieval.principal (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL CHECK (tenant <> ''),
    name text NOT NULL CHECK (name <> ''),
    CONSTRAINT principal_name_v1 UNIQUE (tenant, name)
);

-- Everybody who ever published, by name and nothing else. The one list across tenants: an index version serves all
-- of them, so whether it is filled is a question about all of them.
CREATE TABLE retrieval.tenant (name text PRIMARY KEY CHECK (name <> ''));

CREATE TABLE retrieval.document (
    tenant text NOT NULL CHECK (tenant <> ''),
    id text NOT NULL CHECK (id <> ''),
    -- The ingest that owns the document; only that one may change or remove it.
    source text NOT NULL,
    -- The file within the source: while that cannot be read, the document stays.
    file text NOT NULL,
    -- Permissions are those of now, at whatever snapshot one reads: they live here and are copied, never versioned.
    acl int[] NOT NULL CHECK (cardinality(acl) > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT document_v1 PRIMARY KEY (tenant, id)
);
CREATE INDEX document_source ON retrieval.document (tenant, source);

CREATE TABLE retrieval.document_version (
    tenant text NOT NULL,
    document_id text NOT NULL,
    number int NOT NULL,
    content_hash text NOT NULL,
    title text NOT NULL,
    -- Canonical text, kept for ever: every citation is an offset into it.
    body text NOT NULL,
    -- Structure of the text as [kind, level, start, end] rows, so that a new chunker needs no source file.
    blocks jsonb NOT NULL,
    url text NOT NULL,
    language text NOT NULL,
    effective_from date,
    effective_to date,
    metadata jsonb NOT NULL,
    acl int[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT document_version_v1 PRIMARY KEY (tenant, document_id, number),
    CONSTRAINT document_version_content_v1 UNIQUE (tenant, document_id, content_hash)
);

-- Which version of a document is live from snapshot `born` until before snapshot `died`.
CREATE TABLE retrieval.document_release (
    tenant text NOT NULL,
    document_id text NOT NULL,
    document_version int NOT NULL,
    born int NOT NULL,
    died int,
    CONSTRAINT document_release_v1 PRIMARY KEY (tenant, document_id, born),
    CONSTRAINT document_release_order_v1 CHECK (died > born)
);

CREATE TABLE retrieval.snapshot (
    tenant text NOT NULL,
    number int NOT NULL CHECK (number > 0),
    parent int NOT NULL,
    source text NOT NULL,
    added int NOT NULL,
    changed int NOT NULL,
    removed int NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT snapshot_v1 PRIMARY KEY (tenant, number)
);

CREATE TABLE retrieval.snapshot_head (
    tenant text PRIMARY KEY,
    snapshot int NOT NULL,
    -- Where undo goes; undoing twice is redoing.
    previous int,
    moved_seq bigint NOT NULL
);

-- Every place where the head has been, so that `as_of` a moment finds what was live then.
CREATE TABLE retrieval.head_move (
    tenant text NOT NULL,
    moved_seq bigint NOT NULL,
    snapshot int NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT head_move_v1 PRIMARY KEY (tenant, moved_seq)
);
CREATE FUNCTION retrieval.head_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO retrieval.head_move (tenant, moved_seq, snapshot) VALUES (NEW.tenant, NEW.moved_seq, NEW.snapshot);
    RETURN NULL;
END $$;
CREATE TRIGGER head_moved AFTER INSERT OR UPDATE ON retrieval.snapshot_head
    FOR EACH ROW EXECUTE FUNCTION retrieval.head_moved();

CREATE TABLE retrieval.index_version (
    id text PRIMARY KEY,
    -- Names the partition: short, and safe as part of an identifier.
    number int GENERATED ALWAYS AS IDENTITY UNIQUE,
    name text NOT NULL,
    embedder text NOT NULL,
    dims int NOT NULL CHECK (dims BETWEEN 1 AND 4000),
    chunker text NOT NULL,
    lexer text NOT NULL,
    -- How the scores of both legs become one order; a version never changes how it ranks.
    fusion text NOT NULL CONSTRAINT index_version_fusion_v1 CHECK (fusion = 'coverage-1'),
    dense_weight double precision NOT NULL CHECK (dense_weight BETWEEN 0 AND 1),
    avgdl double precision NOT NULL CHECK (avgdl > 0),
    abstain_below double precision NOT NULL CHECK (abstain_below BETWEEN 0 AND 1),
    -- {"intercept": number, "weights": {feature: number}}: the default of all tenants.
    calibration jsonb NOT NULL,
    reranker text NOT NULL,
    rerank_weight double precision NOT NULL CHECK (rerank_weight BETWEEN 0 AND 1),
    rewriter text NOT NULL,
    state text NOT NULL CHECK (state IN ('building', 'ready', 'retired')),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- One row says what is live. Every promote, canary and undo is one statement on it.
CREATE TABLE retrieval.pointer (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    stable text REFERENCES retrieval.index_version (id),
    canary text REFERENCES retrieval.index_version (id),
    canary_weight_bp int NOT NULL DEFAULT 0,
    previous text REFERENCES retrieval.index_version (id),
    shadow text REFERENCES retrieval.index_version (id),
    salt text NOT NULL,
    revision bigint NOT NULL DEFAULT 0,
    moved_seq bigint NOT NULL DEFAULT 0,
    CONSTRAINT pointer_weight_v1 CHECK (canary_weight_bp BETWEEN 0 AND 10000),
    CONSTRAINT pointer_canary_v1 CHECK (canary IS NOT NULL OR canary_weight_bp = 0),
    CONSTRAINT pointer_arms_differ_v1 CHECK (canary IS DISTINCT FROM stable OR canary IS NULL)
);
INSERT INTO retrieval.pointer (salt) VALUES (md5(random()::text || clock_timestamp()::text));

CREATE TABLE retrieval.pointer_history (
    revision bigint PRIMARY KEY,
    operation text NOT NULL,
    stable text,
    canary text,
    canary_weight_bp int NOT NULL,
    previous text,
    shadow text,
    moved_seq bigint NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT now()
);

-- Where an undo leads: the last row in which another version or share took traffic.
CREATE VIEW retrieval.before_last_move AS
SELECT h.stable, h.canary, h.canary_weight_bp
FROM retrieval.pointer_history h, retrieval.pointer p
WHERE h.revision < p.revision AND h.stable IS NOT NULL
  AND (h.stable, h.canary, h.canary_weight_bp) IS DISTINCT FROM (p.stable, p.canary, p.canary_weight_bp)
ORDER BY h.revision DESC LIMIT 1;

-- Versions that traffic can reach, now or by an undo, with what each of them is. They are never retired.
CREATE VIEW retrieval.version_role AS
SELECT arm.version, arm.role
FROM retrieval.pointer p LEFT JOIN retrieval.before_last_move AS undo ON true,
     LATERAL (VALUES (p.stable, 'stable'), (p.canary, 'canary'), (p.shadow, 'shadow'), (p.previous, 'previous'),
                     (undo.stable, 'undo'), (undo.canary, 'undo')) AS arm (version, role)
WHERE arm.version IS NOT NULL;

CREATE FUNCTION retrieval.pointer_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO retrieval.pointer_history
        (revision, operation, stable, canary, canary_weight_bp, previous, shadow, moved_seq)
    VALUES (NEW.revision, coalesce(nullif(current_setting('retrieval.operation', true), ''), 'manual'), NEW.stable,
            NEW.canary, NEW.canary_weight_bp, NEW.previous, NEW.shadow, NEW.moved_seq);
    RETURN NULL;
END $$;
CREATE TRIGGER pointer_moved AFTER UPDATE ON retrieval.pointer
    FOR EACH ROW EXECUTE FUNCTION retrieval.pointer_moved();

CREATE FUNCTION retrieval.history_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'retrieval.pointer_history only grows';
END $$;
CREATE TRIGGER history_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON retrieval.pointer_history
    FOR EACH STATEMENT EXECUTE FUNCTION retrieval.history_is_append_only();

CREATE TABLE retrieval.chunk (
    id bigint GENERATED BY DEFAULT AS IDENTITY,
    index_number int NOT NULL,
    tenant text NOT NULL,
    document_id text NOT NULL,
    document_version int NOT NULL,
    ordinal int NOT NULL,
    -- body = substr(document_version.body, char_start + 1, char_end - char_start)
    char_start int NOT NULL,
    char_end int NOT NULL,
    heading_path text[] NOT NULL,
    body text NOT NULL,
    chunk_hash text NOT NULL,
    acl int[] NOT NULL,
    born int NOT NULL,
    died int,
    effective_from date,
    effective_to date,
    -- Unit length, so that the inner product is the cosine. The dimensions are the partition's.
    embedding halfvec NOT NULL,
    tsv tsvector NOT NULL,
    -- Term frequency part of BM25; the inverse document frequency comes with the query, so rows are never rewritten.
    bm sparsevec NOT NULL,
    metadata jsonb NOT NULL,
    CONSTRAINT chunk_v1 PRIMARY KEY (index_number, id),
    CONSTRAINT chunk_offsets_v1 CHECK (char_start >= 0 AND char_end > char_start),
    CONSTRAINT chunk_order_v1 CHECK (died > born)
) PARTITION BY LIST (index_number);
ALTER TABLE retrieval.chunk ALTER COLUMN bm SET STORAGE MAIN;
-- What searches need stands in `partition_indexes`: those are made once a partition is filled, which is far faster.
CREATE INDEX chunk_document ON retrieval.chunk (tenant, document_id);

-- Words as `tsv` has them: each with a mark of its tenant, so that the text index has a list for each tenant's word and
-- none grows with what others publish. Tenants that share a mark by chance only read a little more.
CREATE FUNCTION retrieval.marked_words(p_tenant text, p_words text[]) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT ARRAY(SELECT left(md5(p_tenant), 5) || word FROM unnest(p_words) WITH ORDINALITY AS w (word, place) ORDER BY place)
$$;
CREATE FUNCTION retrieval.unmarked_word(p_word text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT substr(p_word, 6) $$;

-- Counts over the chunks alive at the newest snapshot, and apart over those that are not: another snapshot may show them.
-- They weigh words and say what a search will cost, and never decide what is visible.
CREATE TABLE retrieval.term_stats (
    index_number int NOT NULL,
    tenant text NOT NULL,
    lexeme text NOT NULL,
    df int NOT NULL,
    dead int NOT NULL DEFAULT 0,
    PRIMARY KEY (index_number, tenant, lexeme)
);

CREATE TABLE retrieval.chunk_stats (
    index_number int NOT NULL,
    tenant text NOT NULL,
    chunks int NOT NULL,
    dead int NOT NULL DEFAULT 0,
    PRIMARY KEY (index_number, tenant)
);

-- The first snapshot that an index version holds whole for a tenant. No row: all of them.
CREATE TABLE retrieval.index_coverage (
    index_number int NOT NULL,
    tenant text NOT NULL,
    earliest int NOT NULL,
    PRIMARY KEY (index_number, tenant)
);

-- A tenant's own fit of confidence for an index version; goes before the version's default.
CREATE TABLE retrieval.calibration (
    index_number int NOT NULL,
    tenant text NOT NULL,
    definition jsonb NOT NULL,
    abstain_below double precision NOT NULL CHECK (abstain_below BETWEEN 0 AND 1),
    -- How it was fitted: pairs, risk, AUROC, calibration error.
    evidence jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (index_number, tenant)
);

-- Names a search may filter on, and what their values are.
CREATE TABLE retrieval.filter_field (
    tenant text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL CONSTRAINT filter_field_kind_v1 CHECK (kind IN ('text', 'number', 'boolean', 'date', 'list')),
    PRIMARY KEY (tenant, name)
);

-- Metadata of all document versions by value: tells a search cheaply whether a filter leaves few documents, and which.
-- Plain columns on purpose. Row-level security keeps the planner from every index over jsonb, whose operators are not
-- LEAKPROOF; text and float8 are. It is never the last word: texts are cut here, snapshots and permissions unknown.
CREATE TABLE retrieval.filter_value (
    tenant text NOT NULL,
    document_id text NOT NULL,
    document_version int NOT NULL,
    field text NOT NULL,
    text_value text COLLATE "C",
    number_value double precision
);
CREATE INDEX filter_value_text ON retrieval.filter_value (tenant, field, text_value, document_id)
    WHERE text_value IS NOT NULL;
CREATE INDEX filter_value_number ON retrieval.filter_value (tenant, field, number_value, document_id)
    WHERE number_value IS NOT NULL;
CREATE INDEX filter_value_document ON retrieval.filter_value (tenant, document_id, document_version);

CREATE FUNCTION retrieval.filter_values_of(p_metadata jsonb)
    RETURNS TABLE (field text, text_value text, number_value double precision) LANGUAGE sql IMMUTABLE AS $$
    SELECT key,
           -- Numbers also as texts: a field of texts may hold some (`release: 2` beside `2.1.3`).
           left(item #>> '{}', 200),
           CASE WHEN jsonb_typeof(item) = 'number'
                THEN greatest(least((item #>> '{}')::numeric, 1e300), -1e300)::double precision END
    FROM jsonb_each(p_metadata),
         jsonb_array_elements(CASE jsonb_typeof(value) WHEN 'array' THEN value ELSE jsonb_build_array(value) END) AS item
    WHERE length(key) <= 200 AND jsonb_typeof(item) IN ('string', 'boolean', 'number')
$$;

-- What a filter on a field takes its values for, going by one of them; NULL for what cannot be filtered on.
CREATE FUNCTION retrieval.filter_kind(p_value jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE jsonb_typeof(p_value)
        WHEN 'string' THEN CASE WHEN p_value #>> '{}' ~ '^\d{4}-\d\d-\d\d($|[T ])' THEN 'date' ELSE 'text' END
        WHEN 'number' THEN 'number' WHEN 'boolean' THEN 'boolean' WHEN 'array' THEN 'list' END
$$;

CREATE FUNCTION retrieval.document_versions_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO retrieval.filter_value (tenant, document_id, document_version, field, text_value, number_value)
    SELECT a.tenant, a.document_id, a.number, v.field, v.text_value, v.number_value
    FROM added a, retrieval.filter_values_of(a.metadata || jsonb_build_object('language', a.language)) AS v;
    RETURN NULL;
END $$;
CREATE TRIGGER filter_values_added AFTER INSERT ON retrieval.document_version REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION retrieval.document_versions_added();

CREATE FUNCTION retrieval.document_version_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM retrieval.filter_value
    WHERE tenant = OLD.tenant AND document_id = OLD.document_id AND document_version = OLD.number;
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO retrieval.filter_value (tenant, document_id, document_version, field, text_value, number_value)
        SELECT NEW.tenant, NEW.document_id, NEW.number, v.field, v.text_value, v.number_value
        FROM retrieval.filter_values_of(NEW.metadata || jsonb_build_object('language', NEW.language)) AS v;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER filter_values_changed AFTER UPDATE OF metadata, language OR DELETE ON retrieval.document_version
    FOR EACH ROW EXECUTE FUNCTION retrieval.document_version_changed();

-- Vectors by what was embedded, committed in batches: a run that was killed embeds nothing twice, nor do two
-- index versions that share an embedder.
CREATE TABLE retrieval.embedding_cache (
    embedder text NOT NULL,
    tenant text NOT NULL,
    chunk_hash text NOT NULL,
    embedding halfvec NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (embedder, tenant, chunk_hash)
);

-- Row-level security ---------------------------------------------------------------------------------------------

DO $$
DECLARE
    name text;
    own constant text := $q$tenant = NULLIF(current_setting('retrieval.tenant', true), '')$q$;
    readable constant text := $q$acl && NULLIF(current_setting('retrieval.principals', true), '')::int[]$q$;
BEGIN
    FOREACH name IN ARRAY ARRAY['principal', 'document_release', 'snapshot', 'snapshot_head', 'head_move', 'term_stats', 'chunk_stats',
                                'index_coverage', 'calibration',
                                'filter_field', 'filter_value', 'embedding_cache'] LOOP
        EXECUTE format('ALTER TABLE retrieval.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY own_tenant ON retrieval.%I USING (%s) WITH CHECK (%s)', name, own, own);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['document', 'document_version', 'chunk'] LOOP
        EXECUTE format('ALTER TABLE retrieval.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY readable ON retrieval.%I FOR SELECT USING (%s AND %s)', name, own, readable);
        EXECUTE format('CREATE POLICY own_insert ON retrieval.%I FOR INSERT WITH CHECK (%s)', name, own);
        EXECUTE format('CREATE POLICY own_update ON retrieval.%I FOR UPDATE USING (%s) WITH CHECK (%s)', name, own, own);
        EXECUTE format('CREATE POLICY own_delete ON retrieval.%I FOR DELETE USING (%s)', name, own);
    END LOOP;
END $$;

-- Functions ------------------------------------------------------------------------------------------------------

-- Give an index version its partition. Read directly, a partition is empty (row-level security without a policy):
-- only the parent table, whose policies hold, leads to its rows. Made apart and then attached, because
-- CREATE TABLE ... PARTITION OF would lock every search out.
CREATE FUNCTION retrieval.create_partition(p_number int, p_dims int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    partition text := format('chunk_%s', p_number);
BEGIN
    EXECUTE format('CREATE TABLE retrieval.%I (LIKE retrieval.chunk INCLUDING CONSTRAINTS INCLUDING STORAGE)', partition);
    EXECUTE format('ALTER TABLE retrieval.%I ADD CONSTRAINT %I CHECK (vector_dims(embedding) = %s)',
                   partition, partition || '_dims_v1', p_dims);
    IF p_dims <= 1536 THEN
        -- In the row itself: exact scores read no TOAST table. Longer ones might not fit a page.
        EXECUTE format('ALTER TABLE retrieval.%I ALTER COLUMN embedding SET STORAGE PLAIN', partition);
    END IF;
    -- A row of 2 kB would have its BM25 weights compressed, and expanding them is most of what reading them costs. A
    -- little more room, and the words and the text move out instead, which only the hits of a search need.
    EXECUTE format('ALTER TABLE retrieval.%I SET (toast_tuple_target = %s)', partition, least(2 * p_dims + 2600, 8160));
    EXECUTE format('ALTER TABLE retrieval.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', partition);
    EXECUTE format('ALTER TABLE retrieval.chunk ATTACH PARTITION retrieval.%I FOR VALUES IN (%s)', partition, p_number);
END $$;

-- The indexes by which searches find the chunks of a version: name, and what follows the name in CREATE INDEX.
-- A denser vector graph, built with more care than pgvector's 16 and 64: with the width of search below it finds .97 of
-- the true ten nearest in 50,000 chunks instead of .94. As many nodes fit on a page as with 16, so it is no larger; a
-- chunk costs half as much again to add (1.6 ms for 1.1), a twentieth of what embedding it does.
CREATE FUNCTION retrieval.partition_indexes(p_number int) RETURNS TABLE (name text, definition text) LANGUAGE sql STABLE AS $$
    SELECT format('chunk_%s_%s', v.number, part.suffix), format('ON retrieval.chunk_%s USING %s', v.number, part.body)
    FROM retrieval.index_version v,
         LATERAL (VALUES ('embedding', format('hnsw ((embedding::halfvec(%s)) halfvec_ip_ops) WITH (m = 20, ef_construction = 128)', v.dims)),
                         ('tsv', 'gin (tsv) WITH (fastupdate = off)'),
                         ('acl', 'gin (acl) WITH (fastupdate = off)')) AS part (suffix, body)
    WHERE v.number = p_number
$$;

-- From which snapshot on a new version must hold a tenant's content: what the head and an undo of it can show. It
-- never falls, since heads only move between these two and new ones.
CREATE FUNCTION retrieval.reachable_from(p_tenant text) RETURNS int LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT least(snapshot, previous) FROM retrieval.snapshot_head WHERE tenant = p_tenant), 0)
$$;

-- Whether a version lacks a release that a snapshot from p_earliest on shows. Once it lacks none, it stays so: every
-- publish writes every version that is not retired. For callers that act as the tenant, with all its principals.
CREATE FUNCTION retrieval.lacks_release(p_number int, p_tenant text, p_earliest int) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM retrieval.document_release r
        WHERE r.tenant = p_tenant AND (r.died IS NULL OR r.died > p_earliest)
          AND NOT EXISTS (SELECT FROM retrieval.chunk c WHERE c.index_number = p_number AND c.tenant = r.tenant
                          AND c.document_id = r.document_id AND c.document_version = r.document_version
                          AND c.born = r.born))
$$;

-- Tenants with content that an index version lacks. Takes each tenant's eyes in turn, since row-level security shows
-- one at a time, and leaves with nobody's.
CREATE FUNCTION retrieval.unfilled_tenants(p_version text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    v_number constant int := (SELECT number FROM retrieval.index_version WHERE id = p_version);
    v_tenant text;
    v_unfilled text[] := '{}';
BEGIN
    FOR v_tenant IN SELECT name FROM retrieval.tenant ORDER BY name LOOP
        PERFORM set_config('retrieval.tenant', v_tenant, true);
        PERFORM set_config('retrieval.principals',
                           (SELECT coalesce(array_agg(id), '{}')::text FROM retrieval.principal), true);
        IF retrieval.lacks_release(v_number, v_tenant, coalesce(
                (SELECT earliest FROM retrieval.index_coverage WHERE index_number = v_number AND tenant = v_tenant), 0)) THEN
            v_unfilled := v_unfilled || v_tenant;
        END IF;
    END LOOP;
    PERFORM set_config('retrieval.tenant', '', true), set_config('retrieval.principals', '', true);
    RETURN v_unfilled;
END $$;

-- What operators want to know of each version, by tenant: chunks, earliest snapshot, and of one that is being built
-- how many of the releases that it must hold it has.
CREATE FUNCTION retrieval.version_facts() RETURNS TABLE (
    version text, tenant text, chunks int, earliest int, filled bigint, wanted bigint
) LANGUAGE plpgsql AS $$
DECLARE
    v_tenant text;
BEGIN
    FOR v_tenant IN SELECT t.name FROM retrieval.tenant t ORDER BY t.name LOOP
        PERFORM set_config('retrieval.tenant', v_tenant, true);
        PERFORM set_config('retrieval.principals',
                           (SELECT coalesce(array_agg(p.id), '{}')::text FROM retrieval.principal p), true);
        RETURN QUERY
            SELECT v.id, v_tenant, coalesce(s.chunks, 0), coverage.earliest, progress.filled, progress.wanted
            FROM retrieval.index_version v
            LEFT JOIN retrieval.chunk_stats s ON s.index_number = v.number AND s.tenant = v_tenant
            LEFT JOIN retrieval.index_coverage coverage ON coverage.index_number = v.number AND coverage.tenant = v_tenant
            LEFT JOIN LATERAL (
                SELECT count(*) AS wanted, count(*) FILTER (WHERE EXISTS (
                           SELECT FROM retrieval.chunk c WHERE c.index_number = v.number AND c.tenant = r.tenant
                           AND c.document_id = r.document_id AND c.document_version = r.document_version
                           AND c.born = r.born)) AS filled
                FROM retrieval.document_release r
                WHERE r.tenant = v_tenant
                  AND (r.died IS NULL OR r.died > coalesce(coverage.earliest, retrieval.reachable_from(v_tenant)))
            ) AS progress ON v.state = 'building'
            WHERE v.state <> 'retired';
    END LOOP;
    PERFORM set_config('retrieval.tenant', '', true), set_config('retrieval.principals', '', true);
END $$;

-- The ids of those of the named principals that the tenant knows, as an array literal for `retrieval.principals`.
CREATE FUNCTION retrieval.principal_ids(p_tenant text, p_names text[]) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce(array_agg(id), '{}')::text FROM retrieval.principal WHERE tenant = p_tenant AND name = ANY (p_names)
$$;

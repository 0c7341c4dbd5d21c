-- Erasure: a document that is purged from the knowledge rail goes from the turns too. They hold quotes of it, the
-- passages and the prompt that it was in, and what was written from those; the question stays, and how it went.

CREATE TABLE gateway.erasure (
    tenant    text NOT NULL,
    -- With a salt of its own: nobody can try out which document it was.
    salt      uuid NOT NULL DEFAULT gen_random_uuid(),
    -- Digest of salt and id.
    document  bytea NOT NULL,
    erased_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, salt)
);
CREATE INDEX erasure_latest_v1 ON gateway.erasure (tenant, erased_at);
ALTER TABLE gateway.erasure ENABLE ROW LEVEL SECURITY;
ALTER TABLE gateway.erasure FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_only ON gateway.erasure
    USING (tenant = NULLIF(current_setting('gateway.tenant', true), ''));

CREATE FUNCTION gateway.digest(p_salt uuid, p_document text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(uuid_send(p_salt) || convert_to(p_document, 'UTF8'))
$$;

-- Whether a list of hits, passages or citations names the document.
CREATE FUNCTION gateway.names_document(p_items jsonb, p_document text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(p_items @> jsonb_build_array(jsonb_build_object('document_id', p_document)), false)
$$;

-- The same list; what it says of the document is written over.
CREATE FUNCTION gateway.overwritten(p_items jsonb, p_document text, p_instead jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(jsonb_agg(CASE WHEN item ->> 'document_id' = p_document THEN item || p_instead ELSE item END
                              ORDER BY place), '[]')
    FROM jsonb_array_elements(p_items) WITH ORDINALITY AS listed (item, place)
$$;

-- `{answer, used}` of a turn without the document. Where a prompt showed it, everything that was written from that
-- prompt goes: it may say in other words what the document said.
CREATE FUNCTION gateway.without_document(p_turn jsonb, p_document text, p_erased_at timestamptz)
    RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_mark constant text := 'erased on ' || to_char(p_erased_at AT TIME ZONE 'UTC', 'YYYY-MM-DD');
    v_name constant jsonb := jsonb_build_object('document_id', 'erased', 'title', v_mark);
    v_answer jsonb := nullif(p_turn -> 'answer', 'null');
    v_used jsonb := p_turn -> 'used';
    v_shown constant boolean := gateway.names_document(v_used -> 'passages', p_document)
        OR gateway.names_document(v_answer -> 'citations', p_document)
        OR EXISTS (SELECT FROM jsonb_array_elements(v_used -> 'drafts') AS draft
                   WHERE gateway.names_document(nullif(draft -> 'passages', 'null'), p_document));
BEGIN
    v_used := v_used || jsonb_build_object('hits', gateway.overwritten(v_used -> 'hits', p_document, v_name));
    IF v_shown THEN
        v_used := v_used || jsonb_build_object(
            'prompt', '[]'::jsonb, 'passages', '[]'::jsonb, 'checks', '[]'::jsonb, 'flags', '[]'::jsonb,
            'drafts', (SELECT coalesce(jsonb_agg(draft || jsonb_build_object(
                                  'text', v_mark, 'detail', '', 'prompt', NULL, 'passages', NULL) ORDER BY place), '[]')
                       FROM jsonb_array_elements(v_used -> 'drafts') WITH ORDINALITY AS listed (draft, place)));
        v_answer := v_answer || jsonb_build_object(
            'answer', v_mark, 'fields', '{}'::jsonb,
            'citations', gateway.overwritten(v_answer -> 'citations', p_document,
                v_name || jsonb_build_object('url', '', 'quote', v_mark, 'erased_at', p_erased_at)));
    END IF;
    RETURN jsonb_build_object('answer', v_answer, 'used', v_used);
END $$;

-- Turns that began before the erasure and are written after it: answers that were under way, and the spool's. A clock
-- of a gateway that is up to a minute fast makes no difference.
CREATE FUNCTION gateway.turn_is_written() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_erasure gateway.erasure;
    v_document text;
    v_left jsonb;
BEGIN
    FOR v_erasure IN SELECT * FROM gateway.erasure e
                     WHERE e.tenant = NEW.tenant AND e.erased_at > NEW.created_at - interval '1 minute' LOOP
        FOR v_document IN SELECT DISTINCT hit ->> 'document_id' FROM jsonb_array_elements(NEW.used -> 'hits') AS hit LOOP
            IF gateway.digest(v_erasure.salt, v_document) = v_erasure.document THEN
                v_left := gateway.without_document(jsonb_build_object('answer', NEW.answer, 'used', NEW.used),
                                                   v_document, v_erasure.erased_at);
                NEW.answer := nullif(v_left -> 'answer', 'null');
                NEW.used := v_left -> 'used';
            END IF;
        END LOOP;
    END LOOP;
    RETURN NEW;
END $$;
CREATE TRIGGER turn_is_written BEFORE INSERT ON gateway.turn
    FOR EACH ROW EXECUTE FUNCTION gateway.turn_is_written();

-- How many turns hold the document; unless it is only asked for, they hold it no longer afterwards.
CREATE FUNCTION gateway.erase_document(p_tenant text, p_document text, p_dry_run boolean) RETURNS bigint
    LANGUAGE plpgsql AS $$
DECLARE
    v_erased_at timestamptz;
    v_salt constant uuid := gen_random_uuid();
    v_turns bigint;
BEGIN
    PERFORM set_config('gateway.tenant', p_tenant, true);
    IF p_dry_run THEN
        RETURN (SELECT count(*) FROM gateway.turn WHERE gateway.names_document(used -> 'hits', p_document));
    END IF;
    -- Nothing is written meanwhile, so that each turn meets either this statement or the trigger.
    LOCK TABLE gateway.turn IN SHARE ROW EXCLUSIVE MODE;
    INSERT INTO gateway.erasure (tenant, salt, document) VALUES (p_tenant, v_salt, gateway.digest(v_salt, p_document))
        RETURNING erased_at INTO v_erased_at;
    WITH held AS (
        SELECT id, gateway.without_document(jsonb_build_object('answer', answer, 'used', used), p_document, v_erased_at) AS rest
        FROM gateway.turn
        WHERE gateway.names_document(used -> 'hits', p_document)
    )
    UPDATE gateway.turn t SET answer = nullif(held.rest -> 'answer', 'null'), used = held.rest -> 'used'
    FROM held WHERE t.id = held.id;
    GET DIAGNOSTICS v_turns = ROW_COUNT;
    RETURN v_turns;
END $$;
